"""The sliding schedule: windows along the axis that vectors run along.

    for unit of outer axes and rows:
      for tile of `height` rows:                        all of its windows inside, else row by row
        for vectors of the row:                         the first and last, if padded, under masks
          for each line of input that the tile sees:    once, for all rows whose windows it is in
            h = combine over j of the line's places     or each place times the weights of its rows
            for the rows r that see it as their tap k:  acc[r] = combine(acc[r], h)
          y[r, v] = f(acc[r])

Lines with a step between outputs (a stride) are loaded without gaps and taken apart in registers.
"""

from dataclasses import replace
from math import ceil, prod
from typing import ClassVar

from .....classes import dataclass
from .....expr import expr as s
from .....ir.bounds import DynamicSize, size_hint
from .....ir.dims import ceil_div
from .....kernels.kernel import Kernel
from .....kernels.machine import Machine
from .....kernels.work import data_of
from .....system.concurrency import lazy
from ...emit.emitter import Emitter
from ..base import Arguments, Dim, Gain, Given, HintSpecialized, Refusal, Schedule
from ..cost_model import LOAD, SIMPLE, TILE, UNIT, cycles_of, epilogue, scattered_cycles
from .emitter import SlidingEmitter
from .form import Form, sliding_form
from .segments import Segments

LEAST = 4  # lanes of the shortest vector that is worth it
HEIGHTS = (1, 2, 3, 4, 5, 6, 8)  # of a tile, in rows
CLOSE = 1.1  # of the least cycles, up to which shorter code is better
WIDTH = 4  # vectors of a tile that is one row
WRITTEN_OUT = 400  # vectors of input that a tile's code may have
PIECES = 32  # units that there should be, for threads to share
MASK = 0.5  # cycles per vector that is loaded under a mask
SHARED = 0.7  # what a weight costs, in inputs
APART = 1.0  # cycles per vector that is taken out of others


