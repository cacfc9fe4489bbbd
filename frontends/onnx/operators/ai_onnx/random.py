"""Operators that draw random numbers. They do so by `compiler/ops/random/draws.py`: from a seed.

ONNX's `seed` is a float (of Dropout an int); ours is the 32 bits of it (the int itself). Nodes with
the same seed draw the same numbers.
A node without a seed has one of its own, made from its name (or place) in the model: what it draws
is independent of what other nodes draw, and the same in every run.
"""

import struct
import zlib

import numpy as np

from .....compiler.ir.types import BOOL, F32
from ...file.proto import dtype_of_element
from ...read.call import Call
from ...read.folded import FoldedValue


def seed_of(c: Call):
    """The node's seed as one i64."""
    given = c.attr("seed", None)
    if given is None:
        value = zlib.crc32(c.where.encode()) | 1 << 32
    elif isinstance(given, int):
        value = given
    else:
        (value,) = struct.unpack("<I", struct.pack("<f", given))
    return c.b.constant(np.int64(value))


def _dtype(c: Call, default):
    return dtype_of_element(c.attr("dtype"), c.where) if c.has("dtype") else default


def drawn(op: str, like: bool, **parameters: float):
    """`op` of a shape that is an attribute, or `like` operand 0."""

    def entry(c: Call):
        if like:
            shape, dtype = c.x(0).shape, _dtype(c, c.x(0).dtype)
        else:
            shape, dtype = tuple(c.attr("shape")), _dtype(c, F32)
        values = {name: c.attr(name, value) for name, value in parameters.items()}
        return c.b.emit(op, seed_of(c), shape=shape, dtype=dtype, **values)

    return entry


def bernoulli(c: Call):
    """1 with probability x, drawn in f32 (f64 for probabilities in f64)."""
    x = c.x(0)
    u = c.b.emit("random_uniform", seed_of(c), shape=x.shape, dtype=x.dtype.compute)
    return c.b.emit("less", u, x.cast(x.dtype.compute)).cast(_dtype(c, x.dtype))


def multinomial(c: Call):
    dtype = dtype_of_element(c.attr("dtype", 6), c.where)
    count = c.attr("sample_size", 1)
    return c.b.emit("multinomial", c.x(0), seed_of(c), count=count, dtype=dtype)


def dropout(c: Call):
    """Before opset 12, and without `training_mode`, the identity and a mask of ones."""
    x = c.x(0)
    if c.version < 12:
        c.ignore("is_test", "ratio", "seed")
        return _nothing_dropped(c)
    training = c[2]
    off = isinstance(training, FoldedValue) and not bool(training.array.reshape(()))
    if training is None or off:
        c.ignore("seed")
        return _nothing_dropped(c)
    ratio = c.scalar(0.5, F32) if c[1] is None else c.x(1)
    if not isinstance(training, FoldedValue):
        flag = training.reshape(()).cast(F32)
        ratio = c.b.emit("mul", ratio.cast(F32).reshape(()), flag)
    if isinstance(ratio, FoldedValue) and not ratio.array.astype(np.float32).any():
        c.ignore("seed")
        return _nothing_dropped(c)
    y, mask = c.b.emit("dropout", x, ratio, seed_of(c))
    return y, mask


def _nothing_dropped(c: Call):
    x = c.x(0)
    if not c.wants(1):
        return x
    dtype = BOOL if c.version >= 10 else x.dtype
    return x, c.b.emit("expand", c.scalar(1, dtype), shape=x.shape)


TABLE = {
    "RandomUniform": drawn("random_uniform", False, low=0.0, high=1.0),
    "RandomUniformLike": drawn("random_uniform", True, low=0.0, high=1.0),
    "RandomNormal": drawn("random_normal", False, mean=0.0, scale=1.0),
    "RandomNormalLike": drawn("random_normal", True, mean=0.0, scale=1.0),
    "Bernoulli": bernoulli,
    "Multinomial": multinomial,
    "Dropout": dropout,
}
