"""Weights as narrow numbers: scales, and how they are rounded.

    quantize_weights(w, axis, recipe) -> Narrow(q, scale, axis)     w ≈ q · scale

Symmetric: no zero point, so that products have no further term.
"""

import numpy as np

from ..classes import dataclass
from .observers import limits
from .recipe import Recipe


@dataclass(frozen=True, eq=False)
class Narrow:
    """Weights q with a scale per index of `axis`, or one for all (`axis` None)."""

    q: np.ndarray
    scale: np.ndarray
    axis: int | None

    def floats(self) -> np.ndarray:
        """The weights that these stand for."""
        return (self.q.astype(np.float32) * along(self.scale, self.q.ndim, self.axis)).astype(
            np.float32
        )


def along(scale: np.ndarray, rank: int, axis: int | None) -> np.ndarray:
    """A scale per index of `axis` as it broadcasts."""
    return scale if axis is None else scale.reshape(-1, *(1,) * (rank - 1 - axis))


def weight_scale(w: np.ndarray, axis: int | None, dtype: str) -> np.ndarray:
    """f32[channels] or f32[]: the largest weight of each is the type's largest number."""
    others = tuple(a for a in range(w.ndim) if a != axis)
    top = np.abs(w).max(axis=others if axis is not None else None)
    scale = np.asarray(top, np.float32) / np.float32(limits(dtype)[1])
    return np.where(scale > 0, scale, np.float32(1))


def quantize_weights(w: np.ndarray, axis: int | None, recipe: Recipe) -> Narrow:
    """Rounded to the nearest, a half to the even one."""
    if recipe.granularity == "tensor":
        axis = None
    scale = weight_scale(w, axis, recipe.dtype)
    most = limits(recipe.dtype)[1]
    q = np.clip(np.rint(w / along(scale, w.ndim, axis)), -most, most)
    return Narrow(q.astype(np.int8), scale, axis)
