"""Random numbers: functions of a seed and of the element's index, without state.

Element i of a tensor is computed from the words of Philox (`philox.py`) at the counter (i, stream)
under the key `seed`. So the same seed gives the same numbers on every machine, with any number of
threads, in any shape (in row-major order); other seeds and other streams give independent ones.
Who wants other numbers in each run makes the seed an input.

    random_bits      one of the four 32-bit words of each element
    random_uniform   low + (high - low) u,  u a multiple of 2^-24 in [0, 1)  (2^-53 for f64)
    random_normal    mean + scale sqrt(-2 ln u) cos(2 pi v)                  (Box & Muller 1958)
    multinomial      the first class whose running sum of e^x exceeds u times the whole sum
    dropout          x / (1 - ratio) where u >= ratio, else 0
"""

import math

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir import dims
from ...ir.op import Attr, Expand, NotDifferentiable, Pull, register
from ...ir.types import F32, F64, FLOATS, I32, I64, U32
from ..common import array, case, floats, mask, scalar_of_dim, wide
from .philox import MASK, Numpy, Scalar, words

NUMBERS = {
    "shape": Attr("dims"),
    "stream": Attr("int", 0, "numbers of other streams are independent"),
}
STEP = NotDifferentiable("random numbers follow from a seed", zero=True)


def _check_seed(seed):
    if seed.shape != ():
        raise TypeMismatch("a seed is one i64", expected="i64[]", received=seed)


def _bits_shape(seed, *, shape, stream, word):
    _check_seed(seed)
    if not 0 <= word < 4:
        raise TypeMismatch("an element has four words", expected="0 … 3", received=word)
    return shape


def _bits_ref(seed, *, shape, stream, word):
    at = np.arange(math.prod(shape), dtype=np.uint64)
    key, stream = np.uint64(int(seed) % 2**64), np.uint64(stream % 2**64)
    low = np.uint64(MASK)
    counter = [at & low, at >> np.uint64(32), stream & low, stream >> np.uint64(32)]
    block = words(Numpy, counter, (key & low, key >> np.uint64(32)))
    return np.broadcast_to(block[word], at.shape).astype(np.uint32).reshape(shape)


def _bits(out, seed, *, shape, stream, word):
    def at(*i):
        index = s.cast(s.flatten(i, out.shape), "u64")
        key, low = s.cast(seed[()], "u64"), Scalar.number(MASK)
        stream_ = [Scalar.number(stream % 2**64 & MASK), Scalar.number(stream % 2**64 >> 32)]
        counter = [Scalar.both(index, low), Scalar.high(index), *stream_]
        block = words(Scalar, counter, (Scalar.both(key, low), Scalar.high(key)))
        return s.cast(block[word], U32)

    return at


SEEDS = (0, 7, -3, 2**63 - 1)

register(
    "random_bits",
    "seed: i64 -> u32",
    "Word 0 … 3 of four random 32-bit words that each element has.",
    attrs={**NUMBERS, "word": Attr("int", 0)},
    shape=_bits_shape,
    ref=_bits_ref,
    grad=STEP,
    loops=Pull(_bits),
    samples=lambda: [
        *(case(array(v, "i64"), shape=(3, 5), word=w) for w, v in enumerate(SEEDS)),
        case(array(5, "i64"), shape=(2, 0), stream=1),
        case(array(5, "i64"), shape=(), stream=-1),
    ],
    group="random",
)


# -- distributions: fractions as numpy and as ops ------------------------------------------------


