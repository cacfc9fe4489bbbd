"""The cost model: how long a scheduled kernel should take, from its schedule alone.

    cost(kernel, schedule, target) -> ns on one thread

A kernel's arithmetic is counted in cycles, for what its schedule really executes: whole tiles,
whole vectors, chains of additions that wait for each other. Its traffic is counted in bytes, by the
level of memory that they come from. The two overlap, though not quite: the time is the greater one
and a share of the other. Nothing is measured: the same kernel has the same cost on every machine
with such vectors, so that compiling is deterministic. The constants were fitted to the profiles of
the models in docs/benchmarks.md; `tessel run --profile` prints both sides for any model.
"""

from collections.abc import Iterable, Iterator

from ....analysis import core_model
from ....analysis.core_model import Core
from ....expr import expr as s
from ....expr.expr import Axis, Expr
from ....ir.bounds import size_hint
from ....ir.types import TensorType
from ....kernels.kernel import Kernel
from ....kernels.machine import LINE, PAGE, Machine
from ....kernels.tiling import is_short_stride
from ....kernels.work import Work, data_of, extent_of, flops_of, touched_bytes
from .base import Schedule

L3 = 32 << 20  # bytes of the third-level cache that a program can count on
NEAR = 256 << 10  # bytes of an array up to which its lines are close when they come up again
ALONE = 0.6  # share of the lesser of arithmetic and traffic that does not overlap with the other
CALL = 60.0  # ns around a kernel: its call, its first addresses, the empty pipeline

# Cycles.
LATENCY = 4.0  # from a multiply-add to the next one that needs it
INTEGER = 2.0  # per vector of integers that are multiplied and added
TILE = 30.0  # around a tile: filling the pipeline, the mispredicted end
UNIT = 5.0  # around a unit of a nest
LOAD = 0.5  # per vector that is loaded or stored at once
SPREAD = 0.25  # per vector that is one value
SHUFFLE = 1.0  # per vector whose lanes are picked out of two, or turned around
GATHER = 1.2  # per element that is loaded or stored by itself
MISS = 6.0  # the same, where each element lies in a line of its own
CONFLICT = 12.0  # the same, where those lines share few sets of the first-level cache
WINDOW = 14.0  # steps of a reduction while which a core has begun with the next one

# Per vector of a primitive; `SIMPLE` for those that are not here.
SIMPLE = 0.5
PRIMITIVE = {
    "div": 10.0,
    "sqrt": 12.0,
    "rsqrt": 20.0,
    "exp": 11.0,
    "exp2": 10.0,
    "expm1": 16.0,
    "log": 20.0,
    "log1p": 25.0,
    "log2": 22.0,
    "tanh": 20.0,
    "erf": 30.0,
    "sigmoid": 18.0,
    "normal_area": 12.0,
    "sin": 40.0,
    "cos": 40.0,
    "tan": 60.0,
    "pow": 80.0,
    "atan2": 60.0,
    "floordiv": 20.0,
    "mod": 20.0,
    "truncdiv": 20.0,
    "rem": 20.0,
    "round": 1.5,
    "cast": 1.5,
}


def core_of(target: Machine) -> Core:
    """What the model takes a core of the target to be."""
    return core_model.core_of(target.vector_bytes, target.cpu)


def cost(kernel: Kernel, plan: Schedule, target: Machine, between: int | None = None) -> float:
    """Nanoseconds on one thread, with warm caches: what decides whether threads share a kernel.

    `between` are the bytes that a program touches before it comes to this kernel again (in a loop:
    its body's), which says where the kernel's weights lie by then. Where nothing is known of the
    program, weights lie as near as their size allows.
    """
    core = core_of(target)
    cycles = plan.cycles(kernel, target)
    traffic = traffic_ns(all_traffic(kernel, plan, target, between), target)
    least, most = sorted((cycles / core.rate, traffic))
    return CALL + most + ALONE * least


