"""fake_quantize: floats rounded to the grid of a quantized type, still as floats.

    v = x / scale                    r = round_half_even(v) + zero
    q = clip(r, low, high)           y = (q - zero) * scale

It is dequantize_linear(quantize_linear(x)) to the bit, and becomes these two nodes when compiled,
so that what is trained is what runs. It differs from them in its gradients (dy is y's):

    dx     = dy            where low <= r <= high, else 0     straight through (Bengio et al. 2013,
                                                              arXiv:1308.3432)
    dscale = sum dy * (q - zero - v·[low <= r <= high]) * g   learned steps (Esser et al. 2020,
                                                              arXiv:1902.08153)

The gradient scale g is 1, or 1 / sqrt(elements of a scale * largest q) with `gradient_scale`:
steps of scales then are as large, for their size, as those of weights (section 2.2 there).
"""

from math import prod

import numpy as np

from ...errors import TypeMismatch
from ...ir.bounds import assume_equal_shapes
from ...ir.op import Attr, Expand, register
from ...ir.types import I8, I32, dtype_of, normalize_axis
from ..common import FLOAT_SAMPLES, array, case, floats, ints, require_shape, scalar_of_dim, sum_to
from .quantize import (
    QUANTIZED,
    channel,
    dequantize_ref,
    limits,
    quantize_ref,
    quantize_shape,
    quotient_dtype,
)

INTEGERS = frozenset(d for d in QUANTIZED if d.is_int)


def grid(dtype, bits: int | None, narrow: bool) -> tuple[int, int]:
    """The least and the largest q. `narrow` leaves the least one out: symmetric about 0."""
    width = dtype.bits if bits is None else bits
    if dtype.kind == "u":
        return int(narrow), 2**width - 1
    return int(narrow) - 2 ** (width - 1), 2 ** (width - 1) - 1


def blocked_shape(shape, axis: int, block: int) -> tuple:
    """The shape of scales of which each is for `block` neighbours on `axis`."""
    axis = normalize_axis(axis, len(shape))
    return (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])


def repeat_blocks(t, axis: int, block: int, size: int):
    """Each element of `t` (a Tensor or an array) `block` times along the axis, cut to `size`."""
    axis = normalize_axis(axis, len(t.shape))
    if isinstance(t, np.ndarray):
        return np.take(np.repeat(t, block, axis), np.arange(size), axis)
    before, n, after = t.shape[:axis], t.shape[axis], t.shape[axis + 1 :]
    t = t.reshape((*before, n, 1, *after)).expand((*before, n, block, *after))
    t = t.reshape((*before, n * block, *after))
    if n * block == size:
        return t
    return t.b.emit("slice", t, axes=(axis,), starts=(0,), steps=(1,), sizes=(size,))


