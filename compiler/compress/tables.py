"""Weights as entries of a table times a scale: floats of 8 and 4 bits, NF4.

    w' = table[code] · scale

The scale of a block, or of a row, takes its largest weight to the largest entry. That of the
microscaling formats (OCP MX, 2023) is a power of two, 2^(⌊log2 of the largest weight⌋ - e), with
e the exponent of the largest entry: what is then above that entry becomes it. NF4 (Dettmers et al.,
QLoRA, 2023) has the quantiles of a normal distribution.
"""

from typing import Self

import numpy as np

from ..classes import dataclass
from ..ir.types import DTYPES, DType
from .rounding.grid import LEAST_SCALE, short_scales

NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)


@dataclass(frozen=True, eq=False)
class Table:
    """`values` f32[2^bits] of all codes; those that are not finite stand for no weight. With
    `powers`, scales are powers of two."""

    bits: int
    values: np.ndarray
    powers: bool = False

    @classmethod
    def of(cls, dtype: DType, powers: bool = False) -> Self:
        """All numbers of a float type of at most 8 bits."""
        every = np.arange(1 << dtype.bits, dtype=np.uint8).view(dtype.numpy)
        return cls(dtype.bits, every.astype(np.float32), powers)

    def scales(self, largest: np.ndarray) -> np.ndarray:
        """For the largest sizes of weights, f32."""
        top = np.abs(self.values[np.isfinite(self.values)]).max()
        if not self.powers:
            scale = np.maximum(largest / top, LEAST_SCALE).astype(np.float32)
            return short_scales(scale)
        exponent = np.frexp(np.maximum(largest, LEAST_SCALE))[1] - np.frexp(top)[1]
        return np.ldexp(np.float32(1), exponent).astype(DTYPES["bf16"].numpy)  # exact

    def nearest(self, w: np.ndarray) -> np.ndarray:
        """The codes of the entries nearest to w, of the larger one in the middle between two."""
        finite = np.flatnonzero(np.isfinite(self.values))
        order = finite[np.argsort(self.values[finite], kind="stable")]
        known = self.values[order]
        middles = (known[1:].astype(np.float64) + known[:-1]) / 2
        return order[np.searchsorted(middles, w, side="right")].astype(np.uint8)


TABLES: dict[str, Table] = {
    "fp8": Table.of(DTYPES["f8e4m3fn"]),
    "fp8-e5m2": Table.of(DTYPES["f8e5m2"]),
    "mxfp8": Table.of(DTYPES["f8e4m3fn"], powers=True),
    "mxfp4": Table.of(DTYPES["f4e2m1"], powers=True),
    "nf4": Table(4, np.array(NF4, np.float32)),
}


def entries(w: np.ndarray, table: Table, block: int) -> tuple[np.ndarray, np.ndarray]:
    """(codes u8[rows, blocks, block], scales [rows, blocks]) of weights f32[rows, k]; block 0 is a
    whole row. What is missing in the last block is 0."""
    rows, k = w.shape
    block = block or k
    blocks = -(-k // block)
    w = np.pad(w, ((0, 0), (0, blocks * block - k))).reshape(rows, blocks, block)
    scale = table.scales(np.abs(w).max(-1, initial=0))
    factor = scale.astype(np.float32)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        w = np.where(factor > 0, w / factor, 0)
    return table.nearest(w), scale
