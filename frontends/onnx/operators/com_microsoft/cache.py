"""com.microsoft attention of language models: rotary positions, grouped heads, a cache of keys."""

import math

import numpy as np

from .....compiler.ir.dim_arrays import larger
from .....compiler.ir.types import F32, I64
from ...read.call import Call
from .attention import NEVER, element, heads_of, merged, number, positions
from .norm import wide


def rotated(x, cos, sin, *, interleaved: bool):
    """Pairs of x [B,N,S,D] turned by the angles of cos and sin [B or 1,1,S,R/2], R ≤ D.

    A pair is (x[i], x[i + R/2]), or (x[2i], x[2i+1]) where `interleaved`; what lies beyond R stays.
    """
    b, half = x.b, cos.shape[-1]
    h, cos, sin = wide(x), wide(cos), wide(sin)
    turned, rest = h[..., : 2 * half], None
    if x.shape[-1] != 2 * half:
        rest = h[..., 2 * half :]
    if interleaved:
        pairs = turned.reshape((*x.shape[:-1], half, 2))
        first, second = pairs[..., 0], pairs[..., 1]
    else:
        first, second = turned[..., :half], turned[..., half:]
    new = (first * cos - second * sin, second * cos + first * sin)
    if interleaved:
        y = b.emit("concat", *(t.reshape((*t.shape, 1)) for t in new), axis=-1)
        y = y.reshape((*x.shape[:-1], 2 * half))
    else:
        y = b.emit("concat", *new, axis=-1)
    return (y if rest is None else b.emit("concat", y, rest, axis=-1)).cast(x.dtype)


def angles(c: Call, table, at):
    """Rows `at` [B,S] of a table [M,R/2], as [B,1,S,R/2]."""
    at = c.within(at, 0, table.shape[0], "a position")
    rows = c.b.emit("gather", table, at, axis=0)
    return rows.reshape((rows.shape[0], 1, *rows.shape[1:]))


def rotary_embedding(c: Call):
    """Rotary positions of x [B,S,N·D] or [B,N,S,D]; positions are one offset or [B,S]."""
    x, at, cos, sin = c.tensors
    if at.rank == 1:
        batch, rows = x.shape[0], x.shape[1 if x.rank == 3 else 2]
        at = positions(c.b, rows, 1, rank=2) + at.reshape(())
        at = c.b.emit("expand", at, shape=(batch, rows))
    return _embedded(c, *(angles(c, table, at) for table in (cos, sin)))


