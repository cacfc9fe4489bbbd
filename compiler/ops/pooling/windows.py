"""Pooling: a reduction over the window of each output element.

    max_pool      max over the taps inside; max_pool_indices also says where
    average_pool  mean over the taps inside (`count_include_pad`: those in the padding count too)
    lp_pool       (sum |x|^p)^(1/p)
    max_unpool    the gradient of max_pool: each dy back to the element that won

x [N, C, *S], or [N, *S, C] with `channels_last`. Empty strides, pads, dilations are 1, 0, 1.
"""

import math

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir import dims
from ...ir.limits import INDEX, Limit
from ...ir.op import Attr, Pull, register
from ...ir.types import FLOATS, I8, I32, I64, U8
from ..common import case, floats, ints, reference, require_shape, spaced
from ..contraction.windows import (
    accumulator,
    first_to_last,
    last_to_first,
    padded,
    patches,
    spatial_pads,
    window_attrs,
    window_index,
    window_sizes,
)

PATCH_ATTRS = {
    "kernel": Attr("ints"),
    "strides": Attr("ints", ()),
    "pads": Attr("dims", (), "(begin…, end…) of the spatial axes"),
    "dilations": Attr("ints", ()),
}
POOL_ATTRS = PATCH_ATTRS | {
    "ceil_mode": Attr("bool", False, "count a last window that is not full"),
    "channels_last": Attr("bool", False),
}
POOLED = FLOATS | {I8, U8, I32, I64}


class Window:
    """The attributes of a pool over a type, filled in: strides, pads, dilations, output sizes."""

    def __init__(self, x, kernel, strides, pads, dilations, ceil_mode, channels_last=False, **_):
        rank = len(x.shape)
        if rank < 3:
            raise TypeMismatch("a pool needs [N, C, *S]", received=x)
        self.rank, self.kernel, self.last = rank, tuple(kernel), channels_last
        if len(self.kernel) != rank - 2:
            raise TypeMismatch("the kernel does not fit the spatial axes", received=kernel)
        self.spatial = x.shape[1:-1] if channels_last else x.shape[2:]
        self.strides, self.pads, self.dilations = window_attrs(
            rank - 2, self.kernel, strides, pads, dilations
        )
        self.ceil_mode = ceil_mode
        self.sizes = window_sizes(
            self.spatial, self.kernel, self.strides, self.pads, self.dilations, ceil_mode
        )
        channels = x.shape[-1] if channels_last else x.shape[1]
        self.shape = (
            (x.shape[0], *self.sizes, channels)
            if channels_last
            else (x.shape[0], channels, *self.sizes)
        )

    def reach(self) -> tuple:
        """Pads whose end lets every window, also the last of ceil_mode, stay inside."""
        if not self.ceil_mode:
            return self.pads
        n = self.rank - 2
        end = [
            dims.dim_max(e, (p - 1) * t + d * (k - 1) + 1 - size - b)
            for size, p, k, t, d, b, e in zip(
                self.spatial,
                self.sizes,
                self.kernel,
                self.strides,
                self.dilations,
                self.pads[:n],
                self.pads[n:],
            )
        ]
        return (*self.pads[:n], *end)

    def split(self, index) -> tuple:
        """(place before the spatial axes, spatial, after) of an index."""
        return (index[:1], index[1:-1], index[-1:]) if self.last else (index[:2], index[2:], ())

    def tap(self, index, k) -> tuple:
        """Where tap k of the window at `index` lies in the padded input."""
        before, p, after = self.split(index)
        return (*before, *window_index(p, k, self.strides, self.dilations), *after)


def pool_shape(x, **attrs):
    return Window(x, **attrs).shape


def _stack(x: np.ndarray, w: Window, fill, pads=None) -> np.ndarray:
    """[taps, N, C, *sizes]: what each tap sees (channels first)."""
    n, reach = w.rank - 2, w.reach()
    x = np.pad(x, [(0, 0), (0, 0), *zip(reach[:n], reach[n:])], constant_values=fill)
    return np.stack([v for _, v in patches(x, w.kernel, w.strides, w.sizes, w.dilations, 2)])


def _first(x: np.ndarray, channels_last: bool) -> np.ndarray:
    return x.transpose(last_to_first(x.ndim)) if channels_last else x


def _back(y: np.ndarray, channels_last: bool) -> np.ndarray:
    return y.transpose(first_to_last(y.ndim)) if channels_last else y


def _lowest(dtype: np.dtype):
    return -np.inf if dtype.kind not in "iu" else np.iinfo(dtype).min


def max_pool_ref(x, **attrs):
    w = Window(x, **attrs)
    y = _stack(_first(x, w.last), w, _lowest(x.dtype)).max(0)
    return _back(y, w.last)


