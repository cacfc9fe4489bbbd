"""Optimizers against numpy in f64, their schedules, and steps that must not go on."""

import numpy as np
import pytest
from tessel.compiler.errors import TesselError, UsageError
from tessel.runtime.training import optimizers
from tessel.runtime.training.step import step_graph
from tessel.runtime.training.trainer import Trainer

from ...support.interpreted import Interpreted
from .test_training import descend, line_data, line_graph, line_values

P0 = np.array([1.0, -2.0, 0.5], np.float32)
GRADIENTS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
B1, B2 = 0.9, 0.999


def adamax(p, g, s, t, lr):
    m = s["m"] = B1 * s.get("m", 0) + (1 - B1) * g
    u = s["u"] = np.maximum(B2 * s.get("u", 0), abs(g) + 1e-8)
    return p - lr / (1 - B1**t) * m / u


def nadam(p, g, s, t, lr):
    m = s["m"] = B1 * s.get("m", 0) + (1 - B1) * g
    v = s["v"] = B2 * s.get("v", 0) + (1 - B2) * g * g
    ahead = B1 * m / (1 - B1 ** (t + 1)) + (1 - B1) * g / (1 - B1**t)
    return p - lr * ahead / (np.sqrt(v / (1 - B2**t)) + 1e-8)


def lamb(p, g, s, t, lr):
    m = s["m"] = B1 * s.get("m", 0) + (1 - B1) * g
    v = s["v"] = B2 * s.get("v", 0) + (1 - B2) * g * g
    r = m / (1 - B1**t) / (np.sqrt(v / (1 - B2**t)) + 1e-6) + 0.01 * p
    return p - lr * np.linalg.norm(p) / np.linalg.norm(r) * r


def rmsprop(p, g, s, t, lr):
    g = g + 0.1 * p
    v = s["v"] = 0.99 * s.get("v", 0) + 0.01 * g * g
    d = s["d"] = 0.8 * s.get("d", 0) + g / (np.sqrt(v) + 1e-8)
    return p - lr * d


def adagrad(p, g, s, t, lr):
    total = s["sum"] = s.get("sum", 0) + g * g
    return p - lr * g / (np.sqrt(total) + 1e-10)


def adadelta(p, g, s, t, lr):
    v = s["v"] = 0.9 * s.get("v", 0) + 0.1 * g * g
    d = np.sqrt(s.get("u", 0) + 1e-6) / np.sqrt(v + 1e-6) * g
    s["u"] = 0.9 * s.get("u", 0) + 0.1 * d * d
    return p - lr * d


def lion(p, g, s, t, lr):
    m = s.get("m", 0)
    s["m"] = 0.99 * m + 0.01 * g
    return p - lr * (np.sign(0.9 * m + 0.1 * g) + 0.1 * p)


def muon(p, g, s, t, lr):
    m = s["m"] = 0.95 * s.get("m", 0) + g
    return p - lr * (g + 0.95 * m)


TABLE = {
    "Adamax": (adamax, {}),
    "Nadam": (nadam, {}),
    "LAMB": (lamb, {}),
    "RMSprop": (rmsprop, {"momentum": 0.8, "weight_decay": 0.1}),
    "Adagrad": (adagrad, {}),
    "Adadelta": (adadelta, {}),
    "Lion": (lion, {"weight_decay": 0.1}),
    "Muon": (muon, {}),
}


@pytest.mark.parametrize("name", TABLE)
def test_an_optimizer_is_its_equation(name):
    step, options = TABLE[name]
    p, state = P0.astype(np.float64), {}
    for t, g in enumerate(GRADIENTS.astype(np.float64), 1):
        p = step(p, g, state, t, 0.1)
    found = descend(getattr(optimizers, name)(0.1, **options), P0, GRADIENTS)
    np.testing.assert_allclose(found, p, rtol=1e-4)


