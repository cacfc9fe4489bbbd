"""Convolutions and pools. `auto_pad` becomes explicit pads (begin…, end…)."""

from .....compiler.ir import dims
from .....compiler.ir.dim_arrays import larger
from .....compiler.ir.dims import Sym
from .....compiler.ir.types import I64
from ...read.call import Call


def window(c: Call, x, kernel) -> dict:
    """strides, pads and dilations of a window over the spatial axes of x [N, C, *S]."""
    rank = x.rank - 2
    strides = c.attr("strides", [1] * rank)
    dilations = c.attr("dilations", [1] * rank)
    pads = _pads(c, x.shape[2:], kernel, strides, dilations)
    for name, values, count in [
        ("kernel_shape", kernel, rank),
        ("strides", strides, rank),
        ("dilations", dilations, rank),
        ("pads", pads, 2 * rank),
    ]:
        if len(values) != count:
            raise ValueError(f"{name} needs {count} values for {x.type}, received {len(values)}")
    return {"strides": tuple(strides), "pads": tuple(pads), "dilations": tuple(dilations)}


def _pads(c: Call, sizes, kernel, strides, dilations) -> list:
    rank = len(sizes)
    auto = c.attr("auto_pad", "NOTSET")
    given = c.attr("pads", [0] * (2 * rank))
    if auto in ("NOTSET", ""):
        return given
    if auto == "VALID":
        return [0] * (2 * rank)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise c.unsupported("auto_pad has an unsupported value", received=auto)
    begin, end = [], []
    for d, k, s, w in zip(sizes, kernel, strides, dilations):
        total = larger((dims.ceil_div(d, s) - 1) * s + (k - 1) * w + 1 - d, 0)
        half = total // 2
        low, high = (half, total - half) if auto == "SAME_UPPER" else (total - half, half)
        begin.append(low), end.append(high)
    return begin + end


def kernel_of(c: Call, w) -> list:
    """The spatial sizes of weights, which `kernel_shape` may say again.

    Raises SizeDependence where that cannot be compared.
    """
    own = list(w.shape[2:])
    kernel = c.attr("kernel_shape", own)
    if len(kernel) != len(own) or any(k != d for k, d in zip(kernel, own) if isinstance(d, int)):
        raise ValueError(f"kernel_shape {kernel} does not fit the weights {w.type}")
    if kernel != own:
        raise c.size_dependence("whether kernel_shape fits the weights", received=w.type)
    return own


def conv(c: Call):
    x, w = c.x(0), c.x(1)
    kernel = kernel_of(c, w)
    return c.b.emit("conv", x, w, c[2], group=c.attr("group", 1), **window(c, x, kernel))


def conv_transpose(c: Call):
    """`output_shape` or SAME padding decide the pads: total = (n-1)·s + adj + (k-1)·d + 1 - out."""
    x, w = c.x(0), c.x(1)
    rank = x.rank - 2
    kernel = kernel_of(c, w)
    strides = c.attr("strides", [1] * rank)
    dilations = c.attr("dilations", [1] * rank)
    extra = c.attr("output_padding", [0] * rank)
    pads = c.attr("pads", [0] * (2 * rank))
    auto = c.attr("auto_pad", "NOTSET")
    wanted = c.attr("output_shape", None)
    if wanted is not None:
        wanted = wanted[-rank:]
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [d * s for d, s in zip(x.shape[2:], strides)]
    if wanted is not None:
        begin, end = [], []
        for n, s, e, k, d, out in zip(x.shape[2:], strides, extra, kernel, dilations, wanted):
            total = (n - 1) * s + e + (k - 1) * d + 1 - out
            half = total // 2
            low, high = (total - half, half) if auto != "SAME_UPPER" else (half, total - half)
            begin.append(low), end.append(high)
        pads = begin + end
    return c.b.emit(
        "conv_transpose",
        x,
        w,
        c[2],
        strides=tuple(strides),
        pads=tuple(pads),
        dilations=tuple(dilations),
        output_padding=tuple(extra),
        group=c.attr("group", 1),
    )


