"""Elementwise ops without an entry of their own, by what their bodies compute.

    softcap(x) = tanh(x / cap) * cap      Div, Tanh, Mul

A body is a scalar expression; each primitive in it is an op of ours that is written like any other.
"""

import math
from collections.abc import Callable

from ....compiler.errors import UnsupportedError
from ....compiler.expr import expr as s
from ....compiler.expr.expr import Buffer, Expr
from ....compiler.ir.builder import Builder, Tensor
from ....compiler.ir.graph import Node
from ....compiler.ir.types import TensorType

# fmt: off
SAME = (
    "add sub div pow and or xor neg abs sign exp log sqrt rsqrt sin cos tan asin acos atan sinh "
    "cosh tanh asinh acosh atanh erf sigmoid floor ceil round not isnan isinf mul"
)
OPS_OF = {name: name for name in SAME.split()} | {
    "min": "minimum", "max": "maximum", "select": "where", "lt": "less", "le": "less_equal",
    "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal",
    "bitand": "bitwise_and", "bitor": "bitwise_or", "bitxor": "bitwise_xor",
    "bitnot": "bitwise_not", "truncdiv": "div",
}
SHORT = {
    "expm1": lambda b, x: b.exp(x) - 1,
    "log1p": lambda b, x: b.log(x + 1),
    "exp2": lambda b, x: b.exp(x * math.log(2)),
    "log2": lambda b, x: b.log(x) * (1 / math.log(2)),
    "normal_area": lambda b, x: b.erf(x * math.sqrt(0.5)) * 0.5,
}
# fmt: on


def by_body(node: Node) -> Callable:
    """A rule `rule(b, *operands, **attributes)` that builds what the body of an elementwise node
    computes. Raises UnsupportedError where a primitive of the body is no op."""
    scalars: list[Expr | None] = []
    for i, v in enumerate(node.inputs):
        x = None if v is None else s.load(Buffer(f"x{i}", TensorType(v.dtype, ())), ())
        scalars.append(None if x is None else s.cast(x, x.dtype.compute))
    missing = sum(not i.variadic for i in node.op.inputs) - len(scalars)
    body = node.op.loops.body(s, *scalars, *([None] * missing), **node.attrs)
    body = s.cast(s.lift(body, node.outputs[0].dtype), node.outputs[0].dtype)
    order = list(s.walk(body))
    known = OPS_OF.keys() | SHORT.keys() | {"load", "const", "cast"}
    for e in order:
        if e.op not in known or OPS_OF.get(e.op) == node.op.name:  # no body of itself
            raise UnsupportedError(
                f"ONNX has no way to say {node.op.name}",
                where=node.where,
                expected="an entry in frontends/onnx/write/table.py, or a body of ops of ONNX",
                received=f"{e.op} in its body",
            )

    def rule(b: Builder, *operands: Tensor | None, **attrs) -> Tensor:
        made: dict[Expr, Tensor] = {}
        for e in order:
            made[e] = _op(b, e, [made[x] for x in e.args], operands)
        result = made[body]
        shape = node.outputs[0].shape
        return result if result.shape == shape else result.expand(shape)

    return rule


def _op(b: Builder, e: Expr, args: list[Tensor], operands) -> Tensor:
    """The tensor of one expression."""
    match e.op:
        case "load":
            return operands[int(e.data.name[1:])]
        case "const":
            return b.scalar(e.data, e.dtype)
        case "cast":
            return args[0].cast(e.dtype)
        case short if short in SHORT:
            return SHORT[short](b, *args)
        case other:
            return b.emit(OPS_OF[other], *args)
