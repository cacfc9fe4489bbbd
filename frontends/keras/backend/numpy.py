"""Functions of Keras' numpy module whose own code does not suit traced tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..functions import movement
from ..functions.traced import TracedArray, emit, joined


def divide_no_nan(x1: Any, x2: Any) -> TracedArray:
    """x1 / x2, and 0 where x2 is 0, with finite gradients."""
    x1, x2 = joined(x1, x2, floating=True)
    none = x2 == 0
    safe = movement.where(none, np.ones((), x2.dtype), x2)
    return movement.where(none, np.zeros((), x1.dtype), emit("div", x1, safe))


FUNCTIONS: dict[str, Callable] = {"divide_no_nan": divide_no_nan}
