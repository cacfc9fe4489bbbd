"""The modules and names of Keras, those of its second version too, and models as files."""

import importlib
import importlib.util

import numpy as np
import pytest
import tessel

if importlib.util.find_spec("keras") is None:  # importing it would choose a backend
    pytest.skip("tessel.keras is Keras", allow_module_level=True)

import tessel.keras as keras
from tessel.keras import layers, models

MODULES = {
    "initializers": "GlorotUniform",
    "regularizers": "L2",
    "constraints": "MaxNorm",
    "activations": "relu",
    "losses": "CategoricalCrossentropy",
    "metrics": "AUC",
    "optimizers": "Adam",
    "callbacks": "EarlyStopping",
    "preprocessing.text": "Tokenizer",
    "preprocessing.image": "ImageDataGenerator",
    "preprocessing.sequence": "pad_sequences",
    "backend": "variable",
    "utils": "to_categorical",
    "layers": "Dense",
    "models": "Sequential",
}


@pytest.mark.parametrize("module", MODULES)
def test_each_module_is_there(module):
    assert hasattr(importlib.import_module(f"tessel.keras.{module}"), MODULES[module])


def test_the_backend_of_keras_2():
    K = keras.backend
    x = K.variable(np.ones((2, 3)))
    np.testing.assert_array_equal(K.eval(K.dot(x, K.ones((3, 1)))), [[3], [3]])
    assert K.placeholder((None, 3)).shape == (None, 3)


def test_texts_become_sequences():
    words = keras.preprocessing.text.Tokenizer(num_words=10)
    words.fit_on_texts(["a cat", "a dog"])
    padded = keras.preprocessing.sequence.pad_sequences(words.texts_to_sequences(["a cat", "a"]))
    assert padded.tolist() == [[1, 2], [0, 1]]


def test_images_of_a_generator_train():
    x = np.random.default_rng(0).random((8, 4, 4, 1), np.float32)
    generator = keras.preprocessing.image.ImageDataGenerator(horizontal_flip=True)
    batch, labels = next(generator.flow(x, np.arange(8), batch_size=4))
    assert batch.shape == (4, 4, 4, 1) and len(labels) == 4


def test_rows_of_a_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = np.arange(12).reshape(6, 2)
    x = keras.utils.HDF5Matrix(str(tmp_path / "d.h5"), "x", start=1, end=5)
    assert x.shape == (4, 2)
    assert x[[3, 0, 3]].tolist() == [[8, 9], [2, 3], [8, 9]]
    assert x[0].tolist() == [2, 3] and len(np.asarray(x)) == 4


def model():
    keras.utils.set_random_seed(0)
    return models.Sequential(
        [
            layers.Input((6, 6, 2), name="image"),
            layers.Conv2D(3, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )


def test_a_model_is_saved_and_loaded(tmp_path):
    m, x = model(), np.ones((3, 6, 6, 2), np.float32)
    m.save(tmp_path / "m.keras")
    again = models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(m.predict(x, verbose=0), again.predict(x, verbose=0))


@pytest.mark.parametrize("format", ["onnx", "tsl"])
def test_a_model_is_exported(tmp_path, format):
    """Its batch stays open."""
    m, x = model(), np.random.default_rng(0).random((3, 6, 6, 2), np.float32)
    m.export(tmp_path / f"m.{format}")
    path = str(tmp_path / f"m.{format}")
    exe = tessel.load(path) if format == "tsl" else tessel.compile(path)
    for size in (3, 1):
        np.testing.assert_allclose(
            exe.run({"image": x[:size]})["output"], m.predict(x[:size], verbose=0), rtol=1e-5
        )
