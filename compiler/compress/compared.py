"""A model of floats and its quantized form as one graph that gives errors, kernel by kernel.

    found = borders(original, quantized, memory)      values that both have, and that lie in memory
    joint(original, quantized, found) -> graph        outputs: `ERRORS`, and those of the quantized

Of each border x there are x as floats give it, and two forms of the quantized model's:

    accumulated   what the quantized model has there, with all errors that were made before
    own           what it has if all that a kernel reads from memory is what floats give

The quantized model is not changed by being looked at: where a value is quantized, what is compared
are the numbers that its bytes stand for, and these lie in memory anyway.
"""

from collections.abc import Collection, Sequence

import numpy as np

from ..classes import dataclass
from ..errors import UsageError
from ..ir.builder import Builder, Tensor
from ..ir.graph import Graph, Node, Value, clone
from ..ir.types import F32, TensorType
from .observers import limits

ERRORS = "errors"
COLUMNS = ("signal", "own", "accumulated", "largest own", "largest accumulated", "cut", "count")
ALONE = frozenset(["relu", "clip"])  # what a quantizer may leave out, as bytes end where they cut


@dataclass(frozen=True, eq=False)
class Border:
    """A value of both graphs. `codes` is the node that quantizes it, `nodes` are those of the
    quantized graph between it and the borders before it, `origins` of them and of the original's.
    """

    original: Value
    quantized: Value
    codes: Node | None
    nodes: tuple[Node, ...]
    before: tuple[Node, ...]

    @property
    def origins(self) -> tuple[str, ...]:
        """Nodes of the original model that the kernel computes."""
        named = [n.origin for n in self.before if n.origin is not None]
        return tuple(dict.fromkeys(named)) or (self.original.name,)


def borders(original: Graph, quantized: Graph, memory: Collection[str]) -> list[Border]:
    """The values of both graphs that the quantized one quantizes, gives, or (names in `memory`)
    has in memory, in order. Raises UsageError for models that are not each other's."""
    mine = {v.name: v for v in _floats(original)}
    codes = _codes(quantized)
    given = set(quantized.outputs)
    found: list[tuple[Value, Value]] = []
    theirs = {v.name for v in quantized.values()}
    for v in _floats(quantized):
        known = mine.get(v.name)
        if known is None or v.node is None or v.constant is not None:
            continue
        if known.node is None or known.rank != v.rank:
            continue
        if v in codes or v in given or v.name in memory:
            found.append((_as_cut(known, original, theirs), v))
    if not found:
        raise UsageError(
            "the models have no values of the same names: their kernels cannot be compared",
            fix="compare a quantized model with the one that it was made of",
        )
    after, before = _walls(q for _, q in found), _walls(f for f, _ in found)
    done: set[Node] = set()
    result = []
    for f, q in found:
        nodes = _between(q, after, done)
        result.append(Border(f, q, codes.get(q), nodes, _between(f, before, done)))
    return result


def joint(original: Graph, quantized: Graph, found: Sequence[Border]) -> Graph:
    """A graph with the inputs of both. Its output `ERRORS` f32[borders, COLUMNS] has sums of
    squares, largest errors, and how many values a range cuts off."""
    b = Builder()
    inputs = {v.name: b.input(v.name, v.type) for v in original.inputs}
    floats = b.inline(
        _with_outputs(original, [x.original for x in found]),
        [inputs[v.name] for v in original.inputs],
    )
    feeds = [inputs[v.name] for v in quantized.inputs]
    results = b.inline(_looked_at(quantized, found), feeds)
    accumulated, outputs = results[: len(found)], results[len(found) :]
    own = b.inline(_alone(quantized, found), [*feeds, *floats])
    rows = [_errors(b, x, y, z, border) for x, y, z, border in zip(floats, own, accumulated, found)]
    b.output(ERRORS, b.concat(*(r.reshape(1, -1) for r in rows), axis=0))
    for name, y in zip(quantized.output_names, outputs):
        b.output(name if name != ERRORS else f"{ERRORS}_", y)
    return b.graph


def require_same_inputs(original: Graph, quantized: Graph) -> None:
    """Raise UsageError for models that have not the same inputs."""
    mine, theirs = (
        {v.name: v.type for v in graph.inputs if isinstance(v.type, TensorType)}
        for graph in (original, quantized)
    )
    if set(mine) == set(theirs) and all(len(mine[n].shape) == len(theirs[n].shape) for n in mine):
        return
    said = [", ".join(f"{n}: {t}" for n, t in types.items()) for types in (mine, theirs)]
    raise UsageError(
        "the models have different inputs",
        expected=said[0],
        received=said[1],
        fix="compare a quantized model with the one that it was made of",
    )


def _floats(graph: Graph) -> list[Value]:
    return [v for v in graph.values() if isinstance(v.type, TensorType) and v.dtype == F32]


def _codes(graph: Graph) -> dict[Value, Node]:
    """The nodes that quantize values by constants."""
    found: dict[Value, Node] = {}
    for node in graph.nodes:
        if node.op.name != "quantize_linear" or node.inputs[0] is None:
            continue
        if all(v is None or v.constant is not None for v in node.inputs[1:]):
            found.setdefault(node.inputs[0], node)
    return found


