"""Loop and Scan: as `scan` or `while` ops with a region, or their bodies written out."""

from ...compiler.builder import Tensor
from ...compiler.types import I64, TensorType
from .call import Call
from .region import Region, inline_graph
from .scope import Scope
from .values import Known

UNROLLED = 64  # a Loop with at most that many turns is written out where `scan` cannot say it


def loop(c: Call):
    """`Loop` with a known number of turns: a `scan`, or its body repeated."""
    body = c.attr("body")
    if c[0] is None:
        raise c.unsupported("a Loop without a trip count", fix="give it a maximum trip count")
    (turns,) = c.symbols(0, "M")
    states = [c[i] for i in range(2, len(c.inputs))]
    if c[1] is not None:
        go_on = c.known(1)
        if go_on is None:
            raise c.must_be_known(1, "the first condition of a Loop")
        if not bool(go_on.reshape(())):
            turns = 0
    if isinstance(turns, int) and turns <= UNROLLED:
        return _unroll(c, body, max(turns, 0), states)
    if any(not isinstance(s, Tensor) for s in states):
        raise c.unsupported("a Loop with sequences and an unknown number of turns")
    iteration = TensorType(I64, ())
    names = [i.name for i in body.input]
    inputs = [(n, s.type) for n, s in zip(names[2:], states)] + [(names[0], iteration)]
    region = Region(_with_condition(c, names[1]), body, "body", inputs)
    if not _always_true(region.results[0]):
        raise c.unsupported("a Loop whose condition changes while it runs")
    steps = c.b.emit("iota", shape=(turns,), axis=0, dtype=I64)
    return _scan(c, region, states, [steps], region.results[1:], len(states))


def _with_condition(c: Call, name: str) -> Call:
    scope = Scope(c.scope.builder, c.scope.opsets, parent=c.scope,
                  attributes=c.scope.attributes, prefix=c.scope.prefix)  # fmt: skip
    scope.values[name] = c.b.constant(True)
    return Call(c.b, c.op_type, c.domain, c.version, c.where, c.inputs, c.attrs, c.outputs,
                c.reader, scope, c.proto)  # fmt: skip


def _always_true(value) -> bool:
    return isinstance(value, Known) and bool(value.array.reshape(()))


def _unroll(c: Call, body, turns: int, states: list):
    names = [i.name for i in body.input]
    stacked: list[list] = [[] for _ in range(len(body.output) - 1 - len(states))]
    for turn in range(turns):
        values = {names[0]: c.b.constant(turn, "i64"), names[1]: c.b.constant(True)}
        values |= dict(zip(names[2:], states))
        go_on, *results = inline_graph(c, body, "body", values)
        states = results[: len(states)]
        for items, value in zip(stacked, results[len(states) :]):
            items.append(c.b.emit("reshape", value, shape=(1, *value.shape)))
        if not isinstance(go_on, Known):
            raise c.unsupported("a Loop whose condition is computed while it runs")
        if not bool(go_on.array.reshape(())):
            break
    if stacked and not stacked[0]:
        raise c.unsupported("a Loop with no turns and stacked outputs")
    return states + [c.b.emit("concat", *items, axis=0) for items in stacked]


def scan(c: Call):
    """`Scan`, opset 9 and later: states and slices along any axis, either direction."""
    if c.version < 9:
        raise c.unsupported("the batched Scan of opset 8")
    body, count = c.attr("body"), c.attr("num_scan_inputs")
    states, arrays = c.tensors[: len(c.inputs) - count], c.tensors[len(c.inputs) - count :]
    axes = c.attr("scan_input_axes", [0] * count)
    backwards = c.attr("scan_input_directions", [0] * count)
    arrays = [
        _to_front(_reversed(x, a % x.rank, d), a % x.rank)
        for x, a, d in zip(arrays, axes, backwards)
    ]
    types = [s.type for s in states] + [x.type.with_shape(x.shape[1:]) for x in arrays]
    region = Region(c, body, "body", list(zip([i.name for i in body.input], types)))
    outputs = len(region.results) - len(states)
    results = _scan(c, region, states, arrays, region.results, len(states))
    axes = c.attr("scan_output_axes", [0] * outputs)
    backwards = c.attr("scan_output_directions", [0] * outputs)
    final = list(results[: len(states)])
    for y, axis, d in zip(results[len(states) :], axes, backwards):
        order = list(range(1, y.rank))
        order.insert(axis % y.rank, 0)
        final.append(_reversed(y, 0, d).transpose(order))
    return final


def _reversed(x: Tensor, axis: int, backwards: int) -> Tensor:
    return x.b.emit("reverse", x, axes=(axis,)) if backwards else x


def _to_front(x: Tensor, axis: int) -> Tensor:
    return x.transpose([axis] + [i for i in range(x.rank) if i != axis])


def _scan(c: Call, region: Region, states, arrays, results, count: int):
    for i, (state, result) in enumerate(zip(states, results)):
        if state.type != result.type:
            raise c.unsupported(
                f"state {i} changes its type from turn to turn",
                expected=state.type,
                received=result.type,
            )
    captured = list(region.scope.captured)
    graph = region.close(captured, results)
    out = c.b.emit(
        "scan",
        *states,
        *arrays,
        *[Tensor(c.b, v) for v in captured],
        body=graph,
        states=count,
        scans=len(arrays),
    )
    return list(out) if isinstance(out, tuple) else [out]
