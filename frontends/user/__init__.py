"""Ops of your own, as `tessel.ops`: `register` one, `check_op` it, read it from ONNX.

    from tessel import ops

    ops.register("softcap", "x: T -> T", "cap * tanh(x / cap)", T="float", …, onnx="mine:SoftCap")
    ops.check("softcap")

The words that a record is made of are those of `compiler/ir/op.py`; docs/custom-ops.md shows
each of them at work.
"""

from typing import TYPE_CHECKING

from ...compiler.errors import TypeMismatch
from ...compiler.expr import expr
from ...compiler.ir.limits import Limit
from ...compiler.ir.op import (
    Attr,
    Elementwise,
    Expand,
    Extern,
    Kernels,
    NotDifferentiable,
    Pull,
    Sample,
)
from ...compiler.ir.types import MapType, SequenceType, TensorType
from ...compiler.ops.common import broadcast_shape, reference, same_shape, through_expansion
from ...compiler.system.concurrency import exports

if TYPE_CHECKING:
    from .checking import check
    from .foreign import CFunction
    from .registration import register, unregister

__all__ = [
    "Attr",
    "CFunction",
    "Elementwise",
    "Expand",
    "Extern",
    "Kernels",
    "Limit",
    "MapType",
    "NotDifferentiable",
    "Pull",
    "Sample",
    "SequenceType",
    "TensorType",
    "TypeMismatch",
    "broadcast_shape",
    "check",
    "expr",
    "reference",
    "register",
    "same_shape",
    "through_expansion",
    "unregister",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        ".checking": "check",
        ".foreign": "CFunction",
        ".registration": "register unregister",
    },
)
