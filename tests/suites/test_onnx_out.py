"""Graphs as ONNX: every op on its own samples, and ONNX's own cases, give valid models that read
back and that ONNX Runtime runs with the same results."""

import numpy as np
import onnx
import pytest
import tessel
from tessel.compiler.autodiff.gradients import gradients
from tessel.compiler.errors import InputError, UnsupportedError, UsageError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.op import OPS
from tessel.compiler.ir.types import (
    F32,
    I64,
    STR,
    MapType,
    TensorType,
    dtype_of,
    tensor_type_of,
)
from tessel.frontends.onnx.exporter import write
from tessel.frontends.onnx.importer import read

from ..support.onnx_models import assert_equal, model, onnxruntime, rand
from ..support.onnx_out import by_onnxruntime, cases, difference, outcome

# what ONNX leaves open, or ONNX Runtime does differently: samples that are not compared with it
OPEN = {
    "arg_max": lambda s: np.isnan(s.inputs[0]).any(),
    "arg_min": lambda s: np.isnan(s.inputs[0]).any(),
    "pow": lambda s: s.inputs[0].dtype.kind == "i" and (s.inputs[1] < 0).any(),
    "cast": lambda s: (  # it rounds floats to 4 bits and less
        dtype_of(s.attrs["dtype"]).bits in (2, 4) or not s.attrs.get("saturate", True)
    ),
    "string_split": lambda s: "" in s.inputs[0],  # no part, not an empty one
    "grid_sample": lambda s: s.attrs.get("padding") == "border",  # limits places, not pixels
    "resize": lambda s: s.attrs.get("coordinate_mode") == "align_corners" and "scales" in s.attrs,
    "roi_align": lambda s: s.attrs.get("sampling", 0) == 0,  # any number of samples
}


def _graph(op, sample, by_f32: bool = False):
    """The op's graph; with `by_f32`, values of types that numpy lacks come and go as f32."""
    b = Builder()
    inputs = []
    for i, x in enumerate(sample.inputs):
        if x is None:
            inputs.append(None)
            continue
        type = _type(x)
        foreign = by_f32 and isinstance(type, TensorType) and _is_foreign(type.dtype)
        value = b.input(f"x{i}", type.with_dtype(F32) if foreign else type)
        inputs.append(value.cast(type.dtype) if foreign else value)
    results = b.emit(op.name, *inputs, **sample.attrs)
    for i, y in enumerate(results if isinstance(results, tuple) else (results,)):
        tensor = isinstance(y.value.type, TensorType)
        b.output(f"y{i}", y.cast(F32) if by_f32 and tensor and _is_foreign(y.dtype) else y)
    return b.graph


def _type(x):
    if not isinstance(x, dict):
        return tensor_type_of(np.asarray(x))
    (key, value), *_ = x.items()
    return MapType(STR if isinstance(key, str) else I64, tensor_type_of(np.asarray(value)))


def _values(sample) -> list:
    """The operands that are there, as arrays and maps."""
    return [x if isinstance(x, dict) else np.asarray(x) for x in sample.inputs if x is not None]


def _is_foreign(dtype) -> bool:
    return dtype.numpy.kind == "V" or dtype.bits in (2, 4) or (dtype.is_float and dtype.bits == 8)


def _expected(graph, arrays) -> list:
    try:
        return interpret(graph, arrays)
    except UnsupportedError as error:  # a library that is not installed
        pytest.skip(str(error))


def _assert_same(got, want, sample, share=0.0) -> None:
    """To the sample's tolerance, and to that share of the largest number."""
    assert [np.asarray(g).dtype for g in got] == [np.asarray(w).dtype for w in want]
    for g, w in zip(got, want, strict=True):
        if isinstance(w, list) or np.asarray(w).dtype == object:
            assert np.asarray(g).tolist() == np.asarray(w).tolist()
            continue
        step = max(sample.rtol, 1e-4) if dtype_of(w).bits >= 32 else max(sample.rtol, 2e-2)
        largest = np.abs(w.astype(np.float64)).max(initial=0, where=np.isfinite(w.astype(float)))
        assert difference([g], [w], step, max(sample.atol, 1e-5, share * largest)) is None


NEWEST = onnx.defs.onnx_opset_version()


@pytest.mark.sweep(220, suite=220)
@pytest.mark.parametrize("opset", [21, NEWEST])
@pytest.mark.parametrize("name", sorted(OPS))
def test_every_op_is_written_and_read_back(name, opset):
    for sample in OPS[name].samples():
        graph = _graph(OPS[name], sample)
        arrays = _values(sample)
        want = _expected(graph, arrays)
        proto = write(graph, opset=opset)
        assert proto.opset_import[0].version >= opset
        onnx.checker.check_model(proto, full_check=True)
        # a size of 0 reads as a dynamic dim
        shapes = {v.name: v.shape for v in graph.inputs if isinstance(v.type, TensorType)}
        again = read(proto, shapes=shapes)
        if name == "cache_update" and len(arrays) > 2 and (arrays[2] < 0).any():
            with pytest.raises(InputError, match="a place to write to"):  # ONNX has no such places
                interpret(again, arrays)
            continue
        _assert_same(interpret(again, arrays), want, sample)


@pytest.mark.parametrize("name", sorted(OPS))
@pytest.mark.saturates("matmul_integer", "qlinear_matmul", "qlinear_conv", "dynamic_quantize_lstm")
def test_onnxruntime_agrees_on_every_op(name):
    """Wherever ONNX Runtime takes the model."""
    for sample in OPS[name].samples():
        graph = _graph(OPS[name], sample, by_f32=True)
        arrays = [
            a if isinstance(a, dict) or not _is_foreign(dtype_of(a)) else a.astype(np.float32)
            for a in _values(sample)
        ]
        if name in OPEN and OPEN[name](sample):
            continue
        model, feeds = write(graph), dict(zip([v.name for v in graph.inputs], arrays))
        try:
            got = by_onnxruntime(model, feeds)
        except Exception:  # it has many classes of them, and not one in common
            continue
        _assert_same(got, _expected(graph, arrays), sample, share=1e-4)


