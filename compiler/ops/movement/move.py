"""Ops that move data without changing it: reshape, transpose, slice, concat, pad, …"""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir import dims
from ...ir.bounds import assume_equal
from ...ir.op import Alias, Attr, Kernels, Pull, register
from ...ir.types import TensorType, broadcast, normalize_axes, normalize_axis
from ..common import case, floats, ints


def _spelled(shape) -> str:
    return f"[{','.join(map(str, shape))}]"


# -- reshape, transpose, expand ----------------------------------------------------------


def reshape_shape(x, *, shape):
    old, new = x.size, dims.prod(shape)
    if not assume_equal(old, new):
        raise TypeMismatch(
            "a reshape must keep the number of elements",
            expected=f"{old} elements, as in {_spelled(x.shape)}",
            received=_spelled(shape),
        )
    return shape


register(
    "reshape",
    "x: T -> T",
    "The same elements, in the same order, under another shape.",
    attrs={"shape": Attr("dims")},
    shape=reshape_shape,
    ref=lambda x, *, shape: x.reshape(shape),
    grad=lambda c, dy: [dy.reshape(c.inputs[0].shape)],
    loops=Alias(),
    samples=lambda: [
        case(floats((2, 6)), shape=(3, 4)),
        case(ints((4,), dtype="i8"), shape=(2, 1, 2)),
        case(floats((1,)), shape=()),
        case(floats((0, 3)), shape=(3, 0, 2)),
    ],
    group="move",
    T="any",
)


def transpose_shape(x, *, perm):
    if sorted(perm) != list(range(x.rank)):
        raise TypeMismatch(
            "perm is not a permutation of the axes",
            expected=f"each of 0…{x.rank - 1} once",
            received=f"perm={list(perm)}",
        )
    return tuple(x.shape[p] for p in perm)


register(
    "transpose",
    "x: T -> T",
    "Axes in another order: `out.shape[i] == x.shape[perm[i]]`.",
    attrs={"perm": Attr("ints")},
    shape=transpose_shape,
    ref=lambda x, *, perm: np.transpose(x, perm),
    grad=lambda c, dy: [dy.transpose(tuple(np.argsort(c.attrs["perm"]).tolist()))],
    loops=Pull(
        lambda out, x, *, perm: lambda *i: x[tuple(i[perm.index(d)] for d in range(len(perm)))]
    ),
    samples=lambda: [
        case(floats((2, 3)), perm=(1, 0)),
        case(floats((2, 3, 4, 5)), perm=(0, 2, 3, 1)),
        case(floats((2, 3, 4), dtype="f16"), perm=(2, 0, 1)),
        case(floats(()), perm=()),
        case(ints((2, 0, 3)), perm=(2, 1, 0)),
    ],
    group="move",
    T="any",
)


def expand_shape(x, *, shape):
    if len(broadcast(x.shape, shape)) != len(shape):
        raise TypeMismatch(
            "expand cannot drop axes", expected=f"rank ≥ {x.rank}", received=_spelled(shape)
        )
    for d, new in zip(x.shape[::-1], shape[::-1]):
        if isinstance(d, int) and d != 1 and isinstance(new, int) and d != new:
            raise TypeMismatch(
                "expand only repeats axes of size 1",
                expected=_spelled(x.shape),
                received=_spelled(shape),
            )
    return shape


def _expand(out, x, *, shape):
    skip = len(shape) - len(x.shape)
    return lambda *i: x[tuple(s.const(0) if d == 1 else j for j, d in zip(i[skip:], x.shape))]


register(
    "expand",
    "x: T -> T",
    "Numpy broadcast to `shape`: axes of size 1 are repeated, new ones appear in front.",
    attrs={"shape": Attr("dims")},
    shape=expand_shape,
    ref=lambda x, *, shape: np.array(np.broadcast_to(x, shape)),
    grad=lambda c, dy: [dy],  # the broadcast is undone centrally
    loops=Pull(_expand),
    samples=lambda: [
        case(floats((3, 1)), shape=(2, 3, 4)),
        case(ints((1,)), shape=(5,)),
        case(floats(()), shape=(2, 2)),
        case(floats((1, 2)), shape=(0, 2)),
    ],
    group="move",
    T="any",
)

# -- slice, reverse ------------------------------------------------------------------------


