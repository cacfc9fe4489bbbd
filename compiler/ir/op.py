"""The op record: everything about an op in one place.

An `Op` says what goes in and out (`signature`, `attrs`), the output shapes (`shape`), what it
means in numpy (`ref`, the oracle), its gradient (`grad`, or `NotDifferentiable(reason)`), its
meaning as loops (`loops`), and `samples` from which the test-suite generates itself. `register`
refuses an incomplete record at import, so a gap is found by us and not by a user.

    signature ::= INPUT, … -> OUTPUT, …
    INPUT     ::= name: T        a tensor of dtype variable T (bound in `dtypes`), or of a dtype
                | name: T?       may be absent (None)
                | name: T*       zero or more (last input only)
    OUTPUT    ::= T | dtype | @attr (the dtype that attribute holds) | *  (types come from `infer`)

The meaning as loops is one of
    Elementwise(body)   out[i] = body(s, x[i], y[i], …)    broadcasting is done centrally
    Pull(rule)          out[i] = rule(t, x, y, …)(i…)      an index map, a reduction, a contraction
    Kernels(emit)       several kernels, or stores whose place depends on data (scatter)
    Expand(rule)        a composite: other ops
    Extern(kernel)      a kernel written by hand, with the reason why
    Control(kind), Alias()  regions: if, scan, while; the same bytes under another shape
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any, NoReturn

import numpy as np

from ..classes import dataclass
from ..errors import TypeMismatch
from . import dims
from .limits import Limits
from .op_table import (
    ExpandRule,
    GradientRule,
    IndexRule,
    KernelRule,
    Records,
    Reference,
    Samples,
    ScalarRule,
    ShapeRule,
    TypeRule,
)
from .types import CLASSES, DTYPES, DType, TensorType, Type, dtype_of


@dataclass(frozen=True)
class Elementwise:
    body: ScalarRule


@dataclass(frozen=True)
class Pull:
    rule: IndexRule


@dataclass(frozen=True)
class Kernels:
    """`memory`: operands that are read at computed places, or again and again, so that they must be
    in memory."""

    emit: KernelRule
    memory: tuple[int, ...] = ()


@dataclass(frozen=True)
class Expand:
    rule: ExpandRule


@dataclass(frozen=True)
class Extern:
    kernel: Reference
    reason: str


@dataclass(frozen=True)
class Control:
    kind: str


@dataclass(frozen=True)
class Alias:
    pass


Meaning = Elementwise | Pull | Kernels | Expand | Extern | Control | Alias


@dataclass(frozen=True)
class NotDifferentiable:
    """Why an op has no gradient. `zero` ones pass zero (piecewise constant), others refuse."""

    reason: str
    zero: bool = False


REQUIRED = object()
MAX_ELEMENTS = 1 << 48  # of a tensor; places within it must fit into 64 bits


@dataclass(frozen=True)
class Attr:
    """A static attribute. `kind`: int float bool str dtype ints dims floats array graph any.

    A default of REQUIRED means it must be given; None is a value where `optional`. A number may
    not be below `low`, and not 0 where it divides (`divides`).
    """

    kind: str
    default: Any = REQUIRED
    doc: str = ""
    low: int | None = None
    divides: bool = False

    def convert(self, value: Any, where: str) -> Any:
        if value is None and self.default is None:
            return None
        try:
            converted = _CONVERT[self.kind](value)
        except (TypeError, ValueError):
            raise TypeMismatch(
                "wrong attribute", where=where, expected=self.kind, received=repr(value)
            ) from None
        if (self.low is not None and converted < self.low) or (self.divides and converted == 0):
            expected = "not 0" if self.low is None else f"{self.low} or more"
            raise TypeMismatch("wrong attribute", where=where, expected=expected, received=value)
        return converted


def _int(v: Any) -> int:
    if isinstance(v, bool) or not isinstance(v, (int, np.integer)):
        raise TypeError
    return int(v)


def _graph(v: Any) -> Any:
    from .graph import Graph

    if not isinstance(v, Graph):
        raise TypeError
    return v


_CONVERT: Mapping[str, Callable[[Any], Any]] = {
    "int": _int,
    "float": float,
    "bool": bool,
    "str": lambda v: v if isinstance(v, str) else _fail(),
    "dtype": dtype_of,
    "ints": lambda v: tuple(_int(i) for i in v),
    "dims": lambda v: tuple(i if isinstance(i, dims.Sym) else _int(i) for i in v),
    "dim": lambda v: v if isinstance(v, dims.Sym) else _int(v),
    "floats": lambda v: tuple(float(i) for i in v),
    "strs": lambda v: tuple(str(i) for i in v),
    "array": lambda v: np.asarray(v),
    "graph": _graph,
    "any": lambda v: v,
}


def _fail() -> NoReturn:
    raise TypeError


@dataclass(frozen=True)
class Input:
    name: str
    dtype: str  # a dtype variable or a dtype's name
    optional: bool = False
    variadic: bool = False


@dataclass(frozen=True)
class Sample:
    """One test case: input arrays (None where absent) and attributes.

    `grad=False` leaves it out of the gradient check (a kink at the sampled point, say).
    """

    inputs: tuple[Any, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    rtol: float = 1e-5
    atol: float = 1e-6
    grad: bool = True


@dataclass(frozen=True)
class Op:
    """An op's record. See the module's docstring; `ref(*arrays, **attrs)` returns an array,
    or a tuple of arrays where there are several outputs; `grad(c, *douts)` returns one
    `Tensor` or None per input, with `c.inputs`, `c.outputs`, `c.attrs`, `c.b` at hand, and
    need not undo broadcasting. `limits(*types, **attrs)` lists what values of operands are allowed
    (`compiler/ir/limits.py`). `group` is the heading under which docs/reference/ops.md lists it,
    and decides nothing."""

    name: str
    doc: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    dtypes: Mapping[str, frozenset[DType]]
    attrs: Mapping[str, Attr]
    shape: ShapeRule | None
    infer_types: TypeRule | None
    ref: Reference
    grad: GradientRule | NotDifferentiable
    loops: Meaning
    samples: Samples
    group: str
    commutative: bool = False
    pure: bool = True
    limits: Limits | None = None

    def __repr__(self) -> str:
        return f"Op({self.name})"

    def bind(self, attrs: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Attributes converted, defaults filled in. Raises TypeMismatch."""
        unknown = set(attrs) - set(self.attrs)
        if unknown:
            raise TypeMismatch(
                f"{self.name} has no attribute {', '.join(sorted(unknown))}",
                where=where,
                expected=", ".join(self.attrs) or "no attributes",
            )
        bound = {}
        for name, attr in self.attrs.items():
            value = attrs.get(name, attr.default)
            if value is REQUIRED:
                raise TypeMismatch(f"{self.name} needs the attribute {name}", where=where)
            bound[name] = attr.convert(value, f"{where}, attribute {name}")
        return bound

    def infer(self, types: Iterable[Type | None], attrs: Mapping[str, Any]) -> tuple[Type, ...]:
        """Output types from operand types and bound attributes. Raises TypeMismatch."""
        types = list(types)
        binding = self._check(types, attrs)
        if self.infer_types is not None:
            result = self.infer_types(*types, **attrs)
            result = result if isinstance(result, tuple) else (result,)
        else:
            assert self.shape is not None, self
            shapes: Any = self.shape(*types, **attrs)
            if len(self.outputs) == 1 and not _is_list_of_shapes(shapes):
                shapes = [shapes]
            result = tuple(
                TensorType(self._output_dtype(o, binding, attrs), s)
                for o, s in zip(self.outputs, shapes)
            )
        if isinstance(self.loops, Elementwise):
            self._check_broadcast(types, result[0])
        for t in result:
            if isinstance(t, TensorType):
                sizes = [d for d in t.shape if isinstance(d, int)]
                if min(sizes, default=0) < 0:
                    raise TypeMismatch(f"{self.name}: a dim of the result is negative", received=t)
                if math.prod(d for d in sizes if d) > MAX_ELEMENTS:  # what numpy looks at, too
                    raise TypeMismatch(f"{self.name}: the result is absurdly large", received=t)
        return result

    def _check_broadcast(self, types: Iterable[Type | None], result: Any) -> None:
        """Raise TypeMismatch unless every operand broadcasts to the result's shape."""
        for t in types:
            wrong = isinstance(t, TensorType) and (
                t.rank > result.rank
                or any(
                    isinstance(d, int) and isinstance(e, int) and d not in (1, e)
                    for d, e in zip(t.shape[::-1], result.shape[::-1])
                )
            )
            if wrong:
                raise TypeMismatch(
                    f"{self.name}: an operand does not broadcast to the result",
                    expected=f"dims that are 1 or those of {result}",
                    received=t,
                )

    def _output_dtype(
        self, text: str, binding: Mapping[str, DType], attrs: Mapping[str, Any]
    ) -> DType:
        if text.startswith("@"):
            return attrs[text[1:]]
        return binding[text] if text in binding else DTYPES[text]

    def _check(self, types: list[Type | None], attrs: Mapping[str, Any]) -> dict[str, DType]:
        slots = list(self.inputs)
        if slots and slots[-1].variadic:
            last = slots.pop()
            slots += [last] * (len(types) - len(slots))
        if len(types) > len(slots):
            raise TypeMismatch(
                f"{self.name}: too many operands", expected=len(slots), received=len(types)
            )
        types += [None] * (len(slots) - len(types))
        binding: dict[str, DType] = {}
        for slot, t in zip(slots, types):
            if t is None:
                if not (slot.optional or slot.variadic):
                    raise TypeMismatch(f"{self.name}: operand {slot.name} is missing")
                continue
            if slot.dtype == "*":
                continue
            if not isinstance(t, TensorType):
                raise TypeMismatch(f"{self.name}: operand {slot.name} is not a tensor", received=t)
            allowed = self.dtypes.get(slot.dtype) or frozenset([DTYPES[slot.dtype]])
            first = binding.setdefault(slot.dtype, t.dtype)
            if t.dtype not in allowed or first != t.dtype:
                names = ", ".join(sorted(d.name for d in allowed))
                raise TypeMismatch(
                    f"{self.name}: operand {slot.name} has the wrong dtype",
                    expected=first if t.dtype in allowed else f"one of {names}",
                    received=t.dtype,
                )
        return binding


