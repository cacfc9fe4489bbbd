"""Stubs of what is made from op records, so that editors complete ops and type checkers know them.

    python -m tessel.tools.pages.stubs .

`frontends/native/functional.pyi` has a function for each op, and those that functional.py defines
itself; `compiler/ir/op_methods.pyi` the methods of a `Builder`, which derives from that class when
types are checked, and at no other time. Ops that the compiler makes by itself are left out.
"""

import ast
import keyword
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ...compiler.ir.op import OPS, REQUIRED, Attr, Op
from ...frontends.native import functional
from ..common.terminal import write

INTERNAL = "compiler.ops.internal"  # a room whose ops are made by passes only
PARTS = {  # what other ops, readers and gradients are made of
    "bind_dims",
    "choose_places",
    "host_if",
    "host_loop",
    "impossible",
    "order_keys",
    "place",
    "radix_order",
    "require_found",
    "row_ranks",
    "running_count",
    "sort_rows",
    "sum_to",
    "barrier",
    "within",
}
WIDTH = 100
TYPES = {
    "int": "int",
    "float": "float",
    "bool": "bool",
    "str": "str",
    "dtype": "DTypeLike",
    "ints": "Sequence[int]",
    "dims": "Sequence[Dim]",
    "dim": "Dim",
    "floats": "Sequence[float]",
    "strs": "Sequence[str]",
    "array": "ArrayLike",
    "graph": "Graph",
    "any": "Any",
}
HEAD = """\
# Generated from the op records: make docs.
# fmt: off
"""
FUNCTIONAL_HEAD = (
    HEAD
    + '''\
"""Every op as a function of arrays: `relu(x)`, `conv(x, w, b, strides=(2, 2), …)`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ...compiler.ir.builder import Tensor
from ...compiler.ir.dims import Dim
from ...compiler.ir.graph import Graph
from ...compiler.ir.types import DTypeLike
from .tracing import Array

Operand: TypeAlias = Tensor | ArrayLike

'''
)
METHODS_HEAD = (
    HEAD
    + '''\
"""The ops as methods of a `Builder`: `b.relu(x)` appends a node and gives its result."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from .builder import Operand, Tensor
from .dims import Dim
from .graph import Graph
from .types import DTypeLike

class OpMethods:
'''
)


def functional_stub() -> str:
    """The text of functional.pyi."""
    own = dict(_own_functions())
    made = {
        functional._RESERVED.get(op.name, op.name): op
        for op in _public_ops()
        if op.name not in functional._NOT_FUNCTIONS
    }
    reductions = [n for n in functional.__all__ if n not in own and n not in made and n not in OPS]
    text = own | {n: _function(n, op, "Array") for n, op in made.items() if n not in own}
    text |= {n: _reduction(n) for n in reductions}
    rest = "def __getattr__(name: str) -> Callable[..., Any]: ...\n"
    return _with_head(FUNCTIONAL_HEAD, "\n".join(text[n] for n in sorted(text)) + "\n" + rest)


def methods_stub() -> str:
    """The text of op_methods.pyi."""
    own = {"constant", "input", "output", "tensor", "value", "inline"}  # a Builder has these itself
    ops = [o for o in _public_ops() if o.name not in own and not keyword.iskeyword(o.name)]
    parts = [_function(op.name, op, "Tensor", "    ") for op in ops]
    return _with_head(METHODS_HEAD, "\n".join(parts))


def _with_head(head: str, body: str) -> str:
    """The body under those imports of `head` that it reads."""
    words = set(re.findall(r"\w+", body + head.partition("\nOperand")[2])) | {"TypeAlias"}
    lines = []
    for line in head.splitlines():
        before, found, names = line.partition(" import ")
        read = [n for n in names.split(", ") if n in words]
        if found and line.startswith("from"):
            line = f"{before} import {', '.join(read)}"
        if read or not (found and line.startswith("from")):
            lines.append(line)
    text = "\n".join(lines)
    return re.sub("\n{3,}", "\n\n", text) + "\n" + body


def _public_ops() -> list[Op]:
    """All ops but those that the compiler makes by itself, by name."""
    made = [n for n in OPS if f".{INTERNAL}." in OPS.makers[n]["__name__"]]
    return [OPS[n] for n in sorted(set(OPS) - PARTS - set(made))]


