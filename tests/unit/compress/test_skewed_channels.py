"""A net like MobileNet whose channels differ so much that one scale per tensor breaks it.

The search finds what has to stay; with cross-layer equalization, or with biases that take back what
rounding shifts, nothing has to.
"""

import numpy as np
import pytest
import tessel
from tessel.compiler.ir.builder import Builder

RNG = np.random.default_rng(0)
X = RNG.standard_normal((96, 3, 8, 8)).astype(np.float32)
CHANNELS = 16
PER_TENSOR = tessel.Recipe(granularity="tensor", observer="minmax", small=0, bias_correction=False)


def skewed() -> tessel.Graph:
    """f32[N,3,8,8] -> f32[N,8]: a convolution and three pairs, depthwise and pointwise; sizes of
    channels are a thousand to one in between, and even again behind."""
    b = Builder()

    def conv(name, x, outputs, taps, group=1, before=1.0, after=1.0):
        b.origin = name
        w = RNG.standard_normal((outputs, x.shape[1] // group, taps, taps))
        w *= np.sqrt(2 / w[0].size) * np.reshape(after, (-1, 1, 1, 1))
        w /= np.reshape(before, (1, -1, 1, 1) if group == 1 else (-1, 1, 1, 1))
        return b.relu(b.conv(x, w.astype(np.float32), pads=(taps // 2,) * 4, group=group))

    x = conv("stem", b.input("x", "f32[N,3,8,8]"), CHANNELS, 3)
    for i in range(3):
        sizes = RNG.permutation(np.geomspace(1, 1000, CHANNELS)) if i else 1.0
        x = conv(f"depthwise{i}", x, CHANNELS, 3, CHANNELS, after=sizes)
        x = conv(f"pointwise{i}", x, CHANNELS, 1, before=sizes)
    b.origin = "head"
    w = RNG.standard_normal((CHANNELS, 8)).astype(np.float32)
    b.output("y", x.mean(axes=(2, 3)) @ w)
    return b.graph


@pytest.fixture(scope="module")
def net():
    """The net, and how many answers are those of floats, in percent."""
    graph = skewed()
    answers = tessel.compile(graph)(X).argmax(1)
    return graph, lambda exe: 100 * float((exe(X).argmax(1) == answers).mean())


def test_int8_breaks_it_and_the_search_mends_it(net):
    graph, metric = net
    broken = tessel.quantize(graph, X, PER_TENSOR)
    assert metric(tessel.compile(broken)) < 80
    q = tessel.quantize(graph, X, PER_TENSOR, metric=metric, max_drop=5)
    measured = q.report.measured
    assert len(measured["evaluations"]) <= 8
    assert measured["metric after"] >= 95
    assert 0 < len(q.report.kept) < 8


@pytest.mark.parametrize("mend", [{"equalize": "cross-layer"}, {"bias_correction": "auto"}])
def test_a_recipe_mends_it_with_nothing_kept(net, mend):
    graph, metric = net
    recipe = tessel.Recipe.of(PER_TENSOR, **mend)
    q = tessel.quantize(graph, X, recipe, metric=metric, max_drop=5)
    assert q.report.kept == {}
    assert len(q.report.measured["evaluations"]) == 1


def test_too_few_evaluations_give_the_best_so_far_and_say_why(net):
    graph, metric = net
    q = tessel.quantize(graph, X, PER_TENSOR, metric=metric, max_drop=0, evaluations=2)
    assert len(q.report.measured["evaluations"]) == 2
    assert "falls by" in q.report.notes[-1] and "2 evaluations" in q.report.notes[-1]
