"""Training and traced functions through the real compiler; the digits example."""

import subprocess
import sys

import numpy as np
import pytest
import tessel
from tessel.compiler.ir.interpret import interpret
from tessel.frontends import native
from tessel.frontends.native import functional as F
from tessel.runtime.training.optimizers import SGD, Adam
from tessel.runtime.training.trainer import Trainer


def small_model():
    return native.Sequential(
        native.Conv2d(1, 4, 3, padding=1, bias=False),
        native.BatchNorm2d(4),
        native.ReLU(),
        native.MaxPool2d(2),
        native.Flatten(),
        native.Linear(4 * 3 * 3, 16),
        native.GELU(),
        native.LayerNorm(16),
        native.Linear(16, 3),
    )


def make_trainer(optimizer, **options):
    model = small_model()
    train, evaluation = native.training_graphs(
        model, native.cross_entropy, {"accuracy": native.accuracy}, x="f32[N,1,6,6]", y="i64[N]"
    )
    values = native.flat_values(model.init(np.random.default_rng(0)), model.init_state())
    return Trainer(train, values, optimizer, evaluation=evaluation, **options)


RNG = np.random.default_rng(3)
BATCH = {"x": RNG.normal(size=(8, 1, 6, 6)).astype(np.float32), "y": RNG.integers(0, 3, 8)}


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(1e-2)], ids=["sgd", "adam"])
def test_a_compiled_step_is_the_interpreted_one(optimizer):
    trainer = make_trainer(optimizer, clip_norm=1.0)
    names = [v.name for v in trainer.graph.inputs]
    feeds = {n: v.copy() for n, v in trainer.values.items()} | BATCH
    for _ in range(3):
        feeds["learning_rate"] = np.asarray(optimizer.lr, np.float32)
        results = interpret(trainer.graph, [feeds[n] for n in names])
        for o, i in trainer.graph.updates.items():
            feeds[names[i]] = results[o]
        loss = results[trainer.graph.output_names.index("loss")]
        assert trainer.step(BATCH)["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert trainer.steps == 3
    for name, value in trainer.values.items():
        np.testing.assert_allclose(value, feeds[name], rtol=2e-3, atol=2e-4, err_msg=name)


def test_parameters_are_updated_in_place():
    trainer = make_trainer(SGD(0.1))
    trainer.step(BATCH)
    before = dict(trainer.values)
    copies = {n: v.copy() for n, v in before.items()}
    trainer.step(BATCH)
    for name in trainer.parameters:
        assert trainer.values[name] is before[name]
        assert (trainer.values[name] != copies[name]).any(), name


def test_jit_and_grad_of_the_face():
    def loss(w, x):
        return (F.tanh(x @ w) ** 2).mean()

    w, x = RNG.normal(size=(3, 2)).astype(np.float32), RNG.normal(size=(4, 3)).astype(np.float32)
    value, d = tessel.value_and_grad(loss)(w, x)
    y = np.tanh(x @ w)
    np.testing.assert_allclose(value, (y * y).mean(), rtol=1e-5)
    expected = x.T @ (2 * y * (1 - y * y) / y.size)
    np.testing.assert_allclose(d, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tessel.jit(tessel.grad(loss))(w, x), d, rtol=1e-5)
    np.testing.assert_allclose(
        tessel.grad(tessel.grad(lambda x: F.exp(x) * x))(1.0), 3 * np.e, rtol=1e-5
    )


def test_gradients_of_the_face():
    graph = native.trace(lambda x, w: (x @ w).sum(), "f32[N,3]", "f32[3,2]")
    exe = tessel.compile(tessel.gradients(graph, wrt=["x", "w"]))
    x, w = np.ones((5, 3), np.float32), RNG.normal(size=(3, 2)).astype(np.float32)
    results = exe.run({"x": x, "w": w})
    assert list(results) == ["out", "d_x", "d_w"]
    np.testing.assert_allclose(results["d_x"], np.tile(w.sum(1), (5, 1)), rtol=1e-5)
    np.testing.assert_allclose(results["d_w"], np.full((3, 2), 5.0), rtol=1e-6)


def test_regions_are_compiled():
    @native.custom_gradient
    def straight_through(x):
        return F.round(x), lambda dy: dy

    x = np.array([0.2, 1.7, -3.4], np.float32)
    d = tessel.grad(lambda x: (straight_through(x) * x).sum())(x)
    np.testing.assert_allclose(d, x + np.round(x), rtol=1e-6)
    f = tessel.jit(lambda c, x: native.cond(c, lambda: x * 2, lambda: -x))
    np.testing.assert_array_equal(f(True, x), x * 2)
    np.testing.assert_array_equal(f(False, x), -x)
    total, sums = tessel.jit(lambda x: native.scan(lambda s, v: (s + v, s * v), x[0] * 0, x))(x)
    np.testing.assert_allclose(total, x.sum(), rtol=1e-6)
    np.testing.assert_allclose(sums, (x.cumsum() - x) * x, rtol=1e-5, atol=1e-6)


# -- the example ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_digits_example_trains_and_writes_a_model(root, tmp_path):
    pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
    out = tmp_path / "digits.onnx"
    command = [sys.executable, root / "examples" / "train_digits.py", "--out", out, "--epochs", "8"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "held out: accuracy 9" in done.stdout and out.is_file()


def test_the_shipped_model_reads_digits(root):
    datasets = pytest.importorskip("sklearn.datasets", reason="the digits come from scikit-learn")
    digits = datasets.load_digits()
    exe = tessel.compile(root / "examples" / "models" / "digits.onnx")
    assert [str(p) for p in (*exe.inputs, *exe.outputs)] == [
        "image: f32[N,1,8,8]",
        "logits: f32[N,10]",
    ]
    x = (digits.images[:256, None] / 16).astype(np.float32)
    assert (exe(x).argmax(1) == digits.target[:256]).mean() >= 0.97
