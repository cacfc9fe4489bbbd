"""Ops of one operand, element by element: `y[i] = f(x[i])`.

A row of the table is: name, what it is, numpy reference, body over scalar expressions (None: the
primitive of the same name), gradient rule, domain of its samples. In gradient rules `g` is the
gradient of the output `y`, and `x` the input. At kinks the rules take the derivative of the branch
that the body takes there.
"""

import math

import numpy as np

from ...ir.op import Attr, Elementwise, register
from ..common import (
    FLOAT_SAMPLES,
    STEP,
    array,
    bools,
    case,
    floats,
    ints,
    mask,
    reference,
    same_shape,
)

SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0]
_SQRT2, _SQRT_2_PI = math.sqrt(2), math.sqrt(2 / math.pi)
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def erf(x):
    return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype)


def sigmoid(x):
    # One exponential of a negative number: exact at both ends.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def softplus(x):
    return np.logaddexp(x, x.dtype.type(0))


def _gelu(x, approximate):
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(_SQRT_2_PI * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + erf(x / _SQRT2))


def _gelu_body(s, x, approximate):
    if approximate == "tanh":
        return x * 0.5 * (s.tanh((x + x * x * x * 0.044715) * _SQRT_2_PI) + 1)
    return x * (s.normal_area(x) + 0.5)


def _gelu_gradient(g, x, y, approximate):
    if approximate == "tanh":
        t = x.b.tanh((x + x * x * x * 0.044715) * _SQRT_2_PI)
        inner = (x * x * (3 * 0.044715) + 1) * _SQRT_2_PI
        return g * 0.5 * (t + 1 + x * (1 - t * t) * inner)
    density = x.b.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return g * ((x.b.erf(x * (1 / _SQRT2)) + 1) * 0.5 + x * density)


def _mish_gradient(g, x, y):
    t = x.b.tanh(x.b.softplus(x))
    return g * (t + x * x.b.sigmoid(x) * (1 - t * t))


def _silu_gradient(g, x, y):
    p = x.b.sigmoid(x)
    return g * p * (x * (1 - p) + 1)


def _softplus_body(s, x):
    # log(1 + e^x) without overflow: e^-|x| is at most 1. The maximum keeps NaN.
    return s.maximum(x, 0.0) + s.apply("log1p", s.exp(-s.abs(x)))


