"""The targets `cpu` (this machine), `cpu:x86-64-v3`, …: LLVM machine code."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..system.concurrency import lazy
from ..system.progress import Listener, Steps
from .base import Target

if TYPE_CHECKING:
    from ..backends.llvm.program.native_code import NativeCode
    from ..kernels.kernel import Program
    from ..kernels.machine import Machine
    from ..options import Options
    from ..passes.base import Pipeline


class CpuTarget(Target):
    """Compiled by LLVM; schedules are measured where there is a `tuning`."""

    kind = "cpu"
    channels_last = True
    measures = True
    native = True

    def __init__(self, name: str = "cpu", cache: Any = None, tuning: Any = None):
        super().__init__(name, cache, tuning)
        if name != "cpu":
            self.machine  # raises for unknown names  # noqa: B018

    @property
    def dynamic_shapes(self) -> bool:  # type: ignore[override]  # nobody sets it
        """Schedules are measured for sizes that are known."""
        return self.tuning is None

    @lazy
    def machine(self) -> "Machine":
        """The CPU. This one is looked at when something is compiled for it."""
        from ..backends.llvm.base.target import parse_target

        return parse_target(self.name)

    @property
    def vector_bytes(self) -> int:  # type: ignore[override]  # nobody sets it
        return self.machine.vector_bytes

    def pipeline(self, options: "Options") -> "Pipeline":
        from ..pipelines import cpu_pipeline

        fewer = not options.exact
        return cpu_pipeline(
            winograd=fewer,
            strassen=fewer,
            vector_bytes=self.machine.vector_bytes,
            cpu=self.machine.cpu,
            wide=self.machine.sums_apart(self.machine.multiplies_pairs),
        )

    def takes_chains(self, options: "Options") -> bool:
        return not options.exact

    @property
    def joins_products(self) -> bool:
        return True

    def compile(
        self,
        program: "Program",
        updates: Mapping[int, int],
        options: "Options",
        progress: Listener | None = None,
    ) -> "NativeCode":
        from ..backends.llvm.backend import compile_program

        tuning_records = None
        if self.tuning is not None:
            self.tuning.search(program, self.machine, updates, self.cache)
            tuning_records = self.tuning.known
        steps = None if progress is None else Steps(progress, "kernels")
        code = compile_program(
            program, self.machine, dict(updates), self.cache, steps, tuning_records=tuning_records
        )
        if self.tuning is not None:
            self.tuning.note_used(code.plan, self.machine)
        return code

    def stage(self, name: str, code: "NativeCode", updates: Mapping[int, int]) -> str | bytes:
        from ..backends.llvm import backend

        make: dict[str, Callable[..., str | bytes]] = {
            "llvm": backend.llvm_text,
            "asm": backend.assembly_text,
            "object": backend.whole_object,
        }
        return make[name](code.plan, self.machine, updates)

    def estimate(self, program: "Program", updates: Mapping[int, int]) -> list | None:
        from ..backends.llvm.program.entry import build_plan
        from ..backends.llvm.program.predict import predict

        return predict(build_plan(program, self.machine, dict(updates)), self.machine)

    def predict(self, code: Any) -> list | None:
        from ..backends.llvm.program.predict import predict

        plan = getattr(code, "plan", None)  # code of a package has none
        return None if plan is None else predict(plan, self.machine)
