"""Dims from text: `parse_dim(str(d)) == d`."""

import ast
import operator
from collections.abc import Callable
from typing import Any

from ..errors import TypeMismatch
from .dims import ON_DIMS, Dim, Sym

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def parse_dim(text: str) -> Dim:
    """The dim that prints as `text`. Raises TypeMismatch for anything else."""

    def walk(e: ast.expr) -> Any:
        match e:
            case ast.Constant(value=int() as v):
                return v
            case ast.Name(id=name):
                return Sym.named(name)
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return 0 - walk(a)
            case ast.BinOp(left=a, op=op, right=b) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](walk(a), walk(b))
            case ast.Call(func=ast.Name(id=name), args=[a, b]) if name in ON_DIMS:
                return ON_DIMS[name](walk(a), walk(b))
        raise ValueError

    try:
        return walk(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError, RecursionError):
        raise TypeMismatch(
            f"{text!r} is not a dim", expected="an int or an expression such as 2*N+1"
        ) from None
