"""Grids: which numbers weights may become, and how far that is from what they were.

Weights are matrices w[rows, k]: a row for each output, k what it sums over. Products of matrices
bring them as their transpose, convolutions as [O, I*kh*kw] (`as_rows`). A scale belongs to a row,
or to `block` neighbours of it:

    q = clip(round_half_even(w / scale) + zero, low, high)         w' = (q - zero) * scale

Errors are those of results: with rows x of data and H = sum x xᵀ (k × k, the same as XᵀX),

    sum over data of |(w - w')·x|² = trace((w - w') H (w - w')ᵀ)
"""

from dataclasses import replace

import numpy as np

from ...classes import dataclass

FloatArray = np.ndarray
LEAST_SCALE = np.float32(1e-30)  # of a block of zeros: any number does


@dataclass(frozen=True)
class Grid:
    """Integers of low … high; `symmetric` ones have no zero point (0 stands for 0).

    block    how many neighbours of a row share a scale; 0: the whole row
    """

    low: int = -127
    high: int = 127
    symmetric: bool = True
    block: int = 0

    @classmethod
    def of(cls, bits: int, *, symmetric: bool = True, block: int = 0) -> "Grid":
        """Signed numbers where symmetric, else unsigned ones. Signed ones of 8 bits leave -128 out,
        as ONNX's quantizers do; narrower types need each of their few numbers."""
        if not symmetric:
            return cls(0, 2**bits - 1, False, block)
        low = -(2 ** (bits - 1))
        return cls(low + (bits == 8), -low - 1, True, block)

    def blocks(self, k: int) -> int:
        """How many scales a row of `k` has."""
        return -(-k // self.block) if self.block else 1

    def widened(self, t: FloatArray, k: int) -> FloatArray:
        """Scales or zero points [rows, blocks], one for each weight: [rows, k]."""
        if not self.block:
            return np.broadcast_to(t, (t.shape[0], k))
        return np.repeat(t, self.block, axis=1)[:, :k]

    def reduced(self, ufunc: np.ufunc, t: FloatArray) -> FloatArray:
        """`ufunc` (add, maximum, …) over the weights of each scale: [rows, blocks]."""
        starts = np.arange(self.blocks(t.shape[1])) * self.block
        return ufunc.reduceat(t, starts, axis=1)


@dataclass(frozen=True)
class Rounded:
    """Quantized weights: q i32[rows, k], scale f32[rows, blocks], zero i32[rows, blocks].

    `method` says how they were rounded, `reason` why not as was asked for.
    """

    q: np.ndarray
    scale: FloatArray
    zero: np.ndarray
    grid: Grid
    method: str = "nearest"
    reason: str | None = None

    @property
    def values(self) -> FloatArray:
        """What q stands for, f32[rows, k], as dequantize_linear computes it."""
        k = self.q.shape[1]
        zero, scale = (self.grid.widened(t, k) for t in (self.zero, self.scale))
        return (self.q - zero).astype(np.float32) * scale

    def called(self, method: str, reason: str | None = None) -> "Rounded":
        return replace(self, method=method, reason=reason)


def as_rows(w: np.ndarray, axis: int = 0) -> np.ndarray:
    """Weights with their outputs on `axis` as [rows, k]."""
    return np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1)


def from_rows(rows: np.ndarray, shape: tuple[int, ...], axis: int = 0) -> np.ndarray:
    """[rows, k] again as weights of `shape`: the inverse of `as_rows`."""
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.moveaxis(rows.reshape(moved), 0, axis)


def short_scales(scale: np.ndarray) -> np.ndarray:
    """Scales of blocks in f16, which costs weights at most 2^-11 of their size; in f32 where some
    are not among f16's normal numbers. Those of blocks of zeros are 0."""
    plain = scale > LEAST_SCALE
    low, high = float(np.finfo(np.float16).tiny), float(np.finfo(np.float16).max)
    fits = ((scale >= low) & (scale <= high)) | ~plain
    return np.where(plain, scale, 0).astype(np.float16) if fits.all() else scale


def from_range(low: FloatArray, high: FloatArray, grid: Grid) -> tuple[FloatArray, np.ndarray]:
    """(scale, zero) with which the grid spans low … high, 0 included.

    The zero point follows from the scale as it is stored (`short_scales`), so that 0 is one of the
    numbers.
    """
    low, high = np.minimum(low, 0).astype(np.float64), np.maximum(high, 0).astype(np.float64)
    if grid.symmetric:
        scale = np.maximum(high / grid.high, low / grid.low if grid.low else 0)
        scale = _as_stored(np.maximum(scale, LEAST_SCALE).astype(np.float32), grid)
        return scale, np.zeros(scale.shape, np.int32)
    scale = np.maximum((high - low) / (grid.high - grid.low), LEAST_SCALE).astype(np.float32)
    scale = _as_stored(scale, grid)
    zero = np.rint(grid.low - low / scale)
    return scale, np.clip(zero, grid.low, grid.high).astype(np.int32)


def _as_stored(scale: FloatArray, grid: Grid) -> FloatArray:
    short = short_scales(scale).astype(np.float32) if grid.block else scale
    return np.where(short > 0, short, scale)


def min_max(w: FloatArray, grid: Grid) -> tuple[FloatArray, np.ndarray]:
    """(scale, zero) that reach the smallest and the largest weight of each block."""
    return from_range(grid.reduced(np.minimum, w), grid.reduced(np.maximum, w), grid)


def rounded(w: FloatArray, scale: FloatArray, zero: np.ndarray, grid: Grid) -> Rounded:
    """Each weight to the nearest number of the grid, ties to even."""
    k = w.shape[1]
    s, z = grid.widened(scale, k), grid.widened(zero, k)
    q = np.rint(w.astype(np.float32) / s) + z
    return Rounded(np.clip(q, grid.low, grid.high).astype(np.int32), scale, zero, grid)


def output_error(w: FloatArray, values: FloatArray, hessian: np.ndarray) -> float:
    """How far results are from those of `w`: trace(d H dᵀ) / trace(w H wᵀ), H f[k, k] or its
    diagonal f[k]."""
    d, w = (np.asarray(t, np.float64) for t in (values - w, w))
    times = (lambda t: t @ hessian) if hessian.ndim == 2 else (lambda t: t * hessian)
    total = float(np.sum(times(w) * w))
    return float(np.sum(times(d) * d)) / max(total, np.finfo(np.float64).tiny)


def best(w: FloatArray, candidates: list[Rounded], held_out: np.ndarray) -> Rounded:
    """The candidate with the least error of results on data that none of them has seen; of equals
    the first, which should be the simplest. What lost is said in `reason`."""
    errors = [output_error(w, c.values, held_out) for c in candidates]
    chosen = int(np.nanargmin(errors)) if not np.all(np.isnan(errors)) else 0
    asked = candidates[-1]
    if chosen == len(candidates) - 1:
        return asked
    found = candidates[chosen]
    if asked.reason is not None and asked.method == found.method:
        return found.called(found.method, asked.reason)
    said = f"{asked.method} is no better on held-out rows: {errors[-1]:.3g}, {errors[chosen]:.3g}"
    return found.called(found.method, said)
