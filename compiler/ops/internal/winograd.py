"""Winograd's minimal filtering: 3 x 3 convolutions of stride 1 with fewer products.

F(t, 3) computes t outputs of a 3-tap filter from a = t + 2 inputs with a products instead of 3 t:

    y = Aᵗ [(G g) ⊙ (Bᵗ d)]            d: a inputs, g: 3 taps, y: t outputs

and, nested, blocks of t x t outputs with a² products instead of 9 t²: 16 of 36 for t = 2, 36 of 144
for t = 4. Summed over channels, the products are a² matrix products of blocks by channels. After
Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (2016); matrices by Toom-Cook at
the points 0, ±p, ±2p, … and infinity. p = 3/4 for t = 4 keeps the largest rounding error of a sum
near 1e-6 of the output's scale, some ten times that of the plain sum (p = 1: near 5e-6); after
Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural
Networks" (2020).

Integers are exact: with the points 0, ±1, ±2 and infinity all three matrices are whole numbers once
A or G is multiplied by L = 2 or 24, so that a block's sums are L² y. Sums of 32 bits wrap around
and the division by L² is exact all the same, by the inverse of its odd part and a shift, as long as
y needs no more bits than the shift leaves (`whole_limit`).

The ops are made by `cpu/winograd.py` and `cpu/winograd_integers.py` for CPUs; their
rules have to know, while compiling, where in its block an output lies (`expr/blocks.py`).
"""

from fractions import Fraction
from functools import cache

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...expr.blocks import place_in_block
from ...ir.bounds import assume_equal, assume_equal_shapes
from ...ir.op import Attr, NotDifferentiable, Pull, register
from ...ir.types import F32, F64, I16, I32
from ..common import case, floats, ints, reference

TAPS = 3
POINTS = {2: (Fraction(1),), 4: (Fraction(3, 4), Fraction(3, 2))}  # p of the pairs ±p


WHOLE_POINTS = {2: (1,), 4: (1, 2)}  # of integers
WHOLE_SCALE = {2: 2, 4: 24}  # L
WHOLE_END = {2: 1, 4: 3}  # what A has of L at infinity, where G would need more than 16 bits


def _polynomial(roots) -> list[Fraction]:
    """Coefficients of the product of (x - root), constant first."""
    c = [Fraction(1)]
    for root in roots:
        c = [low - root * high for low, high in zip([Fraction(0), *c], [*c, Fraction(0)])]
    return c


