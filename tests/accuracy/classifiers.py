"""Classifiers of images and sounds: how many answers are right, how many those of floats."""

import gzip
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tessel
from tessel.compiler.compress.recipe import Recipe

SHARED = Path(__file__).parents[2] / ".." / "shared"
DATA = Path(os.environ.get("TESSEL_DATA", SHARED / "data"))
MODELS = Path(os.environ.get("TESSEL_MODELS", DATA / ".." / "models"))
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def images(x: np.ndarray) -> np.ndarray:
    return ((x.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2).copy()


def outputs(model: Any, x: np.ndarray, batch: int = 250) -> np.ndarray:
    exe = tessel.compile(model)
    return np.concatenate([exe(x[i : i + batch]) for i in range(0, len(x), batch)])


def compared(name: str, y: np.ndarray, floats: np.ndarray, labels: np.ndarray, since: float):
    answers, expected = y.argmax(1), floats.argmax(1)
    noise = np.square(y - floats).sum()
    ratio = 10 * np.log10(np.square(floats).sum() / noise) if noise else np.inf
    right, same = 100 * (answers == labels).mean(), 100 * (answers == expected).mean()
    figures = f"{right:6.2f} %  same answer {same:6.2f} %  {ratio:5.1f} dB"
    print(f"{name:28} {figures}  {time.time() - since:4.0f} s", flush=True)


def table(
    path: Path,
    recipes: Mapping[str, Mapping],
    calibration: np.ndarray,
    x: np.ndarray,
    labels: np.ndarray,
    only: str,
    batch: int = 250,
) -> None:
    """A line for the floats and for each recipe that has `only` in its name."""
    since = time.time()
    floats = outputs(path, x, batch)
    compared("f32", floats, floats, labels, since)
    for name, recipe in recipes.items():
        if only in name:
            since = time.time()
            q = tessel.quantize(path, calibration, Recipe.of("int8", **recipe))
            compared(name, outputs(q, x, batch), floats, labels, since)


AS_THEY_ARE = {"bias_correction": False}
W8 = {"W8A8": {}, "W8A8, biases as they are": AS_THEY_ARE}
W4 = {"dtype": "i4", "small": 0.0}
RESNET = W8 | {
    "W4A8 nearest": W4,
    "W4A8 nearest, biases as they are": W4 | AS_THEY_ARE,
    "W4A8 mse": W4 | {"rounding": "mse"},
    "W4A8 gptq": W4 | {"rounding": "gptq"},
    "W4A8 adaround": W4 | {"rounding": "adaround"},
    "W4A8 autoround": W4 | {"rounding": "autoround"},
}


def resnet20(count: int, only: str) -> None:
    """CIFAR-10, calibrated with 304 training images."""
    data = np.load(DATA / "cifar10.npz")
    step = max(1, 10_000 // count)  # the test images lie by class
    x, labels = images(data["test_x"][::step]), data["test_y"][::step]
    path = DATA / "resnet20_cifar10.onnx"
    table(path, RESNET, images(data["train_x"][:304]), x, labels, only)


def kws(count: int, only: str) -> None:
    """Keyword spotting: 200 sounds to calibrate, the other 800 to measure."""
    data = np.load(DATA / "kws01.npz")
    x, y = data["x"], data["y"]
    table(DATA / "kws_dscnn.onnx", W8, x[:200], x[200:], y[200:], only)


def mnist(count: int, only: str) -> None:
    """Handwritten digits: 300 to calibrate, the other 9,700 to measure."""
    read = lambda name: gzip.decompress((DATA / "mnist" / name).read_bytes())
    x = np.frombuffer(read("t10k-images-idx3-ubyte.gz"), np.uint8, offset=16)
    x = x.reshape(-1, 1, 1, 28, 28).astype(np.float32)
    y = np.frombuffer(read("t10k-labels-idx1-ubyte.gz"), np.uint8, offset=8)
    step = max(1, 9_700 // count)
    path = next((MODELS / "mnist_8").glob("*.onnx"))
    since, exe = time.time(), tessel.compile(path)
    x, y, first = x[300::step], y[300::step], x[:300]
    run = lambda exe: np.concatenate([exe(sample) for sample in x])
    floats = run(exe)
    compared("f32", floats, floats, y, since)
    for name, recipe in W8.items():
        if only in name:
            since = time.time()
            q = tessel.quantize(path, first.reshape(300, 1, 28, 28), Recipe.of("int8", **recipe))
            compared(name, run(tessel.compile(q)), floats, y, since)


def resnet20_qat(count: int, only: str, steps: int, state: Path | None) -> None:
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
    recipe = Recipe.of(recipe, observer="mse")
    since = time.time()
    rate = lambda step: 1e-3 * min(1, (step + 1) / 10) * max(0.02, 1 - step / steps)
    adam = tessel.optimizers.Adam(rate)
    model = tessel.quantize_for_training(path, train[:208], recipe, distill=0.5, optimizer=adam)
    if "W4A4" in only or not only:
        compared("W4A4", outputs(model.quantized(), x), floats, labels, since)

    def batches(at: int) -> dict[str, np.ndarray]:
        rows = np.random.default_rng(at).choice(len(train), 48, replace=False)
        flip = np.random.default_rng(at).random(48) < 0.5
        x = train[rows]
        return {"x": np.where(flip[:, None, None, None], x[..., ::-1], x), "labels": answers[rows]}

    def said(made: int) -> None:
        y = outputs(model.quantized(), x)
        compared(f"W4A4 QAT, {made} steps", y, floats, labels, since)

    trained(model, batches, steps, state, said)


def trained(model: Any, batch: Any, steps: int, state: Path | None, said: Any) -> None:
    """Train to `steps` steps in all, from a `state` that was written if there is one."""
    trainer, every = model.trainer, max(1, steps // 4)
    if state is not None and state.exists():
        trainer.load(state)
    while trainer.steps < steps:
        trainer.step(batch(trainer.steps))
        if trainer.steps % every == 0 or trainer.steps == steps:
            if state is not None:
                trainer.save(state)
            said(trainer.steps)
