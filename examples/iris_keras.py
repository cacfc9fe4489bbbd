"""Classify irises with Keras on tessel: a textbook's script, but for where Keras comes from.

    python examples/iris_keras.py --epochs 200

Forward, loss, gradients, Adam and the metrics are one compiled step.
"""

import importlib.util

import click
import numpy as np

NEEDED = ("keras", "sklearn")
REQUIRED = 0.93


def train(epochs: int) -> float:
    """The accuracy on what was held out."""
    import tessel.keras as keras
    from sklearn.datasets import load_iris
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler
    from tessel.keras import layers, models

    keras.utils.set_random_seed(0)
    x, y = load_iris(return_X_y=True)
    x = StandardScaler().fit_transform(x).astype(np.float32)
    y = keras.utils.to_categorical(y)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0)

    model = models.Sequential()
    model.add(layers.Input((4,)))
    model.add(layers.Dense(10, activation="relu"))
    model.add(layers.Dense(10, activation="relu"))
    model.add(layers.Dense(3, activation="softmax"))
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    history = model.fit(
        x_train, y_train, epochs=epochs, batch_size=16, validation_split=0.2, verbose=0
    )
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    click.echo(f"loss in training {history.history['loss'][0]:.3f} -> {loss:.3f} held out")
    return accuracy


@click.command(help=__doc__)
@click.option("--epochs", default=200, show_default=True)
def main(epochs: int) -> None:
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        click.echo("not run: keras and scikit-learn not installed")
        return
    accuracy = train(epochs)
    click.echo(f"accuracy on irises held out: {accuracy:.1%}")
    if epochs >= 200 and accuracy < REQUIRED:
        raise SystemExit(f"expected {REQUIRED:.0%}")


if __name__ == "__main__":
    main()
