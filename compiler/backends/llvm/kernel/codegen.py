"""Kernel -> LLVM function -> object code.

A kernel's function is `void k_HASH(ptr buffer, …, ptr packed, ptr scratch, i64 size, …, i64 begin,
i64 end)`, with a size for each that is open: it runs the units `begin` to `end` of the schedule's
parallel work. The hash covers the kernel's text, schedule and target, so equal kernels of all
models share one function and one cache entry. Sizes that data decide have names that a reader
made up (`_n0`, `_n1`), and are arguments in the order in which the kernel's text has them: kernels
that differ in nothing else (the boxes of each class of a detector) share one function as well.
"""

import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np

from ....classes import dataclass
from ....expr.expr import Buffer
from ....ir.bounds import size_hint
from ....ir.dims import Sym
from ....kernels.bind import hint_specialized, is_dynamic, symbols_of
from ....kernels.kernel import Kernel
from ....kernels.machine import Machine
from ....kernels.work import Work
from ....system.concurrency import lazy
from ..base.types import I64, PTR, VOID, Names
from ..emit.emitter import Emitter
from ..emit.narrow_floats import mark
from ..schedules.base import Arguments, Dim, Given, HintSpecialized, Refusal, Schedule
from ..schedules.cost_model import cost, kernel_work
from ..schedules.tuning_records import TuningRecord
from .objects import Passes
from .schedule_kinds import SCHEDULES

MADE_UP = re.compile(r"\b_\w*\d\b")  # names of sizes that data decide
KNOWN_ONLY = Refusal("it is made for known sizes, and some are open")


@functools.cache
def generator_version() -> str:
    """A hash of the source that decides a kernel's code: what another generator made is never
    reused."""
    backend = Path(__file__).parents[1]
    compiler = backend.parents[1]
    folders = (backend, compiler / "expr", compiler / "kernels")
    files = [file for folder in folders for file in folder.rglob("*.py")]
    files += [compiler / "ir" / f"{module}.py" for module in ("dims", "bounds")]
    digest = hashlib.sha256(repr(llvm.llvm_version_info).encode())
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(eq=False)
class KernelCode:
    """A scheduled kernel. `params` are the buffers that its function takes, in order;
    `cost` is an estimate of its time on one thread, in ns; `tuning_record` says that its schedule
    was measured to be faster than the default one; `others` have tiles of other heights, which may
    fit an open number of rows better; `passes` are LLVM's that its code is worth (`effort.py`)."""

    kernel: Kernel
    schedule: Schedule
    params: tuple[Buffer, ...]
    in_place: bool
    cost: float
    tuning_record: TuningRecord | None = None
    others: tuple["KernelCode", ...] = ()
    passes: Passes = Passes.MOST
    about: tuple[str, ...] = ()  # what else its code follows from
    refused: Mapping[str, Refusal] = field(default_factory=dict)  # by the name of the schedule

    @lazy
    def name(self) -> str:
        """A hash of all that its code follows from. Kernels that are only compared need none."""
        chosen = f"{self.schedule.name} {self.schedule.key(self.kernel)} {self.passes.name}"
        numbers = {n: f"_{i}" for i, n in enumerate(self._made_up)}
        parts = [*self.about, chosen, self.kernel.written]
        if numbers:
            parts = [MADE_UP.sub(lambda m: numbers.get(m[0], m[0]), part) for part in parts]
        text = [generator_version(), *sorted(parts[:-2]), *parts[-2:]]
        return "k_" + hashlib.sha256("\n".join(text).encode()).hexdigest()[:20]

    @lazy
    def _made_up(self) -> dict[str, None]:
        """The names of sizes that data decide, in the order in which they stand in the kernel."""
        return dict.fromkeys(MADE_UP.findall(self.kernel.written))

    @property
    def packs(self) -> bool:
        """Whether its function takes a packed constant."""
        return self.schedule.packs

    @lazy
    def symbols(self) -> tuple[str, ...]:
        """The dynamic dims that its function takes, in order."""
        names = symbols_of(self.kernel)
        made_up = self._made_up
        return (*(n for n in names if n not in made_up), *(n for n in made_up if n in names))

    @property
    def units(self) -> Dim:
        """Pieces of work that threads can share."""
        return self.schedule.units

    @property
    def work(self) -> Work:
        """What it does at least."""
        return kernel_work(self.kernel, self.schedule)

    @property
    def scratch(self) -> Dim:
        """Bytes of scratch memory per thread."""
        return self.schedule.scratch_bytes(self.kernel)

    def pack(self, arrays: dict[Buffer, np.ndarray]) -> np.ndarray:
        """The packed constant of `packs`, from the arrays of the kernel's constant buffers."""
        return self.schedule.pack(arrays)


