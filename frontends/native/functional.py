"""Every op as a function of arrays: `relu(x)`, `conv(x, w, b, strides=(2, 2), …)`.

The functions are made from the op records (`compiler/ops`): tensors are positional, attributes
are keywords, the docstring is the record's. Numbers take the dtype of the tensors beside them.
Below them are the few functions that need more than one op: control flow, and numpy's names for
what the records call differently. An op without tensor operands gives a numpy array.
"""

import inspect
import math
from collections.abc import Callable, Sequence

import numpy as np

from ...compiler.errors import TypeMismatch, UsageError
from ...compiler.ir import op as registry
from ...compiler.ir.builder import Tensor
from ...compiler.ir.types import BOOL, dtype_of
from .tracing import NUMBERS, Array, find_tracer, user_line

_NOT_FUNCTIONS = {"constant", "if", "scan", "while", "custom_gradient"}
_RESERVED = {"and": "logical_and", "or": "logical_or", "not": "logical_not", "xor": "logical_xor"}


def apply(name: str, *inputs, **attrs):
    """Append the op `name` to the trace that its inputs belong to."""
    op = registry.get(name)
    b = find_tracer(*inputs)
    if b is None:
        if not op.inputs:
            bound = op.bind(attrs, name)
            return op.ref(**bound)
        raise UsageError(
            f"{name} was called outside of a traced function",
            where=user_line(),
            expected="traced tensors",
            received=", ".join(type(x).__name__ for x in inputs),
            fix="call it in a function under tessel.jit, grad or trace",
        )
    if op.inputs and op.inputs[0].variadic and len(inputs) == 1:
        inputs = inputs[0] if isinstance(inputs[0], (list, tuple)) else inputs
    return b.emit(name, *_operands(b, op, inputs), **attrs)


def _operands(b, op, inputs: Sequence) -> list:
    """Numbers become constants of the dtype that the tensors give their slot."""
    slots = list(op.inputs)
    if slots and slots[-1].variadic:
        slots += [slots[-1]] * (len(inputs) - len(slots))
    known = {s.dtype: x for s, x in zip(slots, inputs) if isinstance(x, Tensor)}
    result = []
    for slot, x in zip(slots, inputs):
        if isinstance(x, NUMBERS) and slot.dtype in known:
            x = b.like(x, known[slot.dtype])
        elif isinstance(x, NUMBERS) and isinstance(x, float):
            x = b.scalar(x, "f32")
        result.append(x)
    return result + list(inputs[len(slots) :])


def _function(op: registry.Op, name: str) -> Callable:
    def function(*inputs, **attrs):
        return apply(op.name, *inputs, **attrs)

    function.__name__ = function.__qualname__ = name
    function.__signature__ = signature(op)
    operands = ", ".join(
        i.name + ("*" if i.variadic else "?" if i.optional else "") for i in op.inputs
    )
    lines = [f"    {k}: {a.doc}" for k, a in op.attrs.items() if a.doc]
    attributes = "\n\nAttributes:\n" + "\n".join(lines) if lines else ""
    function.__doc__ = f"{op.doc}\n\nOperands: {operands or 'none'}{attributes}"
    return function


def signature(op: registry.Op) -> inspect.Signature:
    """Tensors positional, attributes keyword-only, with the record's defaults."""
    P = inspect.Parameter
    parameters = []
    for i in reversed(op.inputs):
        kind = P.VAR_POSITIONAL if i.variadic else P.POSITIONAL_ONLY
        # An absent operand before a required one is given as None.
        last = all(p.default is None or p.kind is P.VAR_POSITIONAL for p in parameters)
        default = None if i.optional and not i.variadic and last else P.empty
        parameters.insert(0, P(i.name, kind, default=default))
    for name, a in op.attrs.items():
        default = P.empty if a.default is registry.REQUIRED else a.default
        parameters.append(P(name, P.KEYWORD_ONLY, default=default))
    return inspect.Signature(parameters)


def zeros_like(x: Array) -> Array:
    """Zeros of the type of `x`."""
    return x.b.scalar(0, x.dtype).expand(x.shape)


def ones_like(x: Array) -> Array:
    """Ones of the type of `x`."""
    return x.b.scalar(1, x.dtype).expand(x.shape)


