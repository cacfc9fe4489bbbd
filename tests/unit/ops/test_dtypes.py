"""Every element type goes wherever ONNX lets it go, strings and types of 2 bits included.

Operators that only move elements are compiled for each dtype that their newest schema allows, and
compared with numpy on the elements themselves.
"""

import numpy as np
import onnx
import pytest
import tessel
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tessel.compiler.ir.types import DTYPES, dtype_of
from tessel.frontends.onnx.file.proto import ELEMENT_TYPE_OF, from_bytes, to_array
from tessel.frontends.onnx.write.file import tensor

OPSET = onnx.defs.onnx_opset_version()
ALL = list(DTYPES.values())
SHAPE = (2, 3, 4)


def values(dtype, shape=SHAPE, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype.kind == "s":
        words = np.array(["", "a", "bc", "Größe", "d e"], object)
        return np.asarray(words[rng.integers(0, len(words), shape)], object)
    if dtype.is_float:
        return rng.choice(np.array([0.5, 1, 2, 4]), shape).astype(dtype.numpy)
    return rng.integers(0, 2, shape).astype(dtype.numpy)


def model_of(op_type, given, outputs=1, opset=OPSET, **attrs):
    """One node; `given` are arrays (inputs), TensorProtos (initializers), or None."""
    names, inputs, constants = [], [], []
    for i, x in enumerate(given):
        names.append("" if x is None else f"x{i}")
        if isinstance(x, TensorProto):
            constants.append(x)
            x.name = names[-1]
        elif x is not None:
            kind = ELEMENT_TYPE_OF[dtype_of(x)]
            inputs.append(helper.make_tensor_value_info(names[-1], kind, x.shape))
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op_type, names, results, **attrs)
    outs = [onnx.ValueInfoProto(name=r) for r in results]
    graph = helper.make_graph([node], "g", inputs, outs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def run(op_type, given, **options):
    exe = tessel.compile(model_of(op_type, given, **options), threads=1)
    feeds = {i.name: x for i, x in zip(exe.inputs, [x for x in given if isinstance(x, np.ndarray)])}
    results = exe.run(feeds)
    return [results[o.name] for o in exe.outputs]


def known(*numbers, dtype=np.int64):
    return numpy_helper.from_array(np.array(numbers, dtype))


def same(got, want):
    want = np.asarray(want)
    assert dtype_of(got) == dtype_of(want) and got.shape == want.shape
    assert got.tolist() == want.tolist()


MOVES = {
    "Identity": ([], {}, lambda x: x),
    "Reshape": ([known(4, -1)], {}, lambda x: x.reshape(4, 6)),
    "Transpose": ([], {"perm": [2, 0, 1]}, lambda x: x.transpose(2, 0, 1)),
    "Flatten": ([], {"axis": 2}, lambda x: x.reshape(6, 4)),
    "Unsqueeze": ([known(1)], {}, lambda x: x[:, None]),
    "Squeeze": ([], {}, lambda x: x),
    "Slice": (
        [known(3, 0), known(0, 2), known(2, 1), known(-2, 1)],
        {},
        lambda x: x[:, 0:2, 3:0:-2],
    ),
    "Expand": ([known(2, 2, 3, 4)], {}, lambda x: np.broadcast_to(x, (2, 2, 3, 4))),
    "Tile": ([known(1, 2, 1)], {}, lambda x: np.tile(x, (1, 2, 1))),
    "Gather": ([known(2, 0, -1)], {"axis": 1}, lambda x: x[:, [2, 0, -1]]),
    "GatherND": (
        [numpy_helper.from_array(np.array([[1, 2], [0, 0]]))],
        {},
        lambda x: x[[1, 0], [2, 0]],
    ),
    "GatherElements": (
        [numpy_helper.from_array(np.ones((2, 3, 1), np.int64))],
        {"axis": 2},
        lambda x: x[:, :, 1:2],
    ),
    "Pad": (
        [known(0, 1, 0, 0, 0, 2)],
        {},
        lambda x: np.pad(x, ((0, 0), (1, 0), (0, 2)), constant_values=nothing(x)),
    ),
    "Trilu": ([], {"upper": 0}, lambda x: np.where(np.tri(3, 4, dtype=bool), x, nothing(x))),
    "ReverseSequence": ([known(2, 1, 3, 2)], {"batch_axis": 2, "time_axis": 1}, None),
    "Split": ([], {"axis": 1, "num_outputs": 3}, lambda x: np.split(x, 3, 1)[0]),
}


def nothing(x):
    """What fills places: zero, or the empty string."""
    return np.array("", object) if x.dtype == object else np.zeros((), x.dtype)


def reversed_sequences(x):
    y = x.copy()
    for i, n in enumerate((2, 1, 3, 2)):
        y[:, :n, i] = x[:, :n, i][:, ::-1]
    return y


def allowed(op_type, dtype, version=OPSET):
    schema = onnx.defs.get_schema(op_type, version)
    name = TensorProto.DataType.Name(ELEMENT_TYPE_OF[dtype]).lower()
    return f"tensor({name})" in schema.inputs[0].types


@pytest.mark.parametrize("op", MOVES)
def test_moves(op):
    """A node for each type, all in one model."""
    extra, attrs, expected = MOVES[op]
    types = [d for d in ALL if allowed(op, d)]
    given = {f"x{d}": values(d) for d in types}
    nodes = []
    for d in types:
        outputs = [f"y{d}", *(f"z{d}{j}" for j in range(attrs.get("num_outputs", 1) - 1))]
        names = [f"x{d}", *(f"c{j}" for j in range(len(extra)))]
        nodes.append(helper.make_node(op, names, outputs, **attrs))
    for j, constant in enumerate(extra):
        constant.name = f"c{j}"
    infos = [
        helper.make_tensor_value_info(n, ELEMENT_TYPE_OF[dtype_of(x)], x.shape)
        for n, x in given.items()
    ]
    outs = [onnx.ValueInfoProto(name=f"y{d}") for d in types]
    graph = helper.make_graph(nodes, "g", infos, outs, extra)
    results = tessel.compile(helper.make_model(graph), threads=1).run(given)
    assert len(types) > 9
    for d in types:
        same(results[f"y{d}"], (expected or reversed_sequences)(given[f"x{d}"]))


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_choices_and_joins(dtype):
    x, y = values(dtype), values(dtype, (1, 3, 1), 1)
    if allowed("Concat", dtype):
        z = values(dtype, (2, 1, 4), 2)
        same(run("Concat", [x, z], axis=1)[0], np.concatenate([x, z], 1))
    condition = np.random.default_rng(3).integers(0, 2, SHAPE).astype(bool)
    if allowed("Where", dtype) or dtype.kind == "s":
        same(run("Where", [condition, x, y])[0], np.where(condition, x, y))
    if allowed("Equal", dtype):
        same(run("Equal", [x, y])[0], x == y)
    if allowed("ScatterElements", dtype):
        at = np.zeros((1, 3, 4), np.int64)
        want = x.copy()
        want[1:] = np.broadcast_to(y, (1, 3, 4))
        updates = np.broadcast_to(y, (1, 3, 4)).copy()
        index = numpy_helper.from_array(at + 1)
        same(run("ScatterElements", [x, index, updates], axis=0)[0], want)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_shapes_and_sizes_of_any_type(dtype):
    x = values(dtype)
    same(run("Shape", [x])[0], np.array(SHAPE))
    same(run("Size", [x])[0], np.array(24))


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (0, 3)], ids=str)
def test_initializers_of_any_type(dtype, shape):
    """Packed as ONNX packs them, in raw bytes and in fields; and written back alike."""
    x = values(dtype, shape)
    raw = tensor("w", x)
    same(to_array(raw, None, "w"), x)
    if dtype.kind != "s":
        field = helper.make_tensor("w", raw.data_type, x.shape, x.astype(np.float64).ravel())
        same(to_array(field, None, "w"), x)
        same(numpy_helper.to_array(raw).astype(dtype.numpy), x)
    same(run("Identity", [raw])[0], x)


