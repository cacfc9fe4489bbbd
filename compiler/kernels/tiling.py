"""Schedules as data: how the loops of a contraction are tiled, and which axis to vectorise."""

from collections.abc import Sequence
from math import ceil

from ..classes import dataclass
from ..expr import expr as s
from ..expr.expr import Axis, Expr
from ..ir.dims import Sym

LOAD_CYCLES = 0.9  # of a load, where a multiply-add cannot do it by itself
FURTHEST = 4  # elements between lanes up to which whole vectors and shuffles are less than a gather
SHUFFLED = 1.5  # memory operations' worth of a vector that is loaded and shuffled into place


@dataclass(frozen=True)
class Tile:
    """A register tile of `rows` x (`vectors` vectors).

    Where the lines of the inner m axis are shorter than a tile should be (small images), its rows
    are `spread` > 1 whole lines, or, `flat`, go on in the next line wherever one ends.
    """

    rows: int
    vectors: int
    spread: int = 1
    flat: bool = False


def step_cycles(
    rows: int,
    vectors: int,
    *,
    streamed: float = 0.0,
    embedded: bool = False,
    apart: bool = False,
) -> float:
    """Estimated cycles of a step of k for a tile of `rows` x `vectors`.

    rows*vectors multiply-adds on two ports, at least the latency of one (4 cycles), and a slot of
    the pipeline for each instruction: the multiply-adds, a load and a prefetch per vector of B, and
    a broadcast per row. Three slots a cycle are counted on, half of what wide cores have: with
    another thread on the same core, whoever it belongs to, there are no more. For the same reason
    little more than one load a cycle is. On a machine where the broadcasts are `embedded` in the
    multiply-adds of tiles of one vector, neither slots nor loads are short. Where B is `streamed`
    from beyond the first-level cache, a vector of it takes so many cycles. Where products and
    sums are instructions `apart`, there are twice as many. A cycle of each step is lost to what
    surrounds it.
    """
    broadcasts = 0 if embedded and vectors == 1 else rows
    slots = (
        (2 if apart else 1) * rows * vectors
        + (2 if embedded or streamed else 1) * vectors
        + broadcasts
    )
    loads = 0.0 if embedded else LOAD_CYCLES * (vectors + rows)
    return 1 + max(rows * vectors / 2, slots / 3, loads, 4.0, streamed * vectors)


def fits_registers(
    rows: int, vectors: int, registers: int, apart: bool = False, either: bool = False
) -> bool:
    """Whether a tile's sums, a row of B and a value of A fit, and some are left over; or, with
    `either`, a column of A and a vector of B. With one row, B is an operand of the multiply-adds.
    Where products are `apart` from sums, they wait for their sums in registers, of which LLVM uses
    two."""
    sums = rows * vectors
    held = min(rows, vectors) if either else vectors
    loaded = (held if rows > 1 else 0) + 2 * apart
    return sums + loaded + 1 <= registers and sums <= max(1, registers - 4)


def choose_tile(
    m: int,
    n: int,
    lanes: int,
    registers: int,
    *,
    lines: int = 1,
    streamed: float = 0.0,
    embedded: bool = False,
    widest: int = 8,
    apart: bool = False,
    sums: int = 1,
) -> Tile:
    """The tile with the least estimated cycles for an m x n output of `lines` lines of m; edges are
    computed in full. It has `widest` vectors at most, as many of each of `sums`."""
    best, least = Tile(1, 1), float("inf")
    shapes = [(rows, 1) for rows in range(1, min(m, 30) + 1)]
    shapes += [(m * s, s) for s in range(2, min(lines, 30 // m) + 1)]
    for rows, spread in shapes:
        for vectors in range(sums, min(widest, 8) + 1, sums):
            if not fits_registers(rows, vectors, registers, apart, sums > 1):
                break
            tiles = ceil(lines / spread) * (ceil(m / rows) if spread == 1 else 1)
            steps = ceil(n / (vectors * lanes)) * tiles
            cycles = steps * step_cycles(
                rows, vectors, streamed=streamed, embedded=embedded, apart=apart
            )
            bigger = rows * vectors > best.rows * best.vectors
            if cycles < least * 0.999 or (cycles <= least * 1.001 and bigger):
                best, least = Tile(rows, vectors, spread), cycles
    return best


def int_bounds(e: Expr) -> tuple[int, int] | None:
    """The range of an integer expression, as far as dtypes and constants tell."""
    match e.op:
        case "const":
            return e.data, e.data
        case "cast" | "load":
            source = e if e.op == "load" else e.args[0]
            if source.dtype.kind not in "iu" or source.dtype.bits > 16:
                return None
            bits = source.dtype.bits
            return (
                (-(1 << bits - 1), (1 << bits - 1) - 1)
                if source.dtype.kind == "i"
                else (0, (1 << bits) - 1)
            )
        case "add" | "sub" | "mul" | "select" | "min" | "max":
            ranges = [int_bounds(a) for a in e.args[-2:]]
            if None in ranges:
                return None
            (a, b), (c, d) = ranges
            ends = {
                "add": (a + c, b + d),
                "sub": (a - d, b - c),
                "select": (min(a, c), max(b, d)),
                "min": (min(a, c), min(b, d)),
                "max": (max(a, c), max(b, d)),
                "mul": (min(a * c, a * d, b * c, b * d), max(a * c, a * d, b * c, b * d)),
            }
            return ends[e.op]
    return None


def is_short_stride(stride: int | Sym, lanes: int) -> bool:
    """Whether a vector with so many elements from lane to lane is loaded by whole vectors and
    shuffles: a few elements, or backwards."""
    if isinstance(stride, Sym) or stride in (0, 1):
        return False
    return abs(stride) <= FURTHEST and abs(stride) < lanes


def vector_axis_cost(
    loads: Sequence[Expr], axis: Axis, lanes: int, stores: Sequence[Expr] = ()
) -> float:
    """Memory operations per element if `axis` is vectorised, of loads and stores at these
    offsets."""
    cost = 0.0
    for n, e in enumerate((*loads, *stores)):
        stride = lane_stride(e, axis)
        if stride == 0:
            cost += 0.02
        elif stride == 1:
            cost += 1.0 / lanes
        elif stride is not None and n < len(loads) and is_short_stride(stride, lanes):
            cost += min(1.0, SHUFFLED * abs(stride) / lanes)
        else:
            cost += 1.0
    return cost


def lane_stride(offset: Expr, axis: Axis) -> int | Sym | None:
    """How far the offset moves from lane to lane; None if it is not linear in the axis."""
    terms, _ = s.linear(offset)
    if any(axis in t.free for t in terms if t.op != "axis"):
        return None
    return next((c for t, c in terms.items() if t.op == "axis" and t.data is axis), 0)


def linear_load(e: Expr) -> tuple[dict[Axis, int], int] | None:
    """({axis: stride}, offset) of a plain load whose index is a sum of axes, else None."""
    if e.op != "load":
        return None
    terms, c = s.linear(e.args[0])
    if any(t.op != "axis" for t in terms):
        return None
    return {t.data: k for t, k in terms.items()}, c
