"""A model with inputs: what a case of this folder compiles and runs."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TARGETS = ("cpu", "cpu", "cpu:x86-64-v3", "cpu:x86-64-v2")
LEVELS = (0, 1, 2, 2, 2, 3)


@dataclass
class Feed:
    """Inputs of one run by name. `comparable`: floats hold no stray values, of which the reference
    and machine code may make different things (NaN as an integer)."""

    arrays: dict[str, Any]
    comparable: bool = True

    def __str__(self) -> str:
        return ", ".join(
            f"{n}: {x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else f"{n}: {type(x)}"
            for n, x in self.arrays.items()
        )


@dataclass
class Subject:
    """`model` is what `tessel.compile` takes; `reference(arrays)` lists its outputs as numpy
    computes them, and raises whatever it pleases for arrays that make no sense."""

    model: Any
    feeds: list[Feed]
    reference: Callable[[dict], list]
    rtol: float = 1e-3
    options: dict[str, Any] = field(default_factory=dict)
    about: str = ""


class Refused(Exception):
    """A model that cannot even be written down with these sizes: a TesselError came before."""


def options(rng: random.Random, targets: tuple[str, ...]) -> dict[str, Any]:
    """How a subject is compiled. `targets`: those that run on this machine."""
    chosen = rng.choice(TARGETS)
    return {
        "target": chosen if chosen in targets else "cpu",
        "opt_level": rng.choice(LEVELS),
    }
