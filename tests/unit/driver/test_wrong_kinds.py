"""Arguments of public functions that are of another kind: what is said of them, and the fix."""

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import InternalError, TesselError, UsageError
from tessel.compiler.ir.builder import Builder


def graph():
    b = Builder()
    b.output("loss", b.relu(b.input("x", "f32[]")))
    return b.graph


def function(x):
    return x


GRAPH = graph()
SGD = tessel.optimizers.SGD(0.1)
MODEL = "a path, the bytes of a file, a ModelProto or a Graph"
JIT = "tessel.jit(f), or tessel.native.trace(f, …) and compile its graph"


@pytest.mark.parametrize(
    "entrance", [tessel.compile, tessel.read, tessel.from_onnx, tessel.to_onnx]
)
@pytest.mark.parametrize(
    ("model", "received", "fix"),
    [
        (function, "function function", JIT),
        (len, "builtin_function_or_method len", JIT),
        (None, "NoneType", None),
        (3, "int 3", None),
        ([GRAPH], "list", None),
        (np.zeros((2, 3), np.float32), "ndarray float32[2, 3]", None),
    ],
)
def test_what_is_no_model(entrance, model, received, fix):
    with pytest.raises(UsageError, match="this is no model") as caught:
        entrance(model)
    error = caught.value
    assert error.expected == MODEL and error.received.startswith(received) and error.fix == fix


def test_what_is_compiled_already_is_no_model():
    with pytest.raises(UsageError, match="compiled already"):
        tessel.compile(tessel.compile(GRAPH, target="numpy"))


CALLS = {
    "compile shapes": lambda: tessel.compile(GRAPH, shapes="x:1x3"),
    "compile shapes of": lambda: tessel.compile(GRAPH, shapes={"x": 3}),
    "compile a shape's size": lambda: tessel.compile(GRAPH, shapes={"x": (1.5,)}),
    "compile target": lambda: tessel.compile(GRAPH, target=None),
    "compile cache": lambda: tessel.compile(GRAPH, cache=3),
    "compile threads": lambda: tessel.compile(GRAPH, threads="2"),
    "compile observer": lambda: tessel.compile(GRAPH, observer=3),
    "compile progress": lambda: tessel.compile(GRAPH, progress="yes"),
    "compile tune": lambda: tessel.compile(GRAPH, tune="long"),
    "compile limits": lambda: tessel.compile(GRAPH, limits=3),
    "compile dims": lambda: tessel.compile(GRAPH, dims=["check"]),
    "compile passes": lambda: tessel.compile(GRAPH, passes=["fold_constants"]),
    "read shapes": lambda: tessel.read(GRAPH, [1, 3]),
    "read values": lambda: tessel.read(b"", values=[1, 3]),
    "load a number": lambda: tessel.load(3),
    "load a graph": lambda: tessel.load(GRAPH),
    "load trust": lambda: tessel.load("m.tsl", trust=3),
    "load cache": lambda: tessel.load("m.tsl", cache=3),
    "save": lambda: tessel.compile(GRAPH, target="numpy").save(3),
    "run": lambda: tessel.compile(GRAPH, target="numpy").run([1.0]),
    "to_onnx path": lambda: tessel.to_onnx(GRAPH, 3),
    "to_onnx opset": lambda: tessel.to_onnx(GRAPH, opset="21"),
    "gradients": lambda: tessel.gradients(function, wrt=["x"]),
    "gradients wrt": lambda: tessel.gradients(GRAPH, wrt=3),
    "jit": lambda: tessel.jit(GRAPH),
    "jit static_argnums": lambda: tessel.jit(function, static_argnums="x"),
    "jit static_argnums beyond": lambda: tessel.jit(function, static_argnums=7),
    "jit static_argnames": lambda: tessel.jit(function, static_argnames=3),
    "grad": lambda: tessel.grad(GRAPH),
    "grad argnums": lambda: tessel.grad(function, argnums="x"),
    "value_and_grad": lambda: tessel.value_and_grad(3),
    "custom_gradient": lambda: tessel.custom_gradient(3),
    "trace": lambda: tessel.native.trace(3, "f32[2]"),
    "Trainer": lambda: tessel.Trainer(function, {}, SGD),
    "Trainer values": lambda: tessel.Trainer(GRAPH, [1], SGD),
    "Trainer optimizer": lambda: tessel.Trainer(GRAPH, {}, "adam"),
    "Trainer optimizer's class": lambda: tessel.Trainer(GRAPH, {}, tessel.optimizers.Adam),
    "Trainer evaluation": lambda: tessel.Trainer(GRAPH, {}, SGD, evaluation=3),
    "Trainer compile": lambda: tessel.Trainer(GRAPH, {}, SGD, compile="cuda"),
    "an optimizer's rate": lambda: tessel.optimizers.SGD("fast"),
    "ops.check": lambda: tessel.ops.check(3),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_another_kind_of_argument_is_said_with_what_is_expected(call):
    with pytest.raises(TesselError) as caught:
        call()
    assert not isinstance(caught.value, InternalError)
    assert caught.value.expected is not None and caught.value.received is not None
