"""What a contraction should take: cycles of its tiles, and bytes of its panels."""

from collections.abc import Iterator
from math import ceil

from .....expr.expr import Expr
from .....kernels.kernel import Kernel
from .....kernels.machine import Machine
from .....kernels.tiling import LOAD_CYCLES
from .....kernels.work import extent_of
from ..cost_model import INTEGER, LATENCY, LOAD, TILE, core_of, epilogue, evaluation
from .choose import turns_columns
from .quads import quad_cycles
from .tiling import Tiling

# Cycles.
STEP = 0.3  # around a step of k in a tile
TURNED = 0.35  # per element of a factor that is turned into scratch
NARROW = 4  # lanes that packing fills where k is too short for a vector


def panel_traffic(
    plan: Tiling, packed: int, target: Machine, between: int | None
) -> Iterator[tuple[int, int]]:
    """The panels of B: once from where the weights are, then again for each group of tiles, and
    within a group for each tile, where a panel is too large for the first-level cache. `packed`
    are the bytes of a constant B."""
    panel = panel_bytes(plan)
    every = extent_of(plan.outer) * plan.panels * panel
    if packed:
        yield packed, max(packed, between or 0)
        yield every * plan.groups - packed, packed
    if plan.b == "slide":
        return
    if plan.cut:
        block = plan.group * plan.tile.rows * plan.k_block * plan.dtype.bytes
        yield block * plan.groups * plan.panels * ceil(plan.steps / plan.k_block), block
    elif panel > target.l1 * 3 // 4:
        yield every * (plan.tiles - plan.groups), panel


def panel_bytes(plan: Tiling) -> int:
    """Bytes of one panel of B."""
    return plan.panel_pitch * plan.dtype.bytes


# What cycles are spent on, if not on multiply-adds that are wanted.
EMPTY = "tiles have rows or columns that nothing fills"
FEEDING = "few multiply-adds for what a step loads, or waits for"
REARRANGED = "factors are copied into the order of tiles for this one use"
AROUND = "products are short for what surrounds a tile"
SUMMED = "packed factors are sums of others, made anew for each group"


def contraction_cycles(kernel: Kernel, plan: Tiling, target: Machine) -> float:
    """Cycles of a contraction's arithmetic, packing included."""
    return sum(cycles for _, cycles in contraction_parts(kernel, plan, target))


def contraction_parts(kernel: Kernel, plan: Tiling, target: Machine) -> Iterator[tuple[str, float]]:
    """The same in parts, as `Schedule.parts` gives them."""
    core = core_of(target)
    rows, vectors = plan.tile.rows, plan.tile.vectors
    outer = extent_of(plan.outer)
    fast = plan.dtype.is_float or plan.pairs
    embedded = vectors == 1 and target.vector_bytes == 64 and fast
    apart = target.sums_apart(plan.pairs)
    slots = (2 if apart else 1) * rows * vectors + 2 * vectors + (0 if embedded else rows)
    each = 1 / core.units if fast else INTEGER
    if plan.quads is not None:
        each = (1 if plan.quads.way == "dots" else 2) / core.units
    loads = 0.0 if target.vector_bytes == 64 else LOAD_CYCLES * (rows + vectors)
    products = rows * vectors * each
    step = max(products, slots / core.slots, loads, LATENCY) + STEP
    if plan.quads is not None:
        step = quad_cycles(rows, vectors, plan.depth, plan.lanes, plan.quads.way) + STEP
    sums = plan.gates or (plan.contraction.reduce,)
    after = rows * vectors / len(sums) * epilogue(kernel, sums, plan.n, plan.lanes)
    tiles = outer * plan.tiles * plan.panels
    whole = tiles * plan.steps * products
    wanted = whole * min(1.0, extent_of(kernel.axes) / (tiles * rows * plan.columns))
    yield "", wanted + tiles * after
    yield EMPTY, whole - wanted
    yield FEEDING, tiles * plan.steps * (step - products)
    yield AROUND, tiles * TILE
    if plan.a != "direct":
        each = TURNED if plan.a == "turn" else _packing(plan, plan.contraction.a)
        yield REARRANGED, outer * plan.tiles * rows * plan.depth * each
    if plan.stored:
        sums = (outer - plan.stored) * plan.groups * plan.panels * plan.steps * vectors
        yield SUMMED, sums * 4 * LOAD
    if plan.b == "pack":
        each = evaluation(plan.contraction.b, plan.n, plan.lanes)
        if turns_columns(plan):
            each = TURNED * plan.lanes
        yield REARRANGED, outer * plan.groups * plan.panels * plan.depth * vectors * each


def _packing(plan: Tiling, e: Expr) -> float:
    """Cycles per element of a factor that is evaluated along k."""
    k = plan.contraction.k
    vector_axis = max(k, key=lambda a: (a is k[-1] and a.extent >= NARROW, a.extent), default=None)
    lanes = plan.lanes if vector_axis is not None and vector_axis.extent >= plan.lanes else NARROW
    return evaluation(e, vector_axis, lanes) / lanes
