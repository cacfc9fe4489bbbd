"""Control flow: `if` and `scan`, whose bodies are graphs in attributes.

A region is closed: what it uses from outside is an operand and an input of the body.

    if(condition, captured…) {then_graph, else_graph}   both take the captured values
    scan(states…, arrays…, captured…) {body, states, scans, reverse}

        for t in 0 … T-1 (backwards if reverse):
            states…, ys[t]… = body(states…, arrays[t]…, captured…)
        results: states…, ys…
"""

import numpy as np

from ...autodiff.gradients import gradients
from ...errors import TypeMismatch
from ...ir.bounds import assume_equal, assume_equal_shapes
from ...ir.builder import Builder
from ...ir.interpret import interpret
from ...ir.op import Attr, Control, Sample, register
from ...ir.types import BOOL, TensorType
from ..common import zeros_like


def _expect(values, types, what: str) -> None:
    """The region's inputs must be the operands' types. Raises TypeMismatch."""
    if len(values) != len(types):
        raise TypeMismatch(
            f"{what} takes another number of values", expected=len(values), received=len(types)
        )
    for v, t in zip(values, types):
        if not _agree(v.type, t):
            raise TypeMismatch(f"{what}: %{v.name} has another type", expected=v.type, received=t)


def _agree(a, b) -> bool:
    """Equal types, where dims that are still symbolic may turn out equal."""
    if not (isinstance(a, TensorType) and isinstance(b, TensorType)):
        return a == b
    return a.dtype == b.dtype and assume_equal_shapes(a.shape, b.shape)


def _is_float(type) -> bool:
    return isinstance(type, TensorType) and type.dtype.is_float


def _run(graph, arrays) -> list:
    return interpret(graph, arrays)


# -- if ------------------------------------------------------------------------------------


def if_infer(condition, *captured, then_graph, else_graph):
    if not isinstance(condition, TensorType) or condition.dtype != BOOL or condition.size != 1:
        raise TypeMismatch("the condition of if is one bool", received=condition)
    _expect(then_graph.inputs, captured, "the then branch")
    _expect(else_graph.inputs, captured, "the else branch")
    _expect(then_graph.outputs, [v.type for v in else_graph.outputs], "the branches of if")
    return tuple(v.type for v in then_graph.outputs)


def if_ref(condition, *captured, then_graph, else_graph):
    taken = then_graph if np.asarray(condition).reshape(()) else else_graph
    return tuple(_run(taken, captured))


def branch_gradient(graph, wanted: list[int]):
    """(captured…, d_outputs of floats…) → d_captured of `wanted`: the gradient of one branch."""
    b = Builder(graph.copy(), name=f"{graph.name}_grad")
    outputs = [v for v in b.graph.outputs if _is_float(v.type)]
    inputs = [b.graph.inputs[i] for i in wanted]
    b.graph.outputs, b.graph.output_names = [], []
    seeds = [b.input(f"d_{v.name}", v.type) for v in outputs]
    for v, d in zip(inputs, gradients(b, outputs, inputs, seeds)):
        b.output(f"d_{v.name}", zeros_like(b, v.type) if d is None else d)
    return b.graph


def if_grad(c, *douts):
    """An `if` on the same condition, whose branches are the gradients of the branches."""
    condition, *captured = c.inputs
    wanted = [i for i, x in enumerate(captured) if _is_float(x.type)]
    seeds = [d for d, y in zip(douts, c.outputs) if _is_float(y.type)]
    result = [None] * len(c.inputs)
    if not wanted or not seeds:
        return result
    found = c.b.emit(
        "if",
        condition,
        *captured,
        *seeds,
        then_graph=branch_gradient(c.attrs["then_graph"], wanted),
        else_graph=branch_gradient(c.attrs["else_graph"], wanted),
    )
    for i, d in zip(wanted, found if isinstance(found, tuple) else (found,)):
        result[1 + i] = d
    return result


