"""The ai.onnx.preview.training domain: optimizers' steps, and gradients inside a model."""

import numpy as np
import onnx
import pytest
import tessel
from onnx import helper
from onnx.reference import ReferenceEvaluator
from tessel.compiler.errors import TesselError

from ...support.onnx_models import graph_of

DOMAIN = "ai.onnx.preview.training"
TRAINING = f', "{DOMAIN}": 1, "local": 1'
KIND = {"float32": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE}


def optimizer(op, dtype, states, **attrs):
    """A model of two tensors, and its inputs."""
    rng = np.random.default_rng(3)
    groups = ["x", "g", *(f"s{i}" for i in range(states))]
    names = [f"{group}{k}" for group in groups for k in (0, 1)]
    shapes = [(2, 3), (4,)] * len(groups)
    arrays = [rng.uniform(0.1, 1, shape).astype(dtype) for shape in shapes]
    outputs = [f"new_{name}" for name in names if name[0] != "g"]
    node = helper.make_node(op, ["R", "T", *names], outputs, domain=DOMAIN, **attrs)
    values = helper.make_tensor_value_info
    ins = [values("R", KIND[dtype], []), values("T", onnx.TensorProto.INT64, [])]
    ins += [values(n, KIND[dtype], s) for n, s in zip(names, shapes)]
    outs = [values(n, KIND[dtype], None) for n in outputs]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    graph = helper.make_graph([node], "g", ins, outs)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), dict(zip(names, arrays))


@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("op", "states", "attrs"),
    [
        ("Adagrad", 1, {"norm_coefficient": 0.01, "decay_factor": 0.1, "epsilon": 1e-3}),
        (
            "Adam",
            2,
            {"alpha": 0.8, "beta": 0.9, "norm_coefficient": 0.1, "norm_coefficient_post": 0.05},
        ),
        ("Momentum", 1, {"alpha": 0.9, "beta": 0.7, "norm_coefficient": 0.1, "mode": "standard"}),
        ("Momentum", 1, {"alpha": 0.9, "beta": 0.7, "norm_coefficient": 0.0, "mode": "nesterov"}),
    ],
)
def test_steps_of_optimizers(op, states, attrs, dtype, steps):
    proto, arrays = optimizer(op, dtype, states, **attrs)
    inputs = {"R": np.array(0.3, dtype), "T": np.array(steps)} | arrays
    got = list(tessel.compile(proto, threads=1, strict=True).run(inputs).values())
    for y, want in zip(got, ReferenceEvaluator(proto).run(None, inputs), strict=True):
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


def model(text, inputs="float[2,3] x, float[3,2] w", outputs="float[3,2] dw", weights=""):
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18{TRAINING}]>\n'
        f"g ({inputs}) => ({outputs}) {weights} {{ {text} }}"
    )


def run(proto, **inputs) -> list:
    return list(tessel.compile(proto, threads=1).run(inputs).values())


X = np.arange(6, dtype=np.float32).reshape(2, 3) / 5 - 0.5
W = np.array([[0.1, -0.4], [0.3, 0.2], [-0.5, 0.6]], np.float32)


def gradient(outputs, inputs, xs, y, zs=()) -> str:
    quoted = lambda names: ", ".join(f'"{n}"' for n in names)
    zs = f", zs = [{quoted(zs)}]" if zs else ""
    return f'{outputs} = {DOMAIN}.Gradient<xs = [{quoted(xs)}]{zs}, y = "{y}">({inputs})'


def test_the_gradient_of_a_sum():
    text = f"h = MatMul(x, w) y = Tanh(h) {gradient('dw', 'w, x', 'w', 'y', 'x')}"
    expected = X.T @ (1 - np.tanh(X @ W) ** 2)
    np.testing.assert_allclose(run(model(text), x=X, w=W)[0], expected, rtol=1e-5)


