"""Keras on tessel: real Keras, whose steps are compiled; compared with numpy by hand."""

import importlib.util
import sys
import warnings

import numpy as np
import pytest
import tessel

if importlib.util.find_spec("keras") is None:  # importing it would choose a backend
    pytest.skip("tessel.keras is Keras", allow_module_level=True)

import tessel.keras as keras
from tessel.frontends.keras import hook
from tessel.keras import layers, models


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


def data(n=24, features=4, outputs=1):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, features), np.float32)
    return x, x @ rng.standard_normal((features, outputs), np.float32)


def test_it_is_keras_under_our_name():
    import keras as real
    from tessel.keras.layers import Dense

    assert Dense is real.layers.Dense and layers is real.layers
    assert keras.__version__ == real.__version__
    assert "layers" in dir(keras)


def test_a_step_of_sgd_is_numpys():
    x, y = data(8)
    model = models.Sequential([layers.Input((4,)), layers.Dense(1)])
    w, b = model.get_weights()
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    history = model.fit(x, y, batch_size=8, epochs=1, verbose=0, shuffle=False)
    error = x @ w + b - y
    np.testing.assert_allclose(history.history["loss"], [np.mean(error**2)], rtol=1e-5)
    want = w - 0.1 * 2 * x.T @ error / 8, b - 0.1 * 2 * error.mean(0)
    for received, expected in zip(model.get_weights(), want):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_the_last_batch_may_be_smaller():
    x, y = data(11)
    model = models.Sequential([layers.Input((4,)), layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    history = model.fit(x, y, batch_size=4, epochs=2, validation_data=(x, y), verbose=0)
    assert set(history.history) == {"loss", "mae", "val_loss", "val_mae"}
    np.testing.assert_allclose(
        model.evaluate(x, y, verbose=0), [h[-1] for h in list(history.history.values())[2:]]
    )
    np.testing.assert_allclose(
        model.predict(x, batch_size=4, verbose=0), np.asarray(model(x)), rtol=1e-5
    )


def test_another_backend_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras.src.backend.numpy", None)
    with pytest.raises(tessel.TesselError) as caught:
        hook.load_keras("tessel.keras")
    assert "another backend" in str(caught.value) and "import tessel.keras" in str(caught.value)


def test_a_missing_keras_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(hook.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tessel.TesselError, match=r"pip install .tessel\[keras\]"):
        hook.load_keras("tessel.keras")


def test_what_needs_numbers_is_named():
    class Odd(layers.Layer):
        def call(self, x):
            return x if float(x[0, 0]) > 0 else -x

    x, y = data(8)
    model = models.Sequential([layers.Input((4,)), Odd(), layers.Dense(1)])
    model.compile(loss="mse")
    with pytest.raises(tessel.TesselError, match="no number"):
        model.fit(x, y, verbose=0)


def test_dropout_differs_from_step_to_step():
    x = np.ones((64, 8), np.float32)
    inputs = layers.Input((8,))
    model = models.Model(inputs, layers.Dropout(0.5, seed=1)(inputs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing to train
        model.compile(loss="mse")
        losses = [float(model.train_on_batch(x, 0 * x)) for _ in range(3)]
    assert len(set(losses)) == 3
    assert np.allclose(losses, 2, atol=0.5)


CASES = {
    "convolutions": (
        (9, 9, 2),
        lambda: [
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2),
            layers.Flatten(),
        ],
    ),
    "lstm": ((5, 3), lambda: [layers.LSTM(4, dropout=0.2)]),
    "masked gru": ((5, 3), lambda: [layers.Masking(0.0), layers.GRU(4)]),
    "normalized": ((6,), lambda: [layers.Dense(5, "gelu"), layers.LayerNormalization()]),
}


@pytest.mark.parametrize("name", CASES)
def test_layers_train(name):
    """The loss falls, and predictions are those of Keras' numpy code."""
    shape, make = CASES[name]
    rng = np.random.default_rng(1)
    x = rng.standard_normal((16, *shape), np.float32)
    y = x.reshape(16, -1)[:, :1]
    model = models.Sequential([layers.Input(shape), *make(), layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(0.02), loss="mse")
    losses = model.fit(x, y, epochs=8, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(
        model.predict(x, verbose=0), np.asarray(model(x)), rtol=1e-3, atol=1e-5
    )


def test_a_train_step_of_ones_own():
    class Halved(models.Model):
        def train_step(self, data):
            x, y = data
            loss = keras.ops.mean((self(x, training=True) - y) ** 2) / 2
            weights = self.trainable_variables
            self.optimizer.apply(keras.gradients(loss, weights), weights)
            return {"half": loss}

    x, y = data(8)
    inputs = layers.Input((4,))
    model = Halved(inputs, layers.Dense(1)(inputs))
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    half = model.fit(x, y, epochs=5, verbose=0).history["half"]
    assert half[-1] < half[0]


def test_nodes_say_where_a_user_called():
    model = models.Sequential([layers.Input((4,)), layers.Dense(1)])
    origins = {node.origin for node in keras.to_graph(model).nodes}
    assert all("test_keras.py" in origin for origin in origins)


def test_a_loaded_model_is_compiled(tmp_path):
    x, y = data()
    model = models.Sequential([layers.Input((4,)), layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    again = models.load_model(tmp_path / "m.keras")
    assert again.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)
    model.fit(x, y, shuffle=False, verbose=0)
    again.fit(x, y, shuffle=False, verbose=0)
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


def test_compiling_again_takes_the_new_loss():
    x, y = data()
    model = models.Sequential([layers.Input((4,)), layers.Dense(1)])
    for loss in ("mse", "mae"):
        model.compile(optimizer=keras.optimizers.SGD(0.0), loss=loss)
        (found,) = model.fit(x, y, verbose=0).history["loss"]
        error = model.predict(x, verbose=0) - y
        assert found == pytest.approx(np.mean(error**2 if loss == "mse" else abs(error)), rel=1e-5)
