"""com.microsoft: tensors, distances, transforms, and gates."""

import numpy as np

from .....compiler.ir.types import BOOL, F32, I64, normalize_axis
from .....compiler.ops.common import scalar_of_dim
from .....compiler.ops.vision.roi import IMAGE
from ...read.call import Call
from ...read.folded import SMALL
from ..ai_onnx.move import gather_nd, trilu
from ..ai_onnx.move import pad as onnx_pad
from ..ai_onnx.shape import range_ as onnx_range
from .norm import wide


def as_opset(version: int, entry):
    """The operator as ONNX has had it since that opset."""

    def read(c: Call):
        c.version = version
        return entry(c)

    return read


def pad(c: Call):
    """Pads may be [1, 2·rank]."""
    pads = c.x(1)
    if pads.rank == 2:
        c.inputs = [c[0], pads.reshape((-1,)), *c.inputs[2:]]
    c.version = 13
    return onnx_pad(c)


def range_(c: Call):
    """The step is 1 unless it is given; all three may be vectors of one element."""
    if c[2] is None:
        c.inputs = [c[0], c[1], c.scalar(1, c.x(0).dtype)]
    return onnx_range(c)


def expand_dims(c: Call):
    x = c.x(0)
    (axis,) = c.ints(1, "axis")
    axis = normalize_axis(axis, x.rank + 1)
    return x.reshape((*x.shape[:axis], 1, *x.shape[axis:]))


def torch_embedding(c: Call):
    """Rows of a table; the padding index matters to gradients only."""
    c.ignore("padding_idx", "scale_grad_by_freq")
    return c.b.emit("gather", c.x(0), c.x(1), axis=0)


def unfold_tensor(c: Call):
    """Windows of `size` along `dim`, every `step` elements, as a last axis."""
    x = c.x(0)
    axis = normalize_axis(c.attr("dim", -1), x.rank)
    size, step = c.attr("size"), c.attr("step", 1)
    count = (x.shape[axis] - size) // step + 1
    start = c.b.emit("iota", shape=(count, 1), axis=0, dtype=I64) * step
    at = start + c.b.emit("iota", shape=(1, size), axis=1, dtype=I64)
    y = c.b.emit("gather", x, at, axis=axis)
    order = [i for i in range(y.rank) if i != axis + 1]
    return y.transpose((*order, axis + 1))


def cdist(c: Call):
    """Distances between the rows of a [M,N] and b [K,N]: √(|a|² + |b|² - 2ab), not below 0."""
    c.only("metric", "sqeuclidean", "euclidean")
    a, b = c.x(0), c.x(1)
    square = (a * a).sum(1, keepdims=True) + (b * b).sum(1).reshape((1, b.shape[0]))
    square = square - c.b.emit("matmul", a, b.transpose()) * 2.0
    square = c.b.emit("maximum", square, c.scalar(0, a.dtype))
    return square if c.attr("metric", "sqeuclidean") == "sqeuclidean" else c.b.emit("sqrt", square)


def is_all_finite(c: Call):
    """Whether all elements of all operands are neither infinite nor NaN (or not one of these)."""
    nan, infinite = c.attr("isnan_only", 0), c.attr("isinf_only", 0)
    total = c.scalar(True, BOOL)
    for x in c.tensors:
        bad = None
        for op, wanted in [("isnan", not infinite), ("isinf", not nan)]:
            if wanted:
                found = c.b.emit(op, x)
                bad = found if bad is None else c.b.emit("or", bad, found)
        worst = bad.cast("i32").max()
        total = c.b.emit("and", total, c.b.emit("equal", worst, c.scalar(0, worst.dtype)))
    return total


