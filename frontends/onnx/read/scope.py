"""Names to values while reading: graphs, inlined branches and functions, closed regions."""

from collections.abc import Mapping
from typing import Any

from ....compiler.errors import UnsupportedError
from ....compiler.ir.builder import Tensor
from .folded import FoldedValue, FoldingBuilder


class Failed:
    """Stands for a value whose node could not be read; its readers are skipped."""


class Skip(Exception):
    """The node's results depend on something already reported."""


FAILED = Failed()
UNDEFINED = object()


class Sequence:
    """An ONNX sequence that exists while reading only: a list of tensors."""

    def __init__(self, items: list):
        self.items = items

    @property
    def type(self) -> str:
        """What errors call it."""
        return f"seq({', '.join(str(types_of(v)) for v in self.items)})"


class Empty:
    """An optional without an element. One with an element is the element."""

    type = "an empty optional"


EMPTY = Empty()


def flatten(values) -> list[Tensor]:
    """The tensors that values consist of, in order."""
    flat: list[Tensor] = []
    for v in values:
        if isinstance(v, Sequence):
            flat += flatten(v.items)
        elif isinstance(v, Tensor):
            flat.append(v)
    return flat


def regroup(like, flat: list) -> list:
    """`flat` tensors as values of the structure of `like`: the reverse of `flatten`."""
    rest = iter(flat)

    def take(v):
        if isinstance(v, Sequence):
            return Sequence([take(item) for item in v.items])
        return next(rest) if isinstance(v, Tensor) else v

    return [take(v) for v in like]


def types_of(value):
    """A tensor's type, a list of them for a sequence, None for an empty optional."""
    if isinstance(value, Sequence):
        return [types_of(v) for v in value.items]
    return value.type if isinstance(value, Tensor) else None


class Scope:
    """What the names of one ONNX graph stand for.

    `parent` is the enclosing graph. A scope with the parent's builder is inlined in it; one with a
    builder of its own is a closed region, and what it uses from outside becomes an input of the
    region, listed in `captured` as {outer value: inner tensor}.
    """

    def __init__(
        self,
        builder: FoldingBuilder,
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
            builder.budget = parent.builder.budget

    def child(self, builder: FoldingBuilder, prefix: str) -> "Scope":
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
        return self.take(value)

    def take(self, value):
        """A value of the enclosing graph, inside of this one."""
        if value is None or value is FAILED or value is UNDEFINED or value is EMPTY:
            return value
        if isinstance(value, FoldedValue):
            return FoldedValue(self.builder, value.array, value.dtype, value.name)
        if isinstance(value, Sequence):
            return Sequence([self.take(v) for v in value.items])
        if not isinstance(value, Tensor):
            raise UnsupportedError("a branch uses a value that is not a tensor", received=value)
        if value.value not in self.captured:
            inner = self.builder.input(f"{value.value.name}", value.type)
            self.captured[value.value] = inner
            self.builder.outer[inner.value] = value.value
        return self.captured[value.value]
