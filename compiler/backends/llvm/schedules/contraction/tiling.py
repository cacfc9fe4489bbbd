"""How a contraction is tiled, packed and shared, as data: `Tiling`."""

from collections.abc import Sequence
from math import prod

from .....classes import dataclass
from .....expr.expr import Axis, Expr
from .....ir.bounds import maybe_below
from .....ir.dims import Sym, ceil_div
from .....ir.types import DType
from .....kernels.contraction import Contraction
from .....kernels.machine import LINE
from .....kernels.tiling import Tile, linear_load

SCRATCH = 1 << 20  # bytes that packing may take per thread
FEWEST = 3  # tiles of a group from which blocks of k pay
PARTIAL = 128 << 10  # bytes of sums that wait, which groups leave room for
LINES = 8  # rows of B that are read beside each other, where it is read in place
STRETCH = 1024  # columns of them
WAITING = 1 << 14  # their sums at most
PANEL_BLOCK = 4  # panels that are multiplied in a block of k before the next one


@dataclass(frozen=True)
class Quads:
    """Bytes that are multiplied as they lie in memory (`quads.py`), in `steps` quads of k: by
    products of four ("dots") or of "pairs"; `signed`: those of A are."""

    way: str
    signed: bool
    steps: int


@dataclass(frozen=True)
class Tiling:
    """`b`: "constant" (packed while compiling), "pack" (into scratch), "direct" (read in place, a
    line of memory for each step of k) or "slide" (read in place, where steps of k share what they
    read). `a`: "direct" (read in place), "pack" (evaluated into scratch, [row][k]) or "turn"
    (copied to [k][row]).

    `pairs`: sums in i32 of factors that fit i16, packed as pairs of k, of which one instruction
    multiplies and adds both. What follows counts such a pair as one step of k and one element.

    `quads`: sums in i32 of bytes, of which A's are read in place, four steps of k by one load. What
    follows counts such a quad as one step of k, and columns of a panel as elements.

    `group` is how many tiles of A stay in cache while every panel of B passes by: 1 where all of B
    fits the second-level cache beside one of them, more where it comes from further away, or where
    panels are `l1_budget`.

    `l1_budget` is how many bytes of a panel stay in the first-level cache while a group passes by:
    in longer ones, k is cut into blocks. 0: it never is.

    `stored`: of a constant B's places along the one outer axis, only so many first ones are packed;
    those after them are sums of the first one's panels and of another's (`panels.py`). 0:
    all are packed.

    `unroll` is about how many multiply-adds of a tile are written out per round of the innermost
    loop over k. Fewer make shorter code, and never another order of sums.

    `gates`: several sums of products with one A (`kernels/gates.py`). A panel then has the same
    columns of each of them, one sum after the other.

    Extents may be dynamic dims, and what is counted from them dims.
    """

    contraction: Contraction
    tile: Tile
    lanes: int
    a: str
    b: str
    group: int = 1
    pairs: bool = False
    l1_budget: int = 0
    stored: int = 0
    unroll: int = 64
    quads: Quads | None = None
    gates: tuple[Expr, ...] = ()

    @property
    def dtype(self) -> DType:
        return self.contraction.reduce.dtype

    @property
    def factors(self) -> tuple[Expr, ...]:
        """B, of each sum."""
        if not self.gates:
            return (self.contraction.b,)
        pairs = [r.args[0].args for r in self.gates]
        return tuple(y if x is self.contraction.a else x for x, y in pairs)

    @property
    def n(self) -> Axis:
        return self.contraction.n[-1]

    @property
    def m(self) -> Axis | None:
        return self.contraction.m[-1] if self.contraction.m else None

    @property
    def width(self) -> int:
        """Elements of a row of a panel."""
        return self.tile.vectors * self.lanes

    @property
    def columns(self) -> int:
        """Columns of n that a panel has: a row's elements, of each sum."""
        return self.width // max(1, len(self.gates))

    @property
    def line_distance(self):
        """Elements from one row of a panel to the next."""
        if self.b != "direct":
            return self.width
        strides, _ = linear_load(self.contraction.b)
        return sum(strides.get(a, 0) for a in self.contraction.k if a.extent != 1)

    @property
    def panels(self):
        return ceil_div(self.n.extent, self.columns)

    @property
    def ragged(self) -> bool:
        """Whether a panel may have columns past the end; else a last one begins early enough."""
        return maybe_below(self.n.extent, self.columns)

    @property
    def short(self) -> bool:
        """Whether a tile may have rows past the end, whose sums are not stored."""
        return (
            self.line is None and self.m is not None and maybe_below(self.m.extent, self.tile.rows)
        )

    def first_columns(self) -> list[int]:
        """Where each panel begins."""
        last = max(0, self.n.extent - self.columns)
        return [min(p * self.columns, last) for p in range(self.panels)]

    @property
    def depth(self):
        return prod(a.extent for a in self.contraction.k)

    @property
    def steps(self):
        """Steps of k."""
        if self.quads is not None:
            return self.quads.steps
        return ceil_div(self.depth, 2) if self.pairs else self.depth

    @property
    def panel_elements(self):
        """Elements of a packed panel: of quads, as many as those take that have to be widened."""
        widened = self.quads is not None and self.quads.way == "pairs"
        return self.steps * self.width * (2 if widened else 1)

    @property
    def quad_table(self) -> int:
        """Elements before a panel of quads, in whole cache lines."""
        line = LINE // self.dtype.bytes
        return (
            0 if self.quads is None else ceil_div(line + self.width + 2 * self.steps, line) * line
        )

    @property
    def panel_pitch(self):
        """Elements from one packed panel to the next."""
        return self.quad_table + self.panel_elements

    @property
    def k_capacity(self):
        """Steps of k that there is scratch memory for: an open k is copied by whole vectors."""
        steps = self.steps
        return ceil_div(steps, self.lanes) * self.lanes if isinstance(steps, Sym) else steps

    @property
    def line(self) -> Axis | None:
        """The outer m axis that a tile covers several lines of."""
        several = self.tile.spread > 1 or self.tile.flat
        return self.contraction.m[-2] if several else None

    @property
    def outer_m(self) -> tuple[Axis, ...]:
        """Axes of A outside of its tiles."""
        return self.contraction.m[: -1 if self.line is None else -2]

    @property
    def line_tiles(self):
        """Tiles along m (along the lines, for tiles of several)."""
        if self.m is None:
            return 1
        if self.tile.flat:
            return ceil_div(self.line.extent * self.m.extent, self.tile.rows)
        if self.line is not None:
            return ceil_div(self.line.extent, self.tile.spread)
        return ceil_div(self.m.extent, self.tile.rows)

    @property
    def tiles(self):
        """Tiles of A in all, for each of `outer`."""
        return self.line_tiles * prod(a.extent for a in self.outer_m)

    @property
    def groups(self):
        return 1 if self.group == self.tiles else ceil_div(self.tiles, self.group)

    @property
    def outer(self) -> tuple[Axis, ...]:
        """Axes of the parallel units outside of the groups."""
        return (*self.contraction.n[:-1], *self.contraction.batch)

    @property
    def units(self):
        """Panels, one after the other for each group of tiles."""
        return prod(a.extent for a in self.outer) * self.groups * self.panels

    @property
    def pitch(self):
        """Elements from one row of packed A to the next: an odd number of cache lines, so that the
        rows of a tile lie in different sets of the cache."""
        line = LINE // self.dtype.bytes
        lines = ceil_div(self.k_capacity, line)
        return (lines + 1 if isinstance(lines, Sym) else lines | 1) * line

    @property
    def packed_tile(self):
        """Elements of a packed tile of A."""
        return self.tile.rows * self.pitch

    @property
    def reuses_panels(self) -> bool:
        """Whether a packed panel, or a block of one, stays in the first-level cache while a group
        passes by and fetches the next one."""
        known = not isinstance(self.steps, Sym) and not isinstance(self.group, Sym)
        return known and self.l1_budget > 0 and self.group >= FEWEST and self.b == "constant"

    @property
    def cut(self) -> bool:
        """Whether k is cut into blocks (`k_blocks.py`)."""
        if isinstance(self.steps, Sym) or isinstance(self.group, Sym):
            return False
        if self.b == "direct":
            return self.steps > LINES and not (isinstance(self.panels, int) and self.panels == 1)
        if self.group < FEWEST:
            return False
        return 0 < 6 * self.l1_budget < 5 * self.steps * self.width * self.dtype.bytes

    @property
    def k_block(self) -> int:
        """Steps of a block at most."""
        if self.b == "direct":
            return LINES
        return max(1, self.l1_budget // (self.width * self.dtype.bytes))

    @property
    def panel_block(self) -> int:
        """Panels that pass by for each block of k."""
        if self.b == "direct":
            columns = min(STRETCH, WAITING // (self.group * self.tile.rows))
            return max(1, columns // self.width)
        return PANEL_BLOCK if self.b == "constant" else 1

    @property
    def partial(self) -> int:
        """Elements of the sums that wait for the next block of k."""
        return self.panel_block * self.group * self.tile.rows * self.width if self.cut else 0

    @property
    def makes_panels(self) -> bool:
        """Whether panels of B, or some of them, are made while the kernel runs."""
        return self.b == "pack" or self.stored > 0

    @property
    def front(self):
        """Elements of scratch memory for a panel of B, or for a block of one."""
        if self.stored and self.cut:
            return self.k_block * self.width
        return self.k_capacity * self.width if self.makes_panels else 0

    @property
    def scratch_elements(self):
        """Elements of scratch memory per thread: a panel of B, tiles of A, sums that wait."""
        total = self.front
        if self.a != "direct":
            total += self.group * self.packed_tile
        return total + self.partial

    @property
    def scratch(self):
        """Bytes of scratch memory per thread."""
        return ceil_div(self.scratch_elements * self.dtype.bytes, LINE) * LINE


def merged(axes: Sequence[Axis], *factors: dict) -> list[tuple]:
    """(extent, stride in A, …) of the loops over k, by the strides in each of `factors`: axes that
    follow each other in all of them are one."""
    loops: list[tuple] = []
    for a in axes:
        strides = tuple(f.get(a, 0) for f in factors)
        if a.extent == 1:
            continue
        if loops and loops[-1][1:] == tuple(k * a.extent for k in strides):
            loops[-1] = (loops[-1][0] * a.extent, *strides)
        else:
            loops.append((a.extent, *strides))
    return loops


def row_places(plan: Tiling, strides: dict) -> list:
    """Where the rows of a tile begin in A, in elements from the first one."""
    step = 0 if plan.m is None else strides.get(plan.m, 0)
    if plan.line is None:
        return [r * step for r in range(plan.tile.rows)]
    width, jump = plan.m.extent, strides.get(plan.line, 0)
    return [r // width * jump + r % width * step for r in range(plan.tile.rows)]
