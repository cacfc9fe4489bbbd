"""The target `numpy`: the loops as they are. Slow, and the oracle of all others."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .base import Target

if TYPE_CHECKING:
    from ..kernels.kernel import Program
    from ..options import Options
    from ..system.progress import Listener


class NumpyTarget(Target):
    """Its code is the program itself, which `backends/numpy.py` interprets."""

    kind = "numpy"

    def __init__(self, name: str = "numpy", cache: Any = None, tuning: Any = None):
        super().__init__(name, cache, tuning)
        if name != "numpy":
            raise UsageError("unknown target", expected="numpy", received=repr(name))

    def compile(
        self,
        program: "Program",
        updates: Mapping[int, int],
        options: "Options",
        progress: "Listener | None" = None,
    ) -> None:
        return None
