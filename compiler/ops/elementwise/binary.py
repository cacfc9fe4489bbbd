"""Ops of several operands, element by element, with numpy broadcasting: `z[i] = f(x[i], y[i])`.

In gradient rules `g` is the gradient of the output `z`; a rule gives one gradient per operand.
Where `maximum` and `minimum` tie, each operand gets half.
"""

import math

import numpy as np

from ...ir.op import Attr, Elementwise, NotDifferentiable, register
from ...ir.types import BOOL
from ..common import (
    FLOAT_SAMPLES,
    STEP,
    array,
    bools,
    broadcast_shape,
    case,
    floats,
    ints,
    mask,
    reference,
    same_shape,
)

INT_SAMPLES = ("i64", "i32", "i8", "u8", "u64")
INTEGRAL = NotDifferentiable("its operands are integers or booleans", zero=True)


def truncated_quotient(x, y):
    """The quotient of ints rounded towards zero; 0 where the divisor is 0."""
    q = np.floor_divide(x, y)
    return q + ((q * y != x) & ((x < 0) != (y < 0)) & (y != 0)).astype(q.dtype)


def _div(x, y):
    return x / y if x.dtype.kind not in "iu" else truncated_quotient(x, y)


def _div_body(s, x, y):
    if x.dtype.is_float:
        return s.apply("div", x, y)
    return s.select(s.ne(y, 0), s.apply("truncdiv", x, y), s.const(0, x.dtype))


def _pow(x, y):
    if x.dtype.kind not in "iu":
        return np.power(x, y)
    whole = np.power(x, np.where(y < 0, np.zeros_like(y), y))
    odd = np.where(y % 2 == 0, 1, -1)
    reciprocal = np.where(x == 1, 1, np.where(x == -1, odd, 0)) if x.dtype.kind == "i" else x
    return np.where(y < 0, reciprocal, whole).astype(x.dtype)


def _pow_body(s, x, y):
    if x.dtype.kind != "i":
        return s.power(x, y)
    # A negative exponent asks for 1 / x^|y|, which is whole only for x = 1 and x = -1.
    odd = s.ne(s.apply("bitand", y, 1), 0)
    sign = s.select(s.eq(x, -1) & odd, s.lift(-1, x), 1)
    reciprocal = s.select(s.eq(s.abs(x), 1), sign, 0)
    return s.select(y < 0, reciprocal, s.power(x, s.maximum(y, 0)))


def _mod(x, y, fmod):
    return np.fmod(x, y) if fmod else np.mod(x, y)


def _pow_gradient(g, x, y, z):
    b = g.b
    dx = g * y * b.pow(x, b.where(b.equal(y, b.scalar(0, y.dtype)), b.scalar(0, y.dtype), y - 1))
    positive = x > 0
    dy = mask(positive, g * z * b.log(b.where(positive, x, b.scalar(1, x.dtype))))
    return dx, dy


def _share(g, better, x, y):
    """The gradient of the operand that won; half of it in a tie."""
    return g.b.where(better, g, mask(g.b.equal(x, y), g * 0.5))


# fmt: off
ARITHMETIC = [
    # name, doc, reference, body, gradient
    ("add", "x + y", np.add, lambda s, x, y: x + y,
     lambda g, x, y, z: (g, g)),
    ("sub", "x - y", np.subtract, lambda s, x, y: x - y,
     lambda g, x, y, z: (g, -g)),
    ("mul", "x * y", np.multiply, lambda s, x, y: x * y,
     lambda g, x, y, z: (g * y, g * x)),
    ("div", "x / y; of ints, rounded towards zero, and 0 where y is 0", _div, _div_body,
     lambda g, x, y, z: (g / y, -(g * z / y))),
    ("pow", "x to the power y; of ints, the real power rounded towards zero", _pow,
     _pow_body, _pow_gradient),
    ("mod", "the rest of x / y with the sign of y, or of x if fmod is set", _mod,
     lambda s, x, y, fmod: s.apply("rem", x, y) if fmod else s.mod(x, y),
     # z = x - y * n with n = floor(x/y) or trunc(x/y), piecewise constant
     lambda g, x, y, z, fmod: (g, -(g * (x - z) / y))),
    ("maximum", "the larger one; NaN if either is", np.maximum,
     lambda s, x, y: s.maximum(x, y),
     lambda g, x, y, z: (_share(g, x > y, x, y), _share(g, x < y, x, y))),
    ("minimum", "the smaller one; NaN if either is", np.minimum,
     lambda s, x, y: s.minimum(x, y),
     lambda g, x, y, z: (_share(g, x < y, x, y), _share(g, x > y, x, y))),
    ("prelu", "x where x >= 0, else slope * x", lambda x, slope: np.where(x < 0, x * slope, x),
     lambda s, x, slope: s.select(x < 0, x * slope, x),
     lambda g, x, slope, z: (g.b.where(x < 0, g * slope, g), mask(x < 0, g * x))),
]
COMPARE = [
    ("equal", "x == y", np.equal, lambda s, x, y: s.eq(x, y)),
    ("not_equal", "x != y", np.not_equal, lambda s, x, y: s.ne(x, y)),
    ("less", "x < y", np.less, lambda s, x, y: x < y),
    ("less_equal", "x <= y", np.less_equal, lambda s, x, y: x <= y),
    ("greater", "x > y", np.greater, lambda s, x, y: x > y),
    ("greater_equal", "x >= y", np.greater_equal, lambda s, x, y: x >= y),
]
LOGIC = [
    ("and", "x and y", np.logical_and, lambda s, x, y: x & y),
    ("or", "x or y", np.logical_or, lambda s, x, y: x | y),
    ("xor", "either x or y", np.logical_xor, lambda s, x, y: s.apply("xor", x, y)),
]
BITS = [
    ("bitwise_and", "x & y, bit by bit", np.bitwise_and, "bitand"),
    ("bitwise_or", "x | y, bit by bit", np.bitwise_or, "bitor"),
    ("bitwise_xor", "x ^ y, bit by bit", np.bitwise_xor, "bitxor"),
    ("shift_left", "x * 2^y without what leaves the type; y below its width", np.left_shift, "shl"),
    ("shift_right", "floor(x / 2^y); y below the type's width", np.right_shift, "shr"),
]
COMMUTATIVE = {"add", "mul", "maximum", "minimum", "equal", "not_equal", "and", "or", "xor",
               "bitwise_and", "bitwise_or", "bitwise_xor"}
