"""Running sums and products: cumsum, cumprod, and `running`, their meaning on a short axis.

`running` sums everything before each element again: work that grows with the square of the axis.
Longer axes are cut into blocks, so that the work per element stays the same:

    y[block, i] = (what all blocks before it give) ∘ (running value inside the block)

where the first part is the same on one value per block. Where the size of an axis is open, so is
how many levels of blocks it has: there `accumulate` adds one element after the other.
"""

import numpy as np

from ...autodiff.gradients import gradients
from ...expr import expr as s
from ...ir.op import Attr, Expand, Kernels, Pull, register
from ...ir.types import NUMERIC, dtype_of, normalize_axis
from ...kernels.kernel import Store
from ..common import FLOAT_SAMPLES, along_axis, array, case, floats, ints, reference

BLOCK = 16
SHORT = 32  # axes up to here are one block

AXIS = {
    "axis": Attr("int"),
    "exclusive": Attr("bool", False, "leave out the element itself"),
    "reverse": Attr("bool", False, "start at the end"),
}
IDENTITY = {"sum": 0, "prod": 1}


def _ref(x, axis, exclusive, reverse, combiner):
    x = np.flip(x, axis) if reverse else x
    y = (np.cumsum if combiner == "sum" else np.cumprod)(x, axis=axis, dtype=x.dtype)
    if exclusive and y.size:
        y = np.roll(y, 1, axis)
        y[(slice(None),) * (axis % x.ndim) + (slice(0, 1),)] = IDENTITY[combiner]
    return np.flip(y, axis) if reverse else y


def _running(out, x, *, axis, exclusive, reverse, combiner):
    axis = normalize_axis(axis, len(x.shape))

    def at(*i):
        def term(k):
            low, high = (i[axis], k) if reverse else (k, i[axis])
            here = low < high if exclusive else low <= high
            value = s.cast(x[(*i[:axis], k, *i[axis + 1 :])], x.dtype.compute)
            return s.select(here, value, IDENTITY[combiner])

        return s.reduce(combiner, [x.shape[axis]], term)

    return at


def _accumulate(w, out, x, *, axis, exclusive, reverse, combiner):
    """What has come so far is read from the place before."""
    axis = normalize_axis(axis, len(x.shape))
    n, (so_far,) = x.shape[axis], w.outs
    combine = {"sum": s.add, "prod": s.mul}[combiner]

    def step(*i):
        def at(turn):
            return (*i[:axis], s.const(n) - 1 - turn if reverse else turn, *i[axis + 1 :])

        before = at(s.maximum(i[axis] - 1, 0))
        first = s.eq(i[axis], 0)
        total = s.select(first, IDENTITY[combiner], so_far[before])
        more = x[before] if exclusive else x[at(i[axis])]
        total = s.select(first, total, combine(total, more)) if exclusive else combine(total, more)
        return [Store(so_far, at(i[axis]), total)]

    w.in_order(x.shape, step, apart=axis)


