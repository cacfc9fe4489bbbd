"""Reads at many computed places: gather_points, and interpolation between its neighbours.

    gather_points   y[q…, o…, r…] = x[…i(q, r), o, j(q, r)…]    one index array per axis named

What samples an image at places that are data (grid_sample, roi_align, deform_conv) is written with
it: its adjoint is one scatter, so that gradients come free.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.op import Attr, Pull, register
from ...ir.types import I32, I64, broadcast, normalize_axes
from ..common import array, case, floats, ints, scalar_of_dim
from ..movement.gather import INDICES
from .resize_taps import cubic_weights


def _rest(rank: int, axes) -> list[int]:
    return [d for d in range(rank) if d not in axes]


def gather_points_shape(x, *indices, axes, lead):
    axes = normalize_axes(axes, x.rank)
    ranks = {i.rank for i in indices}
    if len(indices) != len(axes) or len(ranks) != 1 or not 0 <= lead <= min(ranks):
        raise TypeMismatch(
            "gather_points needs an index array for each axis, all of one rank",
            expected=f"{len(axes)} arrays of a rank of at least {lead}",
            received=", ".join(map(str, indices)),
        )
    places = broadcast(*[i.shape for i in indices])
    return (*places[:lead], *(x.shape[d] for d in _rest(x.rank, axes)), *places[lead:])


def gather_points_ref(x, *indices, axes, lead):
    axes = [a % x.ndim for a in axes]
    front = x.transpose(*axes, *_rest(x.ndim, axes))
    limited = [np.clip(i, 0, x.shape[a] - 1).astype(np.int64) for i, a in zip(indices, axes)]
    y = front[tuple(np.broadcast_arrays(*limited))]
    rank, others = limited[0].ndim, x.ndim - len(axes)
    return y.transpose(*range(lead), *range(rank, rank + others), *range(lead, rank))


def _gather_points(out, x, *indices, axes, lead):
    axes = normalize_axes(axes, len(x.shape))
    rest = _rest(len(x.shape), axes)

    def at(*i):
        place = (*i[:lead], *i[lead + len(rest) :])
        where = dict(zip(rest, i[lead : lead + len(rest)]))
        for a, index in zip(axes, indices):
            value = s.cast(index[place], I64)
            where[a] = s.minimum(s.maximum(value, 0), x.shape[a] - 1)
        return x[tuple(where[d] for d in range(len(x.shape)))]

    return at


def gather_points_grad(c, dy):
    (x, *indices), b, lead = c.inputs, c.b, c.attrs["lead"]
    axes = normalize_axes(c.attrs["axes"], x.rank)
    rest, rank = _rest(x.rank, axes), indices[0].rank
    places = broadcast(*[i.shape for i in indices])
    limited = [
        b.clip(i, b.scalar(0, i.dtype), b.scalar(x.shape[a] - 1, i.dtype))
        .expand(places)
        .reshape(*places, 1)
        for i, a in zip(indices, axes)
    ]
    at = limited[0] if len(limited) == 1 else b.concat(*limited, axis=-1)
    n = len(rest)
    dy = dy.transpose(*range(lead), *range(lead + n, rank + n), *range(lead, lead + n))
    order = (*axes, *rest)
    zeros = b.scalar(0, dy.dtype).expand(tuple(x.shape[d] for d in order))
    dx = b.scatter_nd(zeros, at, dy, reduction="add")
    return [dx.transpose(*np.argsort(order).tolist()), *[None] * len(indices)]


register(
    "gather_points",
    "x: T, indices: I* -> T",
    """x at the places that one index array per axis of `axes` names.

    The index arrays broadcast to one shape Q; the result is [Q[:lead]…, the other axes of x…,
    Q[lead:]…]. An index outside of its axis is taken to be the nearest one inside.
    """,
    attrs={
        "axes": Attr("ints", doc="the axes of x that are indexed"),
        "lead": Attr("int", 0, "how many axes of the index arrays come before the other axes"),
    },
    shape=gather_points_shape,
    ref=gather_points_ref,
    grad=gather_points_grad,
    loops=Pull(_gather_points),
    samples=lambda: [
        case(
            floats((2, 3, 4, 5)),
            array([[[0]], [[1]]], "i32"),
            ints((2, 3, 2), 1, 0, 4, "i32"),
            ints((2, 3, 2), 2, 0, 5, "i32"),
            axes=(0, 2, 3),
            lead=1,
        ),
        case(floats((4, 3)), array([3, -5, 9, 3], "i64"), axes=(0,)),
        case(floats((4, 3), dtype="f64"), array([[0, 2]], "i64"), axes=(-1,), lead=2),
        case(ints((3, 3)), array([0, 2], "i32"), array([1], "i32"), axes=(1, 0)),
    ],
    group="move",
    T="any",
    I=INDICES,
)


# -- interpolation, for the expansions of other ops ---------------------------------------------


def linear_taps(t) -> list[tuple[int, object]]:
    """(step from the pixel below, weight) of linear interpolation at a fraction t."""
    return [(0, 1 - t), (1, t)]


def cubic_taps(t) -> list[tuple[int, object]]:
    """The same for the cubic of Keys (1981) with a = -3/4."""
    return list(zip(range(-1, 3), cubic_weights(t, -0.75)))


def index(x):
    """A whole number in a float, as an index."""
    return x.cast(I32)


def inside(b, place, size):
    """Is a place (a float tensor) on one of `size` pixels?"""
    return b.emit("and", place >= 0, place <= scalar_of_dim(b, size - 1, place.dtype))


def beside(weight, lead: int, others: int):
    """A weight per place as a factor of gather_points' result: axes of 1 for the other axes."""
    shape = weight.shape
    return weight.reshape(*shape[:lead], *[1] * others, *shape[lead:])


def interpolate(
    b,
    x,
    outer: Sequence,
    places: Sequence,
    *,
    axes,
    lead: int,
    taps: Callable,
    fold: Callable | None = None,
):
    """x interpolated at `places` (float tensors, pixels) along the last of `axes`.

    `outer` are whole indices for the first of `axes`. `taps(t)` gives steps and weights at a
    fraction; `fold(place, axis)` moves a tap to where it is read. Without it, taps outside of x
    count as 0. Differentiable in x and in the places.
    """
    own = axes[len(outer) :]
    others = x.rank - len(axes)
    choices = []
    for place in places:
        low = b.floor(place)
        choices.append([(low + step, weight) for step, weight in taps(place - low)])
    terms = []
    for combination in itertools.product(*choices):
        at = [p for p, _ in combination]
        if fold is not None:
            at = [fold(p, a) for p, a in zip(at, own)]
        value = b.gather_points(x, *outer, *map(index, at), axes=axes, lead=lead)
        weight = combination[0][1]
        for _, more in combination[1:]:
            weight = weight * more
        value = value.cast(weight.dtype)
        if fold is None:
            here = inside(b, at[0], x.shape[own[0]])
            for p, a in zip(at[1:], own[1:]):
                here = b.emit("and", here, inside(b, p, x.shape[a]))
            value = b.where(beside(here, lead, others), value, b.scalar(0, value.dtype))
        terms.append(value * beside(weight, lead, others))
    return total(terms)


def total(terms: Sequence):
    """The sum as a tree, so that expressions stay shallow."""
    terms = list(terms)
    while len(terms) > 1:
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2])]
        terms = pairs + terms[len(pairs) * 2 :]
    return terms[0]
