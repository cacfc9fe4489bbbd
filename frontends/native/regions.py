"""Graphs inside a graph: what a Python function does, cut out of the trace it was written into.

A region is closed: the values that it uses from around it are found while it is cut out, and
become its inputs. `cond`, `scan` and `while_loop` are control flow; `custom_gradient` replaces a
gradient.
"""

import functools
from collections.abc import Callable, Sequence

from ...compiler.arguments import require_function
from ...compiler.classes import dataclass
from ...compiler.errors import TypeMismatch, UsageError
from ...compiler.ir.builder import Tensor
from ...compiler.ir.graph import Graph, Value
from ...compiler.ir.types import BOOL, TensorType
from . import tree
from .tracing import Array, Tracer, find_tracer, source_line, user_line


@dataclass(frozen=True)
class Region:
    """`graph` takes the arguments it was cut for, then the `captured` values of around it."""

    graph: Graph
    captured: list[Value]
    structure: tree.Structure


def cut(b: Tracer, name: str, f: Callable, types: Sequence, structure: tree.Structure) -> Region:
    """Trace `f`, called on arrays of these types as the positional arguments of `structure`."""
    inputs = [Value(b._unique(f"{name}_{i}"), t) for i, t in enumerate(types)]
    with b.aside() as nodes:  # a region makes its own constants
        result = f(*tree.unflatten(structure, [Array(b, v) for v in inputs]))
        leaves, result_structure = tree.flatten(result)
        outputs = [b.array(x).value for x in leaves]
    graph, captured = close(name, inputs, outputs, nodes)
    return Region(graph, captured, result_structure)


def close(
    name: str, inputs: list[Value], outputs: list[Value], nodes: list
) -> tuple[Graph, list[Value]]:
    """(graph of `nodes`, values of around them that it captures, which are its last inputs)"""
    inside = {v for n in nodes for v in n.outputs} | set(inputs)
    used = [v for n in nodes for v in n.inputs if v is not None] + outputs
    captured = list(dict.fromkeys(v for v in used if v not in inside))
    fresh = {v: Value(v.name, v.type) for v in captured}
    names = [f"out{i}" for i in range(len(outputs))]
    graph = Graph(name, inputs + list(fresh.values()), outputs, names, nodes)
    graph.replace(fresh)
    return graph, captured


def cond(condition: Array, true_fn: Callable, false_fn: Callable, *operands):
    """`true_fn(*operands)` where the scalar `condition` holds, else `false_fn(*operands)`.

    Only one of them runs. Both must return arrays of the same types, in the same tree.
    """
    b = _tracer("cond", condition, *operands)
    regions = [
        cut(b, n, lambda f=f: f(*operands), [], tree.Structure(tuple))
        for n, f in (("then", true_fn), ("else", false_fn))
    ]
    left, right = [([o.type for o in r.graph.outputs], r.structure) for r in regions]
    if left != right:
        raise TypeMismatch(
            "the branches of cond return different types",
            where=user_line(),
            expected=_shown(*left),
            received=_shown(*right),
        )
    captured = list(dict.fromkeys(v for r in regions for v in r.captured))
    for r in regions:
        own = dict(zip(r.captured, r.graph.inputs))
        r.graph.inputs = [own.get(v) or Value(v.name, v.type) for v in captured]
    then_graph, else_graph = [r.graph for r in regions]
    results = b.emit("if", condition, *captured, then_graph=then_graph, else_graph=else_graph)
    return _unflatten(left[1], results)


def scan(f: Callable, init, xs):
    """A loop: `carry, y = f(carry, x)` over the first axis of `xs`; returns (carry, ys).

    `init` and `xs` are trees of arrays; the carry keeps its types, the `y`s are stacked.
    """
    b = _tracer("scan", init, xs)
    states, state_structure = tree.flatten(init)
    states = [b.array(s) for s in states]
    arrays, array_structure = tree.flatten(xs)
    arrays = [b.array(a) for a in arrays]
    if not arrays or any(a.rank == 0 for a in arrays):
        raise TypeMismatch("scan needs arrays with a first axis", where=user_line())
    types = [s.type for s in states] + [a.type.with_shape(a.shape[1:]) for a in arrays]
    structure = tree.Structure(tuple, (), (state_structure, array_structure))
    body = cut(b, "body", f, types, structure)
    carries = [o.type for o in body.graph.outputs[: len(states)]]
    pair = body.structure.kind is tuple and len(body.structure.children) == 2
    if not pair or body.structure.children[0] != state_structure or carries != types[: len(states)]:
        raise TypeMismatch(
            "the body of scan must return (carry, y), the carry with the types of init",
            where=source_line(f),
            expected=_shown(types[: len(states)], state_structure),
            received=_shown(carries, body.structure),
        )
    results = b.emit(
        "scan",
        *states,
        *arrays,
        *body.captured,
        body=body.graph,
        states=len(states),
        scans=len(arrays),
    )
    return _unflatten(body.structure, results)


