"""Memory that a stage has used goes back before the next one needs its own."""

import ctypes
import gc
import sys


def give_back() -> None:
    """Free executables, which are in circles, and let the C library return what it holds: glibc
    keeps the pieces of packed weights otherwise."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
