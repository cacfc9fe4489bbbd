"""Observers: from the statistics of a value to the range whose numbers bytes stand for.

    minmax           [min, max] of all data
    moving_average   the mean of the runs' minima, and of their maxima
    percentile       what keeps so much of the values inside
    entropy          the threshold at which the quantized distribution diverges least from the true
                     one (Migacz, 8-bit inference with TensorRT, 2017)
    mse              the range with the least squared error, of those that cut the tails in steps
    auto             of all of these, the one with the least squared error

All take the same histogram (`statistics.py`), so one pass over the data serves them all. Every
range holds 0, so that padding and the least value of a relu are exact.
"""

from collections.abc import Callable

import numpy as np

from ..classes import dataclass
from ..ir.types import DTYPES
from ..system.concurrency import lazy
from .recipe import Scale
from .statistics import BINS, OCTAVE, centers

Range = tuple[float, float]
FINE = 4  # points of each bin at which errors are looked at
STEPS = np.concatenate([np.linspace(1, 0.7, 16), np.geomspace(0.68, 0.02, 40)])
LEVELS = 128  # of the entropy observer's distribution
LINEAR = 2048  # its bins


@dataclass(eq=False)
class Observed:
    """What a calibration saw of a value: see `statistics.py`."""

    range: np.ndarray
    ends: np.ndarray
    histogram: np.ndarray

    @property
    def runs(self) -> float:
        return float(self.ends[2])

    @lazy
    def least_most(self) -> Range:
        return min(0.0, float(self.range[0])), max(0.0, float(self.range[1]))

    @lazy
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """(values in order, how often each): the filled bins, each at `FINE` points inside of it,
        never outside of [min, max]."""
        filled = np.flatnonzero(self.histogram)
        middle = centers(filled)
        half = 2.0 ** np.floor(np.log2(np.abs(middle))) / OCTAVE / 2
        offsets = (np.arange(FINE) - (FINE - 1) / 2) / FINE * 2
        values = (middle[:, None] + half[:, None] * offsets).ravel()
        low = (filled % BINS == 0)[:, None]  # zeros, mostly
        values = np.where(np.broadcast_to(low, (len(filled), FINE)).ravel(), 0.0, values)
        counts = np.repeat(self.histogram[filled] / FINE, FINE)
        order = np.argsort(values, kind="stable")
        return np.clip(values[order], *self.least_most), counts[order]

    def merged(self, other: "Observed") -> "Observed":
        """What was seen of two values that share a scale."""
        range = np.array(
            [min(self.range[0], other.range[0]), max(self.range[1], other.range[1])], np.float32
        )
        low, high = (min, max)
        ends = np.array(
            [
                low(self.ends[0], other.ends[0]),
                high(self.ends[1], other.ends[1]),
                self.ends[2],
                self.ends[3] + other.ends[3],
            ],
            np.float32,
        )
        return Observed(range, ends, self.histogram + other.histogram)


# -- scales and errors ----------------------------------------------------------------------------


def scale_of(range: Range, dtype: str, observer: str = "") -> Scale:
    """The scale and zero point for a range: u8 as wide as it is, i8 about 0."""
    low, high = min(0.0, range[0]), max(0.0, range[1])
    least, most = limits(dtype)
    if dtype.startswith("i"):
        scale = float(np.float32(max(-low, high) / most)) or 1.0
        return Scale(scale, 0, observer)
    scale = float(np.float32((high - low) / (most - least))) or 1.0
    zero = int(np.clip(np.rint(least - low / scale), least, most))
    return Scale(scale, zero, observer)


def limits(dtype: str) -> tuple[int, int]:
    """The least and largest number of a quantized type."""
    bits = DTYPES[dtype].bits
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def squared_error(seen: Observed, scale: Scale, dtype: str) -> float:
    """The mean squared error of values that are quantized so."""
    values, counts = seen.points
    least, most = limits(dtype)
    q = np.clip(np.rint(values / scale.scale) + scale.zero, least, most)
    error = (q - scale.zero) * scale.scale - values
    return float((error * error * counts).sum() / max(counts.sum(), 1))


