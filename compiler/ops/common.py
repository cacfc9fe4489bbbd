"""What op records share: sample makers, numpy helpers, small pieces of gradient rules.

Samples: `floats`, `ints`, `bools` make arrays from a seed; `case(*inputs, **attrs)` makes a
`Sample` whose tolerance follows from the narrowest float among its inputs.

References: `@reference` makes a numpy function an oracle: half types are computed in f32 and
rounded once at the end, numpy's warnings are off, scalars come back as arrays.

Dims: references know numbers only. What ops give for arrays of symbols is `dim_arrays.py`'s; moves
take any elements, symbols too.
"""

import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..autodiff.rules import sum_to, summed_axes, through_expansion, zeros_like
from ..errors import TypeMismatch
from ..ir import dims
from ..ir.bounds import assume_equal, assume_equal_shapes
from ..ir.op import NotDifferentiable, Sample
from ..ir.types import BF16, F16, F32, F64, TensorType, broadcast, dtype_of, normalize_axis

FLOAT_SAMPLES = (F32, F64, F16, BF16)
STEP = NotDifferentiable("piecewise constant: the gradient is zero almost everywhere", zero=True)
_RTOL = {F64: 1e-9, F32: 1e-5, F16: 2e-3, BF16: 1.6e-2}


# -- samples -------------------------------------------------------------------------------


def floats(shape, seed=0, low=-2.0, high=2.0, dtype=F32) -> np.ndarray:
    """Uniform numbers of [low, high)."""
    values = np.random.default_rng(seed).uniform(low, high, shape)
    return np.asarray(values).astype(dtype_of(dtype).numpy)


def ints(shape, seed=0, low=-9, high=10, dtype="i64") -> np.ndarray:
    """Uniform ints of [low, high); unsigned types start at 0."""
    dtype = dtype_of(dtype)
    low = max(low, 0) if dtype.kind == "u" else low
    return np.asarray(np.random.default_rng(seed).integers(low, high, shape)).astype(dtype.numpy)


def bools(shape, seed=0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).integers(0, 2, shape)).astype(bool)


def array(values, dtype=F32) -> np.ndarray:
    """`values` as an array of a tessel dtype."""
    return np.asarray(values).astype(dtype_of(dtype).numpy)


def spaced(shape, seed=0, step=0.125, dtype=F32) -> np.ndarray:
    """Distinct multiples of `step` in random order: no ties, far from kinks at 0."""
    n = int(np.prod(shape, dtype=np.int64))
    values = np.random.default_rng(seed).permutation(n) - n // 2
    return ((values + 0.5) * step).reshape(shape).astype(dtype_of(dtype).numpy)


def case(*inputs, grad=True, rtol=None, atol=None, **attrs) -> Sample:
    """A Sample; tolerances default to what the narrowest float among the inputs allows."""
    kinds = [dtype_of(x) for x in inputs if x is not None and dtype_of(x).is_float]
    expected = max((_RTOL.get(d, 0.13) for d in kinds), default=1e-5)
    rtol = expected if rtol is None else rtol
    return Sample(inputs, attrs, rtol=rtol, atol=rtol / 10 if atol is None else atol, grad=grad)


# -- references ----------------------------------------------------------------------------


def reference(f: Callable) -> Callable:
    """An oracle of `f`: half types computed in f32, no numpy warnings, results are arrays."""

    @functools.wraps(f)
    def ref(*inputs, **attrs):
        narrow = None
        wide = []
        for x in inputs:
            x = None if x is None else np.asarray(x)
            d = None if x is None or x.dtype == object else dtype_of(x)
            if d is not None and d.is_float and d.bits < 32:
                narrow = d.numpy
                x = x.astype(np.float32)
            wide.append(x)
        with np.errstate(all="ignore"):
            results = f(*wide, **attrs)
            many = isinstance(results, (tuple, list))
            results = [np.asarray(r) for r in (results if many else [results])]
            if narrow is not None:
                results = [r.astype(narrow) if r.dtype == np.float32 else r for r in results]
        return tuple(results) if many else results[0]

    return ref