def _function(name: str, op: Op, tensor: str, indent: str = "") -> str:
    first = ["self"] if indent else []
    result = _result(op, tensor)
    if not indent and not op.inputs:
        result = "np.ndarray"  # there is no trace that it could belong to
    arguments = [*first, *_operands(op, together=not indent), *_attributes(op)]
    return _definition(name, arguments, result, op.doc, indent)


def _result(op: Op, tensor: str) -> str:
    if op.outputs == ("*",):
        return "Any"  # its attributes say how many there are
    several = len(op.outputs) > 1
    return f"tuple[{', '.join([tensor] * len(op.outputs))}]" if several else tensor


def _operands(op: Op, together: bool) -> Iterator[str]:
    """Operands are positional. The absent one before a present one is given as None."""
    parameters = list(functional.signature(op).parameters.values())[: len(op.inputs)]
    for slot, p in zip(op.inputs, parameters, strict=True):
        if slot.variadic:
            if len(parameters) > 1:
                yield "/"
            whole = " | Sequence[Operand]" if together and len(parameters) == 1 else ""
            yield f"*{slot.name}: Operand{whole} | None"
        else:
            absent = " | None" if slot.optional else ""
            default = "" if p.default is p.empty else " = None"
            yield f"{slot.name}: Operand{absent}{default}"
    if op.inputs and not op.inputs[-1].variadic:
        yield "/"


def _attributes(op: Op) -> Iterator[str]:
    if op.attrs and not (op.inputs and op.inputs[-1].variadic):
        yield "*"
    for name, attr in op.attrs.items():
        yield f"{name}: {_attribute(attr)}"


def _attribute(attr: Attr) -> str:
    kind = TYPES[attr.kind]
    if attr.default is REQUIRED:
        return kind
    optional = " | None" if attr.default is None and kind != "Any" else ""
    default = repr(attr.default)
    if not isinstance(attr.default, (int, float, str, tuple, type(None))) or "inf" in default:
        default = "..."
    return f"{kind}{optional} = {default}"


def _reduction(name: str) -> str:
    arguments = ["x: Array", "axis: int | Sequence[int] | None = None", "keepdims: bool = False"]
    return _definition(name, arguments, "Array", getattr(functional, name).__doc__)


def _own_functions() -> Iterator[tuple[str, str]]:
    """The functions that functional.py defines itself."""
    for item in ast.parse(Path(functional.__file__).read_text()).body:
        if isinstance(item, ast.FunctionDef) and item.name in functional.__all__:
            given = _arguments(item.args)
            result = ast.unparse(item.returns) if item.returns else "Any"
            yield item.name, _definition(item.name, given, result, ast.get_docstring(item))


def _arguments(args: ast.arguments) -> list[str]:
    """Each argument as it is written."""
    first = len(args.args) - len(args.defaults)
    parts = [
        ast.unparse(a) + ("" if i < first else f" = {ast.unparse(args.defaults[i - first])}")
        for i, a in enumerate(args.args)
    ]
    if args.vararg or args.kwonlyargs:
        parts.append("*" + (ast.unparse(args.vararg) if args.vararg else ""))
    for a, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        parts.append(ast.unparse(a) + ("" if default is None else f" = {ast.unparse(default)}"))
    return parts + ([f"**{ast.unparse(args.kwarg)}"] if args.kwarg else [])


def _definition(
    name: str, arguments: list[str], result: str, doc: str | None, indent: str = ""
) -> str:
    """A function with the beginning of its docstring."""
    line = f"{indent}def {name}({', '.join(arguments)}) -> {result}:"
    if len(line) > WIDTH:
        rows = "".join(f"{indent}    {argument},\n" for argument in arguments)
        line = f"{indent}def {name}(\n{rows}{indent}) -> {result}:"
    said = " ".join((doc or "").partition("\n\n")[0].split()).replace("\\", "\\\\")
    room = WIDTH - len(indent) - 10
    said = said if len(said) <= room else said[: room - 2].rpartition(" ")[0] + " …"
    return f'{line}\n{indent}    """{said}"""\n' + ("" if indent else "\n")


STUBS = {
    "frontends/native/functional.pyi": functional_stub,
    "compiler/ir/op_methods.pyi": methods_stub,
}


def main(root: str) -> None:
    """Write both."""
    for name, stub in STUBS.items():
        (Path(root) / name).write_text(stub())
        write(f"wrote {name}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
