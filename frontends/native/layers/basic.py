"""Dense layers, embeddings, activations, and layers in a row."""

from collections.abc import Callable

import numpy as np

from .. import functional as F
from ..initializers import Initializer, glorot_uniform, normal
from ..module import Module, Scope
from ..tracing import Array


class Linear(Module):
    """y = x @ weight + bias, on the last axis."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        initializer: Initializer = glorot_uniform,
    ):
        self.in_features, self.out_features = in_features, out_features
        self.bias, self.initializer = bias, initializer

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        i, o = self.in_features, self.out_features
        p = {"weight": self.initializer(rng, (i, o), i, o)}
        return p | ({"bias": np.zeros(o, np.float32)} if self.bias else {})

    def forward(self, s: Scope, x: Array) -> Array:
        y = x @ s.weight
        return y + s.bias if s.has("bias") else y


class Embedding(Module):
    """Rows of a table by their index. The row `padding_idx` is 0 and has no gradient."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        initializer: Initializer | None = None,
        padding_idx: int | None = None,
    ):
        self.padding_idx = padding_idx
        self.shape = num_embeddings, embedding_dim
        self.initializer = normal(1.0) if initializer is None else initializer

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"weight": self.initializer(rng, self.shape, *self.shape)}

    def forward(self, s: Scope, x: Array) -> Array:
        y = F.gather(s.weight, x, axis=0)
        if self.padding_idx is None:
            return y
        return F.where((x == self.padding_idx).reshape((*x.shape, 1)), 0.0, y)


class Flatten(Module):
    """Join all axes behind the first."""

    def forward(self, s: Scope, x: Array) -> Array:
        return x.reshape((x.shape[0], -1))


class Activation(Module):
    """A function of each element: ReLU, Sigmoid, … are made of their op."""

    op: Callable[[Array], Array]

    def forward(self, s: Scope, x: Array) -> Array:
        return type(self).op(x)


def _activation(name: str, op: Callable) -> type[Activation]:
    return type(name, (Activation,), {"op": staticmethod(op), "__doc__": op.__doc__})


ReLU = _activation("ReLU", F.relu)
Sigmoid = _activation("Sigmoid", F.sigmoid)
SiLU = _activation("SiLU", F.silu)
Mish = _activation("Mish", F.mish)
Softplus = _activation("Softplus", F.softplus)
Tanh = _activation("Tanh", F.tanh)
HardSwish = _activation("HardSwish", F.hard_swish)


class LeakyReLU(Module):
    """x above 0, else `negative_slope` * x"""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, s: Scope, x: Array) -> Array:
        return F.leaky_relu(x, alpha=self.negative_slope)


class Softmax(Module):
    """e^x / sum(e^x) along `axis`"""

    def __init__(self, axis: int = -1):
        self.axis = axis

    def forward(self, s: Scope, x: Array) -> Array:
        return F.softmax(x, axis=self.axis)


class GELU(Module):
    """`approximate`: "none" (erf) or "tanh"."""

    def __init__(self, approximate: str = "none"):
        self.approximate = approximate

    def forward(self, s: Scope, x: Array) -> Array:
        return F.gelu(x, approximate=self.approximate)


class Sequential(Module):
    """Layers one after the other; their parameters are named "0", "1", …"""

    def __init__(self, *layers: Module):
        self.layers = layers

    def parts(self) -> dict[str, Module]:
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def forward(self, s: Scope, x: Array) -> Array:
        for name in self.parts():
            x = s[name](x)
        return x
