"""Program -> one generated entry: every thread walks the whole schedule.

    void tessel_main(ptr table, i64 tid, i64 nthreads, ptr barrier)

`table` holds pointers: arena, scratch, callback, then inputs, outputs, weights (`Layout`), and
dynamic dims. Threads take their share of each kernel's units and meet at barriers, which stand only
where a step reads or overwrites what another thread may still be working on. A kernel too small to
share runs on thread 0. Python kernels at the end of the schedule are left to the caller
(`Plan.tail`).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import prod

import llvmlite.ir as ir
import numpy as np

from ....expr.expr import Buffer
from ....ir.bounds import largest, size_hint
from ....ir.dims import ceil_div
from ....kernels.alike import alike
from ....kernels.kernel import Call, For, HostCallback, If, Path, Program, Ref, Slot, map_steps
from ....kernels.machine import Machine
from ..base.types import I8, I64, PTR, VOID, i64
from ..emit.dynamic_sizes import Sizes
from ..kernel.codegen import KernelCode, function_type, schedule_kernel
from ..schedules.tuning_records import TuningRecord
from .alone import is_alone, walk_alone
from .alternating import alternate, pieces_of, turns_of
from .dispatch import Chosen, choose, dispatcher
from .effort import codes_of, exchange, with_effort
from .native_code import MAIN, Layout, Packing
from .plan import Plan, Regions, Scheduled, constant_arrays, is_shared, overlap, packings_of
from .polling import Polling, is_long
from .pool_ir import declare_barrier
from .while_loop import emit_while
from .work_stealing import WorkStealing, piece_of

# {number of the kernel, its operands' and results' places} -> 0, or not if a kernel raised
CALLBACK = ir.FunctionType(I64, [PTR])


class _Planner:
    """Schedules calls, packs constants, renumbers weights."""

    def __init__(
        self, program: Program, target: Machine, updates: dict[int, int], tuning_records=None
    ):
        self.program, self.target = program, target
        self.regions = Regions.of(program.steps, updates)
        self.tuning_records = tuning_records
        self.codes: dict[str, KernelCode] = {}
        self.weights: list[np.ndarray] = []
        self.slots: dict = {}
        self.packings: list[Packing] = []
        self.host_callbacks: list[HostCallback] = []
        self.times: Counter[str] = Counter()  # ns of a run, by kernel

    def steps(self, steps: list) -> list:
        return map_steps(steps, self.step, self.ref)

    def step(self, step: Call | HostCallback, path: Path) -> Scheduled | HostCallback | None:
        if isinstance(step, Call):
            times = prod(size_hint(loop.rounds) for loop in path if isinstance(loop, For))
            return None if self.is_idle(step) else self.call(step, times)
        inputs = tuple(None if r is None else self.ref(r) for r in step.inputs)
        self.host_callbacks.append(replace(step, inputs=inputs))
        return replace(step, inputs=inputs, function=len(self.host_callbacks) - 1)

    def call(self, call: Call, times: int) -> Scheduled:
        kernel = call.kernel
        arrays = constant_arrays(self.program, call)
        known, in_place = frozenset(arrays), self.in_place(call)
        code = schedule_kernel(kernel, self.target, known, in_place, self.tuning_records, arrays)
        self.times[code.name] += code.cost * times
        first = self.codes.setdefault(code.name, code)
        packed = None
        if code.packs:
            sources = tuple((i, id(arrays[b])) for i, b in enumerate(kernel.params) if b in arrays)
            key = (code.name, sources)
            if key not in self.slots:
                self.slots[key] = self.add(code.pack(arrays))
                self.packings += packings_of(code.schedule, arrays, len(self.weights) - 1)
            packed = self.slots[key]
        where = dict(zip(kernel.params, call.refs))
        refs = tuple(self.ref(where[b]) for b in code.params)
        return Scheduled(first if first.symbols == code.symbols else code, refs, packed, call)

    def in_place(self, call: Call) -> bool:
        """Whether an output's memory is also read."""
        kernel = call.kernel
        count = len(kernel.inputs)
        reads = [self._region(r, b) for r, b in zip(call.refs, kernel.inputs)]
        writes = [self._region(r, b) for r, b in zip(call.refs[count:], kernel.outputs)]
        return any(overlap(w, r) for w in writes for r in reads)

    def is_idle(self, step: Call) -> bool:
        """Whether a step only stores what is there already: an update in place starts as a copy of
        its input, and both are one memory."""
        places = dict(zip(step.kernel.params, step.refs))

        def place(buffer: Buffer) -> tuple:
            return self._region(places[buffer], buffer), buffer.type, places[buffer].steps

        return all(
            st.value.op == "load"
            and st.mode == "set"
            and st.value.args == st.index
            and place(st.value.data) == place(st.buffer)
            for st in step.kernel.stores
        )

    def _region(self, ref: Ref, buffer: Buffer) -> tuple:
        return self.regions.region(ref, buffer.type.nbytes)

    def add(self, array: np.ndarray) -> Ref:
        self.weights.append(array)
        return Ref(Slot("weight", len(self.weights) - 1))

    def ref(self, ref: Ref) -> Ref:
        if ref.slot.kind != "weight":
            return ref
        if ref.slot not in self.slots:
            self.slots[ref.slot] = self.add(self.program.weights[ref.slot.index])
        return Ref(self.slots[ref.slot].slot, ref.offset, ref.steps)


