"""Graph to ONNX: valid models that ONNX Runtime runs with the same numbers, and that read back."""

import numpy as np
import onnx
import pytest
from tessel.compiler.errors import TesselError, UnsupportedError, UsageError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.op import OPS
from tessel.compiler.ir.types import BOOL, TensorType, tensor_type_of
from tessel.frontends.onnx.exporter import write
from tessel.frontends.onnx.importer import read
from tessel.frontends.onnx.write.table import TABLE

from ...conftest import SharedModel
from ...support.onnx_models import assert_equal, model, onnxruntime, ops, rand, run


def _built(make, *types: str):
    """A graph of `make(b, *inputs)`."""
    b = Builder()
    inputs = [b.input(f"x{i}", t) for i, t in enumerate(types)]
    results = make(b, *inputs)
    for i, y in enumerate(results if isinstance(results, tuple) else (results,)):
        b.output(f"y{i}", y)
    return b.graph


def _round_trip(graph, *arrays, rtol=1e-4, atol=1e-5) -> onnx.ModelProto:
    """ONNX Runtime on the written model, and the model read back, give the graph's numbers."""
    proto = write(graph)
    expected = interpret(graph, list(arrays))
    assert_equal(onnxruntime(proto, *arrays), expected, rtol, atol)
    assert_equal(run(proto, *arrays), expected, rtol, atol)
    return proto


CASES = [
    (
        "channels last",
        lambda b, x, w: b.conv(x, w, pads=(1, 1, 1, 1), channels_last=True),
        "f32[1,5,5,2]",
        "f32[3,3,2,4]",
    ),
    (
        "pool channels last",
        lambda b, x: b.max_pool(x, kernel=(2, 2), channels_last=True),
        "f32[1,4,4,2]",
    ),
    (
        "grouped conv",
        lambda b, x, w, c: b.conv(x, w, c, group=2, strides=(2, 2)),
        "f32[1,4,5,5]",
        "f32[4,2,3,3]",
        "f32[4]",
    ),
    ("layer norm without scale", lambda b, x: b.layer_norm(x, axis=-1), "f32[2,6]"),
    ("rms norm", lambda b, x, w: b.rms_norm(x, w), "f32[2,6]", "f32[6]"),
    (
        "attention",
        lambda b, q, k, v: b.attention(q, k, v, scale=0.5, is_causal=True),
        "f32[1,2,3,4]",
        "f32[1,2,3,4]",
        "f32[1,2,3,4]",
    ),
    ("gelu tanh", lambda b, x: b.gelu(x, approximate="tanh"), "f32[7]"),
    ("silu, rsqrt", lambda b, x: b.rsqrt(b.silu(x) + 9.0), "f32[7]"),
    ("float mod", lambda b, x, y: b.mod(x, y), "f32[7]", "f32[7]"),
    ("reverse, slice", lambda b, x: b.reverse(x, axes=(1,))[:, 1:4:2], "f32[2,6]"),
    (
        "slice backwards",
        lambda b, x: b.slice(x, axes=(0,), starts=(4,), steps=(-2,), sizes=(3,)),
        "f32[5]",
    ),
    (
        "split, concat",
        lambda b, x: b.concat(*b.split(x, axis=1, sizes=(1, 3))[::-1], axis=1),
        "f32[2,4]",
    ),
    ("iota", lambda b, x: x + b.iota(shape=(2, 3), axis=1, dtype="f32"), "f32[2,3]"),
    ("reduce nothing", lambda b, x: b.reduce_l2(x, axes=(), keepdims=True), "f32[2,3]"),
    ("two outputs of one value", lambda b, x: (b.exp(x), b.exp(x), x), "f32[3]"),
    ("constants", lambda b, x: (x * 2.0, b.constant(np.float32([1, 2]))), "f32[2]"),
]