def _branch(name, f):
    b = Builder(name=name)
    x, y = b.input("x", "f64[2,3]"), b.input("y", "f64[3]")
    for i, result in enumerate(f(b, x, y)):
        b.output(f"r{i}", result)
    return b.graph


def _if_samples():
    x = np.arange(6.0).reshape(2, 3) - 2.5
    y = np.array([1.0, 2.0, -3.0])
    branches = {
        "then_graph": _branch("then", lambda b, x, y: (x * y, y)),
        "else_graph": _branch("else", lambda b, x, y: (b.exp(x), y + 1)),
    }
    for condition in (True, False):
        yield Sample((np.array(condition), x, y), branches)


register(
    "if",
    "condition: bool, captured: ** -> *",
    "The results of one of two graphs over the captured values.",
    attrs={"then_graph": Attr("graph"), "else_graph": Attr("graph")},
    infer=if_infer,
    ref=if_ref,
    grad=if_grad,
    loops=Control("if"),
    samples=_if_samples,
    group="control",
)

# -- scan ----------------------------------------------------------------------------------


def scan_infer(*operands, body, states, scans, reverse):
    arrays = operands[states : states + scans]
    if scans < 1 or len(operands) < states + scans:
        raise TypeMismatch(
            "scan needs its states and at least one array",
            expected=f"{states} states, {max(scans, 1)} arrays, then captured values",
            received=f"{len(operands)} operands",
        )
    trips = arrays[0].shape[0] if arrays[0].rank else None
    for a in arrays:
        if a.rank == 0 or not assume_equal(trips, a.shape[0]):
            raise TypeMismatch("the arrays of a scan differ on axis 0", expected=trips, received=a)
    slices = [a.with_shape(a.shape[1:]) for a in arrays]
    _expect(body.inputs, [*operands[:states], *slices, *operands[states + scans :]], "the body")
    _expect(body.outputs[:states], operands[:states], "the body's next states")
    stacked = [v.type.with_shape((trips, *v.type.shape)) for v in body.outputs[states:]]
    return (*operands[:states], *stacked)


def scan_ref(*operands, body, states, scans, reverse):
    carried = list(operands[:states])
    arrays, captured = operands[states : states + scans], operands[states + scans :]
    trips = len(arrays[0])
    steps = range(trips - 1, -1, -1) if reverse else range(trips)
    stacked = [
        np.zeros((trips, *(d if isinstance(d, int) else 0 for d in v.type.shape)), v.dtype.numpy)
        for v in body.outputs[states:]
    ]
    collected: list[list] = [[None] * trips for _ in stacked]
    for t in steps:
        out = _run(body, [*carried, *(a[t] for a in arrays), *captured])
        carried = out[:states]
        for ys, y in zip(collected, out[states:]):
            ys[t] = y
    return (*carried, *(np.stack(ys) if trips else empty for ys, empty in zip(collected, stacked)))


def _with_states(body, states: int):
    """The body that also puts out the states it begins with."""
    graph = body.copy()
    graph.outputs += graph.inputs[:states]
    graph.output_names += [f"before_{v.name}" for v in graph.inputs[:states]]
    return graph


def _backward_body(body, states: int, scans: int, floats):
    """(d_states…, d_captured…, slices…, states…, d_ys…, captured…)
    → (d_states before…, d_captured + …, d_slices…)

    `floats`: positions of the float states, slices and captured values.
    """
    b = Builder(name=f"{body.name}_grad")

    def inputs(stem, values):
        return [b.input(f"{stem}{i}", v.type) for i, v in enumerate(values)]

    state_vs, slice_vs, captured_vs = (
        body.inputs[:states],
        body.inputs[states : states + scans],
        body.inputs[states + scans :],
    )
    d_states = inputs("d_state", [state_vs[i] for i in floats[0]])
    d_captured = inputs("d_captured", [captured_vs[i] for i in floats[2]])
    slices, before = inputs("x", slice_vs), inputs("state", state_vs)
    d_ys = inputs("dy", [v for v in body.outputs[states:] if _is_float(v.type)])
    captured = inputs("captured", captured_vs)
    results = b.inline(body, [*before, *slices, *captured])
    outputs = [results[i] for i in floats[0]]
    outputs += [r for r in results[states:] if _is_float(r.type)]
    wrt = [before[i] for i in floats[0]] + [captured[i] for i in floats[2]]
    wrt += [slices[i] for i in floats[1]]
    found = [
        zeros_like(b, x.type) if d is None else b.tensor(d)
        for x, d in zip(wrt, gradients(b, outputs, wrt, [*d_states, *d_ys]))
    ]
    n, m = len(d_states), len(d_captured)
    found[n : n + m] = [old + new for old, new in zip(d_captured, found[n : n + m])]
    for i, d in enumerate(found):
        b.output(f"d{i}", d)
    return b.graph