def build_plan(
    program: Program,
    target: Machine,
    updates: dict[int, int] | None = None,
    tuning_records: Mapping[str, TuningRecord] | None = None,
) -> Plan:
    """Schedule every kernel, by `tuning_records` where they fit, and pack the weights."""
    program = alike(program)
    planner = _Planner(program, target, updates or {}, tuning_records)
    steps = planner.steps(program.steps)
    steps = exchange(steps, with_effort(planner.codes, planner.times))
    codes = codes_of(steps)
    scratch = largest(c.scratch for c in codes)
    return Plan(
        program,
        steps,
        {c.name: c for c in codes},
        planner.weights,
        ceil_div(scratch, 64) * 64,
        planner.times.total(),
        sum(ns for name, ns in planner.times.items() if is_shared(planner.codes[name])),
        target.l2,
        planner.host_callbacks,
        planner.packings,
    )


# -- the entry -----------------------------------------------------------------------------


def main_module(plan: Plan, target: Machine, updates: dict[int, int] | None = None) -> ir.Module:
    """The LLVM module of the entry."""
    module = ir.Module(name=MAIN)
    module.triple = target.triple
    f = ir.Function(module, ir.FunctionType(VOID, [PTR, I64, I64, PTR]), MAIN)
    Main(plan, module, f, updates or {}).emit()
    return module


