"""Keras' functions of neural networks: those that an op means as a table, windows, attention."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....compiler.errors import UnsupportedError
from ...native.tracing import user_line
from ..functions import movement
from ..functions.elementwise import as_float
from ..functions.traced import TracedArray, cast, emit, find, joined, lift

# Keras' name: the op, and what its attributes are.
SAME_MEANING: dict[str, tuple[str, dict[str, Any]]] = {
    "sigmoid": ("sigmoid", {}),
    "softplus": ("softplus", {}),
    "softsign": ("softsign", {}),
    "silu": ("silu", {}),
    "hard_sigmoid": ("hard_sigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_silu": ("hard_swish", {}),
    "selu": ("selu", {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}),
    "tanh": ("tanh", {}),
}


def _same(op: str, attrs: dict[str, Any]) -> Callable:
    return lambda x: emit(op, as_float(lift(find(x), x)), **attrs)


def relu(x: Any) -> TracedArray:
    return emit("relu", lift(find(x), x))


def leaky_relu(x: Any, negative_slope: float = 0.2) -> TracedArray:
    return emit("leaky_relu", as_float(lift(find(x), x)), alpha=float(negative_slope))


def elu(x: Any, alpha: float = 1.0) -> TracedArray:
    return emit("elu", as_float(lift(find(x), x)), alpha=float(alpha))


def celu(x: Any, alpha: float = 1.0) -> TracedArray:
    return emit("celu", as_float(lift(find(x), x)), alpha=float(alpha))


def gelu(x: Any, approximate: bool = True) -> TracedArray:
    x = as_float(lift(find(x), x))
    return emit("gelu", x, approximate="tanh" if approximate else "none")


def log_sigmoid(x: Any) -> TracedArray:
    return -emit("softplus", -as_float(lift(find(x), x)))


def _softmax(op: str) -> Callable:
    def apply(x: Any, axis: Any = -1) -> TracedArray:
        x = as_float(lift(find(x), x))
        if isinstance(axis, int):
            return emit(op, x, axis=axis)
        if axis is None:
            return apply(movement.ravel(x)).reshape(x.shape)
        axes = [a % x.ndim for a in axis]
        order = [a for a in range(x.ndim) if a not in axes] + axes
        y = movement.transpose(x, order)
        flat = y.reshape((*y.shape[: x.ndim - len(axes)], -1))
        back = np.argsort(order).tolist()
        return movement.transpose(emit(op, flat, axis=-1).reshape(y.shape), back)

    return apply


def one_hot(
    x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Any:
    """1 at each index, 0 elsewhere; indices outside of [0, num_classes) give zeros."""
    if sparse:
        raise ValueError("Unsupported value `sparse=True` with tessel")
    x = cast(lift(find(x), x), "int64")
    axis = axis % (x.ndim + 1)
    places = np.arange(num_classes).reshape([-1 if i == axis else 1 for i in range(x.ndim + 1)])
    return cast(movement.expand_dims(x, axis) == places, dtype or "float32")


def _tuple(x: Any, n: int) -> tuple[int, ...]:
    return (int(x),) * n if isinstance(x, (int, np.integer)) else tuple(int(i) for i in x)


def _is_last(data_format: Any) -> bool:
    from keras.src.backend.config import standardize_data_format

    return standardize_data_format(data_format) == "channels_last"


def _spatial(x: TracedArray, last: bool) -> tuple:
    return x.shape[1:-1] if last else x.shape[2:]


def _pads(padding: Any, sizes: Any, kernel: Any, strides: Any, dilations: Any) -> list[int]:
    """(begin…, end…) of "valid", "same" (as XLA: the odd one at the end) or "causal"."""
    padding = padding.lower() if isinstance(padding, str) else padding
    if padding == "valid":
        return [0] * 2 * len(kernel)
    begins, ends = [], []
    for size, k, s, d in zip(sizes, kernel, strides, dilations):
        wide = (k - 1) * d + 1
        total = max(0, (math.ceil(size / s) - 1) * s + wide - size)
        begin = wide - 1 if padding == "causal" else total // 2
        begins.append(begin)
        ends.append(0 if padding == "causal" else total - begin)
    if padding not in ("same", "causal"):
        raise ValueError(f"Invalid padding '{padding}', must be 'same' or 'valid'.")
    return begins + ends


def conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: Any = None,
    dilation_rate: Any = 1,
) -> TracedArray:
    """inputs [N,*S,C] (or [N,C,*S]), kernel [*K,C/groups,O]."""
    inputs, kernel = joined(inputs, kernel)
    n, last = inputs.ndim - 2, _is_last(data_format)
    strides, dilations = _tuple(strides, n), _tuple(dilation_rate, n)
    channels, per_group = inputs.shape[-1 if last else 1], kernel.shape[-2]
    if channels % per_group:
        raise ValueError(
            "The number of input channels must be evenly divisible by kernel's in_channels. "
            f"Received input channels {channels} and kernel in_channels {per_group}. "
        )
    return emit(
        "conv",
        inputs,
        kernel if last else movement.transpose(kernel, (n + 1, n, *range(n))),
        strides=strides,
        pads=_pads(padding, _spatial(inputs, last), kernel.shape[:n], strides, dilations),
        dilations=dilations,
        group=channels // per_group,
        channels_last=last,
    )


def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: Any = None,
    dilation_rate: Any = 1,
) -> TracedArray:
    """kernel [*K,C,multiplier]: each channel with its own filters."""
    inputs, kernel = joined(inputs, kernel)
    *sizes, channels, multiplier = kernel.shape
    kernel = kernel.reshape((*sizes, 1, channels * multiplier))
    return conv(inputs, kernel, strides, padding, data_format, dilation_rate)


def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: Any = None,
    dilation_rate: Any = 1,
) -> TracedArray:
    x = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(x, pointwise_kernel, 1, "valid", data_format, 1)


def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: Any = None,
    dilation_rate: Any = 1,
) -> TracedArray:
    """kernel [*K,O,C]: the gradient of `conv` in its input."""
    from keras.src.backend.common import backend_utils

    inputs, kernel = joined(inputs, kernel)
    n, last = inputs.ndim - 2, _is_last(data_format)
    strides, dilations = _tuple(strides, n), _tuple(dilation_rate, n)
    given = backend_utils.compute_conv_transpose_padding_args_for_jax(
        input_shape=inputs.shape,
        kernel_shape=kernel.shape,
        strides=strides,
        padding=padding,
        output_padding=output_padding,
        dilation_rate=dilations,
    )
    reach = [d * (k - 1) for d, k in zip(dilations, kernel.shape)]
    begins = [r - low for r, (low, _) in zip(reach, given)]
    ends = [r - high for r, (_, high) in zip(reach, given)]
    x = movement.moveaxis(inputs, -1, 1) if last else inputs
    y = emit(
        "conv_transpose",
        x,
        movement.transpose(kernel, (n + 1, n, *range(n))),
        strides=strides,
        pads=[*begins, *(max(0, e) for e in ends)],
        dilations=dilations,
        output_padding=[max(0, -e) for e in ends],
    )
    return movement.moveaxis(y, 1, -1) if last else y


def _pool(op: str) -> Callable:
    def apply(
        inputs: Any,
        pool_size: Any,
        strides: Any = None,
        padding: str = "valid",
        data_format: Any = None,
    ) -> TracedArray:
        inputs = lift(find(inputs), inputs)
        n, last = inputs.ndim - 2, _is_last(data_format)
        kernel = _tuple(pool_size, n)
        strides = kernel if strides is None else _tuple(strides, n)
        pads = _pads(padding, _spatial(inputs, last), kernel, strides, (1,) * n)
        return emit(op, inputs, kernel=kernel, strides=strides, pads=pads, channels_last=last)

    return apply


max_pool, average_pool = _pool("max_pool"), _pool("average_pool")


def _adaptive(reduce: str) -> Callable:
    def apply(inputs: Any, output_size: Any, data_format: Any = None) -> TracedArray:
        x = lift(find(inputs), inputs)
        n, last = x.ndim - 2, _is_last(data_format)
        for axis, size in enumerate(_tuple(output_size, n), 1 if last else 2):
            whole, before = x.shape[axis], (slice(None),) * axis
            parts = []
            for i in range(size):
                window = slice(i * whole // size, -(-(i + 1) * whole // size))
                part = emit(f"reduce_{reduce}", x[(*before, window)], axes=(axis,), keepdims=True)
                parts.append(part)
            x = movement.concatenate(parts, axis)
        return x

    return apply


def unfold(
    input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Any:
    pads = _tuple(padding, 2)
    return emit(
        "unfold",
        input,
        kernel=_tuple(kernel_size, 2),
        strides=_tuple(stride, 2),
        pads=(*pads, *pads),
        dilations=_tuple(dilation, 2),
    )


def fold(
    x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Any:
    pads = _tuple(padding, 2)
    return emit(
        "fold",
        x,
        sizes=_tuple(output_size, 2),
        kernel=_tuple(kernel_size, 2),
        strides=_tuple(stride, 2),
        pads=(*pads, *pads),
        dilations=_tuple(dilation, 2),
    )


def _blocks(op: str) -> Callable:
    def apply(x: Any, block_size: int, data_format: str = "channels_last") -> TracedArray:
        last = _is_last(data_format)
        x = movement.moveaxis(x, -1, 1) if last else x
        y = emit(op, x, block=int(block_size))
        return movement.moveaxis(y, 1, -1) if last else y

    return apply


def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: Any = None,
    is_causal: bool = False,
    flash_attention: Any = None,
    attn_logits_soft_cap: Any = None,
) -> Any:
    """query [B,T,N,H], key and value [B,S,K,H]: softmax(q kᵀ scale + bias, where mask) v."""
    if flash_attention or attn_logits_soft_cap is not None:
        raise UnsupportedError("attention with a soft cap is not traced", where=user_line())
    query, key, value = joined(query, key, value)
    dtype = query.dtype
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    groups = query.shape[2] // key.shape[2]
    q, k, v = (movement.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
    if groups > 1:
        k, v = movement.repeat(k, groups, 1), movement.repeat(v, groups, 1)
    logits = cast(emit("matmul", q, movement.swapaxes(k, -1, -2)), "float32") * float(scale)
    if bias is not None:
        logits = logits + bias
    low = float(np.finfo(np.float32).min) * 0.7
    if mask is not None:
        logits = movement.where(mask, logits, low)
    if is_causal:
        t, s = logits.shape[-2:]
        logits = movement.where(np.tril(np.ones((t, s), bool)), logits, low)
    weights = cast(emit("softmax", logits, axis=-1), dtype)
    return movement.transpose(emit("matmul", weights, v), (0, 2, 1, 3))


FUNCTIONS: dict[str, Callable] = {
    **{name: _same(op, attrs) for name, (op, attrs) in SAME_MEANING.items()},
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "celu": celu,
    "gelu": gelu,
    "log_sigmoid": log_sigmoid,
    "softmax": _softmax("softmax"),
    "log_softmax": _softmax("log_softmax"),
    "one_hot": one_hot,
    "conv": conv,
    "depthwise_conv": depthwise_conv,
    "separable_conv": separable_conv,
    "conv_transpose": conv_transpose,
    "max_pool": max_pool,
    "average_pool": average_pool,
    "adaptive_average_pool": _adaptive("mean"),
    "adaptive_max_pool": _adaptive("max"),
    "unfold": unfold,
    "fold": fold,
    "depth_to_space": _blocks("depth_to_space"),
    "space_to_depth": _blocks("space_to_depth"),
    "dot_product_attention": dot_product_attention,
}
