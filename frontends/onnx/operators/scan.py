"""Scan: states and slices along any axis, either direction; in opset 8 for each item of a batch."""

from ....compiler.errors import ModelError
from ....compiler.ir.builder import Tensor
from ....compiler.ir.dims import Sym
from ....compiler.ir.hosted import has_stages
from ....compiler.ir.types import I64, TensorType
from ..read.call import Call
from ..read.folded import FoldingBuilder
from ..read.region import Region
from .ai_onnx.move import reversed_within
from .loop import emit_scan


def scan(c: Call):
    return _batched(c) if c.version < 9 else _scan(c)


def _scan(c: Call):
    body, count = c.attr("body"), c.attr("num_scan_inputs")
    states, arrays = c.tensors[: len(c.inputs) - count], c.tensors[len(c.inputs) - count :]
    axes = c.attr("scan_input_axes", [0] * count)
    backwards = c.attr("scan_input_directions", [0] * count)
    arrays = [
        _to_front(_reversed(x, a % x.rank, d), a % x.rank)
        for x, a, d in zip(arrays, axes, backwards)
    ]
    region = _body(c, body, states, arrays)
    outputs = len(region.results) - len(states)
    results = emit_scan(c, region, states, arrays, region.results, len(states))
    axes = c.attr("scan_output_axes", [0] * outputs)
    backwards = c.attr("scan_output_directions", [0] * outputs)
    final = list(results[: len(states)])
    for y, axis, d in zip(results[len(states) :], axes, backwards):
        order = list(range(1, y.rank))
        order.insert(axis % y.rank, 0)
        final.append(_reversed(y, 0, d).transpose(order))
    return final


def _body(c: Call, body, states, arrays, more=()) -> Region:
    """The body for states and slices of arrays; `more` are types of further arrays' slices."""
    types = [s.type for s in states] + [x.type.with_shape(x.shape[1:]) for x in arrays]
    if len(types) != len(body.input):
        raise ModelError(
            "the body of a Scan does not fit its operands",
            where=c.where,
            expected=f"{len(types)} inputs",
            received=len(body.input),
        )
    names = [i.name for i in body.input]
    region = Region(c, body, "body", [*zip(names, types), *(("", t) for t in more)])
    if not all(isinstance(r, Tensor) for r in region.results):
        raise c.unsupported("the body of a Scan gives something that is not a tensor")
    return region


def _reversed(x: Tensor, axis: int, backwards: int) -> Tensor:
    return x.b.emit("reverse", x, axes=(axis,)) if backwards else x


def _to_front(x: Tensor, axis: int) -> Tensor:
    return x.transpose([axis] + [i for i in range(x.rank) if i != axis])


# -- opset 8 --------------------------------------------------------------------------------


def _batched(c: Call):
    """A scan over the batch, whose body is the scan over the sequence (axis 1 of the arrays).

    Where sequences differ in length, a turn behind the end of one keeps its states, and gives
    zeros; scanning backwards begins at the end.
    """
    body, count = c.attr("body"), c.attr("num_scan_inputs")
    backwards = c.attr("directions", [0] * count)
    lengths, operands = c[0], [c.x(i) for i in range(1, len(c.inputs))]
    states, arrays = operands[: len(operands) - count], operands[len(operands) - count :]
    if any(x.rank < 1 for x in states) or any(x.rank < 2 for x in arrays):
        raise ModelError(
            "operands of this Scan have a batch axis, arrays also a sequence axis", where=c.where
        )
    length = arrays[0].shape[1]
    if lengths is not None:
        lengths = c.within(lengths, 0, length + 1, "a sequence length")
    if any(backwards) and lengths is not None:
        # Each sequence is turned within its own length.
        arrays = [
            reversed_within(c, x, lengths, 0, 1) if d else x for x, d in zip(arrays, backwards)
        ]
        backwards = [0] * count
    arrays = [_reversed(x, 1, d) for x, d in zip(arrays, backwards)]
    slices = [*states, *arrays] + ([] if lengths is None else [lengths.cast(I64)])
    outer = FoldingBuilder(name="batch")
    scope = c.scope.child(outer, f"{c.where}/")
    own = [outer.input(f"item{i}", x.type.with_shape(x.shape[1:])) for i, x in enumerate(slices)]
    item = Call(
        outer,
        c.op_type,
        c.domain,
        c.version,
        c.where,
        own,
        c.attrs,
        c.outputs,
        c.reader,
        scope,
        c.proto,
    )
    results = _item(item, body, len(states), count, length, None if lengths is None else own[-1])
    if has_stages(outer.graph):
        raise c.unsupported(
            "data decides shapes in the body of a Scan with a batch (opset 8)",
            fix="convert the model to opset 9 or later",
        )
    captured = list(scope.captured)
    outer.graph.inputs[:] = [t.value for t in own] + [scope.captured[v].value for v in captured]
    for i, value in enumerate(results):
        outer.output(f"result{i}", value)
    out = c.b.emit(
        "scan",
        *slices,
        *[Tensor(c.b, v) for v in captured],
        body=outer.graph,
        states=0,
        scans=len(slices),
    )
    return list(out) if isinstance(out, tuple) else [out]


def _item(c: Call, body, count: int, scans: int, turns: int | Sym, length: Tensor | None):
    """The scan of one item of the batch: `count` states, `scans` arrays."""
    states, arrays = c.inputs[:count], c.inputs[count : count + scans]
    if length is None:
        region = _body(c, body, states, arrays)
        return emit_scan(c, region, states, arrays, region.results, count)
    region = _body(c, body, states, arrays, [TensorType(I64, ())])
    b = region.builder
    inside = b.emit("less", region.own[-1], region.scope.take(length))
    old = [*region.own[:count], *(_zeros(b, r) for r in region.results[count:])]
    results = [b.emit("where", inside, new, was) for new, was in zip(region.results, old)]
    steps = c.b.emit("iota", shape=(turns,), axis=0, dtype=I64)
    return emit_scan(c, region, states, [*arrays, steps], results, count)


def _zeros(b, like: Tensor) -> Tensor:
    zero = b.emit("cast", b.constant(0, "i64"), dtype=like.dtype)
    return b.emit("expand", zero, shape=like.shape)
