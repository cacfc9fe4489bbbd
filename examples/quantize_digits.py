"""Quantize the digits network: ONNX in, calibrate, report, Q/DQ ONNX out, compare and time.

    python examples/quantize_digits.py --out digits_int8.onnx

Needs scikit-learn for its images (`pip install scikit-learn`); without it the script says so and
ends. Ranges are chosen from 200 images, and the accuracy is measured on images that the network
was not trained on.
"""

import importlib.util
import time
from pathlib import Path

import click
import numpy as np
import tessel

MODEL = Path(__file__).resolve().parent / "models" / "digits.onnx"
ALLOWED = 1.0  # percent of the images whose label may be lost


def load_images():
    """Images to calibrate with, images to measure with, and the labels of those."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x = (digits.images[:, None] / 16).astype(np.float32)
    x, held_out, _, labels = train_test_split(
        x, digits.target, test_size=0.2, stratify=digits.target, random_state=0
    )
    return x[:200], held_out, labels


def milliseconds(exe, x) -> float:
    """The best of some runs."""
    times = []
    for _ in range(20):
        start = time.perf_counter()
        exe(x)
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="digits_int8.onnx")
def main(out: Path):
    """Quantize the digits network, say what became of it, and write it as ONNX."""
    if importlib.util.find_spec("sklearn") is None:
        click.echo("not run: scikit-learn is not installed")
        return
    images, held_out, labels = load_images()

    def accuracy(exe) -> float:
        return 100 * float((exe(held_out).argmax(1) == labels).mean())

    q = tessel.quantize(MODEL, images, "int8", metric=accuracy, max_drop=ALLOWED)
    click.echo(q.report)
    tessel.to_onnx(q, out)
    q.recipe.save(out.with_suffix(".toml"))
    sizes = [path.stat().st_size / 1024 for path in (MODEL, out)]
    click.echo(f"wrote {out}: {sizes[0]:.0f} KiB became {sizes[1]:.0f} KiB")

    exact, narrow = tessel.compile(MODEL), tessel.compile(out)
    before, after = accuracy(exact), accuracy(narrow)
    same = (exact(held_out).argmax(1) == narrow(held_out).argmax(1)).mean()
    click.echo(f"accuracy {before:.2f} % -> {after:.2f} %, the same label for {same:.1%}")
    times = milliseconds(exact, held_out), milliseconds(narrow, held_out)
    click.echo(f"{len(held_out)} images: {times[0]:.2f} ms -> {times[1]:.2f} ms")
    if before - after > ALLOWED:
        raise click.ClickException("the quantized network has lost too much")


if __name__ == "__main__":
    main()
