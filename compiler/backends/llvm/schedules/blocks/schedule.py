"""The packed schedule: products with weights of few bits, which are read as they are packed.

Codes are unpacked in registers, on their way into the products, for a tile of rows at a time:
`form.py` says which kernels these are, `planes.py` how weights are packed, `rows.py` what is
prepared of the other factor, and `emitter.py` has the loops.
"""

from collections.abc import Iterator
from math import ceil
from typing import ClassVar

import numpy as np

from .....classes import dataclass
from .....expr.expr import Buffer
from .....ir.bounds import DynamicSize, size_hint
from .....ir.dims import Sym, ceil_div
from .....kernels.kernel import Kernel
from .....kernels.machine import Machine
from .....kernels.restore import Recipe
from ...emit.byte_products import way_of_dots
from ...emit.emitter import Emitter
from ..base import Arguments, Dim, Gain, Given, HintSpecialized, Refusal, Schedule
from ..cost_model import TILE, core_of, epilogue
from .emitter import BUNCH, BlocksEmitter
from .form import BlockSum, find_blocks, read_at_run_time
from .planes import WORD, Layout, Tiled, pack_blocks
from .products import FEW
from .restore import recipes
from .rows import RowPlan
from .unpacked import Parts

VECTORS = 2  # of columns, beside each other in a panel
ROWS = {  # of a tile, by registers and by whether integers are multiplied
    (16, False): 6,
    (16, True): 4,
    (32, False): 10,
    (32, True): 8,
}
SCRATCH = 2 << 20
PREPARED = 1.5  # cycles per vector of a row that is prepared


@dataclass(frozen=True)
class BlocksSchedule(Tiled, Schedule):
    """How panels lie and are tiled; `way` says which instructions sum products."""

    name: ClassVar[str] = "packed"
    meaning: ClassVar[str] = "a matrix product with weights of few bits, unpacked in registers"
    words: ClassVar[tuple[tuple[str, str], ...]] = (
        ("tile", "rows × columns that are summed in registers; A gives the rows, B the columns"),
        ("bits", "of a weight, as it is packed"),
        ("dots", "an instruction sums four products of bytes"),
        ("pairs", "an instruction sums two products of bytes"),
    )
    spends: ClassVar[str] = "unpacking weights, and factors of blocks"
    gain: ClassVar[Gain] = Gain.SOME
    seconds: ClassVar[tuple[float, float]] = (0.03, 0.06)
    opens: ClassVar[bool] = True

    way: str

    @classmethod
    def propose(cls, given: Given) -> "BlocksSchedule | Refusal":
        form = find_blocks(given)
        if isinstance(form, Refusal):
            return form
        return cls._of(form, given.target)

    @classmethod
    def _of(cls, form: BlockSum, target: Machine) -> "BlocksSchedule | Refusal":
        lanes = target.lanes(32)
        layout = Layout(form, lanes, 1 if form.n.extent <= lanes else VECTORS)
        if form.outer and form.n.extent % layout.width:
            return Refusal("its columns are in groups that panels would cross")
        way = way_of_dots(target, lanes, form.bits) if form.is_integer else "floats"
        most = ROWS[min(32, max(16, target.registers)), form.is_integer]
        if form.is_integer and way == "pairs" and form.bits == 8:
            most //= 2
        count = form.row_count
        rows = most if isinstance(count, Sym) else ceil(count / ceil(max(1, count) / most))
        rows = max(1, rows)
        many = isinstance(count, Sym) or count > FEW
        unpacks = many and not form.is_integer and not form.rows
        pitch = RowPlan(layout).pitch
        budget = SCRATCH if unpacks else target.l2 * 3 // 4
        group = max(1, budget // pitch // rows) * rows
        if pitch * group > SCRATCH:
            return Refusal(f"a tile's rows would take more than {SCRATCH} bytes of scratch memory")
        if not isinstance(count, Sym):
            group = min(group, max(1, count))
            groups = ceil(max(1, count) / group)  # of about the same size
            group = ceil(ceil(max(1, count) / groups) / rows) * rows
        return cls(form, lanes, layout.vectors, rows, group, unpacks, way)

    def opened(self, specialized: HintSpecialized) -> list[tuple[Schedule, float]]:
        found = self.propose(specialized.given)
        if isinstance(found, Refusal):
            raise DynamicSize("a product with packed weights that is one for some sizes only")
        return [(found, specialized.ns)]

    @property
    def units(self) -> Dim:
        return ceil_div(self.form.row_count, self.group) * self.panels

    def emit(self, e: Emitter, kernel: Kernel, given: Arguments, in_place: bool) -> None:
        writer = BlocksEmitter(e, kernel, self, given.packed, given.scratch)
        writer.emit(given.begin, given.end)

    def __str__(self) -> str:
        return f"tile {self.rows}×{self.width}, {self.form.bits} bits, {self.way}"

    # -- memory ---------------------------------------------------------------------------

    @property
    def packs(self) -> bool:
        return True

    @property
    def packed_bytes(self) -> Dim:
        return self.bytes

    def pack(self, arrays: dict[Buffer, np.ndarray]) -> np.ndarray:
        return pack_blocks(self, arrays)

    def restores(self) -> Iterator[tuple[Buffer, Recipe]]:
        return recipes(self)

    def params(self, kernel: Kernel) -> tuple[Buffer, ...]:
        """Without those that only the weights are made of."""
        kept = read_at_run_time(self.form, kernel.roots()) | set(kernel.outputs)
        return tuple(b for b in kernel.params if b in kept)

    def scratch_bytes(self, kernel: Kernel) -> Dim:
        more = BUNCH * self.group * self.width * 4 + Parts(self).bytes if self.unpacks else 0
        return self.group * RowPlan(self).pitch + more

    # -- cost, threads --------------------------------------------------------------------

    def cycles(self, kernel: Kernel, target: Machine) -> float:
        return sum(cycles for _, cycles in self.parts(kernel, target))

    def parts(self, kernel: Kernel, target: Machine) -> Iterator[tuple[str, float]]:
        core, form = core_of(target), self.form
        count = max(1, size_hint(form.row_count))
        tiles = ceil(count / self.rows)
        steps = form.number * self.chunks * self.chunk
        vectors = count * self.panels * self.vectors
        if form.is_integer:
            each = {"dots": 0.5, "pairs": 1.0 + (form.bits == 8), "bytes": 4.0}[self.way] / WORD
            unpacked = 0.75 / WORD
        else:
            each, unpacked = 1 / core.units, 0.7 if form.table is None else 2.0
        yield "", vectors * steps * each
        yield self.spends, tiles * self.panels * self.vectors * steps * unpacked
        yield self.spends, vectors * form.number * 2.0
        yield "rows are prepared", count * steps / self.lanes * PREPARED
        after = epilogue(kernel, (form.total,), form.n, self.lanes)
        yield "", vectors * after + tiles * self.panels * TILE

    def traffic(self, target: Machine, between: int | None) -> Iterator[tuple[int, int]]:
        """The panels, once from where the weights are, then again for each group of rows."""
        yield self.bytes, max(self.bytes, between or 0)
        groups = ceil(max(1, size_hint(self.form.row_count)) / self.group)
        yield self.bytes * (groups - 1), self.bytes

    @property
    def streams(self) -> bool:
        count = self.form.row_count
        return not isinstance(count, Sym) and count <= self.group

    def piece(self, units: int) -> int:
        """A group's rows are prepared anew for each piece of its panels."""
        return max(units, self.panels) if units > self.panels else max(units, ceil(self.panels / 4))