def while_loop(test: Callable, body: Callable, init):
    """`while test(state): state = body(state)`, beginning with `init`; returns the last state.

    The state is a tree of arrays that keep their types; `test` returns a bool scalar. How often it
    turns is found out while it runs, so that it has no gradient.
    """
    b = _tracer("while_loop", init)
    states, structure = tree.flatten(init)
    states = [b.array(s) for s in states]
    types = [s.type for s in states]
    go = b.array(test(tree.unflatten(structure, states)))

    def turn(state):
        state = body(state)
        return test(state), state

    one = tree.Structure(tuple, (), (structure,))
    region = cut(b, "body", turn, types, one)
    found = [o.type for o in region.graph.outputs]
    expected = [TensorType(BOOL, ()), *types]
    if [go.type, *found[1:]] != expected or region.structure.children[1] != structure:
        raise TypeMismatch(
            "while_loop wants a test that returns a bool scalar, and a body that keeps its state",
            where=source_line(body),
            expected=_shown(expected[1:], structure),
            received=_shown([go.type, *found[1:]], region.structure),
        )
    results = b.emit("while", go, *states, *region.captured, body=region.graph, states=len(states))
    return _unflatten(structure, results)


def custom_gradient(f: Callable) -> Callable:
    """A function that brings its own gradient.

        @custom_gradient
        def safe_log(x):
            return log(x), lambda dy: dy / maximum(x, 1e-6)

    `f(*args)` returns the value and a function from its gradient (a tree like the value) to the
    gradients of the arguments: one tree, or a tuple with one for each argument; None is zero.
    The function may use whatever was computed on the way. Keyword arguments are handed on; they
    are constants to gradients.
    """

    require_function("custom_gradient", f)

    @functools.wraps(f)
    def wrapped(*args, **options):
        b = _tracer(getattr(f, "__name__", "custom_gradient"), *args)
        args = tree.tree_map(b.array, args)
        result = f(*args, **options)
        if not isinstance(result, tuple) or len(result) != 2 or not callable(result[1]):
            raise TypeMismatch(
                "a function under custom_gradient returns (value, gradient function)",
                where=source_line(f),
                received=type(result).__name__,
            )
        value, backward = result
        ys, structure = tree.flatten(value)
        ys = [b.array(y) for y in ys]
        region = _backward(b, f, args, ys, structure, backward)
        xs, _ = tree.flatten(args)
        results = b.emit(
            "custom_gradient",
            *ys,
            *xs,
            *region.captured,
            results=len(ys),
            wrt=len(xs),
            backward=region.graph,
        )
        return _unflatten(structure, results)

    return wrapped


def _backward(b, f, args, ys, structure, backward) -> Region:
    """The region from the gradients of `ys` to those of the leaves of `args`."""

    def checked(dy):
        dxs = backward(dy)
        if len(args) == 1 and not (isinstance(dxs, tuple) and len(dxs) == 1):
            dxs = (dxs,)
        if not isinstance(dxs, tuple) or len(dxs) != len(args):
            raise TypeMismatch(
                "the gradient function must return one gradient per argument",
                where=source_line(f),
                expected=f"a tuple of {len(args)}",
                received=repr(dxs),
            )
        return [d for x, dx in zip(args, dxs) for d in leaves(x, dx)]

    def leaves(x, dx):
        if dx is None:
            return [b.scalar(0, v.dtype).expand(v.shape) for v in tree.flatten(x)[0]]
        return tree.flatten(tree.tree_map(_like, x, dx))[0]

    def _like(x, dx):
        dx = b.like(dx, x)
        if dx.type != x.type:
            raise TypeMismatch(
                "the gradient function returned another type than the argument's",
                where=source_line(f),
                expected=x.type,
                received=dx.type,
            )
        return dx

    one = tree.Structure(tuple, (), (structure,))
    region = cut(b, "backward", checked, [y.type for y in ys], one)
    inputs = region.graph.inputs  # the op's order: captured values first
    region.graph.inputs = inputs[len(ys) :] + inputs[: len(ys)]
    return region


def _tracer(name: str, *args) -> Tracer:
    b = find_tracer(*args)
    if b is None:
        raise UsageError(
            f"{name} was called outside of a traced function",
            where=user_line(),
            fix="call it in a function under tessel.jit, grad or trace",
        )
    return b


def _unflatten(structure, results):
    return tree.unflatten(structure, [results] if isinstance(results, Tensor) else results)


def _shown(types, structure) -> str:
    return f"{', '.join(map(str, types))} as {structure}"
