"""The contraction schedule as the backend sees it: which parts answer what a `Schedule` is asked.

The tiling is data (`tiling.py`), chosen by `choose.py` and made right for dynamic
dims by `dynamic.py`; code is written by `emitter.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import ceil, prod
from typing import ClassVar

import numpy as np

from .....classes import dataclass
from .....expr import expr as s
from .....expr.expr import Buffer
from .....ir.bounds import DEFAULT_SIZE_HINT, DynamicSize, more_size_hints, size_hint
from .....ir.dims import Sym, ceil_div, symbols
from .....kernels.contraction import find_contraction
from .....kernels.gates import find_gates
from .....kernels.kernel import Kernel
from .....kernels.machine import Machine
from .....kernels.restore import Recipe
from ...emit.emitter import Emitter
from ..base import Arguments, Dim, Gain, Given, HintSpecialized, Refusal, Schedule
from ..tuning_records import TuningRecord
from .candidates import tuned
from .choose import plan_contraction
from .cost import contraction_cycles, contraction_parts, panel_bytes, panel_traffic
from .dynamic import HIGHEST, LOW, multi_versioned, opened
from .emitter import ContractEmitter
from .pack import pack_constant, recipes
from .quad_emitter import QuadEmitter
from .quad_pack import pack_quads, quad_recipes, share_of_quads
from .quads import ENOUGH, with_quads
from .tiling import Tiling

UNROLL = 32  # multiply-adds that are written out in the loops over k of shorter code
SOME_SIZES = "a contraction that is one for some sizes only"


@dataclass(frozen=True)
class ContractSchedule(Tiling, Schedule):
    """A `Tiling`, and what the backend asks of it."""

    name: ClassVar[str] = "contract"
    spends: ClassVar[str] = "what follows the products"
    meaning: ClassVar[str] = "a matrix product (or a convolution as one), in register tiles"
    words: ClassVar[tuple[tuple[str, str], ...]] = (
        ("tile", "rows × columns that are summed in registers; A gives the rows, B the columns"),
        ("sums", "so many sums of products with one A, of as many columns each"),
        ("direct", "that factor is read where it lies"),
        ("slide", "that factor is read where it lies, in windows that share what they read"),
        ("pack", "that factor is copied into tile order when it runs"),
        ("turn", "that factor is transposed into tile order when it runs"),
        ("constant", "that factor was copied into tile order when compiled"),
    )
    gain: ClassVar[Gain] = Gain.SOME
    seconds: ClassVar[tuple[float, float]] = (0.025, 0.05)
    tunable: ClassVar[bool] = True
    opens: ClassVar[bool] = True

    @classmethod
    def propose(cls, given: Given) -> "ContractSchedule | Refusal":
        contraction, gates = None, None
        if not isinstance(given.product, Refusal):
            contraction = find_contraction(given.kernel)
        elif given.in_place or (gates := find_gates(given.kernel)) is None:
            return given.product
        else:
            contraction = gates.contraction
        if contraction is None:
            return Refusal("its factors share other axes than those of a product of matrices")
        found = plan_contraction(given.kernel, contraction, given.target, given.constants, gates)
        if isinstance(found, Refusal):
            return found
        quads = with_quads(found, given.target)
        if quads.quads is not None and quads.quads.way == "pairs" and given.contents:
            quads = quads if share_of_quads(quads, given.contents) >= ENOUGH else found
        return cls(**vars(quads))

    def emit(self, e: Emitter, kernel: Kernel, given: Arguments, in_place: bool) -> None:
        kind = ContractEmitter if self.quads is None else QuadEmitter
        writer = kind(e, kernel, self, given.packed, given.scratch)
        writer.emit(given.begin, given.end)

    def __str__(self) -> str:
        a = self.a if self.quads is None else f"{self.a} bytes"
        sums = f"{len(self.gates)} sums of " if self.gates else ""
        return f"tile {self.tile.rows}×{sums}{self.columns}, A {a}, B {self.b}"

    # -- memory ---------------------------------------------------------------------------

    @property
    def packs(self) -> bool:
        return self.b == "constant"

    @property
    def packed_bytes(self) -> Dim:
        """Edges are filled up."""
        if not self.packs:
            return 0
        outer = prod(a.extent for a in self.outer if a in self.contraction.b.free)
        return (self.stored or outer) * self.panels * panel_bytes(self)

    def pack(self, arrays: dict[Buffer, np.ndarray]) -> np.ndarray:
        return (pack_constant if self.quads is None else pack_quads)(self, arrays)

    def restores(self) -> Iterator[tuple[Buffer, Recipe]]:
        if not self.packs:
            return iter(())
        return recipes(self) if self.quads is None else quad_recipes(self)

    def params(self, kernel: Kernel) -> tuple[Buffer, ...]:
        """Without those that only B reads, once it is packed."""
        if not self.packs:
            return kernel.params
        r, sums = self.contraction.reduce, self.gates or (self.contraction.reduce,)
        without = s.make("reduce", (self.contraction.a,), r.data, r.dtype)
        roots = [s.transform(e, lambda x: without if x in sums else None) for e in kernel.roots()]
        kept = {e.data for e in s.walk(*roots) if e.op == "load"} | set(kernel.outputs)
        return tuple(b for b in kernel.params if b in kept)

    def scratch_bytes(self, kernel: Kernel) -> Dim:
        return self.scratch

    # -- cost, threads, tuning ------------------------------------------------------------

    def cycles(self, kernel: Kernel, target: Machine) -> float:
        return contraction_cycles(kernel, self, target)

    def parts(self, kernel: Kernel, target: Machine) -> Iterator[tuple[str, float]]:
        return contraction_parts(kernel, self, target)

    def traffic(self, target: Machine, between: int | None) -> Iterator[tuple[int, int]]:
        return panel_traffic(self, self.packed_bytes, target, between)

    @property
    def streams(self) -> bool:
        return self.tiles == 1 or (self.groups == 1 and self.a == "direct")

    def piece(self, units: int) -> int:
        """A group's rows are packed anew for each piece of its panels."""
        panels = size_hint(self.panels)
        if units > panels:
            return ceil(units / panels) * panels
        return units if self.a == "direct" else max(units, ceil(panels / 2))

    def shorter(self) -> "ContractSchedule":
        return replace(self, unroll=UNROLL)

    def improved(
        self, given: Given, tuning_records: Mapping[str, TuningRecord]
    ) -> tuple["ContractSchedule", TuningRecord | None]:
        return tuned(given.kernel, self, given.target, given.constants, tuning_records)

    # -- dynamic dims -----------------------------------------------------------------------

    def opened(self, specialized: HintSpecialized) -> list[tuple[Schedule, float]]:
        """Where the number of rows is open, there are tiles of several heights that read B alike:
        the entry takes the one that fits. Where the hints have few rows, another version has
        many."""
        target, kernel = specialized.given.target, specialized.given.kernel
        found = find_gates(kernel) if self.gates else None
        c, gates = (found.contraction, found.sums) if found else (find_contraction(kernel), ())
        if c is None or len(gates) != len(self.gates):
            raise DynamicSize(SOME_SIZES)
        if not c.m or not isinstance(c.m[-1].extent, Sym):
            return [(opened(replace(self, gates=gates), c, target), specialized.ns)]
        rows, few = c.m[-1].extent, specialized.ns
        with more_size_hints(
            dict.fromkeys(symbols(rows) if size_hint(rows) < HIGHEST else (), DEFAULT_SIZE_HINT)
        ):
            if size_hint(rows) != self.m.extent:
                specialized = specialized.again()
            if not isinstance(specialized.schedule, ContractSchedule):
                raise DynamicSize(SOME_SIZES)
            plan = replace(specialized.schedule, gates=gates)
            plans = [opened(p, c, target) for p in multi_versioned(plan)]
        return [(p, few if p.tile.rows <= LOW else specialized.ns) for p in plans]

    @property
    def rank(self) -> Dim:
        """Tiles, each by its rows and what surrounds it."""
        rows = self.tile.rows
        return ceil_div(self.m.extent, rows) * (2 * rows + 3)
