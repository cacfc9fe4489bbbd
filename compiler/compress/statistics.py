"""The graph that a calibration runs: a graph, and reductions of its values with state.

    with_statistics(graph, values) -> graph with inputs and outputs `VALUE/KIND`, and `updates`

Every statistic is an array that each run brings up to date in its place, so that a calibration
needs as much memory as one run and a few kilobytes per value, whatever the amount of data. Ranges
of all observers come from them afterwards (`observers.py`).

    histogram   i32[2 * BINS]: how many values have which sign, exponent and leading bits
    moments     of what products read (`runtime/compress/moments.py`)

The largest and the least element of each run are an output, `VALUE/ENDS`; NaN where one is NaN.

Bins are bits of the floats themselves, so no range has to be known before. Where sizes are known,
a histogram looks at some of the elements, about `SAMPLE` of them in each run.
"""

from collections.abc import Callable, Iterable, Sequence
from math import prod

import numpy as np

from ..classes import dataclass
from ..ir.builder import Builder, Tensor
from ..ir.graph import Graph, Node, Value, clone
from ..ir.types import DTYPES, F32, I32, TensorType
from ..rewrite.rules.quantized import WORKS_ON_BYTES

OCTAVE = 64  # bins of a power of two
LEAST = -20  # values below 2^LEAST are in the bin of the least
OCTAVES = 40
BINS = OCTAVE * OCTAVES  # of each sign: positive values first
SHIFT = 23 - 6  # bits of a float's fraction that are not looked at
SAMPLE = 1 << 14  # elements that a histogram sees of a value in one run
U32 = DTYPES["u32"]
ENDS, HISTOGRAM = "ends", "histogram"  # names


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
    names of its inputs. Its outputs are those, and of each value of `ends` `VALUE/ENDS` f32[2]: the
    largest element, then the least (0 where none can be below)."""
    result, table = clone(graph)
    result.outputs, result.output_names, result.updates = [], [], {}
    counted = len(result.nodes)
    b, state = Builder(result), {}
    for value, statistic in wanted:
        name = f"{value.name}/{statistic.name}"
        start = statistic.start(value)
        old = b.input(name, f"{'f32' if start.dtype == np.float32 else 'i32'}{list(start.shape)}")
        new = statistic.update(b, old, Tensor(b, table[value]))
        result.updates[len(result.outputs)] = result.inputs.index(old.value)
        b.output(f"new {name}", new)
        state[name] = start
    for value in ends:  # each by itself: joined to one output, all values would wait for the last
        b.output(f"{value.name}/{ENDS}", _ends(b, Tensor(b, table[value])))
    result.nodes = _early(result.nodes, counted)
    return result, state


def _early(nodes: Sequence[Node], counted: int) -> list[Node]:
    """Those behind the first `counted` nodes where all that they read is known: what they look at
    needs no memory after them."""
    places = {v: i for i, n in enumerate(nodes[:counted]) for v in n.outputs}
    for node in nodes[counted:]:
        at = max((places.get(v, -1) for v in node.inputs if v is not None), default=-1)
        places |= dict.fromkeys(node.outputs, at)
    order = {n: (places[n.outputs[0]], i >= counted) for i, n in enumerate(nodes)}
    return sorted(nodes, key=order.__getitem__)


# -- the statistics of all observers --------------------------------------------------------------


def _flat(x: Tensor) -> Tensor:
    return x.reshape(-1)


def _ends(b: Builder, x: Tensor) -> Tensor:
    """f32[2]: the largest element, and the least or 0 where none can be below."""
    above = _is_above_zero(x.value)
    least = b.scalar(0, F32) if above else _reduced(b.reduce_min, x)
    return b.concat(_reduced(b.reduce_max, x).reshape(1), least.reshape(1), axis=0)


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


def histogram(places: Sequence[int] = ()) -> Statistic:
    """Of a value whose axes `places` tell where a convolution's window is: of these, a grid is
    looked at, whatever order they have in memory. Of others, every n-th element."""

    def update(b: Builder, old: Tensor, x: Tensor) -> Tensor:
        return _counted(b, old, _every_nth(_grid(b, x, places)))

    return Statistic(HISTOGRAM, lambda v: np.zeros(2 * BINS, np.int32), update)


def _grid(b: Builder, x: Tensor, places: Sequence[int]) -> Tensor:
    if not all(isinstance(d, int) for d in x.shape):
        return x
    steps, rest = [], prod(x.shape) / SAMPLE
    for left, axis in enumerate(reversed(places)):
        step = rest ** (1 / (len(places) - left))
        steps.insert(0, max(1, min(round(step), x.shape[axis])))
        rest /= steps[0]
    if prod(steps) == 1:
        return x
    starts = tuple(n // 2 for n in steps)
    sizes = tuple(-(-(x.shape[a] - i) // n) for a, i, n in zip(places, starts, steps))
    where = {"axes": tuple(places), "starts": starts, "steps": tuple(steps), "sizes": sizes}
    return b.emit("slice", x, **where)


def _every_nth(x: Tensor) -> Tensor:
    x = _flat(x)
    if isinstance(x.shape[0], int) and x.shape[0] > 2 * SAMPLE:
        return x[:: prime(x.shape[0] // SAMPLE)]
    return x


def _counted(b: Builder, old: Tensor, x: Tensor) -> Tensor:
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
