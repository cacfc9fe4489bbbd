"""The schedule of products with a softmax's weights: attention as one kernel."""

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import ClassVar

from .....classes import dataclass
from .....ir.bounds import DynamicSize
from .....ir.dims import Sym, prod
from .....kernels.kernel import Kernel
from .....kernels.machine import LINE, Machine
from .....kernels.online import find_online
from .....kernels.tiling import LOAD_CYCLES
from .....kernels.work import extent_of
from ...emit.emitter import Emitter
from ..base import Arguments, Dim, Gain, Given, HintSpecialized, Refusal, Schedule
from ..contraction.cost import AROUND, EMPTY, FEEDING, REARRANGED, STEP, TURNED
from ..cost_model import LATENCY, LOAD, PRIMITIVE, TILE, core_of, epilogue, evaluation
from .emitter import OnlineEmitter
from .form import DEEPEST, Blocks, choose_blocks

ROW = 12.0  # cycles around a row of scores: what folds it, and begins its loop


@dataclass(frozen=True)
class OnlineSchedule(Blocks, Schedule):
    """`Blocks`, and what the backend asks of them."""

    name: ClassVar[str] = "online"
    meaning: ClassVar[str] = "products with a softmax's weights, which are never all in memory"
    spends: ClassVar[str] = "what follows the products"
    words: ClassVar[tuple[tuple[str, str], ...]] = (
        ("blocks", "rows × keys whose scores are in a near cache at a time"),
    )
    gain: ClassVar[Gain] = Gain.SOME
    seconds: ClassVar[tuple[float, float]] = (0.06, 0.12)
    opens: ClassVar[bool] = True

    @classmethod
    def propose(cls, given: Given) -> "OnlineSchedule | Refusal":
        if given.in_place:
            return Refusal("it reads the memory that it writes")
        online = find_online(given.kernel)
        if online is None:
            return Refusal("it sums no products with the weights of a softmax")
        if len(online.depth) != 1:
            return Refusal("its scores are sums along several axes")
        sizes = (online.depth[0].extent, online.column.extent)
        if any(isinstance(d, Sym) or d > DEEPEST for d in sizes):
            return Refusal(f"it sums more than {DEEPEST} products for a score, or has more columns")
        return cls(**vars(choose_blocks(online, given.target)))

    @property
    def units(self) -> Dim:
        return prod([a.extent for a in self.online.outer]) * self.row_blocks

    def emit(self, e: Emitter, kernel: Kernel, given: Arguments, in_place: bool) -> None:
        OnlineEmitter(e, kernel, self, given.scratch).emit(given.begin, given.end)

    def __str__(self) -> str:
        blocks = f"blocks {self.rows}×{self.keys}"
        wide = f"{self.tile.rows}×{self.width} and {self.tile.rows}×{self.value_width}"
        return f"{blocks}, tiles {wide}"

    def scratch_bytes(self, kernel: Kernel) -> Dim:
        return ceil(self.scratch / LINE) * LINE

    # -- cost -------------------------------------------------------------------------------

    def cycles(self, kernel: Kernel, target: Machine) -> float:
        return sum(cycles for _, cycles in self.parts(kernel, target))

    def parts(self, kernel: Kernel, target: Machine) -> Iterator[tuple[str, float]]:
        """For whole blocks, also where some keys are hidden from all rows of one."""
        online, lanes = self.online, self.lanes
        outer, rows, keys = (extent_of(online.outer), online.row.extent, online.key.extent)
        blocks, cuts = outer * ceil(rows / self.rows), ceil(keys / self.keys)
        tiles = outer * ceil(rows / self.tile.rows)
        for steps, across, vectors in (
            (self.depth, keys, self.tile.vectors),
            (keys, self.columns, self.vectors),
        ):
            panels = ceil(across / (vectors * lanes))
            whole, step = self._step(vectors, target)
            products = tiles * panels * steps * whole
            wanted = products * min(1.0, across / (panels * vectors * lanes))
            wanted *= rows * outer / (tiles * self.tile.rows)
            yield "", wanted
            yield EMPTY, products - wanted
            yield FEEDING, tiles * panels * steps * (step - whole)
            yield AROUND, tiles * panels * cuts * TILE
        filled = tiles * self.tile.rows
        scores = filled * ceil(keys / self.width) * self.tile.vectors
        after = evaluation(online.scores, online.key, lanes)
        after -= evaluation(online.product, online.key, lanes)
        yield "", scores * (max(0.0, after) + PRIMITIVE["exp"] + 6 * LOAD)
        yield "", filled * cuts * ROW
        columns = ceil(self.columns / self.value_width) * self.vectors
        yield "", filled * columns * epilogue(kernel, (online.reduce,), online.column, lanes)
        turned = TURNED if self.turns_keys else evaluation(online.keys, online.key, lanes) / lanes
        copied = evaluation(online.value, online.column, lanes) / lanes
        yield REARRANGED, blocks * keys * (self.depth * turned + self.columns * copied)
        yield REARRANGED, filled * self.depth / lanes * 2 * LOAD

    def _step(self, vectors: int, target: Machine) -> tuple[float, float]:
        """Cycles of the multiply-adds of a tile's step, and of the step."""
        core, rows = core_of(target), self.tile.rows
        is_wide = target.vector_bytes == 64
        products = rows * vectors / core.units
        slots = rows * vectors + 2 * vectors + (0 if is_wide and vectors == 1 else rows)
        loads = 0.0 if is_wide else LOAD_CYCLES * (rows + vectors)
        return products, max(products, slots / core.slots, loads, LATENCY) + STEP

    # -- dynamic dims -----------------------------------------------------------------------

    def opened(self, specialized: HintSpecialized) -> list[tuple[Schedule, float]]:
        online = find_online(specialized.given.kernel)
        sizes = () if online is None else (*online.depth, online.column)
        if online is None or any(isinstance(a.extent, Sym) for a in sizes):
            raise DynamicSize("products with a softmax's weights for some sizes only")
        blocks = choose_blocks(online, specialized.given.target)
        return [(replace(self, **vars(blocks)), specialized.ns)]
