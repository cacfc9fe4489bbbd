"""Strassen's products: matrices in quarters, of which seven products are taken instead of eight.

    p1 = (a11 + a22) (b11 + b22)     y11 = p1 + p4 - p5 + p7
    p2 = (a21 + a22) (-b11)          y12 = p3 + p5
    p3 = a11 (b12 - b22)             y21 = p4 - p2
    p4 = a22 (b21 - b11)             y22 = p1 + p2 + p3 + p6
    p5 = (a11 + a12) b22
    p6 = (a21 - a11) (b11 + b12)
    p7 = (a12 - a22) (b21 + b22)

After Strassen, "Gaussian Elimination is not Optimal" (1969). The factors of p5, p6 and p7 are that
of p1 plus those of p2, p3 and p4: four factors say as much as the four quarters, so weights take no
more memory than before (a change of basis, after Karstadt & Schwartz, "Matrix Multiplication, a
Little Faster" (2017)). Rows go to the quarters in turns (even ones to a1*, odd ones to a2*), and
columns by halves.

The rounding errors of sums grow about twofold, and they are small in relation to the largest of the
sums of a block of two rows and columns rather than to each sum itself (Higham, "Accuracy and
Stability of Numerical Algorithms" (2002), section 23.2.2).

The ops are made by `passes/cpu/strassen.py` for CPUs; their rules have to know, while compiling, in
which quarter an element lies (`expr/blocks.py`).
"""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...expr.blocks import part_of, place_in_block
from ...ir.bounds import assume_equal, assume_equal_shapes
from ...ir.op import Attr, NotDifferentiable, Pull, register
from ...ir.types import F32, F64
from ..common import case, floats, reference

# What of a each product takes, and what of b the first four do: {(row, column): sign} of quarters.
LEFT = (
    {(0, 0): 1, (1, 1): 1},
    {(1, 0): 1, (1, 1): 1},
    {(0, 0): 1},
    {(1, 1): 1},
    {(0, 0): 1, (0, 1): 1},
    {(1, 0): 1, (0, 0): -1},
    {(0, 1): 1, (1, 1): -1},
)
RIGHT = (
    {(0, 0): 1, (1, 1): 1},
    {(0, 0): -1},
    {(0, 1): 1, (1, 1): -1},
    {(1, 0): 1, (0, 0): -1},
)
# The products that each quarter of the output sums.
SUMS = {
    (0, 0): {0: 1, 3: 1, 4: -1, 6: 1},
    (0, 1): {2: 1, 4: 1},
    (1, 0): {3: 1, 1: -1},
    (1, 1): {0: 1, 1: 1, 2: 1, 5: 1},
}
PRODUCTS, STORED = len(LEFT), len(RIGHT)


def right_factors(w: np.ndarray) -> np.ndarray:
    """The factors of the first four products of a weight [K, N], K even: [4, K/2, ceil(N/2)]. An
    odd last column has a partner of zeros."""
    k, n = w.shape[0] // 2, -(-w.shape[1] // 2)
    if w.shape[1] % 2:
        w = np.pad(w, ((0, 0), (0, 1)))
    out = np.empty((STORED, k, n), w.dtype)
    for total, factor in zip(out, RIGHT):
        quarters = [w[r * k :, c * n :][:k, :n] for r, c in factor]
        combine = {(-1,): np.negative, (1, 1): np.add, (1, -1): np.subtract}
        combine[tuple(factor.values())](*quarters, out=total)
    return out


def signed_sum(terms):
    """The sum of (sign, array or tensor); the first sign is 1."""
    (_, total), *rest = terms
    for sign, x in rest:
        total = total + x if sign == 1 else total - x
    return total


# -- left factors --------------------------------------------------------------------------


