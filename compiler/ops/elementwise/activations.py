"""The activations that recurrent layers choose by name, each in numpy and as graph ops.

A row is: defaults of alpha and beta (None: it has none), numpy f(x, alpha, beta), graph rule.
"""

import numpy as np

from ...errors import TypeMismatch
from .unary import sigmoid, softplus

# fmt: off
ACTIVATIONS = {
    "relu": (None, None, lambda x, a, b: np.maximum(x, 0), lambda g, x, a, b: g.relu(x)),
    "tanh": (None, None, lambda x, a, b: np.tanh(x), lambda g, x, a, b: g.tanh(x)),
    "sigmoid": (None, None, lambda x, a, b: sigmoid(x), lambda g, x, a, b: g.sigmoid(x)),
    "affine": (1.0, 0.0, lambda x, a, b: a * x + b, lambda g, x, a, b: x * a + b),
    "leakyrelu": (0.01, None, lambda x, a, b: np.where(x < 0, a * x, x),
                  lambda g, x, a, b: g.leaky_relu(x, alpha=a)),
    "thresholdedrelu": (1.0, None, lambda x, a, b: np.where(x > a, x, 0 * x),
                        lambda g, x, a, b: g.thresholded_relu(x, alpha=a)),
    "scaledtanh": (1.0, 1.0, lambda x, a, b: a * np.tanh(b * x),
                   lambda g, x, a, b: g.tanh(x * b) * a),
    "hardsigmoid": (0.2, 0.5, lambda x, a, b: np.clip(a * x + b, 0, 1),
                    lambda g, x, a, b: g.hard_sigmoid(x, alpha=a, beta=b)),
    "elu": (1.0, None, lambda x, a, b: np.where(x > 0, x, a * np.expm1(x)),
            lambda g, x, a, b: g.elu(x, alpha=a)),
    "softsign": (None, None, lambda x, a, b: x / (1 + np.abs(x)),
                 lambda g, x, a, b: g.softsign(x)),
    "softplus": (None, None, lambda x, a, b: softplus(x), lambda g, x, a, b: g.softplus(x)),
}
# fmt: on


def choose_activations(names, alphas=(), betas=()) -> list[tuple]:
    """(key, alpha, beta) of each name; given alphas and betas go in order to those that have one.

    Raises TypeMismatch for a name that is not known.
    """
    alphas, betas, chosen = list(alphas), list(betas), []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            raise TypeMismatch(
                "no such activation", expected=f"one of {', '.join(ACTIVATIONS)}", received=name
            )
        alpha, beta, _, _ = ACTIVATIONS[name.lower()]
        if alpha is not None and alphas:
            alpha = alphas.pop(0)
        if beta is not None and betas:
            beta = betas.pop(0)
        chosen.append((name.lower(), alpha, beta))
    return chosen


def apply_activation(b, chosen, x):
    """The chosen activation of `x`: a Tensor if `b` is a Builder, an array if it is None."""
    key, alpha, beta = chosen
    _, _, numpy_rule, graph_rule = ACTIVATIONS[key]
    return numpy_rule(x, alpha, beta) if b is None else graph_rule(b, x, alpha, beta)
