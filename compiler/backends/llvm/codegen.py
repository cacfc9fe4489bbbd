"""Kernel -> LLVM function -> object code.

A kernel's function is `void k_HASH(ptr buffer, …, ptr packed, ptr scratch, i64 size, …, i64 begin,
i64 end)`, with a size for each that is open: it runs the units `begin` to `end` of the schedule's
parallel work. The hash covers the kernel's text, schedule and target, so equal kernels of all
models share one function and one cache entry.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np

from ...concurrency import lazy
from ...dims import Sym, symbols
from ...loops import expr as s
from ...loops.bind import is_open, symbols_of, typical_twin
from ...loops.contraction import Contraction, find_contraction
from ...loops.expr import Buffer
from ...loops.nest import Kernel
from ...loops.work import Work
from ...sizes import USUAL, OpenSize, expected_too, typical
from ..base import CpuTarget
from .choices import won
from .contract import ContractEmitter
from .contract_open import HIGHEST, LOW, of_many_heights, opened
from .contract_pack import pack_constant
from .contract_plan import schedule_contraction
from .contract_schedule import ContractSchedule
from .cost import cost, kernel_work
from .emit import Emitter
from .narrow import mark
from .nest import NestSchedule, emit_nest, schedule_nest
from .objects import Passes
from .rows import row_bytes
from .types import I64, PTR, VOID, Names
from .window import WindowEmitter, WindowSchedule, schedule_window
from .winners import Winner


@functools.cache
def generator_version() -> str:
    """A hash of the source that decides a kernel's code: what another generator made is never
    reused."""
    here = Path(__file__).parent
    compiler = here.parents[1]
    loops = ("core", "expr", "index", "schedule", "bind")
    others = [compiler / "loops" / f"{m}.py" for m in loops]
    others += [compiler / f"{m}.py" for m in ("dims", "sizes")]
    digest = hashlib.sha256(repr(llvm.llvm_version_info).encode())
    for file in (*sorted(here.glob("*.py")), *others):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(eq=False)
class KernelCode:
    """A scheduled kernel. `params` are the buffers that its function takes, in order;
    `cost` is an estimate of its time on one thread, in ns; `winner` says that its schedule was
    measured to be faster than the default one; `others` have tiles of other heights, which may fit
    an open number of rows better; `passes` are LLVM's that its code is worth (`effort.py`)."""

    kernel: Kernel
    schedule: NestSchedule | ContractSchedule | WindowSchedule
    params: tuple[Buffer, ...]
    in_place: bool
    cost: float
    winner: Winner | None = None
    others: tuple["KernelCode", ...] = ()
    passes: Passes = Passes.MOST
    about: tuple[str, ...] = ()  # what else its code follows from

    @lazy
    def name(self) -> str:
        """A hash of all that its code follows from. Kernels that are only compared need none."""
        text = [generator_version(), *self.about, _described(self), self.kernel.text()]
        return "k_" + hashlib.sha256("\n".join(text).encode()).hexdigest()[:20]

    @property
    def packs(self) -> bool:
        s = self.schedule
        return isinstance(s, ContractSchedule) and s.b == "constant"

    @lazy
    def symbols(self) -> tuple[str, ...]:
        """The open sizes that its function takes, in order."""
        return symbols_of(self.kernel)

    @property
    def units(self):
        """Pieces of work that threads can share, a dim."""
        return self.schedule.units

    @property
    def work(self) -> Work:
        """What it does at least."""
        return kernel_work(self.kernel, self.schedule)

    @property
    def scratch(self):
        """Bytes of scratch memory per thread, a dim."""
        if isinstance(self.schedule, ContractSchedule):
            return self.schedule.scratch
        if isinstance(self.schedule, NestSchedule) and self.schedule.lane in self.schedule.row:
            return row_bytes(self.kernel, self.schedule.lane)
        return 0

    def pack(self, arrays: dict[Buffer, np.ndarray]) -> np.ndarray:
        """The packed constant of `packs`, from the arrays of the kernel's constant buffers."""
        return pack_constant(self.schedule, arrays)


def schedule_kernel(
    kernel: Kernel, target: CpuTarget, constants: frozenset[Buffer], in_place: bool,
    winners: Mapping[str, Winner] | None = None,
) -> KernelCode:  # fmt: skip
    """Choose a schedule. `constants` are the parameters whose contents are known; `winners` are
    used where they have the kernel's key and fit it. Raises OpenSize where the kernel's code cannot
    be made for any size."""
    if is_open(kernel):
        return _schedule_open(kernel, target, constants, in_place)
    plan = winner = None
    contraction = None if in_place else find_contraction(kernel)
    if contraction is not None:
        plan = schedule_contraction(kernel, contraction, target, constants)
    if plan is not None and winners:
        plan, winner = won(kernel, plan, target, constants, winners)
    if plan is None and not in_place:
        plan = schedule_window(kernel, target)
    if plan is None:
        plan = schedule_nest(kernel, target, in_place)
    ns = cost(kernel, plan, target)
    return _code(kernel, plan, target, in_place, ns, winner)


def _schedule_open(
    kernel: Kernel, target: CpuTarget, constants: frozenset[Buffer], in_place: bool
) -> KernelCode:
    """The schedule of a kernel with open sizes: that of the sizes to expect, made right for all."""
    twin, axes, buffers = typical_twin(kernel)
    known = frozenset(buffers[b] for b in constants)
    code = schedule_kernel(twin, target, known, in_place)
    back = {twins: own for own, twins in axes.items()}
    plan = code.schedule
    if isinstance(plan, ContractSchedule):
        contraction = find_contraction(kernel)
        if contraction is None:
            raise OpenSize("a contraction that is one for some sizes only")
        if contraction.m and isinstance(contraction.m[-1].extent, Sym):
            return _of_many_heights(kernel, contraction, code, target, constants)
        plan = opened(plan, contraction, target)
    elif isinstance(plan, WindowSchedule):
        plan = schedule_window(kernel, target)
        if plan is None:
            raise OpenSize("a window that is one for some sizes only")
    else:
        plan = plan.over(back)
    return _code(kernel, plan, target, in_place, code.cost, None)


