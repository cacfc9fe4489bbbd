"""Constants and shapes as data: constant, dims, iota."""

import numpy as np

from ...expr import expr as s
from ...ir.op import Attr, NotDifferentiable, Pull, Sample, register
from ...ir.types import I64, normalize_axis, tensor_type_of
from ..common import array, floats, to_int64

NO_INPUTS = NotDifferentiable("it has no operands", zero=True)


def _constant(out, *, value):
    """Large constants have a buffer and are read from there; this is for a single element."""
    assert value.size == 1, "constants of more than one element are weights"
    number = value.reshape(())[()]
    return lambda *i: s.const(number.item() if hasattr(number, "item") else number, out.dtype)


register(
    "constant",
    "-> *",
    "An array known at compile time.",
    attrs={"value": Attr("array")},
    infer=lambda *, value: tensor_type_of(value),
    ref=lambda *, value: value,
    grad=NO_INPUTS,
    loops=Pull(_constant),
    samples=lambda: [Sample((), {"value": floats((2, 3))}), Sample((), {"value": array(3, "i64")})],
    group="control",
)


def _dims(out, *, values):
    """A tree of selects, whose leaves are runs of equal values: as deep as there are bits."""
    runs = [(n, v) for n, v in enumerate(values) if n == 0 or v != values[n - 1]]

    def tree(i, runs):
        if len(runs) == 1:
            return s.const(runs[0][1])
        half = len(runs) // 2
        return s.select(i < runs[half][0], tree(i, runs[:half]), tree(i, runs[half:]))

    return lambda i: tree(i, runs or [(0, 0)])


register(
    "dims",
    "-> i64",
    "Dims, which may be symbolic, as an i64 vector.",
    attrs={"values": Attr("dims")},
    shape=lambda *, values: (len(values),),
    ref=lambda *, values: to_int64(values) if len(values) else np.zeros(0, np.int64),
    grad=NO_INPUTS,
    loops=Pull(_dims),
    samples=lambda: [
        Sample((), {"values": (3, 1, 4)}),
        Sample((), {"values": (7,)}),
        Sample((), {"values": (2, 2, 5, 5, 5, 2)}),
        Sample((), {"values": ()}),
    ],
    group="control",
)


def iota_ref(*, shape, axis, dtype):
    axis = axis % len(shape)
    ramp = np.arange(shape[axis]).reshape(-1, *[1] * (len(shape) - 1 - axis))
    return np.broadcast_to(ramp, shape).astype(dtype.numpy)


def iota_shape(*, shape, axis, dtype):
    normalize_axis(axis, len(shape))
    return shape


register(
    "iota",
    "-> @dtype",
    "0, 1, 2, … along `axis`, repeated on the others.",
    attrs={"shape": Attr("dims"), "axis": Attr("int", 0), "dtype": Attr("dtype", I64)},
    shape=iota_shape,
    ref=iota_ref,
    grad=NO_INPUTS,
    loops=Pull(
        lambda out, *, shape, axis, dtype: (
            lambda *i: s.cast(i[normalize_axis(axis, len(shape))], dtype)
        )
    ),
    samples=lambda: [
        Sample((), {"shape": (5,)}),
        Sample((), {"shape": (2, 3), "axis": 1, "dtype": "f32"}),
        Sample((), {"shape": (2, 3), "axis": -2, "dtype": "i32"}),
    ],
    group="control",
)