def _fraction_ref(seed, shape, stream, dtype, first=0):
    """Numbers of [0, 1) with as many digits as `dtype` holds, at most 53, from one or two words."""
    bits = _bits_ref(seed, shape=shape, stream=stream, word=first)
    if dtype != F64:
        return (bits >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
    more = _bits_ref(seed, shape=shape, stream=stream, word=first + 1)
    return (bits >> np.uint32(5)) * 2.0**-27 + (more >> np.uint32(6)) * 2.0**-53


def _fraction(b, seed, shape, stream, dtype, first=0):
    """As `_fraction_ref`."""

    def top(word, count):
        bits = b.random_bits(seed, shape=shape, stream=stream, word=word)
        return b.shift_right(bits, b.scalar(32 - count, U32)).cast(I32)

    if dtype != F64:
        return top(first, 24).cast(F32) * 2.0**-24
    return top(first, 27).cast(F64) * 2.0**-27 + top(first + 1, 26).cast(F64) * 2.0**-53


def _drawn_shape(seed, *, shape, **_):
    _check_seed(seed)
    return shape


def _uniform_ref(seed, *, shape, stream, dtype, low, high):
    u = _fraction_ref(seed, shape, stream, dtype)
    y = u * u.dtype.type(high - low) + u.dtype.type(low)
    return np.asarray(y).astype(dtype.numpy)


def _uniform(b, seed, *, shape, stream, dtype, low, high):
    return (_fraction(b, seed, shape, stream, dtype) * (high - low) + low).cast(dtype)


def _normal_ref(seed, *, shape, stream, dtype, mean, scale):
    v = _fraction_ref(seed, shape, stream, dtype, 2)
    kind = v.dtype.type
    if dtype == F64:
        u = _fraction_ref(seed, shape, stream, dtype) + kind(2.0**-53)
    else:
        u = (_bits_ref(seed, shape=shape, stream=stream, word=0).astype(kind) + kind(0.5)) * kind(
            2.0**-32
        )
    z = np.sqrt(kind(-2) * np.log(u)) * np.cos(kind(2 * math.pi) * v)
    return np.asarray(z * kind(scale) + kind(mean)).astype(dtype.numpy)


def _normal(b, seed, *, shape, stream, dtype, mean, scale):
    """u is never 0. In f32 it has all 32 bits, for the tails' sake."""
    v = _fraction(b, seed, shape, stream, dtype, 2)
    if dtype == F64:
        u = _fraction(b, seed, shape, stream, dtype) + 2.0**-53
    else:
        bits = b.random_bits(seed, shape=shape, stream=stream, word=0)
        u = (bits.cast(F32) + 0.5) * 2.0**-32
    z = b.sqrt(b.log(u) * -2.0) * b.cos(v * (2 * math.pi))
    return (z * scale + mean).cast(dtype)


def _drawn_samples(**more):
    for dtype in ("f32", "f64", "f16", "bf16"):
        rtol = {"f16": 2e-3, "bf16": 1.6e-2}.get(dtype, 1e-5)
        yield case(array(11, "i64"), shape=(3, 7), dtype=dtype, rtol=rtol, **more)
    yield case(array(-1, "i64"), shape=(40,), stream=3, **more)
    yield case(array(2, "i64"), shape=(), **more)


for _name, _doc, _attrs, _ref, _rule, _sample in [
    (
        "random_uniform",
        "Uniform numbers of [low, high).",
        {"low": Attr("float", 0.0), "high": Attr("float", 1.0)},
        _uniform_ref,
        _uniform,
        {"low": -1.5, "high": 2.0},
    ),
    (
        "random_normal",
        "Normal numbers of the given mean and standard deviation.",
        {"mean": Attr("float", 0.0), "scale": Attr("float", 1.0, "the standard deviation")},
        _normal_ref,
        _normal,
        {"mean": 0.5, "scale": 2.0},
    ),
]:
    register(
        _name,
        "seed: i64 -> @dtype",
        _doc,
        attrs={**NUMBERS, "dtype": Attr("dtype", F32), **_attrs},
        shape=_drawn_shape,
        ref=_ref,
        grad=STEP,
        loops=Expand(_rule),
        samples=lambda a=_sample: _drawn_samples(**a),
        group="random",
    )


# -- multinomial ---------------------------------------------------------------------------------


def _multinomial_shape(x, seed, *, count, dtype, stream):
    _check_seed(seed)
    if x.rank != 2 or (isinstance(x.shape[1], int) and x.shape[1] < 1):
        raise TypeMismatch("multinomial takes [B,C] with C >= 1", received=x)
    return (x.shape[0], count)


def _multinomial_ref(x, seed, *, count, dtype, stream):
    kind = np.float64 if x.dtype == np.float64 else np.float32
    p = np.exp(x.astype(kind) - x.astype(kind).max(1, keepdims=True, initial=-np.inf))
    sums = np.cumsum(p, 1)
    at = F64 if kind == np.float64 else F32
    u = _fraction_ref(seed, (len(x), count), stream, at) * sums[:, -1:]
    chosen = (sums[:, None, :] <= u[:, :, None]).sum(2)
    return np.minimum(chosen, x.shape[1] - 1).astype(dtype.numpy)


def _multinomial(b, x, seed, *, count, dtype, stream):
    h, classes = wide(x), x.shape[1]
    sums = b.cumsum(b.exp(h - b.reduce_max(h, axes=[1])), axis=1)
    last = b.slice(sums, axes=[1], starts=[classes - 1], steps=[1], sizes=[1])
    u = _fraction(b, seed, (x.shape[0], count), stream, h.dtype) * last
    below = sums.reshape(x.shape[0], 1, classes) <= u.reshape(x.shape[0], count, 1)
    chosen = b.reduce_sum(below.cast(I64), axes=[2], keepdims=False)
    return b.minimum(chosen, scalar_of_dim(b, classes - 1, I64)).cast(dtype)


register(
    "multinomial",
    "x: T, seed: i64 -> @dtype",
    "`count` classes drawn for each row of x [B,C], class c with a probability in proportion e^x.",
    attrs={
        "count": Attr("dim"),
        "dtype": Attr("dtype", I32),
        "stream": Attr("int", 0),
    },
    shape=_multinomial_shape,
    ref=_multinomial_ref,
    grad=STEP,
    loops=Expand(_multinomial),
    samples=lambda: [
        case(floats((3, 5)), array(1, "i64"), count=20),
        case(floats((1, 40), dtype="f64"), array(2, "i64"), count=9, dtype="i64"),
        case(array([[0.0, -np.inf, 1.0]]), array(3, "i64"), count=30),
        case(floats((2, 3), dtype="f16"), array(4, "i64"), count=5),
    ],
    group="random",
    T="float",
)


# -- dropout -------------------------------------------------------------------------------------


def _dropout_shape(x, ratio, seed, *, stream):
    _check_seed(seed)
    if dims.prod(ratio.shape) != 1:
        raise TypeMismatch("dropout's ratio is one number", received=ratio)
    return [x.shape, x.shape]


def _dropout_ref(x, ratio, seed, *, stream):
    ratio = np.asarray(ratio).reshape(())
    kept = _fraction_ref(seed, x.shape, stream, F32) >= ratio.astype(np.float32)
    kind = np.float64 if x.dtype == np.float64 else np.float32
    scale = kind(1) / (kind(1) - ratio.astype(kind))
    return np.where(kept, x.astype(kind) * scale, kind(0)).astype(x.dtype), kept


def _dropout(b, x, ratio, seed, *, stream):
    ratio, h = ratio.reshape(()), wide(x)
    kept = b.greater_equal(_fraction(b, seed, x.shape, stream, F32), ratio.cast(F32))
    scale = b.reciprocal(1.0 - ratio.cast(h.dtype))
    return mask(kept, h * scale).cast(x.dtype), kept


def _dropout_grad(c, dy, _):
    """The mask is an output: what was dropped gets nothing."""
    (x, ratio, _), b = c.inputs, c.b
    scale = b.reciprocal(1.0 - ratio.reshape(()).cast(x.dtype.compute))
    dx = mask(c.outputs[1], wide(dy) * scale)
    dratio = (dx * wide(x) * scale).sum().reshape(ratio.shape)
    return [dx.cast(x.dtype), dratio.cast(ratio.dtype), None]


register(
    "dropout",
    "x: T, ratio: R, seed: i64 -> T, bool",
    """x / (1 - ratio) where a uniform number of [0, 1) is at least `ratio`, else 0; and where.

    A ratio of 0 leaves x as it is.
    """,
    attrs={"stream": Attr("int", 0)},
    shape=_dropout_shape,
    ref=_dropout_ref,
    grad=_dropout_grad,
    loops=Expand(_dropout),
    samples=lambda: [
        case(floats((4, 9)), array(0.25), array(3, "i64")),
        case(floats((5,)), array([0.0]), array(3, "i64")),
        case(floats((3, 4), dtype="f64"), array(0.5, "f64"), array(1, "i64")),
        case(floats((3, 4), dtype="bf16"), array(0.5, "f16"), array(1, "i64"), stream=2),
    ],
    group="random",
    T=FLOATS,
    R=FLOATS,
)
