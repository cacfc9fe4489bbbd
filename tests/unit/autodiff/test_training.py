"""Training: optimizers against numpy, the step graph, the trainer, checkpoints."""

import numpy as np
import pytest
from tessel.compiler.errors import InputError, ModelError, UsageError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.frontends import native
from tessel.frontends.native import functional as F
from tessel.runtime.training.optimizers import SGD, Adam, AdamW, cosine
from tessel.runtime.training.step import restrict, step_graph
from tessel.runtime.training.trainer import Trainer

from ...support.interpreted import Interpreted


def descend(optimizer, p, gradients):
    """`p` after one update per gradient, by the optimizer's graph."""
    b = Builder()
    inputs = [b.input("p", "f32[3]"), b.input("g", "f32[3]")]
    slots = [b.input(s, "f32[3]") for s in optimizer.slots]
    lr, step = b.input("lr", "f32[]"), b.input("step", "i64[]")
    new, new_slots = optimizer.update(b, *inputs, slots, lr, step)
    for i, v in enumerate([new, *new_slots]):
        b.output(f"out{i}", v)
    state = list(optimizer.init_state({"p": p}).values())
    for t, g in enumerate(gradients):
        rate = np.float32(optimizer.learning_rate(t))
        p, *state = interpret(b.graph, [p, g, *state, np.asarray(rate), np.asarray(t + 1)])
    return p