def slice_shape(x, *, axes, starts, steps, sizes):
    if not len(axes) == len(starts) == len(steps) == len(sizes):
        raise TypeMismatch("slice needs one start, step and size for each axis", received=axes)
    shape = list(x.shape)
    for axis, start, step, size in zip(normalize_axes(axes, x.rank), starts, steps, sizes):
        if step == 0:
            raise TypeMismatch("the step of a slice is 0", received=f"axis {axis}")
        if all(isinstance(v, int) for v in (start, size, shape[axis])) and size:
            last = start + (size - 1) * step
            if not (0 <= start < shape[axis] and 0 <= last < shape[axis]):
                raise TypeMismatch(
                    "a slice leaves its axis",
                    expected=f"indices in [0, {shape[axis]}) on axis {axis}",
                    received=f"{start} … {last}",
                )
        shape[axis] = size
    return tuple(shape)


def slice_ref(x, *, axes, starts, steps, sizes):
    for axis, start, step, size in zip(axes, starts, steps, sizes):
        x = np.take(x, start + step * np.arange(size, dtype=np.int64), axis)
    return x


def slice_grad(c, dy):
    """Put dy back where it came from: steps become zeros between, what was cut becomes pads."""
    (x,), a = c.inputs, c.attrs
    pads = [0] * (2 * x.rank)
    for axis, start, step, size in zip(a["axes"], a["starts"], a["steps"], a["sizes"]):
        axis = normalize_axis(axis, x.rank)
        if isinstance(size, int) and size == 0:
            return [c.b.constant(np.zeros((), x.dtype.numpy)).expand(x.shape)]
        if step < 0:
            dy = c.b.reverse(dy, axes=(axis,))
            start, step = start + (size - 1) * step, -step
        if step > 1:
            shape = dy.shape
            dy = dy.reshape(*shape[: axis + 1], 1, *shape[axis + 1 :])
            between = [0] * (2 * dy.rank)
            between[dy.rank + axis + 1] = step - 1
            dy = c.b.pad(dy, pads=between)
            dy = dy.reshape(*shape[:axis], size * step, *shape[axis + 1 :])
        pads[axis], pads[x.rank + axis] = start, x.shape[axis] - start - size * step
    return [c.b.pad(dy, pads=pads)]


def _slice(out, x, *, axes, starts, steps, sizes):
    place = {normalize_axis(a, len(x.shape)): (b, t) for a, b, t in zip(axes, starts, steps)}

    def at(d, i):
        start, step = place.get(d, (0, 1))
        return i * step + start

    return lambda *i: x[tuple(at(d, j) for d, j in enumerate(i))]


def _slice_sample(x, axes, starts, steps, sizes):
    return case(x, axes=axes, starts=starts, steps=steps, sizes=sizes)


register(
    "slice",
    "x: T -> T",
    """Elements `start + step * (0 … size - 1)` of each named axis; steps may be negative.

    Starts and sizes are resolved: counted from the front and in range.
    """,
    attrs={
        "axes": Attr("ints"),
        "starts": Attr("dims"),
        "steps": Attr("ints"),
        "sizes": Attr("dims"),
    },
    shape=slice_shape,
    ref=slice_ref,
    grad=slice_grad,
    loops=Pull(_slice),
    samples=lambda: [
        _slice_sample(floats((5, 6)), (1,), (2,), (1,), (3,)),
        _slice_sample(floats((7, 6)), (0, 1), (1, 5), (3, -2), (2, 3)),
        _slice_sample(floats((4,)), (0,), (3,), (-1,), (4,)),
        _slice_sample(ints((3, 3)), (-1,), (0,), (2,), (2,)),
        _slice_sample(floats((3, 3)), (1,), (1,), (1,), (0,)),
    ],
    group="move",
    T="any",
)


def reverse_shape(x, *, axes):
    normalize_axes(axes, x.rank)
    return x.shape


