"""Every op, on the samples of its own record: types, the numpy reference, and its meaning.

The reference (`Op.ref`) is the oracle. What must agree with it: the inferred types, the graph's
interpreter, the expansion of a composite, and each backend. A backend is a function
`(graph, inputs) -> outputs` in BACKENDS; adding one line there tests it on every op.
"""

import numpy as np
import pytest
from tessel.compiler.autodiff.gradients import expand_node, gradients
from tessel.compiler.backends.llvm.backend import compile_program
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.numpy import NumpyModule
from tessel.compiler.errors import TypeMismatch
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dim_arrays import Undecided, evaluate
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.op import OPS, Expand
from tessel.compiler.ir.types import MapType, TensorType, dtype_of, tensor_type_of
from tessel.compiler.lowering.lower import lower
from tessel.runtime.native.module import NativeModule


def type_of(x):
    """The type of an array, or of a map of scalars."""
    if not isinstance(x, dict):
        return tensor_type_of(x)
    (key, value), *_ = x.items()
    return MapType(dtype_of(np.asarray(key)), tensor_type_of(np.asarray(value)))


def run_native(graph, inputs):
    """Compiled for this machine; two threads must give the bits of one."""
    program = lower(graph)
    module = NativeModule(compile_program(program, host()), program.outputs, {})
    inputs = [
        x if isinstance(x, dict) else np.ascontiguousarray(x).reshape(np.shape(x)) for x in inputs
    ]
    one, two = module(inputs, 1), module(inputs, 2)
    for x, y in zip(one, two):
        if isinstance(x, np.ndarray):
            assert x.tolist() == y.tolist() if x.dtype == object else x.tobytes() == y.tobytes()
    return one


BACKENDS = {
    "loops": lambda graph, inputs: NumpyModule(lower(graph))(inputs),
    "llvm": run_native,
}


def graph_of(op, sample):
    """A graph of the one node, and its input arrays."""
    b = Builder(name=op.name)
    given = [
        None if x is None else b.input(f"x{i}", type_of(x)) for i, x in enumerate(sample.inputs)
    ]
    results = b.emit(op.name, *given, **sample.attrs)
    for i, y in enumerate(results if isinstance(results, tuple) else (results,)):
        b.output(f"y{i}", y)
    return b.graph, [x for x in sample.inputs if x is not None]


def expected_of(op, sample):
    inputs = list(sample.inputs)
    if not (op.inputs and op.inputs[-1].variadic):
        inputs += [None] * (len(op.inputs) - len(inputs))
    results = op.ref(*inputs, **op.bind(sample.attrs, op.name))
    return list(results) if isinstance(results, tuple) else [results]


def check(sample, received, expected):
    assert len(received) == len(expected)
    for got, want in zip(received, expected):
        if not isinstance(want, np.ndarray):
            assert got == want
            continue
        assert tensor_type_of(got) == tensor_type_of(want)
        if want.dtype == object:
            assert got.tolist() == want.tolist()
        elif dtype_of(want).is_float:
            narrow = dtype_of(want).bits < 32
            got, want = (x.astype(np.float32) if narrow else x for x in (got, want))
            np.testing.assert_allclose(got, want, rtol=sample.rtol, atol=sample.atol)
        else:
            np.testing.assert_array_equal(got, want)


def spell(x):
    return "none" if x is None else str(type_of(x)).replace(" ", "")


def samples(chosen=lambda op: True):
    return [
        pytest.param(op, sample, id=f"{op.name}-{i}-{','.join(map(spell, sample.inputs))}")
        for op in OPS.values()
        if chosen(op)
        for i, sample in enumerate(op.samples())
    ]


@pytest.mark.parametrize("op", list(OPS.values()), ids=lambda op: op.name)
def test_an_op_has_samples(op):
    assert list(op.samples()) or op.name == "impossible"  # which has no value


@pytest.mark.parametrize(("op", "sample"), samples())
def test_inferred_types_are_those_of_the_reference(op, sample):
    graph, _ = graph_of(op, sample)
    for value, array in zip(graph.outputs, expected_of(op, sample), strict=True):
        if isinstance(value.type, TensorType):
            assert tensor_type_of(array) == value.type


