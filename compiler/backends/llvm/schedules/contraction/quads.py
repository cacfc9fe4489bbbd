"""Bytes that are multiplied as they lie in memory, four steps of k by one load.

    for quad of four bytes of a row:  x = the quad in all lanes
      dots     sum += x · w                              vpdpbusd
      pairs    sum += ones · (x · w, added in pairs)     vpmaddubsw, vpmaddwd

`vpmaddubsw` adds two products in 16 bits, where u0·w0 + u1·w1 of unsigned bytes u fits if and only
if |w0 + w1| <= 128, or the signs of w0 and w1 differ (then |w0 + w1| < 128, too). Weights are known
while compiling, and the order in which integers are summed is free. So the quads of a panel are
sorted, by what all its columns allow (`quad_pack.py`):

    0   w0 with w1, w2 with w3: bytes of x as they lie
    1   other pairs of eight bytes that follow each other: these are broadcast and shuffled
    2   otherwise bytes of x are widened: those at even places, and those at odd ones, are pairs of
        16 bits for vpmaddwd

Nothing ever saturates. A table before each panel says where the quads lie in a row:

    [end of each of the three classes, 0 …] [sum of each column's weights]
    [offset of each quad, or of its eight bytes] [which of these it takes, four bytes]

Signed bytes of A are taken 128 higher. What that adds, and zero points, is the sum of a column's
weights times a number, from which its sums begin.
"""

from dataclasses import replace
from itertools import product
from math import ceil, erfc, log, sqrt

from .....expr import expr as s
from .....expr.expr import Expr
from .....ir.dims import Sym
from .....ir.types import I8, I32, U8
from .....kernels.contraction import Contraction
from .....kernels.machine import Machine
from .....kernels.tiling import Tile, int_bounds, linear_load
from ...emit.byte_products import way_of_dots
from .choose import APART
from .tiling import Quads, Tiling, merged

QUAD = 4  # bytes of a lane
FAR = 1 << 30
GROUP = 8  # bytes that are paired with each other
ENDS = 16  # numbers before the columns' sums
MATCHINGS = 50  # ways to pair a group's bytes, as far as they are independent
ENOUGH = 0.6  # share of quads that fit, with which pairs are worth what the others cost more
DEPTH = 192  # products of a sum from which quads of pairs pay, most of which then fit


def bytes_factor(c: Contraction) -> tuple[Expr, Expr | None] | None:
    """(the load of A's bytes, its zero point) if A is bytes, less a number that is the same for
    all of it or none."""
    a, zero = c.a, None
    if a.op == "sub" or (a.op == "add" and a.args[1].op == "const"):
        a, zero = a.args
        if c.a.op == "add":
            zero = s.const(-zero.data, I32)
    if a.op != "cast" or a.args[0].op != "load" or a.args[0].dtype not in (U8, I8):
        return None
    if zero is not None and (zero.free or zero.dtype != I32):
        return None
    return (a.args[0], zero) if linear_load(a.args[0]) is not None else None


def runs_of(c: Contraction) -> tuple[int, list[int]] | None:
    """(length, where each begins) of the runs of bytes along k, in the order of k; None where A
    has none of a group's length."""
    factor = bytes_factor(c)
    if factor is None:
        return None
    strides, _ = linear_load(factor[0])
    if any(isinstance(n, Sym) for a in c.k for n in (a.extent, strides.get(a, 0))):
        return None
    loops = merged(c.k, strides)
    if not loops or loops[-1][1] != 1 or loops[-1][0] < GROUP:
        return None
    *outer, (length, _) = loops
    places = product(*(range(0, n * step, step) if step else [0] * n for n, step in outer))
    return length, [sum(p) for p in places]


def with_quads(plan: Tiling, target: Machine) -> Tiling:
    """The plan of pairs of 16 bits, or one that reads bytes where that pays."""
    c = plan.contraction
    way = way_of_dots(target, plan.lanes, 8)
    low, high = int_bounds(c.b) or (-FAR, FAR)
    if not plan.pairs or way == "bytes" or low < -128 or high > 127:
        return plan
    runs = runs_of(c)
    if runs is None or (way == "pairs" and plan.depth < DEPTH):
        return plan
    length, starts = runs
    signed = bytes_factor(c)[0].dtype == I8
    quads = Quads(way, signed, len(starts) * ceil(length / QUAD))
    rows = 1 if plan.m is None else plan.m.extent
    tile = _tile(rows, plan.n.extent, plan.depth, plan.lanes, way, target)
    found = replace(
        plan, tile=tile, quads=quads, pairs=False, a="direct", b="constant", l1_budget=0, group=1
    )
    each = tile.rows * plan.depth
    most = max(1, target.l2 * 3 // 8 // each)
    return replace(found, group=ceil(found.tiles / ceil(found.tiles / most)))


def _tile(rows: int, n: int, depth: int, lanes: int, way: str, target: Machine) -> Tile:
    """The tile that takes the least cycles. Wide panels have fewer quads that fit."""
    shapes = [(r, v) for r in range(1, min(rows, APART) + 1) for v in range(1, 5)]
    others = 4 if way == "pairs" else 1
    shapes = [(r, v) for r, v in shapes if r * v + v + others <= target.registers]

    def cycles(shape: tuple[int, int]) -> float:
        r, v = shape
        return ceil(rows / r) * ceil(n / (v * lanes)) * (quad_cycles(r, v, depth, lanes, way) + 1)

    return Tile(*min(shapes, key=cycles))


def quad_cycles(rows: int, vectors: int, depth: int, lanes: int, way: str) -> float:
    """Cycles of a quad of k for a tile, most of whose slots are taken: four in a cycle."""
    products, others = rows * vectors, 2 * (rows + vectors)
    if way == "dots":
        return max(products / 2, (products + others) / QUAD, 4.0)
    good = share_that_fits(depth, vectors * lanes)
    fits = max(1.0 * products, (3 * products + others + rows) / QUAD, 5.0)
    widened = max(2.0 * products, (4 * products + 2 * others + 2 * rows) / QUAD)
    return good * fits + (1 - good) * widened


def share_that_fits(depth: int, columns: int) -> float:
    """The share of a panel's quads of which no pair can overflow in 16 bits, expected of normal
    weights whose largest one of a column is 127: an estimate, on which no result depends."""
    largest = sqrt(2 * log(max(depth, 4))) - 0.34  # in standard deviations
    alike = (1 - erfc(largest / 2)) ** columns  # of a pair
    return 1 - (1 - alike**4) ** MATCHINGS