def lowest(dtype):
    """The identity of max: -inf, or the least int."""
    if dtype.is_float:
        return -math.inf
    return -(2 ** (dtype.bits - 1)) if dtype.kind == "i" else 0


def _max_pool(out, x, **attrs):
    w = Window(x, **attrs)
    view = padded(x, spatial_pads(w.reach(), w.rank, w.last), lowest(x.dtype))
    return lambda *i: s.reduce("max", w.kernel, lambda *k: view[w.tap(i, k)])


def max_pool_grad(c, dy):
    (x,), b = c.inputs, c.b
    a = dict(c.attrs)
    if last := a.pop("channels_last"):
        x, dy = x.transpose(last_to_first(x.rank)), dy.transpose(last_to_first(x.rank))
    _, indices = b.max_pool_indices(x, **a)
    dx = _unpool(b, dy, indices, x, a)
    return [dx.transpose(first_to_last(x.rank)) if last else dx]


def _unpool(b, dy, indices, x, a):
    names = ("kernel", "strides", "pads", "dilations")
    return b.max_unpool(dy, indices, sizes=x.shape[2:], **{k: a[k] for k in names})


def _pool_samples(make=floats, **more):
    def last(x, **attrs):
        return case(x.transpose(first_to_last(x.ndim)), channels_last=True, **attrs)

    yield case(make((1, 2, 4, 6)), kernel=(2, 2), strides=(2, 2), **more)
    yield case(make((2, 2, 5, 6)), kernel=(3, 2), strides=(2, 1), pads=(1, 0, 1, 1), **more)
    yield case(make((1, 2, 7)), kernel=(2,), strides=(2,), dilations=(2,), **more)
    yield case(make((1, 1, 6, 6)), kernel=(3, 3), strides=(2, 2), ceil_mode=True, **more)
    yield case(
        make((1, 1, 5, 4)), kernel=(2, 3), strides=(3, 3), pads=(1, 1, 1, 1), ceil_mode=True, **more
    )
    yield case(make((1, 2, 3, 3, 4)), kernel=(2, 2, 2), **more)
    yield last(make((1, 3, 5, 4)), kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), **more)
    yield last(make((2, 2, 6)), kernel=(3,), strides=(2,), ceil_mode=True, **more)
    yield case(make((1, 2, 4, 4), dtype="f16"), kernel=(2, 2), atol=5e-3, **more)
    yield case(make((1, 2, 4), dtype="f64"), kernel=(2,), **more)
    yield case(make((0, 2, 4)), kernel=(2,), **more)


register(
    "max_pool",
    "x: T -> T",
    "The maximum of each window; padding never wins.",
    attrs=POOL_ATTRS,
    shape=pool_shape,
    ref=max_pool_ref,
    grad=max_pool_grad,
    loops=Pull(_max_pool),
    samples=lambda: [
        *_pool_samples(spaced),
        case(ints((1, 2, 5), dtype="i8"), kernel=(3,), pads=(1, 1)),
        case(ints((1, 2, 5), high=200, dtype="u8"), kernel=(2,), strides=(2,), pads=(1, 0)),
    ],
    group="pool",
    T=POOLED,
)


def _flat(index, shape):
    """The offset of the element at `index` in the whole tensor."""
    total = 0
    for i, d in zip(index, shape):
        total = total * d + i
    return total


def max_pool_indices_ref(x, **attrs):
    w = Window(x, **attrs)
    n = w.rank - 2
    values = _stack(x, w, _lowest(x.dtype))
    places = np.indices(x.shape, dtype=np.int64)
    places = np.stack([_stack(p, w, -1) for p in places])
    best = np.where((places[n + 1] >= 0), values, _lowest(x.dtype)).argmax(0)
    y = np.take_along_axis(values, best[None], 0)[0]
    at = [np.take_along_axis(p, best[None], 0)[0] for p in places]
    return y, _flat(at, x.shape)


def _max_pool_indices(out, x, **attrs):
    """The first of the taps that hold the maximum: the least tap number among them."""
    w = Window(x, **attrs)
    view = padded(x, spatial_pads(w.reach(), w.rank, False), lowest(x.dtype))
    n, taps = w.rank - 2, math.prod(w.kernel)

    def value(*i):
        return s.reduce("max", w.kernel, lambda *k: view[w.tap(i, k)], x.dtype)

    def index(*i):
        best = value(*i)

        def number(*k):
            at = w.tap(i, k)
            inside = s.const(True, "bool")
            for j, b, d in zip(at[2:], w.pads[:n], w.spatial):
                inside = inside & (j >= b) & (j < b + d)
            return s.select(inside & s.eq(view[at], best), s.flatten(k, w.kernel), taps - 1)

        winner = s.unflatten(s.reduce("min", w.kernel, number, I64), w.kernel)
        at = w.tap(i, winner)
        return _flat((*at[:2], *(j - b for j, b in zip(at[2:], w.pads[:n]))), x.shape)

    return value, index


