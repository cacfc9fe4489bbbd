"""Program -> native code: schedules, objects (from the cache where known), the entry.

code = compile_program(program, target)       -> NativeCode
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import llvmlite.ir as ir

from ...ir.bounds import size_hint
from ...kernels.kernel import Program
from ...kernels.machine import Machine
from ...system.cores import default_threads
from .base.cache import ObjectCache, cache_folder
from .base.target import machine
from .kernel.codegen import generator_version, kernel_module
from .kernel.objects import Passes, object_code, optimize
from .parallel import Task, compile_all
from .program.effort import seconds_of
from .program.entry import build_plan, main_module
from .program.native_code import MAIN, NativeCode
from .program.plan import Plan
from .schedules.tuning_records import TuningRecord

MAX_JOBS = 8  # processes that compile at once
LONG = 100_000  # characters of an entry from which mere calls are not worth the best code
SMALL = 30_000.0  # ns of work for threads to share below which one is faster than several


def compile_program(
    program: Program,
    target: Machine,
    updates: dict[int, int] | None = None,
    cache: ObjectCache | None = None,
    progress: Callable[[int, int], None] | None = None,
    tuning_records: Mapping[str, TuningRecord] | None = None,
) -> NativeCode:
    """Compile a program. `updates`: outputs that take over the memory of inputs; `tuning_records`:
    measured schedules, by the keys of kernels. `progress(done, total)` hears of each kernel, from
    several threads."""
    cache = ObjectCache(cache_folder() / "objects") if cache is None else cache
    plan = build_plan(program, target, updates, tuning_records)
    objects: dict[str, bytes] = {}
    missing = []
    for name, code in plan.codes.items():
        found = cache.get(name)
        if found is None:
            text = partial(lambda code: str(kernel_module(code, target)), code)
            missing.append(Task(name, text, code.passes, seconds_of(code)))
        else:
            objects[name] = found

    def done(name: str, data: bytes) -> None:
        cache.put(name, data)
        objects[name] = data
        if progress is not None:
            progress(len(objects), len(plan.codes))

    if progress is not None:
        progress(len(objects), len(plan.codes))
    compile_all(missing, target, min(default_threads(), MAX_JOBS), done)
    entry = str(main_module(plan, target, updates))
    key = "m_" + hashlib.sha256(f"{generator_version()}{target!r}{entry}".encode()).hexdigest()[:24]
    found = cache.get(key)
    if found is None:
        effort = (Passes.MOST, 2) if len(entry) < LONG else (Passes.FEW, 0)
        found = object_code(entry, target, *effort)
        cache.put(key, found)
    objects[MAIN] = found
    usual = sum(size_hint(d) for d in program.slots)
    return NativeCode(
        target,
        objects,
        plan.weights,
        plan.layout,
        plan.arena,
        plan.scratch,
        plan.shared_cost >= SMALL or (usual > 0 and plan.shared_cost > 0),
        plan.host_callbacks,
        plan.tail,
        plan.counters,
        plan,
        plan.symbols,
        program.slots,
        program.conditions,
        program.equations,
        int(usual * SMALL / max(plan.shared_cost, 1)),
        asks=plan.asks,
        checks=program.checks,
        packings=tuple(plan.packings),
    )


def llvm_text(plan: Plan, target: Machine, updates=None, optimized: bool = True) -> str:
    """LLVM IR of every kernel and the entry, for `--emit llvm`."""
    modules = [*_modules(plan, target), (main_module(plan, target, updates), Passes.MOST)]
    return "\n".join(str(optimize(m, target, p) if optimized else m) for m, p in modules)


def assembly_text(plan: Plan, target: Machine, updates=None) -> str:
    """Assembly of every kernel and the entry, for `--emit asm`."""
    modules = [*_modules(plan, target), (main_module(plan, target, updates), Passes.MOST)]
    return "\n".join(machine(target).emit_assembly(optimize(m, target, p)) for m, p in modules)


def whole_object(plan: Plan, target: Machine, updates=None) -> bytes:
    """One relocatable object with every kernel and the entry, for `--emit object`."""
    whole = optimize(main_module(plan, target, updates), target)
    for module, passes in _modules(plan, target):
        whole.link_in(optimize(module, target, passes))
    return machine(target).emit_object(whole)


def _modules(plan: Plan, target: Machine) -> Iterator[tuple[ir.Module, Passes]]:
    """The module of each kernel, and the passes that it is worth."""
    for code in plan.codes.values():
        yield kernel_module(code, target), code.passes