def schedule_kernel(
    kernel: Kernel,
    target: Machine,
    constants: frozenset[Buffer],
    in_place: bool,
    tuning_records: Mapping[str, TuningRecord] | None = None,
    contents: Mapping[Buffer, np.ndarray] | None = None,
) -> KernelCode:
    """Choose a schedule: the first of SCHEDULES that does not refuse. `constants` are the
    parameters whose contents are known; `tuning_records` are used where they have the kernel's key
    and fit it; `contents` are the constants' own, as far as they are at hand.
    Raises DynamicSize where the kernel's code cannot be made for any size."""
    given = Given(kernel, target, constants, in_place, contents=contents or {})
    return (
        _schedule_dynamic(given) if is_dynamic(kernel) else _schedule_known(given, tuning_records)
    )


def _schedule_known(
    given: Given, tuning_records: Mapping[str, TuningRecord] | None = None
) -> KernelCode:
    plan, refused = choose_schedule(given)
    tuning_record = None
    if tuning_records:
        plan, tuning_record = plan.improved(given, tuning_records)
    return _code(given, plan, cost(given.kernel, plan, given.target), refused, tuning_record)


def choose_schedule(given: Given) -> tuple[Schedule, dict[str, Refusal]]:
    """The first schedule that is proposed, and why those before it were not, by their names."""
    refused: dict[str, Refusal] = {}
    for kind in SCHEDULES:
        found = KNOWN_ONLY if given.is_specialized and not kind.opens else kind.propose(given)
        if not isinstance(found, Refusal):
            return found, refused
        refused[kind.name] = found
    raise AssertionError(f"no schedule takes {given.kernel.name}: {refused}")


def _schedule_dynamic(given: Given) -> KernelCode:
    """The schedule of a kernel with dynamic dims: that of the sizes to expect, made right for all.
    Where there are several, the entry takes one when it knows the sizes."""
    specialized, refused = _hint_specialized(given)
    first, *others = (
        _code(given, p, ns, refused) for p, ns in specialized.schedule.opened(specialized)
    )
    return replace(first, others=tuple(others)) if others else first


def _hint_specialized(given: Given) -> tuple[HintSpecialized, Mapping[str, Refusal]]:
    kernel, axes, buffers = hint_specialized(given.kernel)
    known = frozenset(buffers[b] for b in given.constants)
    contents = {buffers[b]: array for b, array in given.contents.items() if b in buffers}
    found = Given(kernel, given.target, known, given.in_place, given.kernel, contents)
    code = _schedule_known(found)
    own = {specialized_axis: axis for axis, specialized_axis in axes.items()}
    specialized = HintSpecialized(
        given, code.schedule, code.cost, own, lambda: _hint_specialized(given)[0]
    )
    return specialized, code.refused


def _code(
    given: Given,
    plan: Schedule,
    ns: float,
    refused: Mapping[str, Refusal],
    tuning_record: TuningRecord | None = None,
) -> KernelCode:
    """The kernel with its schedule, and what its code follows from besides. The sizes to expect
    decide how reductions of a dynamic dim are written, and which rows are kept."""
    kernel, params = given.kernel, plan.params(given.kernel)
    expected = [f"{n}: {size_hint(Sym.named(n))}" for n in symbols_of(kernel)]
    numbers = ",".join(str(kernel.params.index(b)) for b in params)
    about = (repr(given.target), str(given.in_place), numbers, *expected)
    return KernelCode(
        kernel, plan, params, given.in_place, ns, tuning_record, about=about, refused=refused
    )


def function_type(code: KernelCode) -> ir.FunctionType:
    """Pointers to the buffers, to the packed constant and to scratch memory, dynamic dims, and the
    units from and to."""
    pointers, sizes = len(code.params) + 2, len(code.symbols)
    return ir.FunctionType(VOID, [PTR] * pointers + [I64] * (sizes + 2))


def kernel_module(code: KernelCode, target: Machine) -> ir.Module:
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
    arguments = Arguments(begin, end, packed, scratch)
    code.schedule.emit(e, code.kernel, arguments, code.in_place)
    e.b.ret_void()
    return module