register(
    "max_pool_indices",
    "x: T -> T, i64",
    """`max_pool` and, for each output, the offset of its (first) maximum in the whole of x.""",
    attrs={k: v for k, v in POOL_ATTRS.items() if k != "channels_last"},
    shape=lambda x, **attrs: [pool_shape(x, **attrs)] * 2,
    ref=max_pool_indices_ref,
    grad=lambda c, dy, _: [_unpool(c.b, dy, c.outputs[1], c.inputs[0], c.attrs)],
    loops=Pull(_max_pool_indices),
    samples=lambda: [
        case(spaced((1, 2, 4, 6)), kernel=(2, 2), strides=(2, 2)),
        case(spaced((2, 2, 5, 6)), kernel=(3, 2), strides=(2, 1), pads=(1, 0, 1, 1)),
        case(spaced((1, 2, 7)), kernel=(2,), strides=(2,), dilations=(2,)),
        case(spaced((1, 1, 6, 6)), kernel=(3, 3), strides=(2, 2), ceil_mode=True),
        case(np.ones((1, 1, 3, 3), np.float32), kernel=(2, 2), grad=False),
    ],
    group="pool",
    T=FLOATS | {I8, U8},
)


def max_unpool_shape(y, indices, *, sizes, **_):
    require_shape("max_unpool", "indices", indices, y.shape)
    if len(sizes) != y.rank - 2:
        raise TypeMismatch(
            "max_unpool needs a size for each spatial axis", expected=y.rank - 2, received=sizes
        )
    return (*y.shape[:2], *sizes)


def max_unpool_ref(y, indices, *, sizes, **_):
    x = np.zeros((*y.shape[:2], *sizes), y.dtype)
    np.add.at(x.reshape(-1), indices.reshape(-1), y.reshape(-1))
    return x


def _max_unpool(out, y, indices, *, kernel, strides, pads, dilations, sizes):
    """Each element looks at the windows that contain it: which of them chose it?"""
    n, acc = len(kernel), accumulator(y.dtype)
    strides, pads, dilations = window_attrs(n, kernel, strides, pads, dilations)

    def at(batch, channel, *p):
        here = _flat((batch, channel, *p), out.shape)

        def term(*k):
            inside, source = s.const(True, "bool"), []
            for i, t, d, stride, begin, dilation in zip(
                p, k, y.shape[2:], strides, pads[:n], dilations
            ):
                reach = i + begin - t * dilation
                q = reach // stride
                inside = inside & s.eq(reach % stride, 0) & (q >= 0) & (q < d)
                source.append(s.minimum(s.maximum(q, 0), d - 1))
            place = (batch, channel, *source)
            chosen = inside & s.eq(indices[place], here)
            return s.select(chosen, s.cast(y[place], acc), s.const(0, acc))

        return s.reduce("sum", kernel, term, acc)

    return at


def max_unpool_grad(c, dx):
    indices = c.inputs[1]
    return [c.b.gather(dx.reshape(-1), indices, axis=0), None]


def _unpool_sample(x, **attrs):
    filled = {"strides": (), "pads": (), "dilations": (), "ceil_mode": False} | attrs
    y, indices = max_pool_indices_ref(x, **filled)
    return case(y, indices, sizes=x.shape[2:], **attrs)


register(
    "max_unpool",
    "y: T, indices: i64 -> T",
    """The adjoint of max_pool: y summed into the places that `max_pool_indices` chose.

    The windows must be those of the pool; elsewhere the result is 0.
    """,
    attrs={
        "kernel": Attr("ints"),
        "strides": Attr("ints", ()),
        "pads": Attr("dims", ()),
        "dilations": Attr("ints", ()),
        "sizes": Attr("dims", doc="spatial sizes of the pool's input"),
    },
    shape=max_unpool_shape,
    ref=reference(max_unpool_ref),
    grad=max_unpool_grad,
    loops=Pull(_max_unpool),
    limits=lambda y, indices, *, sizes, **_: [
        Limit(1, 0, dims.prod((*y.shape[:2], *sizes)), INDEX)
    ],
    samples=lambda: [
        _unpool_sample(spaced((1, 2, 4, 6)), kernel=(2, 2), strides=(2, 2)),
        _unpool_sample(spaced((2, 2, 5, 6)), kernel=(3, 2), strides=(2, 1), pads=(1, 0, 1, 1)),
        _unpool_sample(spaced((1, 2, 7)), kernel=(2,), strides=(1,), dilations=(2,)),
    ],
    group="pool",
    T=FLOATS,
)
