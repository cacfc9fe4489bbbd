"""Attention, found again in its pieces:

    softmax(q @ kᵀ · scale + mask) @ v => attention(q, k, v, mask)

q, k, v are [B, H, S, D], [B, H, T, D], [B, H, T, E]. Exporters place the scale before or after
the product, on one or as a square root on both operands, and PyTorch guards against rows that
are masked completely:  where(isnan(p), 0, p)  with p = softmax(…). A row of p is NaN only if
its scores hold NaN or +inf, or are all -inf. With a mask of finite numbers that needs q or k
that are not finite themselves (or overflow), so there the guard is dropped; with any other mask
it is kept.

Scores that are filled,  where(hidden, low, scores)  with low ≤ -1e30, become a mask that is
added: scores + low is low, since a score would have to be beyond 1e22 to change it.

Heads of queries that share keys and values (grouped queries) have these repeated, by an expansion
and reshapes. Products broadcast them as well, with no copies:

    attention(q, repeat(k), repeat(v)) => attention(groups of q, k, v)      [B, G, R, S, D]
"""

import numpy as np

from ...classes import dataclass
from ...ir.builder import Tensor
from ...ir.dims import Sym
from ...ir.graph import Node, Value
from ...ir.types import normalize_axis
from ..engine import Rule, rule
from ..pattern import Either, Match, op, optional, splat, variables

q, k, v, mask, scores = variables("q k v mask scores")
SOFTMAX = op.softmax(scores)
REPEATED = op.reshape(op.expand(v))
GUARD = op.where(op.isnan(SOFTMAX), 0, SOFTMAX)


@dataclass(frozen=True)
class _Scores:
    """scores = scale · q @ kt + mask, or where(…) of that and a low number"""

    q: Value
    kt: Value
    mask: Value | None
    scale: float
    fill: Node | None


def _take_apart(m: Match) -> _Scores | str:
    """The pieces of the scores, or why they are none."""
    value: Value = m.scores.value
    between = [value]  # what only the attention may read
    mask, fill = None, _filling(value)
    if fill is not None:
        value = fill.inputs[2] if _is_low(fill.inputs[1]) else fill.inputs[1]
        between.append(value)
    if _made_by(value, "add"):
        a, b = value.node.inputs
        value, mask = (a, b) if _product_below(a) else (b, a)
        between.append(value)
    value, scale = _unscale(value)
    between.append(value)
    if not _made_by(value, "matmul"):
        return "the scores are not a product of q and kᵀ"
    for v in between:
        if m.readers(v) > 1:
            return f"the scores %{v.name} have other readers"
    (q, a), (kt, b) = map(_unscale, value.node.inputs)
    return _Scores(q, kt, mask, scale * a * b, fill)


def _filling(value: Value) -> Node | None:
    """The where(hidden, low, scores) or where(seen, scores, low) that makes a value."""
    if not _made_by(value, "where") or value.dtype.name not in ("f32", "f64"):
        return None
    low = [_is_low(v) for v in value.node.inputs[1:]]
    return value.node if low[0] != low[1] else None


def _is_low(value: Value) -> bool:
    held = splat(value)
    return held is not None and held <= -1e30


def _made_by(value: Value, name: str) -> bool:
    return value.node is not None and value.node.op.name == name


def _product_below(value: Value) -> bool:
    return _made_by(_unscale(value)[0], "matmul")


def _unscale(value: Value) -> tuple[Value, float]:
    """value = factor · rest, for factors that are one constant number."""
    factor = 1.0
    while value.node is not None:
        n: Node = value.node
        held = [splat(i) for i in n.inputs]
        at = 0 if len(held) == 2 and held[1] is not None else 1
        rest = n.inputs[at] if len(held) == 2 else None
        if n.op.name == "mul" and held[1 - at] is not None and rest.type == value.type:
            factor *= held[1 - at]
        elif n.op.name == "div" and held[1] is not None and rest.type == value.type:
            factor /= held[1]
        else:
            break
        value = rest
    return value, factor


def is_finite(value: Value) -> bool:
    """Can this value hold finite numbers only, whatever the inputs are?"""
    n = value.node
    if n is None:
        return value.dtype.kind in "biu"
    if value.constant is not None:
        return bool(np.all(np.isfinite(value.constant.astype(np.float64))))
    if not value.dtype.is_float:
        return True
    match n.op.name:
        case "where":
            return all(map(is_finite, n.inputs[1:]))
        case "cast":
            return n.inputs[0].dtype.kind == "b" or (
                n.inputs[0].dtype.is_int and value.dtype.name != "f16"
            )
        case "reshape" | "expand" | "transpose" | "slice" | "gather" | "concat" | "neg":
            return all(is_finite(i) for i in n.inputs if i.dtype.is_float)
        case "sub" | "mul":
            # (1 - mask) · -10000 with an int mask: finite as long as it is far from overflow
            return all(map(is_finite, n.inputs)) and value.dtype.name in ("f32", "f64")
    return False


