"""The graph that a calibration runs: a graph, and reductions of its values with state.

    with_statistics(graph, values) -> graph with inputs and outputs `VALUE/KIND`, and `updates`

Every statistic is an array that each run brings up to date in its place, so that a calibration
needs as much memory as one run and a few kilobytes per value, whatever the amount of data. Ranges
of all observers come from them afterwards (`observers.py`).

    range       [min, max] of all runs
    ends        [sum of the runs' minima, sum of their maxima, runs, runs with NaN or infinity]
    histogram   i32[2 * BINS]: how many values have which sign, exponent and leading bits

Bins are bits of the floats themselves, so no range has to be known before. Where sizes are known,
a histogram looks at every n-th element, about `SAMPLE` of them in each run.
"""

from collections.abc import Callable, Iterable
from math import prod

import numpy as np

from ..classes import dataclass
from ..ir.builder import Builder, Tensor
from ..ir.graph import Graph, Value, clone
from ..ir.types import DTYPES, F32, I32, TensorType

OCTAVE = 64  # bins of a power of two
LEAST = -20  # values below 2^LEAST are in the bin of the least
OCTAVES = 40
BINS = OCTAVE * OCTAVES  # of each sign: positive values first
SHIFT = 23 - 6  # bits of a float's fraction that are not looked at
SAMPLE = 1 << 14  # elements that a histogram sees of a value in one run
U32 = DTYPES["u32"]


@dataclass(frozen=True)
class Statistic:
    """A reduction with state: `start(value)` is the array that it begins with, `update(b, state,
    x)` the next state."""

    name: str
    start: Callable[[Value], np.ndarray]
    update: Callable[[Builder, Tensor, Tensor], Tensor]


def with_statistics(
    graph: Graph, wanted: Iterable[tuple[Value, Statistic]], *, outputs: bool = False
) -> tuple[Graph, dict[str, np.ndarray]]:
    """A copy of `graph` that keeps these statistics, and the arrays that they begin with, by the
    names of its inputs. The graph's own outputs are left out unless `outputs` says otherwise."""
    result, table = clone(graph)
    if not outputs:
        result.outputs, result.output_names, result.updates = [], [], {}
    b, state = Builder(result), {}
    for value, statistic in wanted:
        name = f"{value.name}/{statistic.name}"
        start = statistic.start(value)
        old = b.input(name, f"{'f32' if start.dtype == np.float32 else 'i32'}{list(start.shape)}")
        new = statistic.update(b, old, Tensor(b, table[value]))
        result.updates[len(result.outputs)] = result.inputs.index(old.value)
        b.output(f"new {name}", new)
        state[name] = start
    return result, state


# -- the statistics of all observers --------------------------------------------------------------


def _flat(x: Tensor) -> Tensor:
    return x.reshape(-1)


def _range(b: Builder, old: Tensor, x: Tensor) -> Tensor:
    low, high = _ends_of(b, x)
    return b.concat(
        b.minimum(old[0:1], low.reshape(1)), b.maximum(old[1:2], high.reshape(1)), axis=0
    )


def _ends_of(b: Builder, x: Tensor) -> tuple[Tensor, Tensor]:
    axes = tuple(range(x.rank))
    return (
        b.reduce_min(x, axes=axes, keepdims=False),
        b.reduce_max(x, axes=axes, keepdims=False),
    )


def _ends(b: Builder, old: Tensor, x: Tensor) -> Tensor:
    low, high = _ends_of(b, x)
    total = (x * b.scalar(0, F32)).sum()  # NaN where a value is NaN or infinite
    odd = b.where(b.equal(total, b.scalar(0, F32)), b.scalar(0, F32), b.scalar(1, F32))
    parts = (low, high, b.scalar(1, F32), odd)
    return old + b.concat(*(t.reshape(1) for t in parts), axis=0)


def _histogram(b: Builder, old: Tensor, x: Tensor) -> Tensor:
    x = _flat(x)
    if isinstance(x.shape[0], int) and x.shape[0] > 2 * SAMPLE:
        x = x[:: prime(x.shape[0] // SAMPLE)]
    code = b.shift_right(b.bit_cast(x, dtype=U32), b.scalar(SHIFT, U32)).cast(I32)
    sign = 1 << (31 - SHIFT)
    negative = b.greater_equal(code, b.scalar(sign, I32))
    size = b.where(negative, code - sign, code) - (127 + LEAST) * OCTAVE
    bin = b.clip(size, b.scalar(0, I32), b.scalar(BINS - 1, I32))
    bin = bin + b.where(negative, b.scalar(BINS, I32), b.scalar(0, I32))
    ones = b.scalar(1, I32).expand(bin.shape)
    return b.scatter_elements(old, bin, ones, axis=0, reduction="add")


def prime(least: int) -> int:
    """The next prime: no axis of the value has it as its stride, or nearly none."""
    n = max(2, least)
    while any(n % d == 0 for d in range(2, int(n**0.5) + 1)):
        n += 1
    return n


RANGE = Statistic("range", lambda v: np.array([np.inf, -np.inf], np.float32), _range)
ENDS = Statistic("ends", lambda v: np.zeros(4, np.float32), _ends)
HISTOGRAM = Statistic("histogram", lambda v: np.zeros(2 * BINS, np.int32), _histogram)
OBSERVED = (RANGE, ENDS, HISTOGRAM)


def can_be_observed(value: Value) -> bool:
    """Whether statistics are kept of it: an f32 tensor that is not empty."""
    if not isinstance(value.type, TensorType) or value.type.dtype != F32:
        return False
    return (
        all(not isinstance(d, int) or d > 0 for d in value.shape)
        and prod(d for d in value.shape if isinstance(d, int)) > 0
    )


def centers(bins: np.ndarray) -> np.ndarray:
    """The middle of each of these bins, f64."""
    octave, place = np.divmod(bins % BINS, OCTAVE)
    sizes = 2.0 ** (octave + LEAST) * (1 + (place + 0.5) / OCTAVE)
    return np.where(bins < BINS, sizes, -sizes)
