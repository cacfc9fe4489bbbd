"""What the compiler takes a core to be: the numbers behind every guess of how long something takes.

    core_of(vector_bytes, cpu)

Passes that trade products for sums (`cpu/winograd.py`, `passes/cpu/strassen.py`) ask before there
are kernels, by the number of products; the CPU's cost model (`schedules/cost_model.py`) by what a
schedule executes. Nothing is measured while compiling: cores that LLVM knows by name are `KNOWN`,
all others are taken for a common one with vectors of their width.

Rates of instructions are those of A. Fog, "Instruction tables" (2025), and uops.info (Abel &
Reineke, 2019), of AMD's optimization guide for Zen 4 (57647) and Arm's for Neoverse N1, V1 and V2.
Clocks, and what a core reads from each level of memory while others are idle, are what
`tessel bench --peak` has measured on servers, where it ran on one, and else what was published
(C. Lam, chipsandcheese.com); rather less, as servers share them.
"""

from dataclasses import replace
from math import ceil

from ..classes import dataclass


@dataclass(frozen=True)
class Core:
    """A core with vectors of a width.

    clock     GHz that are kept with vectors of this width
    units     vectors that are multiplied and added per `passes` cycles
    slots     instructions per `passes` cycles to count on
    l2, l3, memory    GB/s that a core reads from there
    rows      rows of a register tile: fewer than that leave some of it empty
    products  f32 products per cycle of large contractions, all told
    moved     cycles per element of what is summed before and after products
    passes    cycles that a unit spends on a vector: 2 where it takes half of one at a time
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
    passes: int = 1

    @property
    def rate(self) -> float:
        """Vectors that a unit takes per ns: what cycles of schedules are divided by."""
        return self.clock / self.passes

    def product_cycles(self, products: float, rows: int | None = None) -> float:
        """Cycles of so many products; of tiles that `rows` rows do not fill, if they are given."""
        if rows is None:
            return products / self.products
        tiles = ceil(rows / self.rows)
        waste = ceil(rows / tiles) * tiles / rows
        return products * waste / self.products

    def passed_on(self, nbytes: float, cached: float) -> float:
        """Cycles per f32 of some that are computed, written, and read again for what follows, while
        `nbytes` of them pass by: by way of a cache of `cached` bytes, or of memory."""
        reads = self.l3 if nbytes <= cached else self.memory
        return max(self.moved, 2 * 4 * self.clock / reads)


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
        l3=50.0,
        memory=15.0,
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

# By LLVM's name of the CPU and the bytes of a vector.
KNOWN = {
    ("znver3", 32): replace(CORES[32], l3=70.0, memory=12.0),
    # 512 bits in two halves: one multiply-add a cycle, half of what Intel's servers do.
    ("znver4", 64): replace(
        CORES[64],
        clock=3.7,
        passes=2,
        slots=8.0,
        l3=99.0,
        memory=25.0,
        products=15.5,
        moved=0.5,
    ),
    ("znver5", 64): replace(CORES[64], clock=3.9, l2=220.0, l3=90.0, memory=28.0, moved=0.5),
    # Four units of 128 bits.
    ("neoverse-v1", 16): replace(CORES[16], units=4, slots=5.0, l2=80.0, l3=30.0, products=14.0),
    ("neoverse-v2", 16): replace(
        CORES[16], clock=3.2, units=4, slots=6.0, l2=90.0, l3=35.0, memory=18.0, products=14.0
    ),
}


def core_of(vector_bytes: int, cpu: str = "") -> Core:
    """The core that LLVM calls `cpu`, or else a common one with vectors of so many bytes."""
    return KNOWN.get((cpu, vector_bytes), CORES[vector_bytes])
