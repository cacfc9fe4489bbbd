"""The targets `cuda` (the GPU that is here, else sm_90) and `cuda:sm_NN`: Triton source text, and
machine code from there. Making it needs no GPU."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..backends.triton.target import parse_target
from .base import Target

if TYPE_CHECKING:
    from ..backends.triton.backend import TritonModule
    from ..kernels.kernel import Program
    from ..options import Options
    from ..system.progress import Listener


class CudaTarget(Target):
    """`machine` is the GPU; whoever knows which one is here may put another in the place of that
    of a bare `cuda`."""

    kind = "cuda"
    channels_last = True  # tensor cores sum over neighbours in memory
    precisions = ("tf32x3", "tf32")

    def __init__(self, name: str = "cuda", cache: Any = None, tuning: Any = None):
        super().__init__(name, cache, tuning)
        self.machine = parse_target(name)

    def compile(
        self,
        program: "Program",
        updates: Mapping[int, int],
        options: "Options",
        progress: "Listener | None" = None,
    ) -> "TritonModule":
        from ..backends.triton.backend import compile_program

        return compile_program(program, self.machine, precision=options.precision or "ieee")
