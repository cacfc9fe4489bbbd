"""Names to values while reading: graphs, inlined branches and functions, closed regions."""

from collections.abc import Mapping
from typing import Any

from ...compiler.builder import Tensor
from ...compiler.errors import UnsupportedError
from .values import Known, KnownBuilder


class Failed:
    """Stands for a value whose node could not be read; its readers are skipped."""


FAILED = Failed()
UNDEFINED = object()


class Sequence:
    """An ONNX sequence that exists while reading only: a list of tensors."""

    def __init__(self, items: list):
        self.items = items


class Scope:
    """What the names of one ONNX graph stand for.

    `parent` is the enclosing graph. A scope with the parent's builder is inlined in it; one with a
    builder of its own is a closed region, and what it uses from outside becomes an input of the
    region, listed in `captured` as {outer value: inner tensor}.
    """

    def __init__(
        self,
        builder: KnownBuilder,
        opsets: Mapping[str, int],
        *,
        parent: "Scope | None" = None,
        attributes: Mapping[str, Any] | None = None,
        prefix: str = "",
    ):
        self.builder, self.opsets, self.parent, self.prefix = builder, opsets, parent, prefix
        self.attributes = attributes
        self.values: dict[str, Any] = {}
        self.nodes: Any = () if parent is None else parent.nodes  # of the ONNX graph
        self.captured: dict[Any, Tensor] = {}
        if parent is not None:
            builder.outer = parent.builder.outer

    def child(self, builder: KnownBuilder, prefix: str) -> "Scope":
        """The scope of a graph attribute."""
        return Scope(builder, self.opsets, parent=self, attributes=self.attributes, prefix=prefix)

    def find(self, name: str):
        """The value of a name, None if it is absent, UNDEFINED where nothing made it (yet)."""
        if name in self.values:
            return self.values[name]
        if self.parent is None:
            return UNDEFINED
        value = self.parent.find(name)
        if self.builder is self.parent.builder:
            return value
        return self._import(value)

    def _import(self, value):
        if value is None or value is FAILED or value is UNDEFINED:
            return value
        if isinstance(value, Known):
            return Known(self.builder, value.array, value.dtype, value.name)
        if isinstance(value, Sequence):
            return Sequence([self._import(v) for v in value.items])
        if not isinstance(value, Tensor):
            raise UnsupportedError("a branch uses a value that is not a tensor", received=value)
        if value.value not in self.captured:
            inner = self.builder.input(f"{value.value.name}", value.type)
            self.captured[value.value] = inner
            self.builder.outer[inner.value] = value.value
        return self.captured[value.value]
