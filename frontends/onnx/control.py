"""If, Loop, Scan, and functions: graphs inside graphs."""

import numpy as np
import onnx

from ...compiler.builder import Tensor
from ...compiler.dims import Sym
from ...compiler.errors import ModelError, TesselError, TypeMismatch, UnsupportedError
from ...compiler.known_values import IMPOSSIBLE
from ...compiler.types import I64, TensorType
from .call import Call
from .needs import ValueNeeded
from .scope import FAILED, Scope
from .values import Known, KnownBuilder


def if_(c: Call):
    """`If`: a known condition leaves one branch; else `if` with closed regions."""
    branches = {name: c.attr(name) for name in ("then_branch", "else_branch")}
    condition = c.x(0)
    known = c.known(0)
    if known is not None and not condition.symbolic:
        if known.size != 1:
            raise TypeMismatch("a condition must be one bool", received=condition.type)
        name = "then_branch" if bool(known.reshape(())) else "else_branch"
        return inline_graph(c, branches[name], name)
    regions = _branches(c, branches)
    then, other = ([v.type for v in r.results] for r in regions)
    if then != other:
        what = "the branches give different types, and the condition"
        if known is None and isinstance(error := c.must_be_known(0, what), ValueNeeded):
            raise error
        raise UnsupportedError(
            "the branches give different types, and the condition is not known while reading",
            where=c.where,
            expected=", ".join(map(str, then)),
            received=", ".join(map(str, other)),
            fix="pass --shapes for all inputs if the condition depends on a shape",
        )
    captured = list(dict.fromkeys(v for r in regions for v in r.scope.captured))
    graphs = [r.close(captured) for r in regions]
    results = c.b.emit(
        "if",
        condition.reshape(()),
        *[Tensor(c.b, v) for v in captured],
        then_graph=graphs[0],
        else_graph=graphs[1],
    )
    return results


def _branches(c: Call, branches: dict) -> list["_Region"]:
    """Both branches as regions.

    A branch may contradict the shapes of the inputs because it is never taken with them (a speech
    model with a branch for each sample rate). It can give nothing right, so it gives NaN; the
    graph's metadata tell where.
    """
    from .reader import Skip

    regions: dict[str, _Region] = {}
    impossible: list[TesselError] = []
    for name, graph in branches.items():
        mark = len(c.reader.findings.errors)
        try:
            regions[name] = _Region(c, graph, name)
        except Skip:
            errors = c.reader.findings.errors[mark:]
            if impossible or not all(isinstance(e[0], TypeMismatch) for e in errors):
                raise
            impossible = c.reader.findings.take_since(mark)
    if impossible:
        (other,) = regions.values() if regions else (None,)
        types = [v.type for v in other.results] if other is not None else []
        if not types or not all(t.dtype.is_float for t in types):
            for error in impossible:
                c.reader.findings.add(error, None)
            raise Skip
        (name,) = branches.keys() - regions.keys()
        regions[name] = _Region(c, branches[name], name, nan=types)
        c.reader.note(IMPOSSIBLE, f"{c.where}, {name}")
    return [regions[name] for name in branches]


class _Region:
    """A graph attribute read into a closed graph."""

    def __init__(self, c: Call, proto, name: str, inputs=(), nan: list[TensorType] = ()):
        """`inputs` are (name, type); with `nan`, the nodes are not read: the results are NaN."""
        self.c, self.proto = c, proto
        self.builder = KnownBuilder(name=proto.name or name)
        self.scope = c.scope.child(self.builder, f"{c.where}/")
        self.own = []
        for input_name, type in inputs:
            tensor = self.builder.input(input_name or "input", type)
            self.own.append(tensor)
            self.scope.values[input_name] = tensor
        if nan:
            self.results = [self._nan(t) for t in nan]
            return
        self.results = _read_into(c, proto, self.scope)
        for value in self.results:
            if not isinstance(value, Tensor):
                raise UnsupportedError("a branch gives something that is not a tensor",
                                       where=c.where)  # fmt: skip

    def _nan(self, type: TensorType) -> Tensor:
        nan = self.builder.constant(np.asarray(np.nan, type.dtype.numpy))
        return self.builder.emit("expand", nan, shape=type.shape)

    def close(self, captured: list, results: list | None = None):
        """The region's graph: its own inputs, then one input for each captured value."""
        inputs = [t.value for t in self.own]
        for outer in captured:
            if outer not in self.scope.captured:
                self.scope.captured[outer] = self.builder.input(outer.name, outer.type)
            inputs.append(self.scope.captured[outer].value)
        self.builder.graph.inputs[:] = inputs
        names = [o.name for o in self.proto.output]
        for i, value in enumerate(self.results if results is None else results):
            self.builder.output(names[i] if i < len(names) else f"output_{i}", value)
        return self.builder.graph