def clipped(seen: Observed, scale: Scale, dtype: str) -> float:
    """The share of values outside of what the type holds."""
    values, counts = seen.points
    least, most = ((n - scale.zero) * scale.scale for n in limits(dtype))
    half = scale.scale / 2
    outside = counts[(values < least - half) | (values > most + half)].sum()
    return float(outside / max(counts.sum(), 1))


# -- observers ------------------------------------------------------------------------------------


def _minmax(seen: Observed, dtype: str, percentile: float) -> Range:
    return seen.least_most


def _moving_average(seen: Observed, dtype: str, percentile: float) -> Range:
    return float(seen.ends[0]) / seen.runs, float(seen.ends[1]) / seen.runs


def _percentile(seen: Observed, dtype: str, percentile: float) -> Range:
    values, counts = seen.points
    below = np.cumsum(counts) / counts.sum()
    outside = 1 - percentile / 100
    low = values[min(np.searchsorted(below, outside), len(values) - 1)]
    high = values[min(np.searchsorted(below, 1 - outside), len(values) - 1)]
    return float(low), float(high)


def _entropy(seen: Observed, dtype: str, percentile: float) -> Range:
    values, counts = seen.points
    sizes = np.abs(values)
    top = max(-seen.least_most[0], seen.least_most[1])
    if top == 0:
        return 0.0, 0.0
    bins = np.minimum((sizes / top * LINEAR).astype(np.int64), LINEAR - 1)
    # Zeros are exact whatever the threshold is: they say nothing.
    whole = np.bincount(bins[sizes > 0], counts[sizes > 0], LINEAR)
    best, threshold = np.inf, LINEAR
    for i in range(LEVELS, LINEAR + 1, 8):
        p = whole[:i].copy()
        p[-1] += whole[i:].sum()
        divergence = _divergence(p, whole[:i])
        if divergence < best:
            best, threshold = divergence, i
    cut = top * threshold / LINEAR
    return max(seen.least_most[0], -cut), min(seen.least_most[1], cut)


def _divergence(p: np.ndarray, inside: np.ndarray) -> float:
    """Kullback and Leibler's, from p to `inside` told by LEVELS numbers only."""
    group = np.minimum(np.arange(len(p)) * LEVELS // len(p), LEVELS - 1)
    filled = inside > 0
    total = np.bincount(group, inside, LEVELS)
    used = np.bincount(group, filled, LEVELS)
    q = np.where(filled, (total / np.maximum(used, 1))[group], 0)
    if not p.sum() or not q.sum():
        return float("inf")
    p, q = p / p.sum(), q / q.sum()
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())


def _mse(seen: Observed, dtype: str, percentile: float) -> Range:
    low, high = seen.least_most
    found = [(squared_error(seen, scale_of((low * s, high * s), dtype), dtype), s) for s in STEPS]
    shrunk = min(found)[1]
    low, high = low * shrunk, high * shrunk
    if low and high and not dtype.startswith("i"):  # the ends one by one, from there
        for _ in range(2):
            low = _best(seen, dtype, [(low * s, high) for s in STEPS])[0]
            high = _best(seen, dtype, [(low, high * s) for s in STEPS])[1]
    return low, high


def _best(seen: Observed, dtype: str, ranges: list[Range]) -> Range:
    return min(ranges, key=lambda r: squared_error(seen, scale_of(r, dtype), dtype))


Observer = Callable[[Observed, str, float], Range]
OBSERVERS: dict[str, Observer] = {
    "minmax": _minmax,
    "moving_average": _moving_average,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}


def choose(seen: Observed, observer: str, dtype: str, percentile: float = 99.99) -> Scale:
    """The scale that an observer gives a value; its name is that of the observer that won."""
    if observer != "auto":
        return scale_of(OBSERVERS[observer](seen, dtype, percentile), dtype, observer)
    found = [choose(seen, name, dtype, percentile) for name in OBSERVERS]
    return min(found, key=lambda s: squared_error(seen, s, dtype))