register(
    "reverse",
    "x: T -> T",
    "The named axes in reverse order.",
    attrs={"axes": Attr("ints")},
    shape=lambda x, *, axes: (normalize_axes(axes, x.rank) and x.shape) or x.shape,
    ref=lambda x, *, axes: np.flip(x, axes) if axes else x,
    grad=lambda c, dy: [c.b.reverse(dy, axes=c.attrs["axes"])],
    loops=Pull(
        lambda out, x, *, axes: (
            lambda *i: x[
                tuple(
                    (x.shape[d] - 1) - j if d in normalize_axes(axes, len(x.shape)) else j
                    for d, j in enumerate(i)
                )
            ]
        )
    ),
    samples=lambda: [
        case(floats((2, 5)), axes=(1,)),
        case(ints((2, 3)), axes=(0, -1)),
    ],
    group="move",
    T="any",
)

# -- concat, split -------------------------------------------------------------------------


def concat_shape(*xs, axis):
    first = xs[0]
    axis = normalize_axis(axis, first.rank)
    for x in xs[1:]:
        others = zip(first.shape, x.shape)
        clash = [i for i, (d, e) in enumerate(others) if i != axis and not assume_equal(d, e)]
        if x.rank != first.rank or clash:
            raise TypeMismatch(
                f"concat on axis {axis} needs equal shapes elsewhere",
                expected=_spelled(first.shape),
                received=_spelled(x.shape),
            )
    return (*first.shape[:axis], dims.total(x.shape[axis] for x in xs), *first.shape[axis + 1 :])


def _concat(k, out, *xs, axis):
    axis, offset = normalize_axis(axis, len(out.shape)), 0
    for x in xs:

        def part(*i, x=x, offset=offset):
            return (*i[:axis], i[axis] + offset, *i[axis + 1 :]), x[i]

        k.store(x.shape, part)
        offset += x.shape[axis]


def concat_grad(c, dy):
    axis, offset, result = normalize_axis(c.attrs["axis"], dy.rank), 0, []
    for x in c.inputs:
        size = x.shape[axis]
        result.append(c.b.slice(dy, axes=(axis,), starts=(offset,), steps=(1,), sizes=(size,)))
        offset = offset + size
    return result


register(
    "concat",
    "xs: T* -> T",
    "Operands one after the other on `axis`.",
    attrs={"axis": Attr("int")},
    shape=concat_shape,
    ref=lambda *xs, axis: np.concatenate(xs, axis),
    grad=concat_grad,
    loops=Kernels(_concat),
    samples=lambda: [
        case(floats((2, 3)), floats((2, 1), seed=1), floats((2, 2), seed=2), axis=1),
        case(ints((2,)), ints((3,), seed=1), axis=-1),
        case(floats((2, 3), dtype="bf16"), floats((0, 3), dtype="bf16"), axis=0),
    ],
    group="move",
    T="any",
)


def split_infer(x, *, axis, sizes):
    axis, total = normalize_axis(axis, x.rank), dims.total(sizes)
    if not assume_equal(total, x.shape[axis]):
        raise TypeMismatch(
            "the sizes of a split do not add up",
            expected=f"{x.shape[axis]} on axis {axis}",
            received=f"{' + '.join(map(str, sizes))} = {total}",
        )
    return tuple(
        TensorType(x.dtype, (*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in sizes
    )


def split_grad(c, *douts):
    parts = [
        c.b.constant(np.zeros((), y.dtype.numpy)).expand(y.shape) if dy is None else dy
        for y, dy in zip(c.outputs, douts)
    ]
    return [c.b.concat(*parts, axis=c.attrs["axis"])]


def _split(out, x, *, axis, sizes):
    axis = normalize_axis(axis, len(x.shape))

    def part(n):
        """Of many parts one is asked for at a time: no other's place is computed."""
        return lambda *i: x[(*i[:axis], i[axis] + dims.total(sizes[:n]), *i[axis + 1 :])]

    return tuple(map(part, range(len(sizes))))


register(
    "split",
    "x: T -> *",
    "Consecutive parts of the given sizes on `axis`.",
    attrs={"axis": Attr("int"), "sizes": Attr("dims")},
    infer=split_infer,
    ref=lambda x, *, axis, sizes: tuple(np.split(x, np.cumsum(sizes)[:-1].astype(int), axis)),
    grad=split_grad,
    loops=Pull(_split),
    samples=lambda: [
        case(floats((2, 6)), axis=1, sizes=(1, 3, 2)),
        case(ints((4, 2)), axis=0, sizes=(4,)),
        case(floats((3, 2)), axis=-2, sizes=(0, 3)),
    ],
    group="move",
    T="any",
)
