"""`CFunction`: a kernel that is a C function, called through ctypes.

    CFunction(library.blur, "x, out, x.shape[0], x.shape[1], radius")

The compiled program hands over addresses: nothing is copied on the way, but the call itself is
made by Python, once per run and node.
"""

import ctypes
import re
from collections.abc import Callable, Mapping

import numpy as np

from ...compiler.classes import dataclass
from ...compiler.errors import TypeMismatch, UsageError
from ...compiler.ir import op as registry
from ...compiler.ir.types import TensorType, tensor_type_of

_ARGUMENT = re.compile(r"(\w+)(?:\.(size|nbytes|ndim|shape\[(\d+)\]))?$")


@dataclass(frozen=True)
class CFunction:
    """A C function and its arguments, in order, separated by commas:

        x            the address of an operand, by its name in the signature; NULL where absent
        out          the address of the result; out1 of the second one
        x.size       how many elements; so x.nbytes, x.ndim, x.shape[0]
        radius       an attribute, a number

    `function.argtypes` must be set. Operands and results are C-contiguous; the function writes
    every element of the results and keeps no address. What it returns is ignored.
    """

    function: Callable
    arguments: str
    reason: str = "a C function"

    def parsed(self) -> list[re.Match | None]:
        return [_ARGUMENT.match(a.strip()) for a in self.arguments.split(",")]

    def problems(self, signature: str, attrs: Mapping) -> list[UsageError]:
        """What is wrong with the arguments, for a record's signature and attributes."""
        inputs, outputs = registry.parse_signature(signature)
        if any(i.variadic for i in inputs):
            return [UsageError("a C function cannot take any number of operands (*)")]
        arrays = {i.name for i in inputs} | set(_results(len(outputs)))
        found = []
        for text, match in zip(self.arguments.split(","), self.parsed()):
            name = match and match[1]
            if name not in arrays and not (name in attrs and match[2] is None):
                found.append(
                    UsageError(
                        "no such argument of the C function",
                        received=text.strip(),
                        expected=", ".join(sorted({*arrays, *attrs})),
                    )
                )
        types = getattr(self.function, "argtypes", None)
        if types is None or len(types) != len(self.parsed()):
            received = "no argtypes" if types is None else f"{len(types)} argtypes"
            found.append(
                UsageError(
                    "a C function needs its argtypes, one per argument",
                    received=received,
                    expected=len(self.parsed()),
                    fix="function.argtypes = [ctypes.…, …]",
                )
            )
        return found


def _results(count: int) -> list[str]:
    return ["out", *(f"out{i}" for i in range(1, count))]


def kernel_of(name: str, c: CFunction) -> Callable:
    """The kernel of the op `name`: makes the results' arrays and calls the C function."""
    arguments = c.parsed()

    def kernel(*operands, **attrs):
        op = registry.get(name)
        arrays = [None if x is None else np.asarray(x, order="C") for x in operands]
        types = op.infer([None if x is None else tensor_type_of(x) for x in arrays], attrs)
        results = [_empty(name, t) for t in types]
        named = dict.fromkeys(i.name for i in op.inputs) | dict(
            zip((i.name for i in op.inputs), arrays)
        )
        named |= dict(zip(_results(len(results)), results))
        c.function(
            *(
                _argument(a, named, attrs, kind, name)
                for a, kind in zip(arguments, c.function.argtypes)
            )
        )
        return tuple(results) if len(results) > 1 else results[0]

    return kernel


def _empty(name: str, type: TensorType) -> np.ndarray:
    if not isinstance(type, TensorType) or type.dtype.kind == "s":
        raise TypeMismatch(f"{name}: a C function cannot make this", received=type)
    return np.empty(type.shape, type.dtype.numpy)


def _argument(match: re.Match, named: Mapping, attrs: Mapping, kind, op: str):
    word, part, axis = match.groups()
    if word not in named:
        return attrs[word]
    array = named[word]
    if axis is not None:
        if array is None or int(axis) >= array.ndim:
            raise TypeMismatch(f"{op}: there is no {match[0]}")
        return array.shape[int(axis)]
    if part is not None:
        return 0 if array is None else getattr(array, part)
    return _address(array, kind, f"{op}: operand {word}")


def _address(array: np.ndarray | None, kind, what: str):
    if array is None:
        return None
    if kind is ctypes.c_void_p or not hasattr(kind, "_type_"):
        return array.ctypes.data if kind is ctypes.c_void_p else array
    element = np.dtype(kind._type_)
    if element != array.dtype:
        raise TypeMismatch(
            f"{what} has another dtype than the C function takes",
            expected=element,
            received=array.dtype,
        )
    return array.ctypes.data_as(kind)