def _is_list_of_shapes(x: object) -> bool:
    return isinstance(x, list) and len(x) == 1 and isinstance(x[0], (tuple, list))


OPS = Records()

_INPUT = re.compile(r"(\w+)\s*:\s*(\w+|\*)\s*([?*]?)$")


def parse_signature(text: str) -> tuple[tuple[Input, ...], tuple[str, ...]]:
    left, right = text.split("->")
    inputs = []
    for part in filter(None, (p.strip() for p in left.split(","))):
        name, dtype, suffix = _INPUT.match(part).groups()  # type: ignore[union-attr]
        inputs.append(Input(name, dtype, suffix == "?", suffix == "*"))
    return tuple(inputs), tuple(p.strip() for p in right.split(","))


def register(
    name: str,
    signature: str,
    doc: str,
    *,
    ref: Reference,
    grad: GradientRule | NotDifferentiable,
    loops: Meaning,
    samples: Samples,
    group: str,
    shape: ShapeRule | None = None,
    infer: TypeRule | None = None,
    attrs: Mapping[str, Attr] | None = None,
    commutative: bool = False,
    pure: bool = True,
    limits: Limits | None = None,
    **dtypes: str | Iterable[DType],
) -> Op:
    """Add an op. Dtype variables are given as keywords: `T="float"`, `T=frozenset([...])`."""
    assert doc and callable(ref) and callable(samples), f"{name}: the record is incomplete"
    assert isinstance(grad, NotDifferentiable) or callable(grad), f"{name}: gradient missing"
    assert isinstance(loops, Meaning), f"{name}: no meaning as loops"
    assert (shape is None) != (infer is None), f"{name}: give `shape` or `infer`"
    inputs, outputs = parse_signature(signature)
    classes = {k: CLASSES[v] if isinstance(v, str) else frozenset(v) for k, v in dtypes.items()}
    variables = {i.dtype for i in inputs} | {o for o in outputs if o[0] not in "@*"}
    assert variables <= set(classes) | set(DTYPES) | {"*"}, f"{name}: unbound {variables}"
    op = Op(
        name=name,
        doc=inspect.cleandoc(doc),
        inputs=inputs,
        outputs=outputs,
        dtypes=classes,
        attrs=dict(attrs or {}),
        shape=shape,
        infer_types=infer,
        ref=ref,
        grad=grad,
        loops=loops,
        samples=samples,
        group=group,
        commutative=commutative,
        pure=pure,
        limits=limits,
    )
    OPS.add(op, sys._getframe(1).f_globals)
    return op


def get(name: str) -> Op:
    """The record of `name`. Raises TypeMismatch with near names."""
    if name not in OPS:
        import difflib

        near = difflib.get_close_matches(name, OPS, 3)
        raise TypeMismatch(
            f"there is no op {name!r}", fix=f"did you mean {', '.join(near)}?" if near else None
        )
    return OPS[name]
