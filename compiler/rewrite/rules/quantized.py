"""Quantize and dequantize nodes around an operator, as quantizers write them, become integers.

    conv(dq(x, s, z), dq(w, t, u), b) => conv_integer(x, w, z, u) · s·t + b
    dq(x, s, z) @ dq(w, t, u)         => matmul_integer(x, w, z, u) · s·t
    f(dq(x, s, z))                    => dq(f(x), s, z)                f moves or chooses elements
    q(dq(x, s, z), s, z)              => x
    q(relu(x), s, z)                  => q(x, s, z)                    z is the least number
    fake_quantize(x, s, z)            => dq(q(x, s, z), s, z)

dq(x, s, z) = (x - z)·s, q(x, s, z) = saturate(round(x / s) + z) (ONNX, DequantizeLinear and
QuantizeLinear). What follows a product runs in its epilogue, so that bytes lie in memory between
two of them. Sums of products of bytes are exact where f32's are rounded.
"""

from math import prod

import numpy as np

from ...ir.builder import Builder, Tensor
from ...ir.types import F32, I8, U8, normalize_axis
from ..engine import Rule, rule
from ..pattern import Either, Match, OpPattern, constants, node, op, optional, variables
from .conv import product_and_sum

x, y, w, b = variables("x y w b")
s, t = constants("s t")
z, u = optional(constants("z")[0]), optional(constants("u")[0])
low, high = constants("low high")
BYTES = (I8, U8)

DX = op.dequantize_linear(x, s, z)
DW = op.dequantize_linear(w, t, u)


def _is_one(v: Tensor | None) -> bool:
    """Whether a scale or a zero point is one number (or absent)."""
    return v is None or prod(v.shape) == 1


def _fits_bytes(v: Tensor) -> bool:
    """Whether it is made of integers of 8 bits or less."""
    return v.dtype.is_int and v.dtype.bits <= 8


def _as_bytes(v: Tensor | None) -> Tensor | None:
    """Integers of fewer bits as bytes, which hold the same numbers."""
    return None if v is None else v.cast(U8 if v.dtype.kind == "u" else I8)


def _one(v: Tensor | None) -> Tensor | None:
    return None if v is None else v.reshape(())


def _nonzero(zero: Tensor | None) -> Tensor | None:
    """A zero point, if it is to be subtracted."""
    return None if zero is None or (zero.constant is not None and not zero.constant.any()) else zero


def _not_bytes(m: Match) -> str | None:
    """Why the factors are no bytes that products sum in i32, if they aren't."""
    if not (_fits_bytes(m.x) and _fits_bytes(m.w)):
        return f"products of {m.x.dtype} and {m.w.dtype} are no bytes"
    if m[DX].attrs["dtype"] != F32 or m[DW].attrs["dtype"] != F32:
        return "it is not computed in f32"
    return None if _is_one(m.s) and _is_one(m.z) else "the data has a scale per channel"


# -- convolutions ---------------------------------------------------------------------------

CONV = op.conv(DX, DW, optional(b))


def _weights_by_output(m: Match) -> str | None:
    """Scales of weights: one number, or one per output channel."""
    reason = _not_bytes(m)
    if reason is not None:
        return reason
    axis = m.w.rank - 1 if m.attr("channels_last") else 0
    if _is_one(m.t):
        return None if _is_one(m.u) else "zero points vary where scales do not"
    if m.t.rank != 1 or normalize_axis(m[DW].attrs["axis"], m.w.rank) != axis:
        return "the weights have scales along another axis than the output channels"
    return None


def _conv_integer(b: Builder, m: Match) -> Tensor:
    zeros = _one(m.z), _nonzero(_one(m.u) if _is_one(m.t) else m.u)
    total = b.conv_integer(*map(_as_bytes, (m.x, m.w, *zeros)), **m.root.attrs)
    last = m.attr("channels_last")
    along = lambda v: v if last or v.rank == 0 else v.reshape(-1, *[1] * (total.rank - 2))
    factor = m.s.reshape(()) * (_one(m.t) if _is_one(m.t) else m.t)
    y = total.cast(F32) * along(factor)
    return y if m.b is None else y + along(m.b)


# -- matrix products ------------------------------------------------------------------------

PRODUCT = DX @ DW


def _weights_by_column(m: Match) -> str | None:
    reason = _not_bytes(m)
    if reason is not None:
        return reason
    if m.x.rank < 2 or m.w.rank < 2:
        return "a factor is a vector"
    if _is_one(m.t):
        return None if _is_one(m.u) else "zero points vary where scales do not"
    if m.t.rank != 1 or m.w.rank != 2 or normalize_axis(m[DW].attrs["axis"], 2) != 1:
        return "the weights have scales along another axis than the columns"
    return None


