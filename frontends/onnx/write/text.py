"""Strings and images in ONNX."""

import numpy as np

from ....compiler.ir.builder import Builder
from ....compiler.ir.graph import Node
from ....compiler.ir.types import I64
from ..file.proto import ELEMENT_TYPE_OF
from .common import operands, results
from .writer import Writer


def _found(w: Writer, x: str, words, out: list[str]) -> None:
    """The last place in `words` that is equal to each string of x, or -1."""
    nowhere = w.constant(np.int64(-1))
    if not len(words):
        w.op("Expand", [nowhere, w.op("Shape", [x])], out)
        return
    column = w.op("Unsqueeze", [x, w.ints([-1])])
    keys = w.constant(np.asarray(words, object), stem="words")
    places = w.constant(np.arange(len(words)))
    found = w.op("Where", [w.op("Equal", [column, keys]), places, nowhere])
    w.op("ReduceMax", [found, w.ints([-1])], out, keepdims=0)


def found_in(attribute: str):
    def entry(w: Writer, node: Node):
        _found(w, *operands(w, node), node.attrs[attribute], results(w, node))

    return entry


def _split(w: Writer, node: Node, outputs):
    a = node.attrs
    attrs = {"delimiter": a["delimiter"]}
    if a["maxsplit"] >= 0:
        attrs["maxsplit"] = a["maxsplit"]
    return w.op("StringSplit", operands(w, node), outputs, **attrs)


def string_split(w: Writer, node: Node):
    """ONNX makes as many places as the longest split has parts, which is what `width` is."""
    _split(w, node, results(w, node))


def string_split_width(w: Writer, node: Node):
    _, counts = _split(w, node, 2)
    flat = w.op("Reshape", [counts, w.ints([-1])])
    most = w.op("Concat", [flat, w.ints([0])], axis=0)
    w.op("ReduceMax", [most, w.ints([0])], results(w, node), keepdims=0)


def _normalized(w: Writer, node: Node, outputs, case: str):
    a = node.attrs
    return w.op(
        "StringNormalizer",
        operands(w, node),
        outputs,
        case_change_action=case,
        is_case_sensitive=int(a["case_sensitive"]),
        locale=a["locale"],
        stopwords=list(a["stopwords"]),
    )


def normalize_strings(w: Writer, node: Node):
    _normalized(w, node, results(w, node), node.attrs["case"])


def normalized_size(w: Writer, node: Node):
    kept = _normalized(w, node, 1, "NONE")
    w.op("Squeeze", [w.op("Shape", [kept], start=-1)], results(w, node))


def regex_full_match(w: Writer, node: Node):
    pattern = node.attrs["pattern"]
    w.op("RegexFullMatch", operands(w, node), results(w, node), pattern=pattern)


def decode_image(w: Writer, node: Node):
    pixel_format = node.attrs["pixel_format"]
    w.op("ImageDecoder", operands(w, node), results(w, node), pixel_format=pixel_format)


def host_image(w: Writer, node: Node):
    decode_image(w, node)
    w.bind_shapes(node.outputs, node.attrs["symbols"])


def image_size(w: Writer, node: Node):
    image = w.op("ImageDecoder", operands(w, node), pixel_format=node.attrs["pixel_format"])
    w.op("Shape", [image], results(w, node), start=0, end=2)


def bit_cast(w: Writer, node: Node):
    kind = ELEMENT_TYPE_OF[node.attrs["dtype"]]
    w.op("BitCast", operands(w, node), results(w, node), to=kind)


def ngram_counts(b: Builder, x, grams, *, skips):
    """For each distance of neighbours: the windows whose elements are all the n-gram's."""
    size, (number, length) = x.shape[-1], grams.shape
    shape = (*x.shape[:-1], number)
    total = b.scalar(0, I64).expand(shape)
    for step in range(1, skips + 2) if length > 1 else (1,):
        windows = size - (length - 1) * step
        if windows <= 0:
            break
        same = None
        for j in range(length):
            seen = b.slice(x, axes=(-1,), starts=(j * step,), steps=(1,), sizes=(windows,))
            seen = seen.reshape(*x.shape[:-1], 1, windows)
            equal = b.equal(seen, grams[:, j].reshape(number, 1))
            same = equal if same is None else same & equal
        total = total + b.reduce_sum(same.cast(I64), axes=(x.rank,), keepdims=False)
    return total