P0 = np.array([1.0, -2.0, 0.5], np.float32)
GRADIENTS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def test_sgd_without_momentum():
    expected = P0 - 0.1 * GRADIENTS.sum(0)
    np.testing.assert_allclose(descend(SGD(0.1), P0, GRADIENTS), expected, rtol=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_momentum_and_weight_decay(nesterov):
    p, v = P0.astype(np.float64), 0.0
    for g in GRADIENTS:
        g = g + 0.01 * p
        v = 0.9 * v + g
        p = p - 0.1 * (g + 0.9 * v if nesterov else v)
    optimizer = SGD(0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    np.testing.assert_allclose(descend(optimizer, P0, GRADIENTS), p, rtol=1e-5)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam(decoupled):
    p, m, v = P0.astype(np.float64), 0.0, 0.0
    for t, g in enumerate(GRADIENTS.astype(np.float64), 1):
        decay = 0.01 * p
        g = g if decoupled else g + decay
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        change = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        p = p - 0.1 * (change + decay if decoupled else change)
    optimizer = (AdamW if decoupled else Adam)(0.1, weight_decay=0.01)
    np.testing.assert_allclose(descend(optimizer, P0, GRADIENTS), p, rtol=1e-4)


def test_a_schedule_does_not_change_the_graph():
    halving = SGD(lambda step: 0.1 / 2**step)
    expected = P0 - sum(0.1 / 2**t * g for t, g in enumerate(GRADIENTS))
    np.testing.assert_allclose(descend(halving, P0, GRADIENTS), expected, rtol=1e-5)


def test_cosine_warms_up_and_falls_to_zero():
    at = cosine(1.0, steps=10, warmup=2)
    assert [at(0), at(1), at(2)] == [0.5, 1.0, 1.0]
    assert at(10) == pytest.approx(0.0)
    assert at(5) > at(6)


def test_half_precision_parameters_are_updated_in_f32():
    b = Builder()
    p, g = b.input("p", "f16[2]"), b.input("g", "f16[2]")
    optimizer = SGD(0.1, momentum=0.9)
    slot = b.input("v", "f32[2]")
    new, [v] = optimizer.update(b, p, g, [slot], b.input("lr", "f32[]"), b.input("step", "i64[]"))
    assert str(new.type) == "f16[2]" and str(v.type) == "f32[2]"
    assert optimizer.init_state({"p": "f16[2]"})["p.momentum"].dtype == np.float32


def test_a_negative_setting_is_refused():
    with pytest.raises(UsageError, match=r"SGD: lr must not be negative"):
        SGD(-0.1)


# -- the step graph --------------------------------------------------------------------------


def line_graph():
    """loss = mean((x w + b - y)^2)"""

    def loss(w, b, x, y):
        return {"loss": native.mse(x @ w + b, y)}

    graph = native.trace(loss, "f32[2]", "f32[]", "f32[N,2]", "f32[N]")
    graph.output_names = ["loss"]
    return graph


def line_data(count=64):
    x = np.random.default_rng(1).normal(size=(count, 2)).astype(np.float32)
    return x, (x @ np.array([2.0, -1.0], np.float32) + 0.5).astype(np.float32)


def line_values():
    return {"w": np.zeros(2, np.float32), "b": np.zeros((), np.float32)}


def test_the_step_graph_updates_what_it_reads():
    graph = step_graph(line_graph(), SGD(0.1, momentum=0.9), ["w", "b"])
    names = [v.name for v in graph.inputs]
    assert names == [
        "w",
        "b",
        "x",
        "y",
        "learning_rate",
        "optimizer.step",
        "optimizer.w.momentum",
        "optimizer.b.momentum",
    ]
    pairs = {graph.output_names[i]: names[j] for i, j in graph.updates.items()}
    assert pairs == {f"new.{n}": n for n in names if n.startswith("optimizer") or n in "wb"}
    for i, j in graph.updates.items():
        assert graph.outputs[i].type == graph.inputs[j].type


def test_clip_norm_bounds_the_step():
    graph = step_graph(line_graph(), SGD(1.0), ["w", "b"], clip_norm=0.5)
    x, y = line_data()
    feeds = line_values() | {
        "x": x,
        "y": y,
        "learning_rate": np.asarray(1.0, np.float32),
        "optimizer.step": np.asarray(0),
    }
    results = Interpreted(graph).run(feeds)
    norm = np.sqrt((results["new.w"] ** 2).sum() + results["new.b"] ** 2)
    assert norm == pytest.approx(0.5, rel=1e-4)


def test_a_wrong_name_is_refused():
    with pytest.raises(UsageError, match="no output 'cost'"):
        step_graph(line_graph(), SGD(0.1), ["w"], loss="cost")
    with pytest.raises(UsageError, match="no input v"):
        step_graph(line_graph(), SGD(0.1), ["v"])


# -- the trainer -----------------------------------------------------------------------------


def line_trainer(**options):
    return Trainer(line_graph(), line_values(), SGD(0.1), compile=Interpreted, **options)


def test_a_line_is_fitted():
    trainer = line_trainer()
    history = trainer.fit(line_data(), epochs=20, batch_size=16, progress=False)
    assert len(history) == 20 and trainer.steps == 80
    assert history[-1]["loss"] < 1e-3 < history[0]["loss"]
    np.testing.assert_allclose(trainer.values["w"], [2, -1], atol=0.05)
    np.testing.assert_allclose(trainer.values["b"], 0.5, atol=0.05)


def test_frozen_parameters_keep_their_values():
    trainer = line_trainer(frozen=["b"])
    trainer.fit(line_data(), epochs=2, progress=False)
    assert trainer.values["b"] == 0 and trainer.values["w"].any()
    with pytest.raises(UsageError, match=r"no parameter matches 'c\*'"):
        line_trainer(frozen=["c*"])


def test_the_callers_arrays_are_not_written():
    values = line_values()
    trainer = Trainer(line_graph(), values, SGD(0.1), compile=Interpreted)
    trainer.fit(line_data(), progress=False)
    assert not values["w"].any()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"x": np.zeros((4, 2), np.float32)}, "does not fit"),
        ((np.zeros((4, 2), np.float32), np.zeros(3, np.float32)), "one length"),
        ((np.zeros((0, 2), np.float32), np.zeros(0, np.float32)), "above 0"),
    ],
)
def test_data_that_does_not_fit_is_refused(data, message):
    with pytest.raises(InputError, match=message):
        line_trainer().fit(data, progress=False)