def _embedded(c: Call, cos, sin):
    """x turned by angles [B,1,S,R/2]."""
    x = c.x(0)
    c.only("is_packed_batching", 0)
    c.only("scale", 1.0)
    heads, width = c.attr("num_heads", 0), c.attr("rotary_embedding_dim", 0)
    interleaved = bool(c.attr("interleaved", 0))
    if x.rank != 3:
        return rotated(x, cos, sin, interleaved=interleaved)
    if width and not heads:
        raise c.unsupported("rotary_embedding_dim without num_heads")
    each = x.shape[2] // heads if heads else 2 * cos.shape[-1]
    return merged(rotated(heads_of(x, x.shape[2] // each), cos, sin, interleaved=interleaved))


def multimodal_rotary_embedding(c: Call):
    """Rotary positions by time, height and width, positions [3,B,S]: each turns a share of pairs.

    The shares lie one after the other, or height and width take every third pair.
    """
    b, at = c.b, c.x(1)
    sections, half = c.attr("mrope_section"), c.x(2).shape[1]
    if c.attr("mrope_layout", 0):
        axis = np.zeros(half, np.int64)
        for i in (1, 2):
            axis[i : 3 * sections[i] : 3] = i
    else:
        axis = np.repeat(np.arange(3), sections)

    def chosen(table):
        by_axis = [angles(c, table, element(at, i)) for i in range(3)]
        turned = by_axis[0]
        for i in (1, 2):
            turned = b.emit("where", b.constant(axis == i), by_axis[i], turned)
        return turned

    return _embedded(c, chosen(c.x(2)), chosen(c.x(3)))


# -- grouped queries -----------------------------------------------------------------------


def group_query_attention(c: Call):
    """Attention of H query heads to G key heads with a cache, [y, present keys, present values].

    `seqlens_k` [B] says at which place the last new key of each row lies; places beyond it are
    padding. The result's cache has max(places of the past, total_sequence_length) places.
    """
    b = c.b
    for name in ("k_quant_type", "v_quant_type"):
        c.only(name, "NONE")
    c.only("sliding_window_cache", 0)
    c.only("qk_output", 0)
    c.ignore("kv_cache_bit_width", "qk_norm_epsilon", "q_norm_epsilon", "k_norm_epsilon")
    for i, what in [(12, "a quantised cache"), (14, "norms of queries"), (16, "query_seqlens")]:
        if c[i] is not None:
            raise c.unsupported(f"GroupQueryAttention with {what}")
    q, k, v = _grouped(c)
    batch, rows = q.shape[0], q.shape[2]
    (total,) = c.symbols(6, "total_sequence_length")
    places = total if c[3] is None else larger(c.x(3).shape[2], total)
    last = c.within(c.x(5), 0, places, "the place of a last key")
    last = last.cast(I64).reshape((batch, 1, 1, 1))
    # of a prompt, nothing is in the cache yet; otherwise all new keys are at the end
    before = last * 0 if total == rows else last + 1 - number(b, rows)
    if c.attr("do_rotary", 0):
        at = c[9]
        if at is None:
            at = b.emit("maximum", before.reshape((batch, 1)), b.scalar(0, I64))
            at = at + positions(b, rows, 1, rank=2)
        cos, sin = (angles(c, c.x(i), at) for i in (7, 8))
        interleaved = bool(c.attr("rotary_interleaved", 0))
        q, k = (rotated(t, cos, sin, interleaved=interleaved) for t in (q, k))
    k, v = (_cached(c, c[i], t, before, total) for i, t in [(3, k), (4, v)])
    return [_grouped_attention(c, q, k, v, before), k, v]


def _grouped(c: Call):
    """q [B,H,S,D], k and v [B,G,S,D]; all three may come in one tensor."""
    heads, groups = c.attr("num_heads"), c.attr("kv_num_heads")
    q, k, v = c.x(0), c[1], c[2]
    if k is None:
        each = q.shape[2] // (heads + 2 * groups)
        sizes = (heads * each, groups * each, groups * each)
        q, k, v = c.b.emit("split", q, axis=2, sizes=sizes)
    return heads_of(q, heads), heads_of(k, groups), heads_of(v, groups)


def _cached(c: Call, past, new, before, total):
    """present[t] = past[t] where t < before, new[t - before] where that exists, else 0."""
    b, (batch, groups, rows, width) = c.b, new.shape
    if past is None and total == rows:
        return new
    places = 0 if past is None else past.shape[2]
    size = larger(places, total)
    at = positions(b, size, 2)
    old = b.emit("less", at, before)
    if size == places:  # there is room in the past
        past = b.emit("where", old, past, b.scalar(0, new.dtype))
        return b.emit("cache_update", past, new, before.reshape((batch,)), axis=2)
    both = new if past is None else b.emit("concat", past, new, axis=2)
    moved = b.emit("where", old, at, at - before + number(b, places))
    inside = b.emit("less", at, before + number(b, rows))
    index = b.emit("where", inside, moved, b.scalar(0, I64))
    index = b.emit("expand", index, shape=(batch, groups, size, width))
    value = b.emit("gather_elements", both, index, axis=2)
    return b.emit("where", inside, value, b.scalar(0, new.dtype))


def _grouped_attention(c: Call, q, k, v, before):
    """softmax(q kᵀ · scale, capped, with bias, where a key is seen) v, as [B,S,H·D]."""
    b, (batch, heads, rows, width), keys = c.b, q.shape, k.shape[2]
    groups = k.shape[1]
    given = c.attr("scale", 0.0)
    scale = given if given else 1 / math.sqrt(width)
    window, causal = c.attr("local_window_size", -1), c.attr("causal", 1)
    cap, smooth = c.attr("softcap", 0.0), c.attr("smooth_softmax", -1)
    at, row = positions(b, keys, 3), positions(b, rows, 2) + before
    if causal:
        seen = b.emit("less_equal", at, row)
        if window > 0:
            seen = b.emit("and", seen, b.emit("greater", at, row - window))
    else:
        seen = b.emit("less", at, before + number(b, rows))
    mask = b.emit("where", seen, b.scalar(0, F32), b.scalar(NEVER, F32))
    if c[10] is not None:
        mask = b.emit("maximum", mask + _widened(wide(c.x(10)), keys), b.scalar(NEVER, F32))
    each = heads // groups
    q = wide(q).reshape((batch, groups, each, rows, width))
    k, v = (wide(t).reshape((batch, groups, 1, keys, width)) for t in (k, v))
    if mask.shape[1] == 1:
        mask = mask.reshape((mask.shape[0], 1, *mask.shape[1:]))
    else:
        mask = mask.reshape((mask.shape[0], groups, each, *mask.shape[2:]))
    if cap == 0 and smooth != 1 and c[11] is None:
        y = b.emit("attention", q, k, v, mask, scale=scale)
    else:
        scores = b.emit("matmul", q, k.transpose((0, 1, 2, 4, 3))) * scale
        if cap:
            scores = b.emit("tanh", scores * (1 / cap)) * cap
        sink = wide(c.x(11)).reshape((1, groups, each, 1, 1)) if c[11] is not None else None
        if sink is None and smooth == 1:
            sink = b.scalar(0, F32)
        y = b.emit("matmul", _softmax(b, scores + mask, sink), v)
    return merged(y.reshape((batch, heads, rows, width))).cast(c.x(0).dtype)


def _widened(bias, keys):
    """A bias of the first keys, 0 for the places of a larger cache, which nobody sees."""
    if bias.shape[-1] == keys:
        return bias
    return bias.b.emit("pad", bias, pads=(0,) * 7 + (keys - bias.shape[-1],))


def _softmax(b, scores, sink):
    """softmax along the last axis; a sink takes a share of its own, which nobody gets."""
    if sink is None:
        return b.emit("softmax", scores, axis=-1)
    top = b.emit("maximum", scores.max(-1, keepdims=True), sink)
    e = b.emit("exp", scores - top)
    return e / (e.sum(-1, keepdims=True) + b.emit("exp", sink - top))


TABLE = {
    "RotaryEmbedding": rotary_embedding,
    "MRotaryEmbedding": multimodal_rotary_embedding,
    "GroupQueryAttention": group_query_attention,
}
