"""Contractions through `tl.dot`: which ones, in which type, and their text.

The type that the tensor cores multiply in follows from the factors:

    float16, bfloat16   both factors are that type, widened for the sum: the sum stays in f32
    float32             with `precision`: ieee (exact products), tf32x3 (nearly), tf32 (10 bits)
    int8                both factors are int8 widened to int32
    small               whole numbers up to 2048 in magnitude, as int8 less a zero point is: their
                        products are exact in f16 x f16 + f32, and so are sums up to 2^24, after
                        which they are added to an int32 accumulator

Weights by blocks are a sum over blocks of factors times a block's sum. The block's is such a
contraction, and what it is multiplied by is applied to the tile: codes are unpacked on their way
into the factor, and lie in memory as they are packed.
"""

import math

from ...classes import dataclass
from ...expr import expr as s
from ...expr.expr import Expr
from ...ir.types import BF16, F16, F32, I8, I32
from ...kernels.contraction import Contraction, find_block_contraction, find_contraction
from ...kernels.kernel import Kernel
from .primitives import Val, literal
from .tile import NONE
from .values import TileEmitter

LEAST = 16  # a tensor core's smallest tile; below it the products are summed by lanes


@dataclass(frozen=True)
class Dot(Contraction):
    """A contraction with its factors as the tensor cores take them. `total` is the sum of its
    blocks' sums, where it has blocks."""

    kind: str
    precision: str
    total: Expr | None = None


def find_dot(kernel: Kernel, precision: str) -> Dot | None:
    """The contraction that a kernel is, if tensor cores or their tiles serve it."""
    c, total = find_contraction(kernel), None
    if c is None:
        c = find_block_contraction(kernel)
        if c is None:
            return None
        (total,) = (e for e in s.walk(*kernel.roots()) if e.op == "reduce" and e is not c.reduce)
        if total.dtype != F32:
            return None
    sizes = [math.prod(a.extent for a in axes) for axes in (c.m, c.n, c.k)]
    if min(sizes[:2]) < 2 or sizes[2] < LEAST:
        return None
    kind, a, b = _kind(c)
    if kind is None:
        return None
    return Dot(c.reduce, a, b, c.batch, c.m, c.n, c.k, kind, precision, total)


def _kind(c) -> tuple[str | None, Expr, Expr]:
    a, b = _narrow(c.a), _narrow(c.b)
    if c.reduce.dtype == F32:
        if a.dtype == b.dtype and a.dtype in (F16, BF16):
            return ("float16" if a.dtype == F16 else "bfloat16"), a, b
        return "float32", c.a, c.b
    if c.reduce.dtype == I32:
        if a.dtype == b.dtype == I8:
            return "int8", a, b
        largest = _magnitude(c.a) * _magnitude(c.b)
        if max(_magnitude(c.a), _magnitude(c.b)) <= 2048 and largest * 64 <= 2**24:
            return "small", c.a, c.b
    return None, a, b


def _narrow(e: Expr) -> Expr:
    return e.args[0] if e.op == "cast" else e


def _magnitude(e: Expr) -> float:
    """The largest magnitude that an integer expression can take."""
    low, high = _range(e)
    return max(abs(low), abs(high))


def _range(e: Expr) -> tuple[float, float]:
    match e.op:
        case "const":
            return e.data, e.data
        case "cast" if e.args[0].dtype.is_int:
            return _range(e.args[0])
        case "sub":
            (a, b), (c, d) = map(_range, e.args)
            return a - d, b - c
        case "bitand" if e.args[1].op == "const" and e.args[1].data >= 0:
            return 0, e.args[1].data
        case "add":
            (a, b), (c, d) = map(_range, e.args)
            return a + c, b + d
        case "select":
            (a, b), (c, d) = map(_range, e.args[1:])
            return min(a, c), max(b, d)
    if e.dtype.is_int and e.dtype.bits <= 8:
        return (0, 255) if e.dtype.kind == "u" else (-128, 127)
    return -math.inf, math.inf