@pytest.mark.parametrize(
    ("make", "types"), [(c[1], c[2:]) for c in CASES], ids=[c[0] for c in CASES]
)
def test_numbers_survive(make, types):
    graph = _built(make, *types)
    arrays = [rand(*v.shape, seed=i) for i, v in enumerate(graph.inputs)]
    _round_trip(graph, *arrays)


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.reshape(x, shape=(x.shape[0] * 2, x.shape[1] // 2)),
        lambda b, x: b.reshape(x, shape=(x.shape[0], 2, x.shape[1] // 2)),
        lambda b, x: b.expand(
            b.reduce_sum(x, axes=(0, 1)), shape=(x.shape[0] + 1, x.shape[0] // 2)
        ),
        lambda b, x: b.iota(shape=x.shape, axis=0, dtype="i32"),
        lambda b, x: b.dims(values=(x.shape[0] * x.shape[0] + 3, 7, x.shape[0] % 2)),
    ],
)
def test_symbolic_dims_are_computed_from_the_inputs(make):
    graph = _built(make, "f32[N,4]")
    proto = write(graph)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    x = rand(5, 4)
    expected = interpret(graph, [x])
    assert_equal(onnxruntime(proto, x), expected)
    assert_equal(run(proto, x), expected)


def test_regions_and_captures():
    b = Builder()
    c, x = b.input("c", "bool[]"), b.input("x", "f32[3]")
    w = b.exp(x)
    branches = []
    for name in ("add", "mul"):
        inner = Builder(name=name)
        p, q = inner.input("x", "f32[3]"), inner.input("w", "f32[3]")
        inner.output("y", inner.emit(name, p, q))
        branches.append(inner.graph)
    b.output("y", b.emit("if", c, x, w, then_graph=branches[0], else_graph=branches[1]))
    for choice in (True, False):
        _round_trip(b.graph, np.bool_(choice), rand(3))


def test_scans():
    body = Builder()
    h, e, k = (body.input(n, "f32[3]") for n in "hek")
    total = h + e * k
    body.output("h", total)
    body.output("s", body.neg(total))
    b = Builder()
    h0, xs, k = b.input("h0", "f32[3]"), b.input("xs", "f32[4,3]"), b.input("k", "f32[3]")
    for i, y in enumerate(b.scan(h0, xs, k, body=body.graph, states=1, scans=1, reverse=True)):
        b.output(f"y{i}", y)
    _round_trip(b.graph, rand(3), rand(4, 3), rand(3, seed=2))


# -- ops without an entry -----------------------------------------------------------------


def _of_samples(name):
    for sample in OPS[name].samples():
        if all(np.asarray(x).dtype in (np.float32, np.int64, np.bool_) for x in sample.inputs):
            types = [str(tensor_type_of(np.asarray(x))) for x in sample.inputs]
            made = lambda b, *xs, attrs=sample.attrs: b.emit(name, *xs, **attrs)
            yield _built(made, *types), [np.asarray(x) for x in sample.inputs]


@pytest.mark.parametrize(
    "name",
    [
        "silu",
        "gelu",
        "mish",
        "selu",
        "hard_swish",
        "thresholded_relu",
        "relu",
        "elu",
        "celu",
        "leaky_relu",
        "softsign",
        "hard_sigmoid",
        "clip",
    ],
)
def test_an_elementwise_op_is_what_its_body_computes(name, monkeypatch):
    monkeypatch.delitem(TABLE, name, raising=False)
    graphs = list(_of_samples(name))
    assert graphs
    for graph, arrays in graphs:
        proto = write(graph)
        if all(x.size for x in arrays):
            assert_equal(run(proto, *arrays), interpret(graph, arrays), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "type"), [("mod", "i64[3]"), ("add", "f32[3]")])
def test_a_body_of_what_onnx_lacks_is_refused(name, type, monkeypatch):
    monkeypatch.delitem(TABLE, name)
    graph = _built(lambda b, x: b.emit(name, x, x), type)
    with pytest.raises(UnsupportedError, match=f"ONNX has no way to say {name}") as caught:
        write(graph)
    assert caught.value.received == f"{name} in its body"


# -- files --------------------------------------------------------------------------------


def _weights():
    return _built(lambda b, x: x @ b.constant(rand(40, 30), name="w"), "f32[2,40]")


def test_files_appear_whole(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    write(_weights(), path)
    x = rand(2, 40)
    assert_equal(run(path, x), interpret(_weights(), [x]))
    before = path.read_bytes()
    monkeypatch.delitem(TABLE, "lookup")
    with pytest.raises(UnsupportedError, match="ONNX has no way to say lookup"):
        write(_unwritable(), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def _unwritable():
    return _built(lambda b, i: b.emit("lookup", i, labels=("a", "b")), "i64[3]")


def test_large_weights_go_to_a_second_file(tmp_path):
    path = tmp_path / "m.onnx"
    write(_weights(), path, external_bytes=1000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert path.stat().st_size < 1000
    x = rand(2, 40)
    assert_equal(run(path, x), interpret(_weights(), [x]))
    with pytest.raises(UsageError, match="too large for one ONNX file"):
        write(_weights(), external_bytes=1000)


def test_four_bit_weights_and_text():
    import ml_dtypes

    nibbles = np.array([[-8, 7, 3]], ml_dtypes.int4)
    graph = _built(lambda b, x: x * b.constant(nibbles).cast("f32"), "f32[1,3]")
    x = rand(1, 3)
    assert_equal(run(write(graph), x), [x * nibbles.astype(np.float32)])


def test_ops_of_other_domains_are_written_by_name(monkeypatch):
    from tessel.frontends.onnx.operators import table
    from tessel.frontends.onnx.write.common import named

    def read_lookup(c):
        return c.b.emit("lookup", c.x(0), labels=tuple(c.attr("labels")))

    monkeypatch.setitem(TABLE, "lookup", named("my.domain", "Lookup"))
    monkeypatch.setitem(table.TABLE, ("my.domain", "Lookup"), read_lookup)
    proto = write(_unwritable())
    assert [(n.domain, n.op_type) for n in proto.graph.node] == [("my.domain", "Lookup")]
    index = np.int64([1, 0, 1])
    assert interpret(read(proto), [index])[0].tolist() == ["b", "a", "b"]
    monkeypatch.setitem(TABLE, "reshape", named("my.domain", "Reshape"))
    with pytest.raises(UnsupportedError, match="no such attribute shape of reshape"):
        write(_built(lambda b, x: b.reshape(x, shape=(x.shape[0] * 2, 2)), "f32[N,4]"))


def test_names_of_users_stay():
    proto = model("h = Relu(x) y = Exp(h)")
    written = write(read(proto))
    assert [n.output[0] for n in written.graph.node] == ["h", "y"]
    assert ops(read(written)) == ["relu", "exp"]


def test_real_models_survive(shared_model: SharedModel, tmp_path):
    """The written model gives what the read one gave, in ONNX Runtime."""
    inputs = shared_model.inputs
    shapes = {k: v.shape for k, v in inputs.items()} if shared_model.name == "silero_vad" else None
    graph = read(shared_model.path, shapes=shapes)
    path = tmp_path / "m.onnx"
    write(graph, path)
    arrays = [inputs[v.name] for v in graph.inputs]
    got = onnxruntime(onnx.load(path), *arrays)
    want = onnxruntime(onnx.load(shared_model.path), *inputs.values())
    for g, w in zip(got, want, strict=True):
        if isinstance(w, list):
            continue
        assert (g.dtype, g.shape) == (w.dtype, w.shape)
        scale = np.abs(w.astype(np.float64)).max()
        step = 0.05 if "int8" in shared_model.name else 2e-3 if w.dtype == np.float16 else 1e-4
        np.testing.assert_allclose(
            g.astype(np.float64), w.astype(np.float64), rtol=step, atol=step * scale
        )


def test_an_output_name_that_is_taken():
    b = Builder()
    x = b.input("x", TensorType(BOOL, (2,)))
    b.output("x", b.emit("not", x))
    with pytest.raises(TesselError, match="two values of the model would have one name"):
        write(b.graph)
