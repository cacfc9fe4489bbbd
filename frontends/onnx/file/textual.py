"""Models as text: ONNX's own syntax, protobuf's text format, and JSON.

    <ir_version: 8, opset_import: ["": 21]> g (float[2] x) => (float[2] y) { y = Relu(x) }
    ir_version: 8 graph { node { op_type: "Relu" … } }
    {"irVersion": "8", "graph": {…}}

A binary ModelProto begins with none of their first characters. How deep a text nests is counted
before it is parsed: ONNX's parser is C++ and takes a kilobyte of stack for each bracket.
"""

import re

import onnx
from google.protobuf import json_format, text_format
from onnx import ModelProto

from ....compiler.errors import ModelError
from ....compiler.system.nesting import check_depth

_FIELDS = "|".join(ModelProto.DESCRIPTOR.fields_by_name)
_PROTOBUF = re.compile(rf"(#[^\n]*\n|\s)*({_FIELDS})\s*[:{{]".encode())


def form_of(data: bytes) -> str | None:
    """Which text `data` is: onnx, protobuf or json; None for binary."""
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] in (b"<", b"{"):
        return "onnx" if start[:1] == b"<" else "json"
    return "protobuf" if _PROTOBUF.match(start) else None


def parse(form: str, data: bytes, where: str) -> ModelProto:
    """The model that the text says. Raises ModelError with the parser's place in it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ModelError("the text is not UTF-8", where=where) from None
    check_depth(text, f"the {_NAMES[form]}", ModelError, where)
    try:
        if form == "onnx":
            return onnx.parser.parse_model(text)
        if form == "json":
            return json_format.Parse(text, ModelProto())
        return text_format.Parse(text, ModelProto())
    except MemoryError:
        raise
    except Exception as error:  # the parsers' own, and those that C++ and Python have for numbers
        message = error.args[0] if error.args else type(error).__name__
        message = "a number is out of range" if isinstance(error, IndexError) else message
        message = message.decode("utf-8", "replace") if isinstance(message, bytes) else message
        raise ModelError(f"the {_NAMES[form]} does not parse: {message}", where=where) from None


_NAMES = {"onnx": "ONNX text", "json": "JSON", "protobuf": "protobuf text"}
