"""Embeddings and LSTMs of integer weights, against ONNX Runtime."""

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import UnsupportedError

from ...support.microsoft import check, f, model_of, q, scale, zero
from .test_microsoft_quant import I8, IDS, nbits

pytestmark = pytest.mark.saturates("test_lstm_of_integer_weights")

TABLES = [q(n, 8, seed=n) for n in (9, 6, 2)] + [q(8, seed=1), q(8, seed=4)]
IN_SCALE = [scale(0.02), scale(0.03), scale(0.01), scale(0.005), scale(0.01)]
ZEROS = [zero(n) for n in (120, 100, 128, 3, 99)]
SEGMENTS = IDS // 3
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)


@pytest.mark.parametrize("mask", [None, MASK], ids=["no-mask", "mask"])
def test_embeddings_of_integers(mask):
    inputs = (IDS, SEGMENTS, *TABLES, mask, *IN_SCALE, *ZEROS)
    check("QEmbedLayerNormalization", inputs, 2, {"_rtol": 1e-3, "_atol": 1e-4})


def lstm(directions, per_column, dtype):
    i, h = 6, 8
    shape = (directions, 4 * h) if per_column else (directions,)
    rng = np.random.default_rng(5)
    scales = [rng.uniform(0.004, 0.008, shape).astype(np.float32) for _ in range(2)]
    zeros = [np.full(shape, 0 if dtype == I8 else 128, dtype) for _ in range(2)]
    weights = q(directions, i, 4 * h, seed=1, dtype=dtype), q(directions, h, 4 * h, dtype=dtype)
    return (
        f(5, 3, i),
        *weights,
        f(directions, 8 * h, scale=0.1),
        None,
        f(directions, 3, h, scale=0.5),
        None,
        None,
        scales[0],
        zeros[0],
        scales[1],
        zeros[1],
    )


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("dtype", [I8, np.uint8])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_lstm_of_integer_weights(direction, dtype, per_column):
    """Inputs and states are quantised as ONNX Runtime does it."""
    inputs = lstm(1 + (direction == "bidirectional"), per_column, dtype)
    options = {"hidden_size": 8, "direction": direction, "_weights": (1, 2, 8, 9, 10, 11)}
    check("DynamicQuantizeLSTM", inputs, 3, options | {"_rtol": 1e-3, "_atol": 1e-4})


def test_g_idx_is_refused_with_a_way_out():
    op, inputs, _, options = nbits(64, 8, 32, 4, g=np.zeros(64, np.int32)).values[0]
    with pytest.raises(UnsupportedError, match=r"g_idx[\s\S]*quantise without act_order"):
        tessel.compile(model_of(op, inputs, **options))
