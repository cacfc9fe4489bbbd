"""Cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721, section 4.1).

Of two products after one another, the first one's outputs are divided by s and the second one's
inputs multiplied, so that each channel has the same range in both:

    r1 / s = r2 · s      s = sqrt(r1 / r2)      r = max |w| of the channel
"""

import numpy as np


def cross_layer(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """s f32[channels] of the ranges of both; 1 where a channel has no weights."""
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.sqrt(np.asarray(first, np.float64) / second)
    return np.where((s > 0) & np.isfinite(s), s, 1).astype(np.float32)