def traffic_ns(traffic: Iterable[tuple[int, int]], target: Machine) -> float:
    """ns of (bytes, bytes of the memory that they lie in). What is small is in the first cache."""
    core = core_of(target)
    return sum(n * _fetch(size, core, target) for n, size in traffic if size > target.l1 // 2)


def kernel_work(kernel: Kernel, plan: Schedule) -> Work:
    """What a scheduled kernel does at least. A packed constant is read as it is packed."""
    touched = _touched(kernel, plan)
    read = sum(r for r, _ in touched.values()) + plan.packed_bytes
    return Work(flops_of(kernel), read, sum(w for _, w in touched.values()))


# -- traffic -------------------------------------------------------------------------------


def _touched(kernel: Kernel, plan: Schedule) -> dict:
    """(bytes read, bytes written) of each buffer that is still there once constants are packed."""
    touched = touched_bytes(kernel)
    if not plan.packs:
        return touched
    kept = set(plan.params(kernel))
    return {b: n for b, n in touched.items() if b in kept}


def all_traffic(
    kernel: Kernel, plan: Schedule, target: Machine, between: int | None
) -> Iterator[tuple[int, int]]:
    """(bytes, bytes of the memory that they lie in) of everything that is read or written."""
    yield from plan.traffic(target, between)
    for b, (read, written) in _touched(kernel, plan).items():
        # What a kernel before this one wrote is still near, if it is small.
        yield read + written, size_hint(b.type.nbytes)


def _fetch(size: int, core: Core, target: Machine) -> float:
    """ns per byte of something that is read over and over, `size` bytes in all: each cache beyond
    the first holds the share of them that it has room for."""
    l2 = min(1.0, target.l2 * 3 / 4 / size)
    l3 = max(l2, min(1.0, L3 / size))
    return l2 / core.l2 + (l3 - l2) / core.l3 + (1 - l3) / core.memory


# -- parts of kernels -----------------------------------------------------------------------


def epilogue(kernel: Kernel, reduce: Expr, vector_axis: Axis, lanes: int) -> float:
    """Cycles per vector of what follows the sum, with its store."""
    value = kernel.stores[0].value
    inner, data = set(s.walk(reduce)), data_of([value])
    return 2 * LOAD + sum(
        cycles_of(e, vector_axis, lanes, data)
        for e in s.walk(value)
        if e in data and e not in inner
    )


def evaluation(e: Expr, vector_axis: Axis | None, lanes: int) -> float:
    """Cycles per vector of computing a factor and storing it."""
    data = data_of([e])
    return 2 * LOAD + sum(cycles_of(x, vector_axis, lanes, data) for x in s.walk(e))


# -- expressions ---------------------------------------------------------------------------


def cycles_of(e: Expr, vector_axis: Axis | None, lanes: int, data: set[Expr]) -> float:
    """Cycles of one vector (without a vector axis: one value) of an expression, its arguments
    known."""
    if e.op in ("const", "axis"):
        return 0.0
    if e.op == "load":
        return (
            LOAD
            if vector_axis is None
            else place_cycles(e.args[0], vector_axis, lanes, e.data.type)
        )
    if e.op == "reduce":
        # One accumulator: in a long chain each step waits for the last, short ones overlap with
        # each other and with the loads.
        steps = extent_of(e.data[1]) / (lanes if vector_axis in e.data[1] else 1)
        return max(SIMPLE, min(LATENCY, SIMPLE + steps / WINDOW) - 2 * LOAD)
    if e not in data and e.dtype == s.I64 and e.op not in ("floordiv", "mod"):
        return 0.0  # sums of places are part of addresses
    cycles = PRIMITIVE.get(e.op, SIMPLE)
    if vector_axis is None:
        return max(SIMPLE, cycles / 2)
    return cycles * (2 if e.dtype.bits == 64 else 1)


def place_cycles(
    index: Expr, vector_axis: Axis, lanes: int, type: TensorType, loads: bool = True
) -> float:
    """Cycles of loading or storing a vector: at once, one value for all, by whole vectors that are
    shuffled, or element by element."""
    if vector_axis not in index.free:
        return SPREAD
    terms, _ = s.linear(index)
    if any(t.op != "axis" for t in terms if vector_axis in t.free):
        return GATHER * lanes
    stride = sum(c for t, c in terms.items() if t.data is vector_axis)
    if stride == 1:
        return LOAD
    if loads and is_short_stride(stride, lanes):
        return (LOAD + SHUFFLE) * abs(stride)
    distance = abs(stride) * type.dtype.bytes
    if distance < LINE or type.nbytes <= NEAR:
        return GATHER * lanes
    return (CONFLICT if distance % (PAGE // 4) == 0 else MISS) * lanes