def _as_cut(value: Value, graph: Graph, theirs: Collection[str]) -> Value:
    """The value after activations that the quantized model lacks, as its bytes end there."""
    uses = graph.uses()
    while True:
        readers = [n for n, _ in uses.get(value, [])]
        if len(readers) != 1 or readers[0].op.name not in ALONE:
            return value
        if readers[0].outputs[0].name in theirs:
            return value
        value = readers[0].outputs[0]


def _walls(values) -> set[Value]:
    return set(values)


def _between(value: Value, walls: Collection[Value], done: set[Node]) -> tuple[Node, ...]:
    """The nodes on the way to `value` that no other border has, in order."""
    found: list[Node] = []
    stack = [value.node]
    while stack:
        node = stack.pop()
        if node is None or node in done or node.op.name == "constant":
            continue
        done.add(node)
        found.append(node)
        stack += [v.node for v in node.inputs if v is not None and v not in walls]
    return tuple(reversed(found))


def _with_outputs(graph: Graph, values: Sequence[Value]) -> Graph:
    result, table = clone(graph)
    result.outputs = [table[v] for v in values]
    result.output_names = [v.name for v in values]
    result.updates = {}
    return result


def _looked_at(graph: Graph, found: Sequence[Border]) -> Graph:
    """The quantized model with what is compared as further outputs."""
    result, table = clone(graph)
    b = Builder(result)
    result.updates = {}
    seen = []
    for x in found:
        y = Tensor(b, table[x.quantized])
        if x.codes is not None:
            y = _stands_for(b, x.codes, Tensor(b, table[x.codes.outputs[0]]), table)
        seen.append(y.value)
    result.outputs = [*seen, *result.outputs]
    result.output_names = [*(x.original.name for x in found), *result.output_names]
    return result


def _alone(graph: Graph, found: Sequence[Border]) -> Graph:
    """The quantized model whose kernels read floats' values, which are further inputs."""
    result, table = clone(graph)
    result.updates = {}
    forced = {}
    for i, x in enumerate(found):
        value = table[x.quantized]
        forced[value] = Value(f"border {i}", x.original.type)
        result.inputs.append(forced[value])
    for node in result.nodes:
        node.inputs = [None if v is None else forced.get(v, v) for v in node.inputs]
    b = Builder(result)
    outputs = []
    for x in found:
        y = Tensor(b, table[x.quantized])
        if x.codes is not None:
            parameters = [None if v is None else table[v] for v in x.codes.inputs[1:]]
            q = b.emit("quantize_linear", y, *parameters, **x.codes.attrs)
            y = _stands_for(b, x.codes, q, table)
        outputs.append(y.value)
    result.outputs, result.output_names = outputs, [x.original.name for x in found]
    return result


def _stands_for(b: Builder, codes: Node, q: Tensor, table) -> Tensor:
    """The floats that numbers stand for which a node has made."""
    parameters = [None if v is None else table[v] for v in codes.inputs[1:]]
    attrs = {n: codes.attrs[n] for n in ("axis", "block") if n in codes.attrs}
    return b.emit("dequantize_linear", q, *parameters, **attrs)


def _errors(b: Builder, x: Tensor, own: Tensor, accumulated: Tensor, border: Border) -> Tensor:
    """What `COLUMNS` says, f32[7]."""
    axes = tuple(range(x.rank))
    total = lambda t: b.reduce_sum(t, axes=axes, keepdims=False)
    largest = lambda t: b.reduce_max(b.abs(t), axes=axes, keepdims=False)
    mine, all_of_it = own - x, accumulated - x
    ones = b.scalar(1, F32).expand(x.shape)
    parts = (
        total(x * x),
        total(mine * mine),
        total(all_of_it * all_of_it),
        largest(mine),
        largest(all_of_it),
        total(_cut(b, x, border, ones)),
        total(ones),
    )
    return b.concat(*(t.reshape(1) for t in parts), axis=0)


def _cut(b: Builder, x: Tensor, border: Border, ones: Tensor) -> Tensor:
    """1 where bytes end before x, 0 elsewhere."""
    ends = None if border.codes is None else _ends(border.codes)
    nothing = b.scalar(0, F32)
    if ends is None:
        return ones * nothing
    low, high = (b.scalar(np.float32(e), F32) for e in ends)
    return b.where(b.less(x, low), ones, b.where(b.greater(x, high), ones, ones * nothing))


def _ends(codes: Node) -> tuple[float, float] | None:
    """The floats beyond which a node that quantizes by one scale errs by more than half a step."""
    scale, dtype = codes.inputs[1], codes.attrs["dtype"]
    if scale is None or scale.constant is None or scale.constant.size != 1 or not dtype.is_int:
        return None
    zero = codes.inputs[2] if len(codes.inputs) > 2 else None
    z = 0 if zero is None or zero.constant is None else int(zero.constant.reshape(()))
    s = float(scale.constant.reshape(()))
    low, high = ((n - z) * s for n in limits(dtype.name))
    return low - s / 2, high + s / 2
