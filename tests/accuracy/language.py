"""Language models: perplexity of a small llama, intents from embeddings."""

import time
from pathlib import Path

import numpy as np
import tessel
from tessel.compiler.compress.recipe import Recipe

from . import minilm as mini
from .classifiers import DATA, trained
from .stories import perplexity, stories, windows

STORIES = {
    "W8 per row": ("int8-weights", {}),
    "W4 g32 nearest": ("int4", {}),
    "W4 g32 hqq": ("int4", {"rounding": "hqq"}),
    "W4 g32 mse": ("int4", {"rounding": "mse"}),
    "W4 g32 gptq": ("int4", {"rounding": "gptq"}),
    "W4 g32 awq": ("int4", {"rounding": "mse", "equalize": "awq"}),
    "W4 g32 autoround": ("int4", {"rounding": "autoround"}),
    "W3 g32 gptq": ("int4", {"dtype": "i3", "rounding": "gptq"}),
    "W3 g32 autoround": ("int4", {"dtype": "i3", "rounding": "autoround"}),
}


def stories260k(count: int, only: str) -> None:
    """Calibrated on the first half of the stories, measured on the second."""
    path = DATA / "stories260K.onnx"
    first, second, floats = _halves(path)
    ids = np.maximum(first[:, :-1], 0)
    for name, (preset, fields) in STORIES.items():
        if only in name:
            since, recipe = time.time(), Recipe.of(preset, **fields)
            q = tessel.quantize(path, ids if recipe.chooses_weights else None, recipe)
            _said(name, perplexity(tessel.compile(q), second), floats, since)


def stories260k_qat(count: int, only: str, steps: int, state: Path | None) -> None:
    """Trained to answer as the model of floats does, on the first half of the stories but for every
    eighth: by these, which are measured as well, it is seen when to stop."""
    path = DATA / "stories260K.onnx"
    first, second, floats = _halves(path)
    held_out, first = first[::8], np.delete(first, np.s_[::8], axis=0)
    bits, since = only or "i4", time.time()
    recipe = Recipe.of("int4", dtype=bits, rounding="gptq")
    rate = lambda step: 5e-4 * min(1, (step + 1) / 10, 1.5 * (1 - step / steps))
    ids = np.maximum(first[:, :-1], 0)
    adam = tessel.optimizers.Adam(rate)
    model = tessel.quantize_for_training(
        path, ids, recipe, loss="none", distill=1.0, optimizer=adam
    )

    def batch(at: int) -> dict[str, np.ndarray]:
        return {"ids": ids[np.random.default_rng(at).choice(len(ids), 8, replace=False)]}

    def said(made: int) -> None:
        exe = tessel.compile(model.quantized())
        _said(f"{bits} QAT, {made} steps", perplexity(exe, second), floats, since)
        print(f"{'  held out':18} {perplexity(exe, held_out):.3f}", flush=True)

    said(0)
    trained(model, batch, steps, state, said)


def _halves(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    rows = windows(stories(DATA / "stories260K"))
    first, second = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    floats = perplexity(tessel.compile(path), second)
    print(f"{'f32':18} {floats:.3f} on {int((second[:, 1:] >= 0).sum()):,} tokens", flush=True)
    return first, second, floats


def _said(name: str, found: float, floats: float, since: float) -> None:
    change = 100 * (found / floats - 1)
    print(f"{name:18} {found:.3f} {change:+6.2f} %  {time.time() - since:4.0f} s", flush=True)


MINILM = {
    "dynamic": ("int8-dynamic", {}),
    "static": ("int8", {}),
    "static, smoothquant": ("int8", {"equalize": "smoothquant"}),
    "weights, 4 bits": ("int4", {}),
}


def minilm(count: int, only: str) -> None:
    """Intents of questions to a bank by a linear head on embeddings; 256 training questions to
    calibrate."""
    weights, vocabulary = mini.files()
    graph, folder = mini.model(weights), DATA / "banking77"
    head = np.load(folder / "minilm_head.npz")
    texts, intents = mini.questions(folder / "test.csv")
    step = max(1, len(texts) // count)
    rows, intents = [mini.tokens(t, vocabulary) for t in texts[::step]], intents[::step]
    train = mini.questions(folder / "train.csv")[0]
    train = [mini.tokens(t, vocabulary) for t in train[:: len(train) // 256]]
    feeds = [{"ids": np.array([train[i] for i in g])} for g in mini.by_length(train)]

    def said(name: str, model: object, since: float, floats: np.ndarray | None) -> np.ndarray:
        e = mini.embeddings(tessel.compile(model), rows)
        answers = head["classes"][(e @ head["w"].T + head["b"]).argmax(1)]
        right = 100 * (answers == np.array(intents)).mean()
        cosine = 1.0 if floats is None else float((e * floats).sum(1).mean())
        figures = f"{right:6.2f} %  cosine {cosine:.4f}  {time.time() - since:4.0f} s"
        print(f"{name:24} {figures}", flush=True)
        return e

    floats = said("f32", graph, time.time(), None)
    for name, (preset, fields) in MINILM.items():
        if only in name:
            since, recipe = time.time(), Recipe.of(preset, **fields)
            needs = recipe.needs_data or recipe.chooses_weights
            said(name, tessel.quantize(graph, feeds if needs else None, recipe), since, floats)