def to_int64(x) -> np.ndarray:
    """An array of dims as int64 (or bool), where no symbol is left in it."""
    x = np.asarray(x, dtype=object)
    if any(isinstance(v, dims.Sym) for v in x.flat):
        return x
    return x.astype(bool if x.size and all(isinstance(v, bool) for v in x.flat) else np.int64)


# -- shapes and gradients ------------------------------------------------------------------


def require_shape(op: str, label: str, t: TensorType | None, *shapes: Sequence) -> None:
    """Raise TypeMismatch unless an operand (or none) can have one of these shapes.

    Where sizes decide, the first one that is possible is assumed.
    """
    if t is None or any(assume_equal_shapes(t.shape, shape) for shape in shapes):
        return
    raise TypeMismatch(
        f"{op}: {label} has the wrong shape",
        expected=" or ".join(f"[{','.join(map(str, shape))}]" for shape in shapes),
        received=t,
    )


def require_broadcast(op: str, label: str, t: TensorType | None, shape: Sequence) -> None:
    """Raise TypeMismatch unless an operand (or none) broadcasts to `shape` without widening it."""
    if t is None:
        return
    pairs = zip(t.shape[::-1], tuple(shape)[::-1])
    if t.rank > len(shape) or not all(d == 1 or assume_equal(d, e) for d, e in pairs):
        raise TypeMismatch(
            f"{op}: {label} does not broadcast to what it belongs to",
            expected=f"[{','.join(map(str, shape))}]",
            received=t,
        )


def require_elements(op: str, x: TensorType, axes: Iterable[int], wanted) -> None:
    """Raise TypeMismatch where `wanted` elements are made of axes of x that have none."""
    if any(x.shape[a] == 0 for a in axes) and not isinstance(wanted, dims.Sym) and wanted:
        raise TypeMismatch(f"{op}: there are no elements to read", received=x)


def same_shape(x: TensorType, *_, **__) -> tuple:
    return x.shape


def broadcast_shape(*types, **_) -> tuple:
    return broadcast(*[t.shape for t in types if t is not None])


def scalar_of_dim(b, n, dtype):
    """A dim as a scalar tensor: a constant, or computed where it is symbolic."""
    if isinstance(n, dims.Sym):
        return b.dims(values=(n,)).reshape(()).cast(dtype)
    return b.scalar(n, dtype)


def along_axis(x, axis: int, **_) -> tuple:
    """The shape of x, of an op along one of its axes. Raises TypeMismatch for no axis of it."""
    normalize_axis(axis, x.rank)
    return x.shape


def mask(condition, x):
    """`x` where the condition holds, else zero."""
    return x.b.where(condition, x, x.b.scalar(0, x.dtype))


def wide(x):
    """`x` in its compute type: f32 for half types."""
    return x.cast(x.dtype.compute)


def dynamic_quantize(x):
    """f32 as bytes in the range that it has, 0 included: (q, scale, zero point)."""
    b, nothing = x.b, x.b.scalar(0, F32)
    low = b.emit("reduce_min", x, axes=tuple(range(x.rank)), keepdims=False)
    high, low = b.maximum(x.max(), nothing), b.minimum(low, nothing)
    scale = b.where(b.equal(high, low), b.scalar(1, F32), (high - low) / 255.0)
    zero = b.clip(b.round((nothing - low) / scale), nothing, b.scalar(255, F32)).cast("u8")
    return b.quantize_linear(x, scale, zero, axis=0, dtype="u8"), scale, zero


__all__ = [
    "FLOAT_SAMPLES",
    "STEP",
    "along_axis",
    "array",
    "bools",
    "broadcast_shape",
    "case",
    "dynamic_quantize",
    "floats",
    "ints",
    "mask",
    "reference",
    "require_broadcast",
    "require_elements",
    "require_shape",
    "same_shape",
    "scalar_of_dim",
    "spaced",
    "sum_to",
    "summed_axes",
    "through_expansion",
    "to_int64",
    "wide",
    "zeros_like",
]
