"""What the compiler takes a core to be: the numbers behind every guess of how long something takes.

    CORES[target.vector_bytes]

Passes that trade products for sums (`cpu/winograd.py`, `passes/cpu/strassen.py`) ask before there
are kernels, by the number of products; the CPU's cost model (`schedules/cost_model.py`) by what a
schedule executes. Both are of these cores, and of no machine that was measured.
"""

from math import ceil

from ..classes import dataclass


@dataclass(frozen=True)
class Core:
    """A core with vectors of a width.

    clock     GHz that are kept with vectors of this width
    units     vectors that are multiplied and added per cycle
    slots     instructions per cycle to count on
    l2, l3, memory    GB/s that a core reads from there
    rows      rows of a register tile: fewer than that leave some of it empty
    products  f32 products per cycle of large contractions, all told
    moved     cycles per element of what is summed before and after products
    """

    clock: float
    units: int
    slots: float
    l2: float
    l3: float
    memory: float
    rows: int
    products: float
    moved: float

    def product_cycles(self, products: float, rows: int | None = None) -> float:
        """Cycles of so many products; of tiles that `rows` rows do not fill, if they are given."""
        if rows is None:
            return products / self.products
        tiles = ceil(rows / self.rows)
        waste = ceil(rows / tiles) * tiles / rows
        return products * waste / self.products


# By the bytes of a vector: servers of recent years. `tessel bench --peak` measures yours.
CORES = {
    64: Core(
        clock=2.7,
        units=2,
        slots=4.0,
        l2=110.0,
        l3=26.0,
        memory=13.0,
        rows=28,
        products=32.0,
        moved=0.4,
    ),
    32: Core(
        clock=3.3,
        units=2,
        slots=4.0,
        l2=90.0,
        l3=26.0,
        memory=13.0,
        rows=4,
        products=14.5,
        moved=0.6,
    ),
    16: Core(
        clock=2.7,
        units=2,
        slots=3.0,
        l2=40.0,
        l3=20.0,
        memory=10.0,
        rows=4,
        products=7.0,
        moved=1.0,
    ),
}
