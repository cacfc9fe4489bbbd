"""Where the memory of machine code lies: outputs, weights, and the arena and scratch of a run.

Inputs are the caller's. `NativeModule.memory` is what modules take theirs from; tests put one in
its place whose arrays lie between pages that nobody may touch (`tests/guard_pages.py`).
"""

from collections.abc import Sequence

import numpy as np

from ...compiler.kernels.machine import ALIGNMENT, aligned_empty


class Workspace:
    """Memory of one run at a time, which grows and stays for smaller runs."""

    def __init__(self) -> None:
        self._whole = np.empty(0, np.uint8)

    def place(self, sizes: Sequence[int]) -> list[np.ndarray]:
        """Blocks of so many bytes at least, at multiples of 64. What was in memory is lost."""
        rounded = [-(-n // ALIGNMENT) * ALIGNMENT for n in sizes]
        if sum(rounded) > self._whole.nbytes:
            self._whole = aligned_empty(sum(rounded))
        blocks, start = [], 0
        for n in rounded:
            blocks.append(self._whole[start : start + n])
            start += n
        return blocks


class Memory:
    """Memory from numpy."""

    def output(self, shape: tuple, dtype: np.dtype) -> np.ndarray:
        """An array for a run to write, every element of it."""
        return np.empty(shape, dtype)

    def weight(self, array: np.ndarray) -> np.ndarray:
        """The elements of a weight, contiguous; nobody writes to them."""
        return np.ascontiguousarray(array)

    def workspace(self) -> Workspace:
        """For a frame: its arena, or the slots of one, and scratch memory."""
        return Workspace()
