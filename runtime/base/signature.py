"""What an executable takes and gives: names, dtypes, shapes; and the check of what it receives.

    signature = Signature(graph)
    arrays, binding = signature.check({"x": x})     # contiguous arrays in order, {"N": 8}

A check reports everything that is wrong in one InputError.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from ...compiler.classes import dataclass
from ...compiler.errors import InputError, TesselError, UsageError
from ...compiler.ir import dims
from ...compiler.ir.graph import Graph
from ...compiler.ir.metadata.dims_apart import Repeated, dims_apart
from ...compiler.ir.metadata.known_values import known_values, plain
from ...compiler.ir.metadata.optional_inputs import optional_inputs
from ...compiler.ir.types import (
    AnyRank,
    DType,
    MapType,
    SequenceType,
    TensorType,
    Type,
    dtype_of,
)


@dataclass(frozen=True)
class Port:
    """One input or output; an input that has a `default` is `optional`.

    `dtype` is numpy's, `shape` a tuple of ints and, for symbolic dims, their names; both are None
    for what is no tensor (sequences, maps), where `type` says what it is. A tensor of open rank has
    no `shape` either.
    """

    name: str
    type: Type
    get_default: Callable[[], np.ndarray] | None = field(default=None, compare=False, repr=False)

    @property
    def optional(self) -> bool:
        """Whether a run may leave it out."""
        return self.get_default is not None

    @property
    def default(self) -> np.ndarray | None:
        """What it is where a run leaves it out, read from the model; None if it must be given."""
        return None if self.get_default is None else self.get_default()

    @property
    def dtype(self) -> np.dtype | None:
        return self.type.dtype.numpy if isinstance(self.type, (TensorType, AnyRank)) else None

    @property
    def shape(self) -> tuple[int | str, ...] | None:
        if not isinstance(self.type, TensorType):
            return None
        return tuple(d if isinstance(d, int) else str(d) for d in self.type.shape)

    def __str__(self) -> str:
        return f"{self.name}: {self.type}" + (" (optional)" if self.optional else "")


class Signature:
    """The inputs and outputs of a graph, in order; `updates` as in `Graph`.

    `values` are of inputs that decided shapes: no other values of them are right. `optional` are
    the types of those inputs of the model that are constants here (`metadata/optional_inputs.py`).
    `apart` are symbols that the model has one name for (`compiler/ir/metadata/dims_apart.py`).
    """

    def __init__(
        self,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        updates: Mapping[int, int],
        values: Mapping[str, np.ndarray] | None = None,
        optional: Mapping[str, Type] | None = None,
        apart: Mapping[str, Repeated] | None = None,
    ):
        self.apart = {} if apart is None else dict(apart)
        self.values = {} if values is None else dict(values)
        self.optional = {} if optional is None else dict(optional)
        self.inputs, self.outputs, self.updates = tuple(inputs), tuple(outputs), dict(updates)
        self.names = [p.name for p in self.inputs]
        self.symbols = list(
            dict.fromkeys(
                s
                for p in self.inputs
                if isinstance(p.type, TensorType)
                for d in p.type.shape
                for s in sorted(dims.symbols(d))
            )
        )

    @staticmethod
    def of(graph: Graph) -> "Signature":
        inputs = [Port(v.name, v.type) for v in graph.inputs]
        outputs = [Port(n, v.type) for n, v in zip(graph.output_names, graph.outputs)]
        return Signature(
            inputs,
            outputs,
            graph.updates,
            known_values(graph),
            optional_inputs(graph),
            dims_apart(graph.metadata),
        )

    def shapes(self, binding: Mapping[str, int]) -> tuple:
        """The inputs' shapes under a binding. Raises UsageError if it leaves dims open."""
        missing = [s for s in self.symbols if s not in binding]
        if missing:
            raise UsageError(
                "sizes of symbolic dims are missing",
                expected=", ".join(self.symbols),
                received=", ".join(f"{k}={v}" for k, v in binding.items()) or "none",
            )
        types = [p.type.substitute(binding) for p in self.inputs]
        return tuple(t.shape if isinstance(t, TensorType) else None for t in types)

    def check(self, feeds: Mapping) -> tuple[list[np.ndarray], dict[str, int]]:
        """Contiguous arrays of the machine's byte order, and the sizes of the symbolic dims.

        Raises one InputError that lists all findings. Warns where a dim's name has two sizes, if
        the model was compiled so (`dims="warn"`).
        """
        if not isinstance(feeds, Mapping):
            raise InputError(
                "run takes a dict of arrays by input name",
                expected=", ".join(map(str, self.inputs)) or "no inputs",
                received=type(feeds).__name__,
            )
        findings = self._misnamed(feeds)
        arrays: list[Any] = []
        for port in self.inputs:
            array = None
            if port.name in feeds:
                try:
                    array = receive(port, feeds[port.name])
                except InputError as error:
                    findings.append(error)
            arrays.append(array)
        binding, misfits = bind([p.type for p in self.inputs], arrays, self.names)
        findings += misfits if findings or misfits else self._other_values(arrays)
        if findings:
            raise InputError(
                "the inputs do not fit the model",
                expected=", ".join(map(str, self.inputs)) or "no inputs",
                findings=findings,
            )
        for own, repeated in self.apart.items():
            warning = repeated.differs(own, binding)
            if warning is not None:
                warnings.warn(warning, RuntimeWarning, stacklevel=4)
        return arrays, binding

    def _other_values(self, arrays: Sequence[np.ndarray]) -> list[TesselError]:
        given = dict(zip(self.names, arrays))
        return [
            InputError(
                "wrong value",
                where=f"input {n}",
                expected=plain(own),
                received=plain(given[n]),
                fix="it decided shapes; the model that this was made from takes other values",
            )
            for n, own in self.values.items()
            if given[n].tobytes() != own.tobytes()
        ]

    def _misnamed(self, feeds: Mapping) -> list[TesselError]:
        missing = [n for n in self.names if n not in feeds]
        fixed = [n for n in feeds if n in self.optional and n not in self.names]
        unexpected = [n for n in feeds if n not in self.names and n not in fixed]
        findings: list[TesselError] = [fixed_default(n) for n in fixed]
        if missing:
            findings.append(InputError(f"missing: {', '.join(missing)}"))
        if unexpected:
            findings.append(InputError(f"unexpected: {', '.join(map(str, unexpected))}"))
        return findings