@dataclass(frozen=True)
class SlidingSchedule(Schedule):
    """`form` says what is combined; vectors have `lanes`, tiles `height` rows of `width` vectors,
    units `block` rows."""

    name: ClassVar[str] = "sliding"
    spends: ClassVar[str] = (
        "windows have few places for what is loaded, shifted and masked at borders"
    )
    meaning: ClassVar[str] = "a window that slides along the rows, whose lines are shared"
    words: ClassVar[tuple[tuple[str, str], ...]] = (
        ("lanes", "numbers in a vector"),
        ("height", "rows of outputs that share what they read"),
    )
    gain: ClassVar[Gain] = Gain.NONE
    opens: ClassVar[bool] = True

    form: Form
    lanes: int
    height: int
    width: int
    block: int

    @classmethod
    def propose(cls, given: Given) -> "SlidingSchedule | Refusal":
        if given.in_place:
            return Refusal("it reads the memory that it writes")
        form = sliding_form(given.kernel)
        if not isinstance(form, Refusal) and given.general is not None:
            form = _same(form, sliding_form(given.general))
        if isinstance(form, Refusal):
            return form
        lanes = given.target.lanes(form.reduce.dtype.bits)
        while lanes > form.vector_axis.extent:
            lanes //= 2
        if lanes < min(LEAST, 128 // form.reduce.dtype.bits):
            return Refusal("its output has no axis that fills a vector")
        rows, columns = form.rows, form.columns
        block = 1
        if rows is not None:
            pieces = size_hint(prod(a.extent for a in form.outer))
            block = max(1, min(rows.axis.extent, ceil(rows.axis.extent * pieces / PIECES)))
        plans = [cls(form, lanes, h, 1, block) for h in _heights(form)]
        cycles = [
            plan.cycles(given.kernel, given.target) + plan._scattered(given) for plan in plans
        ]
        best = next(p for p, n in zip(plans, cycles) if n <= CLOSE * min(cycles))
        if best.height == 1 and columns is not None and form.weight is not None:
            best = cls(form, lanes, 1, _width(best.segments.inner, lanes), block)
        return best

    @lazy
    def segments(self) -> Segments:
        """How a row is cut into vectors."""
        slide, axis = self.form.columns, self.form.vector_axis
        low, high = (0, axis.extent) if slide is None else slide.inside()
        return Segments.of(axis.extent, self.lanes, low, high)

    @property
    def units(self) -> Dim:
        return prod(a.extent for a in self.form.outer) * self.blocks

    @property
    def blocks(self) -> Dim:
        rows = self.form.rows
        return 1 if rows is None else ceil_div(rows.axis.extent, self.block)

    def opened(self, specialized: HintSpecialized) -> list[tuple[Schedule, float]]:
        form = sliding_form(specialized.given.kernel)
        if isinstance(form, Refusal):
            raise DynamicSize("a window that slides for some sizes only")
        return [(replace(self, form=form), specialized.ns)]

    def cycles(self, kernel: Kernel, target: Machine) -> float:
        form, axis, lanes = self.form, self.form.vector_axis, self.lanes
        data = data_of([form.reduce])
        # Borders are masks that are known: no conditions, and nothing is chosen.
        seen = sum(
            cycles_of(e, axis, lanes, data)
            for e in s.walk(form.value)
            if e in data and e.op not in ("load", "select")
        )
        masked = APART if form.columns is not None and form.columns.step > 1 else 0.0
        vector, edge = seen + LOAD + masked, seen + LOAD + masked + MASK
        combine = 2 * SIMPLE if form.combiner != "sum" and form.reduce.dtype.is_float else SIMPLE
        line = 1 if form.columns is None else form.columns.tap.extent
        rest = prod(x.tap.extent for x in form.rest)
        after = epilogue(kernel, (form.reduce,), axis, lanes)
        taps = 1 if form.rows is None else form.rows.tap.extent

        def tile(height: int, each: float) -> float:
            lines = 1 if form.rows is None else len(form.rows.places(height))
            if form.weight is not None:
                sums = line * (lines * each + taps * LOAD / self.width + height * taps * SIMPLE)
            else:
                sums = lines * (line * each + (line - 1) * combine) + height * taps * combine
            return rest * sums + height * after + TILE / 10

        def row(height: int) -> float:
            edges = len(self.segments.edges)
            return edges * tile(height, edge) + self.segments.vectors * tile(height, vector)

        outer = size_hint(prod(a.extent for a in form.outer))
        if form.rows is None:
            return outer * (UNIT + row(1))
        low, high = form.rows.inside()
        tiles = (high - low) // self.height
        left = form.rows.axis.extent - tiles * self.height
        single = row(1) + (3 * TILE / 10 if form.rows.conditions else 0)
        return outer * (UNIT * self.blocks + tiles * row(self.height) + left * single)

    def _scattered(self, given: Given) -> float:
        """Cycles that heights are compared by, besides: where vectors are whole places (channels
        last), a tile goes along all places that it sees side by side."""
        form = self.form
        if form.columns is not None or form.rows is None:
            return 0.0
        places = len(form.rows.places(self.height)) * prod(x.tap.extent for x in form.rest)
        nbytes = sum(size_hint(b.type.nbytes) for b in given.kernel.inputs)
        return scattered_cycles(nbytes, places, given.target)

    def emit(self, e: Emitter, kernel: Kernel, given: Arguments, in_place: bool) -> None:
        SlidingEmitter(e, kernel, self).emit(given.begin, given.end)

    def __str__(self) -> str:
        height = f", height {self.height}" if self.height > 1 else ""
        return f"lanes {self.lanes}{height}"


def _heights(form: Form) -> list[int]:
    """Heights of tiles that are worth a thought."""
    rows, line = form.rows, 1 if form.columns is None else form.columns.tap.extent
    if rows is None or not rows.shares:
        return [1]
    low, high = rows.inside()
    return [
        h
        for h in HEIGHTS
        if h == 1 or (h <= high - low and len(rows.places(h)) * line <= WRITTEN_OUT)
    ]


def _width(inner: int, lanes: int) -> int:
    """How many of a row's vectors share the weights that are loaded for them. The last of a row
    begin earlier, so that there are not more than it has."""
    turns = lambda width: ceil(inner / (width * lanes)) * (width + SHARED)
    return min(range(1, min(WIDTH, inner // lanes) + 1), key=turns, default=1)


def _same(form: Form, general: Form | Refusal) -> Form | Refusal:
    """The form, if the kernel with dynamic dims has it, too."""
    if isinstance(general, Refusal):
        return general
    slides = zip(form.slides, general.slides)
    same = all(
        (x.step, x.dilation, x.conditions) == (y.step, y.dilation, y.conditions) for x, y in slides
    )
    if not same or len(form.slides) != len(general.slides):
        return Refusal("its window is another for other sizes")
    return form