def max_pool(c: Call):
    x, kernel = c.x(0), c.attr("kernel_shape")
    attrs = window(c, x, kernel)
    attrs |= {"kernel": tuple(kernel), "ceil_mode": bool(c.attr("ceil_mode", 0))}
    if not c.wants(1):
        c.ignore("storage_order")
        return c.b.emit("max_pool", x, **attrs)
    y, indices = c.b.emit("max_pool_indices", x, **attrs)
    if c.attr("storage_order", 0):
        indices = _column_major(c, indices, x.shape)
    return y, indices


def _column_major(c: Call, indices, shape):
    """A flat index over [N, C, *S] counted with the spatial axes in reverse order."""
    b = c.b
    sizes = shape[2:]
    plane = dims.prod(sizes)

    def number(d):
        return c.scalar(d, I64) if not isinstance(d, Sym) else b.dims([d]).reshape(())

    base = b.emit("mul", b.emit("div", indices, number(plane)), number(plane))
    rest = b.emit("sub", indices, base)
    total = base
    for axis in range(len(sizes)):
        inner, outer = dims.prod(sizes[axis + 1 :]), dims.prod(sizes[:axis])
        coordinate = b.emit("mod", b.emit("div", rest, number(inner)), number(sizes[axis]))
        total = b.emit("add", total, b.emit("mul", coordinate, number(outer)))
    return total


def average_pool(c: Call):
    x, kernel = c.x(0), c.attr("kernel_shape")
    return c.b.emit(
        "average_pool",
        x,
        kernel=tuple(kernel),
        ceil_mode=bool(c.attr("ceil_mode", 0)),
        count_include_pad=bool(c.attr("count_include_pad", 0)),
        **window(c, x, kernel),
    )


def lp_pool(c: Call):
    x, kernel = c.x(0), c.attr("kernel_shape")
    p = c.attr("p", 2)
    return c.b.emit(
        "lp_pool",
        x,
        kernel=tuple(kernel),
        ceil_mode=bool(c.attr("ceil_mode", 0)),
        p=int(p),
        **window(c, x, kernel),
    )


def max_unpool(c: Call):
    """Each element at its place among all of the result; places may be those of any window."""
    x, kernel = c.x(0), c.attr("kernel_shape")
    attrs = window(c, x, kernel)
    rank, pads = len(kernel), attrs["pads"]
    sizes = [
        (x.shape[2 + i] - 1) * attrs["strides"][i] - pads[i] - pads[rank + i] + kernel[i]
        for i in range(rank)
    ]
    shape = (*x.shape[:2], *sizes)
    total = dims.prod(shape)
    at = c.within(c.x(1), 0, total).reshape((dims.prod(c.x(1).shape),))
    nothing = c.b.emit("expand", c.scalar(0, x.dtype), shape=(total,))
    y = c.b.emit("scatter_elements", nothing, at, x.reshape((dims.prod(x.shape),)), axis=0)
    y = y.reshape(shape)
    wanted = c.symbols(2, "output_shape")
    if wanted is None or tuple(wanted) == y.shape:
        return y
    # the indices count in the smaller shape, which lies at the origin of the wanted one
    extra = [w - d for w, d in zip(wanted, y.shape, strict=True)]
    return c.b.emit("pad", y, pads=(0,) * y.rank + tuple(extra))


def global_pool(op: str):
    """A reduction over the spatial axes."""

    def entry(c: Call):
        x = c.x(0)
        return c.b.emit(op, x, axes=tuple(range(2, x.rank)), keepdims=True)

    return entry


def global_lp_pool(c: Call):
    x = c.x(0)
    p = c.attr("p", 2)
    axes = tuple(range(2, x.rank))
    if p in (1, 2):
        return c.b.emit(f"reduce_l{int(p)}", x, axes=axes, keepdims=True)
    power = c.b.emit("pow", c.b.emit("abs", x), c.scalar(p, x.dtype))
    total = c.b.emit("reduce_sum", power, axes=axes, keepdims=True)
    return c.b.emit("pow", total, c.scalar(1 / p, x.dtype))


TABLE = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "MaxUnpool": max_unpool,
    "GlobalAveragePool": global_pool("reduce_mean"),
    "GlobalMaxPool": global_pool("reduce_max"),
    "GlobalLpPool": global_lp_pool,
}