class Main:
    """Writes the entry, step by step."""

    def __init__(self, plan: Plan, module: ir.Module, f: ir.Function, updates):
        self.plan, self.module, self.f = plan, module, f
        self.region = Regions.of(plan.steps, updates).region
        self.table, self.tid, self.threads, self.barrier = f.args
        self.b = ir.IRBuilder(f.append_basic_block("entry"))
        self.meet = declare_barrier(module)
        self.loops: dict[int, ir.Value] = {}
        self.functions: dict[str, ir.Function] = {}
        self.symbols: dict[str, ir.Value] = {}
        self.size = Sizes(self.b, self.symbols).value
        self.pending: list[tuple] = []  # (shared, reads, writes, group) since a barrier
        self.scratch = None
        self.tail = plan.tail
        self.turns = turns_of(plan.steps)
        self.stealing: WorkStealing | None = None
        self.polling: Polling | None = None
        self.alone = False  # whether what is written is for the first thread only
        self.ask_position = plan.layout.ask

    def emit(self) -> None:
        for i, name in enumerate(self.plan.symbols):
            place = self.b.gep(
                self.table, [i64(self.plan.layout.position("size", i))], source_etype=I64
            )
            self.symbols[name] = self.b.load(place, typ=I64)
        offset = self.b.mul(self.tid, self.size(self.plan.scratch))
        self.scratch = self.b.gep(self._pointer(Layout.SCRATCH), [offset], source_etype=I8)
        self.is_first = self.b.icmp_signed("==", self.tid, i64(0))
        if self.plan.counters:
            behind = i64(self.plan.arena - self.plan.counters)
            start = self.b.gep(self._pointer(Layout.ARENA), [behind], source_etype=I8)
            self.stealing = WorkStealing(self.b, start, self.plan.stealable, self.tid, self.threads)
        if self.plan.asks:
            self.polling = Polling(self)
        self._steps(self.plan.steps[: len(self.plan.steps) - self.tail])
        self.b.ret_void()

    def _steps(self, steps: list) -> None:
        for step in steps:
            if isinstance(step, For | If) and not self.alone and is_alone(step):
                walk_alone(self, step)
            else:
                self.step(step)

    def step(self, step: Scheduled | HostCallback | For | If) -> None:
        match step:
            case Scheduled():
                self._call(step)
            case For(condition=None):
                self._for(step)
            case For():
                emit_while(self, step)
            case If():
                self._if(step)
            case HostCallback():
                self._host_callback(step)

    # -- synchronisation ------------------------------------------------------------------

    def _synchronise(self) -> None:
        if self.pending and not self.alone:
            self.b.call(self.meet, [self.barrier, self.threads])
        self.pending = []

    def order(self, shared: bool, reads: list, writes: list, group: int | None = None) -> None:
        """A barrier if this step conflicts with one since the last barrier on other threads."""
        for other_shared, other_reads, other_writes, other_group in self.pending:
            if not shared and not other_shared:
                continue
            apart = group is not None and group == other_group
            clash = any(
                overlap(x, y)
                for xs, ys in (
                    ((), ()) if apart else (writes, other_writes),
                    (writes, other_reads),
                    (reads, other_writes),
                )
                for x in xs
                for y in ys
            )
            if clash:
                self._synchronise()
                break
        self.pending.append((shared, reads, writes, group))

    def touched(self, step: Scheduled) -> tuple[list, list]:
        """The regions that a call reads, and those that it writes."""
        code = step.code
        regions = [self.region(r, b.type.nbytes) for r, b in zip(step.refs, code.params)]
        outs = set(code.kernel.outputs)
        reads = [x for x, b in zip(regions, code.params) if b not in outs]
        writes = [x for x, b in zip(regions, code.params) if b in outs]
        return reads if code.kernel.stores[0].mode == "set" else reads + writes, writes

    # -- steps ----------------------------------------------------------------------------

    def _call(self, step: Scheduled) -> None:
        code = step.code
        shared = is_shared(code)
        self.order(shared, *self.touched(step), step.call.group)
        chosen = choose(self.b, self.size, (code, *code.others)) if code.others else None
        if not shared:
            with self.b.if_then(self.is_first):
                units = self.size(code.units) if chosen is None else chosen.units
                self._invoke(step, chosen, i64(0), units)
                self._done(step)
            return
        invoke = lambda begin, end: self._invoke(step, chosen, begin, end)
        units = self.size(code.units) if chosen is None else chosen.units
        if id(step) in self.plan.stealable:
            piece = i64(piece_of(code)) if chosen is None else chosen.piece
            self.stealing.run(step, piece, lambda owner: self._part(owner, units), invoke)
        elif self.loops and (pieces := pieces_of(self.plan, step)) > 1:
            alternate(self, self.turns[id(step)], pieces, *self._part(self.tid, units), invoke)
        else:
            invoke(*self._part(self.tid, units))
        self._done(step)

    def _part(self, owner: ir.Value, units: ir.Value) -> tuple[ir.Value, ir.Value]:
        """A thread's part of the units, from and to."""
        begin = self.b.sdiv(self.b.mul(owner, units), self.threads)
        after = self.b.add(owner, i64(1))
        return begin, self.b.sdiv(self.b.mul(after, units), self.threads)

    def _done(self, step: Scheduled) -> None:
        """This thread has no more units of the step."""

    def _invoke(self, step: Scheduled, chosen: Chosen | None, begin, end) -> None:
        code = step.code
        null = ir.Constant(PTR, None)
        pointers = [self._address(r) for r in step.refs]
        packed = null if step.packed is None else self._address(step.packed)
        sizes = [self.symbols[n] for n in code.symbols]
        arguments = [*pointers, packed, self.scratch, *sizes, begin, end]
        if chosen is None:
            self.b.call(self._function(code), arguments)
            return
        if f"any_{code.name}" not in self.functions:
            codes = (code, *code.others)
            functions = [self._function(c) for c in codes]
            self.functions[f"any_{code.name}"] = dispatcher(self.module, codes, functions)
        self.b.call(self.functions[f"any_{code.name}"], [*arguments, chosen.number])

    def _function(self, code: KernelCode) -> ir.Function:
        """The kernel's function, which is linked to the entry."""
        if code.name not in self.functions:
            self.functions[code.name] = ir.Function(self.module, function_type(code), code.name)
        return self.functions[code.name]

    def _host_callback(self, step: HostCallback) -> None:
        """The Python kernel runs on thread 0, between barriers."""
        self._synchronise()
        refs = [r for r in (*step.inputs, *step.outputs) if r is not None]
        with self.b.if_then(self.is_first):
            with self.b.goto_entry_block():
                words = self.b.alloca(ir.ArrayType(I64, 1 + len(refs)))
                words.type = PTR
            self.b.store(i64(step.function), words)
            for i, r in enumerate(refs):
                place = self.b.gep(words, [i64(1 + i)], source_etype=PTR)
                self.b.store(self._address(r), place)
            self._call_back(step, words)
        self.pending = [(True, [], [("any", 0, 1)], None)]
        self._synchronise()

    def _call_back(self, step: HostCallback, words: ir.Value) -> None:
        callback = self._pointer(Layout.CALLBACK)
        callback.type = CALLBACK.as_pointer()  # for llvmlite, which calls typed pointers only
        raised = self.b.call(callback, [words])
        if self.polling is not None:
            self.polling.stop_if(raised)

    def _for(self, step: For) -> None:
        self._synchronise()
        before = self.b.block
        head = self.f.append_basic_block("for")
        done = self.f.append_basic_block("for.done")
        self.b.branch(head)
        self.b.position_at_end(head)
        i = self.b.phi(I64, "t")
        i.add_incoming(i64(0), before)
        self.loops[step.id] = i
        if is_long(step):
            self.polling.head()
            self.polling.body()
        self._steps(step.body)
        self._synchronise()
        following = self.b.add(i, i64(1))
        i.add_incoming(following, self.b.block)
        self.b.cbranch(self.b.icmp_signed("<", following, self.size(step.trips)), head, done)
        self.b.position_at_end(done)
        del self.loops[step.id]

    def _if(self, step: If) -> None:
        self._synchronise()
        flag = self.b.load(self._address(step.condition), typ=I8)
        # Nobody may overwrite the condition before every thread has read it.
        self.pending = [(True, [self.region(step.condition, 1)], [], None)]
        with self.b.if_else(self.b.icmp_unsigned("!=", flag, ir.Constant(I8, 0))) as (yes, no):
            with yes:
                kept = list(self.pending)
                self._steps(step.then)
                self._synchronise()
            with no:
                self.pending = kept
                self._steps(step.orelse)
                self._synchronise()

    # -- addresses ------------------------------------------------------------------------

    def _pointer(self, position: int) -> ir.Value:
        place = self.b.gep(self.table, [i64(position)], source_etype=PTR)
        return self.b.load(place, typ=PTR)

    def _address(self, ref: Ref) -> ir.Value:
        base = self._pointer(self.plan.layout.position(ref.slot.kind, ref.slot.index))
        offset = None
        for loop, step in ref.steps:
            moved = self.b.mul(self.loops[loop], self.size(step))
            offset = moved if offset is None else self.b.add(offset, moved)
        if ref.offset or offset is not None:
            first = self.size(ref.offset)
            total = first if offset is None else self.b.add(offset, first)
            base = self.b.gep(base, [total], source_etype=I8)
        return base


__all__ = ["MAIN", "Layout", "Plan", "build_plan", "main_module"]
