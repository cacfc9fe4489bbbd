"""Large model files without their weights: what stays is small, the weights are read once.

A ModelProto is parsed by protobuf only after the `raw_data` of its large initializers are cut out
of the bytes; each is then read straight from the file into its array. So weights are copied once
(protobuf would do it three times), and they are aligned.
"""

import mmap
from collections.abc import Iterator
from typing import BinaryIO

LARGE = 1 << 16  # bytes of raw_data from which on it is cut out
MOST = 1 << 31  # bytes that protobuf does not take
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_NAME, _TENSOR_RAW = 7, 5, 8, 9
_BYTES = 2  # the wire type of what has a length


class _Irregular(Exception):
    """Not the bytes expected: protobuf shall judge the whole file."""


def split(file: BinaryIO) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """The file without large weights, and where those are: {name: (offset, length)}. Nothing of a
    file that is too large to be a ModelProto and does not look like one."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _split(data)
        except _Irregular:
            return data[:] if len(data) < MOST else b"", {}


def _split(data) -> tuple[bytes, dict[str, tuple[int, int]]]:
    weights: dict[str, tuple[int, int]] = {}
    parts: list[bytes] = []
    for field, kind, start, value, end in _fields(data, 0, len(data)):
        if field == _MODEL_GRAPH and kind == _BYTES:
            parts.append(_message(_MODEL_GRAPH, _graph(data, value, end, weights)))
        else:
            parts.append(data[start:end])
    return b"".join(parts), weights


def _graph(data, start: int, end: int, weights) -> bytes:
    parts: list[bytes] = []
    kept = start  # data[kept:] is still to be copied
    for field, kind, tag, value, stop in _fields(data, start, end):
        if field != _GRAPH_INITIALIZER or kind != _BYTES or stop - value < LARGE:
            continue
        tensor = _tensor(data, value, stop, weights)
        if tensor is not None:
            parts += [data[kept:tag], _message(_GRAPH_INITIALIZER, tensor)]
            kept = stop
    return b"".join([*parts, data[kept:end]])


def _tensor(data, start: int, end: int, weights) -> bytes | None:
    """The tensor without its raw_data, which go to `weights`; None to leave it as it is."""
    name, raw, parts = None, None, []
    for count, (field, kind, tag, value, stop) in enumerate(_fields(data, start, end)):
        if count > 64:
            return None
        if field == _TENSOR_RAW and kind == _BYTES and raw is None:
            raw = (value, stop - value)
            continue
        if field == _TENSOR_NAME and kind == _BYTES:
            name = data[value:stop].decode("utf-8", "replace")
        parts.append(data[tag:stop])
    if name is None or raw is None or raw[1] < LARGE or name in weights:
        return None
    weights[name] = raw
    return b"".join(parts)


def _fields(data, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(field, wire type, start, start of the value, end) of a message's fields."""
    while start < end:
        tag, value = _varint(data, start, end)
        kind = tag & 7
        if tag < 8:  # no field has the number 0: these are zeros
            raise _Irregular
        if kind == 0:
            _, stop = _varint(data, value, end)
        elif kind == 1:
            stop = value + 8
        elif kind == _BYTES:
            length, value = _varint(data, value, end)
            stop = value + length
        elif kind == 5:
            stop = value + 4
        else:
            raise _Irregular
        if stop > end:
            raise _Irregular
        yield tag >> 3, kind, start, value, stop
        start = stop


def _varint(data, at: int, end: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _Irregular
        byte = data[at]
        at += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result, at
    raise _Irregular


def _message(field: int, payload: bytes) -> bytes:
    return _write_varint(field << 3 | _BYTES) + _write_varint(len(payload)) + payload


def _write_varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)