def emit_dot(t: TileEmitter, kernel: Kernel, dot: Dot, blocks: tuple[int, int, int], group: int):
    """Write the body of a contraction's program."""
    m, n, k = (math.prod(a.extent for a in axes) for axes in (dot.m, dot.n, dot.k))
    bm, bn, _ = blocks
    tiles_m, tiles_n = -(-m // bm), -(-n // bn)
    _program_order(t, dot, tiles_m, tiles_n, group)
    rows = _range_of(t, "row", bm, m)
    columns = _range_of(t, "column", bn, n)
    sums, type = ("acc", _types(dot)[1]) if dot.total is None else ("total", "float32")
    t.line(f"{sums} = tl.zeros([{bm}, {bn}], tl.{type})")
    t.blocks = (bm, bn)
    bound = lambda axes, val, dim: t.bind(axes, _along(t, val, dim))
    bound(dot.m, rows, 0)
    bound(dot.n, columns, 1)
    if dot.total is None:
        t.set_value(dot.reduce, _products(t, dot, blocks, k))
    else:
        _blocks(t, dot, blocks, k)
    for store in kernel.stores:
        t.store(store, frozenset([0, 1]))
    return tiles_m * tiles_n * math.prod(a.extent for a in dot.batch)


def _blocks(t: TileEmitter, dot: Dot, blocks: tuple[int, int, int], k: int) -> None:
    """The sum over blocks of a block's sum, times factors."""
    assert dot.total is not None
    bm, bn, _ = blocks
    axes = dot.total.data[1]
    total = Val("total", frozenset([0, 1]), "float32")
    with t.block(f"for block in range({math.prod(a.extent for a in axes)}):"):
        t.bind(axes, t.let("tl.cast(block, tl.int32)", NONE, "int32", "i"))
        t.line(f"acc = tl.zeros([{bm}, {bn}], tl.{_types(dot)[1]})")
        t.set_value(dot.reduce, _products(t, dot, blocks, k))
        t.line(f"total += {t.value(dot.total.args[0]).text}")
    t.set_value(dot.total, total)


def _products(t: TileEmitter, dot: Dot, blocks: tuple[int, int, int], k: int) -> Val:
    """The tile `acc` and the sum over k."""
    bm, bn, bk = blocks
    kind, wide = _types(dot)
    outer_masks = dict(t.masks)
    t.hoist([dot.a, dot.b], dot.k)
    with t.block(f"for k0 in range(0, {k}, {bk}):"):
        inner = t.let(f"k0 + tl.arange(0, {bk})", {0}, "int32", "i")
        inside = None if k % bk == 0 else t.let(f"{inner.text} < {k}", {0}, "int1", "m")
        a = _factor(t, dot.a, dot.k, inner, inside, 1, (bm, bk), kind)
        b = _factor(t, dot.b, dot.k, inner, inside, 0, (bk, bn), kind)
        t.line(f"acc = {_multiply(dot, a, b)}")
    t.masks, t.blocks = outer_masks, (bm, bn)
    return Val("acc", frozenset([0, 1]), wide)


def _program_order(t: TileEmitter, dot: Dot, tiles_m: int, tiles_n: int, group: int) -> None:
    """`row_tile` and `column_tile`, tiles of neighbouring programs sharing factors in the cache."""
    t.line("tile = tl.program_id(0)")
    if dot.batch:
        t.bind(dot.batch, t.let(f"tile // {tiles_m * tiles_n}", NONE, "int32", "batch"))
        t.line(f"tile = tile % {tiles_m * tiles_n}")
    if min(tiles_m, tiles_n) == 1:
        t.line(f"row_tile = tile // {tiles_n}")
        t.line(f"column_tile = tile % {tiles_n}")
        return
    group = min(group, tiles_m)
    t.line(f"first = tile // {group * tiles_n} * {group}")
    t.line(f"height = tl.minimum({tiles_m} - first, {group})")
    t.line(f"row_tile = first + tile % {group * tiles_n} % height")
    t.line(f"column_tile = tile % {group * tiles_n} // height")


def _range_of(t: TileEmitter, name: str, block: int, total: int) -> Val:
    t.line(f"{name} = {name}_tile * {block} + tl.arange(0, {block})")
    dim = 0 if name == "row" else 1
    if total % block:
        at = "[:, None]" if dim == 0 else "[None, :]"
        t.masks[dim] = t.let(f"{name}{at} < {total}", {dim}, "int1", "m")
    return Val(name, frozenset([dim]), "int32")


def _along(t: TileEmitter, val: Val, dim: int) -> Val:
    return t.let(f"{val.text}{'[:, None]' if dim == 0 else '[None, :]'}", {dim}, val.type, "i")


def _types(dot: Dot) -> tuple[str, str]:
    """The type of the factors and of the sum."""
    if dot.kind == "small":
        return "float16", "int32"
    return dot.kind, "int32" if dot.kind == "int8" else "float32"


def _factor(t, e: Expr, k, inner: Val, inside: Val | None, dim: int, shape, kind: str) -> str:
    """A factor as a full tile in the type `kind`, 0 where k runs past its end."""
    with t.scope():
        t.blocks = shape
        t.bind(k, _along(t, inner, dim))
        t.masks[dim] = None if inside is None else _along_mask(t, inside, dim)
        val = t.tensor(t.value(e))
        if inside is not None and e.op != "load":
            text = f"tl.where({t.masks[dim].text}, {val.text}, {literal(0, val.type)})"
            val = t.let(text, val.dims | {dim}, val.type)
        if val.dims != {0, 1}:
            text = f"tl.broadcast_to({val.text}, [{shape[0]}, {shape[1]}])"
            val = t.let(text, {0, 1}, val.type)
        if val.type != kind:
            val = t.let(f"{val.text}.to(tl.{kind})", val.dims, kind)
    return val.text


def _along_mask(t: TileEmitter, inside: Val, dim: int) -> Val:
    return t.let(f"{inside.text}{'[:, None]' if dim == 0 else '[None, :]'}", {dim}, "int1", "m")


def _multiply(dot: Dot, a: str, b: str) -> str:
    if dot.kind == "small":
        return f"acc + tl.dot({a}, {b}).to(tl.int32)"
    if dot.kind == "int8":
        return f"tl.dot({a}, {b}, acc, out_dtype=tl.int32)"
    precision = f', input_precision="{dot.precision}"' if dot.kind == "float32" else ""
    return f"tl.dot({a}, {b}, acc{precision})"
