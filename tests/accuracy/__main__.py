"""What compression costs trained models: `python -m tests.accuracy resnet20 --images 2000`.

The models and their data are read from `$TESSEL_DATA` or `../shared/data`. A line per recipe: its
accuracy or perplexity, beside that of floats.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import tessel
from tessel.compiler.compress.recipe import Recipe

from .stories import perplexity, stories, windows

DATA = Path(os.environ.get("TESSEL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def images(x: np.ndarray) -> np.ndarray:
    return ((x.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2).copy()


def outputs(model, x: np.ndarray) -> np.ndarray:
    exe = tessel.compile(model)
    return np.concatenate([exe(x[i : i + 250]) for i in range(0, len(x), 250)])


def compared(name: str, y: np.ndarray, floats: np.ndarray, labels: np.ndarray, since: float):
    answers, expected = y.argmax(1), floats.argmax(1)
    noise = np.square(y - floats).sum()
    ratio = 10 * np.log10(np.square(floats).sum() / noise) if noise else np.inf
    right, same = 100 * (answers == labels).mean(), 100 * (answers == expected).mean()
    figures = f"{right:6.2f} %  same answer {same:6.2f} %  {ratio:5.1f} dB"
    print(f"{name:28} {figures}  {time.time() - since:4.0f} s", flush=True)


W4 = {"dtype": "i4", "small": 0.0}
RESNET = {
    "W8A8": {},
    "W8A8, bias correction": {"bias_correction": True},
    "W4A8 nearest": W4,
    "W4A8 mse": W4 | {"rounding": "mse"},
    "W4A8 gptq": W4 | {"rounding": "gptq"},
    "W4A8 gptq, bias correction": W4 | {"rounding": "gptq", "bias_correction": True},
}


def resnet20(count: int, only: str) -> None:
    data, path = np.load(DATA / "cifar10.npz"), DATA / "resnet20_cifar10.onnx"
    step = max(1, 10_000 // count)  # the test images lie by class
    x, labels = images(data["test_x"][::step]), data["test_y"][::step]
    train = images(data["train_x"])
    since = time.time()
    floats = outputs(path, x)
    compared("f32", floats, floats, labels, since)
    for name, recipe in RESNET.items():
        if only in name:
            since = time.time()
            q = tessel.quantize(path, train[:304], Recipe.of("int8", **recipe))
            compared(name, outputs(q, x), floats, labels, since)


def resnet20_qat(count: int, only: str) -> None:
    """W4A4: trained on the training images and half of the test images, measured on the others."""
    data, path = np.load(DATA / "cifar10.npz"), DATA / "resnet20_cifar10.onnx"
    step = max(1, 5_000 // count)
    x, labels = images(data["test_x"][1::2][::step]), data["test_y"][1::2][::step]
    train = np.concatenate([images(data["train_x"]), images(data["test_x"][::2])])
    answers = np.concatenate([data["train_y"], data["test_y"][::2]]).astype(np.int64)
    since = time.time()
    floats = outputs(path, x)
    compared("f32", floats, floats, labels, since)
    recipe = Recipe.of("int8", dtype="i4", activations="u4", rounding="mse", small=0.0)
    since = time.time()
    model = tessel.quantize_for_training(
        path, train[:304], recipe, distill=0.5, optimizer=tessel.optimizers.Adam(3e-4)
    )
    compared("W4A4", outputs(model.quantized(), x), floats, labels, since)
    order = np.random.default_rng(0).permutation(len(train))
    for more in (10, 20, 40):
        for _ in range(more):
            at = 64 * model.trainer.steps
            rows = order[at : at + 64]
            model.trainer.step({"x": train[rows], "labels": answers[rows]})
        steps = model.trainer.steps
        compared(f"W4A4 QAT, {steps} steps", outputs(model.quantized(), x), floats, labels, since)


STORIES = {
    "W8 per row": ("int8-weights", {}),
    "W4 g32 nearest": ("int4", {}),
    "W4 g32 mse": ("int4", {"rounding": "mse"}),
    "W4 g32 gptq": ("int4", {"rounding": "gptq"}),
    "W3 g32 gptq": ("int4", {"dtype": "i3", "rounding": "gptq"}),
}


def stories260k(count: int, only: str) -> None:
    """Calibrated on the first half of the stories, measured on the second."""
    path = DATA / "stories260K.onnx"
    rows = windows(stories(DATA / "stories260K"))
    first, second = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    floats = perplexity(tessel.compile(path), second)
    print(f"{'f32':18} {floats:.3f} on {int((second[:, 1:] >= 0).sum()):,} tokens", flush=True)
    ids = np.maximum(first[:, :-1], 0)
    for name, (preset, fields) in STORIES.items():
        if only in name:
            since = time.time()
            needs = fields.get("rounding") == "gptq"
            q = tessel.quantize(path, ids if needs else None, Recipe.of(preset, **fields))
            found = perplexity(tessel.compile(q), second)
            change = 100 * (found / floats - 1)
            print(
                f"{name:18} {found:.3f} {change:+6.2f} %  {time.time() - since:4.0f} s", flush=True
            )


TASKS = {"resnet20": resnet20, "resnet20-qat": resnet20_qat, "stories260K": stories260k}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.accuracy", description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--images", type=int, default=2000, help="to measure with")
    parser.add_argument("--only", default="", help="lines that have this in their name")
    given = parser.parse_args()
    TASKS[given.task](given.images, given.only)
