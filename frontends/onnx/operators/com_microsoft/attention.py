"""com.microsoft attention with all that its operators carry: packed projections, masks of several
forms, a cache of keys and values, a bias of scores.

    scores = q kᵀ · scale + mask, with q [B,H,S,D], k [B,H,T,D], v [B,H,T,E] and a mask of
    [B or 1, H or 1, S or 1, T]

Masks are additive: 0 where a key counts, `mask_filter_value` where padding has to be overlooked.
"""

import math

import numpy as np

from .....compiler.ir.types import F32, I64
from ...read.call import Call
from .norm import wide

NEVER = float(np.finfo(np.float32).min)  # what a later token gets: less than any padding


def heads_of(x, heads: int):
    """[B, S, H·D] → [B, H, S, D]."""
    batch, rows, width = x.shape
    return x.reshape((batch, rows, heads, width // heads)).transpose((0, 2, 1, 3))


def merged(x):
    """[B, H, S, D] → [B, S, H·D]."""
    batch, heads, rows, width = x.shape
    return x.transpose((0, 2, 1, 3)).reshape((batch, rows, heads * width))


def positions(b, size, axis: int, rank: int = 4):
    """0 … size-1 along one axis of `rank`."""
    shape = [1] * rank
    shape[axis] = size
    return b.emit("iota", shape=tuple(shape), axis=axis, dtype=I64)


def number(b, dim):
    """A dim as an i64 scalar."""
    return b.dims([dim]).reshape(())


def element(t, i: int):
    """t[i], also where the number of elements is open."""
    one = t.b.emit("slice", t, axes=(0,), starts=(i,), steps=(1,), sizes=(1,))
    return one.reshape(t.shape[1:])


def keys_that_count(c: Call, mask, batch, rows, keys):
    """A mask_index as bools [B, 1, S or 1, T].

    [B, T] and [B, S, T] hold 1 where a key counts; [B] says where each row's keys end, [2·B] where
    they end and begin.
    """
    b = c.b
    if mask.rank in (2, 3):
        where = b.emit("greater", mask, b.scalar(0, mask.dtype))
        shape = where.shape
        return where.reshape((shape[0], 1, 1 if mask.rank == 2 else shape[1], shape[-1]))
    if mask.rank != 1:
        raise c.unsupported(
            "an attention mask of this rank", expected="1, 2 or 3", received=mask.type
        )
    count = mask.shape[0]
    if isinstance(count, int) and isinstance(batch, int) and count not in (batch, 2 * batch):
        raise c.unsupported(
            "a mask of packed sequences", expected=f"[{batch}] or [{2 * batch}]", received=mask.type
        )
    at = positions(b, keys, 3)
    bounds = mask.cast(I64)
    if count == batch:
        return b.emit("less", at, bounds.reshape((batch, 1, 1, 1)))
    end, begin = (
        b.emit("slice", bounds, axes=(0,), starts=(s,), steps=(1,), sizes=(batch,)).reshape(
            (batch, 1, 1, 1)
        )
        for s in (0, batch)
    )
    return b.emit("and", b.emit("less", at, end), b.emit("greater_equal", at, begin))


def additive_mask(c: Call, mask, bias, *, batch, rows, keys, past, causal):
    """All that is added to the scores, in f32, or None.

    mask: a mask_index or None; bias: [B or 1, H or 1, S, T] or None; past: how many keys precede
    the first query.
    """
    b, total = c.b, None
    padding = c.attr("mask_filter_value", -10000.0)
    if mask is not None:
        seen = keys_that_count(c, mask, batch, rows, keys)
        total = b.emit("where", seen, b.scalar(0, F32), b.scalar(padding, F32))
    if causal:
        row = positions(b, rows, 2) + number(b, past)
        later = b.emit("greater", positions(b, keys, 3), row)
        never = b.emit("where", later, b.scalar(NEVER, F32), b.scalar(0, F32))
        total = never if total is None else b.emit("maximum", total + never, b.scalar(NEVER, F32))
    if bias is not None:
        bias = wide(bias)
        total = bias if total is None else total + bias
    return total


def attend(c: Call, q, k, v, mask, scale, want_scores=False):
    """([B,S,H·E], the scores [B,H,S,T] or None)."""
    b = c.b
    if not want_scores:
        y = b.emit("attention", wide(q), wide(k), wide(v), mask, scale=scale)
        return merged(y).cast(q.dtype), None
    scores = b.emit("matmul", wide(q), wide(k).transpose((0, 1, 3, 2))) * scale
    if mask is not None:
        scores = scores + mask
    y = b.emit("matmul", b.emit("softmax", scores, axis=-1), wide(v))
    return merged(y).cast(q.dtype), scores.cast(q.dtype)


def _scale(c: Call, q) -> float:
    given = c.attr("scale", 0.0)
    return given if given else 1 / math.sqrt(q.shape[-1])


def _with_past(c: Call, past, new):
    return new if past is None else c.b.emit("concat", past, new, axis=2)


def _halves(past):
    """[2,B,H,P,D] as keys and values."""
    return (None, None) if past is None else (element(past, 0), element(past, 1))


def _self_attention(c: Call, q, k, v, *, mask, past, bias):
    """Attention and QAttention, once queries, keys and values are there: [y, present]."""
    past_key, past_value = _halves(past)
    before = 0 if past is None else past.shape[3]
    k, v = _with_past(c, past_key, k), _with_past(c, past_value, v)
    batch, _, rows, _ = q.shape
    keys = k.shape[2]
    added = additive_mask(
        c,
        mask,
        bias,
        batch=batch,
        rows=rows,
        keys=keys,
        past=before,
        causal=c.attr("unidirectional", 0),
    )
    y, _ = attend(c, q, k, v, added, _scale(c, q))
    present = None
    if c.wants(1):
        present = c.b.emit("concat", *(t.reshape((1, *t.shape)) for t in (k, v)), axis=0)
    return [y, present]


def _no_shared_buffer(c: Call):
    """A cache that the caller keeps and the operator writes into."""
    c.only("past_present_share_buffer", 0)
    c.only("do_rotary", 0)
    c.ignore("rotary_embedding_dim")


def attention(c: Call):
    """q, k, v = x · weights + bias in one product, then attention over x itself."""
    _no_shared_buffer(c)
    heads = c.attr("num_heads")
    x, weights = c.x(0), c.x(1)
    projected = c.b.emit("matmul", x, weights)
    if c[2] is not None:
        projected = projected + c.x(2)
    sizes = c.attr("qkv_hidden_sizes", None)
    if sizes is None:
        sizes = [weights.shape[1] // 3] * 3
    q, k, v = c.b.emit("split", projected, axis=2, sizes=tuple(sizes))
    q, k, v = (heads_of(t, heads) for t in (q, k, v))
    return _self_attention(c, q, k, v, mask=c[3], past=c[4], bias=c[5])


def qattention(c: Call):
    """Attention whose projection is a product of integers: (x - x0)(w - w0) · scales + bias."""
    _no_shared_buffer(c)
    heads = c.attr("num_heads")
    b = c.b
    weight_zero = None if c[7] is None else _flat(c.x(7))
    x_zero = None if c[6] is None else c.x(6).reshape(())
    total = b.emit("matmul_integer", c.x(0), c.x(1), x_zero, weight_zero).cast(F32)
    projected = total * (c.x(3).reshape(()) * _flat(c.x(4))) + c.x(2)
    each = c.x(1).shape[1] // 3
    q, k, v = b.emit("split", projected, axis=2, sizes=(each,) * 3)
    q, k, v = (heads_of(t, heads) for t in (q, k, v))
    return _self_attention(c, q, k, v, mask=c[5], past=c[8], bias=None)


def _flat(t):
    """A vector of one element as a scalar."""
    return t.reshape(()) if t.shape == (1,) else t


def multi_head_attention(c: Call):
    """Attention of given queries, keys and values, [y, present keys, present values, scores].

    Keys and values come as [B,T,H·D], packed as [B,T,H,2,D], all three packed as [B,S,H,3,D], or
    as a finished cache [B,H,T,D].
    """
    heads = c.attr("num_heads")
    if c[8] is not None or c[9] is not None:
        raise c.unsupported("MultiHeadAttention with a cache that it shares with its caller")
    q, k, v = _query_key_value(c, heads)
    past = c[6]
    before = 0 if past is None else past.shape[2]
    k, v = _with_past(c, past, k), _with_past(c, c[7], v)
    batch, _, rows, _ = q.shape
    added = additive_mask(
        c,
        c[4],
        c[5],
        batch=batch,
        rows=rows,
        keys=k.shape[2],
        past=before,
        causal=c.attr("unidirectional", 0),
    )
    y, scores = attend(c, q, k, v, added, _scale(c, q), want_scores=c.wants(3))
    return [y, k, v, scores]


def _query_key_value(c: Call, heads: int):
    """q, k, v as [B,H,·,·] with the bias of their projections."""
    q, k, v = c.x(0), c[1], c[2]
    if q.rank == 5:
        q, k, v = (t.reshape((*t.shape[:2], -1)) for t in _unpacked(q, 3))
    elif k.rank == 5:
        k, v = (t.reshape((*t.shape[:2], -1)) for t in _unpacked(k, 2))
    finished = k.rank == 4
    if c[3] is not None:
        hidden, bias = q.shape[-1], c.x(3)
        width = v.shape[1] * v.shape[3] if finished else v.shape[-1]
        parts = c.b.emit("split", bias, axis=0, sizes=(hidden, hidden, width))
        q = q + parts[0]
        if not finished:
            k, v = k + parts[1], v + parts[2]
    q = heads_of(q, heads)
    return (q, k, v) if finished else (q, heads_of(k, heads), heads_of(v, heads))


def _unpacked(x, count: int):
    """[B,S,H,count,D] as `count` tensors [B,S,H,D]."""
    return [x[:, :, :, i] for i in range(count)]


TABLE = {
    "Attention": attention,
    "QAttention": qattention,
    "MultiHeadAttention": multi_head_attention,
}
