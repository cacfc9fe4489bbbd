"""Trace a Python function of arrays into a Graph.

    graph = trace(lambda x, w: relu(x @ w), "f32[N,3]", w)

The function runs once, on `Array`s that stand for its arguments; what it does to them is written
down as nodes, each with the user's file and line as its origin. Python numbers take the dtype of
the other operand; tensors of different dtypes do not mix by themselves.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

import numpy as np

from ...compiler.arguments import require_function
from ...compiler.errors import TesselError, TypeMismatch, UsageError
from ...compiler.ir.builder import Axes, Builder, Operand, Tensor, as_tensor_type
from ...compiler.ir.dims import Sym
from ...compiler.ir.graph import Graph, Value
from ...compiler.ir.types import DTypeLike, TensorType, Type, dtype_of
from . import tree
from .indexing import ARRAYS, index_by_arrays

_PACKAGE = Path(__file__).parents[2]  # as frames name it: links are not followed
_OURS = (
    *(f"{_PACKAGE / room}/" for room in ("compiler", "frontends", "runtime", "tools")),
    str(_PACKAGE / "__init__.py"),
)
_BETWEEN = ("/keras/src/", "/site-packages/numpy/")  # what calls us for a user
NUMBERS = (bool, int, float, np.generic)
PYTHON_DTYPES = {bool: "bool", int: "i64", float: "f32"}


def user_line() -> str | None:
    """`file:line` of the innermost caller outside of tessel, and of Keras and numpy."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_OURS) and not any(part in name for part in _BETWEEN):
            return f"{_short(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def source_line(f: Callable) -> str:
    """Where a function of the user begins."""
    code = getattr(inspect.unwrap(f), "__code__", None)
    if code is None:
        return repr(f)
    return f"{_short(code.co_filename)}:{code.co_firstlineno} ({code.co_name})"


def _short(filename: str) -> str:
    try:
        return str(Path(filename).relative_to(Path.cwd()))
    except ValueError:
        return filename


class Array(Tensor):
    """A traced tensor: a Tensor with what numpy users expect of an array."""

    __slots__ = ()

    @property
    def ndim(self) -> int:
        return self.rank

    @property
    def T(self) -> Self:
        return self.transpose()

    def astype(self, dtype: DTypeLike) -> Self:
        return self.cast(dtype)

    def sum(self, axes: Axes = None, keepdims: bool = False, *, axis: Axes = None) -> Self:
        return super().sum(axes if axis is None else axis, keepdims)

    def mean(self, axes: Axes = None, keepdims: bool = False, *, axis: Axes = None) -> Self:
        return super().mean(axes if axis is None else axis, keepdims)

    def max(self, axes: Axes = None, keepdims: bool = False, *, axis: Axes = None) -> Self:
        return super().max(axes if axis is None else axis, keepdims)

    def min(self, axes: Axes = None, keepdims: bool = False, *, axis: Axes = None) -> Self:
        return self._reduce("reduce_min", axes if axis is None else axis, keepdims)

    def argmax(self, axis: int = -1, keepdims: bool = False) -> Self:
        return self.b.emit("arg_max", self, axis=axis, keepdims=keepdims)

    def __rmatmul__(self, other: Operand) -> Self:
        return self._binary("matmul", other, reverse=True)

    def __truediv__(self, other: Operand) -> Self:  # type: ignore[override]
        return self._fractions()._binary("div", other)

    def __rtruediv__(self, other: Operand) -> Self:  # type: ignore[override]
        return self._fractions()._binary("div", other, reverse=True)

    def _fractions(self) -> Self:
        if self.dtype.is_float:
            return self
        raise TypeMismatch(
            f"{self.dtype} divided by / has no dtype of its own",
            where=user_line(),
            received=repr(self.value),
            fix="cast first, x.cast('f32'), or divide with //",
        )

    def __floordiv__(self, other: Any) -> Self:
        other = self.b.like(other, self)
        if self.dtype.is_float:
            return self.b.emit("floor", self / other)
        return self.b.emit("div", self - self % other, other)

    def __rfloordiv__(self, other: Operand) -> Any:
        return self.b.array(self.b.like(other, self)) // self

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeMismatch(
            "a traced tensor cannot be written to",
            where=user_line(),
            received=repr(self.value),
            fix="make a new one: where(…), concat(…) or scatter_elements(…)",
        )

    def __round__(self, digits: int | None = None) -> Self:
        return self.b.emit("round", self) if digits is None else self._number()

    def __abs__(self) -> Self:
        return self.b.emit("abs", self)

    def __eq__(self, other: Any) -> Self:  # type: ignore[override]
        return self._binary("equal", other)

    def __ne__(self, other: Any) -> Self:  # type: ignore[override]
        return self._binary("not_equal", other)

    __hash__ = object.__hash__

    def __len__(self) -> int:
        if not self.rank:
            raise TypeMismatch(
                "a scalar has no length", where=user_line(), received=repr(self.value)
            )
        return self._size(0)

    def _size(self, axis: int) -> int:
        """The size of an axis, as a number."""
        size = self.shape[axis]
        if isinstance(size, Sym):
            raise TypeMismatch(
                f"the size of axis {axis} is open here, and Python needs a number",
                where=user_line(),
                received=repr(self.value),
                fix='trace it for numbers ("f32[8,4]"), or use functions of whole arrays',
            )
        return size

    def __getitem__(self, key: Any) -> Self:
        key = key if isinstance(key, tuple) else (key,)
        try:
            if any(isinstance(k, ARRAYS) for k in key):
                return self.b.array(index_by_arrays(self, key))
        except TypeMismatch as error:
            error.where = error.where or user_line()
            raise
        self._require_sizes(key)
        return super().__getitem__(key)

    def _require_sizes(self, key: tuple[Any, ...]) -> None:
        """Slices with bounds are of axes whose sizes are numbers."""
        places = [k for k in key if k is not None]
        if ... in places:
            at = places.index(...)
            places[at : at + 1] = [slice(None)] * (self.rank - len(places) + 1)
        for axis, k in enumerate(places[: self.rank]):
            if isinstance(k, slice) and k != slice(None):
                self._size(axis)

    def __bool__(self) -> NoReturn:
        raise self._no_value("has no truth value", "use where(condition, a, b) or cond(…)")

    def _no_value(self, what: str, fix: str) -> TypeMismatch:
        return TypeMismatch(
            f"a traced tensor {what}: its numbers are known when the compiled function runs",
            where=user_line(),
            received=repr(self.value),
            fix=fix,
        )

    def _number(self, *_: Any, **__: Any) -> Any:
        fix = "return it from the function, and convert what comes back"
        raise self._no_value("has no number", fix)

    __float__ = __int__ = __index__ = _number

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise self._no_value(
            "is not a numpy array",
            "use the functions of tessel.native.functional, not numpy's",
        )


