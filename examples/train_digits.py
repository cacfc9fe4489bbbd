"""Train a small convolutional network on scikit-learn's digits and write it as ONNX.

    python examples/train_digits.py --out digits.onnx --epochs 15

The whole step (forward, loss, gradients, Adam) is one compiled graph. A fifth of the images is
held out, and the network must reach 97 % on it.
"""

from pathlib import Path

import click
import numpy as np
import tessel
from tessel import native, optimizers

F = native.functional

OUT = Path(__file__).resolve().parent / "models" / "digits.onnx"
REQUIRED = 0.97


class DigitsNet(native.Module):
    """Two 3x3 convolutions with batch norm and pooling, and a classifier: 9,306 parameters."""

    def __init__(self):
        self.conv1 = native.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm1 = native.BatchNorm2d(16)
        self.conv2 = native.Conv2d(16, 32, 3, padding=1, bias=False)
        self.norm2 = native.BatchNorm2d(32)
        self.pool = native.MaxPool2d(2)
        self.hidden = native.Linear(32 * 2 * 2, 32)
        self.head = native.Linear(32, 10)

    def forward(self, s, x):
        x = s.pool(F.relu(s.norm1(s.conv1(x))))
        x = s.pool(F.relu(s.norm2(s.conv2(x))))
        x = F.relu(s.hidden(x.reshape((x.shape[0], -1))))
        return s.head(x)


def loss(logits, labels):
    return native.cross_entropy(logits, labels, label_smoothing=0.1)


def load_data(seed: int):
    """Training and held-out images f32[N,1,8,8] in [0, 1] with their labels i64[N]."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x = (digits.images[:, None] / 16).astype(np.float32)
    y = digits.target.astype(np.int64)
    x, held_x, y, held_y = train_test_split(x, y, test_size=0.2, stratify=y, random_state=seed)
    return (x, y), (held_x, held_y)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=OUT, help="The ONNX file.")
@click.option("--epochs", type=click.IntRange(1), default=15, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(out: Path, epochs: int, batch_size: int, seed: int):
    """Train on the digits, measure on the held-out fifth, write an ONNX model."""
    training, held_out = load_data(seed)
    model = DigitsNet()
    params = model.init(np.random.default_rng(seed))
    train, evaluation = native.training_graphs(
        model, loss, {"accuracy": native.accuracy}, x="f32[N,1,8,8]", y="i64[N]"
    )
    steps = epochs * (len(training[0]) // batch_size)
    trainer = tessel.Trainer(
        train,
        native.flat_values(params, model.init_state()),
        optimizers.AdamW(optimizers.cosine(1e-2, steps, warmup=steps // 20), weight_decay=0.2),
        evaluation=evaluation,
    )
    trainer.fit(training, epochs=epochs, batch_size=batch_size, rng=np.random.default_rng(seed + 1))

    result = trainer.evaluate(held_out)
    click.echo(f"held out: accuracy {result['accuracy']:.2%}, loss {result['loss']:.4f}")
    if result["accuracy"] < REQUIRED:
        raise click.ClickException(
            f"the accuracy is below {REQUIRED:.0%}: nothing is written; train for longer"
        )
    graph = native.to_graph(
        model,
        native.nested_values(trainer.values, params),
        "f32[N,1,8,8]",
        state=native.nested_values(trainer.values, model.init_state(), "state"),
        input_name="image",
        output_name="logits",
        name="digits",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    tessel.to_onnx(graph, out, opt_level=0)
    click.echo(f"wrote {out} ({out.stat().st_size / 1024:.0f} KiB)")
    compare(out, held_out[0], trainer.predict(held_out[0]))


def compare(path: Path, x: np.ndarray, expected: np.ndarray) -> None:
    """Check that ONNX Runtime computes the same from the file, where it is installed."""
    try:
        import onnxruntime
    except ImportError:
        click.echo("onnxruntime is not installed: the file was not compared")
        return
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [received] = session.run(None, {session.get_inputs()[0].name: x})
    difference = float(np.abs(received - expected).max() / np.abs(expected).max())
    if difference > 1e-4:
        raise click.ClickException(f"ONNX Runtime differs by {difference:.1e} of the scale")
    click.echo(f"ONNX Runtime agrees: largest difference {difference:.1e} of the scale")


if __name__ == "__main__":
    main()
