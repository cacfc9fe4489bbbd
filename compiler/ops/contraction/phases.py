"""A transposed convolution along one axis, by the phases of its outputs.

    y[stride*m + r] = sum over taps t with (r + begin - t*dilation) % stride == 0 of
                      w[t] x[m + (r + begin - t*dilation) // stride]

The outputs of one phase r are a convolution of stride 1, whose taps are some of w's. Phases that
read x at the same offsets from m can share one convolution with as many times the outputs; so can
all of them, where taps that a phase lacks are zeros.
"""

from functools import reduce
from math import gcd

import numpy as np

from ...classes import dataclass


@dataclass(frozen=True)
class Phases:
    """Phases first, first + 1, … of an axis. Phase first + p takes x[m + low + j*step] times
    w[taps[j, p]]; there is no such tap where that is -1, and none at all where taps are empty."""

    first: int
    taps: np.ndarray
    low: int
    step: int

    @property
    def count(self) -> int:
        return self.taps.shape[1]

    @property
    def high(self) -> int:
        """The last offset from m."""
        return self.low + self.step * (len(self.taps) - 1)


def _taps(r: int, kernel: int, stride: int, begin: int, dilation: int) -> dict[int, int]:
    """{offset from m: tap} of phase r."""
    reaches = {t: r + begin - t * dilation for t in range(kernel)}
    return {reach // stride: t for t, reach in reaches.items() if reach % stride == 0}


def _phases(first: int, taps: list[dict[int, int]]) -> Phases:
    offsets = sorted({o for found in taps for o in found})
    if not offsets:
        return Phases(first, np.empty((0, len(taps)), int), 0, 1)
    step = reduce(gcd, (o - offsets[0] for o in offsets[1:]), 0) or 1
    rows = range(offsets[0], offsets[-1] + 1, step)
    table = np.array([[found.get(o, -1) for found in taps] for o in rows])
    return Phases(first, table, offsets[0], step)


def together(kernel: int, stride: int, begin: int, dilation: int) -> list[Phases]:
    """All phases of an axis at once."""
    return [_phases(0, [_taps(r, kernel, stride, begin, dilation) for r in range(stride)])]


def apart(kernel: int, stride: int, begin: int, dilation: int, single: bool) -> list[Phases]:
    """Phases that read at the same offsets, or each by itself if `single`."""
    runs: list[list[dict[int, int]]] = []
    for r in range(stride):
        taps = _taps(r, kernel, stride, begin, dilation)
        if runs and not single and runs[-1][0].keys() == taps.keys():
            runs[-1].append(taps)
        else:
            runs.append([taps])
    found, first = [], 0
    for run in runs:
        found.append(_phases(first, run))
        first += len(run)
    return found
