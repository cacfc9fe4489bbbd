"""A model with inputs: what a case of this folder compiles and runs."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tessel.compiler.ir.types import BF16, F16, F32, F64, dtype_of

TARGETS = ("cpu", "cpu", "cpu:x86-64-v3", "cpu:x86-64-v2")
LEVELS = (0, 1, 2, 2, 2, 3)
UNCHECKED = 0.1  # share of models that do not look at indices, which must not matter here
ROUNDING = {F64: 1e-3, F32: 1e-3, F16: 1e-2, BF16: 5e-2}  # relative, over all that a model sums up


@dataclass
class Feed:
    """Inputs of one run by name.

    comparable   floats hold no stray values, of which the reference and machine code may make
                 different things (NaN as an integer)
    specified    the op says what it makes of these; else only what is touched can be looked at
    """

    arrays: dict[str, Any]
    comparable: bool = True
    specified: bool = True

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


def tolerance(arrays: Iterable, least: float = 1e-3) -> float:
    """What rounding may cost, by the narrowest floats among the inputs."""
    kinds = [dtype_of(x) for x in arrays if isinstance(x, np.ndarray) and x.dtype != object]
    return max([least, *(ROUNDING.get(d, 0.3) for d in kinds if d.is_float)])


class Refused(Exception):
    """A model that cannot even be written down with these sizes: a TesselError came before."""


def options(rng: random.Random, targets: tuple[str, ...]) -> dict[str, Any]:
    """How a subject is compiled. `targets`: those that run on this machine."""
    chosen = rng.choice(TARGETS)
    return {
        "target": chosen if chosen in targets else "cpu",
        "opt_level": rng.choice(LEVELS),
        "unchecked": rng.random() < UNCHECKED,
    }
