"""pad: more (or fewer) elements at the ends of the axes."""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir import dims
from ...ir.bounds import larger
from ...ir.op import Attr, Pull, register
from ..common import case, floats, ints, require_elements
from ..contraction.windows import padded
from .gather import add_rows

PAD_MODES = ("constant", "edge", "reflect", "wrap")


def pad_shape(x, value, *, pads, mode):
    if len(pads) != 2 * x.rank or mode not in PAD_MODES:
        raise TypeMismatch(
            "pads do not fit the tensor",
            expected=f"{2 * x.rank} numbers and a mode of {', '.join(PAD_MODES)}",
            received=f"pads={list(pads)}, mode={mode!r}",
        )
    shape = tuple(b + d + e for b, d, e in zip(pads[: x.rank], x.shape, pads[x.rank :]))
    if any(isinstance(d, int) and d < 0 for d in shape):
        raise TypeMismatch("pads crop more than there is", received=f"pads={list(pads)}")
    for axis, size in enumerate(shape):
        if mode != "constant":
            require_elements(f"pad of mode {mode}", x, (axis,), size)
    return shape


def pad_source(i, size, mode: str):
    """The index of `x` that stands at `i` (0 = first element of x), for numpy and for Expr."""
    if mode == "wrap":
        return i % size
    if mode == "reflect" and isinstance(size, dims.Sym):
        j = i % larger(2 * size - 2, 1)
        return _least(_least(j, (2 * size - 2) - j), size - 1)
    if mode == "reflect" and size > 1:
        j = i % (2 * size - 2)
        return _least(j, (2 * size - 2) - j)
    return _least(_most(i, 0), size - 1)


def _least(a, b):
    return np.minimum(a, b) if isinstance(a, np.ndarray) else s.minimum(a, b)


def _most(a, b):
    return np.maximum(a, b) if isinstance(a, np.ndarray) else s.maximum(a, b)


def pad_ref(x, value=None, *, pads, mode):
    inner, outer, shape = [], [], []
    for d, b, e in zip(x.shape, pads[: x.ndim], pads[x.ndim :]):
        low, high = max(0, -b), d - max(0, -e)
        shape.append(b + d + e)
        inner.append(slice(low, max(low, high)))
        outer.append(slice(max(0, b), max(0, b) + max(0, high - low)))
    if mode == "constant":
        fill = x.dtype.type(0) if value is None else value
        y = np.full(shape, fill, x.dtype)
        y[tuple(outer)] = x[tuple(inner)]
        return y
    for axis, (d, b, e) in enumerate(zip(x.shape, pads[: x.ndim], pads[x.ndim :])):
        x = np.take(x, pad_source(np.arange(-b, d + e), d, mode), axis)
    return x


def pad_grad(c, dy):
    """constant: crop; other modes: add each copy to the element that it was copied from."""
    x, pads, mode = c.inputs[0], c.attrs["pads"], c.attrs["mode"]
    if mode == "constant":
        dx = c.b.pad(dy, pads=[0 - p for p in pads])
        dvalue = None
        if len(c.inputs) > 1 and c.inputs[1] is not None:
            dvalue = dy.sum() - dx.sum()
        return [dx, dvalue]
    for axis, d in enumerate(x.shape):
        begin, end = pads[axis], pads[x.rank + axis]
        if isinstance(begin, int) and isinstance(end, int) and begin == end == 0:
            continue
        if not all(isinstance(v, int) for v in (d, begin, end)):
            raise TypeMismatch(f"the gradient of a {mode} pad needs static sizes", received=x.type)
        source = pad_source(np.arange(-begin, d + end), d, mode)
        dy = add_rows(dy, c.b.constant(source.astype(np.int64)), axis, d)
    return [dy, None]


def _pad(out, x, value=None, *, pads, mode):
    if mode == "constant":
        view = padded(x, pads, 0 if value is None else value[()])
        return lambda *i: view[i]
    return lambda *i: x[
        tuple(
            pad_source(j - b, d, mode) if b or e else j
            for j, b, e, d in zip(i, pads[: len(i)], pads[len(i) :], x.shape)
        )
    ]


def _pad_sample(x, *pads, mode="constant", value=None):
    return case(*([x] if value is None else [x, value]), pads=pads, mode=mode)


register(
    "pad",
    "x: T, value: T? -> T",
    """`pads` = (begin…, end…) elements more on each axis; negative numbers crop.

    `constant` fills with `value` (0 if absent), `edge` repeats the border, `reflect` mirrors
    without repeating it, `wrap` continues from the other side.
    """,
    attrs={"pads": Attr("dims"), "mode": Attr("str", "constant")},
    shape=lambda x, value=None, *, pads, mode: pad_shape(x, value, pads=pads, mode=mode),
    ref=pad_ref,
    grad=pad_grad,
    loops=Pull(_pad),
    samples=lambda: [
        _pad_sample(floats((2, 3)), 1, 0, 0, 2),
        _pad_sample(floats((2, 3)), 0, 2, 1, 1, value=floats((), seed=5)),
        _pad_sample(floats((4, 5)), -1, 2, 1, -2),
        _pad_sample(floats((2, 3)), 1, 2, 0, 4, mode="edge"),
        _pad_sample(floats((3, 4)), 2, 3, 5, 1, mode="reflect"),
        _pad_sample(floats((2, 3)), 1, 0, 2, 4, mode="wrap"),
        _pad_sample(ints((3,)), 1, 1, value=np.asarray(7, np.int64)),
        _pad_sample(floats((0, 2)), 1, 0, 1, 0),
    ],
    group="move",
    T="any",
)
