"""The table of op records, whole when it is read, whoever reads it first; and the types of the
functions that a record consists of (`op.py` says what they mean).

These take operands' types, operands or arrays in the order of the signature, and attributes by
name. How many there are differs from op to op, so the ellipses stay.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Protocol, TypeAlias

from .types import Shape, Type

if TYPE_CHECKING:
    from .builder import Builder, Tensor
    from .op import Op, Sample


class Gradient(Protocol):
    """What a gradient rule sees of its node: operands (None where absent, one per declared input),
    results, attributes, and the Builder that it writes with."""

    inputs: "list[Tensor | None]"
    outputs: "list[Tensor]"
    attrs: dict[str, Any]
    b: "Builder"


ShapeRule: TypeAlias = Callable[..., Shape | list[Shape]]
TypeRule: TypeAlias = Callable[..., Type | tuple[Type, ...]]
Reference: TypeAlias = Callable[..., Any]  # arrays to an array, or a tuple of them
GradientRule: TypeAlias = "Callable[Concatenate[Gradient, ...], Iterable[Tensor | None]]"
ScalarRule: TypeAlias = Callable[..., Any]  # of `expr` and scalar expressions
IndexRule: TypeAlias = Callable[..., Callable[..., Any]]  # of the output's type and operands
KernelRule: TypeAlias = Callable[..., None]  # of a KernelWriter, the output's type and operands
ExpandRule: TypeAlias = "Callable[Concatenate[Builder, ...], Any]"  # a Tensor, or several
Samples: TypeAlias = "Callable[[], Iterable[Sample]]"

RECORDS = "..op_records"  # found by name: records are made of what this room has


class Records(dict[str, "Op"]):
    """Op records by name. Reading it imports the files that register them, once: a package's
    machine code runs without them.

    `loaded` is set by `records.py` when all of them are there. Until then other threads wait at
    Python's import lock, and an import that was interrupted is made up for by the next reader.
    `makers` are the namespaces of the files that registered them.
    """

    loaded = False

    def __init__(self) -> None:
        super().__init__()
        self.makers: dict[str, dict[str, Any]] = {}

    def _load(self) -> "dict[str, Op]":
        if not self.loaded:
            importlib.import_module(RECORDS, __package__)
        return self

    def add(self, op: "Op", maker: dict[str, Any]) -> None:
        """A new record. A file whose import was interrupted registers its ops again."""
        assert not dict.__contains__(self, op.name) or (
            maker is not self.makers[op.name]
            and maker["__name__"] == self.makers[op.name]["__name__"]
        ), f"{op.name} is registered twice"
        self.makers[op.name] = maker
        self[op.name] = op

    def __getitem__(self, name: str) -> "Op":
        return dict.__getitem__(self._load(), name)

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self._load(), name)

    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self._load())

    def __len__(self) -> int:
        return dict.__len__(self._load())

    def keys(self) -> Any:
        return dict.keys(self._load())

    def values(self) -> Any:
        return dict.values(self._load())

    def items(self) -> Any:
        return dict.items(self._load())

    def get(self, name: str, default: Any = None) -> Any:
        return dict.get(self._load(), name, default)
