"""Gradients of random compositions, forwards and backwards, against central differences in f64.

grad(f) · d  =  jvp(f, d)  =  (f(x + h d) - f(x - h d)) / 2h
"""

import numpy as np
import pytest
from tessel.frontends import native
from tessel.frontends.native import functional as F

from ...support.interpreted import Interpreted, grad, jit

H = 1e-6
# Of arrays [3,4] to [3,4], smooth and of moderate size.
ONE = {
    "tanh": F.tanh,
    "sin": F.sin,
    "sigmoid": F.sigmoid,
    "gelu": F.gelu,
    "softplus": F.softplus,
    "silu": F.silu,
    "square": lambda x: F.tanh(x) ** 2,
    "rsqrt": lambda x: F.rsqrt(x * x + 1),
    "log": lambda x: F.log(x * x + 1),
    "softmax": lambda x: F.softmax(x, axis=-1),
    "log_softmax": lambda x: F.log_softmax(x, axis=0) * 0.3,
    "layer_norm": lambda x: F.layer_norm(x * 2, axis=-1),
    "cumsum": lambda x: F.cumsum(F.tanh(x), axis=1),
    "cumprod": lambda x: F.cumprod(F.cos(x), axis=0),
    "reverse": lambda x: x[::-1, ::-1] * x,
    "gather": lambda x: x[np.array([2, 0, 2])] - x,
    "roll": lambda x: F.concat(x[:, 1:], x[:, :1], axis=1) * x,
    "centred": lambda x: x - x.mean(0, keepdims=True),
    "largest": lambda x: x - F.max(x, axis=1, keepdims=True) * 0.5,
    "product": lambda x: F.tanh(x @ x.T) @ x,
    "prod": lambda x: F.prod(F.sigmoid(x), axis=1, keepdims=True) + x,
    "scan": lambda x: native.scan(lambda c, r: ((c + r).sum() * 0.1 * r, F.sin(c)), x[0], x)[1],
    "checkpoint": native.checkpoint(lambda x: F.sin(x) * F.exp(-x * x)),
    "mask": lambda x: F.where(x > 0.3, x * 2, F.sin(x)),
}
TWO = {
    "add": lambda x, y: x + y,
    "mul": lambda x, y: x * F.tanh(y),
    "div": lambda x, y: x / (y * y + 1),
    "maximum": F.maximum,
    "outer": lambda x, y: F.tanh(x @ y.T) @ y,
    "attention": lambda x, y: F.attention(
        *(t.reshape((1, 1, 3, 4)) for t in (x, y, x)), scale=0.5
    ).reshape((3, 4)),
    "pow": lambda x, y: (x * x + 0.5) ** F.sigmoid(y),
}


def composition(seed):
    """A function of x and w, both [3,4], and how it is made: each step reads earlier values."""
    rng = np.random.default_rng(seed)
    steps = []
    for n in range(2, 2 + rng.integers(3, 8)):
        table = ONE if rng.random() < 0.6 else TWO
        name = str(rng.choice(list(table)))
        steps.append((name, table[name], rng.integers(max(0, n - 3), n, 1 if table is ONE else 2)))

    def f(x, w):
        values = [x, w]
        for _, step, reads in steps:
            values.append(step(*(values[i] for i in reads)))
        return (values[-1] * F.sin(values[-2] + 1)).mean() + values[-1].sum() * 0.1

    return f, [(name, reads.tolist()) for name, _, reads in steps]


@pytest.mark.sweep(12, suite=60)
@pytest.mark.parametrize("seed", range(240))
def test_a_composition_has_its_gradient(seed):
    f, made = composition(seed)
    rng = np.random.default_rng([1, seed])
    x, w, dx, dw = rng.normal(size=(4, 3, 4))
    value = jit(f)
    expected = (value(x + H * dx, w + H * dw) - value(x - H * dx, w - H * dw)) / (2 * H)
    gx, gw = grad(f, argnums=(0, 1))(x, w)
    forward = native.jvp(f, (x, w), (dx, dw), compile=Interpreted)[1]
    backward = (gx * dx).sum() + (gw * dw).sum()
    np.testing.assert_allclose(backward, forward, rtol=1e-9, atol=1e-10, err_msg=str(made))
    np.testing.assert_allclose(backward, expected, rtol=2e-5, atol=1e-7, err_msg=str(made))