def scan_grad(c, *douts):
    """A scan the other way over the states that each step began with.

    The forward scan runs again to put those out; gradients of captured values are summed in
    further states.
    """
    b, body = c.b, c.attrs["body"]
    states, scans, reverse = c.attrs["states"], c.attrs["scans"], c.attrs["reverse"]
    initial, arrays = c.inputs[:states], c.inputs[states : states + scans]
    captured = c.inputs[states + scans :]
    floats = [
        [i for i, x in enumerate(xs) if _is_float(x.type)] for xs in (initial, arrays, captured)
    ]
    forward = b.scan(
        *c.inputs, body=_with_states(body, states), states=states, scans=scans, reverse=reverse
    )
    forward = forward if isinstance(forward, tuple) else (forward,)
    before = forward[len(forward) - states :] if states else ()
    d_final = [douts[i] for i in floats[0]]
    d_ys = [d for d, y in zip(douts[states:], c.outputs[states:]) if _is_float(y.type)]
    sums = [zeros_like(b, captured[i].type) for i in floats[2]]
    found = b.scan(
        *d_final,
        *sums,
        *arrays,
        *before,
        *d_ys,
        *captured,
        body=_backward_body(body, states, scans, floats),
        states=len(d_final) + len(sums),
        scans=scans + states + len(d_ys),
        reverse=not reverse,
    )
    found = list(found if isinstance(found, tuple) else (found,))
    result = [None] * len(c.inputs)
    n, m = len(floats[0]), len(floats[2])
    for i, d in zip(floats[0], found[:n]):
        result[i] = d
    for i, d in zip(floats[2], found[n : n + m]):
        result[states + scans + i] = d
    for i, d in zip(floats[1], found[n + m :]):
        result[states + i] = d
    return result


def _scan_samples():
    b = Builder(name="body")
    state, x, w = b.input("h", "f64[2]"), b.input("x", "f64[2]"), b.input("w", "f64[2,2]")
    h = b.tanh(state @ w + x)
    b.output("next", h)
    b.output("y", h * x)
    rng = np.random.default_rng(0)
    operands = rng.standard_normal(2), rng.standard_normal((3, 2)), rng.standard_normal((2, 2))
    for reverse in (False, True):
        yield Sample(operands, {"body": b.graph, "states": 1, "scans": 1, "reverse": reverse})

    b = Builder(name="count")
    n, x = b.input("n", "i64[]"), b.input("x", "f64[]")
    b.output("n1", n + 1)
    b.output("y", x * n.cast("f64"))
    yield Sample((np.array(2), rng.standard_normal(4)), {"body": b.graph, "states": 1, "scans": 1})


register(
    "scan",
    "operands: ** -> *",
    "A loop over axis 0 of arrays that carries states and stacks what each step puts out.",
    attrs={
        "body": Attr("graph"),
        "states": Attr("int"),
        "scans": Attr("int"),
        "reverse": Attr("bool", False, "from the last slice to the first"),
    },
    infer=scan_infer,
    ref=scan_ref,
    grad=scan_grad,
    loops=Control("scan"),
    samples=_scan_samples,
    group="control",
)