def test_a_checkpoint_continues_exactly(tmp_path):
    first, data = line_trainer(), dict(zip("xy", line_data()))
    first.step(data)
    first.save(tmp_path / "line.safetensors")
    second = line_trainer()
    second.load(tmp_path / "line.safetensors")
    assert second.steps == 1
    assert first.step(data) == second.step(data)
    assert [f.name for f in tmp_path.iterdir()] == ["line.safetensors"]


def test_a_foreign_checkpoint_is_refused(tmp_path):
    path = tmp_path / "line.safetensors"
    line_trainer().save(path)
    adam = Trainer(line_graph(), line_values(), Adam(0.1), compile=Interpreted)
    with pytest.raises(ModelError, match=r"another model or optimizer[\s\S]*optimizer\.w\.m\b"):
        adam.load(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelError, match="cannot be read"):
        adam.load(path)


# -- a model ---------------------------------------------------------------------------------


def small_model():
    return native.Sequential(
        native.Conv2d(1, 4, 3, padding=1),
        native.BatchNorm2d(4),
        native.ReLU(),
        native.MaxPool2d(2),
        native.Flatten(),
        native.Linear(4 * 2 * 2, 2),
    )


def stripes(count=32):
    """Images of rows (label 0) or columns (label 1), with noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, count)
    rows = np.tile([[1.0], [-1.0]], (2, 4))
    x = np.where(y[:, None, None], rows.T, rows) + rng.normal(size=(count, 4, 4)) * 0.3
    return x[:, None].astype(np.float32), y


@pytest.fixture
def trained():
    model = small_model()
    train, evaluation = native.training_graphs(
        model, native.cross_entropy, {"accuracy": native.accuracy}, x="f32[N,1,4,4]", y="i64[N]"
    )
    params = model.init(np.random.default_rng(0))
    values = native.flat_values(params, model.init_state())
    trainer = Trainer(train, values, Adam(1e-2), compile=Interpreted, evaluation=evaluation)
    history = trainer.fit(
        stripes(), epochs=25, batch_size=16, validation=stripes(10), progress=False
    )
    return model, params, trainer, history


def test_a_model_learns(trained):
    model, params, trainer, history = trained
    assert history[-1]["accuracy"] == 1.0 and history[-1]["loss"] < history[0]["loss"] / 2
    assert history[-1]["validation_accuracy"] == 1.0
    assert trainer.evaluate(stripes(), batch_size=20)["accuracy"] == 1.0
    x, y = stripes()
    prediction = trainer.predict(x, batch_size=20)
    assert (prediction.argmax(1) == y).all()

    state = native.nested_values(trainer.values, model.init_state(), "state")
    assert state["1"]["mean"].any()  # the running mean has moved
    graph = native.to_graph(
        model, native.nested_values(trainer.values, params), "f32[N,1,4,4]", state=state
    )
    np.testing.assert_allclose(interpret(graph, [x])[0], prediction, rtol=1e-4, atol=1e-5)


def test_the_progress_bar_shows_loss_and_accuracy(trained, capsys):
    trained[2].fit(stripes(), epochs=1, batch_size=16)
    shown = capsys.readouterr().out
    assert "epoch 1/1" in shown and "loss" in shown and "accuracy" in shown and "2/2" in shown


def test_predicting_needs_the_evaluation_graph():
    with pytest.raises(UsageError, match="without a graph for evaluation"):
        line_trainer().predict(np.zeros((1, 2), np.float32))


def test_restrict_keeps_what_an_output_needs():
    graph = native.trace(lambda x, y: {"a": F.exp(x), "b": F.exp(x) + y}, "f32[2]", "f32[2]")
    part = restrict(graph, "out.a")
    assert [v.name for v in part.inputs] == ["x"]
    assert [n.op.name for n in part.nodes] == ["exp"]