class Tracer(Builder):
    """A Builder that makes `Array`s and stamps nodes with the user's line."""

    def __init__(self, name: str = "main"):
        super().__init__(name=name)
        self.finished = False

    def input(self, name: str, type: Type | str) -> Array:
        return Array(self, super().input(name, type).value)

    def array(self, x: Any) -> Array:
        """`x` (Tensor, Value, number or array) as an Array of this trace."""
        if not isinstance(x, (Tensor, np.ndarray, *NUMBERS)):
            return Array(self, self.value(x))
        if not isinstance(x, Tensor):
            x = self.constant(as_array(x))
        self._mine(x)
        return x if isinstance(x, Array) else Array(self, x.value)

    def emit(
        self,
        name: str,
        *inputs: Operand | None,
        outputs: Sequence[str | None] | None = None,
        **attrs: Any,
    ) -> Any:
        stamp, self.origin = self.origin, self.origin or user_line()
        try:
            return super().emit(name, *inputs, outputs=outputs, **attrs)
        except TypeMismatch as error:
            dtypes = {x.dtype for x in inputs if isinstance(x, (Tensor, np.ndarray))}
            if error.fix is not None or "dtype" not in error.message or len(dtypes) < 2:
                raise
            raise type(error)(
                error.message,
                where=error.where,
                expected=error.expected,
                received=error.received,
                fix="tensors of different dtypes do not mix: cast one, x.cast('f32')",
            ) from None
        finally:
            self.origin = stamp

    def like(self, x: Any, other: Tensor) -> Tensor:
        """`x` as a Tensor; a number takes `other`'s dtype if that holds it."""
        if isinstance(x, NUMBERS):
            kind, into = np.asarray(x).dtype.kind, other.dtype.kind
            if (kind in "fc" and into != "f") or (kind in "iu" and into == "b"):
                raise TypeMismatch(
                    f"the number {x!r} does not fit into {other.dtype}",
                    where=user_line(),
                    fix="cast the tensor first: x.cast('f32')",
                )
            return self.scalar(x, other.dtype)
        if isinstance(x, (np.ndarray, list, tuple)):
            return self.constant(np.asarray(x))
        return super().like(x, other)

    def _append(
        self, op: Any, operands: Any, attrs: Any, types: Any, names: Any, origin: str | None = None
    ) -> tuple[Array, ...]:
        if self.finished:
            raise _leaked(self.graph.name)
        origin = origin or self.origin or user_line()
        results = super()._append(op, operands, attrs, types, names, origin)
        return tuple(Array(self, r.value) for r in results)

    def _operand(self, x: Any) -> Value | None:
        if isinstance(x, Tensor):
            self._mine(x)
        return super()._operand(x)

    def _mine(self, x: Tensor) -> None:
        if x.b is not self:
            finished = isinstance(x.b, Tracer) and x.b.finished
            raise (
                _leaked(x.b.graph.name)
                if finished
                else TesselError(
                    "a tensor of another trace is used",
                    where=user_line(),
                    received=repr(x.value),
                    fix="pass it in as an argument",
                )
            )


