"""What backends share: the machine that code is generated for, and memory as it wants it."""

from collections.abc import Mapping
from typing import TypeGuard

import numpy as np

from ..classes import dataclass
from ..ir.dims import substitute
from ..ir.types import TensorType, Type

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
LINE = 64  # bytes of a cache line
PAGE = 4096  # addresses that differ by a multiple of it share a set of the first-level cache


def aligned_empty(nbytes: int) -> np.ndarray:
    """Uninitialised bytes at an address that is a multiple of 64: no vector straddles two lines."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


def place_slots(slots: tuple, sizes: Mapping[str, int]) -> tuple[list[int], int]:
    """Where each slot begins in the arena, in bytes, and the arena's size."""
    starts, total = [], 0
    for slot in slots:
        starts.append(total)
        total += -(-substitute(slot, sizes) // ALIGNMENT) * ALIGNMENT
    return starts, total


def has_bytes(type: Type) -> TypeGuard[TensorType]:
    """Whether values of the type lie in memory: not strings, sequences and maps."""
    return isinstance(type, TensorType) and type.dtype.kind != "s"


@dataclass(frozen=True)
class Machine:
    """A CPU: LLVM triple, cpu and features, and what schedules need to know about it.

    `vector_bytes` is the width of a vector register, `registers` how many there are,
    `l1` and `l2` cache sizes in bytes (per core), `converts_half` whether it has instructions
    between f16 and f32.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    l1: int = 32 << 10
    l2: int = 512 << 10
    converts_half: bool = True

    @property
    def multiplies_pairs(self) -> bool:
        """Whether an instruction multiplies pairs of i16 and adds the two products (vpmaddwd)."""
        return self.triple.startswith("x86_64")

    @property
    def sums_pairs(self) -> bool:
        """Whether one instruction multiplies pairs of i16 and adds them to a sum (vpdpwssd)."""
        return bool({"+avx512vnni", "+avxvnni"} & set(self.features.split(",")))

    def sums_apart(self, pairs: bool) -> bool:
        """Whether products of `pairs` are added to their sums by an instruction of its own."""
        return pairs and not self.sums_pairs

    def lanes(self, bits: int) -> int:
        """Elements of a vector register."""
        return max(1, self.vector_bytes * 8 // bits)
