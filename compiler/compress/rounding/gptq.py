"""GPTQ (Frantar et al. 2022, arXiv:2210.17323): weights are rounded one column after another, and
those still to come make up for the errors of those before.

    H = XᵀX + damping * mean(diag) * I          U = upper Cholesky factor of H⁻¹

    for j in columns:   e = (w[:, j] - round(w[:, j])) / U[j, j];   w[:, j:] -= e · U[j, j:]

A Hessian of few or dependent rows has no Cholesky factor: the damping is raised tenfold until it
has one. Columns with large diagonals go first (`order`), while they can still be made up for.
"""

import numpy as np

from .grid import Grid, Rounded, best
from .nearest import least_squares, nearest

PANEL = 128  # columns whose errors reach the others by one product


def gptq(
    w: np.ndarray,
    hessian: np.ndarray,
    grid: Grid,
    *,
    damping: float = 0.01,
    order: bool = True,
    clip: bool = True,
) -> Rounded:
    """w f[rows, k] rounded for data of H = XᵀX f[k, k].

    `order` rounds columns by falling diagonals; scales are chosen before (with `clip` those of
    least error, else those that reach the largest weights), so that blocks stay neighbours.
    Gives nearest with the reason where no damping helps.
    """
    w = np.asarray(w, np.float64)
    h = np.asarray(hessian, np.float64)
    diagonal = np.diag(h)
    start = least_squares(w.astype(np.float32), grid, diagonal) if clip else nearest(w, grid)
    if not np.isfinite(h).all():
        return start.called(start.method, "the statistics are not finite")
    perm = np.argsort(-diagonal, kind="stable") if order else np.arange(len(h))
    factor = _factor(h[np.ix_(perm, perm)], damping)
    if factor is None:
        return start.called(start.method, "the Hessian has no Cholesky factor at any damping")
    return _rounded_in_order(w, factor, start, perm)


def gptq_if_better(
    w: np.ndarray, hessian: np.ndarray, held_out: np.ndarray, grid: Grid, **options
) -> Rounded:
    """GPTQ's weights, or nearest ones where these err less on other data (H of held-out rows)."""
    w = np.asarray(w, np.float32)
    plain = [nearest(w, grid), least_squares(w, grid, np.diag(hessian))]
    return best(w, [*plain, gptq(w, hessian, grid, **options)], held_out)


def _factor(h: np.ndarray, damping: float) -> np.ndarray | None:
    """The upper Cholesky factor of the inverse of a Hessian, damped as far as is needed."""
    mean = float(np.mean(np.diag(h)))
    if mean <= 0:
        return None
    unit = np.eye(len(h))
    while damping <= 10:
        try:
            lower = np.linalg.cholesky(h + damping * mean * unit)
            inverse = np.linalg.solve(lower, unit)
            factor = np.linalg.cholesky(inverse.T @ inverse).T
        except np.linalg.LinAlgError:
            factor = None
        if factor is not None and np.isfinite(factor).all():
            return factor
        damping *= 10
    return None


def _rounded_in_order(w: np.ndarray, u: np.ndarray, start: Rounded, perm: np.ndarray) -> Rounded:
    grid, k = start.grid, w.shape[1]
    scale = grid.widened(start.scale, k)[:, perm].astype(np.float64)
    zero = grid.widened(start.zero, k)[:, perm]
    left = w[:, perm].copy()
    q = np.empty(w.shape, np.int32)
    for begin in range(0, k, PANEL):
        end = min(begin + PANEL, k)
        errors = np.empty((len(w), end - begin))
        for j in range(begin, end):
            s, z = scale[:, j], zero[:, j]
            q[:, j] = np.clip(np.rint(left[:, j] / s) + z, grid.low, grid.high)
            e = (left[:, j] - (q[:, j] - z) * s) / u[j, j]
            left[:, j:end] -= np.outer(e, u[j, j:end])
            errors[:, j - begin] = e
        left[:, end:] -= errors @ u[begin:end, end:]
    back = np.empty_like(q)
    back[:, perm] = q
    return Rounded(back, start.scale, start.zero, grid, "gptq")