def _check(m: Match) -> str | None:
    s = _take_apart(m)
    if isinstance(s, str):
        return s
    if normalize_axis(_softmax(m).attrs["axis"], m.scores.rank) != m.scores.rank - 1:
        return "the softmax is not over the last axis"
    ranks = {s.q.rank, s.kt.rank, m.v.rank, m.scores.rank}
    if ranks - {3, 4} or len(ranks) > 1:
        return "q, k and v are not all of rank 3 or 4"
    if not s.q.shape[:-2] == s.kt.shape[:-2] == m.v.shape[:-2]:
        return "q, k and v have different batches or heads"
    masks = [s.mask] if s.fill is None else [s.mask, *filter(_is_low, s.fill.inputs[1:])]
    if _guarded(m) and not all(v is None or is_finite(v) for v in masks):
        return "the guard against NaN stays: the mask may hold -inf"
    return None


def _softmax(m: Match) -> Node:
    return next(n for n in m.nodes if n.op.name == "softmax")


def _guarded(m: Match) -> bool:
    return any(n.op.name == "isnan" for n in m.nodes)


def _rewrite(b, m: Match):
    s = _take_apart(m)
    q, kt, mask = (None if i is None else Tensor(b, i) for i in (s.q, s.kt, s.mask))
    if s.fill is not None:
        base = b.scalar(0, q.dtype) if mask is None else mask
        mask = b.where(s.fill.inputs[0], *(v if _is_low(v) else base for v in s.fill.inputs[1:]))
    k = kt.transpose(*range(kt.rank - 2), kt.rank - 1, kt.rank - 2)
    value = m.v
    if q.rank == 3:
        q, k, value = (i.reshape(i.shape[0], 1, *i.shape[1:]) for i in (q, k, value))
        if mask is not None and mask.rank == 3:
            mask = mask.reshape(mask.shape[0], 1, *mask.shape[1:])
    causal = mask is not None and _is_causal(mask.constant)
    out = b.attention(q, k, value, None if causal else mask, scale=s.scale, is_causal=causal)
    return out.reshape(m.root.outputs[0].shape)


def _is_causal(mask: np.ndarray | None) -> bool:
    """0 on and below the diagonal, above it what no finite score survives."""
    if mask is None or mask.ndim < 2 or mask.shape[-1] != mask.shape[-2]:
        return False
    if mask.dtype not in (np.float32, np.float64) or mask.size != mask.shape[-1] ** 2:
        return False
    square = mask.reshape(mask.shape[-2:])
    below = np.tri(len(square), dtype=bool)
    return bool(np.all(square[below] == 0) and np.all(square[~below] <= -1e38))


# -- heads that share keys -----------------------------------------------------------------


def _repeated(value: Value) -> Value | None:
    """The [B, G, 1, T, D] of which a value [B, G·R, T, D] has each head R times."""
    here, turned = value, False
    while here.node is not None and here.node.op.name in ("reshape", "transpose"):
        (below,) = here.node.inputs
        if here.node.op.name == "transpose":
            order = here.node.attrs["perm"]
            if tuple(order) != (*range(here.rank - 2), here.rank - 1, here.rank - 2):
                return None
            turned = not turned
        elif here.shape[-2:] != below.shape[-2:]:
            return None
        here = below
    if turned or not _made_by(here, "expand"):
        return None
    (heads,) = here.node.inputs
    if heads.rank != 5 or here.rank != 5 or heads.shape[2] != 1 or value.rank != 4:
        return None
    lead, (batch, groups, repeats) = value.shape[:2], here.shape[:3]
    if isinstance(groups, Sym) or isinstance(repeats, Sym) or repeats == 1:
        return None
    whole = heads.shape[:2] == here.shape[:2] and lead == (batch, groups * repeats)
    return heads if whole and heads.shape[3:] == here.shape[3:] else None


def _check_groups(m: Match) -> str | None:
    keys, values = _repeated(m.k.value), _repeated(m[REPEATED].output)
    if keys is None or values is None or keys.shape[:2] != values.shape[:2]:
        return "keys and values are not heads that are repeated alike"
    if m.q.shape[:2] != m.k.shape[:2]:
        return "queries have other batches or heads than keys"
    return None


def _in_groups(b, m: Match):
    keys, values = (Tensor(b, _repeated(i)) for i in (m.k.value, m[REPEATED].output))
    groups = keys.shape[1]
    repeats = m.q.shape[1] // groups
    apart = lambda t: t.reshape(*t.shape[:-3], groups, repeats, *t.shape[-2:])
    mask = m.mask
    if mask is not None and mask.rank > 2:
        one = mask.shape[-3] == 1
        mask = mask.reshape(*mask.shape[:-3], 1, 1, *mask.shape[-2:]) if one else apart(mask)
    out = b.attention(apart(m.q), keys, values, mask, **m.root.attrs)
    return out.reshape(m.root.outputs[0].shape)


ATTENTION: tuple[Rule, ...] = (
    rule(
        "softmax(q @ kᵀ · scale + mask) @ v => attention(q, k, v, mask)",
        Either(SOFTMAX @ v, GUARD @ v),
        _rewrite,
        _check,
    ),
    rule(
        "attention(q, repeat(k), repeat(v)) => attention(groups of q, k, v)",
        op.attention(q, k, REPEATED, optional(mask)),
        _in_groups,
        _check_groups,
    ),
)
