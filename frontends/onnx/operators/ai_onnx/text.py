"""Operators on strings, and images: what is not numbers.

How large some results are follows from data: a size is computed first, and becomes a symbol that
the model binds while it runs.
"""

import numpy as np

from .....compiler.errors import ModelError
from .....compiler.ir import op as registry
from .....compiler.ir.dims import Sym
from .....compiler.ops.text.strings import expression
from .....compiler.ops.vision.image import pillow
from ...read.call import Call
from ...read.folded import FoldedValue
from ...read.symbolic import bind, fresh


def _sizes(c: Call, op: str, hint: str, **attrs) -> list[int | Sym]:
    """The elements of what `op` makes of operand 0, as dims."""
    x = c.x(0)
    if isinstance(x, FoldedValue):
        return np.atleast_1d(registry.get(op).ref(x.array, **attrs)).tolist()
    found = c.b.emit(op, x, **attrs)
    parts = [found] if found.rank == 0 else [found[i] for i in range(found.shape[0])]
    return bind(c, parts, hint)


def string_concat(c: Call):
    return c.b.emit("string_concat", c.x(0), c.x(1))


def string_split(c: Call):
    limit = c.attr("maxsplit", None)
    attrs = {"delimiter": c.attr("delimiter", ""), "maxsplit": -1 if limit is None else limit}
    (width,) = _sizes(c, "string_split_width", "split", **attrs)
    return c.b.emit("string_split", c.x(0), width=width, **attrs)


def string_normalizer(c: Call):
    attrs = {
        "stopwords": tuple(c.attr("stopwords", ())),
        "case": c.attr("case_change_action", "NONE"),
        "case_sensitive": bool(c.attr("is_case_sensitive", 0)),
        "locale": c.attr("locale", "en_US"),
    }
    if attrs["stopwords"]:
        (size,) = _sizes(c, "normalized_size", "words", **attrs)
    else:
        size = c.x(0).shape[-1]
    return c.b.emit("normalize_strings", c.x(0), size=size, **attrs)


def regex_full_match(c: Call):
    pattern = c.attr("pattern")
    try:
        expression(pattern)
    except ModelError as error:
        raise ModelError(
            error.message, where=c.where, expected=error.expected, received=pattern
        ) from None
    return c.b.emit("regex_full_match", c.x(0), pattern=pattern)


def image_decoder(c: Call):
    pillow()
    pixel_format = c.attr("pixel_format", "RGB")
    if not isinstance(c.x(0), FoldedValue):
        height, width = symbols = fresh(c, "image", 2)
        return c.b.emit(
            "host_image",
            c.x(0),
            pixel_format=pixel_format,
            height=height,
            width=width,
            symbols=symbols,
        )
    height, width = _sizes(c, "image_size", "image", pixel_format=pixel_format)
    return c.b.emit("decode_image", c.x(0), pixel_format=pixel_format, height=height, width=width)


TABLE = {
    "StringConcat": string_concat,
    "StringSplit": string_split,
    "StringNormalizer": string_normalizer,
    "RegexFullMatch": regex_full_match,
    "ImageDecoder": image_decoder,
}
