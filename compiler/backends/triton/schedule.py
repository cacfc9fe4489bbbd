"""How a kernel is cut into programs: data, chosen from extents by `choose`.

map       [BLOCK] outputs per program; reductions, if any, are loops over scalars
reduce    [BO, BK]: BO outputs, the reduced elements BK at a time
row       [BR, BC]: BR rows, reductions and stores of a row BC elements at a time
contract  [BM, BN] outputs, BK at a time through tl.dot
serial    one program, one element at a time (scatters whose places may collide)
"""

import math
from typing import Literal

from ...classes import dataclass
from ...expr import expr as s
from ...expr.expr import Axis, Expr
from ...kernels.kernel import Kernel
from .contraction import Dot, find_dot
from .target import GpuTarget
from .tile import power_of_2

LANES = 4096  # the longest row that is one block
TILE = 2048  # elements of a tile of rows
UNROLL = 64  # reductions up to here are loops over scalars where outputs abound


@dataclass(frozen=True)
class TritonSchedule:
    """`blocks` are the tile's sizes; `outer` axes are spread over programs (row: the rest is the
    row); `splits` programs share a row; `group` tiles of M are visited together."""

    kind: Literal["map", "reduce", "row", "contract", "serial"]
    blocks: tuple[int, ...]
    num_warps: int = 4
    num_stages: int = 2
    outer: tuple[Axis, ...] = ()
    splits: int = 1
    group: int = 8
    dot: Dot | None = None


def reductions_of(kernel: Kernel) -> list[Expr]:
    return [e for e in s.walk(*kernel.roots()) if e.op == "reduce"]


def choose(kernel: Kernel, target: GpuTarget, precision: str = "ieee") -> TritonSchedule:
    """The schedule of a kernel on a target; the same for the same kernel."""
    if kernel.serial:
        return TritonSchedule("serial", (), num_warps=1, num_stages=1)
    dot = find_dot(kernel, precision)
    if dot is not None:
        return _contract(dot, target)
    reductions = reductions_of(kernel)
    size = math.prod(a.extent for a in kernel.axes)
    if not reductions:
        block = 1024 if size >= target.processors * 2048 else 256
        return _map(kernel, min(block, power_of_2(size)))
    free = frozenset().union(*(r.free for r in reductions))
    outer = tuple(a for a in kernel.axes if a in free)
    inner = tuple(a for a in kernel.axes if a not in free)
    widths = [math.prod(a.extent for a in r.data[1]) for r in reductions]
    if inner:
        return _row(outer, inner, max(widths), target)
    if max(widths) <= UNROLL and size >= target.processors * 64:
        return _map(kernel, 256)
    return _reduce(kernel, reductions, max(widths), target)


def _map(kernel: Kernel, block: int) -> TritonSchedule:
    return TritonSchedule("map", (block,), max(1, min(4, block // 64)), 2, kernel.axes)


def _warps(elements: int) -> int:
    return max(1, min(16, power_of_2(elements // 512)))


def _block(width: int) -> int:
    """Lanes for `width` elements: all of them, or blocks of half the limit."""
    block = power_of_2(width)
    return block if block <= LANES else LANES // 2


def _row(outer, inner, width: int, target: GpuTarget) -> TritonSchedule:
    rows, length = math.prod(a.extent for a in outer), math.prod(a.extent for a in inner)
    lanes = _block(max(width, length))
    block = _rows_per_program(rows, lanes, target)
    # A few long rows keep few processors busy: more programs, each reducing the row again.
    splits = min(-(-length // max(width, lanes)), max(1, 2 * target.processors // max(1, rows)))
    return TritonSchedule("row", (block, lanes), _warps(block * lanes), 2, outer, max(1, splits))


def _rows_per_program(rows: int, lanes: int, target: GpuTarget) -> int:
    block = max(1, min(TILE // lanes, power_of_2(rows)))
    while block > 1 and -(-rows // block) < 2 * target.processors:
        block //= 2
    return block


def _reduce(kernel: Kernel, reductions, width: int, target: GpuTarget) -> TritonSchedule:
    outputs = math.prod(a.extent for a in kernel.axes)
    if _is_contiguous(reductions):
        lanes = _block(width)
        block = _rows_per_program(outputs, lanes, target)
    else:
        block = max(1, min(64, power_of_2(outputs)))
        while block > 8 and -(-outputs // block) < target.processors:
            block //= 2
        lanes = min(power_of_2(width), max(16, TILE // block))
    return TritonSchedule("reduce", (block, lanes), _warps(block * lanes), 2, kernel.axes)


def _is_contiguous(reductions) -> bool:
    """Whether some load walks memory in step with the last reduced axis."""
    last = {r.data[1][-1] for r in reductions}
    for r in reductions:
        for e in s.walk(r.args[0]):
            if e.op == "load":
                terms, _ = s.linear(e.args[0])
                if any(t.op == "axis" and t.data in last and k == 1 for t, k in terms.items()):
                    return True
    return False


def _contract(dot: Dot, target: GpuTarget) -> TritonSchedule:
    m, n, k = (math.prod(a.extent for a in axes) for axes in (dot.m, dot.n, dot.k))
    batch = math.prod(a.extent for a in dot.batch)
    tensor_cores = dot.kind != "float32" or dot.precision != "ieee"
    most = 128 if tensor_cores else 64
    bm, bn = (max(16, min(most, power_of_2(x))) for x in (m, n))
    programs = lambda: batch * -(-m // bm) * -(-n // bn)
    # Four warps multiply 64 rows at once (wgmma): fewer rows only where there are not so many.
    least = min(bm, 64) if tensor_cores else min(bm, 32)
    while programs() < target.processors and (bm > least or bn > 32):
        bm, bn = (bm // 2, bn) if bm > least and bm >= bn else (bm, max(32, bn // 2))
    item = {"float32": 4, "int8": 1}.get(dot.kind, 2)
    bk = min({4: 32, 2: 64, 1: 128}[item], max(32 if item == 1 else 16, power_of_2(k)))
    stages = 3 if target.api == "cuda" else 2
    while (bm + bn) * bk * item * stages > target.shared * 3 // 4 and stages > 1:
        stages -= 1
    while (bm + bn) * bk * item * stages > target.shared * 3 // 4 and bk > 32:
        bk //= 2
    warps = 8 if bm * bn >= 128 * 128 else 4 if bm * bn >= 32 * 32 else 2
    return TritonSchedule("contract", (bm, bn, bk), warps, stages, group=8, dot=dot)
