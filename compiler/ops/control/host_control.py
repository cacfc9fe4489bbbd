"""`host_if` and `host_loop`: control flow over graphs whose results have sizes that data decides.

    %y = host_if(%go, %x) {then_graph=…, else_graph=…, shapes=[_if0,3], symbols=[_if0]}
    %s, %ys = host_loop(%go, %s0, %x) {body=…, states=1, shapes=[_loop0,_loop1,4],
                                       symbols=[_loop0,_loop1], turn=[_turn0]}

Compiled code has to know sizes when it starts, so these are run by the host: each graph is an
executable of its own, and Python takes the branch or the next turn (`runtime/execution/host.py`).

`shapes` are the results' dims, one after the other. What of them only the run knows is a symbol of
`symbols`, which the node binds from then on, as `bind_dims` does. A loop's states may change their
sizes from turn to turn: `turn` are the symbols in the types of its body's inputs that each turn
binds anew.

    go, t = go, 0
    while go:
        go, states…, ys… = body(states…, captured…)
    results: states…, and all ys stacked along a new axis 0; or, with `pieces`, joined along axis 0
"""

from collections.abc import Sequence

import numpy as np

from ...errors import InputError, TypeMismatch
from ...ir.builder import Builder
from ...ir.op import Attr, Control, NotDifferentiable, Sample, register
from ...ir.types import BOOL, TensorType
from .if_scan import _expect, _if_samples, _run, if_ref

NO_GRADIENT = NotDifferentiable("its shapes are known only when it has run")


def _shaped(types: Sequence, ranks: Sequence[int], shapes: tuple) -> tuple:
    """The result types: `types` with the dims of `shapes`, cut up by `ranks`."""
    if sum(ranks) != len(shapes):
        raise TypeMismatch(
            "the shapes do not fit the results", expected=f"{sum(ranks)} dims", received=len(shapes)
        )
    found, at = [], 0
    for type, rank in zip(types, ranks):
        found.append(type.with_shape(shapes[at : at + rank]))
        at += rank
    return tuple(found)


def _tensors(types: Sequence, what: str) -> None:
    for type in types:
        if not isinstance(type, TensorType):
            raise TypeMismatch(f"{what} gives tensors", received=type)


def _condition(type) -> None:
    if not isinstance(type, TensorType) or type.dtype != BOOL or type.size != 1:
        raise TypeMismatch("the condition is one bool", received=type)


def _if_infer(condition, *captured, then_graph, else_graph, shapes, symbols):
    _condition(condition)
    _expect(then_graph.inputs, captured, "the then branch")
    _expect(else_graph.inputs, captured, "the else branch")
    then, other = ([v.type for v in g.outputs] for g in (then_graph, else_graph))
    _tensors([*then, *other], "a branch")
    kinds = [[(t.dtype, t.rank) for t in types] for types in (then, other)]
    if kinds[0] != kinds[1]:
        raise TypeMismatch("the branches differ in dtypes or ranks", expected=then, received=other)
    return _shaped(then, [t.rank for t in then], shapes)


def _loop_infer(go, *operands, body, states, shapes, symbols, turn, pieces):
    _condition(go)
    _expect(body.inputs, operands, "the body")
    results = [v.type for v in body.outputs]
    _tensors(results, "a body")
    if len(results) < 1 + states or results[0] != TensorType(BOOL, ()):
        raise TypeMismatch("the body gives a bool scalar, its states and rows", received=results)
    carried, rows = results[1 : 1 + states], results[1 + states :]
    for before, after in zip(operands, carried):
        if (before.dtype, before.rank) != (after.dtype, after.rank):
            raise TypeMismatch("a state changes its dtype or rank", expected=before, received=after)
    ranks = [t.rank for t in carried] + [t.rank + (not pieces) for t in rows]
    return _shaped([*carried, *rows], ranks, shapes)


def joined(rows: Sequence[np.ndarray], type: TensorType, pieces: bool) -> np.ndarray:
    """The rows of all turns as one array; without a turn, sizes that nothing says are 0.

    Raises InputError where rows differ in shape.
    """
    if not rows:
        row = [d if isinstance(d, int) else 0 for d in type.shape[pieces:]]
        return np.zeros((0, *row), type.dtype.numpy)
    shapes = {r.shape[pieces:] for r in rows}
    if len(shapes) > 1:
        raise InputError(
            "a loop stacks rows of different shapes",
            expected="one shape for all iterations",
            received=" and ".join(str(list(s)) for s in sorted(shapes)[:2]),
        )
    return np.concatenate(rows) if pieces else np.stack(rows)


def _loop_ref(go, *operands, body, states, shapes, symbols, turn, pieces):
    carried, captured = list(operands[:states]), operands[states:]
    rows: list[list] = [[] for _ in body.outputs[1 + states :]]
    while bool(np.asarray(go).reshape(())):
        go, *out = _run(body, [*carried, *captured])
        carried = out[:states]
        for found, y in zip(rows, out[states:]):
            found.append(y)
    types = [v.type for v in body.outputs[1 + states :]]
    return (*carried, *(joined(r, t, pieces) for r, t in zip(rows, types)))


def _host_if_samples():
    for sample in _if_samples():
        yield Sample(sample.inputs, {**sample.attrs, "shapes": (2, 3, 3), "symbols": ()})


def _host_loop_samples():
    b = Builder(name="halve")
    x, limit = b.input("x", "f64[3]"), b.input("limit", "f64[]")
    half = x * 0.5
    b.output("go", b.emit("less", limit, half.sum()))
    b.output("next", half)
    for go in (True, False):
        operands = np.array(go), np.array([3.0, 5.0, 7.0]), np.array(1.0)
        yield Sample(operands, {"body": b.graph, "states": 1, "shapes": (3,)})


register(
    "host_if",
    "condition: bool, captured: ** -> *",
    "An `if` whose results have data-dependent shapes; the host runs one of its graphs.",
    attrs={
        "then_graph": Attr("graph"),
        "else_graph": Attr("graph"),
        "shapes": Attr("dims", doc="the results' dims, one after the other"),
        "symbols": Attr("dims", (), "those among them that it binds"),
    },
    infer=_if_infer,
    ref=lambda *operands, shapes, symbols, **graphs: if_ref(*operands, **graphs),
    grad=NO_GRADIENT,
    loops=Control("host_if"),
    samples=_host_if_samples,
    group="control",
    pure=False,
)

register(
    "host_loop",
    "go: bool, operands: ** -> *",
    "A loop whose shapes data decides, or of unbounded rows; the host runs its iterations.",
    attrs={
        "body": Attr("graph"),
        "states": Attr("int"),
        "shapes": Attr("dims", doc="the results' dims, one after the other"),
        "symbols": Attr("dims", (), "those among them that it binds"),
        "turn": Attr("dims", (), "symbols of the body's inputs that each iteration binds"),
        "pieces": Attr("bool", False, "each iteration gives several rows, along axis 0"),
    },
    infer=_loop_infer,
    ref=_loop_ref,
    grad=NO_GRADIENT,
    loops=Control("host_loop"),
    samples=_host_loop_samples,
    group="control",
    pure=False,
)
