"""Moves, gathers, scatters and generators in ONNX; static dims become operands."""

import numpy as np

from ....compiler.errors import UnsupportedError
from ....compiler.ir.dims import Sym
from ....compiler.ir.graph import Node
from ....compiler.ir.types import I64
from ..file.proto import ELEMENT_TYPE_OF
from .common import operands, results
from .writer import Writer


def reshape(w: Writer, node: Node):
    """At most one symbolic dim is -1; equal dims in place are 0; else it is computed."""
    old, new = node.inputs[0].shape, node.attrs["shape"]
    if any(not isinstance(d, Sym) and d == 0 for d in (*old, *new)):
        w.op("Reshape", [*operands(w, node), w.ints(new)], results(w, node), allowzero=1)
        return
    sizes = [
        0 if isinstance(d, Sym) and i < len(old) and old[i] == d else d for i, d in enumerate(new)
    ]
    symbolic = [i for i, d in enumerate(sizes) if isinstance(d, Sym)]
    if len(symbolic) == 1:
        sizes[symbolic[0]] = -1
    w.op("Reshape", [*operands(w, node), w.ints(sizes)], results(w, node))


def with_dims(op_type: str, attribute: str):
    def entry(w: Writer, node: Node):
        w.op(op_type, [*operands(w, node), w.ints(node.attrs[attribute])], results(w, node))

    return entry


def slice_(w: Writer, node: Node):
    a = node.attrs
    ends = []
    for start, step, size in zip(a["starts"], a["steps"], a["sizes"]):
        end = start + size * step
        if step < 0 and (isinstance(end, Sym) or end < 0):
            if isinstance(end, Sym):
                raise UnsupportedError("a reversed slice of symbolic size", where=node.where)
            end = np.iinfo(np.int64).min
        ends.append(end)
    extra = [w.ints(a["starts"]), w.ints(ends), w.ints(a["axes"]), w.ints(a["steps"])]
    w.op("Slice", [*operands(w, node), *extra], results(w, node))


def reverse(w: Writer, node: Node):
    axes = list(node.attrs["axes"])
    starts, ends = [-1] * len(axes), [np.iinfo(np.int64).min] * len(axes)
    extra = [w.ints(v) for v in (starts, ends, axes, starts)]
    w.op("Slice", [*operands(w, node), *extra], results(w, node))


def split(w: Writer, node: Node):
    sizes = w.ints(node.attrs["sizes"])
    w.op("Split", [*operands(w, node), sizes], results(w, node), axis=node.attrs["axis"])


def pad(w: Writer, node: Node):
    x, *value = operands(w, node)
    w.op("Pad", [x, w.ints(node.attrs["pads"]), *value], results(w, node), mode=node.attrs["mode"])


def gather(op_type: str, *names: str):
    """Indices become i64 where ONNX wants nothing narrower."""

    def entry(w: Writer, node: Node):
        x, indices, *rest = operands(w, node)
        narrow = ("i64",) if op_type.endswith("ND") else ("i64", "i32")
        if node.inputs[1].dtype.name not in narrow:
            indices = w.op("Cast", [indices], to=ELEMENT_TYPE_OF[I64])
        attrs = {n: node.attrs[n] for n in names}
        w.op(op_type, [x, indices, *rest], results(w, node), **attrs)

    return entry


def iota(w: Writer, node: Node):
    """Range(size of the axis), cast, reshaped and expanded."""
    a = node.attrs
    shape, dtype = a["shape"], a["dtype"]
    axis = a["axis"] % len(shape)
    extra = [w.constant(np.int64(0)), w.scalar(shape[axis]), w.constant(np.int64(1))]
    flat = w.op("Range", extra)
    flat = w.op("Cast", [flat], to=ELEMENT_TYPE_OF[dtype])
    column = w.op("Unsqueeze", [flat, w.ints([i for i in range(len(shape)) if i != axis])])
    w.op("Expand", [column, w.ints(shape)], results(w, node))


def one_hot(w: Writer, node: Node):
    """By way of i64, which readers of ONNX surely have; narrower ints fit in it."""
    indices, values = operands(w, node)
    inner, outer = node.inputs[1].dtype, results(w, node)
    if node.inputs[0].dtype.is_int and node.inputs[0].dtype != I64:
        indices = w.op("Cast", [indices], to=ELEMENT_TYPE_OF[I64])
    depth = w.scalar(node.attrs["depth"])
    if not inner.is_int or inner.bits == 64:
        w.op("OneHot", [indices, depth, values], outer, axis=node.attrs["axis"])
        return
    values = w.op("Cast", [values], to=ELEMENT_TYPE_OF[I64])
    wide = w.op("OneHot", [indices, depth, values], axis=node.attrs["axis"])
    w.op("Cast", [wide], outer, to=ELEMENT_TYPE_OF[inner])


def trilu(w: Writer, node: Node):
    k = w.constant(np.int64(node.attrs["k"]))
    w.op("Trilu", [*operands(w, node), k], results(w, node), upper=int(node.attrs["upper"]))


def dims_(w: Writer, node: Node):
    w.op("Identity", [w.ints(node.attrs["values"])], results(w, node))


def constant(w: Writer, node: Node):
    value = node.outputs[0]
    w.names[value] = w.constant(node.attrs["value"], stem=value.name)
