"""Matrix products: matmul, gemm, matmul_integer."""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.bounds import assume_equal
from ...ir.op import Attr, Expand, NotDifferentiable, Pull, register
from ...ir.types import FLOATS, I8, I16, I32, I64, U8, U32, U64, broadcast
from ..common import (
    case,
    floats,
    ints,
    reference,
    require_broadcast,
    require_shape,
    through_expansion,
)
from .windows import accumulator

MULTIPLIED = FLOATS | {I32, I64, U32, U64}


def matmul_shape(a, b, *_):
    """Numpy's rule: a 1-D operand is a row (left) or a column (right), dropped afterwards."""
    if a.rank == 0 or b.rank == 0:
        raise TypeMismatch("matmul needs at least one axis", received=f"{a} and {b}")
    inner = b.shape[-2] if b.rank > 1 else b.shape[0]
    if not assume_equal(a.shape[-1], inner):
        raise TypeMismatch(
            "the inner sizes of a matrix product differ",
            expected=f"{a.shape[-1]} rows on the right",
            received=f"{a} and {b}",
        )
    batch = broadcast(a.shape[:-2], b.shape[:-2])
    return (*batch, *a.shape[-2:-1], *(b.shape[-1:] if b.rank > 1 else ()))


def _product(out, a, b, read_a, read_b, acc):
    """out[…, m, n] = sum_k a[…, m, k] * b[…, k, n]"""
    rank_a, rank_b = len(a.shape), len(b.shape)

    def batch(i, shape):
        lead = i[len(i) - (len(shape) - 2) :] if len(shape) > 2 else ()
        return tuple(s.const(0) if d == 1 else j for j, d in zip(lead, shape))

    def at(*i):
        i, row, column = list(i), (), ()
        if rank_b > 1:
            column = (i.pop(),)
        if rank_a > 1:
            row = (i.pop(),)
        return s.reduce(
            "sum",
            [a.shape[-1]],
            lambda k: (
                s.cast(read_a(*batch(i, a.shape), *row, k), acc)
                * s.cast(read_b(*batch(i, b.shape), k, *column), acc)
            ),
            acc,
        )

    return at


def matmul_grad(c, dy):
    """da = dy @ b.T, db = a.T @ dy, with 1-D operands as a row and a column."""
    a, b = c.inputs
    row = a.reshape(1, *a.shape) if a.rank == 1 else a
    column = b.reshape(*b.shape, 1) if b.rank == 1 else b
    if b.rank == 1:
        dy = dy.reshape(*dy.shape, 1)
    if a.rank == 1:
        dy = dy.reshape(*dy.shape[:-1], 1, dy.shape[-1])
    da = dy @ _swap(column)
    db = _swap(row) @ dy
    if a.rank == 1:
        da = da.reshape(*da.shape[:-2], da.shape[-1])
    if b.rank == 1:
        db = db.reshape(db.shape[:-1])
    return [da, db]


def _swap(x):
    return x.transpose(*range(x.rank - 2), x.rank - 1, x.rank - 2)


register(
    "matmul",
    "a: T, b: T -> T",
    "Matrix product with numpy's rules: leading axes are batches and broadcast.",
    shape=matmul_shape,
    ref=reference(np.matmul),
    grad=matmul_grad,
    loops=Pull(
        lambda out, a, b: _product(
            out, a, b, lambda *i: a[i], lambda *i: b[i], accumulator(a.dtype)
        )
    ),
    samples=lambda: [
        case(floats((3, 4)), floats((4, 5), seed=1)),
        case(floats((2, 3, 4)), floats((2, 4, 5), seed=1)),
        case(floats((2, 1, 3, 4)), floats((3, 4, 2), seed=1)),
        case(floats((4,)), floats((4, 5), seed=1)),
        case(floats((2, 3, 4)), floats((4,), seed=1)),
        case(floats((4,)), floats((2, 4, 3), seed=1)),
        case(floats((4,)), floats((4,), seed=1)),
        case(floats((1, 1)), floats((1, 3), seed=1)),
        case(floats((2, 0)), floats((0, 3), seed=1)),
        case(floats((3, 4), dtype="f64"), floats((4, 2), seed=1, dtype="f64")),
        case(floats((3, 4), dtype="f16"), floats((4, 2), seed=1, dtype="f16"), atol=5e-3),
        case(floats((3, 4), dtype="bf16"), floats((4, 2), seed=1, dtype="bf16"), atol=5e-2),
        case(ints((3, 4)), ints((4, 2), seed=1)),
        case(ints((3, 4), dtype="i32"), ints((2, 4, 2), seed=1, dtype="i32")),
    ],
    group="contract",
    T=MULTIPLIED,
)


def gemm_shape(a, b, c=None, *, alpha, beta, trans_a, trans_b):
    if a.rank != 2 or b.rank != 2:
        raise TypeMismatch("gemm multiplies matrices", received=f"{a} and {b}")
    left = a.with_shape(a.shape[::-1]) if trans_a else a
    right = b.with_shape(b.shape[::-1]) if trans_b else b
    shape = matmul_shape(left, right)
    if c is not None and len(broadcast(c.shape, shape)) != 2:
        raise TypeMismatch("c of gemm does not broadcast to the product", received=c)
    return shape


