"""Arrays between pages that nobody may touch."""

import ctypes
import mmap
from collections.abc import Sequence

import numpy as np
from tessel.compiler.errors import OutOfMemoryError
from tessel.runtime.native.memory import Memory, Workspace

GUARD = 1 << 20  # bytes on either side: what strays further meets no mapping either, most likely
SIDES = ("end", "start")
FILLS = {"end": 0xA5, "start": 0x5A}  # of outputs; as numbers they are nothing that a run computes
DIRTY = {"end": 0xFF, "start": 0x7B}  # of arena and scratch: NaN and -1; large numbers
SLACK = 0xC3  # of what lies between an array and its page's other end

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PROT_NONE, PROT_READ = 0, mmap.PROT_READ


def _protect(address: int, size: int, rights: int) -> None:
    if size and _libc.mprotect(address, size, rights):
        raise OSError(ctypes.get_errno(), "mprotect")


class Region:
    """`size` bytes that end (`end`) or begin (`start`) at a page of no rights, on either side of
    which more such pages lie. Unmapped when nobody holds an array of it any more."""

    def __init__(self, size: int, side: str):
        pages = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        try:
            memory = mmap.mmap(-1, pages + 2 * GUARD, flags=flags)
        except OSError as error:
            raise OutOfMemoryError.of(MemoryError(f"{pages} bytes")) from error
        whole = np.frombuffer(memory, np.uint8)
        self.address, self.pages = whole.ctypes.data + GUARD, pages
        _protect(whole.ctypes.data, GUARD, PROT_NONE)
        _protect(self.address + pages, GUARD, PROT_NONE)
        inner = whole[GUARD : GUARD + pages]
        inner[:] = SLACK
        first = pages - size if side == "end" else 0
        self.bytes = inner[first : first + size]
        self._slack = (inner[:first], inner[first + size :])

    def as_array(self, shape: tuple, dtype: np.dtype) -> np.ndarray:
        return self.bytes.view(dtype).reshape(shape)

    def make_read_only(self) -> None:
        _protect(self.address, self.pages, PROT_READ)

    def is_intact(self) -> bool:
        """Whether nobody wrote beside the array, on its pages."""
        return all((part == SLACK).all() for part in self._slack)


class GuardedMemory(Memory):
    """The memory of native modules with guards at `side`; `check` looks at what lies beside."""

    def __init__(self, side: str = "end"):
        self.side, self._regions = side, []

    def input(self, x: np.ndarray, writable: bool = False) -> np.ndarray:
        """A copy of `x` that cannot be written to. Objects (strings, maps) stay as they are."""
        if not isinstance(x, np.ndarray) or x.dtype == object:
            return x
        region = self._region(x.nbytes)
        array = region.as_array(x.shape, x.dtype)
        array[...] = x
        if not writable:
            region.make_read_only()
        return array

    def output(self, shape: tuple, dtype: np.dtype) -> np.ndarray:
        dtype = np.dtype(dtype)
        region = self._region(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        region.bytes[:] = FILLS[self.side]
        return region.as_array(shape, dtype)

    def weight(self, array: np.ndarray) -> np.ndarray:
        return self.input(np.ascontiguousarray(array))

    def workspace(self) -> "GuardedWorkspace":
        return GuardedWorkspace(self)

    def check(self) -> str | None:
        """What is wrong beside the arrays that were made since the last check."""
        regions, self._regions = self._regions, []
        broken = sum(not r.is_intact() for r in regions)
        return f"{broken} arrays are written to beside their elements" if broken else None

    def _region(self, size: int) -> Region:
        region = Region(size, self.side)
        self._regions.append(region)
        return region


class GuardedWorkspace(Workspace):
    """Each block by itself, of just as many bytes as were asked for (whole words), dirty."""

    def __init__(self, memory: GuardedMemory):
        self._memory = memory

    def place(self, sizes: Sequence[int]) -> list[np.ndarray]:
        blocks = []
        for n in sizes:
            block = self._memory._region(-(-n // 8) * 8).bytes
            block[:] = DIRTY[self._memory.side]
            blocks.append(block)
        return blocks
