"""Rounding to nearest, with scales that reach the largest weights or that err least.

Clipping the few largest weights makes the steps for all others smaller. `least_squares` tries
ranges of 1.0 … `shrink` times the largest weight, and takes for each block the one with the least

    sum over its weights of h[k] * |w - w'|^p

with h the mean square of what a weight is multiplied with (the diagonal of XᵀX), where that is
known. p = 2.4 (as llm-compressor and AutoGPTQ's `mse`) minds large errors more than squares do.
"""

import numpy as np

from .grid import Grid, Rounded, from_range, min_max, rounded


def nearest(w: np.ndarray, grid: Grid) -> Rounded:
    """Each weight to the nearest of a grid that reaches the largest: w f32[rows, k]."""
    return rounded(w, *min_max(w, grid), grid)


def least_squares(
    w: np.ndarray,
    grid: Grid,
    importance: np.ndarray | None = None,
    *,
    shrink: float = 0.5,
    steps: int = 40,
    power: float = 2.4,
) -> Rounded:
    """Scales with the least error of weights, each multiplied by `importance` f[k]."""
    low, high = grid.reduced(np.minimum, w), grid.reduced(np.maximum, w)
    found = rounded(w, *from_range(low, high, grid), grid)
    least = _errors(w, found, importance, power)
    scale, zero = found.scale.copy(), found.zero.copy()
    for factor in np.linspace(1, shrink, steps + 1)[1:]:
        tried = rounded(w, *from_range(low * factor, high * factor, grid), grid)
        errors = _errors(w, tried, importance, power)
        better = errors < least
        least = np.where(better, errors, least)
        scale, zero = np.where(better, tried.scale, scale), np.where(better, tried.zero, zero)
    return rounded(w, scale, zero, grid).called("mse")


def _errors(w, found: Rounded, importance, power: float) -> np.ndarray:
    """Of each block."""
    errors = np.abs(found.values - w).astype(np.float64) ** power
    if importance is not None:
        errors = errors * np.asarray(importance, np.float64)
    return found.grid.reduced(np.add, errors)


def half_quadratic(
    w: np.ndarray,
    grid: Grid,
    *,
    norm: float = 0.7,
    beta: float = 10.0,
    growth: float = 1.01,
    steps: int = 20,
) -> Rounded:
    """HQQ (Badri, Shaji 2023): zero points that leave few weights with large errors, without data.

    min |w - s (q - z)|_p with p < 1, by halves: outliers e = shrink(w - s (q - z)), then
    z = mean(q - (w - e) / s). Zero points are integers here, so the one with the least norm on the
    way is kept, and grids without zero points have their scales fitted in the same way.
    """
    k = w.shape[1]
    found = rounded(w, *min_max(w, grid), grid)
    kept, least = found, _norms(w, found, norm)
    for _ in range(steps):
        error = w - found.values
        size = np.abs(error)
        outlier = np.sign(error) * np.maximum(
            size - norm / beta * np.maximum(size, 1e-8) ** (norm - 1), 0
        )
        target, s = w - outlier, grid.widened(found.scale, k)
        if grid.symmetric:
            top = grid.reduced(np.add, target * found.q)
            bottom = grid.reduced(np.add, found.q.astype(np.float32) ** 2)
            scale = np.where(bottom > 0, top / np.maximum(bottom, 1), found.scale)
            scale, zero = np.where(scale > 0, scale, found.scale).astype(np.float32), found.zero
        else:
            count = grid.reduced(np.add, np.ones_like(w))
            zero = np.rint(grid.reduced(np.add, found.q - target / s) / count)
            scale, zero = found.scale, np.clip(zero, grid.low, grid.high).astype(np.int32)
        found = rounded(w, scale, zero, grid)
        norms = _norms(w, found, norm)
        better = norms < least
        least = np.where(better, norms, least)
        kept = rounded(
            w, np.where(better, scale, kept.scale), np.where(better, zero, kept.zero), grid
        )
        beta *= growth
    return kept.called("hqq")


def _norms(w, found: Rounded, norm: float) -> np.ndarray:
    return found.grid.reduced(np.add, np.abs(found.values - w) ** norm)