@pytest.mark.parametrize(("op", "sample"), samples(lambda op: isinstance(op.loops, Expand)))
def test_an_expansion_means_what_the_reference_says(op, sample):
    graph, inputs = graph_of(op, sample)
    expand_node(Builder(graph), graph.nodes[-1])
    assert all(node.op is not op for node in graph.nodes)
    check(sample, interpret(graph, inputs), expected_of(op, sample))


@pytest.mark.sweep(1800, suite=1800)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("op", "sample"), samples())
def test_a_backend_means_what_the_reference_says(op, sample, backend):
    graph, inputs = graph_of(op, sample)
    check(sample, BACKENDS[backend](graph, inputs), expected_of(op, sample))


# -- shape arithmetic: arrays of dims ---------------------------------------------------------

N, M = Sym.named("N"), Sym.named("M")


def on_dims(name, *inputs, **attrs):
    inputs = [np.array(x, object) if isinstance(x, list) else np.asarray(x) for x in inputs]
    return evaluate(name, inputs, OPS[name].bind(attrs, name)).tolist()


@pytest.mark.parametrize(
    ("name", "inputs", "attrs", "expected"),
    [
        ("add", ([N, 2], 1), {}, [N + 1, 3]),
        ("sub", ([N, N], [N, 1]), {}, [0, N - 1]),
        ("mul", ([N, 3], [2, M]), {}, [2 * N, 3 * M]),
        ("div", ([4 * N, 7], 2), {}, [2 * N, 3]),
        ("div", ([-7], [2]), {}, [-3]),
        ("mod", ([4 * N, 7], 4), {}, [0, 3]),
        ("mod", ([0, 7], [N, 0]), {}, [0, 0]),
        ("neg", ([N],), {}, [-N]),
        ("maximum", ([N, 3], [N, 5]), {}, [N, 5]),
        ("minimum", ([3], [5]), {}, [3]),
        ("clip", ([3, 9], 4, 8), {}, [4, 8]),
        ("equal", ([N, -1], -1), {}, [False, True]),
        ("greater", ([N, 0], 0), {}, [True, False]),
        ("where", (np.array([True, False]), [N, 1], [1, M]), {}, [N, M]),
        ("cast", ([N, 2],), {"dtype": "i64"}, [N, 2]),
        ("cast", ([3, 2],), {"dtype": "f32"}, [3.0, 2.0]),
        ("identity", ([N],), {}, [N]),
        ("reduce_prod", ([N, 2, M],), {"axes": [0], "keepdims": False}, 2 * N * M),
        ("reduce_sum", ([N, 2, M],), {"axes": [0]}, [N + M + 2]),
    ],
)
def test_shape_arithmetic(name, inputs, attrs, expected):
    assert on_dims(name, *inputs, **attrs) == expected


def test_dims_without_symbols_are_int64():
    assert evaluate("add", [np.array([1, 2], object), np.array(1)], {}).dtype == np.int64


@pytest.mark.parametrize(
    ("name", "inputs", "attrs"),
    [
        ("less", ([N], [M]), {}),
        ("greater", ([N], [3]), {}),
        ("sqrt", ([N],), {}),
        ("cast", ([N],), {"dtype": "bool"}),
        ("cast", ([N],), {"dtype": "i8"}),
        ("div", ([5], [N]), {}),
    ],
)
def test_what_depends_on_a_symbol_is_refused(name, inputs, attrs):
    with pytest.raises(Undecided, match="symbolic dim"):
        on_dims(name, *inputs, **attrs)


def test_cast_of_strings():
    words = np.array(["1.5", "-2"], object)
    cast = OPS["cast"].ref
    np.testing.assert_array_equal(cast(words, dtype=dtype_of("f32")), [1.5, -2.0])
    assert cast(np.array([1.5, np.inf]), dtype=dtype_of("str")).tolist() == ["1.5", "INF"]


# -- symbolic dims -----------------------------------------------------------------------------

