"""What is kept of a compiled program: all that a package holds and that running it needs.

Apart from the code generator, so that loading a package does not import it.
"""

from collections.abc import Callable

import numpy as np

from ....analysis.run_checks import Check
from ....classes import dataclass
from ....ir.dims import Sym
from ....kernels.machine import Machine
from ....kernels.restore import Recipe

MAIN = "tessel_main"


@dataclass(frozen=True)
class Layout:
    """Positions in the table: pointers, and where sizes are open those of the arena's slots and the
    sizes themselves; then the function that lets signal handlers run, or null; last, the record,
    where there is one."""

    inputs: int
    outputs: int
    weights: int
    slots: int = 0
    symbols: int = 0
    records: int = 0

    ARENA, SCRATCH, CALLBACK, FIRST = 0, 1, 2, 3

    def position(self, kind: str, index: int) -> int:
        if kind == "arena" and not self.slots:
            return self.ARENA
        weights = self.FIRST + self.inputs + self.outputs
        start = {
            "input": self.FIRST,
            "output": self.FIRST + self.inputs,
            "weight": weights,
            "arena": weights + self.weights,
            "size": weights + self.weights + self.slots,
            "record": weights + self.weights + self.slots + self.symbols + 1,
        }[kind]
        return start + index

    @property
    def ask(self) -> int:
        return self.position("size", self.symbols)

    @property
    def size(self) -> int:
        return self.position("record", self.records)


@dataclass(frozen=True, eq=False)
class Packing:
    """What may restore an array of the graph: number `weight` of the code's, which is packed, by a
    recipe. `source` gives the array."""

    weight: int
    source: Callable[[], np.ndarray]
    recipe: Recipe


@dataclass(eq=False)
class NativeCode:
    """What a package keeps of a compiled program.

    `objects` are object files by kernel name, the entry under MAIN; `weights` the arrays that the
    entry reads, in order; `arena` and `scratch` bytes of memory (scratch: per thread). The last
    `tail` of the `host_callbacks` are not called by the entry: they are run when it has returned.
    The last `counters` bytes of the arena are zero before the first run, and their first word
    changes from run to run between even and odd.

    Where sizes are open, `symbols` names them, the arena is followed by `slots`, and `scratch` and
    the slots' sizes are dims. The code is right where a > b for all (a, b) of `conditions` and
    a == b for those of `equations`. One thread is faster than several where the slots take less
    than `alone` bytes. Where it is not known that the graph `agrees` with every such combination
    of sizes, each has to be checked. Code that `asks` lets signal handlers run (`polling.py`).

    `checks` say what the words of the record mean, which is zero before a run (`run_checks.py`).
    """

    target: Machine
    objects: dict[str, bytes]
    weights: list[np.ndarray]
    layout: Layout
    arena: int
    scratch: int | Sym
    parallel: bool
    host_callbacks: list
    tail: int = 0
    counters: int = 0
    plan: object = None
    symbols: tuple[str, ...] = ()
    slots: tuple = ()
    conditions: tuple = ()
    equations: tuple = ()
    alone: int = 0
    agrees: bool = True
    asks: bool = False
    checks: tuple[Check, ...] = ()
    packings: tuple[Packing, ...] = ()