def _sum_blocks(t, axis: int, block: int):
    """The sums of `block` neighbours along the axis: the adjoint of `repeat_blocks`."""
    axis = normalize_axis(axis, t.rank)
    size = t.shape[axis]
    count = -(-size // block)
    if count * block != size:
        ends = tuple(count * block - size if i == axis else 0 for i in range(t.rank))
        t = t.b.emit("pad", t, pads=(0,) * t.rank + ends)
    shape = (*t.shape[:axis], count, block, *t.shape[axis + 1 :])
    return t.reshape(shape).sum(axes=axis + 1)


def _shape(x, scale, zero=None, *, axis, dtype, block, bits, narrow, gradient_scale):
    if dtype not in INTEGERS or (bits is not None and not 1 < bits <= dtype.bits):
        raise TypeMismatch(
            "fake_quantize to a wrong type",
            expected="an integer type of 16 bits or less, and `bits` of 2 to its width",
            received=f"{dtype}" if bits is None else f"{dtype} with bits={bits}",
        )
    if block:
        expected = blocked_shape(x.shape, axis, block)
        if not assume_equal_shapes(scale.shape, expected):
            raise TypeMismatch(
                "the scale does not fit blocks",
                expected=f"{list(expected)} for blocks of {block} of {x}",
                received=scale,
            )
        require_shape("fake_quantize", "the zero point", zero, scale.shape)
        return x.shape
    return quantize_shape(x, scale, zero, axis=axis, dtype=dtype, saturate=True, precision=None)


def _repeated(x, scale, zero, axis, block):
    if not block:
        return scale, zero
    repeat = lambda t: repeat_blocks(t, axis, block, x.shape[normalize_axis(axis, len(x.shape))])
    return repeat(scale), None if zero is None else repeat(zero)


def _ref(x, scale, zero=None, *, axis, dtype, block, bits, narrow, gradient_scale):
    parameters = _repeated(x, scale, zero, axis, block)
    with np.errstate(all="ignore"):
        q = quantize_ref(x, *parameters, axis=axis, dtype=dtype).astype(np.int32)
        q = np.clip(q, *grid(dtype, bits, narrow)).astype(dtype.numpy)
        return dequantize_ref(q, *parameters, axis=axis, dtype=dtype_of(x))


def _expand(b, x, scale, zero=None, *, axis, dtype, block, bits, narrow, gradient_scale):
    parameters = _repeated(x, scale, zero, axis, block)
    q = b.quantize_linear(x, *parameters, axis=axis, dtype=dtype)
    ends = grid(dtype, bits, narrow)
    if ends != limits(dtype):
        q = b.clip(q.cast(I32), *(b.scalar(end, I32) for end in ends)).cast(dtype)
    return b.dequantize_linear(q, *parameters, axis=axis, dtype=x.dtype)


def _gradient(c, dy):
    x, scale, zero = c.inputs
    b, axis, dtype, block = c.b, c.attrs["axis"], c.attrs["dtype"], c.attrs["block"]
    low, high = grid(dtype, c.attrs["bits"], c.attrs["narrow"])
    wide = quotient_dtype(scale.dtype, None).compute
    parameters = _repeated(x, scale, None if zero is None else zero.cast(wide), axis, block)
    s, z = (channel(t, x.rank, axis) for t in parameters)
    v = x.cast(wide) / s.cast(wide)
    r = b.round(v) if z is None else b.round(v) + z
    inside = b.equal(b.clip(r, b.scalar(low, wide), b.scalar(high, wide)), r)
    nothing = b.scalar(0, wide)
    dx = b.where(inside, dy, b.scalar(0, dy.dtype))
    q = b.clip(r, b.scalar(low, wide), b.scalar(high, wide))
    step = (q if z is None else q - z) - b.where(inside, v, nothing)
    ds = _to_scale(dy.cast(wide) * step, scale, axis, block)
    if c.attrs["gradient_scale"]:
        ds = ds * _gradient_scale(b, x, scale, high, wide)
    return dx, ds.cast(scale.dtype), None


def _to_scale(t, scale, axis: int, block: int):
    """The gradient of each element's scale, summed to that of the scales."""
    if block:
        return _sum_blocks(t, axis, block)
    as_channel = channel(scale, t.rank, axis)
    return sum_to(t, as_channel.shape).reshape(scale.shape)


def _gradient_scale(b, x, scale, high: int, dtype):
    elements, scales = (scalar_of_dim(b, _product(t.shape), dtype) for t in (x, scale))
    return b.sqrt(scales / (elements * float(high)))


def _product(shape):
    return prod(shape) if shape else 1


def _samples():
    yield case(floats((3, 4)), array(0.02), array(128, "u8"), dtype="u8", grad=False)
    yield case(floats((2, 3, 2)), array([0.01, 0.1, 1.0]), array([0, 3, -3], "i8"), grad=False)
    yield case(array([0.5, 1.5, 2.5, -0.5, -1.5, -0.2]), array(1.0), grad=False)
    yield case(floats((3, 5)), array([0.3, 0.2, 0.1]), axis=0, dtype="i4", grad=False)
    yield case(floats((5,)), array([0.3]), array([1], "u4"), axis=0, dtype="u4", grad=False)
    yield case(floats((3, 10)), floats((3, 3), 1, 0.1, 0.5), block=4, dtype="i4", grad=False)
    yield case(
        floats((5, 3)),
        floats((2, 3), 1, 0.1, 0.5),
        ints((2, 3), high=15, dtype="u4"),
        axis=0,
        block=3,
        dtype="u4",
        grad=False,
    )
    yield case(floats((7,)), array(0.3), axis=0, dtype="i4", bits=3, grad=False)
    yield case(floats((7,)), array(0.01), axis=0, narrow=True, grad=False)
    yield case(floats((2, 4)), floats((2, 4), 1, 0.01, 0.1), dtype="i16", grad=False)
    for dtype in ("f16", "bf16"):
        yield case(floats((2, 3), dtype=dtype), array(0.125, dtype), axis=0, grad=False)
    # Beyond the ends there are no steps: the limit of differences is the gradient.
    beyond = floats((2, 6), low=9, high=12) * np.array([1, -1, 1, -1, -1, 1], np.float32)
    yield case(beyond, array(0.5), array(3, "i4"), dtype="i4")
    yield case(beyond, floats((6,), 1, 0.1, 0.5), narrow=True, dtype="i4")
    yield case(beyond, floats((2, 3), 1, 0.1, 0.5), block=2, dtype="i4")


register(
    "fake_quantize",
    "x: T, scale: S, zero_point: Z? -> T",
    """x rounded to the numbers that an integer type stands for, as floats:
    dequantize_linear(quantize_linear(x)), whose gradient is straight through within the range.

    Scales are as in quantize_linear, or one for each `block` of neighbours on `axis` (the last may
    be shorter); zero points are as scales are. `bits` takes less of the type than there is,
    `narrow` leaves its least number out. Scales have the gradient of learned steps (LSQ), with
    `gradient_scale` divided by sqrt(elements of a scale * the largest q).
    """,
    attrs={
        "axis": Attr("int", 1),
        "dtype": Attr("dtype", I8),
        "block": Attr("int", 0, "elements of a block", low=0),
        "bits": Attr("int", None),
        "narrow": Attr("bool", False),
        "gradient_scale": Attr("bool", False),
    },
    shape=_shape,
    ref=_ref,
    grad=_gradient,
    loops=Expand(_expand),
    samples=_samples,
    group="quant",
    T=FLOAT_SAMPLES,
    S=FLOAT_SAMPLES,
    Z=INTEGERS,
)
