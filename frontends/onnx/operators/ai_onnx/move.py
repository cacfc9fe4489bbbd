"""Operators that move elements: slices, concatenation, gathers, scatters, padding."""

import numpy as np

from .....compiler.errors import ModelError
from .....compiler.ir import dims
from .....compiler.ir.builder import Tensor
from .....compiler.ir.dim_arrays import at_least, larger, smaller
from .....compiler.ir.dims import Sym
from .....compiler.ir.nonempty import take_nonempty
from .....compiler.ir.types import DTYPES, I64, STR, normalize_axes, normalize_axis
from ...read.call import Call
from ...read.symbolic import slice_axis

# What pads where nothing is said, for types without a zero: the empty string, the least number.
_FILLS = {"str": np.array("", object), "f8e8m0": np.zeros((), DTYPES["f8e8m0"].numpy)}
_FAR = 1 << 31  # ends beyond mean "to the end"


def transpose(c: Call):
    x = c.x(0)
    return x.transpose(tuple(c.attr("perm", range(x.rank)[::-1])))


def slice_(c: Call):
    x = c.x(0)
    if c.version < 10:
        starts, ends = c.attr("starts"), c.attr("ends")
        axes, steps = c.attr("axes", None), None
    else:
        lengths = [c[i].shape[0] for i in (1, 2, 3) if c[i] is not None and c[i].rank == 1]
        count = next((n for n in lengths if isinstance(n, int)), None)
        starts, ends = (c.elements(i, n, count) for i, n in ((1, "starts"), (2, "ends")))
        axes, steps = c.ints(3, "axes"), c.elements(4, "steps")
    axes = normalize_axes(range(len(starts)) if axes is None else axes, x.rank)
    steps = [1] * len(starts) if steps is None else steps
    given = list(zip(axes, starts, ends, steps, strict=True))
    for entry in given:
        if _is_found_later(entry):
            x = slice_axis(c, x, *entry)
    given = [entry for entry in given if not _is_found_later(entry)]
    resolved = [slice_bounds(x.shape[a], start, end, step) for a, start, end, step in given]
    kept = [
        (a, start, step, size)
        for (a, _, _, step), (start, size) in zip(given, resolved)
        if (start, step, size) != (0, 1, x.shape[a])
    ]
    if not kept:
        return x
    axes, starts, steps, sizes = zip(*kept)
    return c.b.emit("slice", x, axes=axes, starts=starts, steps=steps, sizes=sizes)


def _is_found_later(entry: tuple) -> bool:
    """Whether an axis' start, end or step is data, or a size of which the sign is open."""
    _, *places, step = entry
    return isinstance(step, (Tensor, Sym)) or any(
        isinstance(e, Tensor) or (isinstance(e, Sym) and not at_least(e, 0) and not _is_negative(e))
        for e in places
    )


def slice_bounds(d, start, end, step: int) -> tuple:
    """(start, size) in [0, d) of `x[start:end:step]`; dims may be Sym. Unlike numpy's, a start far
    below means the very front, where steps are negative, too."""
    if step == 0:
        raise ValueError("a slice's step is 0")
    if step > 0:
        start, end = _clamp(start, d, 0, d), _clamp(end, d, 0, d)
        distance = end - start
    else:
        start, end = _clamp(start, d, 0, d - 1), _clamp(end, d, -1, d - 1)
        distance = start - end
    size = larger(dims.ceil_div(distance, abs(step)), 0)
    if not isinstance(size, Sym) and size == 0:
        return 0, 0
    return start, size


def _clamp(position, d, low, high):
    if not isinstance(position, Sym):
        if position >= _FAR:
            return high
        if position <= -_FAR:
            return low
        if position < 0:
            position = position + d
    elif _is_negative(position):
        position = position + d
    return smaller(larger(position, low), high)


def _is_negative(position: Sym) -> bool:
    """Whether it is surely below zero: -N counts from the end, as -3 does."""
    return at_least(0, position + 1)


def concat(c: Call):
    tensors = c.tensors
    axis = c.axis(1) if c.version < 4 else c.axis()
    tensors = _with_elements(tensors, axis)
    if len(tensors) == 1:
        return tensors[0]
    return c.b.emit("concat", *tensors, axis=axis)


def _with_elements(tensors: list[Tensor], axis: int) -> list[Tensor]:
    """The operands of a concat without those that add nothing to `axis`: they need not fit the
    others elsewhere, as in ONNX Runtime. Where all are empty, one that is as large as their result,
    which has the other sizes of the first."""
    if len({_beside(x, axis) for x in tensors}) == 1 or len({x.rank for x in tensors}) > 1:
        return tensors
    take_nonempty(*(d for x in tensors for d in x.shape))
    if all(0 in x.shape for x in tensors):
        shape = list(tensors[0].shape)
        shape[axis] = sum(x.shape[axis] for x in tensors)
        return [tensors[0].reshape(tuple(shape))] if 0 in shape else tensors
    kept = [x for x in tensors if x.shape[axis] != 0]
    fits = all(0 not in x.shape and _beside(x, axis) == _beside(kept[0], axis) for x in kept)
    return kept if fits else tensors


def _beside(x: Tensor, axis: int) -> tuple:
    """The shape without an axis."""
    return tuple(d for i, d in enumerate(x.shape) if i != axis % x.rank)


