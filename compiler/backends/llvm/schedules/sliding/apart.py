"""Lines that are read with gaps: loaded without, and taken apart in registers.

    x[2 * v + 0], x[2 * v + 1]   =>   a, b = 2 vectors of x;   even lanes of (a, b), odd lanes

Taps that are less than a stride apart share what is loaded. Nothing is loaded that lies before the
first or behind the last element that is asked for.
"""

import llvmlite.ir as ir

from .....expr import expr as s
from .....expr.expr import Axis, Expr
from ...base.types import I1, I32, i64, memory_type, vector
from ...emit.emitter import Emitter


def lines_apart(
    e: Emitter, load: Expr, tap: Axis, valid: dict[int, list[bool]]
) -> dict[int, ir.Value]:
    """The vector that each tap sees of a load, for the lanes that are `valid`. Others are zero or
    anything else that is in the array."""
    (index,) = load.args
    terms, _ = s.linear(index)
    stride, apart = e.lane_stride(index), terms[s.axis(tap)]
    result, left = {}, sorted(valid)
    while left:
        first = left[0]
        group = {j: (j - first) * apart for j in left if (j - first) * apart < stride}
        left = [j for j in left if j not in group]
        with e.at(tap, i64(first)):
            result |= _group(e, load, stride, group, valid)
    return result


def _group(e: Emitter, load: Expr, stride: int, group: dict[int, int], valid) -> dict:
    """The same for taps of these offsets, which are less than `stride` from the first of them."""
    lanes, size = e.lanes, load.dtype.bytes
    type = memory_type(load.dtype, e.soft_half)
    vec = vector(type, lanes)
    starts = [n * lanes for n in range(stride)]
    starts[-1] -= stride - 1 - max(group.values())
    needed = {
        n * stride + offset for j, offset in group.items() for n in range(lanes) if valid[j][n]
    }
    whole = all(all(valid[j]) for j in group)
    pointer = e.address(load.data, load.args[0])
    vectors = []
    for start in starts:
        here = e.b.gep(pointer, [i64(start)], source_etype=type) if start else pointer
        mask = [start + n in needed for n in range(lanes)]
        if whole:
            vectors.append(e.b.load(here, typ=vec, align=size))
        elif any(mask):
            hidden = ir.Constant(vector(I1, lanes), mask)
            vectors.append(e.load_masked(here, vec, size, hidden))
        else:
            vectors.append(ir.Constant(vec, None))
    if stride in (2, 4) and max(group.values()) == stride - 1:
        picked = _halves(e, vectors)
        return {j: picked[offset] for j, offset in group.items()}
    return {j: _pick(e, vectors, starts, stride, offset) for j, offset in group.items()}


def _halves(e: Emitter, vectors: list[ir.Value]) -> list[ir.Value]:
    """n vectors one after the other as n vectors, of which the i-th has every n-th element from i
    on: even and odd elements, and so on with either half."""
    if len(vectors) == 1:
        return vectors
    parts = []
    for offset in (0, 1):
        mask = ir.Constant(vector(I32, e.lanes), [2 * n + offset for n in range(e.lanes)])
        pairs = zip(vectors[::2], vectors[1::2])
        parts.append(_halves(e, [e.b.shuffle_vector(x, y, mask) for x, y in pairs]))
    return [x for pair in zip(*parts) for x in pair]


def _pick(e: Emitter, vectors: list, starts: list[int], stride: int, offset: int) -> ir.Value:
    """Every `stride`-th element of the vectors one after the other, from `offset` on."""
    lanes = e.lanes
    result = vectors[0]
    # Lane n of the result so far: where it lies in it, as far as it has come.
    places = [n * stride + offset for n in range(lanes)]
    found = [p if p < lanes else None for p in places]
    for start, more in zip(starts[1:], vectors[1:]):
        picks = []
        for n, p in enumerate(places):
            if found[n] is not None:
                picks.append(found[n])
            elif p < start + lanes:
                picks.append(lanes + p - start)
            else:
                picks.append(None)
        mask = [0 if p is None else p for p in picks]
        result = e.b.shuffle_vector(result, more, ir.Constant(vector(I32, lanes), mask))
        found = [n if p is not None else None for n, p in enumerate(picks)]
    return result
