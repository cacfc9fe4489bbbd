"""What gradient rules are written with."""

from collections.abc import Sequence
from typing import Any, NoReturn

from ..ir.builder import Builder, Tensor


def through_expansion(c: Any, *douts: Any) -> NoReturn:
    """The gradient rule of composites that have none of their own.

    A marker: `autodiff/gradients.py` expands the op with its `Expand` rule and differentiates that.
    """
    raise AssertionError("compiler/autodiff/gradients.py expands the op instead of calling this")


def zeros_like(b: Builder, x: Any) -> Tensor:
    """Zeros of the dtype and shape of a tensor, a value or a type."""
    return b.scalar(0, x.dtype).expand(x.shape)


def summed_axes(full: Sequence, shape: Sequence) -> tuple[int, ...] | None:
    """The axes of `full` that a broadcast of `shape` repeats; None where dynamic dims decide."""
    lead = len(full) - len(shape)
    axes = list(range(lead))
    for d, (size, own) in enumerate(zip(full[lead:], shape), lead):
        known = isinstance(own, int) and own != 1  # `size` is that, or 1 in its turn
        if own == size or size == 1 or known:
            continue
        if own != 1:
            return None
        axes.append(d)
    return tuple(axes)


def sum_to(x: Tensor, shape: Sequence) -> Tensor:
    """`x` summed to a shape that broadcasts to its own."""
    axes = summed_axes(x.shape, shape)
    if axes is None:
        return x.b.emit("sum_to", x, shape=tuple(shape))
    return x if not axes else x.sum(axes=axes, keepdims=True).reshape(tuple(shape))