SYMBOLIC_AXIS = {"lstm": 1, "gru": 1, "rnn": 1}  # the batch, where it is not axis 0


def symbolic_graph(op, sample):
    """The graph of the one node for any size of the batch axis."""
    axis, b = SYMBOLIC_AXIS.get(op.name, 0), Builder(name=op.name)
    given = []
    for i, x in enumerate(sample.inputs):
        t = None if x is None else tensor_type_of(x)
        if i == 0:
            t = t.with_shape(N if d == axis else n for d, n in enumerate(t.shape))
        given.append(None if t is None else b.input(f"x{i}", t))
    results = b.emit(op.name, *given, **sample.attrs)
    return b, given, results if isinstance(results, tuple) else (results,)


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("softmax", 0),
        ("log_softmax", 0),
        ("layer_norm", 0),
        ("rms_norm", 0),
        ("batch_norm", 0),
        ("instance_norm", 0),
        ("group_norm", 0),
        ("lrn", 0),
        ("hardmax", 0),
        ("rnn", 7),
        ("gru", 7),
        ("lstm", 7),
    ],
)
def test_a_composite_expands_for_any_batch(name, position):
    op = OPS[name]
    sample = list(op.samples())[position]
    b, _, results = symbolic_graph(op, sample)
    assert "N" in {str(d) for d in results[0].shape}
    for i, y in enumerate(results):
        b.output(f"y{i}", y)
    expand_node(b, b.graph.nodes[-1])
    inputs = [x for x in sample.inputs if x is not None]
    check(sample, interpret(b.graph, inputs), expected_of(op, sample))


@pytest.mark.parametrize("axes", [(0,), (0, 1), (1,)])
def test_the_gradient_of_a_mean_over_a_symbolic_axis(axes):
    b = Builder()
    x = b.input("x", "f32[N,3]")
    y = b.reduce_mean(x, axes=axes, keepdims=False)
    (dx,) = gradients(b, [y.sum()], [x])
    b.output("dx", dx)
    count = np.prod([(5, 3)[a] for a in axes])
    np.testing.assert_allclose(interpret(b.graph, [np.ones((5, 3), np.float32)])[0], 1 / count)


# -- what a record refuses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "types", "attrs", "message"),
    [
        ("add", ["f32[2]", "f32[3]"], {}, "do not broadcast"),
        ("add", ["f32[2]", "i32[2]"], {}, "wrong dtype"),
        ("exp", ["i32[2]"], {}, "wrong dtype"),
        ("exp", [], {}, "operand x is missing"),
        ("reduce_sum", ["f32[2,3]"], {"axes": [2]}, "axis out of range"),
        ("reduce_sum", ["f32[2,3]"], {"axes": [1, -1]}, "named twice"),
        ("reduce_sum", ["f32[2,3]"], {"axis": 1}, "no attribute axis"),
        ("reduce_sum", ["f32[2,3]"], {}, "needs the attribute axes"),
        ("softmax", ["f32[2,3]"], {"axis": 2}, "axis out of range"),
        ("layer_norm", ["f32[2,3]", "f32[2]"], {}, "do not broadcast"),
        ("batch_norm", ["f32[2,3]"] + ["f32[4]"] * 4, {}, "parameter per channel"),
        ("batch_norm", ["f32[3]"] + ["f32[3]"] * 4, {}, "batch and channel"),
        ("group_norm", ["f32[2,4,5]"] + ["f32[4]"] * 2, {"groups": 3}, "divide the channels"),
        ("attention", ["f32[1,2,3]", "f32[1,2,4]", "f32[1,2,4]"], {"scale": 1.0}, "do not fit"),
        ("lstm", ["f32[5,2,3]", "f32[1,16,9]", "f32[1,16,4]"], {"hidden_size": 4}, "w has"),
    ],
)
def test_a_wrong_operand_is_refused(name, types, attrs, message):
    b = Builder()
    operands = [b.input(f"x{i}", t) for i, t in enumerate(types)]
    with pytest.raises(TypeMismatch, match=message):
        b.emit(name, *operands, **attrs)