def _in_blocks(b, x, *, axis, exclusive, reverse, combiner):
    axis, n, given = normalize_axis(axis, x.rank), x.shape[axis], x.dtype
    way = {"exclusive": exclusive, "reverse": reverse}
    if isinstance(n, int) and n <= SHORT:
        return b.running(x, axis=axis, combiner=combiner, **way)
    x = x.cast(given.compute)
    if not isinstance(n, int):
        return b.accumulate(x, axis=axis, combiner=combiner, **way).cast(given)
    count = -(-n // BLOCK)
    more = [0] * (2 * x.rank)
    more[x.rank + axis] = count * BLOCK - n
    if any(more):
        x = b.pad(x, b.scalar(IDENTITY[combiner], x.dtype), pads=tuple(more))
    whole = x.shape
    blocks = x.reshape(*whole[:axis], count, BLOCK, *whole[axis + 1 :])
    each = b.emit(f"reduce_{combiner}", blocks, axes=(axis + 1,), keepdims=True)
    before = _in_blocks(b, each, axis=axis, exclusive=True, reverse=reverse, combiner=combiner)
    inside = b.running(blocks, axis=axis + 1, combiner=combiner, **way)
    y = (before + inside if combiner == "sum" else before * inside).reshape(*whole)
    if any(more):
        y = b.slice(y, axes=[axis], starts=[0], steps=[1], sizes=[n])
    return y.cast(given)


def _sum_gradient(c, g):
    """Who adds x[k] is everyone after k: the same sum from the other end."""
    return (c.b.emit("cumsum", g, **_from_the_other_end(c.attrs)),)


def _from_the_other_end(attrs):
    return {k: attrs[k] for k in AXIS} | {"reverse": not attrs["reverse"]}


def _product_gradient(c, g):
    """Through y = x, then y[i] *= y[i - d] for d = 1, 2, 4, …: exact also where x is 0."""
    (x,), b = c.inputs, c.b
    axis, n = normalize_axis(c.attrs["axis"], x.rank), x.shape[c.attrs["axis"]]
    y = _shifted(b, x, axis, 1, c.attrs["reverse"]) if c.attrs["exclusive"] else x
    d = 1
    while d < n:
        y = y * _shifted(b, y, axis, d, c.attrs["reverse"])
        d *= 2
    return [b.tensor(v) for v in gradients(b, [y], [x], [g])]


def _shifted(b, x, axis: int, d: int, reverse: bool):
    """x moved by d along an axis, with ones where nothing comes from."""
    n, pads = x.shape[axis], [0] * (2 * x.rank)
    pads[axis if not reverse else x.rank + axis] = d
    x = b.pad(x, b.scalar(1, x.dtype), pads=tuple(pads))
    return b.slice(x, axes=[axis], starts=[d if reverse else 0], steps=[1], sizes=[n])


def _gradient(c, g):
    return (_sum_gradient if c.attrs["combiner"] == "sum" else _product_gradient)(c, g)


def _samples(**more):
    for exclusive in (False, True):
        for reverse in (False, True):
            way = {"exclusive": exclusive, "reverse": reverse} | more
            yield case(floats((3, 5)), axis=1, **way)
            yield case(ints((4, 3)), axis=0, **way)
    for dtype in FLOAT_SAMPLES:
        yield case(floats((2, 7, 3), 1, 0.2, 1.2, dtype), axis=-2, **more)
    yield case(floats((0, 3)), axis=0, **more)
    yield case(floats((1,)), axis=0, exclusive=True, **more)
    yield case(array([2.0, 0.0, 3.0, 0.0, 1.5]), axis=0, **more)


def _long_samples():
    yield from _samples()
    for exclusive in (False, True):
        for reverse in (False, True):
            x = floats((2, 70, 2), 3, 0.8, 1.2)
            yield case(x, axis=1, exclusive=exclusive, reverse=reverse, rtol=1e-4)
    yield case(ints((600,), low=1, high=3, dtype="u32"), axis=0)
    yield case(floats((3, 48), 3, 0.9, 1.1, "f16"), axis=-1, rtol=1e-2)


register(
    "running",
    "x: T -> T",
    "The running sum or product along a short axis: each element reads all before it.",
    T="numeric",
    shape=along_axis,
    attrs={**AXIS, "combiner": Attr("str", "sum", "sum|prod")},
    ref=reference(_ref),
    grad=_gradient,
    loops=Pull(_running),
    samples=lambda: [*_samples(combiner="sum"), *_samples(combiner="prod")],
    group="pool",
)

register(
    "accumulate",
    "x: T -> T",
    "The running sum or product along an axis of any length, one element after the other.",
    T={d for d in NUMERIC if d.compute == d and d.bits >= 8},
    shape=along_axis,
    attrs={**AXIS, "combiner": Attr("str", "sum", "sum|prod")},
    ref=reference(_ref),
    grad=_gradient,
    loops=Kernels(_accumulate),
    samples=lambda: [
        sample
        for combiner in IDENTITY
        for sample in _samples(combiner=combiner)
        if dtype_of(sample.inputs[0]).bits >= 32
    ],
    group="scatter",
)

for _name, _doc, _combiner, _grad in [
    ("cumsum", "The running sum along `axis`.", "sum", _sum_gradient),
    ("cumprod", "The running product along `axis`.", "prod", _product_gradient),
]:
    register(
        _name,
        "x: T -> T",
        _doc,
        T="numeric",
        shape=along_axis,
        attrs=AXIS,
        ref=reference(lambda x, c=_combiner, **attrs: _ref(x, combiner=c, **attrs)),
        grad=_grad,
        loops=Expand(lambda b, x, c=_combiner, **attrs: _in_blocks(b, x, combiner=c, **attrs)),
        samples=_long_samples,
        group="reduce",
    )
