"""det: determinants of square matrices, by elimination with partial pivoting.

    for each column k: the row with the largest |a[i, k]|, i >= k, changes places with row k (which
    turns the sign); rows below lose the multiple of it that clears their column k.
    det = the product of the pivots, with the sign.

Source: Golub & Van Loan, Matrix Computations, 3.4. Up to three rows the products are written out.
"""

import numpy as np

from ...errors import TypeMismatch
from ...ir import dims
from ...ir.bounds import assume_equal
from ...ir.builder import Builder
from ...ir.op import Expand, register
from ...ir.types import I64, TensorType
from ..common import FLOAT_SAMPLES, array, case, floats, reference, through_expansion, wide


def det_shape(x):
    if x.rank < 2 or not assume_equal(*x.shape[-2:]):
        raise TypeMismatch("det takes square matrices", expected="[…,n,n]", received=x)
    return x.shape[:-2]


def _det_ref(x):
    y = np.linalg.det(x.astype(np.float64))
    return np.asarray(y).astype(x.dtype)


def _small(b, x, n: int):
    """Up to three rows: the sum over permutations."""
    a = [[x[..., i, j] for j in range(n)] for i in range(n)]
    if n == 1:
        return a[0][0]
    if n == 2:
        return a[0][0] * a[1][1] - a[0][1] * a[1][0]
    minors = [a[1][j - 2] * a[2][j - 1] - a[1][j - 1] * a[2][j - 2] for j in range(3)]
    return a[0][0] * minors[0] + a[0][1] * minors[1] + a[0][2] * minors[2]


def _step(m: int, n: int, dtype):
    """(a [M,n,n], sign and product [M], k) → the same after column k."""
    b = Builder(name="eliminate")
    a = b.input("a", TensorType(dtype, (m, n, n)))
    det = b.input("det", TensorType(dtype, (m,)))
    k = b.input("k", TensorType(I64, ()))
    row = b.iota(shape=(1, n), axis=1, dtype=I64)
    column = b.gather(a, k, axis=2)
    size = b.where(row >= k, b.abs(column), b.scalar(-1, dtype))
    at = b.arg_max(size, axis=1, keepdims=True)  # [M,1]
    matrix = b.iota(shape=(m, 1), axis=0, dtype=I64)
    chosen = b.gather_points(a, matrix, at, axes=(0, 1), lead=2)  # [M,1,n]
    pivot = b.gather_elements(column, at, axis=1)
    here = b.gather(a, k, axis=1).reshape(m, 1, n)
    rows = row.reshape(1, n, 1)
    a = b.where(b.equal(rows, at.reshape(m, 1, 1)), here, a)
    a = b.where(b.equal(rows, k), chosen, a)
    one = b.scalar(1, dtype)
    divisor = b.where(b.equal(pivot, b.scalar(0, dtype)), one, pivot)
    factor = b.gather(a, k, axis=2) / divisor
    factor = b.where(row > k, factor, b.scalar(0, dtype)).reshape(m, n, 1)
    turned = b.where(b.equal(at, k), one, b.scalar(-1, dtype)) * pivot
    b.output("a", a - factor * chosen)
    b.output("det", det * turned.reshape(m))
    return b.graph


def _det(b, x):
    given, n, lead = x.dtype, x.shape[-1], x.shape[:-2]
    x = wide(x)
    if isinstance(n, int) and n == 0:
        return b.scalar(1, given).expand(lead)
    if isinstance(n, int) and n <= 3:
        return _small(b, x, n).cast(given)
    m = dims.prod(lead)
    a = x.reshape(m, n, n)
    ones = b.scalar(1, x.dtype).expand((m,))
    steps = b.iota(shape=(n,), axis=0, dtype=I64)
    _, y = b.scan(a, ones, steps, body=_step(m, n, x.dtype), states=2, scans=1)
    return y.reshape(*lead).cast(given)


register(
    "det",
    "x: T -> T",
    "The determinants of matrices [..., n, n].",
    shape=det_shape,
    ref=reference(_det_ref),
    grad=through_expansion,
    loops=Expand(_det),
    samples=lambda: [
        *(case(floats((2, n, n), n), atol=1e-5) for n in (1, 2, 3, 4, 6)),
        *(case(floats((3, 3), dtype=d), rtol=1e-2) for d in FLOAT_SAMPLES),
        case(floats((2, 2, 5, 5), dtype="f64")),
        case(array([[0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 3], [0, 0, 4, 0]])),
        case(np.ones((4, 4), np.float32), grad=False),
        case(floats((3, 0, 0))),
        case(floats((0, 2, 2))),
    ],
    group="composite",
    T="float",
)
