"""A PyTorch model: export it as ONNX, compile it, compare the results, save a package.

    python examples/from_pytorch.py --out classifier.tsl

The batch stays open: one package serves batches of any size. Needs PyTorch and its exporter
(`pip install torch onnxscript`); without them the script says so and ends.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import tessel

NEEDED = ("torch", "onnxscript")
TOLERANCE = 1e-5  # of the largest logit: PyTorch sums in another order


def make_model():
    """A small residual network for images f32[N,3,32,32], with random weights."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels: int):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.norm1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(channels)

        def forward(self, x):
            y = torch.relu(self.norm1(self.conv1(x)))
            return torch.relu(x + self.norm2(self.conv2(y)))

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        Block(16),
        nn.MaxPool2d(2),
        Block(16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    ).eval()


def export(model, path: Path) -> None:
    """Write the model as ONNX, with an open batch."""
    import torch

    torch.onnx.export(
        model,
        (torch.zeros(2, 3, 32, 32),),
        path,
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
    )


def differences(model, exe, batches=(1, 2, 7)) -> dict[int, float]:
    """The largest difference of the logits, as a part of the largest logit, for each batch."""
    import torch

    found = {}
    for batch in batches:
        x = np.random.default_rng(batch).standard_normal((batch, 3, 32, 32)).astype(np.float32)
        with torch.no_grad():
            expected = model(torch.from_numpy(x)).numpy()
        found[batch] = float(np.abs(exe(x) - expected).max() / np.abs(expected).max())
    return found


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="classifier.tsl")
def main(out: Path):
    """Export a PyTorch model, compile it, compare, and save a package."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        click.echo(
            f"not run: {' and '.join(missing)} not installed (pip install {' '.join(NEEDED)})"
        )
        return
    model = make_model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classifier.onnx"
        export(model, path)
        exe = tessel.compile(path)
    click.echo(f"compiled: {exe.inputs[0]} -> {exe.outputs[0]}")
    for batch, difference in differences(model, exe).items():
        click.echo(f"batch {batch}: differs from PyTorch by {difference:.1e} of the largest logit")
        if difference > TOLERANCE:
            raise click.ClickException("that is more than rounding explains")
    exe.save(out)
    click.echo(f"wrote {out}; run it with: tessel run {out} --random 0")


if __name__ == "__main__":
    sys.exit(main())