def split(c: Call):
    x = c.x(0)
    axis = c.axis(0)
    count = c.attr("num_outputs", len(c.outputs)) if c.version >= 18 else len(c.outputs)
    if c.version >= 13:
        sizes = c.symbols(1, "split")
    else:
        sizes = c.attr("split", None)
        if sizes is None and c[1] is not None:
            sizes = c.symbols(1, "split")
    if sizes is None:
        each = dims.ceil_div(x.shape[axis], count)
        sizes = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    if len(sizes) != count:
        raise ModelError(
            "Split has a size for each output",
            where=c.where,
            expected=f"{count} sizes",
            received=len(sizes),
        )
    if len(sizes) == 1:
        return x
    return c.b.emit("split", x, axis=axis, sizes=tuple(sizes))


def gather(c: Call):
    labels = c.known(0)
    if c.x().dtype == STR and labels is not None and labels.ndim == 1:
        return c.b.emit("lookup", c.x(1).cast("i64"), labels=tuple(labels))
    return c.b.emit("gather", c.x(0), c.x(1), axis=c.axis(0))


def gather_elements(c: Call):
    return c.b.emit("gather_elements", c.x(0), c.x(1), axis=c.axis(0))


def gather_nd(c: Call):
    return c.b.emit("gather_nd", c.x(0), c.x(1), batch_dims=c.attr("batch_dims", 0))


def scatter_elements(c: Call):
    return c.b.emit(
        "scatter_elements",
        *c.tensors,
        axis=c.axis(0),
        reduction=c.attr("reduction", "none"),
    )


def scatter_nd(c: Call):
    return c.b.emit("scatter_nd", *c.tensors, reduction=c.attr("reduction", "none"))


def tile(c: Call):
    x = c.x(0)
    if c.version < 6:
        (times,), (axis,) = c.symbols(1, "tiles"), c.ints(2, "axis")
        repeats = [times if i == axis else 1 for i in range(x.rank)]
    else:
        repeats = c.symbols(1, "repeats")
    if all(r == 1 for r in repeats):
        return x
    return c.b.emit("tile", x, repeats=tuple(repeats))


def pad(c: Call):
    x = c.x(0)
    mode = c.attr("mode", "constant")
    value = None
    if c.version < 11:
        pads = c.attr("paddings" if c.version < 2 else "pads")
        number = c.attr("value", 0.0)
        if number != 0:
            value = c.scalar(number, x.dtype)
    else:
        pads, value = c.symbols(1, "pads"), c[2]
        if value is not None:
            value = value.reshape(())
    if c.version >= 18 and c[3] is not None:
        axes = normalize_axes(c.ints(3, "axes"), x.rank)
        given = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :])))
        both = [given.get(i, (0, 0)) for i in range(x.rank)]
        pads = [p[0] for p in both] + [p[1] for p in both]
    if all(not isinstance(p, Sym) and p == 0 for p in pads):
        return x
    if value is None and x.dtype.name in _FILLS:
        value = c.b.constant(_FILLS[x.dtype.name])
    return c.b.emit("pad", x, value if mode == "constant" else None, pads=tuple(pads), mode=mode)


def one_hot(c: Call):
    (depth,) = c.symbols(1, "depth")
    indices = c.x(0)
    if not indices.dtype.is_int:
        indices = indices.cast(I64)
    axis = normalize_axis(c.attr("axis", -1), indices.rank + 1)
    return c.b.emit("one_hot", indices, c.x(2), depth=depth, axis=axis)


def trilu(c: Call):
    (k,) = c.ints(1, "k") or [0]
    return c.b.emit("trilu", c.x(0), k=k, upper=bool(c.attr("upper", 1)))


def depth_to_space(c: Call):
    mode = c.attr("mode", "DCR")
    return c.b.emit("depth_to_space", c.x(0), block=c.attr("blocksize"), mode=mode)


def space_to_depth(c: Call):
    if c.attr("mode", "DCR") == "CRD":
        x, k = c.x(0), c.attr("blocksize")
        n, d, h, w = x.shape
        split = x.reshape((n, d, h // k, k, w // k, k)).transpose((0, 1, 3, 5, 2, 4))
        return split.reshape((n, d * k * k, h // k, w // k))
    return c.b.emit("space_to_depth", c.x(0), block=c.attr("blocksize"))


def reverse_sequence(c: Call):
    return reversed_within(c, c.x(0), c.x(1), c.attr("batch_axis", 1), c.attr("time_axis", 0))


def reversed_within(c: Call, x: Tensor, lengths: Tensor, batch: int, time: int) -> Tensor:
    """y[i] = x[length - 1 - i] along time where i < length, else x[i]: a gather of elements."""
    steps = c.b.emit("iota", shape=x.shape, axis=time, dtype=I64)
    lengths = c.within(lengths, 0, x.shape[time] + 1, "a sequence length")
    each = [1] * x.rank
    each[batch] = x.shape[batch]
    lengths = lengths.cast(I64).reshape(tuple(each))
    one = c.scalar(1, I64)
    back = c.b.emit("sub", c.b.emit("sub", lengths, one), steps)
    index = c.b.emit("where", c.b.emit("less", steps, lengths), back, steps)
    return c.b.emit("gather_elements", x, index, axis=time)


def tensor_scatter(c: Call):
    mode = c.attr("mode", "linear")
    c.only("mode", "linear", "circular")
    cache, update, start, axis = c.x(0), c.x(1), c[2], c.attr("axis", -2)
    if start is not None:
        last = cache.shape[axis] - update.shape[axis] if mode == "linear" else None
        start = c.within(start, 0, None if last is None else last + 1, "a place to write to")
    return c.b.emit("cache_update", cache, update, start, axis=axis, circular=mode == "circular")


TABLE = {
    "Transpose": transpose,
    "Slice": slice_,
    "Concat": concat,
    "Split": split,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
    "Tile": tile,
    "Pad": pad,
    "OneHot": one_hot,
    "Trilu": trilu,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "ReverseSequence": reverse_sequence,
}
