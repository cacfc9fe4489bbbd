"""A Program as Triton kernels and the list of launches that a host walks.

    module = compile_program(program, "cuda:sm_90")    source text only: needs no triton, no GPU
    module.source()                                    what `--emit triton` prints
    module.compile(threads=4)                          machine code, taken from the cache if there
    runtime.device.CudaModel(module)                   runs it

Kernels of equal text are one kernel. A launch's pointers are places in four kinds of memory
(inputs, outputs, weights, arena) whose bases the runtime chooses, each a multiple of 256 bytes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path

from ...classes import dataclass
from ...errors import UnsupportedError, UsageError
from ...ir.types import STR, TensorType
from ...kernels.kernel import (
    Call,
    For,
    HostCallback,
    If,
    Kernel,
    Program,
    Ref,
    map_steps,
    walk_steps,
)
from .emit import Source, emit
from .jit import Binary, compile_all
from .schedule import choose
from .target import GpuTarget, parse_target

PRECISIONS = ("ieee", "tf32x3", "tf32")
ALIGNMENT = 16  # bytes: a pointer that Triton may load vectors from


@dataclass(frozen=True)
class Unit:
    """A kernel as it is compiled: its text, and which pointers are multiples of 16 bytes."""

    source: Source
    aligned: tuple[bool, ...]

    @property
    def key(self) -> str:
        """Name and content hash: the hash is the same for the same code, on any machine.

        The pointers' types are not in the text: a copy of floats and one of ints read alike.
        """
        s = self.source.unnamed()
        parts = (s.text, s.pointers, s.num_warps, s.num_stages, self.aligned)
        return f"{self.source.name}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Launch:
    """Start the programs of the kernel `key`; `refs` are its pointers, in order."""

    key: str
    programs: int
    refs: tuple[Ref, ...]
    origins: tuple[str, ...] = ()


@dataclass
class TritonModule:
    """A compiled program. `steps` are Launch, For, If and HostCallback; sizes are in bytes."""

    target: GpuTarget
    units: dict[str, Unit]
    steps: list
    inputs: list
    outputs: list
    weights: list
    arena: int
    checks: tuple = ()  # what a run's record says (`run_checks.py`)
    binaries: dict[str, Binary] = field(default_factory=dict)

    def source(self) -> str:
        """Every kernel's text, each under a line that names it."""
        parts = []
        for key, unit in self.units.items():
            s = unit.source
            head = f"# {key}: {s.programs} programs of {s.num_warps} warps, {s.num_stages} stages"
            parts.append(f"{head}\n{s.text}")
        return "\n".join(parts)

    def compile(self, *, threads: int = 1, cache: Path | None = None) -> "TritonModule":
        """Compile the kernels that have no machine code yet. Needs triton, but no GPU.

        Raises UnsupportedError, naming the kernel, for what the target cannot do.
        """
        missing = [k for k in self.units if k not in self.binaries]
        jobs = [(self.units[k].source, self.units[k].aligned) for k in missing]
        self.binaries |= zip(missing, compile_all(jobs, self.target, threads, cache))
        return self

    def launches(self) -> Iterator[Launch]:
        """Every launch, also those inside loops and branches."""
        yield from (s for s in walk_steps(self.steps) if isinstance(s, Launch))

    @property
    def is_static(self) -> bool:
        """Whether the host need not look at anything between launches: one CUDA graph does all."""
        return not any(
            isinstance(s, (If, HostCallback)) or (isinstance(s, For) and s.condition is not None)
            for s in walk_steps(self.steps)
        )


def compile_program(
    program: Program,
    target: str | GpuTarget = "cuda",
    *,
    precision: str = "ieee",
    binaries: Mapping[str, Binary] | None = None,
) -> TritonModule:
    """The module of a program.

    `precision` is how f32 products in contractions are computed: ieee (exactly), tf32x3 (nearly,
    on tensor cores) or tf32 (10 bits, fastest). `binaries` are already known ones by key.
    Raises UsageError for unknown targets and UnsupportedError for types that a GPU lacks.
    """
    if precision not in PRECISIONS:
        raise UsageError("unknown precision", expected=", ".join(PRECISIONS), received=precision)
    target = parse_target(target) if isinstance(target, str) else target
    if target.api == "hip" and precision == "tf32x3":
        raise UsageError("AMD GPUs have no tf32x3", expected="ieee or tf32", received=precision)
    _check_types(program)
    builder = _ModuleBuilder(target, precision)
    module = TritonModule(
        target=target,
        steps=builder.steps(program.steps),
        units=builder.units,
        inputs=program.inputs,
        outputs=program.outputs,
        weights=program.weights,
        arena=program.arena,
        checks=program.checks,
    )
    known = binaries if binaries is not None else {}
    module.binaries = {k: known[k] for k in module.units if k in known}
    return module


def _check_types(program: Program) -> None:
    for what, types in (("input", program.inputs), ("output", program.outputs)):
        for i, t in enumerate(types):
            if not isinstance(t, TensorType) and what == "input":
                raise UnsupportedError(
                    f"the GPU backend takes tensors only: input {i}",
                    received=t,
                    fix="compile with target='cpu'",
                )
    for step in walk_steps(program.steps):
        if isinstance(step, HostCallback):
            for t in (*step.input_types, *step.output_types):
                if isinstance(t, TensorType) and t.dtype == STR:
                    raise UnsupportedError(
                        f"the GPU backend has no strings: {step.op}",
                        where=step.origin or None,
                        received=t,
                        fix="compile with target='cpu'",
                    )


class _ModuleBuilder:
    def __init__(self, target: GpuTarget, precision: str):
        self.target, self.precision = target, precision
        self.units: dict[str, Unit] = {}
        self._sources: dict[str, Source] = {}

    def steps(self, steps: list) -> list:
        launch = lambda x, _: self._launch(x.kernel, x.refs) if isinstance(x, Call) else x
        return map_steps(steps, launch)

    def _launch(self, kernel: Kernel, refs: tuple[Ref, ...]) -> Launch:
        source = self._source(kernel)
        unit = Unit(source, tuple(_is_aligned(r) for r in refs))
        self.units.setdefault(unit.key, unit)
        return Launch(unit.key, source.programs, refs, kernel.origins)

    def _source(self, kernel: Kernel) -> Source:
        text = kernel.text()
        if text not in self._sources:
            self._sources[text] = emit(kernel, choose(kernel, self.target, self.precision))
        return self._sources[text]


def _is_aligned(ref: Ref) -> bool:
    return all(v % ALIGNMENT == 0 for v in (ref.offset, *(step for _, step in ref.steps)))