def _gemm(b, x, y, c=None, *, alpha, beta, trans_a, trans_b):
    product = b.matmul(_swap(x) if trans_a else x, _swap(y) if trans_b else y)
    if alpha != 1:
        product = product * alpha
    if c is None or beta == 0:
        return product
    return product + (c if beta == 1 else c * beta)


def gemm_ref(a, b, c=None, *, alpha, beta, trans_a, trans_b):
    product = np.matmul(a.T if trans_a else a, b.T if trans_b else b)
    result = np.asarray(alpha, product.dtype) * product
    return result if c is None else result + np.asarray(beta, c.dtype) * c


register(
    "gemm",
    "a: T, b: T, c: T? -> T",
    "alpha * a @ b + beta * c, with a or b transposed on request; c broadcasts.",
    attrs={
        "alpha": Attr("float", 1.0),
        "beta": Attr("float", 1.0),
        "trans_a": Attr("bool", False),
        "trans_b": Attr("bool", False),
    },
    shape=gemm_shape,
    ref=reference(gemm_ref),
    grad=through_expansion,
    loops=Expand(_gemm),
    samples=lambda: [
        case(floats((3, 4)), floats((4, 5), seed=1)),
        case(floats((3, 4)), floats((5, 4), seed=1), floats((5,), seed=2), trans_b=True),
        case(
            floats((4, 3)),
            floats((4, 5), seed=1),
            floats((3, 1), seed=2),
            trans_a=True,
            alpha=0.5,
            beta=2.0,
        ),
        case(floats((2, 2), dtype="f64"), floats((2, 3), dtype="f64"), floats((), dtype="f64")),
    ],
    group="contract",
    T=MULTIPLIED,
)

# -- integers ------------------------------------------------------------------------------


def zero_column(x, zero):
    """A zero point of `x`'s rows ([M] beside [M, K]) as a column, for numpy."""
    return zero[..., None] if zero.ndim == 1 and zero.size > 1 else zero


def matmul_integer_shape(a, b, a_zero=None, b_zero=None):
    """A zero point with one axis is per row of a, or per column of b; with more it broadcasts."""
    for label, t, zero, one in (("a_zero", a, a_zero, -2), ("b_zero", b, b_zero, -1)):
        if zero is None or zero.rank == 0:
            continue
        if zero.rank > 1:
            require_broadcast("matmul_integer", label, zero, t.shape)
        else:
            each = [(t.shape[one],)] if t.rank > 1 else []
            require_shape("matmul_integer", label, zero, *each, (1,))
    return matmul_shape(a, b)


def matmul_integer_ref(a, b, a_zero=None, b_zero=None):
    a, b = a.astype(np.int64), b.astype(np.int64)
    if a_zero is not None:
        a = a - zero_column(a, a_zero.astype(np.int64))
    if b_zero is not None:
        b = b - b_zero.astype(np.int64)
    return np.asarray(np.matmul(a, b)).astype(np.int32)


def _matmul_integer(out, a, b, a_zero=None, b_zero=None):
    """Zero points are scalars, or one per row of a, one per column of b."""

    def less_zero(x, zero, which):
        def read(*i):
            value = s.cast(x[i], I32)
            if zero is None:
                return value
            if len(zero.shape) < 2:
                at = (s.minimum(i[which], zero.shape[0] - 1),) if zero.shape else ()
            else:
                lead = i[len(i) - len(zero.shape) :]
                at = tuple(s.const(0) if d == 1 else j for j, d in zip(lead, zero.shape))
            return value - s.cast(zero[at], I32)

        return read

    return _product(out, a, b, less_zero(a, a_zero, -2), less_zero(b, b_zero, -1), I32)


register(
    "matmul_integer",
    "a: A, b: B, a_zero: A?, b_zero: B? -> i32",
    """(a - a_zero) @ (b - b_zero) of 8-bit integers in i32, which wraps around. Factors of 16 bits
    are those that passes make for the CPU.

    A zero point is a scalar, one per row of a or per column of b, or shaped to broadcast.
    """,
    shape=matmul_integer_shape,
    ref=matmul_integer_ref,
    grad=NotDifferentiable("integers have no gradient"),
    loops=Pull(_matmul_integer),
    samples=lambda: [
        case(ints((3, 4), high=200, dtype="u8"), ints((4, 5), seed=1, dtype="i8")),
        case(
            ints((2, 3, 4), high=255, dtype="u8"),
            ints((4, 5), seed=1, low=-128, dtype="i8"),
            np.uint8(7),
            np.int8(-3),
        ),
        case(
            ints((3, 4), dtype="i8"),
            ints((4, 2), seed=1, dtype="i8"),
            ints((3,), dtype="i8"),
            ints((2,), seed=3, dtype="i8"),
        ),
    ],
    group="contract",
    A={I8, U8, I16},
    B={I8, U8, I16},
)
