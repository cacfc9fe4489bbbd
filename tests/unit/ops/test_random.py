"""Random numbers: known answers of the generator, and the statistics of what is drawn with it."""

import math

import numpy as np
import onnx
import pytest
import tessel
from onnx import helper
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import dtype_of
from tessel.compiler.ops.random.philox import Numpy, words

N = 40_000


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_known_answers_of_its_paper(counter, key, answer):
    lift = lambda values: [np.array([v], np.uint64) for v in values]
    assert [int(w[0]) for w in words(Numpy, lift(counter), lift(key))] == answer


def draw(op, seed, **attrs):
    """What a compiled graph draws, its seed an input."""
    b = Builder()
    b.output("y", b.emit(op, b.input("seed", "i64[]"), **attrs))
    exe = tessel.compile(b.graph, threads=1)
    return exe.run({"seed": np.int64(seed)})["y"]


def kolmogorov_smirnov(x, distribution):
    """The largest distance between the samples' distribution and the wanted one, times sqrt(n)."""
    x = np.sort(x.astype(np.float64).reshape(-1))
    wanted, n = distribution(x), x.size
    steps = np.arange(1, n + 1) / n
    return math.sqrt(n) * max((steps - wanted).max(), (wanted - steps + 1 / n).max())


def normal_distribution(x):
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


LIMIT = 1.95  # exceeded by chance once in a thousand


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("seed", [0, 1, 2**40, -1])
def test_uniform_numbers_are_uniform(seed, dtype):
    x = draw("random_uniform", seed, shape=(N,), dtype=dtype)
    assert x.dtype == dtype_of(dtype).numpy
    assert x.min() >= 0
    assert x.max() < 1
    assert kolmogorov_smirnov(x, lambda v: v) < LIMIT
    assert np.unique(x).size > 0.99 * N


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("seed", [0, 1, 2**40, -1])
def test_normal_numbers_are_normal(seed, dtype):
    x = draw("random_normal", seed, shape=(N,), dtype=dtype).astype(np.float64)
    error = 4 / math.sqrt(N)
    assert abs(x.mean()) < error
    assert abs(x.var() - 1) < error * math.sqrt(2)
    assert abs((x**3).mean()) < error * math.sqrt(15)
    assert abs((x**4).mean() - 3) < error * math.sqrt(96)
    assert kolmogorov_smirnov(x, normal_distribution) < LIMIT


def test_mean_scale_and_limits_are_as_asked():
    x = draw("random_normal", 3, shape=(N,), mean=5.0, scale=0.25)
    assert abs(x.mean() - 5) < 0.01
    assert abs(x.std() - 0.25) < 0.01
    x = draw("random_uniform", 3, shape=(N,), low=-3.0, high=-1.0)
    assert -3 <= x.min() < -2.99
    assert -1.01 < x.max() < -1


@pytest.mark.parametrize(("a", "b"), [((1, 0), (2, 0)), ((1, 0), (1, 1)), ((0, 1), (1, 0))])
def test_seeds_and_streams_are_independent(a, b):
    x, y = (draw("random_normal", seed, shape=(N,), stream=stream) for seed, stream in (a, b))
    assert not np.array_equal(x, y)
    for lag in (0, 1, 7):
        assert abs(np.corrcoef(x[lag:], y[: N - lag])[0, 1]) < 4 / math.sqrt(N)


def test_neighbours_are_independent():
    x = draw("random_uniform", 5, shape=(N,))
    for lag in (1, 2, 3, 4, 64):
        assert abs(np.corrcoef(x[lag:], x[:-lag])[0, 1]) < 4 / math.sqrt(N)
    counts, _, _ = np.histogram2d(x[::2], x[1::2], bins=16)
    expected = N / 2 / 256
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert abs(statistic - 255) < 5 * math.sqrt(2 * 255)


def test_the_shape_and_the_threads_do_not_matter():
    flat = draw("random_normal", 9, shape=(600,))
    np.testing.assert_array_equal(flat.reshape(20, 30), draw("random_normal", 9, shape=(20, 30)))
    b = Builder()
    b.output("y", b.random_normal(b.input("seed", "i64[]"), shape=(600,)))
    exe = tessel.compile(b.graph, threads=2)
    np.testing.assert_array_equal(flat, exe.run({"seed": np.int64(9)})["y"])


