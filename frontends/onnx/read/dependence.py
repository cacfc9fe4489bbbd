"""Which inputs of a model an operand follows from.

An operand that decides a shape must be known while reading, or become a symbol that the model
binds while it runs (`sizes.py`). Where it follows from small inputs of integers only, the model is
read anew for each of their values: the error says which ones (see `specialized.py`). Operands that
must be numbers (axes) cannot follow from data.
"""

from collections.abc import Sequence

import numpy as np

from ....compiler.errors import InputError, TesselError, UnsupportedError
from ....compiler.ir import op
from ....compiler.ir.builder import Tensor
from ....compiler.ir.dims import Sym
from ....compiler.ir.graph import Graph, Value
from ....compiler.ir.types import TensorType
from .folded import FoldedValue, FoldingBuilder

LARGEST = 64  # elements of an input whose value may decide shapes


class ValueDependence(UnsupportedError):
    """Something must be known that follows from the values of `inputs`.

    `data`: some of them are floats, or of rank 2 or more (tokens), which rarely come twice.
    """

    def __init__(self, message: str, *, inputs: Sequence[str] = (), data: bool = False, **details):
        super().__init__(message, **details)
        self.inputs, self.data = tuple(inputs), data


class SizeDependence(UnsupportedError):
    """Something can only be read when sizes are known that are open now: the model is read anew for
    those of each run (`specialized.py`)."""

    def __init__(self, message: str, *, fix: str | None = None, **details):
        super().__init__(
            message, fix=fix or "pass --shapes (compile: sizes are those of a run)", **details
        )


def value_dependence(
    operand: Tensor, what: str, where: str, b: FoldingBuilder, graph: Graph
) -> UnsupportedError:
    """The error for an operand that is not known; `graph` is the model's (not a region's)."""
    message = f"{what} must be known when the graph is read"
    if isinstance(operand, FoldedValue):
        shown = f"[{', '.join(map(str, operand.array.reshape(-1)))}]"
        return SizeDependence(message, where=where, received=shown)
    sources, controls = _behind(operand.value, b)
    names = [v.name for v in graph.inputs if v in sources]
    refused = [f"{v.name}: {v.type}" for v in graph.inputs if v in sources and not fits(v.type)]
    inner = any(v not in graph.inputs for v in sources)
    if names and not refused and not inner and "scan" not in controls:
        listed = ", ".join(names)
        found = [v.type for v in graph.inputs if v in sources]
        data = any(t.dtype.is_float or t.rank > 1 for t in found)
        return ValueDependence(
            message,
            where=where,
            inputs=names,
            data=data,
            received=f"it follows from {listed}",
            fix=f"make it an initializer, or give {listed} with --inputs (compile: when it runs)",
        )
    if graph.symbols() and (controls or not sources):
        fix = "make it an initializer, or pass --shapes so that it follows from the shapes"
        return SizeDependence(message, where=where, fix=fix)
    return UnsupportedError(
        message,
        where=where,
        expected=f"it follows from shapes, or from inputs of at most {LARGEST} elements",
        received=f"it follows from {', '.join(refused)}" if refused else None,
        fix="make it an initializer",
    )


def fits(type: TensorType) -> bool:
    """Whether an input of this type is small enough to be known by value.

    Floats of higher rank are data, however few they are.
    """
    if type.dtype.kind not in "iufb" or (type.dtype.is_float and type.rank > 1):
        return False
    return isinstance(type.size, Sym) or type.size <= LARGEST


def known_input(x: Tensor, array: np.ndarray) -> FoldedValue:
    """The value `array` in place of the input `x`. Raises InputError for what does not fit."""
    where, known = f"input {x.value.name}", FoldedValue(x.b, array)
    if known.type != x.type:
        raise InputError(
            "the value does not fit the model", where=where, expected=x.type, received=known.type
        )
    if not fits(known.type):
        raise InputError(
            "this input decides shapes, and is too large for it",
            where=where,
            expected=f"at most {LARGEST} elements; floats of rank 0 or 1",
            received=known.type,
        )
    return known


def _behind(value: Value, b: FoldingBuilder) -> tuple[set[Value], set[str]]:
    """The inputs that a value is computed from, and which of `if` and `scan` lie on the way."""
    sources: set[Value] = set()
    controls: set[str] = set()
    seen: set[Value] = set()
    stack = [value]
    while stack:
        v = stack.pop()
        while v in b.outer:
            v = b.outer[v]
        if v in seen:
            continue
        seen.add(v)
        if v.node is None:
            sources.add(v)
            continue
        if isinstance(v.node.op.loops, op.Control):
            controls.add(v.node.op.name)
        stack += [x for x in v.node.inputs if x is not None]
    return sources, controls


def needed(error: TesselError) -> set[str] | None:
    """The inputs whose values a model lacks to be read; None if something else is wrong too.

    What only lacks the sizes of the inputs is not wrong.
    """
    names: set[str] = set()
    for finding in error.findings:
        if isinstance(finding, ValueDependence):
            names |= set(finding.inputs)
        elif not isinstance(finding, SizeDependence):
            return None
    return names if error.findings else None
