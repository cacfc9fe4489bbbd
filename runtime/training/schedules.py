"""Schedules of the learning rate: functions of the step, 0, 1, …

cosine(1e-3, steps=1000, warmup=100)            warm_up(steps(0.1, every=30, factor=0.1), 5)
"""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant(lr: float) -> Schedule:
    """Always the same."""
    return lambda step: lr


def cosine(lr: float, steps: int, warmup: int = 0, end: float = 0.0) -> Schedule:
    """Up in a line over `warmup` steps, then down to `end` along a half cosine."""

    def at(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return end + (lr - end) * 0.5 * (1 + math.cos(math.pi * done))

    return at


def linear(lr: float, steps: int, end: float = 0.0, power: float = 1.0) -> Schedule:
    """From `lr` to `end` over `steps`: along a line, or along a power of what is left."""
    return lambda step: end + (lr - end) * (1 - min(1.0, step / max(1, steps))) ** power


def steps(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """Multiplied with `factor` each `every` steps."""
    return lambda step: lr * factor ** (step // every)


def exponential(lr: float, rate: float, every: int = 1) -> Schedule:
    """lr * rate^(step / every)"""
    return lambda step: lr * rate ** (step / every)


def one_cycle(
    peak: float, steps: int, rise: float = 0.3, start: float = 0.04, end: float = 4e-6
) -> Schedule:
    """Up along a half cosine for a share of the steps, then down (Smith, Topin 2018).

    `start` and `end` are shares of the peak.
    """
    up = max(1, round(steps * rise))

    def at(step: int) -> float:
        low, done = (start, step / up) if step < up else (end, (step - up) / max(1, steps - up))
        way = 0.5 * (1 - math.cos(math.pi * min(1.0, done)))
        return peak * (low + (1 - low) * (way if step < up else 1 - way))

    return at


def warm_up(schedule: Schedule | float, steps: int) -> Schedule:
    """A schedule that begins with a line from 0 over `steps`, and is then as it was."""

    def at(step: int) -> float:
        lr = schedule(step) if callable(schedule) else schedule
        return lr * min(1.0, (step + 1) / max(1, steps))

    return at
