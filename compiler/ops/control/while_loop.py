"""`while`: a loop whose number of turns is found out while it runs.

    while(go, states…, captured…) {body, states, trips}

        t = 0
        while go (and t < T, where trips=[T]):
            go, states…, ys[t]… = body(states…, captured…)
            t += 1
        results: states…, ys…       ys: T rows, zero where no turn came

States keep their types. What a body wants to know of its turn is a state, too.
"""

import numpy as np

from ...errors import TypeMismatch
from ...ir.builder import Builder
from ...ir.op import Attr, Control, NotDifferentiable, Sample, register
from ...ir.types import BOOL, TensorType
from .if_scan import _expect, _run


def _infer(go, *operands, body, states, trips):
    if not isinstance(go, TensorType) or go != TensorType(BOOL, ()):
        raise TypeMismatch("the condition of while is a bool scalar", received=go)
    _expect(body.inputs, operands, "the body")
    _expect(body.outputs[: 1 + states], [go, *operands[:states]], "the body's next states")
    rest = body.outputs[1 + states :]
    if len(trips) > 1 or (rest and not trips):
        raise TypeMismatch(
            "a while that stacks values needs the largest number of iterations",
            expected="trips=[T]",
            received=list(trips),
        )
    return (*operands[:states], *(v.type.with_shape((*trips, *v.type.shape)) for v in rest))


def _ref(go, *operands, body, states, trips):
    carried, captured = list(operands[:states]), operands[states:]
    stacked = [
        np.zeros((*trips, *v.type.shape), v.type.dtype.numpy) for v in body.outputs[1 + states :]
    ]
    t = 0
    while bool(np.asarray(go).reshape(())) and not (trips and t >= trips[0]):
        go, *out = _run(body, [*carried, *captured])
        carried = out[:states]
        for ys, y in zip(stacked, out[states:]):
            ys[t] = y
        t += 1
    return (*carried, *stacked)


def _samples():
    # Halve x until its sum is below a limit.
    b = Builder(name="halve")
    x, n, limit = b.input("x", "f64[3]"), b.input("n", "i64[]"), b.input("limit", "f64[]")
    half = x * 0.5
    b.output("go", b.emit("less", limit, half.sum()))
    b.output("next", half)
    b.output("turns", n + 1)
    halving = b.graph
    x = np.array([3.0, 5.0, 7.0])
    for go in (True, False):
        operands = np.array(go), x, np.array(0), np.array(1.0)
        yield Sample(operands, {"body": halving, "states": 2})

    # Collect what is left, at most `trips` times.
    b = Builder(graph=halving.copy())
    b.output("y", b.emit("cast", b.tensor(b.graph.outputs[1]), dtype="f32"))
    for most in (2, 9):
        operands = np.array(True), x, np.array(0), np.array(1.0)
        yield Sample(operands, {"body": b.graph, "states": 2, "trips": (most,)})


register(
    "while",
    "go: bool, operands: ** -> *",
    "A loop that carries states while its body says so, and stacks what each iteration gives.",
    attrs={
        "body": Attr("graph"),
        "states": Attr("int"),
        "trips": Attr("dims", (), "the largest number of iterations, if there is one"),
    },
    infer=_infer,
    ref=_ref,
    grad=NotDifferentiable("how often it iterates is known only when it has run"),
    loops=Control("while"),
    samples=_samples,
    group="control",
)
