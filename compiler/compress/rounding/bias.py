"""Bias correction (Nagel et al. 2019, arXiv:1906.04721, section 4.2).

Rounded weights shift the mean of each output by (w' - w) · mean(x), which the bias takes back:

    b' = b + (w - w') · mean(x)
"""

import numpy as np


def bias_correction(w: np.ndarray, values: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """What is added to the bias: f32[rows], of w and w' f[rows, k] and mean f[k] of the data.

    For a convolution k counts channels and taps; a mean per channel is repeated for its taps.
    """
    mean = np.repeat(np.asarray(mean, np.float64), w.shape[1] // len(mean))
    return ((np.asarray(w, np.float64) - values) @ mean).astype(np.float32)
