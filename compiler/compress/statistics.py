"""The graph that a calibration runs: a graph, and reductions of its values with state.

    with_statistics(graph, values) -> graph with inputs and outputs `VALUE/KIND`, and `updates`

Every statistic is an array that each run brings up to date in its place, so that a calibration
needs as much memory as one run and a few kilobytes per value, whatever the amount of data. Ranges
of all observers come from them afterwards (`observers.py`).

    histogram   i32[2 * BINS]: how many values have which sign, exponent and leading bits
    moments     of what products read (`runtime/compress/moments.py`)

The least and the largest values of each run are an output, `ENDS`; NaN where a value is NaN.

Bins are bits of the floats themselves, so no range has to be known before. Where sizes are known,
a histogram looks at every n-th element, about `SAMPLE` of them in each run.
"""

from collections.abc import Callable, Iterable, Sequence
from math import prod

import numpy as np

from ..classes import dataclass
from ..ir.builder import Builder, Tensor
from ..ir.graph import Graph, Value, clone
from ..ir.types import DTYPES, F32, I32, TensorType
from ..rewrite.rules.quantized import WORKS_ON_BYTES

OCTAVE = 64  # bins of a power of two
LEAST = -20  # values below 2^LEAST are in the bin of the least
OCTAVES = 40
BINS = OCTAVE * OCTAVES  # of each sign: positive values first
SHIFT = 23 - 6  # bits of a float's fraction that are not looked at
SAMPLE = 1 << 14  # elements that a histogram sees of a value in one run
U32 = DTYPES["u32"]
ENDS = "ends"


@dataclass(frozen=True)
class Statistic:
    """A reduction with state: `start(value)` is the array that it begins with, `update(b, state,
    x)` the next state."""

    name: str
    start: Callable[[Value], np.ndarray]
    update: Callable[[Builder, Tensor, Tensor], Tensor]


def with_statistics(
    graph: Graph, wanted: Iterable[tuple[Value, Statistic]], ends: Sequence[Value] = ()
) -> tuple[Graph, dict[str, np.ndarray]]:
    """A copy of `graph` that keeps these statistics, and the arrays that they begin with, by the
    names of its inputs. Its outputs are those, and `ENDS` f32[2 n] of n values `ends`: the largest
    ones, then the least ones (0 where none can be below)."""
    result, table = clone(graph)
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
    if ends:
        b.output(ENDS, _ends(b, [Tensor(b, table[v]) for v in ends]))
    return result, state


# -- the statistics of all observers --------------------------------------------------------------


def _flat(x: Tensor) -> Tensor:
    return x.reshape(-1)


def _ends(b: Builder, values: Sequence[Tensor]) -> Tensor:
    """One output for all, as many small ones would be many kernels."""
    nothing = b.scalar(0, F32)
    largest = [_reduced(b.reduce_max, x) for x in values]
    least = [nothing if _is_above_zero(x.value) else _reduced(b.reduce_min, x) for x in values]
    return b.concat(*(t.reshape(1) for t in (*largest, *least)), axis=0)


def _reduced(reduction: Callable, x: Tensor) -> Tensor:
    return reduction(x, axes=tuple(range(x.rank)), keepdims=False)


def _is_above_zero(value: Value) -> bool:
    """Whether no element can be below 0: an activation cuts there. Ranges hold 0 anyway."""
    node = value.node
    if node is None:
        return False
    if node.op.name == "clip":
        low = node.inputs[1] if len(node.inputs) > 1 else None
        return low is not None and low.constant is not None and bool((low.constant >= 0).all())
    if node.op.name in WORKS_ON_BYTES:
        return node.inputs[0] is not None and _is_above_zero(node.inputs[0])
    return node.op.name in ("relu", "sigmoid")


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


HISTOGRAM = Statistic("histogram", lambda v: np.zeros(2 * BINS, np.int32), _histogram)


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
