"""A scikit-learn model: convert it to ONNX, compile it, compare the predictions.

    python examples/from_sklearn.py --out digits_forest.tsl

Needs scikit-learn and skl2onnx (`pip install scikit-learn skl2onnx`); without them the script says
so and ends. ONNX models compute with 32 bits where scikit-learn has 64: a tree may decide otherwise
at an element that lies on a threshold but for rounding. Here the features are small integers, so
that all labels are the same.
"""

import importlib.util
import sys
from pathlib import Path

import click
import numpy as np
import tessel

NEEDED = {"sklearn": "scikit-learn", "skl2onnx": "skl2onnx"}


def make_model():
    """A fitted random forest, images f32[N,64] that it has not seen, and their labels."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x, unseen, y, labels = train_test_split(x.astype(np.float32), y, random_state=0)
    return RandomForestClassifier(50, random_state=0).fit(x, y), unseen, labels


def convert(model):
    """The model as ONNX; probabilities are an array (`zipmap` would make them dicts)."""
    from skl2onnx import to_onnx

    return to_onnx(model, np.zeros((1, 64), np.float32), options={"zipmap": False})


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="digits_forest.tsl")
def main(out: Path):
    """Convert a scikit-learn model, compile it, compare, and save a package."""
    missing = [pip for module, pip in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        click.echo(f"not run: {' and '.join(missing)} not installed")
        return
    model, unseen, labels = make_model()
    exe = tessel.compile(convert(model))
    click.echo(f"compiled: {exe.inputs[0]} -> {', '.join(p.name for p in exe.outputs)}")

    predicted, probabilities = exe(unseen)
    same = (predicted == model.predict(unseen)).mean()
    difference = np.abs(probabilities - model.predict_proba(unseen)).max()
    click.echo(f"same label as scikit-learn: {same:.1%}; probabilities differ by {difference:.1e}")
    click.echo(f"right: {(predicted == labels).mean():.1%}")
    if same < 1 or difference > 1e-4:
        raise click.ClickException("the compiled model is not the same")
    exe.save(out)
    click.echo(f"wrote {out}; run it with: tessel run {out} --random 0")


if __name__ == "__main__":
    sys.exit(main())