def _matmul_integer(b: Builder, m: Match) -> Tensor:
    by_column = not _is_one(m.t)
    zeros = _one(m.z), _nonzero(m.u if by_column else _one(m.u))
    total = b.matmul_integer(*map(_as_bytes, (m.x, m.w, *zeros)))
    return total.cast(F32) * (m.s.reshape(()) * (m.t if by_column else _one(m.t)))


PARTS = op.gemm(DX, DW, optional(b))


# -- what only moves or chooses elements ------------------------------------------------------

MOVES = ("reshape", "slice", "expand", "split", "depth_to_space", "space_to_depth")


def _moved(name: str) -> OpPattern:
    return OpPattern(name, (DX,))


def _keeps_one_scale(m: Match) -> str | None:
    if not (_is_one(m.s) and _is_one(m.z)):
        return "there is a scale per channel"
    return None


def _dequantized(b: Builder, m: Match, values, dq: OpPattern = DX):
    """The results again as what they stand for."""
    several = isinstance(values, (list, tuple))
    attrs = m[dq].attrs | {"axis": 0}
    found = [
        b.dequantize_linear(v, _one(m.s), _one(m.z), **attrs)
        for v in (values if several else [values])
    ]
    return found if several else found[0]


def _move(b: Builder, m: Match):
    return _dequantized(b, m, b.emit(m.root.op.name, m.x, **m.root.attrs))


TURNED = op.transpose(DX)


def _turn(b: Builder, m: Match) -> Tensor:
    """Scales of an axis go with it."""
    perm, attrs = m.attr("perm"), dict(m[DX].attrs)
    attrs["axis"] = perm.index(normalize_axis(attrs["axis"], m.x.rank)) if m.x.rank else 0
    return b.dequantize_linear(m.x.transpose(*perm), m.s, m.z, **attrs)


def _has_axis(m: Match) -> str | None:
    return "there is a scale per element" if m.s.rank > 1 else None


POOL = op.max_pool(DX)
GATHERED = op.gather(DX, y)


def _is_ordered(m: Match) -> str | None:
    """A larger number stands for a larger one."""
    reason = _keeps_one_scale(m)
    if reason is not None:
        return reason
    return None if float(m.s.constant.reshape(())) > 0 else "the scale is not positive"


def _gather(b: Builder, m: Match):
    return _dequantized(b, m, b.emit("gather", m.x, m.y, **m.root.attrs))


JOINED = node("concat")


def _joins_one_scale(m: Match) -> bool:
    """Whether all parts of a concatenation are quantized alike."""
    parts = [v.node for v in m.root.inputs]
    if any(p is None or p.op.name != "dequantize_linear" for p in parts):
        return False
    return all(_alike(p, parts[0]) for p in parts) and _has_one_scale(parts[0])


def _alike(p, q) -> bool:
    """Whether two nodes quantize or dequantize with the same constants."""
    if p.inputs[0].dtype != q.inputs[0].dtype or p.attrs["dtype"] != q.attrs["dtype"]:
        return False
    return _same_parameters(p, q)


def _same_parameters(p, q) -> bool:
    a, b = ([None if v is None else v.constant for v in n.inputs[1:]] for n in (p, q))
    if p.inputs[1].constant is None or q.inputs[1].constant is None:
        return False
    return np.array_equal(a[0], b[0]) and np.array_equal(_zero(p), _zero(q))


def _zero(n) -> np.ndarray:
    """The zero points of a node, where they are known; NaN, which equals nothing, where not."""
    if len(n.inputs) < 3 or n.inputs[2] is None:
        return np.zeros(n.inputs[1].constant.shape)
    constant = n.inputs[2].constant
    return np.array(np.nan) if constant is None else constant


def _has_one_scale(n) -> bool:
    return all(prod(v.shape) == 1 for v in n.inputs[1:] if v is not None)


def _join(b: Builder, m: Match):
    parts = [b.tensor(v.node.inputs[0]) for v in m.root.inputs]
    scale, *zero = (b.tensor(v).reshape(()) for v in m.root.inputs[0].node.inputs[1:] if v)
    joined = b.concat(*parts, **m.root.attrs)
    attrs = m.root.inputs[0].node.attrs | {"axis": 0}
    return b.dequantize_linear(joined, scale, *zero, **attrs)


# -- what is quantized ------------------------------------------------------------------------

