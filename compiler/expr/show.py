"""Expressions as text."""

from ..ir.types import BOOL, I64
from .core import Expr

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "floordiv": "//",
    "mod": "%",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
    "and": "&",
    "or": "|",
}


def show(e: Expr, names: dict | None = None) -> str:
    """Text of an expression; `names` renames axes and buffers."""

    def name(x):
        return names.get(x, x.name) if names else x.name

    if names and e in names:
        return names[e]
    match e.op:
        case "axis":
            return name(e.data)
        case "const":
            return repr(e.data) if e.dtype in (I64, BOOL) else f"{e.data!r}:{e.dtype}"
        case "size":
            return f"({e.data})"
        case "load":
            return f"{name(e.data)}[{', '.join(show(a, names) for a in e.args)}]"
        case "reduce":
            axes = ", ".join(f"{name(a)}<{a.extent}" for a in e.data[1])
            return f"{e.data[0]}:{e.dtype}({axes}; {show(e.args[0], names)})"
        case "cast":
            return f"{e.dtype}({show(e.args[0], names)})"
        case "bitcast":
            return f"bits:{e.dtype}({show(e.args[0], names)})"
        case op if op in _INFIX:
            return f"({f' {_INFIX[op]} '.join(show(a, names) for a in e.args)})"
    return f"{e.op}({', '.join(show(a, names) for a in e.args)})"
