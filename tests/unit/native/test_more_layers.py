"""Convolutions over any axes, norms, random layers, recurrent layers and attention."""

import numpy as np
import pytest
from tessel.compiler.errors import UsageError
from tessel.frontends import native
from tessel.frontends.native import functional as F
from tessel.frontends.native import tree

from ...support.interpreted import grad, jit

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def run(layer, *xs, training=False, state=None, **named):
    """(result, params, new state) of a layer with random parameters."""
    params = tree.tree_map(lambda p: normal(*p.shape), layer.init(RNG))
    state = layer.init_state() if state is None else state

    @jit
    def f(params, state, *xs):
        s = native.module.Scope(layer, params, state, training)
        return s(*xs, **named), s.new_state()

    return *f(params, state, *xs), params


SEQUENCE, IMAGE, VOLUME = normal(2, 3, 7), normal(2, 3, 5, 6), normal(2, 3, 4, 5, 6)
SHAPES = {
    "Conv1d": (native.Conv1d(3, 4, 3, stride=2, padding=1), SEQUENCE, (2, 4, 4)),
    "Conv3d": (native.Conv3d(3, 4, (1, 2, 3), padding="same"), VOLUME, (2, 4, 4, 5, 6)),
    "ConvTranspose1d": (native.ConvTranspose1d(3, 4, 3, stride=2), SEQUENCE, (2, 4, 15)),
    "ConvTranspose2d": (
        native.ConvTranspose2d(3, 6, 3, 2, padding=1, output_padding=1, groups=3),
        IMAGE,
        (2, 6, 10, 12),
    ),
    "ConvTranspose3d": (native.ConvTranspose3d(3, 2, 2, bias=False), VOLUME, (2, 2, 5, 6, 7)),
    "MaxPool1d": (native.MaxPool1d(2), SEQUENCE, (2, 3, 3)),
    "AvgPool3d": (native.AvgPool3d(2), VOLUME, (2, 3, 2, 2, 3)),
    "GlobalAvgPool": (native.GlobalAvgPool(), VOLUME, (2, 3)),
    "GlobalMaxPool": (native.GlobalMaxPool(), IMAGE, (2, 3)),
    "BatchNorm1d": (native.BatchNorm1d(3), SEQUENCE, SEQUENCE.shape),
    "InstanceNorm": (native.InstanceNorm(3), IMAGE, IMAGE.shape),
    "GroupNorm": (native.GroupNorm(3, 3), VOLUME, VOLUME.shape),
    "RMSNorm": (native.RMSNorm(6), IMAGE, IMAGE.shape),
    "Softmax": (native.Softmax(1), IMAGE, IMAGE.shape),
    "LeakyReLU": (native.LeakyReLU(0.2), IMAGE, IMAGE.shape),
    "SiLU": (native.SiLU(), IMAGE, IMAGE.shape),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_layers(name):
    layer, x, shape = SHAPES[name]
    y, _, _ = run(layer, x)
    assert y.shape == shape and np.isfinite(y).all()


def test_a_transposed_convolution_is_the_gradient_of_a_convolution():
    layer = native.ConvTranspose2d(4, 3, 3, 2, padding=1, output_padding=1, bias=False)
    y = normal(1, 4, 3, 3)
    result, _, params = run(layer, y)
    conv = lambda x: (F.conv(x, params["weight"], strides=(2, 2), pads=(1,) * 4) * y).sum()
    np.testing.assert_allclose(result, grad(conv)(result * 0), rtol=1e-5, atol=1e-5)


def test_batch_norm_of_any_rank_normalises_in_training():
    for x in (normal(6, 3), SEQUENCE, VOLUME):
        layer = native.BatchNorm1d(3)
        y, new, p = run(layer, x, training=True)
        axes = (0, *range(2, x.ndim))
        shape = (3, *[1] * (x.ndim - 2))
        z = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
        expected = z * p["weight"].reshape(shape) + p["bias"].reshape(shape)
        np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(new["mean"], x.mean(axes) * 0.1, rtol=1e-3, atol=1e-5)


def test_the_row_of_padding_has_no_gradient():
    layer = native.Embedding(4, 2, padding_idx=1)
    ids = np.array([[0, 1], [1, 3]])
    y, _, p = run(layer, ids)
    assert (y[0, 1] == 0).all() and (y[0, 0] == p["weight"][0]).all()
    d = grad(lambda w, i: layer({"weight": w}, i).sum())(p["weight"], ids)
    np.testing.assert_array_equal(d[:, 0], [1, 0, 0, 1])


# -- random layers -----------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_counts_its_seed():
    x = np.ones((100, 50), np.float32)
    layer = native.Dropout(0.25)
    y, new, _ = run(layer, x, training=True)
    again, _, _ = run(layer, x, training=True)
    other, _, _ = run(layer, x, training=True, state=new)
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)} and abs(y.mean() - 1) < 0.05
    assert new["seed"] == 1 and new["seed"].dtype == np.int64
    assert (y == again).all() and (y != other).any()
    assert (run(layer, x)[0] == x).all()


