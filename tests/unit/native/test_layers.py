"""Modules, layers, initializers, losses and metrics of the native API."""

import numpy as np
import pytest
from tessel.compiler.errors import TypeMismatch, UsageError
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.verify import verify
from tessel.frontends import native
from tessel.frontends.native import functional as F

from ...support.interpreted import jit, value_and_grad

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def run(model, x, spec=None, **init):
    params = model.init(np.random.default_rng(0), **init)
    graph = native.to_graph(model, params, x if spec is None else spec)
    verify(graph)
    return params, interpret(graph, [x])[0]


IMAGES = np.random.default_rng(2).normal(size=(2, 4, 6, 6)).astype(np.float32)


def test_linear():
    p, y = run(native.Linear(3, 5), X)
    np.testing.assert_allclose(y, X @ p["weight"] + p["bias"], rtol=1e-5)
    p, y = run(native.Linear(3, 5, bias=False), X)
    assert list(p) == ["weight"] and y.shape == (4, 5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (native.Conv2d(4, 8, 3), (2, 8, 4, 4)),
        (native.Conv2d(4, 8, 3, padding="same"), (2, 8, 6, 6)),
        (native.Conv2d(4, 8, (3, 1), stride=2, padding=(1, 0), groups=2), (2, 8, 3, 3)),
        (native.Conv2d(4, 8, 3, dilation=2, bias=False), (2, 8, 2, 2)),
        (native.MaxPool2d(2), (2, 4, 3, 3)),
        (native.MaxPool2d(3, stride=2, padding=1), (2, 4, 3, 3)),
        (native.AvgPool2d((2, 3)), (2, 4, 3, 2)),
        (native.BatchNorm2d(4), (2, 4, 6, 6)),
        (native.LayerNorm((6, 6)), (2, 4, 6, 6)),
        (native.Flatten(), (2, 144)),
        (native.Sequential(native.GELU(), native.ReLU(), native.Tanh()), (2, 4, 6, 6)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, native.Module) else "",
)
def test_shapes_of_layers(layer, shape):
    assert run(layer, IMAGES)[1].shape == shape
    assert run(layer, IMAGES, "f32[N,4,6,6]")[1].shape == shape


def test_embedding_takes_rows():
    p, y = run(native.Embedding(7, 3), np.array([[1, 6]]))
    np.testing.assert_array_equal(y, p["weight"][[[1, 6]]])


def test_batch_norm_normalises_by_the_batch_and_keeps_statistics():
    layer = native.BatchNorm2d(4, momentum=0.5)
    params = layer.init(np.random.default_rng(0))

    @jit
    def step(state, x):
        return layer.apply(params, x, state=state, training=True)

    y, state = step(layer.init_state(), IMAGES)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 2, 3)), 1, atol=1e-3)
    np.testing.assert_allclose(state["mean"], IMAGES.mean((0, 2, 3)) / 2, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(state["variance"], (1 + IMAGES.var((0, 2, 3))) / 2, rtol=1e-4)


class Net(native.Module):
    def __init__(self):
        self.conv = native.Conv2d(4, 3, 3)
        self.head = native.Sequential(native.Flatten(), native.Linear(48, 2))

    def forward(self, s, x):
        return s.head(F.relu(s.conv(x)))


def test_a_module_names_its_parameters_by_attribute():
    model = Net()
    params, y = run(model, IMAGES)
    assert y.shape == (2, 2)
    flat = native.flat_values(params)
    assert sorted(flat) == [
        "params.conv.bias",
        "params.conv.weight",
        "params.head.1.bias",
        "params.head.1.weight",
    ]
    assert native.nested_values(flat, params)["head"]["1"]["bias"] is params["head"]["1"]["bias"]
    graph = native.to_graph(model, params, "f32[N,4,6,6]", input_name="image", output_name="logits")
    assert graph.inputs[0].name == "image" and graph.output_names == ["logits"]
    assert {v.name for v in graph.values()} >= {"conv.weight", "head.1.bias"}


def test_errors_of_modules_say_where():
    model, params = Net(), Net().init(np.random.default_rng(0))
    with pytest.raises(UsageError, match=r"Linear has no parameter 'weight'[\s\S]*head\.1"):
        native.to_graph(model, {"conv": params["conv"]}, IMAGES)
    with pytest.raises(TypeMismatch, match="called on traced tensors"):
        model(params, IMAGES)


# -- losses ------------------------------------------------------------------------------------


def test_cross_entropy_and_its_gradient():
    logits, labels = X.astype(np.float64), np.array([0, 2, 1, 1])
    value, d = value_and_grad(native.cross_entropy)(logits, labels)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(value, -np.log(p[np.arange(4), labels]).mean())
    np.testing.assert_allclose(d, (p - np.eye(3)[labels]) / 4, atol=1e-12)
    smooth = jit(lambda l, y: native.cross_entropy(l, y, label_smoothing=0.3))(logits, labels)
    target = np.eye(3)[labels] * 0.7 + 0.1
    np.testing.assert_allclose(smooth, -(np.log(p) * target).sum(1).mean())


def test_mse_and_accuracy():
    np.testing.assert_allclose(jit(native.mse)(X, X * 0), (X * X).mean(), rtol=1e-5)
    labels = X.argmax(1).astype(np.int32)
    labels[0] = (labels[0] + 1) % 3
    assert jit(native.accuracy)(X, labels) == 0.75


@pytest.mark.parametrize("name", ["he_normal", "he_uniform", "glorot_normal", "glorot_uniform"])
def test_initializers_have_their_variance(name):
    w = getattr(native, name)(np.random.default_rng(0), (200, 300), 200, 300)
    expected = 2 / 200 if name.startswith("he") else 2 / 500
    assert w.dtype == np.float32 and abs(w.var() / expected - 1) < 0.05


def test_sizes_of_windows_come_in_pairs():
    with pytest.raises(UsageError, match="images have two axes"):
        native.Conv2d(4, 8, (3, 3, 3))
    with pytest.raises(UsageError, match="unknown padding"):
        native.MaxPool2d(2, padding="valid")
