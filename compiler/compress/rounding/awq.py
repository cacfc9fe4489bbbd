"""AWQ (Lin et al. 2023, arXiv:2306.00978): weights that meet large activations are scaled up before
they are rounded, and the activations down by as much.

    x · w  =  (x / s) · (s * w)          s[k] = mean|x[k]|^alpha, normalised

A few channels carry most of the signal; a larger s makes the steps on them finer. alpha is the one
of 0, 1/20 … 1 with the least error of results.
"""

from collections.abc import Callable

import numpy as np

from .grid import Grid, Rounded, output_error
from .nearest import nearest

ALPHAS = tuple(i / 20 for i in range(20))


def awq_scales(
    ws: list[np.ndarray],
    magnitudes: np.ndarray,
    hessian: np.ndarray,
    grid: Grid,
    *,
    rounding: Callable[[np.ndarray, Grid], Rounded] = nearest,
) -> tuple[np.ndarray, float]:
    """(s f32[k], alpha) for all weights `ws` f[rows, k] that read the same data.

    magnitudes    mean |x| of each k
    hessian       XᵀX f[k, k], which errors are measured by, or its diagonal f[k]
    alpha = 0 (s all 1) where nothing is better: then there is nothing to scale.
    """
    least, found = np.inf, (np.ones(len(magnitudes), np.float32), 0.0)
    size = np.maximum(np.asarray(magnitudes, np.float64), 1e-8)
    for alpha in ALPHAS:
        s = size**alpha
        s = (s / np.sqrt(s.max() * s.min())).astype(np.float32)
        error = sum(output_error(w, rounding(w * s, grid).values / s, hessian) for w in ws)
        if error < least:
            least, found = error, (s, alpha)
    return found
