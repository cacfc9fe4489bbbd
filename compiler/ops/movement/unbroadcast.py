"""sum_to: what undoes a broadcast, where dynamic dims decide which axes were broadcast.

    y = x + b of f32[N,3] + f32[M,3]      db = sum_to(dy: f32[broadcast(M,N),3]) {shape=[M,3]}

With sizes it is a sum over axes, or nothing. Code for all sizes takes N and M to be equal.
"""

from ...errors import TypeMismatch
from ...ir.bounds import DynamicSize, assume_equal_shapes
from ...ir.op import Attr, Expand, register
from ...ir.types import NUMERIC, broadcast
from ..common import FLOAT_SAMPLES, case, floats, ints, reference, summed_axes


def _shape(x, *, shape):
    if len(shape) > x.rank or not assume_equal_shapes(broadcast(x.shape, shape), x.shape):
        raise TypeMismatch(
            "sum_to takes the shape of what was broadcast to x",
            expected=f"a shape that broadcasts to [{','.join(map(str, x.shape))}]",
            received=f"[{','.join(map(str, shape))}]",
        )
    return shape


def _ref(x, *, shape):
    return x.sum(summed_axes(x.shape, shape), keepdims=True).reshape(shape)


def _rule(b, x, *, shape):
    axes = summed_axes(x.shape, shape)
    if axes is None:
        raise DynamicSize(f"which axes of {x.type} are summed to {list(shape)}")
    y = b.reduce_sum(x, axes=axes, keepdims=True) if axes else x
    return y if y.shape == tuple(shape) else y.reshape(tuple(shape))


register(
    "sum_to",
    "x: T -> T",
    "`x` summed along the axes that a broadcast of `shape` to x's shape repeats.",
    attrs={"shape": Attr("dims")},
    shape=_shape,
    ref=reference(_ref),
    grad=lambda c, dy: [dy.expand(c.inputs[0].shape)],
    loops=Expand(_rule),
    samples=lambda: [
        *(case(floats((2, 3, 4), dtype=d), shape=(3, 1)) for d in FLOAT_SAMPLES),
        case(floats((5, 3)), shape=(5, 3)),
        case(floats((0, 3)), shape=(1, 3)),
        case(ints((2, 3)), shape=()),
    ],
    group="reduce",
    T=NUMERIC,
)
