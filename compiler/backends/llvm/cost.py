"""The cost model: how long a scheduled kernel should take, from its schedule alone.

    cost(kernel, schedule, target) -> ns on one thread

A kernel's arithmetic is counted in cycles, for what its schedule really executes: whole tiles,
whole vectors, chains of additions that wait for each other. Its traffic is counted in bytes, by the
level of memory that they come from. The two overlap, though not quite: the time is the greater one
and a share of the other. Nothing is measured: the same kernel has the same cost on every machine
with such vectors, so that compiling is deterministic. The constants were fitted to the profiles of
the models in docs/benchmarks.md; `tessel run --profile` prints both sides for any model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod

from ...loops import expr as s
from ...loops.expr import Axis, Expr
from ...loops.nest import Kernel
from ...loops.schedule import LOAD_CYCLES, lane_cost
from ...loops.work import Work, data_of, extent_of, flops_of, store_axes, touched_bytes
from ...sizes import typical
from ..base import CpuTarget
from .contract_schedule import LINE, PAGE, ContractSchedule
from .nest import NestSchedule
from .window import WindowSchedule

Schedule = NestSchedule | ContractSchedule | WindowSchedule


@dataclass(frozen=True)
class Core:
    """What the model takes a core to be.

    clock     GHz that are kept with vectors of this width
    units     vectors that are multiplied and added per cycle
    slots     instructions per cycle to count on
    l2, l3, memory    GB/s that a core reads from there
    """

    clock: float
    units: int
    slots: float
    l2: float
    l3: float
    memory: float


# By the bytes of a vector: servers of recent years. `tessel bench --peak` measures yours.
CORES = {
    64: Core(clock=2.7, units=2, slots=4.0, l2=110.0, l3=26.0, memory=13.0),
    32: Core(clock=3.3, units=2, slots=4.0, l2=90.0, l3=26.0, memory=13.0),
    16: Core(clock=2.7, units=2, slots=3.0, l2=40.0, l3=20.0, memory=10.0),
}
L3 = 32 << 20  # bytes of the third-level cache that a program can count on
NEAR = 256 << 10  # bytes of an array up to which its lines are close when they come up again
ALONE = 0.6  # share of the lesser of arithmetic and traffic that does not overlap with the other
CALL = 60.0  # ns around a kernel: its call, its first addresses, the empty pipeline

# Cycles.
LATENCY = 4.0  # from a multiply-add to the next one that needs it
INTEGER = 2.0  # per vector of integers that are multiplied and added
STEP = 0.3  # around a step of k in a tile
TILE = 30.0  # around a tile: filling the pipeline, the mispredicted end
UNIT = 5.0  # around a unit of a nest
TURNED = 0.35  # per element of A that is turned into scratch
LOAD = 0.5  # per vector that is loaded or stored at once
SPREAD = 0.25  # per vector that is one value
GATHER = 1.2  # per element that is loaded or stored by itself
MISS = 6.0  # the same, where each element lies in a line of its own
CONFLICT = 12.0  # the same, where those lines share few sets of the first-level cache
WINDOW = 14.0  # steps of a reduction while which a core has begun with the next one
NARROW = 4  # lanes that packing fills where k is too short for a vector

# Per vector of a primitive; `SIMPLE` for those that are not here.
SIMPLE = 0.5
PRIMITIVE = {
    "div": 10.0, "sqrt": 12.0, "rsqrt": 20.0, "exp": 11.0, "exp2": 10.0, "expm1": 16.0,
    "log": 20.0, "log1p": 25.0, "log2": 22.0, "tanh": 20.0, "erf": 30.0, "sigmoid": 18.0,
    "normal_area": 12.0,
    "sin": 40.0, "cos": 40.0, "tan": 60.0, "pow": 80.0, "atan2": 60.0, "floordiv": 20.0,
    "mod": 20.0, "truncdiv": 20.0, "rem": 20.0, "round": 1.5, "cast": 1.5,
}  # fmt: skip


def cost(
    kernel: Kernel, plan: Schedule, target: CpuTarget, between: int | None = None
) -> float:  # fmt: skip
    """Nanoseconds on one thread, with warm caches: what decides whether threads share a kernel.

    `between` are the bytes that a program touches before it comes to this kernel again (in a loop:
    its body's), which says where the kernel's weights lie by then. Where nothing is known of the
    program, weights lie as near as their size allows.
    """
    core = CORES[target.vector_bytes]
    if isinstance(plan, ContractSchedule):
        cycles = _contraction_cycles(kernel, plan, core, target)
    elif isinstance(plan, WindowSchedule):
        cycles = _window_cycles(kernel, plan, core)
    else:
        cycles = _nest_cycles(kernel, plan)
    traffic = sum(
        n * _fetch(size, core, target)
        for n, size in _traffic(kernel, plan, target, between) if size > target.l1 // 2
    )  # fmt: skip
    least, most = sorted((cycles / core.clock, traffic))
    return CALL + most + ALONE * least


def kernel_work(kernel: Kernel, plan: Schedule) -> Work:
    """What a scheduled kernel does at least. A packed constant is read as it is packed."""
    touched = _touched(kernel, plan)
    read = sum(r for r, _ in touched.values()) + packed_bytes(plan)
    return Work(flops_of(kernel), read, sum(w for _, w in touched.values()))


def packed_bytes(plan: Schedule) -> int:
    """Bytes of the constant that a contraction reads packed, edges filled up; 0 for others."""
    if not isinstance(plan, ContractSchedule) or plan.b != "constant":
        return 0
    outer = prod(a.extent for a in plan.outer if a in plan.contraction.b.free)
    return (plan.stored or outer) * plan.panels * _panel(plan)


# -- traffic -------------------------------------------------------------------------------


def _touched(kernel: Kernel, plan: Schedule) -> dict:
    """(bytes read, bytes written) of each buffer that is still there once B is packed."""
    touched = touched_bytes(kernel)
    if packed_bytes(plan):
        inside = {e.data for e in s.walk(plan.contraction.b) if e.op == "load"}
        sums = plan.contraction.reduce
        rest = [s.transform(e, lambda x: plan.contraction.a if x is sums else None)
                for e in kernel.roots()]  # fmt: skip
        inside -= {e.data for e in s.walk(*rest) if e.op == "load"}
        touched = {b: n for b, n in touched.items() if b not in inside}
    return touched


def _traffic(
    kernel: Kernel, plan: Schedule, target: CpuTarget, between: int | None
) -> Iterator[tuple[int, int]]:
    """(bytes, bytes of the memory that they lie in) of everything that is read or written."""
    if isinstance(plan, ContractSchedule):
        yield from _panels(plan, target, between)
    for b, (read, written) in _touched(kernel, plan).items():
        # What a kernel before this one wrote is still near, if it is small.
        yield read + written, typical(b.type.nbytes)


def _panels(
    plan: ContractSchedule, target: CpuTarget, between: int | None
) -> Iterator[tuple[int, int]]:
    """The panels of B: once from where the weights are, then again for each group of tiles, and
    within a group for each tile, where a panel is too large for the first-level cache."""
    panel, packed = _panel(plan), packed_bytes(plan)
    every = extent_of(plan.outer) * plan.panels * panel
    if packed:
        yield packed, max(packed, between or 0)
        yield every * plan.groups - packed, packed
    if plan.cut:
        block = plan.group * plan.tile.rows * plan.limit * plan.dtype.bytes
        yield block * plan.groups * plan.panels * ceil(plan.steps / plan.limit), block
    elif panel > target.l1 * 3 // 4:
        yield every * (plan.tiles - plan.groups), panel


def _panel(plan: ContractSchedule) -> int:
    return plan.steps * plan.width * plan.dtype.bytes


def _fetch(size: int, core: Core, target: CpuTarget) -> float:
    """ns per byte of something that is read over and over, `size` bytes in all: each cache beyond
    the first holds the share of them that it has room for."""
    l2 = min(1.0, target.l2 * 3 / 4 / size)
    l3 = max(l2, min(1.0, L3 / size))
    return l2 / core.l2 + (l3 - l2) / core.l3 + (1 - l3) / core.memory


# -- contractions --------------------------------------------------------------------------


def _contraction_cycles(
    kernel: Kernel, plan: ContractSchedule, core: Core, target: CpuTarget
) -> float:
    rows, vectors = plan.tile.rows, plan.tile.vectors
    outer = extent_of(plan.outer)
    fast = plan.dtype.is_float or plan.pairs
    embedded = vectors == 1 and target.vector_bytes == 64 and fast
    slots = rows * vectors + 2 * vectors + (0 if embedded else rows)
    each = 1 / core.units if fast else INTEGER
    loads = 0.0 if target.vector_bytes == 64 else LOAD_CYCLES * (rows + vectors)
    step = max(rows * vectors * each, slots / core.slots, loads, LATENCY) + STEP
    after = rows * vectors * _epilogue(kernel, plan.contraction.reduce, plan.n, plan.lanes)
    cycles = outer * plan.tiles * plan.panels * (plan.steps * step + TILE + after)
    if plan.a != "direct":
        each = TURNED if plan.a == "turn" else _packing(plan, plan.contraction.a)
        cycles += outer * plan.tiles * rows * plan.depth * each
    if plan.stored:
        sums = (outer - plan.stored) * plan.groups * plan.panels * plan.steps * vectors
        cycles += sums * 4 * LOAD
    if plan.b == "pack":
        each = _evaluation(plan.contraction.b, plan.n, plan.lanes)
        cycles += outer * plan.groups * plan.panels * plan.depth * vectors * each
    return cycles


def _epilogue(kernel: Kernel, reduce: Expr, lane: Axis, lanes: int) -> float:
    """Cycles per vector of what follows the sum, with its store."""
    value = kernel.stores[0].value
    inner, data = set(s.walk(reduce)), data_of([value])
    return 2 * LOAD + sum(
        _cycles(e, lane, lanes, data) for e in s.walk(value) if e in data and e not in inner
    )


def _packing(plan: ContractSchedule, e: Expr) -> float:
    """Cycles per element of a factor that is evaluated along k."""
    k = plan.contraction.k
    lane = max(k, key=lambda a: (a is k[-1] and a.extent >= NARROW, a.extent), default=None)
    lanes = plan.lanes if lane is not None and lane.extent >= plan.lanes else NARROW
    return _evaluation(e, lane, lanes) / lanes


def _evaluation(e: Expr, lane: Axis | None, lanes: int) -> float:
    """Cycles per vector of computing a factor and storing it."""
    data = data_of([e])
    return 2 * LOAD + sum(_cycles(x, lane, lanes, data) for x in s.walk(e))


# -- windows -------------------------------------------------------------------------------


def _window_cycles(kernel: Kernel, plan: WindowSchedule, core: Core) -> float:
    taps, lines = plan.tap.extent, extent_of(plan.rest)
    each = 1 / core.units if plan.reduce.dtype.is_float else INTEGER
    inputs = 2 * taps + plan.points - 1  # of a line, and its weights
    line = max(plan.points * taps * each, inputs * _evaluation(plan.x, plan.lane, plan.lanes))
    after = plan.points * _epilogue(kernel, plan.reduce, plan.lane, plan.lanes)
    tiles = ceil(plan.line.extent / plan.points) * ceil(plan.lane.extent / plan.lanes)
    return plan.units * (UNIT + tiles * (lines * line + TILE / 3 + after))


# -- nests ---------------------------------------------------------------------------------


def _nest_cycles(kernel: Kernel, plan: NestSchedule) -> float:
    roots, lanes = kernel.roots(), plan.lanes
    own, data = _own_lanes(kernel, plan), data_of(roots)
    # A product that is summed at once is part of the multiply-add.
    fused = {e.args[0] for e in s.walk(*roots) if e.op == "reduce"
             and e.data[0] == "sum" and e.args[0].op == "mul"}  # fmt: skip
    total = UNIT * plan.units
    for e in s.walk(*roots):
        if e.op in ("const", "axis") or e in fused:
            continue
        axes = e.free | frozenset(e.data[1]) if e.op == "reduce" else e.free
        lane = own.get(e, plan.lane)
        lane = lane if lane in axes else None
        total += _repeats(axes, lane, lanes) * _cycles(e, lane, lanes, data)
    for st in kernel.stores:
        axes, each = store_axes(st), LOAD
        lane = plan.lane if plan.lane in axes else None
        if lane is not None and plan.weave is None:
            each += _place(st.index[0], lane, lanes, st.buffer.type)
        total += _repeats(axes, lane, lanes) * each * (1 if st.mode == "set" else 3)
    return total


def _own_lanes(kernel: Kernel, plan: NestSchedule) -> dict[Expr, Axis | None]:
    """The axis that reductions, and what is in them, are vectorised along, if not the nest's."""
    found: dict[Expr, Axis | None] = {}
    for r in s.walk(*kernel.roots()):
        if r.op != "reduce" or (plan.lane is not None and plan.lane in r.free):
            continue
        loads = [x.args[0] for x in s.walk(r.args[0]) if x.op == "load"]
        wide = [a for a in r.data[1] if a.extent >= max(4, plan.lanes // 2)]
        own = min(wide, key=lambda a: lane_cost(loads, a, plan.lanes), default=None)
        if own is not None and lane_cost(loads, own, plan.lanes) >= 0.75 * max(1, len(loads)):
            own = None
        for x in s.walk(r):
            if x is r or x.free & set(r.data[1]):
                found[x] = own
    return found


def _repeats(axes: frozenset[Axis], lane: Axis | None, lanes: int) -> int:
    """How many vectors (without a lane: values) there are."""
    if lane is None:
        return extent_of(axes)
    return extent_of(axes - {lane}) * ceil(lane.extent / lanes)


# -- expressions ---------------------------------------------------------------------------


def _cycles(e: Expr, lane: Axis | None, lanes: int, data: set[Expr]) -> float:
    """Cycles of one vector (without a lane: one value) of an expression, its arguments known."""
    if e.op in ("const", "axis"):
        return 0.0
    if e.op == "load":
        return LOAD if lane is None else _place(e.args[0], lane, lanes, e.data.type)
    if e.op == "reduce":
        # One accumulator: in a long chain each step waits for the last, short ones overlap with
        # each other and with the loads.
        steps = extent_of(e.data[1]) / (lanes if lane in e.data[1] else 1)
        return max(SIMPLE, min(LATENCY, SIMPLE + steps / WINDOW) - 2 * LOAD)
    if e not in data and e.dtype == s.I64 and e.op not in ("floordiv", "mod"):
        return 0.0  # sums of places are part of addresses
    cycles = PRIMITIVE.get(e.op, SIMPLE)
    if lane is None:
        return max(SIMPLE, cycles / 2)
    return cycles * (2 if e.dtype.bits == 64 else 1)


def _place(index: Expr, lane: Axis, lanes: int, type) -> float:
    """Cycles of loading or storing a vector: at once, one value for all, or element by element."""
    if lane not in index.free:
        return SPREAD
    terms, _ = s.linear(index)
    if any(t.op != "axis" for t in terms if lane in t.free):
        return GATHER * lanes
    stride = sum(c for t, c in terms.items() if t.data is lane)
    if stride == 1:
        return LOAD
    distance = abs(stride) * type.dtype.bytes
    if distance < LINE or type.nbytes <= NEAR:
        return GATHER * lanes
    return (CONFLICT if distance % (PAGE // 4) == 0 else MISS) * lanes
