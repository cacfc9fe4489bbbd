"""The cost model: how long a scheduled kernel should take, from its schedule alone.

    cost(kernel, schedule, target) -> ns on one thread

A kernel's arithmetic is counted in cycles, for what its schedule really executes: whole tiles,
whole vectors, chains of additions that wait for each other. Its traffic is counted in bytes, by the
level of memory that they come from. The two overlap, though not quite: the time is the greater one
and a share of the other. Nothing is measured: the same kernel has the same cost on every machine
of a kind, so that compiling is deterministic. Rates of instructions are those of the sources that
`analysis/core_model.py` names, for what code has of them; what overlaps, what is foreseen, and what
neighbours leave of a cache was fitted to kernels of models and of single operators, by kinds of
schedules and not one by one. `tessel bench --predictions` prints both sides for any model.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ....analysis import core_model
from ....analysis.core_model import Core
from ....expr import expr as s
from ....expr.expr import Axis, Buffer, Expr
from ....ir.bounds import size_hint
from ....ir.types import DType, TensorType
from ....kernels.kernel import Kernel
from ....kernels.machine import LINE, PAGE, Machine
from ....kernels.tiling import is_short_stride
from ....kernels.work import Work, data_of, extent_of, flops_of, touched_bytes
from .base import Schedule

L3 = 14 << 20  # bytes of the third-level cache that a program can count on: cores share it
NEAR = 256 << 10  # bytes of an array up to which its lines are close when they come up again
ALONE = 0.4  # share of the lesser of arithmetic and traffic that does not overlap with the other
WRITES = 1.3  # reads that a write takes as long as: lines are fetched first, and written back
STREAMS = 6  # places of memory that a core foresees at once
MOST = 3.0  # times as long as if it did, however many there are
REACH = 2 << 20  # bytes whose pages a core finds at once
WALK = 100.0  # cycles of finding another one, on a virtual machine
CALL = 60.0  # ns around a kernel: its call, its first addresses, the empty pipeline

# Cycles.
LATENCY = 4.0  # from a multiply-add to the next one that needs it
INTEGER = 2.5  # per vector of integers that are multiplied and added
TILE = 30.0  # around a tile: filling the pipeline, the mispredicted end
UNIT = 5.0  # around a unit of a nest
LOAD = 0.5  # per vector that is loaded or stored at once
SPREAD = 0.25  # per vector that is one value
SHUFFLE = 1.0  # per vector whose lanes are picked out of two, or turned around
GATHER = 1.2  # per element that is loaded or stored by itself
MISS = 6.0  # the same, where each element lies in a line of its own
KNOWN_DIVISOR = 1.5  # per vector that is divided by what is known: products, and what is left
DIVIDER = 32  # bytes that are divided at once (vdivps: 5 cycles, of 64 bytes 10)
CONFLICT = 12.0  # the same, where those lines share few sets of the first-level cache
WINDOW = 14.0  # steps of a reduction while which a core has begun with the next one

# Per vector of a primitive; `SIMPLE` for those that are not here.
SIMPLE = 0.45
SCALAR = 0.3  # of one number
PRIMITIVE = {
    "div": 4.5,
    "sqrt": 5.5,
    "rsqrt": 11.0,
    "exp": 9.0,
    "exp2": 8.5,
    "expm1": 12.0,
    "log": 24.0,
    "log1p": 40.0,
    "log2": 25.0,
    "tanh": 10.5,
    "erf": 15.5,
    "sigmoid": 8.0,
    "normal_area": 12.0,
    "sin": 32.0,
    "cos": 32.0,
    "tan": 60.0,
    "pow": 125.0,
    "atan2": 60.0,
    "floordiv": 20.0,
    "mod": 20.0,
    "truncdiv": 20.0,
    "rem": 20.0,
    "round": 0.7,
    "cast": 1.0,
}


def core_of(target: Machine) -> Core:
    """What the model takes a core of the target to be."""
    return core_model.core_of(target.vector_bytes, target.cpu)


def cost(
    kernel: Kernel,
    plan: Schedule,
    target: Machine,
    between: int | None = None,
    since: Mapping[Buffer, int] | None = None,
) -> float:
    """Nanoseconds on one thread, with warm caches: what decides whether threads share a kernel.

    `between` are the bytes that a program touches before it comes to this kernel again (in a loop:
    its body's), which says where the kernel's weights lie by then, and `since` those since each of
    its buffers was touched. Where nothing is known of the program, all lies as near as its size
    allows and is foreseen: compiling asks for no more.
    """
    core = core_of(target)
    cycles = plan.cycles(kernel, target) + walk_cycles(kernel, plan, between)
    traffic = traffic_ns(
        all_traffic(kernel, plan, target, between, since, foreseen=since is None), target
    )
    least, most = sorted((cycles / core.rate, traffic))
    return CALL + most + ALONE * least


def walk_cycles(kernel: Kernel, plan: Schedule, between: int | None) -> float:
    """Cycles of finding pages that do not follow each other, where a program touches many."""
    if between is None:
        return 0.0
    return WALK * plan.pages(kernel) * (1 - _found(between, REACH))


def traffic_ns(traffic: Iterable[tuple[float, int]], target: Machine) -> float:
    """ns of (bytes, bytes of the memory that they lie in). What is small is in the first cache."""
    core = core_of(target)
    return sum(n * _fetch(size, core, target) for n, size in traffic if size > target.l1 // 2)


def scattered_cycles(nbytes: int, places: int, target: Machine) -> float:
    """Cycles that reading an array of so many bytes takes longer where a core goes along so many
    places side by side, from beyond the second-level cache."""
    if nbytes <= target.l2:
        return 0.0
    core = core_of(target)
    more = min(MOST, max(1.0, places / STREAMS)) - 1
    return more * nbytes * _fetch(nbytes, core, target) * core.rate


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
    kernel: Kernel,
    plan: Schedule,
    target: Machine,
    between: int | None,
    since: Mapping[Buffer, int] | None = None,
    foreseen: bool = False,
) -> Iterator[tuple[float, int]]:
    """(bytes, bytes of the memory that they lie in) of everything that is read or written; as if
    it were `foreseen`, and no more than what is wanted."""
    since, lines, each = since or {}, {}, 1.0
    if not foreseen:
        lines = whole_lines(kernel)
        each = min(MOST, max(1.0, _streams(kernel) / STREAMS))
    yield from plan.traffic(target, between)
    for b, (read, written) in _touched(kernel, plan).items():
        # What a kernel before this one wrote is still near, if it is small.
        nbytes, whole = size_hint(b.type.nbytes), lines.get(b, 1.0)
        moved = min(read * whole, max(nbytes, read)) + min(written * whole, nbytes) * WRITES
        yield moved * each, max(nbytes, since.get(b, 0))


def _streams(kernel: Kernel) -> int:
    """How many places of memory it goes along side by side."""
    found = set()
    for e in s.walk(*kernel.roots()):
        if e.op == "load":
            _, first = s.linear(e.args[0])
            found.add((e.data, size_hint(first) * e.data.dtype.bytes // PAGE))
    return len(found) + len(kernel.stores)


def whole_lines(kernel: Kernel) -> dict[Buffer, float]:
    """How many times as many bytes move as are touched, where these are short pieces: whole cache
    lines do. Of buffers that are touched so."""
    places = [(e.data, e.args[0]) for e in s.walk(*kernel.roots()) if e.op == "load"]
    places += [(st.buffer, st.index[0]) for st in kernel.stores if len(st.index) == 1]
    found: dict[Buffer, float] = {}
    for b, place in places:
        terms, _ = s.linear(place)
        if any(t.op != "axis" for t in terms):
            continue
        strides = sorted((abs(size_hint(k)), size_hint(t.data.extent)) for t, k in terms.items())
        run = 1
        while strides and strides[0][0] == run:
            run *= strides.pop(0)[1]
        nbytes = run * b.dtype.bytes
        if strides and nbytes < PAGE:
            touched = min(strides[0][0] * b.dtype.bytes, nbytes + LINE - 4)
            found[b] = max(found.get(b, 1.0), touched / nbytes)
    return found


def _fetch(size: int, core: Core, target: Machine) -> float:
    """ns per byte of something that is read over and over, `size` bytes in all. What is too large
    for a cache drives itself out of it: of half as much again as it holds, nothing is found."""
    l2 = _found(size, target.l2 * 3 / 4)
    l3 = max(l2, _found(size, L3))
    return l2 / core.l2 + (l3 - l2) / core.l3 + (1 - l3) / core.memory


def _found(size: int, room: float) -> float:
    """The share of `size` bytes that is found in a cache, when they are read again."""
    return min(1.0, max(0.0, 3 - 2 * size / room))


# -- parts of kernels -----------------------------------------------------------------------


def epilogue(kernel: Kernel, sums: Sequence[Expr], vector_axis: Axis, lanes: int) -> float:
    """Cycles per vector of what follows the sums, with its stores."""
    values = [st.value for st in kernel.stores]
    inner, data = set(s.walk(*sums)), data_of(values)
    loaded: set[Expr] = set()  # what is made of places alone (how many a window has) is found once
    for e in s.walk(*values):
        if e.op == "load" or e in sums or any(a in loaded for a in e.args):
            loaded.add(e)
    return 2 * LOAD * len(values) + sum(
        KNOWN_DIVISOR
        if e.op == "div" and e.args[1] not in loaded
        else cycles_of(e, vector_axis, lanes, data)
        for e in s.walk(*values)
        if e in loaded - inner
    )


def evaluation(e: Expr, vector_axis: Axis | None, lanes: int) -> float:
    """Cycles per vector of computing a factor and storing it."""
    data = data_of([e])
    return 2 * LOAD + sum(cycles_of(x, vector_axis, lanes, data) for x in s.walk(e))


# -- expressions ---------------------------------------------------------------------------


def cycles_of(
    e: Expr, vector_axis: Axis | None, lanes: int, data: set[Expr], side: int = 1
) -> float:
    """Cycles of one vector (without a vector axis: one value) of an expression, its arguments
    known. A reduction has `side` sums side by side."""
    if e.op in ("const", "axis"):
        return 0.0
    if e.op == "load":
        return (
            LOAD
            if vector_axis is None
            else place_cycles(e.args[0], vector_axis, lanes, e.data.type)
        )
    if e.op == "reduce":
        # In a long chain each step waits for the last, short ones overlap with each other and with
        # the loads.
        steps = extent_of(e.data[1]) / (lanes if vector_axis in e.data[1] else 1)
        waits = LATENCY if e.data[0] in ("sum", "prod") and e.dtype.is_float else LATENCY / 2
        return max(SIMPLE, min(waits / side, SIMPLE + steps / side / WINDOW) - LOAD)
    if e not in data and e.dtype == s.I64 and e.op not in ("floordiv", "mod"):
        return 0.0  # sums of places are part of addresses
    if e.op == "cast" and vector_axis is not None:
        return _cast_cycles(e.args[0].dtype, e.dtype)
    if e.op == "div" and e.args[1].op == "const":
        return KNOWN_DIVISOR
    cycles = primitive_cycles(e.op, e.dtype.bits, lanes if vector_axis is not None else None)
    # Beside numbers of 32 bits, places are two vectors.
    is_place = e.dtype == s.I64 and e.op not in PRIMITIVE and vector_axis is not None
    return cycles * (2 if is_place else 1)


def _cast_cycles(before: DType, after: DType) -> float:
    """Cycles of a vector's conversion: between numbers of 32 bits one instruction; short ones are
    widened or packed; between f32 and i64 there is none."""
    if 64 in (before.bits, after.bits) and before.is_float != after.is_float:
        return 6.0
    if after.bits < min(32, before.bits):
        return 1.0
    return 1.5 if before.bits < 32 else 0.5


def primitive_cycles(op: str, bits: int, lanes: int | None) -> float:
    """Cycles of a primitive of one vector of so many lanes; None: of one value."""
    if lanes is None:
        return PRIMITIVE.get(op, 2 * SCALAR) / 2
    cycles = PRIMITIVE.get(op, SIMPLE) * (2 if bits == 64 and op in PRIMITIVE else 1)
    return cycles * max(1.0, lanes * bits / 8 / DIVIDER) if op in ("div", "sqrt") else cycles


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
