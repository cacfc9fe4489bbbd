"""Tiny ONNX models as text, run by the interpreter and by ONNX Runtime."""

import numpy as np
import onnx
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.verify import verify
from tessel.frontends.onnx.importer import read


def model(
    body: str,
    *,
    opset: int = 21,
    inputs: str = "float[2,3] x",
    outputs: str = "float[2,3] y",
    extra: str = "",
    functions: str = "",
) -> onnx.ModelProto:
    """A model of one graph: `extra` are further opset imports, `functions` model-local ones."""
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}{extra}]>\n'
        f"g ({inputs}) => ({outputs}) {{ {body} }}\n{functions}"
    )


def graph_of(proto, **arguments):
    """The verified Graph of a model."""
    graph = read(proto, **arguments)
    verify(graph)
    return graph


def ops(graph) -> list[str]:
    """The names of the ops that are left, constants aside."""
    return [n.op.name for n in graph.nodes if n.op.name != "constant"]


def run(proto, *arrays, **arguments) -> list:
    return interpret(graph_of(proto, **arguments), [np.asarray(a) for a in arrays])


def onnxruntime(proto, *arrays) -> list:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options)
    names = [i.name for i in session.get_inputs()]
    return session.run(None, dict(zip(names, (np.asarray(a) for a in arrays))))


def assert_agrees(proto, *arrays, rtol=1e-5, atol=1e-6) -> None:
    """Our numbers are ONNX Runtime's."""
    assert_equal(run(proto, *arrays), onnxruntime(proto, *arrays), rtol, atol)


def assert_equal(got: list, want: list, rtol=1e-5, atol=1e-6) -> None:
    assert len(got) == len(want)
    for g, w in zip(got, want):
        g, w = np.asarray(g), np.asarray(w)
        assert (g.dtype, g.shape) == (w.dtype, w.shape)
        np.testing.assert_allclose(g.astype(np.float64), w.astype(np.float64), rtol, atol)


def rand(*shape, dtype=np.float32, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
