"""dft: the discrete Fourier transform along an axis, computed in f64.

    y[k] = sum_n x[n] e^(-2πi nk/N)          inverse: e^(+…), divided by N

A number is two reals on the last axis. A transform of length N is written with products of small
constant matrices, whose sizes multiply to N:

    N = A B, n = B a + b, k = c + A d        (Cooley & Tukey 1965)
    y[c + A d] = sum_b w_B^(bd) · w_N^(bc) · sum_a w_A^(ac) x[B a + b]

Lengths with a large prime factor are a convolution with a chirp, by transforms whose length is a
power of two (Bluestein 1970): nk = (n² + k² - (k-n)²) / 2.
"""

import numpy as np

from ...errors import TypeMismatch
from ...ir.op import Attr, Expand, register
from ...ir.types import F64, normalize_axis
from ..common import FLOAT_SAMPLES, case, floats, through_expansion

DIRECT = 48  # lengths up to here are one product
PRIME = 192  # and so are lengths up to here that have no factor of at most DIRECT


def dft_shape(x, *, axis, length, inverse, onesided):
    axis = normalize_axis(axis, x.rank)
    if x.rank < 2 or axis == x.rank - 1 or x.shape[-1] not in (1, 2):
        raise TypeMismatch(
            "dft takes [..., 1] or [..., 2], real and imaginary parts on the last axis",
            expected="an axis that is not the last one",
            received=f"{x}, axis={axis}",
        )
    if onesided and (x.shape[-1] == 1) == inverse:
        kind = "complex" if inverse else "real"
        raise TypeMismatch(f"a one-sided dft of this direction takes {kind} numbers", received=x)
    if isinstance(length, int) and length < 1:
        raise TypeMismatch("a dft needs a length of at least 1", received=length)
    size, parts = length, 2
    if onesided:
        size, parts = (length, 1) if inverse else (length // 2 + 1, 2)
    return (*x.shape[:axis], size, *x.shape[axis + 1 : -1], parts)


def dft_ref(x, *, axis, length, inverse, onesided):
    x = np.asarray(x)
    z = x[..., 0].astype(np.float64)
    if x.shape[-1] == 2:
        z = z + 1j * x[..., 1].astype(np.float64)
    axis = axis % x.ndim
    if 0 in z.shape[:axis] + z.shape[axis + 1 :]:
        size = length if inverse or not onesided else length // 2 + 1
        y = np.zeros((*z.shape[:axis], size, *z.shape[axis + 1 :]), complex)
    elif inverse and onesided:
        y = np.fft.irfft(z, length, axis)
    elif inverse:
        y = np.fft.ifft(z, length, axis)
    else:
        y = (np.fft.rfft if onesided else np.fft.fft)(z, length, axis)
    parts = [y] if inverse and onesided else [y.real, y.imag]
    return np.stack(parts, -1).astype(x.dtype)


# -- the plan: pure numbers ------------------------------------------------------------------


def split(n: int) -> tuple[int, int] | None:
    """Two factors of n, the first at most DIRECT and as near to the root as that allows; None if
    n is small enough to be done at once, or has none."""
    if n <= DIRECT:
        return None
    best = max((a for a in range(2, DIRECT + 1) if n % a == 0 and a * a <= n), default=None)
    return None if best is None else (best, n // best)


def roots(n: int, powers: np.ndarray) -> np.ndarray:
    """e^(-2πi p/n), the powers reduced first so that the angle keeps its digits."""
    angle = -2 * np.pi * (powers % n) / n
    return np.cos(angle) + 1j * np.sin(angle)


# -- other ops: complex numbers are pairs (re, im) of f64 [M, N]; im may be None -----


def _times(b, z, w: np.ndarray):
    """z times constants of a shape that broadcasts."""
    re, im = z
    u, v = b.constant(w.real.copy()), b.constant(w.imag.copy())
    if im is None:
        return re * u, re * v
    return re * u - im * v, re * v + im * u


def _product(b, z, w: np.ndarray):
    """z @ w, the real parts beside the imaginary ones: one real product."""
    re, im = z
    both = np.concatenate([w.real, w.imag], 1)
    rows = both if im is None else np.concatenate([both, np.concatenate([-w.imag, w.real], 1)], 0)
    x = re if im is None else b.concat(re, im, axis=-1)
    y, n = x @ b.constant(rows), w.shape[1]
    return y[..., :n], y[..., n:]


def _each(z, f):
    return tuple(None if part is None else f(part) for part in z)


def transform(b, z, n: int):
    """The forward transform of the rows of z: [M, n] to [M, n]."""
    parts = split(n)
    if parts is None and n > PRIME:
        return _bluestein(b, z, n)
    if parts is None:
        return _product(b, z, roots(n, np.outer(np.arange(n), np.arange(n))))
    first, second = parts
    m = z[0].shape[0]
    z = _each(z, lambda x: x.reshape(m, first, second).transpose(0, 2, 1))  # [M, b, a]
    z = _product(b, z, roots(first, np.outer(np.arange(first), np.arange(first))))  # [M, b, c]
    z = _times(b, z, roots(n, np.outer(np.arange(second), np.arange(first))))
    z = _each(z, lambda x: x.transpose(0, 2, 1).reshape(m * first, second))  # [M c, b]
    z = transform(b, z, second)  # [M c, d]
    return _each(z, lambda x: x.reshape(m, first, second).transpose(0, 2, 1).reshape(m, n))


def _bluestein(b, z, n: int):
    """y[k] = chirp[k] sum_n (x[n] chirp[n]) conj(chirp[k - n]),  chirp[n] = e^(-πi n²/N)."""
    size = 1 << (2 * n - 2).bit_length()
    k = np.arange(n)
    chirp = roots(2 * n, k * k)
    kernel = np.zeros(size, complex)
    kernel[:n] = chirp.conj()
    kernel[size - n + 1 :] = chirp[1:][::-1].conj()
    z = _times(b, z, chirp)
    z = _each(z, lambda x: b.pad(x, pads=(0, 0, 0, size - n)))
    re, im = _times(b, transform(b, z, size), np.fft.fft(kernel))
    # The inverse transform is the forward one with the parts exchanged, divided by its length.
    im, re = transform(b, (im, re), size)
    return _times(b, (re[..., :n], im[..., :n]), chirp / size)


def _fitted(b, x, axis: int, size: int):
    """x cut, or zeros appended, to `size` on an axis."""
    have = x.shape[axis]
    if have > size:
        return b.slice(x, axes=[axis], starts=[0], steps=[1], sizes=[size])
    if have < size:
        return b.pad(
            x, pads=tuple(size - have if d == x.rank + axis else 0 for d in range(2 * x.rank))
        )
    return x


def _dft(b, x, *, axis, length, inverse, onesided):
    axis, given = normalize_axis(axis, x.rank), x.dtype
    back = inverse and onesided
    x = _fitted(b, x.cast(F64), axis, length // 2 + 1 if back else length)
    z = (x[..., 0], x[..., 1] if x.shape[-1] == 2 else None)
    rank = x.rank - 1
    order = [*range(axis), *range(axis + 1, rank), axis]
    z = _each(z, lambda part: part.transpose(order))
    lead = z[0].shape[:-1]
    z = _each(z, lambda part: part.reshape(-1, part.shape[-1]))
    if back:
        z = _whole(b, z, length)
    if inverse:  # exchanging the parts before and after turns the direction
        re, im = z
        im = b.scalar(0, F64).expand(re.shape) if im is None else im
        im, re = transform(b, (im, re), length)
        z = (re * (1 / length), im * (1 / length))
    else:
        z = transform(b, z, length)
    if onesided:
        z = (z[0], None) if back else _each(z, lambda part: part[..., : length // 2 + 1])
    parts = [
        part.reshape(*lead, part.shape[-1]).transpose(*np.argsort(order).tolist()).cast(given)
        for part in z
        if part is not None
    ]
    parts = [part.reshape(*part.shape, 1) for part in parts]
    return parts[0] if len(parts) == 1 else b.concat(*parts, axis=-1)


def _whole(b, z, n: int):
    """The other half of a spectrum whose signal is real: y[n - k] = conj(y[k]).

    The imaginary parts of y[0] and y[n/2] count as 0.
    """
    re, im = z
    free = np.ones(n // 2 + 1)
    free[0] = 0
    if n % 2 == 0:
        free[-1] = 0
    im = im * b.constant(free)
    count = (n - 1) // 2
    if count == 0:
        return re, im
    mirrored = [b.reverse(part[..., 1 : count + 1], axes=(1,)) for part in (re, im)]
    return b.concat(re, mirrored[0], axis=-1), b.concat(im, -mirrored[1], axis=-1)


def _samples():
    for dtype in FLOAT_SAMPLES:
        yield case(floats((2, 6, 1), dtype=dtype), axis=1, length=6)
    for n in (1, 2, 7, 10, 60, 96, 97):
        yield case(floats((2, n, 2), n), axis=-2, length=n, atol=1e-5)
    yield case(floats((2, 10, 3, 1)), axis=1, length=10, onesided=True)
    yield case(floats((2, 9, 1)), axis=1, length=9, onesided=True)
    yield case(floats((2, 6, 2)), axis=1, length=10, onesided=True, inverse=True)
    yield case(floats((2, 5, 2)), axis=1, length=9, onesided=True, inverse=True)
    yield case(floats((3, 2)), axis=0, length=1, onesided=True, inverse=True)
    yield case(floats((7, 2, 2)), axis=0, length=7, inverse=True)
    yield case(floats((4, 1)), axis=0, length=6, inverse=True)
    yield case(floats((8, 1)), axis=0, length=5)
    yield case(floats((1, 211, 1)), axis=1, length=211, grad=False)
    yield case(floats((1, 500, 2), dtype="f64"), axis=1, length=500, atol=1e-9, grad=False)
    yield case(floats((0, 4, 1)), axis=1, length=4)


register(
    "dft",
    "x: T -> T",
    """The discrete Fourier transform of `length` numbers on `axis`, by fast transforms in f64.

    x [..., 1] (real) or [..., 2] (real and imaginary parts). x is cut or filled with zeros to the
    length. `onesided` gives the first length // 2 + 1 numbers of a real signal's spectrum, with
    `inverse` the real signal [..., 1] of such a half.
    """,
    attrs={
        "axis": Attr("int", -2),
        "length": Attr("dim"),
        "inverse": Attr("bool", False),
        "onesided": Attr("bool", False),
    },
    shape=dft_shape,
    ref=dft_ref,
    grad=through_expansion,
    loops=Expand(_dft),
    samples=_samples,
    group="composite",
    T="float",
)
