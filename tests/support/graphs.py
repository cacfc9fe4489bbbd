"""Random graphs: a hypothesis strategy, and what tests of passes share."""

import numpy as np
from hypothesis import strategies as st
from tessel.compiler.ir.builder import Builder, Tensor
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.graph import Graph
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.text import parse_graph, print_graph

N = Sym.named("N")
SIZE = 2  # what N is when a random graph runs
UNARY = ("neg", "abs", "relu", "tanh", "sigmoid", "identity")
BINARY = ("add", "sub", "mul", "maximum", "minimum")
NAMES = st.text(min_size=1, max_size=6)


@st.composite
def graphs(draw, max_nodes: int = 12) -> Graph:
    """A graph of f32[N,3,4]-like tensors: elementwise ops, moves, reductions, products."""
    b = Builder(name=draw(st.sampled_from(["main", "a graph", "g.1"])))
    pool = [
        b.input(draw(NAMES), f"f32[{shape}]")
        for shape in draw(
            st.lists(st.sampled_from(["N,3,4", "3,4", "1,4"]), min_size=1, max_size=3)
        )
    ]
    for _ in range(draw(st.integers(0, max_nodes))):
        b.origin = draw(st.none() | NAMES)
        x = draw(st.sampled_from(pool))
        pool.append(_step(draw, b, x, pool))
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        b.output(name, draw(st.sampled_from(pool)))
    b.graph.metadata = draw(st.dictionaries(NAMES, NAMES, max_size=2))
    return b.graph


def _step(draw, b: Builder, x: Tensor, pool: list[Tensor]) -> Tensor:
    match draw(st.sampled_from(["unary", "binary", "number", "array", "move", "reduce", "cast"])):
        case "unary":
            return b.emit(draw(st.sampled_from(UNARY)), x)
        case "binary":
            same = [y for y in pool if y.dtype == x.dtype and y.shape == x.shape]
            return b.emit(draw(st.sampled_from(BINARY)), x, draw(st.sampled_from(same)))
        case "number":
            number = draw(st.floats(-4, 4, width=32) | st.sampled_from([0.0, 1.0, 2.0, -0.0]))
            return b.emit(draw(st.sampled_from(BINARY)), x, b.scalar(number, x.dtype))
        case "array":
            values = np.linspace(-1, 1, x.shape[-1] if isinstance(x.shape[-1], int) else 1)
            return x * b.constant(values, x.dtype)
        case "move" if x.rank > 1:
            return draw(st.sampled_from([_turn, _flatten, _widen]))(x)
        case "reduce" if x.rank > 0:
            return b.reduce_sum(x, axes=[draw(st.integers(0, x.rank - 1))], keepdims=True)
    return x.cast(draw(st.sampled_from(["f32", "f64"])))


def _turn(x: Tensor) -> Tensor:
    return x.transpose(*range(1, x.rank), 0)


def _flatten(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _widen(x: Tensor) -> Tensor:
    return x.b.emit("expand", x, shape=(2, *x.shape))


def inputs_of(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    """Normally distributed (or small whole) numbers for a graph's inputs, symbols being SIZE."""
    rng = np.random.default_rng(seed)
    arrays = []
    for v in graph.inputs:
        type = v.type.substitute(dict.fromkeys(graph.symbols(), SIZE))
        values = rng.standard_normal(type.shape) if type.dtype.is_float else None
        if values is None:
            values = rng.integers(0, 2, type.shape)
        arrays.append(np.asarray(values).astype(type.dtype.numpy))
    return arrays


def same_text(graph: Graph, expected: str) -> None:
    """The graph prints as `expected`, whatever its values are called and constants lie."""
    assert canonical(graph) == canonical(parse_graph(expected))


def canonical(graph: Graph) -> str:
    """The graph's text: nodes as the outputs need them, values numbered, origins left out."""
    graph = graph.copy()
    order: dict = {}

    def visit(v):
        if v is not None and v.node is not None and v.node not in order:
            for operand in v.node.inputs:
                visit(operand)
            order[v.node] = None

    for v in graph.outputs:
        visit(v)
    graph.nodes = list(order)
    for i, v in enumerate(v for n in order for v in n.outputs):
        v.name = f"v{i}"
    for node in graph.nodes:
        node.origin = None
    return print_graph(graph)


def assert_same_results(before: Graph, after: Graph, rtol: float = 1e-5, seed: int = 0) -> None:
    """Both graphs give the same outputs for random inputs."""
    arrays = inputs_of(before, seed)
    expected, received = interpret(before, arrays), interpret(after, arrays)
    assert len(expected) == len(received)
    for e, r in zip(expected, received):
        assert e.dtype == r.dtype
        np.testing.assert_allclose(
            np.asarray(r, np.float64), np.asarray(e, np.float64), rtol=rtol, atol=rtol
        )
