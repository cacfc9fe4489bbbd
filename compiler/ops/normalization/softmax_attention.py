"""Softmax and its kin, and attention: composites of reductions, contractions and elementwise ops.

Half types are widened to f32 first and rounded once at the end.
"""

import numpy as np

from ...errors import TypeMismatch
from ...ir.bounds import assume_equal_shapes
from ...ir.op import Attr, Expand, NotDifferentiable, register
from ...ir.types import BOOL, FLOATS, broadcast, normalize_axis
from ..common import (
    FLOAT_SAMPLES,
    along_axis,
    array,
    bools,
    case,
    floats,
    ints,
    reference,
    spaced,
    through_expansion,
    wide,
)


def _softmax_ref(x, axis):
    e = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return e / np.sum(e, axis=axis, keepdims=True)


def _softmax(b, x, *, axis):
    h = wide(x)
    e = b.exp(h - b.reduce_max(h, axes=[axis]))
    return (e * (1.0 / b.reduce_sum(e, axes=[axis]))).cast(x.dtype)


def _softmax_gradient(c, g):
    """y * (g - sum(g * y))"""
    (x,), (y,), b = c.inputs, c.outputs, c.b
    g, y = wide(g), wide(y)
    return ((y * (g - b.reduce_sum(g * y, axes=[c.attrs["axis"]]))).cast(x.dtype),)


def _log_softmax_ref(x, axis):
    x = x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return x - np.log(np.sum(np.exp(x), axis=axis, keepdims=True))


def _log_softmax(b, x, *, axis):
    h = wide(x)
    h = h - b.reduce_max(h, axes=[axis])
    return (h - b.log(b.reduce_sum(b.exp(h), axes=[axis]))).cast(x.dtype)


def _log_softmax_gradient(c, g):
    """g - e^y * sum(g)"""
    (x,), (y,), b = c.inputs, c.outputs, c.b
    g, y = wide(g), wide(y)
    return ((g - b.exp(y) * b.reduce_sum(g, axes=[c.attrs["axis"]])).cast(x.dtype),)


def _softmax_samples():
    for dtype in FLOAT_SAMPLES:
        yield case(floats((3, 7), 1, -4, 4, dtype), axis=-1)
    for axis in (0, 1, 2):
        yield case(floats((2, 3, 4), 2), axis=axis)
    yield case(floats((2, 3, 5, 6), 3), axis=1)
    yield case(floats((3, 1)), axis=1)
    yield case(floats((0, 4)), axis=1)
    yield case(array([[1000.0, 1001.0, -1000.0], [-np.inf, 0.0, 1.0]]), axis=1, grad=False)
    yield case(array([[1.0, np.nan], [-np.inf, -np.inf]]), axis=1, grad=False)


for _name, _doc, _ref, _rule, _grad in [
    ("softmax", "e^x / sum(e^x) along `axis`", _softmax_ref, _softmax, _softmax_gradient),
    (
        "log_softmax",
        "x - log(sum(e^x)) along `axis`",
        _log_softmax_ref,
        _log_softmax,
        _log_softmax_gradient,
    ),
]:
    register(
        _name,
        "x: T -> T",
        _doc,
        T="float",
        shape=along_axis,
        attrs={"axis": Attr("int", -1)},
        ref=reference(_ref),
        grad=_grad,
        loops=Expand(_rule),
        samples=_softmax_samples,
        group="composite",
    )


def _hardmax_ref(x, axis):
    if not x.size:
        return x
    at = np.expand_dims(np.argmax(x, axis), axis)
    y = np.zeros_like(x)
    np.put_along_axis(y, at, 1, axis)
    return y


def _hardmax(b, x, *, axis):
    axis = normalize_axis(axis, x.rank)
    if x.shape[axis] == 0:
        return x
    place = b.iota(shape=x.shape, axis=axis, dtype="i64")
    return b.equal(place, b.arg_max(x, axis=axis)).cast(x.dtype)