def _leaked(name: str) -> TesselError:
    return TesselError(
        f"a tensor left the function it was traced in ({name}) and is used afterwards",
        where=user_line(),
        fix="return it from the function instead of storing it",
    )


def as_array(x: Any, where: str | None = None) -> np.ndarray:
    """A leaf as an array; Python floats are f32, ints i64. Raises TypeMismatch for others."""
    if type(x) in PYTHON_DTYPES:
        return np.asarray(x, dtype_of(PYTHON_DTYPES[type(x)]).numpy)
    if isinstance(x, (np.ndarray, np.generic)):
        dtype_of(x)
        return np.asarray(x)
    raise TypeMismatch(
        "not an array", where=where, expected="an array or a number", received=repr(x)
    )


def find_tracer(*args: Any) -> Tracer | None:
    """The trace that the first Array among the leaves of `args` belongs to."""
    for leaf in tree.flatten(list(args))[0]:
        if isinstance(leaf, Tensor):
            if not isinstance(leaf.b, Tracer):
                raise TypeMismatch("a tensor of a Builder in a traced function", received=leaf)
            return leaf.b
    return None


def trace(f: Callable, *specs: Any, name: str | None = None) -> Graph:
    """The graph of `f` for arguments like `specs`.

    A spec is an example array or number, a TensorType, or its text: `"f32[N,3]"`; or a tree
    (tuple, list, dict) of these. Inputs are named after the parameters of `f` and the paths in
    the trees ("params.conv1.weight").
    """
    require_function("trace", f)
    return trace_arguments(f, name_arguments(f, specs), specs, name=name)[0]


def trace_arguments(
    f: Callable, names: Sequence[str], specs: Sequence, name: str | None = None
) -> tuple[Graph, tree.Structure]:
    """`trace`, with a name per argument; also returns the structure of the result."""
    b = Tracer(name or getattr(f, "__name__", type(f).__name__).strip("<>"))
    arguments = []
    for argument, spec in zip(names, specs, strict=True):
        leaves, structure = tree.flatten(spec)
        inputs = [
            b.input(path, _spec_type(leaf, f"argument {path}"))
            for path, leaf in zip(tree.paths(spec, argument), leaves)
        ]
        arguments.append(tree.unflatten(structure, inputs))
    try:
        result = f(*arguments)
        leaves, structure = tree.flatten(result)
        for path, leaf in zip(tree.paths(result, "out"), leaves):
            if not isinstance(leaf, (Tensor, np.ndarray, *NUMBERS)):
                raise TypeMismatch(
                    f"the traced function returned something that is not a tensor ({path})",
                    where=source_line(f),
                    expected="tensors, or tuples, lists and dicts of them",
                    received=repr(leaf),
                )
            b.output(path, b.array(leaf))
    finally:
        b.finished = True
    return b.graph, structure


def name_arguments(f: Callable, args: Sequence) -> list[str]:
    """The parameter that each positional argument belongs to: x, args.0, args.1."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return [f"arg{i}" for i in range(len(args))]
    names: list[str] = []
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}.{i}" for i in range(len(args) - len(names))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and len(names) < len(args):
            names.append(p.name)
    if len(names) < len(args):
        raise UsageError(
            "more specs than parameters",
            where=source_line(f),
            expected=len(names),
            received=len(args),
        )
    return names


def _spec_type(spec: Any, where: str) -> TensorType:
    if isinstance(spec, (TensorType, str)):
        return as_tensor_type(spec)
    return as_tensor_type(as_array(spec, where))
