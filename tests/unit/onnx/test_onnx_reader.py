"""ONNX to Graph: shape arithmetic dissolves, opset versions differ, graphs nest."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tessel.compiler.ir import dims
from tessel.frontends.onnx.importer import read

from ...support.onnx_models import assert_agrees, assert_equal, graph_of, model, ops, rand, run

# -- shape arithmetic ---------------------------------------------------------------------


def test_shape_arithmetic_becomes_one_reshape():
    proto = model(
        """
        s = Shape(x)
        zero = Constant<value_int=0>()
        n = Gather<axis=0>(s, zero)
        axis = Constant<value_ints=[0]>()
        n1 = Unsqueeze(n, axis)
        rest = Constant<value_ints=[4, -1]>()
        target = Concat<axis=0>(n1, rest)
        y = Reshape(x, target)
        """,
        inputs="float[N, 12] x",
        outputs="float[N, 4, 3] y",
    )
    graph = graph_of(proto)
    assert ops(graph) == ["reshape"]
    assert str(graph.outputs[0].type) == "f32[N,4,3]"
    assert_equal(run(proto, rand(5, 12)), [rand(5, 12).reshape(5, 4, 3)])


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("y = Add(n, two)", "N+2"),
        ("y = Mul(n, two)", "2*N"),
        ("y = Div(n, two)", "((N)//(2))"),
        ("a = Mul(n, two) y = Div(a, two)", "N"),
        ("a = Mul(n, n) y = Div(a, n)", "N"),
        ("a = Cast<to=1>(n) b = Cast<to=7>(a) y = Sub(b, one)", "N-1"),
        ("c = Greater(n, zero) y = Where(c, two, n)", "2"),
        ("c = Equal(n, none) y = Where(c, two, n)", "N"),
        ("y = Max(n, one)", "N"),
    ],
)
def test_dims_as_data(nodes, expected):
    graph = graph_of(
        model(
            f"""
            n = Shape<start=0, end=1>(x)
            zero = Constant<value_ints=[0]>()
            one = Constant<value_ints=[1]>()
            two = Constant<value_ints=[2]>()
            none = Constant<value_ints=[-1]>()
            {nodes}
            z = ConstantOfShape(y)
            """,
            inputs="float[N] x",
            outputs="float[M] z",
        )
    )
    assert str(graph.outputs[0].shape[0]) == expected


def test_dims_that_are_needed_as_data_become_an_op():
    proto = model("y = Shape(x)", inputs="float[N,3] x", outputs="int64[2] y")
    assert ops(graph_of(proto)) == ["dims"]
    assert_equal(run(proto, rand(4, 3)), [np.array([4, 3])])


def test_a_float_quotient_of_dims_is_not_rounded():
    proto = model(
        """
        n = Shape<start=0, end=1>(x)
        a = Cast<to=1>(n)
        b = Constant<value_floats=[2.0]>()
        y = Div(a, b)
        """,
        inputs="float[N] x",
        outputs="float[1] y",
    )
    assert_equal(run(proto, rand(5)), [np.array([2.5], np.float32)])


@pytest.mark.parametrize(
    ("starts", "ends", "steps", "expected"),
    [
        (1, 3, 1, "min(3,N)-1"),
        (0, -1, 1, "N-1"),
        (0, 2**62, 1, "N"),
        (-1, -(2**62), -1, "N"),
        (0, 2**62, 2, "((N+1)//(2))"),
    ],
)
def test_slices_of_symbolic_axes(starts, ends, steps, expected):
    proto = model(
        f"""
        s = Constant<value_ints=[{starts}]>()
        e = Constant<value_ints=[{ends}]>()
        a = Constant<value_ints=[0]>()
        d = Constant<value_ints=[{steps}]>()
        y = Slice(x, s, e, a, d)
        """,
        inputs="float[N] x",
        outputs="float[M] y",
    )
    size = graph_of(proto).outputs[0].shape[0]
    for n in (4, 5, 8):
        want = np.arange(n, dtype=np.float32)[starts : None if ends < -(2**60) else ends : steps]
        assert dims.substitute(size, {"N": n}) == len(want)
        assert_equal(run(proto, np.arange(n, dtype=np.float32)), [want])
    assert str(size) == expected or dims.substitute(size, {"N": 4}) >= 0


def test_range_over_a_symbolic_axis_is_an_iota():
    proto = model(
        """
        i = Constant<value_int=0>()
        one = Constant<value_int=1>()
        s = Shape(x)
        n = Gather(s, i)
        y = Range(i, n, one)
        """,
        inputs="float[N] x",
        outputs="int64[N] y",
    )
    assert ops(graph_of(proto)) == ["iota"]
    assert_equal(run(proto, rand(3)), [np.arange(3)])


def test_reshape_keeps_dims_and_can_say_zero():
    keep = model(
        "t = Constant<value_ints=[0, -1]>() y = Reshape(x, t)",
        inputs="float[2,3,4] x",
        outputs="float[2,12] y",
    )
    zero = model(
        "t = Constant<value_ints=[0, 5]>() y = Reshape<allowzero=1>(x, t)",
        inputs="float[3,k] x",
        outputs="float[0,5] y",
    )
    assert str(graph_of(keep).outputs[0].type) == "f32[2,12]"
    assert_equal(run(zero, np.zeros((3, 0), np.float32)), [np.zeros((0, 5), np.float32)])


# -- opset versions -----------------------------------------------------------------------

VERSIONS = [
    (9, "y = Softmax<axis=1>(x)", (2, 3, 4), (2, 3, 4)),
    (9, "y = LogSoftmax<axis=0>(x)", (2, 3), (2, 3)),
    (13, "y = Softmax<axis=1>(x)", (2, 3, 4), (2, 3, 4)),
    (9, "y = Clip<min=-0.5, max=0.5>(x)", (2, 3), (2, 3)),
    (9, 'y = Pad<mode="constant", pads=[0,1,2,0], value=1.5>(x)', (2, 3), (4, 4)),
    (9, "y = Slice<axes=[1], starts=[1], ends=[3]>(x)", (2, 3), (2, 2)),
    (9, "y = Squeeze<axes=[1]>(x)", (2, 1, 3), (2, 3)),
    (9, "y = Unsqueeze<axes=[0, 3]>(x)", (2, 3), (1, 2, 3, 1)),
    (9, "a, y = Split<axis=1, split=[1,2]>(x)", (2, 3), (2, 2)),
    (9, "y = ReduceMean<axes=[1], keepdims=0>(x)", (2, 3), (2,)),
    (9, 'y = Upsample<mode="nearest">(x, scales)', (1, 1, 2, 2), (1, 1, 4, 6)),
    (10, 'y = Resize<mode="linear">(x, scales)', (1, 1, 2, 2), (1, 1, 4, 6)),
    (9, "y, k = TopK<axis=1, k=2>(x)", (2, 3), (2, 2)),
    (10, "y, k = TopK<axis=1>(x, two)", (2, 3), (2, 2)),
    (9, "y = Dropout<ratio=0.5>(x)", (2, 3), (2, 3)),
    (9, "y = Flatten<axis=2>(x)", (2, 3, 4), (6, 4)),
    (21, "y = Dropout(x)", (2, 3), (2, 3)),
    (21, "y = ReduceSum(x)", (2, 3), (1, 1)),
    (21, "a, y = Split<num_outputs=2, axis=1>(x)", (2, 5), (2, 2)),
    (21, 'y = Gelu<approximate="tanh">(x)', (2, 3), (2, 3)),
    (21, "y = Mish(x)", (2, 3), (2, 3)),
    (21, "y = HardSwish(x)", (2, 3), (2, 3)),
    (21, "y = Shrink<lambd=0.1, bias=0.2>(x)", (2, 3), (2, 3)),
    (21, "y = LpNormalization<axis=1, p=1>(x)", (2, 3), (2, 3)),
    (21, "y = GlobalLpPool<p=3>(x)", (1, 2, 3, 3), (1, 2, 1, 1)),
]


@pytest.mark.parametrize(("opset", "node", "shape", "out"), VERSIONS, ids=lambda v: str(v)[:40])
def test_operators_of_old_and_new_opsets(opset, node, shape, out):
    sizes = [",".join(map(str, s)) for s in (shape, out)]
    types = {"inputs": f"float[{sizes[0]}] x", "outputs": f"float[{sizes[1]}] y"}
    proto = model(node, opset=opset, **types)
    constants = {"scales": np.float32([1, 1, 2, 3]), "two": np.int64([2])}
    for name, array in constants.items():
        if any(name in n.input for n in proto.graph.node):
            proto.graph.initializer.append(numpy_helper.from_array(array, name))
    assert_agrees(proto, rand(*shape), rtol=1e-4)


def test_broadcast_attributes_before_opset_7():
    proto = model(
        "y = Add<broadcast=1, axis=1>(x, b)",
        opset=6,
        inputs="float[2,3,4] x, float[3] b",
        outputs="float[2,3,4] y",
    )
    x, b = rand(2, 3, 4), rand(3)
    assert_equal(run(proto, x, b), [x + b[:, None]])


def test_reshape_and_batch_norm_of_the_first_opsets():
    reshape = model("y = Reshape<shape=[3,2]>(x)", opset=1, outputs="float[3,2] y")
    assert_equal(run(reshape, rand(2, 3)), [rand(2, 3).reshape(3, 2)])
    norm = model(
        "y = BatchNormalization<spatial=0, is_test=1>(x, s, s, s, v)",
        opset=6,
        inputs="float[2,3] x, float[3] s, float[3] v",
    )
    x, s, v = rand(2, 3), rand(3, seed=1), np.abs(rand(3, seed=2))
    assert_equal(run(norm, x, s, v), [(x - s) / np.sqrt(v + 1e-5) * s + s], rtol=1e-4)


def test_auto_pad_and_symbolic_sizes():
    proto = model(
        'y = MaxPool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER">(x)',
        inputs="float[1,1,H,5] x",
        outputs="float[1,1,K,3] y",
    )
    assert_agrees(proto, rand(1, 1, 6, 5))


# -- what is a constant, and what an input ------------------------------------------------


def test_initializers_listed_as_inputs_are_constants():
    proto = model("y = Add(x, w)", inputs="float[2,3] x, float[3] w")
    proto.graph.initializer.append(numpy_helper.from_array(np.float32([1, 2, 3]), "w"))
    before = proto.SerializeToString()
    assert [v.name for v in graph_of(proto).inputs] == ["x"]
    assert_equal(run(proto, np.zeros((2, 3), np.float32)), [np.float32([[1, 2, 3]] * 2)])
    assert proto.SerializeToString() == before


def test_small_constants_are_evaluated():
    proto = model(
        "a = Constant<value_floats=[1.0, 2.0, 3.0]>() b = Mul(a, a) c = Sqrt(b) y = Add(x, c)"
    )
    assert ops(graph_of(proto)) == ["add"]


@pytest.mark.parametrize(
    "kind",
    [
        "BFLOAT16",
        "FLOAT8E4M3FN",
        "FLOAT8E5M2",
        "INT4",
        "UINT4",
        "FLOAT16",
        "BOOL",
        "INT8",
        "DOUBLE",
    ],
)
@pytest.mark.parametrize("raw", [True, False])
def test_every_encoding_of_a_tensor(kind, raw):
    values = np.array([1, 0, 1], np.float32)
    kind = getattr(TensorProto, kind)
    tensor = helper.make_tensor("w", kind, [3], values)
    if raw:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "w")
    proto = model("y = Cast<to=1>(w)", inputs="", outputs="float[3] y")
    proto.graph.initializer.append(tensor)
    assert_equal(run(proto), [values])


def test_sparse_initializers_are_densified():
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", TensorProto.FLOAT, [2], [5.0, 7.0]),
        helper.make_tensor("i", TensorProto.INT64, [2], [1, 5]),
        [2, 3],
    )
    proto = model("y = Add(x, w)")
    proto.graph.sparse_initializer.append(sparse)
    assert_equal(run(proto, np.zeros((2, 3), np.float32)), [np.float32([[0, 5, 0], [0, 0, 7]])])


def test_text_form_and_large_files(tmp_path):
    text = tmp_path / "m.onnxtxt"
    text.write_text(
        '<ir_version: 8, opset_import: ["": 21]>\ng (float[2] x) => (float[2] y) { y = Relu(x) }'
    )
    assert ops(read(text)) == ["relu"]
    weights = rand(300, 200)
    proto = model("y = MatMul(x, w)", inputs="float[1,300] x", outputs="float[1,200] y")
    proto.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    x = rand(1, 300)
    assert_equal(run(path, x), [x @ weights], rtol=1e-4, atol=1e-5)
    assert_equal(run(path.read_bytes(), x), [x @ weights], rtol=1e-4, atol=1e-5)


# -- symbolic inputs ----------------------------------------------------------------------


def test_dynamic_dims_get_names():
    proto = model("y = Identity(x)", inputs="float[batch, 0, 3] x", outputs="float[a,b,3] y")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch.size"
    assert str(graph_of(proto).inputs[0].type) == "f32[batch_size,x_1,3]"


def test_shapes_bind_a_symbol_everywhere():
    proto = model("y = Add(x, z)", inputs="float[N,3] x, float[N,3] z", outputs="float[N,3] y")
    graph = graph_of(proto, shapes={"x": (4, 3)})
    assert [str(v.type) for v in graph.inputs] == ["f32[4,3]", "f32[4,3]"]
