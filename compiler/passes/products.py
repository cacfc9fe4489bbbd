"""What products and the sums around them cost a core, for passes that trade one for the other."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """What a core with vectors of a width takes.

    rows        rows of a register tile: fewer than that leave some of it empty
    products    per cycle
    moved       cycles per element of what is summed before and after
    """

    rows: int
    products: float
    moved: float


COSTS = {64: Costs(28, 32.0, 0.4), 32: Costs(4, 14.5, 0.6), 16: Costs(4, 7.0, 1.0)}  # by bytes
