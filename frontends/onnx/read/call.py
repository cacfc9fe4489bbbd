"""`Call`: one ONNX node as its table entry sees it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....compiler.errors import ModelError, TypeMismatch, UnsupportedError
from ....compiler.ir.builder import Tensor
from ....compiler.ir.dims import Sym
from ....compiler.ir.limits import INDEX
from ....compiler.ir.types import DType, normalize_axis
from .dependence import SizeDependence, ValueDependence, value_dependence
from .folded import FoldedValue, FoldingBuilder, as_symbols
from .symbolic import bound, elements

_REQUIRED = object()
ANYWHERE = {"consumed_inputs"}  # an attribute of opset 1 that never meant anything


class Call:
    """A node: operands `c[i]` (None if absent), attributes, the opset version of its domain.

    Every attribute must be asked for: one that no entry reads is reported as unsupported.
    """

    def __init__(
        self,
        b: FoldingBuilder,
        op_type: str,
        domain: str,
        version: int,
        where: str,
        inputs: Sequence,
        attrs: dict[str, Any],
        outputs: Sequence[str],
        reader=None,
        scope=None,
        proto=None,
    ):
        self.b, self.op_type, self.domain, self.version = b, op_type, domain, version
        self.where, self.inputs, self.attrs, self.outputs = where, list(inputs), attrs, outputs
        self.reader, self.scope, self.proto = reader, scope, proto
        self.read_attributes: set[str] = set(ANYWHERE)

    def __getitem__(self, i: int) -> Tensor | None:
        return self.inputs[i] if i < len(self.inputs) else None

    def x(self, i: int = 0) -> Tensor:
        """Operand i, which must be there and be a tensor."""
        value = self[i]
        if value is None:
            raise ModelError(f"operand {i} is missing", where=self.where)
        if not isinstance(value, Tensor):
            raise TypeMismatch(
                f"operand {i} is not a tensor", where=self.where, received=type(value).__name__
            )
        return value

    @property
    def tensors(self) -> list[Tensor]:
        return [self.x(i) for i in range(len(self.inputs))]

    def wants(self, output: int) -> bool:
        """Whether somebody may read that output."""
        return output < len(self.outputs) and self.outputs[output] != ""

    # -- attributes -----------------------------------------------------------------------

    def has(self, name: str) -> bool:
        return name in self.attrs

    def attr(self, name: str, default=_REQUIRED):
        self.read_attributes.add(name)
        if name in self.attrs:
            return self.attrs[name]
        if default is _REQUIRED:
            raise ModelError(f"attribute {name} is missing", where=self.where)
        return default

    def ignore(self, *names: str) -> None:
        """Attributes that change nothing about the result."""
        self.read_attributes |= set(names)

    def only(self, name: str, *values) -> None:
        """Accept an attribute with these values only (the first is its default)."""
        value = self.attr(name, values[0])
        if value not in values:
            raise UnsupportedError(
                f"attribute {name} has an unsupported value",
                where=self.where,
                expected=" or ".join(map(repr, values)),
                received=repr(value),
            )

    def axis(self, default=_REQUIRED, *, rank: int | None = None, name: str = "axis") -> int:
        return normalize_axis(self.attr(name, default), self.x().rank if rank is None else rank)

    # -- operands that decide shapes --------------------------------------------------------

    def known(self, i: int) -> np.ndarray | None:
        """The elements of operand i if the reader knows them."""
        value = self[i]
        return value.array if isinstance(value, FoldedValue) else None

    def symbols(self, i: int, name: str) -> list | None:
        """Operand i as ints and dims; None if absent. What only data knows becomes a symbol, for
        elements that are sizes (at least 0)."""
        found = self.elements(i, name)
        return None if found is None else bound(self, found, name)

    def elements(self, i: int, name: str, count: int | None = None) -> list | None:
        """Operand i as ints, dims and, where only data knows them, scalar tensors; None if absent.
        `count`: how many there must be.

        Raises ValueDependence where small integer inputs decide: the model is read for their
        values.
        """
        if self[i] is None:
            return None
        if self.known(i) is None:
            error = self.value_dependence(i, f"the value of operand {name}")
            if isinstance(error, ValueDependence) and not error.data:
                raise error
        return elements(self, self.x(i), count)

    def value_dependence(self, i: int, what: str) -> UnsupportedError:
        """The error for operand i, which decides a shape and is not known (enough)."""
        return value_dependence(self.x(i), what, self.where, self.b, self.reader.graph)

    def ints(self, i: int, name: str) -> list[int] | None:
        """Operand i as ints. Raises UnsupportedError if it depends on symbolic dims."""
        if self[i] is None:
            return None
        array = self.known(i)
        if array is None or any(isinstance(v, Sym) for v in array.flat):
            raise self.value_dependence(i, f"the value of operand {name}")
        return as_symbols(array)

    def floats(self, i: int, name: str) -> list[float] | None:
        if self[i] is None:
            return None
        if self.known(i) is None or self[i].symbolic:
            self.ints(i, name)
        return [float(v) for v in self.known(i).reshape(-1)]

    def ints_of(self, attribute: str, i: int, since: int, default=None) -> list[int] | None:
        """An attribute that became operand i in opset `since`."""
        if self.version < since:
            value = self.attr(attribute, None)
        else:
            value = self.ints(i, attribute)
        return default if value is None else value

    # -- making things ----------------------------------------------------------------------

    def within(self, x: Tensor, low, high, what: str = INDEX) -> Tensor:
        """x, whose elements have to be low, …, high - 1 when the model runs."""
        return self.b.emit("within", x, low=low, high=high, what=what)

    def scalar(self, value, dtype: DType) -> FoldedValue:
        return self.b.constant(np.asarray(value).astype(dtype.numpy))

    def size_dependence(self, message: str, **details) -> SizeDependence:
        """The error for something that can be read when sizes are known."""
        return SizeDependence(message, where=self.where, **details)

    def unsupported(self, message: str, **details) -> UnsupportedError:
        return UnsupportedError(message, where=self.where, **details)
