"""Graphs as text: `parse_graph(print_graph(g)) == g`. The grammar is in `compiler/ir/graph.py`.

    graph main(%x: f32[N,3]) -> (%y as "probabilities") {
      %two = constant() {value=dense(f32[] 2.0)} : f32[]
      %m = mul(%x, %two) : f32[N,3]  # "/layer/Mul"
      %y = softmax(%m) {axis=1} : f32[N,3]
    }

An output's name is the value's unless `as` says otherwise. After the outputs may follow
`updates {OUTPUT: INPUT, …}` and `metadata {"key": "value", …}`. Attributes that have their
default are left out. Arrays of more than 8 elements print as `@w0` and are kept in a table.
Reading, the types of a node may be left out: they are inferred. The reader is `parse.py`.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from .dims import Sym
from .graph import Graph, Node, Value
from .op import REQUIRED, Attr
from .parse import parse_graph, parse_type
from .types import DType, dtype_of

INLINE = 8  # arrays of up to this many elements are written out
_PLAIN = re.compile(r"[A-Za-z0-9_.]+\Z")
_WORD = re.compile(r"(?!(?:inf|nan)\b)[A-Za-z_][A-Za-z0-9_.]*\Z")  # what is no number either


def print_graph(graph: Graph, table: dict[str, np.ndarray] | None = None) -> str:
    """The graph as text; arrays too large to write out go to `table` as `@name`."""
    return _Printer({} if table is None else table).graph(graph, "")


def print_node(node: Node) -> str:
    """One node's line, for messages."""
    return _Printer({}).node(node, "")


class _Printer:
    def __init__(self, table: dict[str, np.ndarray]):
        self.table = table
        self.known = {id(a): name for name, a in table.items()}

    def graph(self, g: Graph, indent: str) -> str:
        inputs = ", ".join(f"{print_name(v)}: {v.type}" for v in g.inputs)
        names = g.output_names + [v.name for v in g.outputs[len(g.output_names) :]]
        outputs = ", ".join(
            print_name(v) + ("" if v.name == n else f" as {_quote(n)}")
            for v, n in zip(g.outputs, names)
        )
        clauses = ""
        if g.updates:
            clauses += " updates {" + ", ".join(f"{o}: {i}" for o, i in g.updates.items()) + "}"
        if g.metadata:
            pairs = (f"{_quote(k)}: {_quote(v)}" for k, v in g.metadata.items())
            clauses += " metadata {" + ", ".join(pairs) + "}"
        name = g.name if _WORD.match(g.name) else _quote(g.name)
        lines = [f"graph {name}({inputs}) -> ({outputs}){clauses} {{"]
        lines += [self.node(n, indent + "  ") for n in g.nodes]
        return "\n".join([*lines, indent + "}"])

    def node(self, node: Node, indent: str) -> str:
        results = ", ".join(print_name(v) for v in node.outputs)
        operands = ", ".join("none" if v is None else print_name(v) for v in node.inputs)
        attrs = ", ".join(self.attributes(node, indent))
        line = f"{indent}{results} = {node.op.name}({operands})"
        if attrs:
            line += " {" + attrs + "}"
        line += " : " + ", ".join(str(v.type) for v in node.outputs)
        return line if node.origin is None else f"{line}  # {_quote(node.origin)}"

    def attributes(self, node: Node, indent: str) -> Iterator[str]:
        for name, value in node.attrs.items():
            attr: Attr | None = node.op.attrs.get(name)
            text = self.literal(value, indent)
            if attr is not None and attr.default is not REQUIRED:
                default = attr.convert(attr.default, name)
                if text == self.literal(default, indent):
                    continue
            yield f"{name}={text}"

    def literal(self, value: Any, indent: str) -> str:
        match value:
            case None:
                return "none"
            case bool() | np.bool_():
                return "true" if value else "false"
            case int() | Sym() | np.integer():
                return str(value)
            case float() | np.floating():
                return repr(float(value))
            case str():
                return _quote(value)
            case DType():
                return value.name
            case tuple() | list():
                return "[" + ", ".join(self.literal(v, indent) for v in value) + "]"
            case Graph():
                return self.graph(value, indent)
            case np.ndarray():
                return self.array(value)
        raise AssertionError(f"an attribute has no text: {value!r}")

    def array(self, a: np.ndarray) -> str:
        if a.size <= INLINE:
            return _dense(a)
        if id(a) not in self.known:
            count = len(self.table)
            name = f"w{count}"
            while name in self.table:
                count += 1
                name = f"w{count}"
            self.table[name] = a
            self.known[id(a)] = name
        return "@" + self.known[id(a)]


def print_name(v: Value) -> str:
    return "%" + (v.name if _PLAIN.match(v.name) else _quote(v.name))


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _dense(a: np.ndarray) -> str:
    dtype = dtype_of(a)
    with np.errstate(invalid="ignore"):  # isnan of a bf16 warns of flags that others left behind
        elements = [_element(x, dtype) for x in a.reshape(-1)]
    text = elements[0] if a.ndim == 0 else "[" + ", ".join(elements) + "]"
    return f"dense({dtype}[{','.join(map(str, a.shape))}] {text})"


def _element(x: Any, dtype: DType) -> str:
    if dtype.kind == "s":
        return _quote(str(x))
    if dtype.kind == "b":
        return "true" if x else "false"
    if not dtype.is_float:
        return str(int(x))
    bits = np.asarray(x, dtype.numpy).tobytes()
    with np.errstate(invalid="ignore"):  # a signalling NaN
        nan = np.isnan(x)
    if nan and bits != np.asarray(np.nan, dtype.numpy).tobytes():
        return f"nan:{int.from_bytes(bits, 'little'):#x}"  # a sign or payload of its own
    short = str(x)
    if np.asarray(float(short), dtype.numpy).tobytes() != bits:
        short = repr(float(x))
    return short if any(c in short for c in ".en") else short + ".0"


__all__ = ["parse_graph", "parse_type", "print_graph", "print_name", "print_node"]
