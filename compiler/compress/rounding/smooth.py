"""SmoothQuant (Xiao et al. 2022, arXiv:2211.10438): what is hard to round moves from data to
weights.

    x · w  =  (x / s) · (s · w)          s[k] = max|x[k]|^alpha / max|w[k]|^(1 - alpha)

A few channels of x may be a hundred times larger than the others, whose steps they set. The paper
has one alpha for a model; here each value has that with the least error to be expected,

    sum over rows w of  |s·w|² · step² / 12  +  sum_k (w[k] - w'[k])² · mean(x[k]²)

with the step of x / s that its range has, and w' what rounding makes of s · w, divided by s.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .grid import Grid, Rounded
from .nearest import nearest

ALPHAS = tuple(i / 10 for i in range(1, 10))
WORTH = 0.9  # of the error that there is without: no more may be left


def smooth_scales(
    ws: Sequence[np.ndarray],
    least: np.ndarray,
    most: np.ndarray,
    squares: np.ndarray,
    grid: Grid,
    *,
    levels: int = 255,
    rounding: Callable[[np.ndarray, Grid], Rounded] = nearest,
) -> tuple[np.ndarray, float] | None:
    """(s f32[k], alpha) for all weights `ws` f[rows, k] that read the same data; None where no
    alpha is worth it.

    least, most     of each x[k]            squares     mean of x[k]²
    levels          how many steps the range of x / s has
    """
    least, most = (np.asarray(t, np.float64) for t in (np.minimum(least, 0), np.maximum(most, 0)))
    reach = np.maximum(np.maximum(most, -least), 1e-8)
    weights = np.maximum(np.max([np.abs(w).max(axis=0) for w in ws], axis=0), 1e-8)

    def error(s: np.ndarray) -> float:
        step = ((most / s).max() - (least / s).min()) / levels
        total = 0.0
        for w in ws:
            scaled = (w * s).astype(np.float32)
            off = w - rounding(scaled, grid).values / s
            total += float((np.square(scaled, dtype=np.float64)).sum()) * step**2 / 12
            total += float((np.square(off, dtype=np.float64) * squares).sum())
        return total

    found, limit = None, WORTH * error(np.ones(len(reach)))
    for alpha in ALPHAS:
        s = reach**alpha / weights ** (1 - alpha)
        s = s / np.exp(np.log(s).mean())
        if (e := error(s)) < limit:
            limit, found = e, (s.astype(np.float32), alpha)
    return found
