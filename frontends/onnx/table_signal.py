"""Signals: DFT, STFT, MelWeightMatrix. The windows are functions of the standard."""

from ...compiler.dims import Sym
from ...compiler.types import I64, normalize_axis
from .call import Call


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
        raise c.unsupported("frames of symbolic length", fix="pass --shapes")
    frames = (x.shape[1] - length) // step + 1
    starts = b.emit("iota", shape=(frames, 1), axis=0, dtype=I64) * step
    places = starts + b.emit("iota", shape=(1, length), axis=1, dtype=I64)
    framed = b.emit("gather", x, places, axis=1)
    if window is not None:
        framed = framed * window.reshape((length, 1))
    onesided = bool(c.attr("onesided", 1))
    return b.emit("dft", framed, axis=2, length=length, onesided=onesided and x.shape[-1] == 1)


TABLE = {"DFT": dft, "STFT": stft}