register(
    "hardmax",
    "x: T -> T",
    "1 at the first largest element along `axis`, 0 elsewhere.",
    T="float",
    shape=along_axis,
    attrs={"axis": Attr("int", -1)},
    ref=reference(_hardmax_ref),
    grad=NotDifferentiable("piecewise constant", zero=True),
    loops=Expand(_hardmax),
    samples=lambda: [
        case(ints((3, 4, 5), 1, 0, 3, "f32"), axis=1),
        case(floats((3, 5), dtype="bf16"), axis=-1),
        case(spaced((2, 3), dtype="f64"), axis=0),
    ],
    group="composite",
)


# -- attention -----------------------------------------------------------------------------


def _attention_shape(q, k, v, mask=None, *, scale, is_causal):
    if not q.rank == k.rank == v.rank >= 2:
        raise TypeMismatch(
            "attention takes q, k, v of one rank, [B,H,S,D], [B,H,T,D], [B,H,T,E]",
            received=f"{q}, {k}, {v}",
        )
    if not assume_equal_shapes((k.shape[-1], k.shape[-2]), (q.shape[-1], v.shape[-2])):
        raise TypeMismatch(
            "attention: the sizes of q, k and v do not fit",
            expected=f"k: [{k.shape[-2]},{q.shape[-1]}] and v: [{k.shape[-2]},…] at the end",
            received=f"{q}, {k}, {v}",
        )
    heads = broadcast(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    if mask is not None:
        broadcast((*heads, q.shape[-2], k.shape[-2]), mask.shape)
    return (*heads, q.shape[-2], v.shape[-1])


def _attention_ref(q, k, v, mask=None, *, scale, is_causal):
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * scale
    if is_causal:
        rows, columns = scores.shape[-2:]
        scores = np.where(np.tri(rows, columns, dtype=bool), scores, -np.inf)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    return np.matmul(_softmax_ref(scores, -1).astype(v.dtype), v).astype(v.dtype)


def _attention(b, q, k, v, mask=None, *, scale, is_causal):
    h = k.rank
    turned = wide(k).transpose((*range(h - 2), h - 1, h - 2))
    scores = b.matmul(wide(q), turned) * scale
    never = b.scalar(-np.inf, scores.dtype)
    if is_causal:
        shape = (q.shape[-2], k.shape[-2])
        row = b.iota(shape=shape, axis=0, dtype="i64")
        scores = b.where(row >= b.iota(shape=shape, axis=1, dtype="i64"), scores, never)
    if mask is not None:
        masked = mask.dtype == BOOL
        scores = b.where(mask, scores, never) if masked else scores + mask.cast(scores.dtype)
    return b.matmul(b.softmax(scores, axis=-1), wide(v)).cast(q.dtype)


def _attention_samples():
    def qkv(seed, dtype="f32", s=3, t=5):
        return (
            floats((2, 2, s, 4), seed, dtype=dtype),
            floats((2, 2, t, 4), seed + 1, dtype=dtype),
            floats((2, 2, t, 4), seed + 2, dtype=dtype),
        )

    yield case(*qkv(1), scale=0.5)
    yield case(*qkv(2), floats((3, 5), 7), scale=0.5)
    open_mask = bools((2, 1, 3, 5), 7) | (np.arange(5) == 0)
    yield case(*qkv(3), open_mask, scale=0.5)
    yield case(*qkv(4, s=5), scale=0.5, is_causal=True)
    yield case(*qkv(5, s=2), floats((2, 5), 7), scale=0.5, is_causal=True)
    for dtype in ("f64", "f16", "bf16"):
        yield case(*qkv(6, dtype), scale=0.5)


register(
    "attention",
    "q: T, k: T, v: T, mask: M? -> T",
    """softmax(q kᵀ * scale + mask) v over the last two axes: q [B,H,S,D], k [B,H,T,D],
    v [B,H,T,E], mask broadcast to [B,H,S,T]. A boolean mask is true where a key counts; with
    `is_causal` query i sees keys 0…i. A query that sees no key gives NaN.""",
    T="float",
    M=FLOATS | {BOOL},
    shape=_attention_shape,
    attrs={"scale": Attr("float"), "is_causal": Attr("bool", False)},
    ref=reference(_attention_ref),
    grad=through_expansion,
    loops=Expand(_attention),
    samples=_attention_samples,
    group="composite",
)