# fmt: on


def _pairs(make):
    """Equal shapes, broadcasting both ways, a scalar, nothing at all."""
    for i, (a, b) in enumerate(
        [((2, 3), (2, 3)), ((2, 1, 3), (4, 1)), ((), (3,)), ((5, 2), ()), ((0, 3), (3,))]
    ):
        yield make(a, 2 * i), make(b, 2 * i + 1)


def _arithmetic_samples(name):
    low = 0.3 if name in ("pow", "div", "mod") else -2.0
    if name == "prelu":
        yield case(floats((2, 3, 4), 1, -2, 2), floats((3, 1), 2, 0, 1))
        yield case(floats((2, 3), 1, -2, 2, "f16"), floats((1,), 2, 0, 1, "f16"))
        yield case(ints((4,), 1), ints((4,), 2))
        return
    for x, y in _pairs(lambda shape, seed: floats(shape, seed, low, 2.0)):
        yield case(x, y)
    for dtype in FLOAT_SAMPLES[:1] + FLOAT_SAMPLES[2:]:
        yield case(floats((3, 4), 1, low, 2, dtype), floats((4,), 2, low, 2, dtype))
    if name != "mod":  # the sign of a zero rest is left open
        special = array([math.nan, math.inf, -math.inf, 0.0, 1.0, -2.0])
        yield case(special[:, None], special, grad=False)
    for dtype in INT_SAMPLES:
        first = {"div": 1, "mod": 1, "pow": 0}.get(name, -9)
        last = 4 if name == "pow" else 10
        yield case(ints((3, 4), 3, dtype=dtype), ints((4,), 4, first, last, dtype))
    if name in ("div", "mod"):
        x, y = array([7, -7, 7, -7, 0], "i32"), array([2, 2, -2, -2, 3], "i32")
        yield case(x, y)
        yield case(x.astype(np.int64), y.astype(np.int64))
        for dtype in INT_SAMPLES:
            yield case(ints((3, 4), 3, dtype=dtype), array([0, 1, 0, 3], dtype))
    if name == "mod":
        yield case(array([7, -7, 7, -7], "i64"), array([4, 4, -4, -4], "i64"), fmod=True)
        yield case(array([5.3, -5.3, 5.3, -5.3]), array([2.0, 2.0, -2.0, -2.0]))
        yield case(array([5.3, -5.3, 5.3, -5.3]), array([2.0, 2.0, -2.0, -2.0]), fmod=True)
    if name == "pow":
        yield case(array([-2.0, -1.5, 3.0]), array([2.0, 3.0, -2.0]), grad=False)
        yield case(array([0.0, 0.0, 2.0]), array([0.0, 2.0, 0.0]), grad=False)
        yield case(array([2, -1, 1, -1, 0], "i64"), array([-1, -3, -2, -2, -1], "i64"))
        for dtype in INT_SAMPLES:
            yield case(array([0, 1, 1, 1, 0], dtype), array([64, 100, 64, 71, 0], dtype))


for _name, _doc, _ref, _rule, _grad in ARITHMETIC:
    register(
        _name,
        "x: T, slope: T -> T" if _name == "prelu" else "x: T, y: T -> T",
        _doc,
        T="numeric",
        shape=same_shape if _name == "prelu" else broadcast_shape,
        attrs={"fmod": Attr("bool", False)} if _name == "mod" else None,
        ref=reference(_ref),
        grad=lambda c, g, rule=_grad: rule(g, *c.inputs, c.outputs[0], **c.attrs),
        loops=Elementwise(_rule),
        samples=lambda name=_name: _arithmetic_samples(name),
        group="elementwise",
        commutative=_name in COMMUTATIVE,
    )