def strassen_input_shape(x):
    if x.rank < 2 or not assume_equal(x.shape[-1] % 2, 0):
        raise TypeMismatch("strassen_input: x needs [..., M, K] with an even K", received=x)
    *outer, m, k = x.shape
    return (PRODUCTS, *outer, -(-m // 2), k // 2)


def strassen_input_ref(x):
    if x.shape[-2] % 2:
        x = np.concatenate([x, np.zeros_like(x[..., :1, :])], -2)
    half = x.shape[-1] // 2
    quarter = {(r, c): x[..., r::2, c * half : (c + 1) * half] for r in (0, 1) for c in (0, 1)}
    return np.stack([signed_sum([(sign, quarter[q]) for q, sign in f.items()]) for f in LEFT])


def _input(out, x):
    *_, rows, columns = x.shape

    def at(p, *index):
        *outer, i, j = index
        factor = LEFT[place_in_block(p, PRODUCTS)]

        def quarter(r, c):
            row, column = i * 2 + r, j + c * (columns // 2)
            if r == 0 or rows % 2 == 0:
                return x[(*outer, row, column)]
            last = s.const(rows - 1)
            value = x[(*outer, s.minimum(row, last), column)]
            return s.select(s.compare("le", row, last), value, s.const(0.0, value.dtype))

        return signed_sum([(sign, quarter(*q)) for q, sign in factor.items()])

    return at


register(
    "strassen_input",
    "x: T -> T",
    """The left factors of Strassen's seven products: x [..., M, K] to [7, ..., ceil(M/2), K/2].
    An odd last row has a partner of zeros.""",
    shape=strassen_input_shape,
    ref=reference(strassen_input_ref),
    grad=NotDifferentiable("made for the CPU after gradients have been taken"),
    loops=Pull(_input),
    samples=lambda: [case(floats((2, 4, 6))), case(floats((5, 34)))],
    group="strassen",
    T={F32, F64},
)


# -- products ------------------------------------------------------------------------------


def strassen_product_shape(a, w):
    fits = a.rank >= 3 and w.rank == 3 and (a.shape[0], w.shape[0]) == (PRODUCTS, STORED)
    if not fits or not assume_equal(a.shape[-1], w.shape[1]):
        raise TypeMismatch(
            "strassen_product: the factors do not fit",
            expected=f"[{PRODUCTS}, ..., M, K] and [{STORED}, K, N]",
            received=f"{a} and {w}",
        )
    return (*a.shape[:-1], w.shape[-1])


def strassen_product_ref(a, w):
    factors = np.concatenate([w, w[0] + w[1:]])
    return np.matmul(a, factors.reshape(PRODUCTS, *[1] * (a.ndim - 3), *w.shape[1:]))


def _product(out, a, w):
    def at(p, *index):
        *outer, i, j = index

        def factor(k):
            stored, added = (w[(p + d) % STORED, k, j] for d in (0, 1))
            return s.select(p < STORED, stored, w[s.const(0), k, j] + added)

        return s.reduce_sum([a.shape[-1]], lambda k: a[(p, *outer, i, k)] * factor(k))

    return at


register(
    "strassen_product",
    "a: T, w: T -> T",
    """Seven matrix products: a [7, ..., M, K] by w[0], w[1], w[2], w[3], w[0] + w[1], w[0] + w[2]
    and w[0] + w[3]; w is [4, K, N].""",
    shape=strassen_product_shape,
    ref=reference(strassen_product_ref),
    grad=NotDifferentiable("made for the CPU after gradients have been taken"),
    loops=Pull(_product),
    samples=lambda: [
        case(floats((7, 5, 6)), floats((4, 6, 9)), rtol=1e-4, atol=1e-5),
        case(floats((7, 2, 3, 40)), floats((4, 40, 33)), rtol=1e-4, atol=1e-5),
    ],
    group="contract",
    T={F32, F64},
)


# -- outputs -------------------------------------------------------------------------------


def strassen_output_shape(p, *, sizes):
    rows, columns = sizes
    halves = (-(-rows // 2), -(-columns // 2))
    if p.rank < 3 or p.shape[0] != PRODUCTS or not assume_equal_shapes(p.shape[-2:], halves):
        raise TypeMismatch(
            "strassen_output: the products do not fit the output",
            expected=f"[{PRODUCTS}, ..., {halves[0]}, {halves[1]}]",
            received=p,
        )
    return (*p.shape[1:-2], rows, columns)


def strassen_output_ref(p, *, sizes):
    _, *outer, rows, columns = p.shape
    y = np.empty((*outer, rows, 2, 2, columns), p.dtype)
    for (r, c), sums in SUMS.items():
        y[..., r, c, :] = signed_sum([(sign, p[q]) for q, sign in sums.items()])
    return y.reshape(*outer, 2 * rows, 2 * columns)[..., : sizes[0], : sizes[1]]


def _output(out, p, *, sizes):
    half = -(-sizes[1] // 2)

    def at(*index):
        *outer, i, j = index
        quarter = place_in_block(i, 2), part_of(j, half)
        row, column = i // 2, j - quarter[1] * half
        return signed_sum(
            [(sign, p[(q, *outer, row, column)]) for q, sign in SUMS[quarter].items()]
        )

    return at


register(
    "strassen_output",
    "p: T -> T",
    """Sums of Strassen's seven products: p [7, ..., ceil(M/2), ceil(N/2)] to [..., M, N].""",
    attrs={"sizes": Attr("ints", doc="M and N")},
    shape=strassen_output_shape,
    ref=reference(strassen_output_ref),
    grad=NotDifferentiable("made for the CPU after gradients have been taken"),
    loops=Pull(_output),
    samples=lambda: [
        case(floats((7, 2, 2, 3)), sizes=(4, 6)),
        case(floats((7, 3, 17)), sizes=(5, 33)),
    ],
    group="strassen",
    T={F32, F64},
)
