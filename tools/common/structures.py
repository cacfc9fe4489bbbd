"""Lists and optionals on the command line: a `.npz` holds their arrays as `xs[0]`, `xs[1]`, ….

An optional of which the file has nothing is none; a list of which it has nothing is empty.
Random inputs: lists of two, optionals that are there, tensors of unknown rank as vectors.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...compiler.errors import InputError, UsageError
from ...compiler.ir.types import AnyRank, OptionalType, SequenceType, TensorType, Type
from ...runtime.base.signature import Port

LENGTH = 2  # of a list where there is no file


def is_plain(ports: Iterable) -> bool:
    """Whether all are tensors whose rank is known."""
    return all(isinstance(p.type, TensorType) for p in ports)


def gather(ports: Sequence[Port], given: Mapping[str, np.ndarray], where: str) -> dict:
    """The inputs from arrays by name. Raises InputError for those that are missing."""
    ports = [p for p in ports if not p.optional or p.name in given]
    missing = [p.name for p in ports if _is_tensor(p.type) and p.name not in given]
    if missing:
        raise InputError(
            f"inputs are missing: {', '.join(missing)}",
            where=where,
            expected=", ".join(p.name for p in ports),
            received=", ".join(given),
        )
    return {p.name: _gather(p.type, p.name, given) for p in ports}


def _is_tensor(type: Type) -> bool:
    return isinstance(type, (TensorType, AnyRank))


def _gather(type: Type, name: str, given: Mapping[str, np.ndarray]):
    match type:
        case OptionalType(element):
            there = any(n == name or n.startswith(f"{name}[") for n in given)
            return _gather(element, name, given) if there else None
        case SequenceType(element):
            items = []
            while any(n.startswith(f"{name}[{len(items)}]") for n in given):
                items.append(_gather(element, f"{name}[{len(items)}]", given))
            return items
    return given[name]


def invent(ports: Sequence[Port], make) -> dict:
    """Random inputs; `make(ports)` gives arrays by name for ports of tensors."""

    def value(type: Type, name: str):
        match type:
            case OptionalType(element):
                return value(element, name)
            case SequenceType(element):
                return [value(element, f"{name}[{i}]") for i in range(LENGTH)]
            case AnyRank(dtype):
                type = TensorType(dtype, (3,))
            case TensorType():
                pass
            case _:
                raise UsageError("there are no random maps", received=f"{name}: {type}")
        return make([Port(name, type)])[name]

    return {p.name: value(p.type, p.name) for p in ports}


def spread(results: Mapping) -> dict:
    """Outputs with lists taken apart: {"ys": [a, b]} → {"ys[0]": a, "ys[1]": b}."""
    flat: dict = {}
    for name, value in results.items():
        if isinstance(value, list) and not any(isinstance(v, dict) for v in value):
            flat |= spread({f"{name}[{i}]": v for i, v in enumerate(value)})
        else:
            flat[name] = value
    return flat