# fmt: off
FLOAT = [
    # name, doc, reference, body, gradient, domain
    ("exp", "e to the power x", np.exp, None, lambda g, x, y: g * y, (-2, 2)),
    ("log", "natural logarithm", np.log, None, lambda g, x, y: g / x, (0.1, 4)),
    ("sqrt", "square root", np.sqrt, None, lambda g, x, y: g * 0.5 / y, (0.1, 4)),
    ("rsqrt", "1 / sqrt(x)", lambda x: 1 / np.sqrt(x), None,
     lambda g, x, y: g * -0.5 * y * y * y, (0.1, 4)),
    ("reciprocal", "1 / x", lambda x: 1 / x, lambda s, x: 1.0 / x,
     lambda g, x, y: -(g * y * y), (0.2, 3)),
    ("sin", "sine", np.sin, None, lambda g, x, y: g * x.b.cos(x), (-9, 9)),
    ("cos", "cosine", np.cos, None, lambda g, x, y: -(g * x.b.sin(x)), (-9, 9)),
    ("tan", "tangent", np.tan, None, lambda g, x, y: g * (y * y + 1), (-1.3, 1.3)),
    ("asin", "inverse sine", np.arcsin, None,
     lambda g, x, y: g * x.b.rsqrt(1 - x * x), (-0.9, 0.9)),
    ("acos", "inverse cosine", np.arccos, None,
     lambda g, x, y: -(g * x.b.rsqrt(1 - x * x)), (-0.9, 0.9)),
    ("atan", "inverse tangent", np.arctan, None, lambda g, x, y: g / (x * x + 1), (-3, 3)),
    ("sinh", "hyperbolic sine", np.sinh, None, lambda g, x, y: g * x.b.cosh(x), (-2, 2)),
    ("cosh", "hyperbolic cosine", np.cosh, None, lambda g, x, y: g * x.b.sinh(x), (-2, 2)),
    ("tanh", "hyperbolic tangent", np.tanh, None, lambda g, x, y: g * (1 - y * y), (-3, 3)),
    ("asinh", "inverse hyperbolic sine", np.arcsinh, None,
     lambda g, x, y: g * x.b.rsqrt(x * x + 1), (-3, 3)),
    ("acosh", "inverse hyperbolic cosine", np.arccosh, None,
     lambda g, x, y: g * x.b.rsqrt(x * x - 1), (1.2, 4)),
    ("atanh", "inverse hyperbolic tangent", np.arctanh, None,
     lambda g, x, y: g / (1 - x * x), (-0.9, 0.9)),
    ("erf", "the error function", erf, None,
     lambda g, x, y: g * (2 / math.sqrt(math.pi)) * x.b.exp(-(x * x)), (-3, 3)),
    ("sigmoid", "1 / (1 + e^-x)", sigmoid, None, lambda g, x, y: g * y * (1 - y), (-5, 5)),
    ("softplus", "log(1 + e^x)", softplus, _softplus_body,
     lambda g, x, y: g * x.b.sigmoid(x), (-5, 5)),
    ("softsign", "x / (1 + |x|)", lambda x: x / (1 + np.abs(x)),
     lambda s, x: x / (s.abs(x) + 1.0),
     lambda g, x, y: g * x.b.reciprocal((x.b.abs(x) + 1) * (x.b.abs(x) + 1)), (-3, 3)),
    ("elu", "x where x > 0, else alpha * (e^x - 1)",
     lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)),
     lambda s, x, alpha: s.select(x > 0, x, s.apply("expm1", x) * alpha),
     lambda g, x, y, alpha: x.b.where(x > 0, g, g * (y + alpha)), (-3, 3)),
    ("selu", "gamma * elu(x)",
     lambda x, alpha, gamma: gamma * np.where(x > 0, x, alpha * np.expm1(x)),
     lambda s, x, alpha, gamma: s.select(x > 0, x, s.apply("expm1", x) * alpha) * gamma,
     lambda g, x, y, alpha, gamma: x.b.where(x > 0, g * gamma, g * (y + alpha * gamma)), (-3, 3)),
    ("celu", "x where x > 0, else alpha * (e^(x/alpha) - 1)",
     lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x / alpha)),
     lambda s, x, alpha: s.select(x > 0, x, s.apply("expm1", x * (1 / alpha)) * alpha),
     lambda g, x, y, alpha: x.b.where(x > 0, g, g * x.b.exp(x * (1 / alpha))), (-3, 3)),
    ("leaky_relu", "x where x >= 0, else alpha * x",
     lambda x, alpha: np.where(x < 0, alpha * x, x),
     lambda s, x, alpha: s.select(x < 0, x * alpha, x),
     lambda g, x, y, alpha: x.b.where(x < 0, g * alpha, g), (-3, 3)),
    ("thresholded_relu", "x where x > alpha, else 0",
     lambda x, alpha: np.where(x > alpha, x, x.dtype.type(0)),
     lambda s, x, alpha: s.select(x > alpha, x, 0.0),
     lambda g, x, y, alpha: mask(x > alpha, g), (-3, 3)),
    ("hard_sigmoid", "alpha * x + beta, limited to [0, 1]",
     lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
     lambda s, x, alpha, beta: s.minimum(s.maximum(x * alpha + beta, 0.0), 1.0),
     lambda g, x, y, alpha, beta: mask(x.b.emit("and", y > 0, y < 1), g * alpha), (-4, 4)),
    ("hard_swish", "x * (x / 6 + 1/2 limited to [0, 1])",
     lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
     lambda s, x: x * s.minimum(s.maximum(x * (1 / 6) + 0.5, 0.0), 1.0),
     lambda g, x, y: x.b.where(x > 3, g, mask(x > -3, g * (x * (1 / 3) + 0.5))), (-4, 4)),
    ("gelu", "x * P(normal < x), through erf or the tanh approximation",
     _gelu, _gelu_body, _gelu_gradient, (-3, 3)),
    ("silu", "x * sigmoid(x)", lambda x: x * sigmoid(x), lambda s, x: x * s.sigmoid(x),
     _silu_gradient, (-4, 4)),
    ("mish", "x * tanh(softplus(x))", lambda x: x * np.tanh(softplus(x)),
     lambda s, x: x * s.tanh(_softplus_body(s, x)), _mish_gradient, (-4, 4)),
    ("floor", "the largest integer not above x", np.floor, None, STEP, (-5, 5)),
    ("ceil", "the smallest integer not below x", np.ceil, None, STEP, (-5, 5)),
    ("round", "the nearest integer; halves go to the even one", np.round, None, STEP, (-5, 5)),
]
ATTRS = {
    "elu": {"alpha": Attr("float", 1.0)},
    "selu": {"alpha": Attr("float", SELU_ALPHA), "gamma": Attr("float", SELU_GAMMA)},
    "celu": {"alpha": Attr("float", 1.0, divides=True)},
    "leaky_relu": {"alpha": Attr("float", 0.01)},
    "thresholded_relu": {"alpha": Attr("float", 1.0)},
    "hard_sigmoid": {"alpha": Attr("float", 0.2), "beta": Attr("float", 0.5)},
    "gelu": {"approximate": Attr("str", "none", "none or tanh")},
}
SAMPLE_ATTRS = {
    "elu": {"alpha": 0.7}, "celu": {"alpha": 2.5}, "leaky_relu": {"alpha": 0.3},
    "thresholded_relu": {"alpha": 0.4}, "hard_sigmoid": {"alpha": 1 / 6},
    "gelu": {"approximate": "tanh"},
}
# fmt: on