def test_a_weight_of_the_file_has_a_gradient():
    text = f"s = Mul(w, w) h = MatMul(x, s) {gradient('dw', 'w, x', 'w', 'h', 'x')}"
    weights = "<float[3,2] w = {0.1, -0.4, 0.3, 0.2, -0.5, 0.6}>"
    proto = model(text, inputs="float[2,3] x", weights=weights)
    expected = 2 * W * X.sum(0)[:, None]
    np.testing.assert_allclose(run(proto, x=X)[0], expected, rtol=1e-5)


def test_the_gradient_at_other_values():
    """The operands say where: at 2w, not at w."""
    text = f"two = Add(w, w) y = Mul(w, w) {gradient('dw', 'two', 'w', 'y')}"
    np.testing.assert_allclose(run(model(text), x=X, w=W)[0], 4 * W, rtol=1e-6)


def test_the_gradient_of_something_between():
    """y = exp(h) and h = w * w: dy/dh."""
    text = f"h = Mul(w, w) y = Exp(h) {gradient('dw', 'h', 'h', 'y')}"
    np.testing.assert_allclose(run(model(text), x=X, w=W)[0], np.exp(W * W), rtol=1e-5)


def test_the_gradient_of_a_gradient():
    first = gradient("d", "w", "w", "y")
    text = f"s = Mul(w, w) y = Mul(s, w) {first} {gradient('dw', 'w', 'w', 'd')}"
    np.testing.assert_allclose(run(model(text), x=X, w=W)[0], 6 * W, rtol=1e-5)


def test_what_does_not_depend_has_a_zero_gradient():
    text = f"y = Mul(x, x) {gradient('dw', 'w, x', 'w', 'y', 'x')}"
    assert not run(model(text), x=X, w=W)[0].any()


def test_one_step_of_training_is_one_model():
    """Forward, Gradient and Momentum: the loss falls."""
    text = f"""
        h = MatMul(x, w) e = Sub(h, t) e2 = Mul(e, e) loss = ReduceMean<keepdims = 0>(e2)
        {gradient("dw", "w, x, t", "w", "loss", "xt")}
        new_w, new_v = {DOMAIN}.Momentum<alpha = 0.9, beta = 1.0, norm_coefficient = 0.0,
                                         mode = "standard">(rate, step, w, dw, v)"""
    proto = model(
        text,
        outputs="float loss, float[3,2] new_w, float[3,2] new_v",
        inputs="float[2,3] x, float[3,2] w, float[2,2] t, float[3,2] v, float rate, int64 step",
    )
    step = tessel.compile(proto, threads=1)
    w, v, losses = W, np.zeros_like(W), []
    for turn in range(30):
        loss, w, v = step.run(
            {
                "x": X,
                "w": w,
                "t": np.ones((2, 2), np.float32),
                "v": v,
                "rate": np.float32(0.1),
                "step": np.int64(turn),
            }
        ).values()
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"y = Mul(w, w) {gradient('dw', 'w, x', 'w', 'y')}", "an operand per name"),
        (f"y = Mul(w, w) {gradient('dw', 'w', 'w', 'other')}", "no node before it makes"),
        (f"{gradient('dw', 'w', 'w', 'y')} y = Mul(w, w)", "no node before it makes"),
        (f"y = Mul(w, w) z = Cast<to = 7>(y) {gradient('dw', 'w', 'w', 'z')}", "only float"),
    ],
)
def test_wrong_gradients_are_refused(text, message):
    with pytest.raises(TesselError, match=message):
        graph_of(model(text))


def test_wrong_optimizers_are_refused():
    proto, _ = optimizer(
        "Momentum", "float32", 1, alpha=0.9, beta=1.0, norm_coefficient=0.0, mode="fast"
    )
    with pytest.raises(TesselError, match="unknown mode"):
        graph_of(proto)
    proto, _ = optimizer("Adagrad", "float32", 2)
    with pytest.raises(TesselError, match="all tensors, all gradients"):
        graph_of(proto)
