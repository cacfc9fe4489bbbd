"""How deep a text nests, found by one pass over it before any parser sees it.

A parser that descends recursively needs stack for each bracket that is open; a file of a few
kilobytes can hold more of them than there is stack, and in C++ that is the end of the process.
"""

import functools
import json
import re
from typing import Any

from ..errors import TesselError

DEPTH = 256  # brackets inside each other; protobuf takes 100 messages, which JSON writes in 200
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)'  # possessive: a long one needs no memory
_PIECE = rf"{_STRING}|#[^\n]*+|([(\[{{])|[)\]}}]"
_CLOSING = {")", "]", "}", b")", b"]", b"}"}


def depth_of(text: str | bytes, enough: int) -> int:
    """How many of ( [ { are open at once at most, outside of strings and comments; `enough` ends
    the counting. Angle brackets do not count: "=>" is no bracket."""
    depth = deepest = 0
    for piece in _pieces(type(text)).finditer(text):
        if piece.lastindex:
            depth += 1
            if depth > deepest:
                deepest = depth
                if deepest >= enough:
                    break
        elif piece[0] in _CLOSING:
            depth = max(0, depth - 1)
    return deepest


@functools.cache
def _pieces(kind: type) -> re.Pattern:
    """Strings, comments and brackets, of text or of bytes."""
    return re.compile(_PIECE if kind is str else _PIECE.encode(), re.DOTALL)


def _opened(text: str | bytes) -> int:
    """How many brackets are opened, those in strings included."""
    if isinstance(text, str):
        return sum(map(text.count, "([{"))
    return sum(map(text.count, (b"(", b"[", b"{")))


def check_depth(text: str | bytes, what: str, kind: type[TesselError], where: str | None) -> None:
    """Raise `kind` if brackets of `text` are nested deeper than DEPTH."""
    if _opened(text) > DEPTH and depth_of(text, DEPTH + 1) > DEPTH:
        raise kind(
            f"{what} nests too deep", where=where, expected=f"at most {DEPTH} brackets open at once"
        )


def read_json(data: bytes, what: str, kind: type[TesselError], where: str | None) -> Any:
    """What JSON says. Raises `kind` for what is no JSON, or nests too deep."""
    check_depth(data, what, kind, where)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # ValueError: also no UTF-8, a number too long
        raise kind(f"{what} cannot be read: {error}", where=where) from None