def test_bytes_that_do_not_fill_the_tensor_are_refused():
    with pytest.raises(tessel.TesselError, match=r"(?s)truncated.*2 bytes for i2\[5\]"):
        from_bytes(b"\0", DTYPES["i2"], (5,), "w")
    codes = from_bytes(bytes([0b11100100, 0b01]), DTYPES["i2"], (5,), "w")
    assert codes.tolist() == [0, 1, -2, -1, 1]


@pytest.mark.sweep(9, suite=9)
@pytest.mark.parametrize("source", [d for d in ALL if d.kind != "s"], ids=str)
def test_casts_between_all_types(source):
    """All of an input's results in one model."""
    x = values(source, (9,))
    targets = [d for d in ALL if d.kind != "s"]
    nodes = [
        helper.make_node("Cast", ["x"], [f"y{i}"], to=ELEMENT_TYPE_OF[d])
        for i, d in enumerate(targets)
    ]
    info = helper.make_tensor_value_info("x", ELEMENT_TYPE_OF[source], x.shape)
    outs = [onnx.ValueInfoProto(name=f"y{i}") for i in range(len(targets))]
    proto = helper.make_model(helper.make_graph(nodes, "g", [info], outs))
    results = tessel.compile(proto, threads=1).run({"x": x})
    for i, d in enumerate(targets):
        got = results[f"y{i}"]
        number = x.astype(np.float64)
        assert dtype_of(got) == d
        if d.kind == "b":
            want = number != 0
        elif d.is_int:
            want = np.trunc(number).astype(np.int64).astype(np.int8 if d.bits < 8 else d.numpy)
            want = want.astype(d.numpy) if d.bits < 8 else want
        else:
            want = np.where((number == 0) & (d.name == "f8e8m0"), 2.0**-127, number)
        np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


