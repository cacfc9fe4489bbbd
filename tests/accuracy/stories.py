"""stories260K, a small llama: its tokenizer, and perplexity on stories."""

import itertools
import struct
from pathlib import Path

import numpy as np

BOS, CONTEXT = 1, 256


class Tokenizer:
    """llama2.c's: pairs of pieces are merged, that with the best score first."""

    def __init__(self, path: Path, size: int = 512):
        data, at = path.read_bytes(), 4
        self.scores: dict[int, float] = {}
        self.ids: dict[bytes, int] = {}
        self.pieces: list[bytes] = []
        for i in range(size):
            score, length = struct.unpack_from("<fi", data, at)
            piece = data[at + 8 : at + 8 + length]
            at += 8 + length
            self.pieces.append(piece)
            self.ids.setdefault(piece, i)
            self.scores[i] = score

    def encode(self, text: str) -> list[int]:
        """With BOS; a space stands before the first word."""
        ids = [BOS]
        for word in _words(f" {text}"):
            ids += self._merged(word)
        return ids

    def _merged(self, word: str) -> list[int]:
        ids: list[int] = []
        for c in word:
            known = self.ids.get(c.encode())
            ids += [b + 3 for b in c.encode()] if known is None else [known]
        while True:
            joined = [
                self.ids.get(self.pieces[a] + self.pieces[b]) for a, b in itertools.pairwise(ids)
            ]
            found = [(self.scores[j], -i, j) for i, j in enumerate(joined) if j is not None]
            if not found:
                return ids
            _, at, j = max(found)
            ids[-at : -at + 2] = [j]


def _words(text: str) -> list[str]:
    """Pieces of the vocabulary have a space at most in front."""
    parts = text.split(" ")
    return [parts[0], *(" " + p for p in parts[1:])] if parts[0] else [" " + p for p in parts[1:]]


def stories(folder: Path) -> list[list[int]]:
    """The tokens of each story."""
    text = (folder / "stories.txt").read_text(encoding="utf-8")
    tokenizer = Tokenizer(folder / "tok512.bin")
    parts = [p for p in text.split("Once upon") if p.strip()]
    return [tokenizer.encode(("Once upon" + p).strip()) for p in parts]


def windows(tokens: list[list[int]]) -> np.ndarray:
    """The first tokens of each story and what follows each: i64[stories, CONTEXT + 1], -1 behind
    the end."""
    rows = [t[: CONTEXT + 1] for t in tokens]
    return np.array([r + [-1] * (CONTEXT + 1 - len(r)) for r in rows], np.int64)


def perplexity(exe, rows: np.ndarray, batch: int = 16) -> float:
    """exp of the mean of -log p of what follows."""
    total, count = 0.0, 0
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        logits = exe(np.maximum(part[:, :-1], 0)).astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        after = part[:, 1:]
        chosen = np.take_along_axis(log_p, np.maximum(after, 0)[..., None], -1)[..., 0]
        total -= chosen[after >= 0].sum()
        count += int((after >= 0).sum())
    return float(np.exp(total / count))