def test_layers_draw_apart_from_each_other():
    net = native.Sequential(native.Dropout(0.5), native.Linear(8, 8), native.Dropout(0.5))
    assert set(tree.paths(net.init_state())) == {"0.seed", "2.seed"}
    seeds = [s["seed"] for s in net.init_state(np.random.default_rng(0)).values()]
    assert len(set(map(int, seeds))) == 2
    both = native.Sequential(native.Dropout(0.5), native.Dropout(0.5))
    y, _, _ = run(both, np.ones((1000,), np.float32), training=True)
    assert 0.2 < (y > 0).mean() < 0.3


@pytest.mark.parametrize(
    ("layer", "same"), [(native.SpatialDropout(0.5), (2, 3)), (native.DropPath(0.5), (1, 2, 3))]
)
def test_what_is_dropped_together(layer, same):
    y, _, _ = run(layer, np.ones((40, 4, 3, 3), np.float32), training=True)
    assert (y.std(same) == 0).all() and y.std() > 0


def test_noise_has_its_scale():
    y, _, _ = run(native.GaussianNoise(0.5), np.ones((2000,), np.float32), training=True)
    assert abs(y.mean() - 1) < 0.05 and abs(y.std() - 0.5) < 0.05


# -- sequences ---------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, p):
    """Forwards, in numpy: [N,T,H]"""
    w, r, b = p["input_weight"][0], p["hidden_weight"][0], p["bias"][0]
    h = c = np.zeros((len(x), r.shape[1]))
    ys = []
    for t in range(x.shape[1]):
        z = x[:, t] @ w.T + h @ r.T + b[: len(w)] + b[len(w) :]
        i, o, f, g = np.split(z, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        ys.append(h)
    return np.stack(ys, 1)


def test_an_lstm_over_time():
    x = normal(2, 5, 3)
    y, _, p = run(native.LSTM(3, 4), x)
    np.testing.assert_allclose(y, lstm(x, p), rtol=1e-4, atol=1e-5)
    y, _, p = run(native.LSTM(3, 4, returns="last"), x, np.array([5, 2], np.int32))
    np.testing.assert_allclose(y[1], lstm(x, p)[1, 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [native.RNN, native.GRU, native.LSTM])
def test_both_directions(kind):
    (y, state), _, _ = run(kind(3, 4, bidirectional=True, returns="both"), normal(2, 5, 3))
    assert y.shape == (2, 5, 8) and all(h.shape == (2, 2, 4) for h in state)
    np.testing.assert_array_equal(y[:, -1, :4], state[0][0])
    np.testing.assert_array_equal(y[:, 0, 4:], state[0][1])
    with pytest.raises(UsageError, match="unknown returns"):
        kind(3, 4, returns="all")


def test_attention_of_several_heads():
    x, mask = normal(2, 5, 8), np.array([[True] * 5, [True, True, False, False, False]])
    layer = native.MultiHeadAttention(8, 2)
    y, _, p = run(layer, x, mask=mask)
    q, k, v = (
        (x @ p[n]["weight"] + p[n]["bias"]).reshape(2, 5, 2, 4).swapaxes(1, 2)
        for n in ("query", "key", "value")
    )
    scores = np.where(mask[:, None, None], q @ k.swapaxes(2, 3) / 2, -np.inf)
    w = np.exp(scores - scores.max(-1, keepdims=True))
    z = (w / w.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(2, 5, 8)
    np.testing.assert_allclose(y, z @ p["out"]["weight"] + p["out"]["bias"], rtol=1e-3, atol=1e-4)
    y, _, _ = run(layer, x, x[:, :3], is_causal=True)
    assert y.shape == x.shape
    with pytest.raises(UsageError, match="share the features"):
        native.MultiHeadAttention(8, 3)
