"""How ONNX models name ops of users: `"my.domain:MyOp"` in the reader's table."""

import re
from collections.abc import Callable, Iterable, Mapping

from ...compiler.errors import TypeMismatch, UsageError
from ...compiler.ir.op import REQUIRED, Op
from ..onnx.file.proto import dtype_of_element
from ..onnx.operators.table import TABLE

_OWN: dict[str, list[tuple[str, str]]] = {}  # op → its keys in the table


def _key(name: str) -> tuple[str, str]:
    domain, _, operator = name.rpartition(":")
    return domain, operator


def wrong_names(names: list, replaced: str | None) -> Iterable[UsageError]:
    """What is wrong with these names; those of the op that is `replaced` are free."""
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[\w.]+:\w+", name):
            yield UsageError(
                "no name of an ONNX operator", expected="'my.domain:MyOp'", received=repr(name)
            )
        elif _key(name) in _table() and _key(name) not in _OWN.get(replaced, ()):
            yield UsageError("this ONNX operator is read already", received=name)


def _table() -> dict:
    return TABLE


def add_entries(op: Op, entries: Mapping[str, Callable | None]) -> None:
    """Read these ONNX operators by their functions of a `Call`; None: as the op's record says."""
    if entries:
        _OWN[op.name] = [_key(n) for n in entries]
        _table().update({_key(n): f or entry_of(op) for n, f in entries.items()})


def remove_entries(op: str) -> None:
    for key in _OWN.pop(op, ()):
        _table().pop(key, None)


def entry_of(op: Op) -> Callable:
    """Operands in order, attributes by name; a dtype is ONNX's number for it."""

    def entry(c):
        attrs = {}
        for name, attr in op.attrs.items():
            if attr.default is not REQUIRED and not c.has(name):
                continue
            value = c.attr(name)
            if attr.kind == "dtype":
                value = dtype_of_element(value, c.where)
            elif attr.kind == "graph":
                raise c.unsupported(
                    f"attribute {name} is a graph",
                    fix="read it with a function of your own: onnx={'my.domain:MyOp': function}",
                )
            attrs[name] = value
        if len(c.inputs) > len(op.inputs) and not (op.inputs and op.inputs[-1].variadic):
            raise TypeMismatch(
                f"{op.name}: too many operands",
                where=c.where,
                expected=len(op.inputs),
                received=len(c.inputs),
            )
        return c.b.emit(op.name, *c.inputs, **attrs)

    return entry