def full_like(x: Array, value) -> Array:
    """`value` everywhere, in the type of `x`."""
    return x.b.like(value, x).expand(x.shape)


def reshape(x: Array, shape: Sequence) -> Array:
    """The same elements under another shape; one dim may be -1."""
    return x.reshape(tuple(shape))


def transpose(x: Array, perm: Sequence[int] | None = None) -> Array:
    """Axes in another order; reversed by default."""
    return x.transpose(*(() if perm is None else perm))


def stack(xs: Sequence[Array], *, axis: int = 0) -> Array:
    """Join equal shapes along a new axis."""
    rank = xs[0].rank + 1
    axis = axis % rank
    new = [x.reshape((*x.shape[:axis], 1, *x.shape[axis:])) for x in xs]
    return apply("concat", *new, axis=axis)


def square(x: Array) -> Array:
    """x * x"""
    return x * x


def one_hot(indices: Array, depth: int, *, axis: int = -1, dtype="f32") -> Array:
    """1 at each index, 0 elsewhere, along a new axis of size `depth`."""
    values = np.asarray([0, 1]).astype(dtype_of(dtype).numpy)
    return apply("one_hot", indices, values, depth=depth, axis=axis)


def take(x: Array, indices, *, axis: int = 0) -> Array:
    """Slices of `x` at `indices` along `axis` (numpy's name for gather)."""
    return apply("gather", x, indices, axis=axis)


def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
) -> Array:
    """softmax(q kᵀ * scale + mask) v over the last two axes: q [B,H,S,D], k [B,H,T,D], v [B,H,T,E].

    A boolean mask is true where a key counts; another one is added, and hides by -inf. With
    `is_causal` query i sees keys 0…i. A query that sees no key gives 0, and its gradients are 0.
    `scale` defaults to 1 / sqrt(D).
    """
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1])
    if mask is None:
        return apply("attention", q, k, v, scale=scale, is_causal=is_causal)
    b, boolean = find_tracer(q, k, v, mask), mask.dtype == BOOL
    mask = b.array(mask)
    if is_causal:
        shape = (q.shape[-2], k.shape[-2])
        row, column = (b.array(b.iota(shape=shape, axis=a, dtype="i64")) for a in (0, 1))
        past = row >= column
        mask = mask & past if boolean else apply("where", past, mask, -np.inf)
    # Queries without a key see all, so that no NaN arises, and give 0.
    if boolean:
        seen = apply("reduce_max", mask, axes=(-1,), keepdims=True)
        mask = mask | ~seen
    else:
        seen = apply("reduce_max", mask, axes=(-1,), keepdims=True) > -np.inf
        mask = apply("where", seen, mask, 0.0)
    y = apply("attention", q, k, v, mask, scale=scale, is_causal=False)
    return apply("where", seen, y, 0.0)


def _reduction(name: str, op: str) -> Callable:
    def function(x, axis=None, keepdims=False):
        if not isinstance(x, Tensor):
            raise TypeMismatch(f"{name} was called on no traced tensor", where=user_line())
        axes = range(x.rank) if axis is None else (axis,) if isinstance(axis, int) else axis
        return apply(op, x, axes=tuple(axes), keepdims=keepdims)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{op} as numpy's {name}: `axis` None means all."
    return function


for _op in list(registry.OPS.values()):
    if _op.name not in _NOT_FUNCTIONS and _op.name not in globals():
        _name = _RESERVED.get(_op.name, _op.name)
        globals()[_name] = _function(_op, _name)

for _name, _op in {
    "sum": "reduce_sum",
    "mean": "reduce_mean",
    "max": "reduce_max",
    "min": "reduce_min",
    "prod": "reduce_prod",
    "logsumexp": "reduce_log_sum_exp",
}.items():
    globals()[_name] = _reduction(_name, _op)


def __getattr__(name: str) -> Callable:
    """Ops that users have registered since."""
    if name.startswith("_") or name not in registry.OPS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _function(registry.get(name), name)


__all__ = sorted(
    n
    for n, f in globals().items()
    if inspect.isfunction(f)
    and not n.startswith("_")
    and f.__module__ == __name__
    and n not in ("signature", "user_line", "find_tracer")
)
