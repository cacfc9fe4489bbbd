"""grid_sample: an image read at the places that a grid holds.

Source: Jaderberg et al., Spatial Transformer Networks (2015); coordinates and padding as ONNX's
GridSample states them.

    place of g in [-1, 1]    ((g + 1) size - 1) / 2, or (g + 1) (size - 1) / 2 with align_corners
    zeros                    a tap outside of the image is 0
    border                   the place is limited to the image
    reflection               the place is mirrored at the image's border until it is inside

For cubic interpolation that is done with each tap, not with the place, as PyTorch and ONNX Runtime
do; onnx's reference does both.
"""

import itertools
import math

import numpy as np

from ...errors import TypeMismatch
from ...ir.bounds import assume_equal, larger
from ...ir.dims import Sym, prod
from ...ir.op import Attr, Expand, register
from ...ir.types import BOOL, FLOATS, I32, NUMERIC
from ..common import (
    case,
    floats,
    ints,
    reference,
    require_elements,
    scalar_of_dim,
    through_expansion,
)
from .points import beside, cubic_taps, index, inside, interpolate, linear_taps
from .resize_taps import cubic_weights

MODES = ("nearest", "linear", "cubic")
PADDING = ("zeros", "border", "reflection")


def grid_sample_shape(x, grid, *, mode, padding, align_corners):
    if mode not in MODES or padding not in PADDING:
        raise TypeMismatch(
            "unknown mode of grid_sample",
            expected=f"{'|'.join(MODES)}, {'|'.join(PADDING)}",
            received=f"{mode}, {padding}",
        )
    if x.rank < 3 or grid.rank != x.rank or not assume_equal(grid.shape[-1], x.rank - 2):
        raise TypeMismatch(
            "grid_sample takes x [N,C,*S] and a grid [N,*P,r] of as many axes P as S, r of them",
            received=f"{x}, {grid}",
        )
    if not assume_equal(x.shape[0], grid.shape[0]):
        raise TypeMismatch(
            "grid_sample needs a grid for each image", expected=x.shape[0], received=grid
        )
    require_elements("grid_sample", x, range(2, x.rank), prod(grid.shape))
    return (*x.shape[:2], *grid.shape[1:-1])


def border(size, align_corners: bool) -> tuple[float, float]:
    """Where reflection mirrors: the corner pixels' centres, or their outer edges."""
    return (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)


# -- numpy ---------------------------------------------------------------------------------


def _reflected(x, low, high):
    if high <= low:
        return np.zeros_like(x)
    m = np.mod(x - low, 2 * (high - low))
    return low + np.minimum(m, 2 * (high - low) - m)


def _fold(place, size, padding, align_corners):
    if padding == "border":
        return np.clip(place, 0, size - 1)
    if padding == "reflection":
        return _reflected(place, *border(size, align_corners))
    return place


def grid_sample_ref(x, grid, *, mode, padding, align_corners):
    sizes, result = x.shape[2:], 0
    places = []
    for size, g in zip(sizes, np.moveaxis(grid, -1, 0)[::-1]):
        place = (g + 1) / 2 * (size - 1) if align_corners else ((g + 1) * size - 1) / 2
        place = np.round(place) if mode == "nearest" else place
        places.append(place if mode == "cubic" else _fold(place, size, padding, align_corners))
    taps = []
    for place in places:
        low = np.floor(place)
        t = place - low
        taps.append(
            {
                "nearest": [(place, None)],
                "linear": [(low, 1 - t), (low + 1, t)],
                "cubic": list(zip((low - 1, low, low + 1, low + 2), cubic_weights(t, -0.75))),
            }[mode]
        )
    batch = np.arange(x.shape[0]).reshape(-1, *[1] * (grid.ndim - 2))
    front = np.moveaxis(x, 1, -1)
    for combination in itertools.product(*taps):
        at = [_fold(p, d, padding, align_corners) for (p, _), d in zip(combination, sizes)]
        seen = np.logical_and.reduce(
            [(p >= 0) & (p <= d - 1) | (padding != "zeros") for p, d in zip(at, sizes)]
        )
        near = [np.clip(np.nan_to_num(p), 0, d - 1).astype(np.int64) for p, d in zip(at, sizes)]
        value = np.where(seen[..., None], front[(batch, *near)], x.dtype.type(0))
        weights = [w for _, w in combination if w is not None]
        result = result + (value * np.prod(weights, axis=0)[..., None] if weights else value)
    return np.moveaxis(result, -1, 1).astype(x.dtype)


# -- other ops -----------------------------------------------------------------------------


