"""Signals: DFT, STFT, MelWeightMatrix. The windows are functions of the standard."""

import math

from .....compiler.ir.dims import Sym
from .....compiler.ir.types import F64, I64, normalize_axis
from ...file.proto import dtype_of_element
from ...read.call import Call


def dft(c: Call):
    """The axis is an attribute before opset 20 (default 1), then an operand (default -2)."""
    x = c.x(0)
    if c.version < 20:
        axis = c.attr("axis", 1)
    else:
        axis = -2 if c[2] is None else c.ints(2, "axis")[0]
    axis = normalize_axis(axis, x.rank)
    inverse, onesided = bool(c.attr("inverse", 0)), bool(c.attr("onesided", 0))
    size = x.shape[axis]
    length = 2 * (size - 1) if inverse and onesided else size
    if c[1] is not None:
        (length,) = c.symbols(1, "dft_length")
    return c.b.emit("dft", x, axis=axis, length=length, inverse=inverse, onesided=onesided)


def stft(c: Call):
    """A window slides over the signal [B, L, 1 or 2]; the transform of each frame."""
    x, b, window = c.x(0), c.b, c[2]
    (step,) = c.ints(1, "frame_step")
    if c[3] is not None:
        (length,) = c.ints(3, "frame_length")
    else:
        length = x.shape[1] if window is None else window.shape[0]
    if isinstance(length, Sym):
        raise c.size_dependence("frames of symbolic length", received=length)
    frames = (x.shape[1] - length) // step + 1
    starts = b.emit("iota", shape=(frames, 1), axis=0, dtype=I64) * step
    places = starts + b.emit("iota", shape=(1, length), axis=1, dtype=I64)
    framed = b.emit("gather", x, places, axis=1)
    if window is not None:
        framed = framed * window.reshape((length, 1))
    onesided = bool(c.attr("onesided", 1))
    return b.emit("dft", framed, axis=2, length=length, onesided=onesided and x.shape[-1] == 1)


def mel_weight_matrix(c: Call):
    """[dft_length // 2 + 1, bins]: triangles over the spectrum, their corners equally far apart on
    the mel scale, 2595 log10(1 + hertz / 700)."""
    b = c.b
    (bins,), (length,) = c.ints(0, "num_mel_bins"), c.ints(1, "dft_length")
    rate, low, high = (c.x(i).cast(F64).reshape(()) for i in (2, 3, 4))
    scale = 2595 / math.log(10)
    low, high = (b.emit("log", hertz / 700.0 + 1.0) * scale for hertz in (low, high))
    mel = b.emit("iota", shape=(bins + 2,), axis=0, dtype=F64) * ((high - low) / (bins + 2.0)) + low
    hertz = (b.emit("exp", mel * (1 / scale)) - 1.0) * 700.0
    corners = b.emit("floor", hertz * (length + 1.0) / rate).reshape((1, bins + 2))
    left, middle, right = (
        b.emit("slice", corners, axes=(1,), starts=(i,), steps=(1,), sizes=(bins,))
        for i in range(3)
    )
    place = b.emit("iota", shape=(length // 2 + 1, 1), axis=0, dtype=F64)
    rising, falling = (place - left) / (middle - left), (right - place) / (right - middle)
    weights = b.emit("where", b.emit("less", place, middle), rising, falling)
    outside = b.emit("or", b.emit("less", place, left), b.emit("greater_equal", place, right))
    weights = b.emit("where", outside, c.scalar(0, F64), weights)
    weights = b.emit("where", b.emit("equal", place, middle), c.scalar(1, F64), weights)
    return weights.cast(dtype_of_element(c.attr("output_datatype", 1), c.where))


TABLE = {"DFT": dft, "STFT": stft, "MelWeightMatrix": mel_weight_matrix}