AGAIN = op.quantize_linear(DX, t, u)


def _is_the_same(m: Match) -> bool:
    dq, q = m[DX], m.root
    if dq.attrs["dtype"] != F32 or q.attrs["dtype"] != m.x.dtype or m.x.dtype not in BYTES:
        return False
    return _same_parameters(dq, q) and (_is_one(m.s) or dq.attrs["axis"] == q.attrs["axis"])


CUT = Either(op.relu(x), op.clip(x, low), op.clip(x, low, high))
QUANTIZED = op.quantize_linear(CUT, s, z)


def _saturates_alike(m: Match) -> str | None:
    """Whether the quantized type ends where the activation cuts, so that saturating is enough."""
    cut, dtype = m.root.inputs[0].node, m.attr("dtype")
    if not dtype.is_int or dtype.bits < 8 or not (_is_one(m.s) and _is_one(m.z)):
        return "it is not quantized to integers of 8 bits or more with one scale"
    if m.attr("precision") is not None or m.s.dtype != F32:
        return "its quotients are not computed in f32"
    scale = float(m.s.constant.reshape(()))
    zero = 0 if m.z is None else int(m.z.constant.reshape(()))
    least, most = np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max
    ends = [(0.0, least)] if cut.op.name == "relu" else _ends(m, least, most)
    if scale <= 0 or ends is None:
        return "its limits are not known"
    for value, limit in ends:
        reached = np.rint(np.float32(value) / np.float32(scale)) + zero
        if reached > limit if limit == least else reached < limit:
            return f"{value:g} is not where {dtype} ends"
    return None


def _ends(m: Match, least, most):
    """(what is cut at, the limit of the type that it should be) of a clip."""
    ends = []
    for name, limit in (("low", least), ("high", most)):
        if name in m and getattr(m, name) is not None:
            constant = getattr(m, name).constant
            if constant.size != 1:
                return None
            ends.append((float(constant.reshape(())), limit))
    return ends


def _uncut(b: Builder, m: Match):
    return b.quantize_linear(m.x, m.s, m.z, **m.root.attrs)


FAKE = node("fake_quantize")


def _told_apart(b: Builder, m: Match):
    """What is trained is what a quantized model is compiled from."""
    return m.root.op.loops.rule(b, *map(b.tensor, m.root.inputs), **m.root.attrs)


TOLD_APART: tuple[Rule, ...] = (rule("fake_quantize(x) => dq(q(x))", FAKE, _told_apart),)

MOVING: tuple[Rule, ...] = (
    rule("transpose(dq(x)) => dq(transpose(x))", TURNED, _turn, _has_axis, shared=True),
    *(
        rule(
            f"{name}(dq(x, s, z)) => dq({name}(x), s, z)",
            _moved(name),
            _move,
            _keeps_one_scale,
            shared=True,
        )
        for name in MOVES
    ),
    rule("max_pool(dq(x, s, z)) => dq(max_pool(x), s, z)", POOL, _move, _is_ordered, shared=True),
    rule(
        "gather(dq(x, s, z), i) => dq(gather(x, i), s, z)",
        GATHERED,
        _gather,
        _keeps_one_scale,
        shared=True,
    ),
)

# Ops that work on bytes as on the floats that they stand for.
WORKS_ON_BYTES = frozenset(name for r in MOVING for name in r.roots)
ROUNDS = frozenset([DX.name, AGAIN.name])  # to numbers of few bits, and back

INTEGERS: tuple[Rule, ...] = (
    rule("q(dq(x, s, z), s, z) => x", AGAIN, lambda b, m: m.x, where=_is_the_same, shared=True),
    rule(
        "conv(dq(x, s, z), dq(w, t, u), b) => conv_integer(x, w, z, u)·s·t + b",
        CONV,
        _conv_integer,
        _weights_by_output,
        shared=True,
    ),
    rule(
        "dq(x, s, z) @ dq(w, t, u) => matmul_integer(x, w, z, u)·s·t",
        PRODUCT,
        _matmul_integer,
        _weights_by_column,
        shared=True,
    ),
    rule("gemm(dq(x), dq(w), b) => dq(x) @ dq(w) + b", PARTS, product_and_sum, shared=True),
    *MOVING,
    rule(
        "concat(dq(x, s, z), dq(y, s, z)) => dq(concat(x, y), s, z)",
        JOINED,
        _join,
        where=_joins_one_scale,
        shared=True,
    ),
    rule("q(relu(x), s, least) => q(x, s, least)", QUANTIZED, _uncut, _saturates_alike),
)