def crop_and_resize(c: Call):
    """Boxes [R,4] of images [N,C,H,W], each resized to `crop_size`; corners meet corners.

    A box is (y, x) of two corners, 0 to 1 across the image; what lies outside is a given number.
    """
    b, x, boxes = c.b, c.x(0), c.x(1)
    mode = c.attr("mode", "bilinear")
    outside = c.scalar(c.attr("extrapolation_value", 0.0), x.dtype)
    sizes = c.ints(3, "crop_size")
    count = boxes.shape[0]
    ys, xs = (_along_box(boxes[:, i], boxes[:, i + 2], x.shape[2 + i], sizes[i]) for i in range(2))
    ys, xs = ys.reshape((count, sizes[0], 1)), xs.reshape((count, 1, sizes[1]))
    image = c.within(c.x(2), 0, x.shape[0], IMAGE).cast(I64).reshape((count, 1, 1))
    places = (count, *sizes)
    channels_last, sides = x.transpose((0, 2, 3, 1)), x.shape[2:]

    def pixel(y, x):
        y, x = (_within(i, size) for i, size in zip((y, x), sides))
        at = [b.emit("expand", i, shape=places).reshape((*places, 1)) for i in (image, y, x)]
        return b.emit("gather_nd", channels_last, b.emit("concat", *at, axis=-1))

    def whole(op: str, t):
        return b.emit(op, t).cast(I64)

    if mode == "nearest":
        y = pixel(whole("floor", ys + 0.5), whole("floor", xs + 0.5))
    else:
        rows, columns = ([whole(op, t) for op in ("floor", "ceil")] for t in (ys, xs))
        dy, dx = ((t - b.emit("floor", t)).reshape((*t.shape, 1)) for t in (ys, xs))
        top, bottom = (
            pixel(row, columns[0]) * (1 - dx) + pixel(row, columns[1]) * dx for row in rows
        )
        y = top * (1 - dy) + bottom * dy
    inside = None
    for t, size in [(ys, x.shape[2]), (xs, x.shape[3])]:
        for op, bound in [("greater_equal", 0), ("less_equal", size - 1)]:
            fits = b.emit(op, t, scalar_of_dim(b, bound, t.dtype))
            inside = fits if inside is None else b.emit("and", inside, fits)
    y = b.emit("where", inside.reshape((*places, 1)), y, outside)
    return y.transpose((0, 3, 1, 2))


def _within(index, size: int):
    """An index, or the nearest one inside of an axis."""
    b = index.b
    return b.emit("clip", index, b.scalar(0, I64), scalar_of_dim(b, size - 1, I64))


def _along_box(low, high, size: int, count: int):
    """Where `count` points from low to high [R] lie on an axis of `size` pixels, [R,count]."""
    b, last = low.b, scalar_of_dim(low.b, size - 1, low.dtype)
    if count == 1:
        return ((low + high) * (last * 0.5)).reshape((-1, 1))
    steps = b.constant(np.arange(count).reshape(1, count), low.dtype)
    low, high = low.reshape((-1, 1)), high.reshape((-1, 1))
    return low * last + steps * ((high - low) * last / (count - 1))


MAX_INVERSE = 16  # rows of a matrix whose elimination is written out step by step


def inverse(c: Call):
    """Gauss-Jordan elimination of [A | I] with the largest pivot of each column, x [..., n, n]."""
    b, x = c.b, c.x(0)
    n = x.shape[-1]
    if not isinstance(n, int) or n > MAX_INVERSE:
        raise c.unsupported(
            "the inverse of a matrix of this size", expected=f"at most {MAX_INVERSE}", received=n
        )
    a = wide(x).reshape((-1, n, n))
    unit = b.constant(np.eye(n), a.dtype).reshape((1, n, n)).expand((a.shape[0], n, n))
    a = b.emit("concat", a, unit, axis=2)
    rows = b.constant(np.arange(n).reshape(1, n), I64)
    for k in range(n):
        column = b.emit("abs", a[:, :, k])
        column = b.emit("where", rows < k, b.scalar(-1, column.dtype), column)
        pivot = b.emit("arg_max", column, axis=1, keepdims=True)
        here, there = b.emit("equal", rows, b.scalar(k, I64)), b.emit("equal", rows, pivot)
        order = b.emit("where", here, pivot, b.emit("where", there, b.scalar(k, I64), rows))
        order = b.emit("expand", order.reshape((-1, n, 1)), shape=a.shape)
        a = b.emit("gather_elements", a, order, axis=1)
        row = a[:, k : k + 1] / a[:, k : k + 1, k : k + 1]
        a = b.emit("where", here.reshape((1, n, 1)), row, a - a[:, :, k : k + 1] * row)
    return a[:, :, n:].reshape(x.shape).cast(x.dtype)


# -- Fourier transforms --------------------------------------------------------------------


def _one_axis(c: Call) -> None:
    c.only("signal_ndim", 1)
    c.only("onesided", 1)
    c.only("normalized", 0)


