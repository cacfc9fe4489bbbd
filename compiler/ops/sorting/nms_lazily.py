"""`suppress`, candidate by candidate: what one thread of a CPU does best.

The best candidate is found in a tree of maxima and taken out of it, which costs the same for any
number of boxes up to a million. It is compared with the boxes that were picked before, which are
few. Who is never the best is never looked at.

    tops [A]            the maximum of each middle
    middles [A, 32]     the maximum of 32 leaves
    leaves [A, 32, 32]  keys: integers that are ordered as the scores are, NaN above all
"""

from ...expr import expr as s
from ...ir.dims import ceil_div
from ...ir.op import Attr, Kernels, NotDifferentiable, register
from ...ir.types import I32, I64
from ...kernels.kernel import Store
from .nms import samples, suppress_ref, suppress_shape
from .selection import key_type, order_key

FAN = 32
BLOCK = 64  # picked boxes that a candidate is compared with at once
CANDIDATE, STAYS, COUNT, GOES = range(4)  # what a row knows: each has a buffer of its own
AREA = 4  # of a box: its corners, and this


def _blocks(steps) -> tuple:
    """How many blocks there are of picked boxes, and how many boxes are in one."""
    size = min(BLOCK, max(8, ceil_div(steps, 8) * 8)) if isinstance(steps, int) else BLOCK
    return ceil_div(steps, size), size


def _suppress_lazily(k, out, boxes, scores, overlap, most=None, *, steps):
    (groups, classes, many), wide = scores.shape, scores.dtype.compute
    rows, keys, (blocks, size) = (groups, classes), key_type(wide), _blocks(steps)
    tops = k.temporary((*rows, ceil_div(many, FAN * FAN)), keys)
    middles = k.temporary((*tops.shape, FAN), keys)
    leaves = k.temporary((*middles.shape, FAN), keys)
    chosen = k.temporary((*rows, AREA + 1, blocks, size), wide)
    known = [k.temporary(rows, I64) for _ in range(4)]
    none = order_key(s.const(float("-inf"), wide), False)
    limit = s.const(steps) if most is None else s.minimum(most[()], steps)

    def leaf(g, c, a, i, j):
        at = (a * FAN + i) * FAN + j
        score = s.cast(scores[g, c, s.minimum(at, many - 1)], wide)
        return (g, c, a, i, j), s.select(at < many, order_key(score, False), none)

    def highest(buffer, *i):
        return s.reduce("max", [buffer.shape[-1]], lambda j: buffer[(*i, j)])

    def first(buffer, *i):
        """Where the highest of a row is."""
        n, best = buffer.shape[-1], highest(buffer, *i)
        at = s.reduce("min", [n], lambda j: s.select(s.eq(buffer[(*i, j)], best), j, n - 1))
        return s.maximum(s.minimum(at, n - 1), 0)

    def box(g, at):
        x = [s.cast(boxes[g, at, i], wide) for i in range(4)]
        low, high = [list(map(f, x[:2], x[2:])) for f in (s.minimum, s.maximum)]
        return *low, *high, (high[0] - low[0]) * (high[1] - low[1])

    def common(mine, other):
        sides = [
            s.minimum(other[i + 2], mine[i + 2]) - s.maximum(other[i], mine[i]) for i in (0, 1)
        ]
        return s.maximum(sides[0], 0) * s.maximum(sides[1], 0)

    def turn(g, c, t, q):
        """Block q of the boxes that were picked; the turn of the first one finds the candidate.

        Where a row has no more candidates, a turn is nothing but a test of `goes`.
        """
        zero, one = s.const(0), s.const(1)
        candidate, stays, count, on = (b[g, c] for b in known)
        begins, ends, goes = s.eq(q, 0), s.eq(q, blocks - 1), s.ne(on, 0)

        def note(what, value, where):
            return Store(known[what], (g, c), value, where)

        yield note(GOES, one, begins & s.eq(t, 0))
        yield note(COUNT, zero, begins & s.eq(t, 0))

        a = first(tops, g, c)
        i = first(middles, g, c, a)
        j = first(leaves, g, c, a, i)
        found = (highest(tops, g, c) > none) & (count < limit)
        yield note(CANDIDATE, s.select(found, (a * FAN + i) * FAN + j, -1), goes & begins)

        there = goes & begins & (candidate >= 0)
        at = s.maximum(s.minimum(candidate, many - 1), 0)
        a, i, j = at // (FAN * FAN), at // FAN % FAN, at % FAN
        yield Store(leaves, (g, c, a, i, j), none, there)
        yield Store(middles, (g, c, a, i), highest(leaves, g, c, a, i), there)
        yield Store(tops, (g, c, a), highest(middles, g, c, a), there)
        yield note(STAYS, s.cast(candidate >= 0, I64), goes & begins)

        mine = box(g, at)

        def covers(m):
            other = [chosen[g, c, i, q, m] for i in range(AREA + 1)]
            both = common(mine, other)
            share = both / (other[AREA] + mine[AREA] - both)
            above = (both > 0) & (share > s.cast(overlap[()], wide))
            return s.cast((q * size + m < count) & above, I32)

        stayed = s.ne(stays, 0)
        alone = s.eq(s.reduce("max", [size], covers), 0)
        yield note(STAYS, s.cast(alone, I64), goes & stayed & (q * size < count))

        taken = goes & ends & stayed
        place = s.maximum(s.minimum(count, steps - 1), 0)
        yield Store(k.outs[0], (g, c, place), at, taken)
        for i, x in enumerate(mine):
            yield Store(chosen, (g, c, s.const(i), place // size, place % size), x, taken)
        yield note(COUNT, count + 1, taken)
        yield note(GOES, s.cast(candidate >= 0, I64), goes & ends)

    k.store(out.shape, lambda *i: (i, s.const(-1)))
    if many != 0 and steps != 0:
        k.store(leaves.shape, leaf, to=leaves)
        k.store(middles.shape, lambda *i: (i, highest(leaves, *i)), to=middles)
        k.store(tops.shape, lambda *i: (i, highest(middles, *i)), to=tops)
        k.in_order((*rows, many, blocks), turn, apart=2)


register(
    "suppress_lazily",
    "boxes: T, scores: T, overlap: T, most: i64? -> i64",
    """What `suppress` gives, with less work where there are many boxes, of each row in order.

    A candidate is looked at when it is the best that is left, and compared with the boxes that were
    picked before. passes/suppress.py says where.
    """,
    attrs={"steps": Attr("dim")},
    shape=suppress_shape,
    ref=suppress_ref,
    grad=NotDifferentiable("the choice is piecewise constant", zero=True),
    loops=Kernels(_suppress_lazily, memory=(0,)),
    samples=samples,
    group="sort",
    T="float",
)