def test_classes_are_drawn_in_proportion():
    b = Builder()
    logits = b.input("x", "f32[2,4]")
    b.output("y", b.multinomial(logits, b.input("seed", "i64[]"), count=N))
    p = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.0, 0.1, 0.2]])
    with np.errstate(divide="ignore"):
        x = np.log(p * 8).astype(np.float32)
    drawn = tessel.compile(b.graph).run({"x": x, "seed": np.int64(1)})["y"]
    for row, wanted in zip(drawn, p):
        share = np.bincount(row, minlength=4) / N
        assert np.all(np.abs(share - wanted) <= 4 * np.sqrt(wanted * (1 - wanted) / N))


# -- ONNX -----------------------------------------------------------------------------------------


def onnx_model(nodes, inputs=(), outputs=("y",), version=22):
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "random",
        [info(*i) for i in inputs],
        [onnx.ValueInfoProto(name=o) for o in outputs],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)


def test_a_seed_names_the_numbers_and_nodes_without_one_differ():
    seeded = [
        helper.make_node("RandomNormal", [], [n], n, shape=[50], seed=s)
        for n, s in (("a", 1.0), ("b", 1.0), ("c", 2.0))
    ]
    free = [helper.make_node("RandomNormal", [], [n], n, shape=[50]) for n in "de"]
    exe = tessel.compile(onnx_model(seeded + free, outputs="abcde"))
    y = exe.run({})
    np.testing.assert_array_equal(y["a"], y["b"])
    for one, other in (("a", "c"), ("a", "d"), ("d", "e")):
        assert not np.any(y[one] == y[other])
    np.testing.assert_array_equal(y["d"], exe.run({})["d"])


@pytest.mark.parametrize("version", [1, 22])
@pytest.mark.parametrize("kind", ["RandomUniform", "RandomNormal"])
def test_like_takes_shape_and_dtype_of_its_operand(kind, version):
    like = helper.make_node(kind + "Like", ["x"], ["y"], seed=3.0)
    plain = helper.make_node(kind, [], ["z"], seed=3.0, shape=[4, 5], dtype=11)
    model = onnx_model([like, plain], [("x", 11, [4, 5])], "yz", version)
    y = tessel.compile(model).run({"x": np.zeros((4, 5))})
    assert y["y"].dtype == np.float64
    np.testing.assert_array_equal(y["y"], y["z"])


@pytest.mark.parametrize("dtype", [1, 10, 11, 16])
def test_uniform_stays_in_its_limits_in_every_dtype(dtype):
    node = helper.make_node(
        "RandomUniform", [], ["y"], shape=[2000], dtype=dtype, low=2.0, high=4.0
    )
    y = tessel.compile(onnx_model([node])).run({})["y"].astype(np.float64)
    assert 2 <= y.min() < 2.05
    assert 3.95 < y.max() <= 4  # a half type may round up to the limit
    assert abs(y.mean() - 3) < 0.06


def test_bernoulli_is_one_with_the_probability_that_it_is_given():
    node = helper.make_node("Bernoulli", ["x"], ["y"], dtype=7, seed=1.0)
    model = onnx_model([node], [("x", 1, [3, N])])
    p = np.repeat(np.float32([[0.0], [0.3], [1.0]]), N, 1)
    y = tessel.compile(model).run({"x": p})["y"]
    assert y.dtype == np.int64
    assert y[0].max() == 0
    assert y[2].min() == 1
    assert abs(y[1].mean() - 0.3) < 4 * math.sqrt(0.21 / N)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_takes_its_mode_while_it_runs(training):
    node = helper.make_node("Dropout", ["x", "r", "t"], ["y", "m"], seed=1)
    model = onnx_model([node], [("x", 1, [N]), ("r", 1, []), ("t", 9, [])], "ym")
    x = np.random.default_rng(0).uniform(1, 2, N).astype(np.float32)
    feeds = {"x": x, "r": np.float32(0.2), "t": np.bool_(training)}
    y = tessel.compile(model).run(feeds)
    kept = y["m"].mean()
    assert abs(kept - 0.8) < 4 * math.sqrt(0.16 / N) if training else kept == 1
    scale = np.float32(1.25) if training else np.float32(1)
    np.testing.assert_allclose(y["y"], np.where(y["m"], x * scale, 0), rtol=1e-6)


def test_multinomial_of_onnx_has_its_dtype_and_size():
    node = helper.make_node("Multinomial", ["x"], ["y"], sample_size=7, dtype=7)
    y = tessel.compile(onnx_model([node], [("x", 1, [2, 3])])).run(
        {"x": np.zeros((2, 3), np.float32)}
    )["y"]
    assert y.shape == (2, 7)
    assert y.dtype == np.int64
