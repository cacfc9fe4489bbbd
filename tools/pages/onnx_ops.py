"""Which ONNX operators read into which op: found in the source of the reader's table.

An entry of `onnx/operators/table.py` is a function; the ops that it appends are named in it: in
`b.emit("name", …)`, in `b.name(…)`, in a call (`nary("add")(c)`), or in what it closes over
(`unary("gelu")`). Functions that it calls are followed.
"""

import ast
import dis
import inspect
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType

from ...compiler.ir.op import OPS
from ...frontends.onnx.operators.table import TABLE

# What entries put operands into shape with; worth naming where there is nothing else.
PLUMBING = {"cast", "concat", "constant", "dims", "expand", "identity", "reshape", "transpose"}
METHODS = {"cast", "expand", "reshape", "transpose"}  # of a Tensor
_HERE = __package__.partition(".")[0] + ".frontends.onnx"


def readers() -> dict[str, list[str]]:
    """{op: ONNX operators, with their domain where it is not ONNX's own}."""
    found: dict[str, set[str]] = defaultdict(set)
    for (domain, name), entry in TABLE.items():
        for op in ops_of(entry):
            found[op].add(f"{domain}:{name}" if domain else name)
    return {op: sorted(names) for op, names in found.items()}


def ops_of(entry: Callable) -> set[str]:
    """The ops that an entry appends."""
    ops = set().union(*(_named_in(f) for f in _reached(entry)))
    return ops - PLUMBING or ops


def _reached(entry: Callable) -> list[Callable]:
    """The entry, and functions of the reader that it calls or closes over."""
    seen: list[Callable] = []
    todo = [entry]
    while todo:
        f = inspect.unwrap(todo.pop())
        if any(f is g for g in seen) or not inspect.isfunction(f):
            continue
        if not f.__module__.startswith(_HERE):
            continue
        seen.append(f)
        todo += (v for v in _closed_over(f) if callable(v))
        todo += (f.__globals__[n] for n in _globals_of(f.__code__) if n in f.__globals__)
    return seen


def _globals_of(code: CodeType) -> Iterator[str]:
    """Names of globals that a function reads, also in its inner ones; attributes are none."""
    yield from (i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL")
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _globals_of(inner)


def _closed_over(f: Callable) -> Iterator:
    for cell in f.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _named_in(f: Callable) -> set[str]:
    names = {v for v in _closed_over(f) if isinstance(v, str)}
    return (names | _named_in_source(f.__code__)) & set(OPS)


@cache
def _named_in_source(code: CodeType) -> frozenset[str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, SyntaxError):  # a lambda in the middle of an expression
        return frozenset()
    calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call))
    return frozenset(n for call in calls for n in _op_of(call) if isinstance(n, str))


def _op_of(call: ast.Call) -> Iterator[str]:
    if isinstance(call.func, ast.Name):  # nary("add")(c)
        yield from (a.value for a in call.args if isinstance(a, ast.Constant))
    if not isinstance(call.func, ast.Attribute):
        return
    owner, name = ast.unparse(call.func.value), call.func.attr
    if name == "emit" and call.args:
        parts = ast.walk(call.args[0])  # one name, or a choice
        yield from (p.value for p in parts if isinstance(p, ast.Constant))
    elif name in METHODS or owner == "b" or owner.endswith(".b"):
        yield name