def _float_samples(low, high, attrs):
    for dtype in FLOAT_SAMPLES:
        yield case(floats((3, 5), 1, low, high, dtype))
    yield case(floats((), 2, low, high))
    yield case(floats((2, 0, 3), 3, low, high))
    yield case(floats((37,), 4, low, high), **attrs)
    yield case(array(SPECIAL), grad=False)
    yield case(array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 8388609.0]), grad=False)


def _body(name, body):
    return body if body is not None else lambda s, x: s.apply(name, x)


def _unary_gradient(rule):
    if not callable(rule):
        return rule
    return lambda c, g: (rule(g, c.inputs[0], c.outputs[0], **c.attrs),)


for _name, _doc, _ref, _rule, _grad, (_low, _high) in FLOAT:
    register(
        _name,
        "x: T -> T",
        _doc,
        T="float",
        shape=same_shape,
        attrs=ATTRS.get(_name),
        ref=reference(_ref),
        grad=_unary_gradient(_grad),
        loops=Elementwise(_body(_name, _rule)),
        samples=lambda n=_name, a=_low, b=_high: _float_samples(a, b, SAMPLE_ATTRS.get(n, {})),
        group="elementwise",
    )


# fmt: off
NUMERIC = [
    # name, doc, dtypes, reference, body, gradient
    ("neg", "-x", "signed", np.negative, lambda s, x: -x, lambda g, x, y: -g),
    ("abs", "|x|", "numeric", np.abs,
     lambda s, x: x if x.dtype.kind == "u" else s.abs(x), lambda g, x, y: g * x.b.sign(x)),
    ("sign", "-1, 0 or 1", "numeric", np.sign,
     lambda s, x: s.cast(x > 0, x.dtype) if x.dtype.kind == "u" else s.sign(x), STEP),
    ("relu", "x where x > 0, else 0; keeps NaN", "numeric",
     lambda x: np.maximum(x, x.dtype.type(0)),
     lambda s, x: s.maximum(x, 0), lambda g, x, y: mask(x > 0, g)),
]
# fmt: on


def _numeric_samples(dtypes):
    yield from _float_samples(0.1, 3, {})
    yield case(floats((4, 3), 5, -3, -0.1))
    for dtype in ("i64", "i32", "i16", "i8"):
        yield case(ints((3, 4), 6, dtype=dtype))
    if dtypes == "numeric":
        yield case(ints((3, 4), 6, dtype="u8"))
        yield case(ints((3, 4), 6, dtype="u64"))


for _name, _doc, _dtypes, _ref, _rule, _grad in NUMERIC:
    register(
        _name,
        "x: T -> T",
        _doc,
        T=_dtypes,
        shape=same_shape,
        ref=reference(_ref),
        grad=_unary_gradient(_grad),
        loops=Elementwise(_rule),
        samples=lambda d=_dtypes: _numeric_samples(d),
        group="elementwise",
    )

for _name, _doc, _ref in [
    ("isnan", "is x not a number?", np.isnan),
    ("isinf", "is x infinite, of either sign?", np.isinf),
]:
    register(
        _name,
        "x: T -> bool",
        _doc,
        T="float",
        shape=same_shape,
        ref=reference(_ref),
        grad=STEP,
        loops=Elementwise(_body(_name, None)),
        samples=lambda: [case(array(SPECIAL, d)) for d in FLOAT_SAMPLES],
        group="elementwise",
    )

register(
    "not",
    "x: bool -> bool",
    "not x",
    shape=same_shape,
    ref=reference(np.logical_not),
    grad=STEP,
    loops=Elementwise(lambda s, x: ~x),
    samples=lambda: [case(bools((3, 4))), case(bools(())), case(bools((0,)))],
    group="elementwise",
)

register(
    "bitwise_not",
    "x: T -> T",
    "every bit flipped",
    T="int",
    shape=same_shape,
    ref=reference(np.invert),
    grad=STEP,
    loops=Elementwise(lambda s, x: s.apply("bitnot", x)),
    samples=lambda: [case(ints((7,), dtype=d)) for d in ("i64", "i32", "i8", "u8", "u64")],
    group="elementwise",
)

register(
    "identity",
    "x: T -> T",
    "x itself",
    T="any",
    shape=same_shape,
    ref=lambda x: np.asarray(x),
    grad=lambda c, g: (g,),
    loops=Elementwise(lambda s, x: x),
    samples=lambda: [case(floats((2, 3))), case(bools(())), case(ints((0, 2), dtype="u8"))],
    group="elementwise",
)