def _of_many_heights(
    kernel: Kernel, c: Contraction, code: KernelCode, target: CpuTarget,
    constants: frozenset[Buffer],
) -> KernelCode:  # fmt: skip
    """Schedules that read B alike, with tiles of different heights: the entry takes the one that
    fits the number of rows. `code` is the twin's; where it has few rows, another has many."""
    rows, few = c.m[-1].extent, code.cost
    with expected_too(dict.fromkeys(symbols(rows) if typical(rows) < HIGHEST else (), USUAL)):
        if typical(rows) != code.schedule.m.extent:
            twin, _, buffers = typical_twin(kernel)
            known = frozenset(buffers[b] for b in constants)
            code = schedule_kernel(twin, target, known, code.in_place)
        if not isinstance(code.schedule, ContractSchedule):
            raise OpenSize("a contraction that is one for some sizes only")
        plans = [opened(p, c, target) for p in of_many_heights(code.schedule)]
    first, *others = (
        _code(kernel, p, target, code.in_place, few if p.tile.rows <= LOW else code.cost, None)
        for p in plans
    )
    return replace(first, others=tuple(others))


def _code(
    kernel: Kernel, plan, target: CpuTarget, in_place: bool, ns: float, winner: Winner | None
) -> KernelCode:
    """The kernel with its schedule, and what its code follows from besides. The sizes to expect
    decide how reductions of an open size are written, and which rows are kept."""
    params = kernel.params
    if isinstance(plan, ContractSchedule) and plan.b == "constant":
        params = tuple(b for b in params if b in _buffers_without_b(kernel, plan))
    expected = [f"{n}: {typical(Sym.named(n))}" for n in symbols_of(kernel)]
    numbers = ",".join(str(kernel.params.index(b)) for b in params)
    about = (repr(target), str(in_place), numbers, *expected)
    return KernelCode(kernel, plan, params, in_place, ns, winner, about=about)


def _described(code: KernelCode) -> str:
    """A schedule in words: whatever differs between two schedules of a kernel is said."""
    kernel, plan = code.kernel, code.schedule
    if isinstance(plan, WindowSchedule):
        text = f"window {_axes(kernel, [plan.line, plan.lane])} {plan.lanes} {plan.points}"
    elif isinstance(plan, NestSchedule):
        outer, lane = _axes(kernel, plan.outer), _axes(kernel, [plan.lane])
        text = f"nest {outer} {lane} {plan.lanes} {plan.block} {_axes(kernel, [plan.weave])}"
    else:
        text = f"contract {plan.tile} {plan.a} {plan.b} {plan.group} {plan.pairs}"
        text += f" {plan.near} {plan.stored} {plan.unroll}"
    return f"{text} {code.passes.name}"


def _axes(kernel: Kernel, axes) -> str:
    return ",".join(str(kernel.axes.index(a)) if a in kernel.axes else "-" for a in axes)


def _buffers_without_b(kernel: Kernel, plan: ContractSchedule) -> set[Buffer]:
    """Buffers that are still read once B is packed."""
    r = plan.contraction.reduce
    keep = s.make("reduce", (plan.contraction.a,), r.data, r.dtype)
    roots = [s.transform(e, lambda x: keep if x is r else None) for e in kernel.roots()]
    return {e.data for e in s.walk(*roots) if e.op == "load"} | set(kernel.outputs)


def function_type(code: KernelCode) -> ir.FunctionType:
    """Pointers to the buffers, to the packed constant and to scratch memory, open sizes, and the
    units from and to."""
    pointers, sizes = len(code.params) + 2, len(code.symbols)
    return ir.FunctionType(VOID, [PTR] * pointers + [I64] * (sizes + 2))


def kernel_module(code: KernelCode, target: CpuTarget) -> ir.Module:
    """The LLVM module of one kernel."""
    module = ir.Module(name=code.name)
    module.triple = target.triple
    mark(module, target)
    f = ir.Function(module, function_type(code), code.name)
    f.attributes.add("nounwind")
    f.scope = Names()
    arguments = list(f.args)
    pointers = [arguments.pop(0) for _ in code.params]
    packed, scratch, *sizes, begin, end = arguments
    for argument, buffer in zip(pointers, code.params):
        argument.name = "out" if buffer in code.kernel.outputs else "in"
        if not code.in_place:
            argument.add_attribute("noalias")
    for argument, name in zip((packed, scratch, begin, end), ("packed", "scratch", "begin", "end")):
        argument.name = name
    if not code.in_place:
        packed.add_attribute("noalias")
        scratch.add_attribute("noalias")
    e = Emitter(f, dict(zip(code.params, pointers)), target, dict(zip(code.symbols, sizes)))
    if not code.in_place:
        kept = [b for b in code.params if b not in code.kernel.outputs]
        e.read_numbers(code.kernel.roots(), kept)
    if isinstance(code.schedule, WindowSchedule):
        WindowEmitter(e, code.kernel, code.schedule).emit(begin, end)
    elif isinstance(code.schedule, ContractSchedule):
        ContractEmitter(e, code.kernel, code.schedule, packed, scratch).emit(begin, end)
    else:
        emit_nest(e, code.kernel, code.schedule, begin, end, code.in_place, scratch)
    e.b.ret_void()
    return module
