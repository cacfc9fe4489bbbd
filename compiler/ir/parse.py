"""Reading a Graph from its text: a tokenizer and recursive descent, one method per line of the
grammar in `compiler/ir/graph.py`. Raises GraphError with line, column, expected and received."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np

from ..errors import GraphError, TesselError
from ..system.nesting import check_depth
from .dim_parse import parse_dim
from .graph import Graph, Node, Value
from .op import Op
from .types import DTYPES, AnyRank, DType, MapType, OptionalType, SequenceType, TensorType, Type

_TOKEN = r"""(?P<space>\s+)
      | (?P<comment>\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<value>%(?:[A-Za-z0-9_.]+|"(?:[^"\\\n]|\\.)*"))
      | (?P<table>@[A-Za-z0-9_.]+)
      | (?P<nan>nan:0x[0-9a-f]+)
      | (?P<number>-?(?:inf\b|nan\b|\d+(?:\.\d*)?(?:[eE][-+]?\d+)?))
      | (?P<name>[A-Za-z_][A-Za-z0-9_.]*)
      | (?P<mark>->|//|[-+*%(){}\[\]=,:…])"""


class Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse_graph(text: str, table: dict[str, np.ndarray] | None = None) -> Graph:
    """The graph that prints as `text`; `@name` arrays come from `table`. Raises GraphError."""
    check_depth(text, "the graph's text", GraphError, None)
    parser = _Parser(text, {} if table is None else table)
    graph = parser.graph()
    parser.expect("", "the end")
    return graph


def parse_type(text: str) -> Type:
    """The type that prints as `text`, such as `f32[N,3]`; also of what is no value of a graph, such
    as `optional(f32[…])`. Raises GraphError."""
    check_depth(text, "the type", GraphError, None)
    parser = _Parser(text, {})
    parser.declares = True
    type = parser.type()
    parser.expect("", "the end")
    return type


class _Parser:
    def __init__(self, text: str, table: dict[str, np.ndarray]):
        self.text, self.table = text, table
        self.tokens = list(self._tokenize())
        self.position = 0
        self.declares = False  # types of a model's inputs, which a graph has no values of

    # -- tokens ---------------------------------------------------------------------------

    def _tokenize(self) -> Iterator[Token]:
        at, token = 0, re.compile(_TOKEN, re.VERBOSE)  # Python keeps it
        while at < len(self.text):
            match = token.match(self.text, at)
            if match is None:
                self.fail("unknown character", at, received=repr(self.text[at]))
            if match.lastgroup != "space":
                yield Token(str(match.lastgroup), match[0], at)
            at = match.end()
        yield Token("end", "", at)

    def fail(self, message: str, at: int, **details: Any) -> NoReturn:
        """`details`: expected, received, fix."""
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at)
        where = f"line {line}, column {column}"
        raise GraphError(message, where=where, **details)

    def peek(self) -> Token:
        return self.tokens[self._skip()]

    def _skip(self) -> int:
        """Where the next token is that is no comment; `position` stays behind the last one read."""
        at = self.position
        while self.tokens[at].kind == "comment":
            at += 1
        return at

    def next(self) -> Token:
        at = self._skip()
        token = self.tokens[at]
        self.position = at + (token.kind != "end")
        return token

    def accept(self, text: str) -> bool:
        token = self.peek()
        found = token.text == text and token.kind not in ("string", "value")
        if found:
            self.next()
        return found

    def expect(self, text: str, shown: str | None = None) -> Token:
        token = self.next()
        if token.text != text:
            self.fail("syntax error", token.at, expected=shown or text, received=_show(token))
        return token

    def kind(self, kind: str, shown: str) -> Token:
        token = self.next()
        if token.kind != kind:
            self.fail("syntax error", token.at, expected=shown, received=_show(token))
        return token

    def many(self, item: Callable[[], Any], close: str) -> list[Any]:
        """item, item, … close"""
        items: list[Any] = []
        while not self.accept(close):
            if items:
                self.expect(",", f", or {close}")
            items.append(item())
        return items

    def string(self, token: Token) -> str:
        try:
            return json.loads(token.text)
        except json.JSONDecodeError:
            self.fail("not a string", token.at, expected="JSON escapes", received=token.text)

    # -- graphs ---------------------------------------------------------------------------

    def graph(self) -> Graph:
        self.expect("graph")
        name = self.next()
        if name.kind not in ("name", "string", "number"):
            self.fail("syntax error", name.at, expected="a name", received=_show(name))
        graph = Graph(self.string(name) if name.kind == "string" else name.text)
        env: dict[str, Value] = {}
        self.expect("(")
        graph.inputs = self.many(lambda: self.input(env), ")")
        self.expect("->")
        self.expect("(")
        outputs = self.many(self.output, ")")
        if self.accept("updates"):
            self.expect("{")
            graph.updates = dict(self.many(lambda: self.pair(self.integer), "}"))
        if self.accept("metadata"):
            self.expect("{")
            graph.metadata = dict(self.many(lambda: self.pair(self.quoted), "}"))
        self.expect("{")
        while not self.accept("}"):
            graph.nodes.append(self.node(env))
        graph.outputs = [self.lookup(env, token) for token, _ in outputs]
        graph.output_names = [name for _, name in outputs]
        return graph

    def pair(self, item: Callable[[], Any]) -> Any:
        key = item()
        self.expect(":")
        return key, item()

    def integer(self) -> int:
        token = self.kind("number", "an int")
        try:
            return int(token.text)
        except ValueError:
            self.fail("syntax error", token.at, expected="an int", received=token.text)

    def quoted(self) -> str:
        return self.string(self.kind("string", 'a "string"'))

    def input(self, env: dict[str, Value]) -> Value:
        token = self.kind("value", "a %value")
        self.expect(":")
        return self.define(env, token, Value(self.value_name(token), self.type()))

    def output(self) -> tuple[Token, str]:
        token = self.kind("value", "a %value")
        return token, self.quoted() if self.accept("as") else self.value_name(token)

    def value_name(self, token: Token) -> str:
        if token.text[1] != '"':
            return token.text[1:]
        return self.string(Token("string", token.text[1:], token.at + 1))

    def define(self, env: dict[str, Value], token: Token, value: Value) -> Value:
        if value.name in env:
            self.fail("a value is defined twice", token.at, received=token.text)
        env[value.name] = value
        return value

    def lookup(self, env: dict[str, Value], token: Token) -> Value:
        value = env.get(self.value_name(token))
        if value is None:
            self.fail("a value is used that is not defined before", token.at, received=token.text)
        return value

    def operand(self, env: dict[str, Value]) -> Value | None:
        if self.accept("none"):
            return None
        return self.lookup(env, self.kind("value", "a %value or none"))

    def node(self, env: dict[str, Value]) -> Node:
        results = [self.kind("value", "a %value or }")]
        while self.accept(","):
            results.append(self.kind("value", "a %value"))
        self.expect("=")
        name = self.kind("name", "an op")
        try:
            from . import op as registry  # types alone are read without the records of ops

            op = registry.get(name.text)
        except TesselError as error:
            self.fail(error.message, name.at, expected="an op", fix=error.fix)
        self.expect("(")
        operands = self.many(lambda: self.operand(env), ")")
        attrs = dict(self.many(lambda: self.attribute(op), "}")) if self.accept("{") else {}
        types: Sequence[Type] | None = None
        if self.accept(":"):
            given = [self.type()]
            while self.accept(","):
                given.append(self.type())
            types = given
        try:
            attrs = op.bind(attrs, name.text)
            if types is None:
                types = op.infer([None if v is None else v.type for v in operands], attrs)
        except TesselError as error:
            self.fail(error.message, name.at, expected=error.expected, received=error.received)
        if len(types) != len(results):
            self.fail("wrong number of types", name.at, expected=len(results), received=len(types))
        names = [self.value_name(t) for t in results]
        node = Node(op, operands, attrs, types, names, self.origin())
        for token, value in zip(results, node.outputs):
            self.define(env, token, value)
        return node

    def origin(self) -> str | None:
        """The comment right behind a node, if it is a string."""
        token = self.tokens[self.position]
        if token.kind == "comment" and token.text.startswith('# "'):
            try:
                return json.loads(token.text[2:])
            except json.JSONDecodeError:
                return None
        return None

    # -- types and literals ---------------------------------------------------------------

    def type(self) -> Type:
        token = self.kind("name", "a type")
        if token.text == "seq" and self.accept("("):
            element = self.type()
            self.expect(")")
            return SequenceType(element)
        if self.declares and token.text == "optional" and self.accept("("):
            element = self.type()
            self.expect(")")
            return OptionalType(element)
        if token.text == "map" and self.accept("("):
            key = self.dtype(self.kind("name", "a dtype"))
            self.expect(",")
            value = self.type()
            self.expect(")")
            return MapType(key, value)
        dtype = self.dtype(token)
        self.expect("[")
        if self.declares and self.accept("…"):
            self.expect("]")
            return AnyRank(dtype)
        return TensorType(dtype, tuple(self.many(self.dim, "]")))

    def dtype(self, token: Token) -> DType:
        if token.text not in DTYPES:
            self.fail("unknown dtype", token.at, expected=", ".join(DTYPES), received=token.text)
        return DTYPES[token.text]

    def dim(self) -> Any:
        """An expression up to the next comma or closing bracket outside of parentheses."""
        start, depth = self.peek(), 0
        while depth or self.peek().text not in (",", "]", "}"):
            token = self.next()
            if token.kind == "end" or token.kind == "string":
                self.fail("syntax error", token.at, expected="a dim", received=_show(token))
            depth += (token.text == "(") - (token.text == ")")
        text = self.text[start.at : self.peek().at]
        try:
            return parse_dim(text)
        except TesselError as error:
            self.fail(error.message, start.at, expected=error.expected, received=text.strip())

    def attribute(self, op: Op) -> Any:
        name = self.kind("name", "an attribute")
        self.expect("=")
        kind = op.attrs[name.text].kind if name.text in op.attrs else "any"
        if kind == "dims":
            self.expect("[")
            return name.text, self.many(self.dim, "]")
        if kind == "dim" and self.peek().text != "none":
            return name.text, self.dim()
        return name.text, self.literal()

    def literal(self) -> Any:
        token = self.peek()
        if token.text == "graph":
            return self.graph()
        if token.kind == "name" and token.text not in (*_WORDS, *DTYPES, "dense"):
            return self.dim()
        self.next()
        match token.kind:
            case "number":
                return _number(token.text)
            case "string":
                return self.string(token)
            case "table":
                return self.array(token)
            case "mark" if token.text == "[":
                return self.many(self.literal, "]")
            case "name" if token.text in _WORDS:
                return _WORDS[token.text]
            case "name" if token.text == "dense":
                return self.dense()
            case "name":
                return DTYPES[token.text]
        self.fail("syntax error", token.at, expected="a literal", received=_show(token))

    def array(self, token: Token) -> np.ndarray:
        if token.text[1:] not in self.table:
            known = ", ".join(list(self.table)[:8]) or "an empty table"
            self.fail("an array is missing", token.at, expected=known, received=token.text)
        return self.table[token.text[1:]]

    def dense(self) -> np.ndarray:
        self.expect("(")
        start = self.peek()
        type = self.type()
        if not isinstance(type, TensorType) or not type.is_static:
            self.fail("not an array's type", start.at, expected="f32[2]", received=type)
        at = self.peek().at
        items = self.many(self.element, "]") if self.accept("[") else [self.element()]
        self.expect(")")
        if len(items) != type.size:
            self.fail("wrong number of elements", at, expected=type.size, received=len(items))
        array = np.empty(len(items), type.dtype.numpy)
        for i, (item, token) in enumerate(items):
            if not _is_element(item, type.dtype):
                self.fail("wrong element", token.at, expected=type.dtype, received=token.text)
            array[i : i + 1] = _nan(item, type.dtype) if isinstance(item, bytes) else item
        return array.reshape(cast(Any, type.shape))

    def element(self) -> Any:
        token = self.next()
        match token.kind:
            case "number":
                return _number(token.text), token
            case "nan":
                return int(token.text[4:], 16).to_bytes(8, "little"), token
            case "string":
                return self.string(token), token
            case "name" if token.text in ("true", "false"):
                return token.text == "true", token
        self.fail("syntax error", token.at, expected="an element", received=_show(token))


_WORDS = {"true": True, "false": False, "none": None}


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _is_element(item: Any, dtype: DType) -> bool:
    match dtype.kind:
        case "s":
            return isinstance(item, str)
        case "b":
            return isinstance(item, bool)
        case "f":
            return isinstance(item, (int, float, bytes)) and not isinstance(item, bool)
        case _:
            return isinstance(item, int) and not isinstance(item, bool)


def _nan(bits: bytes, dtype: DType) -> np.ndarray:
    return np.frombuffer(bits[: dtype.bytes], dtype.numpy)


def _show(token: Token) -> str:
    return token.text or "the end"
