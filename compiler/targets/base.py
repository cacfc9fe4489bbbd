"""What a target is: its name, what it can do, the passes it wants, and how it makes code.

A target makes data: what turns that into something that runs is found by the target's `kind`
(`runtime/execution/load.py`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import UsageError

if TYPE_CHECKING:
    from ..kernels.kernel import Program
    from ..options import Options
    from ..passes.base import Pipeline
    from ..system.progress import Listener


class Target:
    """Base of all targets. What a class says here is what those can do that say nothing else.

    channels_last   convolutions are converted to it
    vector_bytes    of a CPU's vectors: by their width, only those that it makes faster are
    measures        schedules can be measured (`compile(…, tune=SECONDS)`)
    native          code is LLVM machine code: packages carry it, a run can be followed kernel by
                    kernel
    precisions      how f32 products may be computed besides exactly (`Options.precision`)
    dynamic_shapes  one piece of code can serve all sizes of symbolic dims
    machine         what the code is made for, as far as it is known by numbers
    cache, tuning   what keeps compiled kernels, what measures schedules; None: nothing does
    """

    kind: ClassVar[str]
    channels_last: ClassVar[bool] = False
    vector_bytes: int = 0
    measures: ClassVar[bool] = False
    native: ClassVar[bool] = False
    precisions: ClassVar[tuple[str, ...]] = ()

    dynamic_shapes: bool = False
    machine: Any = None

    def __init__(self, name: str, cache: Any = None, tuning: Any = None):
        """`name` is what the user wrote. Raises UsageError for names that the kind has not."""
        self.name, self.cache, self.tuning = name, cache, tuning

    def pipeline(self, options: "Options") -> "Pipeline | None":
        """The passes that this target wants before lowering, if any."""
        return None

    def takes_chains(self, options: "Options") -> bool:
        """Whether it has schedules for products of products in one kernel (`lowering/chains.py`),
        and may take their sums in another order than the model."""
        return False

    @property
    def joins_products(self) -> bool:
        """Whether it has schedules for kernels of several sums of products, and of several stores
        that follow them (`lowering/gates.py`)."""
        return False

    def compile(
        self,
        program: "Program",
        updates: Mapping[int, int],
        options: "Options",
        progress: "Listener | None" = None,
    ) -> Any:
        """The target's own record of a program's code. `updates` says which output takes over
        which input's memory. Raises TesselError for what the target cannot do."""
        raise NotImplementedError

    def stage(self, name: str, code: Any, updates: Mapping[int, int]) -> str | bytes:
        """A stage on the way to the machine: "llvm", "asm" as text, "object" as bytes. Raises
        UsageError where there is none."""
        raise UsageError(f"{self.name} has no LLVM code", fix="--target cpu")

    def estimate(self, program: "Program", updates: Mapping[int, int]) -> list | None:
        """What `predict` says, of a program that is scheduled only; None where nothing says so."""
        return None

    def predict(self, code: Any) -> list | None:
        """How long each kernel should take; None where nothing says so."""
        return None
