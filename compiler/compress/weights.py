"""Weights as narrow numbers: scales, and how they are rounded.

    quantize_weights(w, axis, recipe) -> Narrow(q, scale, axis)     w ≈ q · scale

What rounds is in `rounding/`, and sees weights as rows, one for each output (`grid.as_rows`).
"""

from collections.abc import Callable

import numpy as np

from ..classes import dataclass
from ..errors import UsageError
from .recipe import Recipe
from .rounding.grid import Grid, Rounded, as_rows, from_rows
from .rounding.nearest import half_quadratic, least_squares, nearest
from .tables import TABLES

# By the recipe's name, what rounds rows to a grid where no data is known.
ROUNDINGS: dict[str, Callable[[np.ndarray, Grid], Rounded]] = {
    "nearest": nearest,
    "mse": least_squares,
    "hqq": half_quadratic,
    "gptq": least_squares,  # of products without moments (runtime/compress/moments.py)
    "awq": least_squares,  # of weights that were rescaled (equalize.py)
    "adaround": least_squares,  # where learning begins (runtime/compress/reconstruct.py)
    "autoround": least_squares,
}


@dataclass(frozen=True, eq=False)
class Narrow:
    """Weights q with a scale per index of `axis`, or one for all (`axis` None).

    rounded   the same as rows, with their blocks and zero points
    """

    q: np.ndarray
    scale: np.ndarray
    axis: int | None
    rounded: Rounded

    def floats(self) -> np.ndarray:
        """The weights that these stand for."""
        values = self.rounded.values
        if self.axis is None:
            return values.reshape(self.q.shape)
        return from_rows(values, self.q.shape, self.axis)


def rounding_of(recipe: Recipe) -> Callable[[np.ndarray, Grid], Rounded]:
    """What rounds weights of which no data is known."""
    return ROUNDINGS[recipe.rounding]


def bits_of(recipe: Recipe) -> int:
    """How many a weight has."""
    if recipe.dtype in TABLES:
        raise UsageError(
            "weights that are entries of a table have no grid that is trained or equalized",
            received=f"dtype={recipe.dtype!r}",
            expected="i8, i4, i3 or i2",
        )
    return int(recipe.dtype[1:])


def grid_of(recipe: Recipe, *, blocks: bool = True) -> Grid:
    """The numbers that a recipe's weights may become."""
    block = recipe.block if blocks and recipe.granularity == "block" else 0
    return Grid.of(bits_of(recipe), symmetric=recipe.symmetric, block=block)


def quantize_weights(w: np.ndarray, axis: int | None, recipe: Recipe) -> Narrow:
    """Weights by the recipe's rounding."""
    if recipe.granularity == "tensor":
        axis = None
    rows = w.reshape(1, -1) if axis is None else as_rows(w, axis)
    return narrow(rounding_of(recipe)(rows, grid_of(recipe)), w.shape, axis)


def narrow(rounded: Rounded, shape: tuple[int, ...], axis: int | None) -> Narrow:
    """Rows as weights of a shape again."""
    q = rounded.q.reshape(shape) if axis is None else from_rows(rounded.q, shape, axis)
    scale = rounded.scale[:, 0] if axis is not None else rounded.scale[0, 0]
    dtype = np.int8 if rounded.grid.low < 0 else np.uint8
    return Narrow(np.ascontiguousarray(q.astype(dtype)), scale, axis, rounded)
