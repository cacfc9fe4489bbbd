"""What is kept of a compiled program: all that a package holds and that running it needs.

Apart from the code generator, so that loading a package does not import it.
"""

from dataclasses import dataclass

import numpy as np

from ..base import CpuTarget

MAIN = "tessel_main"


@dataclass(frozen=True)
class Layout:
    """Positions in the pointer table."""

    inputs: int
    outputs: int
    weights: int

    ARENA, SCRATCH, CALLBACK, FIRST = 0, 1, 2, 3

    def position(self, kind: str, index: int) -> int:
        if kind == "arena":
            return self.ARENA
        start = {
            "input": self.FIRST,
            "output": self.FIRST + self.inputs,
            "weight": self.FIRST + self.inputs + self.outputs,
        }[kind]
        return start + index

    @property
    def size(self) -> int:
        return self.FIRST + self.inputs + self.outputs + self.weights


@dataclass(eq=False)
class NativeCode:
    """What a package keeps of a compiled program.

    `objects` are object files by kernel name, the entry under MAIN; `weights` the arrays that the
    entry reads, in order; `arena` and `scratch` bytes of memory (scratch: per thread). The last
    `tail` of the `externs` are not called by the entry: they are run when it has returned. The last
    `counters` bytes of the arena are zero before the first run, and their first word changes from
    run to run between even and odd.
    """

    target: CpuTarget
    objects: dict[str, bytes]
    weights: list[np.ndarray]
    layout: Layout
    arena: int
    scratch: int
    parallel: bool
    externs: list
    tail: int = 0
    counters: int = 0
    plan: object = None