def _compare_samples(name):
    for x, y in _pairs(lambda shape, seed: ints(shape, seed, 0, 3)):
        yield case(x, y)
    for dtype in (*FLOAT_SAMPLES, *INT_SAMPLES):
        yield case(ints((3, 4), 1, 0, 3, dtype), ints((3, 4), 2, 0, 3, dtype), grad=False)
    special = array([math.nan, math.inf, -math.inf, 0.0, -0.0])
    yield case(special[:, None], special, grad=False)
    yield case(array([200], "u8"), array([100], "u8"))
    if name in ("equal", "not_equal"):
        yield case(bools((8,), 1), bools((8,), 2))


for _name, _doc, _ref, _rule in COMPARE:
    register(
        _name,
        "x: T, y: T -> bool",
        _doc,
        T="any" if _name in ("equal", "not_equal") else "numeric",
        shape=broadcast_shape,
        ref=reference(_ref),
        grad=STEP,
        loops=Elementwise(_rule),
        samples=lambda name=_name: _compare_samples(name),
        group="elementwise",
        commutative=_name in COMMUTATIVE,
    )

for _name, _doc, _ref, _rule in LOGIC:
    register(
        _name,
        "x: bool, y: bool -> bool",
        _doc,
        shape=broadcast_shape,
        ref=reference(_ref),
        grad=INTEGRAL,
        loops=Elementwise(_rule),
        samples=lambda: [case(x, y) for x, y in _pairs(bools)],
        group="elementwise",
        commutative=True,
    )


def _bit_samples(name):
    top = 7 if name.startswith("shift") else 100
    for dtype in INT_SAMPLES:
        yield case(ints((3, 4), 1, -9, 100, dtype), ints((4,), 2, 0, top, dtype))


for _name, _doc, _ref, _primitive in BITS:
    register(
        _name,
        "x: T, y: T -> T",
        _doc,
        T="int",
        shape=broadcast_shape,
        ref=reference(_ref),
        grad=INTEGRAL,
        loops=Elementwise(lambda s, x, y, p=_primitive: s.apply(p, x, y)),
        samples=lambda name=_name: _bit_samples(name),
        group="elementwise",
        commutative=_name in COMMUTATIVE,
    )


def _where_samples():
    for x, y in _pairs(floats):
        yield case(bools(x.shape, 1), x, y)
    yield case(bools((3, 1), 1), floats((3, 4), 1, dtype="bf16"), floats((4,), 2, dtype="bf16"))
    yield case(bools((3, 1), 1), ints((3, 4), 1, dtype="u8"), ints((), 2, dtype="u8"))
    yield case(bools((6,), 1), bools((6,), 2), bools((6,), 3))
    yield case(array([True, False], BOOL), array([1.0, math.nan]), array([math.nan, 2.0]))


register(
    "where",
    "condition: bool, x: T, y: T -> T",
    "x where the condition holds, else y; NaN in what is not chosen does no harm",
    T="any",
    shape=broadcast_shape,
    ref=reference(np.where),
    grad=lambda c, g: (None, mask(c.inputs[0], g), mask(~c.inputs[0], g)),
    loops=Elementwise(lambda s, c, x, y: s.select(c, x, y)),
    samples=_where_samples,
    group="elementwise",
)


def _clip(x, low=None, high=None):
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _clip_ref(x, low=None, high=None):
    if low is None and high is None:
        return np.asarray(x)
    if low is None:
        return reference(np.minimum)(x, high)
    return reference(_clip)(*([x, low] if high is None else [x, low, high]))


def _clip_body(s, x, low=None, high=None):
    x = x if low is None else s.maximum(x, low)
    return x if high is None else s.minimum(x, high)


def _clip_gradient(c, g):
    x, low, high = (*c.inputs, None, None)[:3]
    dx, dlow, dhigh = g, None, None
    if low is not None:
        dx, dlow = mask(x >= low, dx), mask(x < low, g)
    if high is not None:
        dx, dhigh = mask(x <= high, dx), mask(x > high, g)
        dlow = None if dlow is None else mask(low <= high, dlow)
    return dx, dlow, dhigh


def _clip_samples():
    low, high = array(-0.7), array(0.9)
    for bounds in [(low, high), (low,), (None, high), ()]:
        yield case(floats((3, 5)), *bounds)
    yield case(floats((3, 5), dtype="f16"), low.astype(np.float16), high.astype(np.float16))
    yield case(ints((7,), dtype="i8"), array(-3, "i8"), array(4, "i8"))
    yield case(floats((5,)), high, low, grad=False)
    yield case(array([math.nan, math.inf, -math.inf]), low, high, grad=False)


register(
    "clip",
    "x: T, low: T?, high: T? -> T",
    "min(max(x, low), high); keeps NaN. Where low > high the result is high.",
    T="numeric",
    shape=same_shape,
    ref=_clip_ref,
    grad=_clip_gradient,
    loops=Elementwise(_clip_body),
    samples=_clip_samples,
    group="elementwise",
)