def _grid_sample(b, x, grid, *, mode, padding, align_corners):
    r, grid = x.rank - 2, grid.cast(grid.dtype.compute)

    def number(v):
        return scalar_of_dim(b, v, grid.dtype)

    def half(v):
        return number(v) * 0.5 if isinstance(v, Sym) else v / 2

    def reflected(place, size):
        """Mirrored at the corners, from which a size of 1 is no way to go."""
        low = 0.0 if align_corners else -0.5
        period = number(2 * (larger(size - 1, 1) if align_corners else size))
        m = place - low
        m = m - b.floor(m / period) * period
        return b.minimum(m, period - m) + low

    def fold(place, axis):
        size = x.shape[axis]
        if padding == "border":
            return b.clip(place, number(0), number(size - 1))
        if isinstance(size, Sym):
            return reflected(place, size)
        low, high = border(size, align_corners)
        if high <= low:
            return place * 0.0
        period = 2 * (high - low)
        m = place - low
        m = m - b.floor(m * (1 / period)) * period
        return b.minimum(m, period - m) + low

    places = []
    for axis in range(2, r + 2):
        g, size = grid[..., r + 1 - axis], x.shape[axis]
        count = number(size) if isinstance(size, Sym) else size
        place = (g + 1) * half(size - 1) if align_corners else ((g + 1) * count - 1) * 0.5
        place = b.round(place) if mode == "nearest" else place
        places.append(place if padding == "zeros" or mode == "cubic" else fold(place, axis))
    batch = b.iota(shape=(x.shape[0], *[1] * r), axis=0, dtype=I32)
    axes = (0, *range(2, r + 2))
    if mode != "nearest":
        taps = linear_taps if mode == "linear" else cubic_taps
        wide = x if x.dtype.is_float else x.cast(grid.dtype)
        y = interpolate(
            b,
            wide,
            [batch],
            places,
            axes=axes,
            lead=1,
            taps=taps,
            fold=None if padding == "zeros" else fold,
        )
        return y.cast(x.dtype)
    at = places if padding == "zeros" else [fold(p, a) for p, a in zip(places, axes[1:])]
    y = b.gather_points(x, batch, *map(index, at), axes=axes, lead=1)
    if padding != "zeros":
        return y
    here = inside(b, at[0], x.shape[2])
    for p, a in zip(at[1:], axes[2:]):
        here = b.emit("and", here, inside(b, p, x.shape[a]))
    return b.where(beside(here, 1, 1), y, b.scalar(0, y.dtype))


def _samples():
    x, grid = floats((2, 3, 4, 5)), floats((2, 3, 2, 2), 1, -1.6, 1.6)
    for mode, padding in itertools.product(MODES, PADDING):
        for align_corners in (False, True):
            yield case(x, grid, mode=mode, padding=padding, align_corners=align_corners, rtol=1e-4)
    volume, places = floats((1, 2, 3, 2, 4)), floats((1, 2, 3, 2, 3), 2, -1.4, 1.4)
    yield case(volume, places, mode="linear")
    yield case(volume, places, mode="nearest", padding="border", align_corners=True)
    yield case(floats((1, 2, 6)), floats((1, 5, 1), 3, -1.3, 1.3), mode="cubic", rtol=1e-4)
    yield case(
        floats((1, 1, 3, 1)),
        floats((1, 2, 2, 2), 4, -3, 3),
        padding="reflection",
        align_corners=True,
        grad=False,
    )
    yield case(ints((1, 1, 4, 4), dtype="u8"), grid[:1], mode="nearest")
    yield case(floats((1, 1, 4, 4), dtype="f64"), floats((1, 3, 2, 2), 5, -1, 1, "f64"))
    yield case(floats((1, 1, 4, 4), dtype="f16"), grid[:1], rtol=4e-3)
    yield case(floats((1, 0, 4, 4)), grid[:1])
    yield case(
        x[:1],
        np.array([[[[math.nan, 0.0], [1e30, -1e30]]]], np.float32),
        grad=False,
        padding="border",
        mode="nearest",
    )


register(
    "grid_sample",
    "x: T, grid: G -> T",
    """x [N,C,*S] read at the places of grid [N,*P,r]; the result is [N,C,*P].

    A place is r numbers, -1 to 1 over the image, the last axis of S first. `nearest` rounds
    halves to the even pixel. Numbers that are no floats are interpolated in the grid's type and
    truncated.
    """,
    attrs={
        "mode": Attr("str", "linear", "|".join(MODES)),
        "padding": Attr("str", "zeros", "|".join(PADDING)),
        "align_corners": Attr("bool", False, "-1 and 1 are the centres of the corner pixels"),
    },
    shape=grid_sample_shape,
    ref=reference(grid_sample_ref),
    grad=through_expansion,
    loops=Expand(_grid_sample),
    samples=_samples,
    group="sample",
    T=NUMERIC | {BOOL},
    G=FLOATS,
)