def _read_into(c: Call, proto, scope: Scope, wants=lambda i: True) -> list:
    """The outputs of a graph read into `scope`; those not wanted may be missing."""
    from .reader import Skip

    origin = c.b.origin
    c.reader.body(proto, scope)
    c.b.origin = origin
    results = c.reader.outputs(proto, scope, wants)
    if any(v is FAILED for v in results):
        raise Skip
    return results


def inline_graph(c: Call, proto, name: str, values: dict | None = None) -> list:
    """A graph attribute's nodes, appended where the node stands."""
    scope = c.scope.child(c.b, f"{c.where}/")
    scope.values |= values or {}
    return _read_into(c, proto, scope)


# -- functions --------------------------------------------------------------------------------


def inline_function(c: Call, function: onnx.FunctionProto) -> list:
    """A model-local function's body, appended where the node stands."""
    key = (c.domain, c.op_type)
    if key in c.reader.inlining:
        raise ModelError("a function calls itself", where=c.where)
    attributes = {a.name: _default(c, a) for a in function.attribute_proto}
    attributes |= {name: c.attr(name) for name in c.attrs}
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in function.opset_import}
    if len(c.inputs) > len(function.input):
        raise ModelError(
            "too many operands of a function",
            where=c.where,
            expected=len(function.input),
            received=len(c.inputs),
        )
    return _inline(c, function, opsets, attributes)


def _default(c: Call, a):
    from .proto import attribute

    return attribute(a, c.reader.folder, c.where)


def _inline(c: Call, function, opsets, attributes) -> list:
    opsets = {"": c.scope.opsets.get("", onnx.defs.onnx_opset_version())} | opsets
    scope = Scope(c.b, opsets, attributes=attributes, prefix=f"{c.where}/")
    for i, name in enumerate(function.input):
        scope.values[name] = c[i]
    c.reader.inlining.append((c.domain, c.op_type))
    try:
        return _read_into(c, _Body(function), scope, c.wants)
    finally:
        c.reader.inlining.pop()


class _Body:
    """A FunctionProto seen as a graph."""

    def __init__(self, function):
        self.node, self.output = function.node, function.output
        self.initializer = self.sparse_initializer = ()


def inline_standard(c: Call, schema) -> list:
    """An operator that the ONNX standard defines by other operators."""
    attributes = {
        name: onnx.helper.get_attribute_value(a.default_value)
        for name, a in schema.attributes.items()
        if a.default_value.name
    }
    attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
    attributes |= {name: c.attr(name) for name in c.attrs}
    function = _standard_body(c, schema)
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in function.opset_import}
    return _inline(c, function, opsets, attributes)


def _standard_body(c: Call, schema) -> onnx.FunctionProto:
    if schema.has_function:
        version = _nearest(schema.function_opset_versions, c.version)
        text = schema.get_function_with_opset_version(version)
    else:
        from .proto import ELEMENT_TYPE_OF

        types = []
        for v in c.inputs:
            info = onnx.TypeProto()
            if v is not None:
                dims = [None if isinstance(d, Sym) else d for d in v.shape]
                info = onnx.helper.make_tensor_type_proto(ELEMENT_TYPE_OF[v.dtype], dims)
            types.append(info.SerializeToString())
        version = _nearest(schema.context_dependent_function_opset_versions, c.version)
        text = schema.get_context_dependent_function_with_opset_version(
            version, _resolved(c).SerializeToString(), types
        )
    if not text:
        raise UnsupportedError("unsupported operator", where=c.where)
    function = onnx.FunctionProto()
    function.ParseFromString(text)
    return function


def _resolved(c: Call) -> onnx.NodeProto:
    """The node with references to attributes of a function replaced by their values."""
    node = onnx.NodeProto()
    node.CopyFrom(c.proto)
    for a in node.attribute:
        if a.ref_attr_name and a.name in c.attrs:
            a.CopyFrom(onnx.helper.make_attribute(a.name, c.attrs[a.name]))
    kept = [a for a in node.attribute if not a.ref_attr_name]
    del node.attribute[:]
    node.attribute.extend(kept)
    return node


def _nearest(versions, wanted: int) -> int:
    """The newest body that is not newer than the model, else the oldest."""
    return max((v for v in versions if v <= wanted), default=min(versions))


# -- loops ------------------------------------------------------------------------------------

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
    region = _Region(_with_condition(c, names[1]), body, "body", inputs)
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
    region = _Region(c, body, "body", list(zip([i.name for i in body.input], types)))
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


def _scan(c: Call, region: _Region, states, arrays, results, count: int):
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