def _waves(n: int, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of 2π·j·k / n for j < n, k < bins."""
    turns = np.outer(np.arange(n), np.arange(bins)) % n
    angles = 2 * np.pi * turns / n
    return np.cos(angles), np.sin(angles)


def rfft(c: Call):
    """x [..., n] → [..., n/2 + 1, 2], as two products with waves."""
    _one_axis(c)
    x = c.x(0)
    n = _length(c, x.shape[-1])
    cos, sin = _waves(n, n // 2 + 1)
    waves = np.stack([cos, -sin], -1).reshape(n, -1)
    y = c.b.emit("matmul", wide(x), c.b.constant(waves, wide(x).dtype))
    return y.reshape((*x.shape[:-1], n // 2 + 1, 2)).cast(x.dtype)


def irfft(c: Call):
    """x [..., n/2 + 1, 2] → [..., n]; the bins between first and last count twice."""
    _one_axis(c)
    x = c.x(0)
    bins = _length(c, x.shape[-2])
    n = 2 * (bins - 1)
    cos, sin = _waves(n, bins)
    weight = np.where(np.isin(np.arange(bins), (0, bins - 1)), 1, 2) / n
    waves = np.stack([cos * weight, -sin * weight], -1).reshape(n, -1).T
    flat = wide(x).reshape((*x.shape[:-2], 2 * bins))
    return c.b.emit("matmul", flat, c.b.constant(waves, flat.dtype)).cast(x.dtype)


def _length(c: Call, d) -> int:
    if not isinstance(d, int):
        raise c.size_dependence("a transform of a dynamic length", received=d)
    if d * d > SMALL * SMALL:
        raise c.unsupported("a transform of this length", expected=f"at most {SMALL}", received=d)
    return d


def complex_mul(conjugate: bool):
    """(a + bi)(c + di), or with c - di; the last axis holds both parts."""

    def entry(c: Call):
        x, y = c.x(0), c.x(1)
        real, imaginary = x[..., 0], x[..., 1]
        re, im = y[..., 0], y[..., 1]
        if conjugate:
            im = -im
        parts = real * re - imaginary * im, real * im + imaginary * re
        return c.b.emit("concat", *(p.reshape((*p.shape, 1)) for p in parts), axis=-1)

    return entry


# -- gates ---------------------------------------------------------------------------------


def swiglu(c: Call):
    """g · sigmoid(alpha · g) · (l + beta), both cut at `limit`; g and l may come in one tensor."""
    gate, up = c.x(0), c[1]
    c.ignore("round_activation")
    if up is None:
        half = gate.shape[-1] // 2
        gate, up = c.b.emit("split", gate, axis=-1, sizes=(half, half))
    g, l = wide(gate), wide(up)
    limit = c.attr("limit", 0.0)
    if limit > 0:
        high, low = c.scalar(limit, g.dtype), c.scalar(-limit, g.dtype)
        g, l = c.b.emit("minimum", g, high), c.b.emit("clip", l, low, high)
    y = g * c.b.emit("sigmoid", g * c.attr("activation_alpha", 1.0))
    return (y * (l + c.attr("activation_beta", 0.0))).cast(c.x(0).dtype)


def scaled_silu(c: Call):
    x = c.x(0)
    scaled = wide(x) * (c.attr("alpha", 1.0) if c[1] is None else c.x(1).cast(F32).reshape(()))
    scaled = scaled.cast(x.dtype)
    return scaled * c.b.emit("sigmoid", scaled)


def gated_add(c: Call):
    """x + y · gate."""
    if c[3] is not None:
        raise c.unsupported("GatedAdd with a projected gate")
    return c.x(0) + c.x(1) * c.x(2)


TABLE = {
    "Pad": pad,
    "Trilu": trilu,
    "GatherND": as_opset(13, gather_nd),
    "Range": range_,
    "ExpandDims": expand_dims,
    "TorchEmbedding": torch_embedding,
    "UnfoldTensor": unfold_tensor,
    "CDist": cdist,
    "CropAndResize": crop_and_resize,
    "Inverse": inverse,
    "IsAllFinite": is_all_finite,
    "Rfft": rfft,
    "Irfft": irfft,
    "ComplexMul": complex_mul(False),
    "ComplexMulConj": complex_mul(True),
    "SwiGLU": swiglu,
    "ScaledSiLU": scaled_silu,
    "GatedAdd": gated_add,
}
