"""Pieces of one tensor, each at its place: a concatenation along several axes.

    y[starts_k + i] = x_k[i]

Made by passes whose pieces leave none of y out and overlap nowhere (`passes/cpu/phases.py`):
whatever computes a piece then stores into y's memory.
"""

import numpy as np

from ...errors import TypeMismatch
from ...ir.bounds import assume_at_least, assume_equal
from ...ir.dims import prod
from ...ir.op import Attr, Kernels, register
from ...ir.types import FLOATS
from ..common import case, floats


def _starts(rank: int, starts) -> list[tuple]:
    return [tuple(starts[k : k + rank]) for k in range(0, len(starts), rank)]


def mosaic_shape(*xs, shape, starts):
    rank = len(shape)
    fits = all(x.rank == rank for x in xs) and len(starts) == rank * len(xs)
    if not fits or not all(
        assume_at_least(d, p + e)
        for x, place in zip(xs, _starts(rank, starts))
        for d, p, e in zip(shape, place, x.shape)
    ):
        raise TypeMismatch(
            "mosaic: the pieces do not lie inside",
            expected=f"pieces inside of {list(shape)}, a start per piece and axis",
            received=f"starts={list(starts)} of {', '.join(map(str, xs))}",
        )
    if not assume_equal(sum(prod(x.shape) for x in xs), prod(shape)):
        raise TypeMismatch(
            "mosaic: the pieces leave something out, or overlap",
            expected=f"{prod(shape)} elements, those of {list(shape)}",
            received=", ".join(map(str, xs)),
        )
    return shape


def mosaic_ref(*xs, shape, starts):
    y = np.zeros(shape, xs[0].dtype)
    for x, place in zip(xs, _starts(len(shape), starts)):
        y[tuple(slice(p, p + d) for p, d in zip(place, x.shape))] = x
    return y


def _mosaic(k, out, *xs, shape, starts):
    for x, place in zip(xs, _starts(len(shape), starts)):
        k.store(x.shape, lambda *i, x=x, p=place: ([j + q for j, q in zip(i, p)], x[i]))


def mosaic_grad(c, dy):
    rank = dy.rank
    return [
        c.b.slice(dy, axes=range(rank), starts=place, steps=[1] * rank, sizes=x.shape)
        for x, place in zip(c.inputs, _starts(rank, c.attrs["starts"]))
    ]


register(
    "mosaic",
    "xs: T* -> T",
    "Pieces of one tensor, each at its start; they leave nothing out and overlap nowhere.",
    attrs={"shape": Attr("dims"), "starts": Attr("ints", doc="of each piece, on each axis")},
    shape=mosaic_shape,
    ref=mosaic_ref,
    grad=mosaic_grad,
    loops=Kernels(_mosaic),
    samples=lambda: [
        case(
            floats((2, 1)),
            floats((2, 2), seed=1),
            floats((1, 3), seed=2),
            shape=(3, 3),
            starts=(0, 0, 0, 1, 2, 0),
        ),
        case(floats((4,), dtype="f16"), shape=(4,), starts=(0,)),
    ],
    group="move",
    T=FLOATS,
)
