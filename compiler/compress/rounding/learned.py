"""Rounding that is learned: up or down, by a number for each weight that is trained.

AdaRound (Nagel et al. 2020, arXiv:2004.10568): v chooses between the two neighbours,

    w' = s · (clip(floor(w / s) + h(v) + z, low, high) - z)
    h(v) = clip(1.2 · sigmoid(v) - 0.1, 0, 1)

and sum 1 - |2 h(v) - 1|^beta, with beta falling, sends each h to 0 or 1. AutoRound (Cheng et al.
2023, arXiv:2309.05516) moves weights by at most half a step before they are rounded to nearest,
and scales by a factor r:

    w' = s·r · (clip(round((w + v·s) / (s·r)) + z, low, high) - z)      v in [-0.5, 0.5]

All start at nearest: h(v) = w / s - floor(w / s), v = 0, r = 1.
"""

from dataclasses import replace

import numpy as np

from .grid import Rounded

STRETCH = 1.2  # h reaches 0 and 1 at finite v
DECIDED = 50.0  # h(DECIDED) is 1, h(-DECIDED) is 0


def below(w: np.ndarray, start: Rounded) -> np.ndarray:
    """floor(w / s) + z, f32[rows, k]: the lower of the two numbers that a weight may become."""
    scale, zero = (start.grid.widened(t, w.shape[1]) for t in (start.scale, start.zero))
    return (np.floor(w / scale) + zero).astype(np.float32)


def first_v(w: np.ndarray, start: Rounded) -> np.ndarray:
    """v with which h(v) is the fraction of w / s."""
    quotient = w / start.grid.widened(start.scale, w.shape[1])
    fraction = np.clip((quotient - np.floor(quotient) + 0.1) / STRETCH, 1e-3, 1 - 1e-3)
    return np.log(fraction / (1 - fraction)).astype(np.float32)


def decided(v: np.ndarray) -> np.ndarray:
    """v far away from 0: the h of each is 0 or 1."""
    return np.where(v >= 0, np.float32(DECIDED), np.float32(-DECIDED))


def up_or_down(w: np.ndarray, start: Rounded, v: np.ndarray) -> Rounded:
    """What AdaRound makes of w f32[rows, k] with v f32[rows, k]."""
    grid = start.grid
    q = np.clip(below(w, start) + (v >= 0), grid.low, grid.high).astype(np.int32)
    return replace(start, q=q).called("adaround")


def shifted(w: np.ndarray, start: Rounded, v: np.ndarray) -> np.ndarray:
    """w f32[rows, k] moved by v steps, as AutoRound rounds it."""
    steps = np.clip(np.asarray(v, np.float32), np.float32(-0.5), np.float32(0.5))
    return w + steps * start.grid.widened(start.scale, w.shape[1])