QUANTIZED = [d for d in ALL if d.kind in "iuf" and d.bits <= 16 and allowed("DequantizeLinear", d)]
GRAINS = {
    "tensor": ((), {}),
    "axis": ((3,), {"axis": 1}),
    "blocks": ((2, 3, 2), {"axis": 2, "block_size": 2}),
}


def agrees(op_type, given, opset=OPSET, **attrs):
    proto = model_of(op_type, given, opset=opset, **attrs)
    feeds = {f"x{i}": x for i, x in enumerate(given) if x is not None}
    (want,) = ReferenceEvaluator(proto).run(None, feeds)
    (got,) = tessel.compile(proto, threads=1).run(feeds).values()
    assert dtype_of(got) == dtype_of(want)
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


@pytest.mark.sweep(20, suite=20)
@pytest.mark.parametrize("grain", GRAINS)
@pytest.mark.parametrize("dtype", QUANTIZED, ids=str)
def test_quantised_types(dtype, grain):
    shape, attrs = GRAINS[grain]
    rng = np.random.default_rng(0)
    scale = np.asarray(rng.choice(np.float32([0.25, 0.5, 2]), shape))
    zero = np.asarray(rng.integers(0, 2, shape)).astype(dtype.numpy)
    if dtype.is_float:
        zero = np.zeros(shape, dtype.numpy)
    x = rng.uniform(-300, 300, SHAPE).astype(np.float32)
    agrees("QuantizeLinear", [x, scale, zero], **attrs)
    q = values(dtype)
    for kind in (np.float32, np.float16):
        agrees("DequantizeLinear", [q, scale.astype(kind), zero], **attrs)
    powers = scale.astype(DTYPES["f8e8m0"].numpy)
    agrees("DequantizeLinear", [q, powers, zero], output_dtype=TensorProto.FLOAT, **attrs)


@pytest.mark.parametrize("dtype", [d for d in QUANTIZED if d.is_float and d.bits == 8], ids=str)
def test_float8_that_does_not_saturate(dtype):
    x = np.float32([1, 300, -500, 1e6, np.inf, -np.inf, np.nan, 0])
    zero = np.zeros((), dtype.numpy)
    for saturate in (0, 1):
        agrees("QuantizeLinear", [x, np.array(1, np.float32), zero], saturate=saturate)


def test_the_precision_of_the_quotient():
    """f16 has no number between 2048 and 2050."""
    x, one = np.float32([2049, 2051]), np.array(1, np.float32)
    attrs = {"output_dtype": TensorProto.INT16}
    assert run("QuantizeLinear", [x, one, None], **attrs)[0].tolist() == [2049, 2051]
    half = run("QuantizeLinear", [x, one, None], precision=TensorProto.FLOAT16, **attrs)
    assert half[0].tolist() == [2048, 2052]


def test_a_scale_of_powers_says_no_type():
    q, scale = values(DTYPES["i8"]), np.ones((), DTYPES["f8e8m0"].numpy)
    with pytest.raises(tessel.TesselError, match=r"(?s)needs output_dtype.*FLOAT, FLOAT16"):
        run("DequantizeLinear", [q, scale])


def test_quantising_and_back_in_one_kernel_rounds():
    """Narrow types are meant to round: nothing is kept in wider ones, as halves are."""
    body = "q = Cast<to=17>(x) h = Mul(two, x) y = Cast<to=1>(q) z = Add(y, h)"
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[4] x) => (float[4] z) '
        f"<float two = {{2.0}}> {{ {body} }}"
    )
    x = np.float32([1.03, 2.4, 700, -0.3])
    f8 = DTYPES["f8e4m3fn"].numpy
    want = np.clip(x, -448, 448).astype(f8).astype(np.float32) + 2 * x
    np.testing.assert_array_equal(tessel.compile(proto).run({"x": x})["z"], want)
