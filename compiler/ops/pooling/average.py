"""Mean and norm pools: average_pool, lp_pool. See `pool.py` for the windows."""

import numpy as np

from ...expr import expr as s
from ...ir.op import Attr, Expand, Pull, register
from ...ir.types import FLOATS
from ..common import reference, through_expansion
from ..contraction.windows import accumulator, first_to_last, last_to_first, padded, spatial_pads
from .windows import POOL_ATTRS, Window, _back, _first, _pool_samples, _stack, pool_shape


def _counts(w: Window, include: bool) -> np.ndarray:
    """How many taps count for each output: those inside, or inside or in the asked padding."""
    n = w.rank - 2
    total = np.ones(w.sizes)
    for d in range(n):
        begin, end = w.pads[d], w.pads[n + d]
        low, high = (0, w.spatial[d] + begin + end) if include else (begin, begin + w.spatial[d])
        at = np.arange(w.sizes[d])[:, None] * w.strides[d]
        at = at + np.arange(w.kernel[d]) * w.dilations[d]
        count = ((at >= low) & (at < high)).sum(1)
        total = total * count.reshape(-1, *[1] * (n - 1 - d))
    return total


def average_pool_ref(x, *, count_include_pad, **attrs):
    w = Window(x, **attrs)
    total = _stack(_first(x, w.last), w, 0).sum(0, dtype=x.dtype)
    return _back((total / _counts(w, count_include_pad)).astype(x.dtype), w.last)


def _average_pool(out, x, *, count_include_pad, **attrs):
    w, acc, n = Window(x, **attrs), accumulator(x.dtype), len(x.shape) - 2
    view = padded(x, spatial_pads(w.reach(), w.rank, w.last), 0)

    def count(p, d):
        """Taps of axis d that count; the others lie before `low` or from `high` on."""
        begin, end = w.pads[d], w.pads[n + d]
        low, high = (
            (0, w.spatial[d] + begin + end) if count_include_pad else (begin, begin + w.spatial[d])
        )
        start, k, step = p[d] * w.strides[d], w.kernel[d], w.dilations[d]
        # ceil((bound - start) / step), limited to 0 … k
        first = s.minimum(s.maximum((low + (step - 1) - start) // step, 0), k)
        stop = s.minimum(s.maximum((high + (step - 1) - start) // step, 0), k)
        return stop - first

    def at(*i):
        total = s.reduce("sum", w.kernel, lambda *k: s.cast(view[w.tap(i, k)], acc), acc)
        _, p, _ = w.split(i)
        number = s.const(1)
        for d in range(n):
            number = number * count(p, d)
        return total / s.cast(number, acc)

    return at


def _as_images(x):
    """[N, C, *S] → [N*C, 1, *S]: every channel by itself."""
    return x.reshape(x.shape[0] * x.shape[1], 1, *x.shape[2:])


def _ones(b, shape, dtype):
    return b.scalar(1, dtype).expand(shape)


def average_pool_grad(c, dy):
    """dx = conv_transpose(dy / count, ones), each channel by itself."""
    (x,), a, b = c.inputs, dict(c.attrs), c.b
    if a["channels_last"]:
        x, dy = x.transpose(last_to_first(x.rank)), dy.transpose(last_to_first(x.rank))
    w = Window(x, **(a | {"channels_last": False}))
    n, reach = w.rank - 2, w.reach()
    ones = _ones(b, (1, 1, *w.kernel), x.dtype)
    if a["count_include_pad"]:
        asked = [p + begin + end for p, begin, end in zip(w.spatial, w.pads[:n], w.pads[n:])]
        pads = (0,) * n + tuple(r - e for r, e in zip(reach[n:], w.pads[n:]))
        mask = _ones(b, (1, 1, *asked), x.dtype)
    else:
        pads, mask = reach, _ones(b, (1, 1, *w.spatial), x.dtype)
    window = {"strides": w.strides, "dilations": w.dilations}
    count = b.conv(mask, ones, pads=pads, **window)
    behind = [
        size + begin + end - ((p - 1) * t + e * (k - 1) + 1)
        for size, begin, end, p, t, e, k in zip(
            w.spatial, reach[:n], reach[n:], w.sizes, w.strides, w.dilations, w.kernel
        )
    ]
    dx = b.conv_transpose(
        _as_images(dy / count), ones, pads=reach, output_padding=behind, **window
    ).reshape(x.shape)
    return [dx.transpose(first_to_last(x.rank)) if a["channels_last"] else dx]


register(
    "average_pool",
    "x: T -> T",
    """The mean of each window, over the elements inside.

    With `count_include_pad` the padding that `pads` asks for counts as zeros.
    """,
    attrs={**POOL_ATTRS, "count_include_pad": Attr("bool", False)},
    shape=lambda x, *, count_include_pad, **attrs: pool_shape(x, **attrs),
    ref=reference(average_pool_ref),
    grad=average_pool_grad,
    loops=Pull(_average_pool),
    samples=lambda: [*_pool_samples(), *_pool_samples(count_include_pad=True)],
    group="pool",
    T=FLOATS,
)


def lp_pool_ref(x, *, p, **attrs):
    w = Window(x, **attrs)
    total = (np.abs(_stack(_first(x, w.last), w, 0)) ** p).sum(0, dtype=x.dtype)
    return _back((total ** (1 / p)).astype(x.dtype), w.last)


def _lp_pool(b, x, *, p, channels_last, **attrs):
    if channels_last:
        x = x.transpose(last_to_first(x.rank))
    w = Window(x, **attrs)
    powers = b.mul(x, x) if p == 2 else b.pow(b.abs(x), b.scalar(p, x.dtype))
    total = b.conv(
        _as_images(powers),
        _ones(b, (1, 1, *w.kernel), x.dtype),
        pads=w.reach(),
        strides=w.strides,
        dilations=w.dilations,
    ).reshape(*x.shape[:2], *w.sizes)
    y = b.sqrt(total) if p == 2 else b.pow(total, b.scalar(1 / p, x.dtype))
    return y.transpose(first_to_last(y.rank)) if channels_last else y


register(
    "lp_pool",
    "x: T -> T",
    "The p-norm of each window.",
    attrs={**POOL_ATTRS, "p": Attr("int", 2, low=1)},
    shape=lambda x, *, p, **attrs: pool_shape(x, **attrs),
    ref=reference(lp_pool_ref),
    grad=through_expansion,
    loops=Expand(_lp_pool),
    samples=lambda: [*_pool_samples(), *list(_pool_samples(p=3))[:3]],
    group="pool",
    T=FLOATS,
)
