"""What a run that updates its inputs in place looks at before it starts.

By the time that it noted an index out of range, it would have made its updates.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...compiler.ir.dims import substitute
from ...compiler.ir.graph import Graph

if TYPE_CHECKING:
    from ...compiler.analysis.input_limits import InputLimit

Certain = list[tuple[int, "InputLimit"]]  # an input's number, and what its values must be


def certain_limits(graph: Graph, names: Sequence[str]) -> Certain:
    """The limits of inputs that are indices wherever they are used."""
    from ...compiler.analysis.input_limits import input_limits

    found = input_limits(graph).items()
    return [(names.index(n), limit) for n, limits in found for limit in limits if limit.certain]


def refuse_out_of_range(
    arrays: Sequence[np.ndarray], certain: Certain, binding: Mapping[str, int]
) -> None:
    """Raises InputError for indices that are out of range, as the run would. (What is computed of
    inputs is looked at in the run alone.)"""
    from ...compiler.ir.limits import check_values

    for i, limit in certain:
        low, high = (None if d is None else substitute(d, binding) for d in (limit.low, limit.high))
        check_values(arrays[i], low, high, limit.what, limit.where)