def fixed_default(name: str) -> InputError:
    """The error for an input that has a default, where only the default is left."""
    return InputError(
        "this input has its default here, and cannot be fed",
        where=f"input {name}",
        fix="compile the ONNX model itself: packages, and graphs that were read, hold the default",
    )


def receive(port: Port, x: Any) -> Any:
    """`x` as a contiguous, aligned array in native byte order. Raises InputError for misfits."""
    where = f"input {port.name}"
    if not isinstance(port.type, TensorType):
        return _receive_map(port.type, x, where)
    if _is_masked(x):
        raise InputError(
            "a masked array: there is no masking in a model",
            where=where,
            fix="give plain numbers: x.filled(…)",
        )
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"this is no array: {error}", where=where) from None
    expected = port.type.dtype
    found = _dtype(array)
    if found != expected:
        received = array.dtype if found is None else found
        raise InputError(
            "wrong dtype",
            where=where,
            expected=expected,
            received=received,
            fix=f"convert it: x.astype({_numpy_name(expected)})",
        )
    if array.ndim != port.type.rank:
        raise InputError(
            "wrong rank",
            where=where,
            expected=f"{port.type.rank}: {port.type}",
            received=f"{array.ndim}: shape {list(array.shape)}",
        )
    if array.dtype == object or array.dtype.kind in "US":
        return _strings(array, where)
    return np.require(array, expected.numpy, ("C", "A"))


def _is_masked(x: object) -> bool:
    """Whether `x` is a masked array: whoever has one has imported numpy's module for them, which
    takes long."""
    module = sys.modules.get("numpy.ma")
    return isinstance(x, getattr(module, "MaskedArray", ()))


def _receive_map(type: Type, x: Any, where: str) -> Any:
    """A map, or a list of maps: a dict whose keys and values have the types that it says."""
    if isinstance(type, SequenceType):
        if not isinstance(x, (list, tuple)):
            raise InputError("a sequence is a list", where=where, expected=type, received=_kind(x))
        return [_receive_map(type.element, v, f"{where}, item {i}") for i, v in enumerate(x)]
    if not isinstance(type, MapType):
        raise InputError("this input is no tensor", where=where, received=type)
    if not isinstance(x, Mapping):
        raise InputError("a map is a dict", where=where, expected=type, received=_kind(x))
    keys = [dtype_of(np.asarray(k)) for k in x]
    wrong = [k for k, dtype in zip(x, keys) if dtype.kind != type.key.kind]
    if wrong:
        raise InputError(
            "a key has another type", where=where, expected=type.key, received=repr(wrong[0])
        )
    values = {k: _dtype(np.asarray(v)) for k, v in x.items()}
    wrong = [k for k, dtype in values.items() if dtype is None or not _holds(type.value, dtype)]
    if wrong:
        raise InputError(
            "a value has another type",
            where=f"{where}, key {wrong[0]!r}",
            expected=type.value,
            received=values[wrong[0]],
        )
    return dict(x)