def test_later_opsets_keep_what_is_fused():
    b = Builder()
    q, k, v = (b.input(n, "f32[1,2,3,4]") for n in "qkv")
    h = b.attention(q, k, v, scale=0.5)
    b.output("y", b.silu(b.rms_norm(h, axis=-1)))
    types = [n.op_type for n in write(b.graph, opset=24).graph.node]
    assert types == ["Attention", "RMSNormalization", "Swish"]
    assert "MatMul" in [n.op_type for n in write(b.graph).graph.node]
    assert [n.op.name for n in read(write(b.graph, opset=24)).nodes][:2] == [
        "attention",
        "constant",
    ]
    for opset in (12, NEWEST + 1):
        with pytest.raises(UsageError, match="no such opset"):
            write(b.graph, opset=opset)


def test_gradients_are_written():
    b = Builder()
    x, w, v = b.input("x", "f32[N,3,8,8]"), b.input("w", "f32[4,3,3,3]"), b.input("v", "f32[36,5]")
    h = b.max_pool(b.gelu(b.conv(x, w)), kernel=(2, 2), strides=(2, 2))
    y = b.log_softmax(b.layer_norm(h.reshape(x.shape[0], 36), axis=-1) @ v, axis=-1)
    for name, gradient in zip("wv", gradients(b, [(y * y).sum()], [w, v])):
        b.output(f"d{name}", gradient)
    proto = write(b.graph)
    for n in (1, 4):
        arrays = [rand(n, 3, 8, 8), rand(4, 3, 3, 3, seed=1) / 3, rand(36, 5, seed=2) / 6]
        want = interpret(b.graph, arrays)
        assert_equal(onnxruntime(proto, *arrays), want, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_cases_of_onnx_survive():
    """Each tenth backend case (all of them: python -m tests.support.onnx_out)."""
    found = {case.name: outcome(case) for case in cases(every=10)}
    lost = {n: o for n, o in found.items() if o[0] in ("differ", "refused", "unwritten")}
    assert not lost
    assert sum(o[0] == "agree" for o in found.values()) > 100


# -- names of the package -----------------------------------------------------------------

FUSED = "c = Constant <value_float = 1.0> () h = Mul(x, c) y = Relu(h)"


def test_to_onnx_writes_the_optimised_model(tmp_path):
    proto, x = model(FUSED, inputs="float[N,3] x", outputs="float[N,3] y"), rand(2, 3)
    optimised = tessel.to_onnx(proto, tmp_path / "m.onnx")
    assert [n.op_type for n in optimised.graph.node] == ["Relu"]
    assert [n.op_type for n in tessel.to_onnx(proto, opt_level=0).graph.node] == ["Mul", "Relu"]
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    assert_equal(onnxruntime(optimised, x), onnxruntime(proto, x))
    assert str(tessel.from_onnx(tmp_path / "m.onnx").inputs[0].type) == "f32[N,3]"
    fixed = tessel.to_onnx(proto, shapes={"x": (2, 3)})
    assert str(tessel.from_onnx(fixed).inputs[0].type) == "f32[2,3]"


def test_convolutions_stay_channels_first(tmp_path):
    """The layout that the CPU backend wants is no part of the model."""
    from tessel.tools import cli

    source, path = tmp_path / "m.onnx", tmp_path / "out.onnx"
    inputs = "float[1,2,8,8] x, float[4,2,3,3] w"
    onnx.save(model("y = Conv(x, w)", inputs=inputs, outputs="float[1,4,6,6] y"), source)
    with pytest.raises(SystemExit, match="0"):
        cli.main(["compile", str(source), "--emit", "onnx", "-o", str(path)])
    assert [n.op_type for n in onnx.load(path).graph.node] == ["Conv"]


# -- lists and optionals ----------------------------------------------------------------------

LISTS = {
    "a list given": ("s = SplitToSequence <axis = 0> (x, n)", "float[4,2] x", "seq(float[2,2]) s"),
    "an empty list": (
        "s = SequenceEmpty <dtype = 1> () y = Relu(x)",
        "float[4,2] x",
        "seq(float[a]) s, float[4,2] y",
    ),
    "an optional given": (
        "h = Relu(x) s = Optional(h) z = SequenceConstruct(x, h)",
        "float[4,2] x",
        "optional(float[4,2]) s, seq(float[4,2]) z",
    ),
}


@pytest.mark.parametrize("case", LISTS)
def test_lists_are_put_together(case):
    body, inputs, outputs = LISTS[case]
    proto = model(f"n = Constant <value_int = 2> () {body}", inputs=inputs, outputs=outputs)
    x = rand(4, 2)
    got, want = (by_onnxruntime(p, {"x": x}) for p in (tessel.to_onnx(proto), proto))
    assert difference(got, want, 0, 0) is None


def test_lists_are_taken_apart():
    nodes = "i = Constant <value_int = 1> () a = SequenceAt(xs, i) y = Add(a, x)"
    proto = model(nodes, inputs="seq(float[2]) xs, float[2] x", outputs="float[2] y")
    written = write(read(proto, structures={"xs": (1, 1)}))
    inputs = {"xs": [rand(2), rand(2, seed=1)], "x": rand(2, seed=2)}
    assert_equal(by_onnxruntime(written, inputs), by_onnxruntime(proto, inputs))