def test_every_optimizer_is_checked():
    made = {
        n
        for n in optimizers.__all__
        if isinstance(getattr(optimizers, n), type) and n != "Optimizer"
    }
    assert made == set(TABLE) | {"SGD", "Adam", "AdamW"}


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (4, 2, 3)])
def test_muon_makes_steps_orthogonal(shape):
    from tessel.compiler.ir.builder import Builder
    from tessel.compiler.ir.interpret import interpret

    b, optimizer = Builder(), optimizers.Muon(1.0)
    dims = ",".join(map(str, shape))
    p, g, m = (b.input(n, f"f32[{dims}]") for n in "pgm")
    new, _ = optimizer.update(b, p, g, [m], b.scalar(1, "f32"), b.scalar(1, "i64"))
    b.output("new", new)
    zero = np.zeros(shape, np.float32)
    given = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    step = -interpret(b.graph, [zero, given, zero])[0].reshape(shape[0], -1)
    values = np.linalg.svd(step, compute_uv=False) / max(1, step.shape[0] / step.shape[1]) ** 0.5
    assert (values > 0.6).all() and (values < 1.3).all()


def test_schedules():
    o = optimizers
    at = lambda f, *steps: [round(f(t), 6) for t in steps]
    assert at(o.constant(0.5), 0, 9) == [0.5, 0.5]
    assert at(o.cosine(1.0, 10, warmup=2, end=0.2), 0, 1, 2, 6, 10, 99) == [
        *(0.5, 1.0, 1.0, 0.6, 0.2, 0.2),
    ]
    assert at(o.linear(1.0, 10, end=0.5), 0, 5, 10, 20) == [1.0, 0.75, 0.5, 0.5]
    assert at(o.steps(1.0, every=3), 0, 2, 3, 6) == [1, 1, 0.1, 0.01]
    assert at(o.exponential(1.0, 0.5, every=2), 0, 2, 4) == [1, 0.5, 0.25]
    assert at(o.one_cycle(1.0, 10, rise=0.4), 0, 2, 4, 7, 10) == [0.04, 0.52, 1.0, 0.500002, 4e-6]
    assert at(o.warm_up(o.steps(1.0, 6), 4), 0, 3, 5, 6) == [0.25, 1.0, 1.0, 0.1]
    assert at(o.warm_up(2.0, 4), 0, 9) == [0.5, 2.0]


def test_clip_value_bounds_each_element():
    graph = step_graph(line_graph(), optimizers.SGD(1.0), ["w", "b"], clip_value=0.125)
    x, y = line_data()
    feeds = {"x": x, "y": y, "learning_rate": np.float32(1), "optimizer.step": np.asarray(0)}
    results = Interpreted(graph).run(line_values() | feeds)
    np.testing.assert_allclose(np.abs(results["new.w"]), 0.125)


def trainer(**options):
    sgd = optimizers.SGD(0.1)
    return Trainer(line_graph(), line_values(), sgd, compile=Interpreted, **options)


def test_a_loss_that_is_not_finite_ends_training():
    x, y = line_data(8)
    x[5] = np.nan
    for_ever = {"progress": False, "batch_size": 4}
    with pytest.raises(TesselError, match=r"the loss of step [12] is not finite"):
        trainer().fit((x, y), **for_ever)
    assert np.isnan(trainer(stop_at_nan=False).fit((x, y), **for_ever)[0]["loss"])


def test_what_is_loaded_goes_on_as_it_would_have(tmp_path):
    data, options = line_data(64), {"progress": False, "batch_size": 8}
    whole, first, second = trainer(), trainer(), trainer()
    whole.fit(data, epochs=4, **options)
    first.fit(data, epochs=3, **options)
    first.save(tmp_path / "a.safetensors")
    second.load(tmp_path / "a.safetensors")
    second.fit(data, **options)
    for n, v in whole.values.items():
        np.testing.assert_array_equal(v, second.values[n])


def test_groups_of_parameters_have_their_own_optimizer():
    groups = {"b*": optimizers.SGD(optimizers.steps(0.5, 1), momentum=0.9)}
    t, plain = trainer(groups=groups), trainer()
    assert "optimizer.b.momentum" in t.values and "optimizer.w.momentum" not in t.values
    x, y = line_data(8)
    for one in (t, plain):
        one.step({"x": x, "y": y})
    np.testing.assert_array_equal(t.values["w"], plain.values["w"])
    np.testing.assert_allclose(t.values["b"], plain.values["b"] * 5, rtol=1e-6)
    with pytest.raises(UsageError, match="no parameter matches 'v'"):
        trainer(groups={"v": optimizers.SGD(0.1)})