def _holds(type: Type, dtype: DType) -> bool:
    """Whether a value of this dtype can stand in a map for one of `type` (Python's floats do)."""
    return isinstance(type, TensorType) and dtype.kind == type.dtype.kind


def _kind(x: object) -> str:
    return "none" if x is None else x.__class__.__name__


def _strings(array: np.ndarray, where: str) -> np.ndarray:
    """As Python strings; bytes are UTF-8, as in ONNX."""
    try:
        array = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    except UnicodeDecodeError as error:
        raise InputError(f"these bytes are no text: {error}", where=where) from None
    array = np.ascontiguousarray(array, object).reshape(array.shape)
    for v in array.flat:
        if not isinstance(v, str):
            raise InputError(
                "an element is no string",
                where=where,
                expected="str",
                received=repr(v),
                fix="convert it: x.astype(str)",
            )
    return array


def _dtype(array: np.ndarray) -> DType | None:
    try:
        return dtype_of(array)
    except TesselError:
        return None


def _numpy_name(dtype: DType) -> str:
    name = dtype.numpy.name
    if name == "object":
        return "str"
    return f"np.{name}" if hasattr(np, name) else f"ml_dtypes.{name}"


def bind(
    types: Sequence[Type], arrays: Sequence[np.ndarray | None], names: Sequence[str]
) -> tuple[dict[str, int], list[InputError]]:
    """The sizes of symbols, from the shapes of arrays (None: unknown), and what contradicts.

    A dim that is a symbol names its size; then dims such as `2*N+1` are solved for the one symbol
    that is still open; then every dim is checked.
    """
    pairs = [
        (name, axis, d, x.shape[axis])
        for name, t, x in zip(names, types, arrays)
        if x is not None and isinstance(t, TensorType)
        for axis, d in enumerate(t.shape)
    ]
    binding: dict[str, int] = {}
    source: dict[str, str] = {}
    for name, axis, d, size in pairs:
        symbol = str(d)
        if isinstance(d, dims.Sym) and d.symbols() == {symbol} and symbol not in binding:
            binding[symbol], source[symbol] = size, f"{name}, axis {axis}"
    for name, axis, d, size in pairs:
        solved = _solve(d, size, binding)
        if solved is not None:
            source[solved] = f"{name}, axis {axis}"
    findings = []
    for name, axis, d, size in pairs:
        expected = dims.substitute(d, binding)
        if expected == size:
            continue
        known = [f"{s} = {binding[s]} ({source[s]})" for s in sorted(dims.symbols(d) & set(source))]
        expected = str(expected) + (f": {d}, where {', '.join(known)}" if known else "")
        findings.append(
            InputError(
                "wrong size", where=f"input {name}, axis {axis}", expected=expected, received=size
            )
        )
    return binding, findings


def _solve(d: dims.Dim, size: int, binding: dict[str, int]) -> str | None:
    """Bind the only open symbol of `a*N + b` so that the dim is `size`; its name, if it could."""
    d = dims.substitute(d, binding)
    if not isinstance(d, dims.Sym) or len(d.symbols()) != 1:
        return None
    (symbol,) = d.symbols()
    if not set(d.terms) <= {(), (symbol,)} or (symbol,) not in d.terms:
        return None
    factor, rest = d.terms[symbol,], size - d.terms.get((), 0)
    if rest % factor or rest // factor < 0:
        return None
    binding[symbol] = rest // factor
    return symbol


def fix_shapes(graph: Graph, shapes: Mapping[str, Sequence]) -> Graph:
    """A copy of `graph` with the sizes that `shapes` gives by input; None leaves a dim as it is."""
    inputs = {v.name: v.type for v in graph.inputs}
    findings: list[TesselError] = []
    binding: dict[str, int] = {}
    for name, shape in shapes.items():
        type = inputs.get(name)
        if type is None:
            findings.append(InputError(f"no input named {name!r}", expected=", ".join(inputs)))
            continue
        declared = type.shape if isinstance(type, TensorType) else None
        fits = declared is not None and len(shape) == len(declared)
        for d, size in zip(declared if fits and declared is not None else (), shape):
            if isinstance(size, int):
                name_of = str(d) if isinstance(d, dims.Sym) and d.symbols() == {str(d)} else None
                known = binding.setdefault(name_of, size) if name_of is not None else d
                fits &= known == size or isinstance(known, dims.Sym)
        if not fits:
            findings.append(
                InputError(
                    "the shape does not fit the model",
                    where=f"input {name}",
                    expected=type,
                    received=list(shape),
                )
            )
    if findings:
        raise InputError("the shapes do not fit the model's inputs", findings=findings)
    from ...compiler.ir.specialize import specialize

    return specialize(graph, binding)