@cache
def matrices(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aᵗ [t, a], G [a, 3], Bᵗ [a, a] in f64, of F(t, 3)."""
    points = [Fraction(0)] + [q for p in POINTS[t] for q in (p, -p)]
    a_t, g, b_t = [], [], []
    for p in points:
        others = [q for q in points if q != p]
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        a_t.append([p**i for i in range(t)])
        g.append([p**i / scale for i in range(TAPS)])
        b_t.append([*_polynomial(others), Fraction(0)])
    a_t.append([Fraction(int(i == t - 1)) for i in range(t)])
    g.append([Fraction(int(i == TAPS - 1)) for i in range(TAPS)])
    b_t.append(_polynomial(points))
    return np.array(a_t, float).T, np.array(g, float), np.array(b_t, float)


@cache
def whole_matrices(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """L Aᵗ G and Bᵗ of integers: Aᵗ [t, a], G [a, 3], Bᵗ [a, a] in i64."""
    points = [0] + [q for p in WHOLE_POINTS[t] for q in (p, -p)]
    a_t, g, b_t = [], [], []
    for p in points:
        others = [q for q in points if q != p]
        scale = WHOLE_SCALE[t] // int(np.prod([p - q for q in others]))
        a_t.append([p**i for i in range(t)])
        g.append([scale * p**i for i in range(TAPS)])
        b_t.append([*map(int, _polynomial(others)), 0])
    end = WHOLE_END[t]
    a_t.append([end * (i == t - 1) for i in range(t)])
    g.append([WHOLE_SCALE[t] // end * (i == TAPS - 1) for i in range(TAPS)])
    b_t.append([*map(int, _polynomial(points))])
    return np.array(a_t).T, np.array(g), np.array(b_t)


def whole_limit(t: int) -> int:
    """The sums y that come out right: all below it in size."""
    return 1 << 31 - odd_and_shift(t)[1]


def odd_and_shift(t: int) -> tuple[int, int]:
    """L² as an odd number times a power of two: that number, and the power's exponent."""
    square = WHOLE_SCALE[t] ** 2
    shift = (square & -square).bit_length() - 1
    return square >> shift, shift


def whole_weights(w: np.ndarray, t: int) -> np.ndarray:
    """G w Gᵗ of integers [3, 3, C, O], in i64: [a·a, C, O]."""
    _, g, _ = whole_matrices(t)
    u = np.einsum("pi,qj,ijco->pqco", g, g, w.astype(np.int64))
    return u.reshape(-1, *w.shape[2:])


def weights(w: np.ndarray, t: int) -> np.ndarray:
    """G w Gᵗ of [3, 3, C, O], in f64: [a·a, C, O]."""
    _, g, _ = matrices(t)
    u = np.einsum("pi,qj,ijco->pqco", g, g, w.astype(np.float64))
    return u.reshape(-1, *w.shape[2:])


def _combine(row, values):
    """The sum of row[i] * values[i], in fused multiply-adds; None for zeros."""
    total = None
    for c, x in zip(row, values):
        if c == 0 or x is None:
            continue
        if total is None:
            total = x if c == 1 else x * (float(c) if x.dtype.is_float else int(c))
        elif x.dtype.is_int:
            total = total - x * int(-c) if c < 0 else total + x * int(c)
        else:
            total = total + x if c == 1 else s.apply("fma", x, s.lift(float(c), x), total)
    return total


def _pairs(t: int):
    """(position of +p, position of -p) for each pair of points."""
    return [(1 + 2 * i, 2 + 2 * i) for i in range(len(POINTS[t]))]


def _matrices_of(t: int, x):
    return (whole_matrices if x.dtype.is_int else matrices)(t)


def _input_row(t: int, p: int, d: list):
    """Bᵗ d at the point p: rows of ±p share their even and their odd half."""
    _, _, b_t = _matrices_of(t, d[0])
    for plus, minus in _pairs(t):
        if p in (plus, minus):
            even = [c if i % 2 == 0 else 0 for i, c in enumerate(b_t[plus])]
            odd = [c if i % 2 == 1 else 0 for i, c in enumerate(b_t[plus])]
            e, o = _combine(even, d), _combine(odd, d)
            return e + o if p == plus else e - o
    return _combine(b_t[p], d)


def _output_row(t: int, i: int, m: list):
    """Aᵗ m at output i: sums and differences of pairs are shared by outputs of equal parity."""
    a_t, _, _ = _matrices_of(t, m[0])
    values, row = [m[0]], [a_t[i][0]]
    for plus, minus in _pairs(t):
        values.append(m[plus] + m[minus] if i % 2 == 0 else m[plus] - m[minus])
        row.append(a_t[i][plus])
    return _combine([*row, a_t[i][-1]], [*values, m[-1]])


# -- inputs --------------------------------------------------------------------------------


def winograd_input_shape(x, *, tile):
    if x.rank != 4 or not all(assume_equal((d - 2) % tile, 0) for d in x.shape[1:3]):
        raise TypeMismatch(
            f"winograd_input: x needs [N, H, W, C] with whole blocks of {tile} + 2", received=x
        )
    n, h, w, c = x.shape
    a = tile + TAPS - 1
    return (a, a, n, (h - 2) // tile, (w - 2) // tile, c)


def winograd_input_ref(x, *, tile):
    _, _, b_t = (whole_matrices if x.dtype.kind == "i" else matrices)(tile)
    a = len(b_t)
    seen = np.lib.stride_tricks.sliding_window_view(x, (a, a), (1, 2))[:, ::tile, ::tile]
    return np.einsum("pi,qj,nyxcij->pqnyxc", b_t, b_t, seen.astype(b_t.dtype)).astype(x.dtype)


def _input(out, x, *, tile):
    a = tile + TAPS - 1

    # The places of a block share these: each is pulled once.
    @cache
    def window(j, k, n, y, i, c):
        return x[n, y * tile + j, i * tile + k, c]

    @cache
    def columns(p, *block):
        return [_input_row(tile, p, [window(j, k, *block) for j in range(a)]) for k in range(a)]

    def at(p, q, *block):
        p, q = place_in_block(p, a), place_in_block(q, a)
        return _input_row(tile, q, columns(p, *block))

    return at


register(
    "winograd_input",
    "x: T -> T",
    """Bᵗ d B of every block of `tile` x `tile` outputs: x [N, H, W, C], padded, to
    [a, a, N, H', W', C], H' and W' the number of blocks. Integers have to be of 8 bits, or
    differences of such.""",
    attrs={"tile": Attr("int", doc="outputs per block and axis, 2 or 4")},
    shape=winograd_input_shape,
    ref=reference(winograd_input_ref),
    grad=NotDifferentiable("made for the CPU after gradients have been taken"),
    loops=Pull(_input),
    samples=lambda: [
        case(floats((1, 4, 6, 5)), tile=2),
        case(floats((2, 10, 6, 17)), tile=4, rtol=1e-4, atol=1e-5),
        case(ints((1, 4, 6, 5), low=-255, high=256, dtype="i16"), tile=2),
        case(ints((2, 10, 6, 17), low=-255, high=256, dtype="i16"), tile=4),
    ],
    group="winograd",
    T={F32, F64, I16},
)


# -- outputs -------------------------------------------------------------------------------


def winograd_output_shape(m, *, tile, sizes):
    a = tile + TAPS - 1
    blocks = tuple(-(-d // tile) for d in sizes)
    if m.rank != 6 or m.shape[:2] != (a, a) or not assume_equal_shapes(m.shape[3:5], blocks):
        raise TypeMismatch(
            "winograd_output: the products do not fit the output",
            expected=f"[{a}, {a}, N, blocks of {tile} in {sizes}, O]",
            received=m,
        )
    return (m.shape[2], *sizes, m.shape[5])


def _whole_output(m: np.ndarray, tile: int) -> np.ndarray:
    """A block's sums of integers, of which 32 bits are kept, divided by L²."""
    a_t, _, _ = whole_matrices(tile)
    odd, shift = odd_and_shift(tile)
    y = np.einsum("ip,jq,pqnyxo->nyixjo", a_t, a_t, m.astype(np.int64))
    y = y.astype(np.uint32) * np.uint32(pow(odd, -1, 1 << 32))
    return y.view(np.int32) >> shift


def winograd_output_ref(m, *, tile, sizes):
    if m.dtype.kind == "i":
        y = _whole_output(m, tile)
    else:
        a_t, _, _ = matrices(tile)
        y = np.einsum("ip,jq,pqnyxo->nyixjo", a_t, a_t, m.astype(np.float64)).astype(m.dtype)
    n, h, t, w, _, o = y.shape
    return y.reshape(n, h * t, w * t, o)[:, : sizes[0], : sizes[1]]


def _output(out, m, *, tile, sizes):
    a = tile + TAPS - 1

    # The places of a block share these: each is pulled once.
    @cache
    def product(p, q, *block):
        return m[(p, q, *block)]

    @cache
    def columns(j, *block):
        return [_output_row(tile, j, [product(p, q, *block) for p in range(a)]) for q in range(a)]

    def at(n, y, x, o):
        j, k = place_in_block(y, tile), place_in_block(x, tile)
        return _divided(_output_row(tile, k, columns(j, n, y // tile, x // tile, o)), tile)

    return at


def _divided(total, tile: int):
    """What a block's sums are, without the L² of integers."""
    if total.dtype.is_float:
        return total
    odd, shift = odd_and_shift(tile)
    if odd != 1:
        inverse = pow(odd, -1, 1 << 32)
        total = total * (inverse - (inverse >> 31 << 32))
    return s.apply("shr", total, s.const(shift, total.dtype))


register(
    "winograd_output",
    "m: T -> T",
    """Aᵗ m A of every block: [a, a, N, H', W', O] to [N, *sizes, O]; of integers divided by L²,
    modulo 2³².""",
    attrs={"tile": Attr("int", doc="outputs per block and axis, 2 or 4"), "sizes": Attr("ints")},
    shape=winograd_output_shape,
    ref=reference(winograd_output_ref),
    grad=NotDifferentiable("made for the CPU after gradients have been taken"),
    loops=Pull(_output),
    samples=lambda: [
        case(floats((4, 4, 1, 2, 1, 5)), tile=2, sizes=(3, 2), rtol=1e-4, atol=1e-5),
        case(floats((6, 6, 2, 2, 1, 17)), tile=4, sizes=(8, 3), rtol=1e-4, atol=1e-5),
        case(ints((4, 4, 1, 2, 1, 5), low=-(10**8), high=10**8, dtype="i32"), tile=2, sizes=(3, 2)),
        case(
            ints((6, 6, 2, 2, 1, 17), low=-(10**8), high=10**8, dtype="i32"), tile=4, sizes=(8, 3)
        ),
    ],
    group="winograd",
    T={F32, F64, I32},
)
