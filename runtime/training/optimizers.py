"""Optimizers: from a parameter and its gradient to the next parameter (`optimizer.py`).

`lr` is a number or a schedule (`schedules.py`): a function of the step.
"""

from collections.abc import Callable

from ...compiler.classes import dataclass
from ...compiler.ir.builder import Builder, Tensor
from .optimizer import Optimizer, decayed
from .schedules import constant, cosine, exponential, linear, one_cycle, steps, warm_up

Rate = float | Callable[[int], float]


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, as PyTorch's.

    v' = momentum * v + g;  p' = p - lr * v'      (nesterov: p - lr * (g + momentum * v'))
    """

    momentum: float = 0.0
    nesterov: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum != 0 else ()

    def _change(
        self, b: Builder, p: Tensor, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        g = decayed(p, g, self.weight_decay)
        if not state:
            return g * lr, []
        v = state[0] * self.momentum + g
        return (g + v * self.momentum if self.nesterov else v) * lr, [v]


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma, Ba 2015), with bias correction.

    m' = beta1 * m + (1 - beta1) * g          v' = beta2 * v + (1 - beta2) * g^2
    p' = p - lr * m' / (1 - beta1^t) / (sqrt(v' / (1 - beta2^t)) + eps)
    """

    lr: float | Callable[[int], float] = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    slots = ("m", "v")

    def _change(
        self, b: Builder, p: Tensor, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        return self._step(b, decayed(p, g, self.weight_decay), state, lr, t)

    def _step(
        self, b: Builder, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        (m, v), (beta1, beta2) = state, self.betas
        m = m * beta1 + g * (1 - beta1)
        v = v * beta2 + g * g * (1 - beta2)
        denominator = b.sqrt(v / _left(b, beta2, t)) + self.eps
        return m / denominator * (lr / _left(b, beta1, t)), [m, v]


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter instead of joining the gradient:
    p' = p - lr * (weight_decay * p + Adam's step) (Loshchilov, Hutter 2019)."""

    weight_decay: float = 0.01

    def _change(
        self, b: Builder, p: Tensor, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        change, state = self._step(b, g, state, lr, t)
        return change + p * lr * self.weight_decay, state


@dataclass(frozen=True)
class Adamax(Adam):
    """Adam by the largest gradient so far (Kingma, Ba 2015, section 7.1).

    u' = max(beta2 * u, |g| + eps);  p' = p - lr / (1 - beta1^t) * m' / u'
    """

    slots = ("m", "u")

    def _step(
        self, b: Builder, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        (m, u), (beta1, beta2) = state, self.betas
        m = m * beta1 + g * (1 - beta1)
        u = b.maximum(u * beta2, b.abs(g) + self.eps)
        return m / u * (lr / _left(b, beta1, t)), [m, u]


@dataclass(frozen=True)
class Nadam(Adam):
    """Adam with Nesterov's momentum (Dozat 2016), of a constant beta1.

    p' = p - lr * (beta1 * m' / (1 - beta1^(t+1)) + (1 - beta1) * g / (1 - beta1^t)) / (…)
    """

    def _step(
        self, b: Builder, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        (m, v), (beta1, beta2) = state, self.betas
        m = m * beta1 + g * (1 - beta1)
        v = v * beta2 + g * g * (1 - beta2)
        ahead = m * (beta1 / _left(b, beta1, t + 1)) + g * ((1 - beta1) / _left(b, beta1, t))
        return ahead * lr / (b.sqrt(v / _left(b, beta2, t)) + self.eps), [m, v]


@dataclass(frozen=True)
class LAMB(Adam):
    """Adam whose steps have the size of the parameter (You et al. 2020).

    r = Adam's step / lr + weight_decay * p;  p' = p - lr * |p| / |r| * r
    """

    weight_decay: float = 0.01
    eps: float = 1e-6

    def _change(
        self, b: Builder, p: Tensor, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        step, state = self._step(b, g, state, b.scalar(1, lr.dtype), t)
        r = step + p * self.weight_decay
        one = b.scalar(1, p.dtype)
        sizes = [b.sqrt((x * x).sum()) for x in (p, r)]
        none = b.emit("or", sizes[0] <= 0, sizes[1] <= 0)
        trust = b.where(none, one, sizes[0] / b.where(none, one, sizes[1]))
        return r * (lr * trust), state


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """Gradients by the root of their mean square (Tieleman, Hinton 2012), as PyTorch's.

    v' = alpha * v + (1 - alpha) * g^2;  d = g / (sqrt(v') + eps), with momentum as SGD's
    """

    lr: Rate = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        return ("v", "momentum") if self.momentum != 0 else ("v",)

    def _change(
        self, b: Builder, p: Tensor, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        g = decayed(p, g, self.weight_decay)
        v = state[0] * self.alpha + g * g * (1 - self.alpha)
        d = g / (b.sqrt(v) + self.eps)
        if self.momentum == 0:
            return d * lr, [v]
        d = state[1] * self.momentum + d
        return d * lr, [v, d]


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """p' = p - lr * g / (sqrt(sum of all g^2) + eps) (Duchi et al. 2011)"""

    lr: Rate = 1e-2
    eps: float = 1e-10

    slots = ("sum",)

    def _change(
        self, b: Builder, p: Tensor, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        g = decayed(p, g, self.weight_decay)
        total = state[0] + g * g
        return g * lr / (b.sqrt(total) + self.eps), [total]


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Steps as large as the last ones (Zeiler 2012).

    v' = rho * v + (1 - rho) * g^2          d = sqrt(u + eps) / sqrt(v' + eps) * g
    u' = rho * u + (1 - rho) * d^2          p' = p - lr * d
    """

    lr: Rate = 1.0
    rho: float = 0.9
    eps: float = 1e-6

    slots = ("v", "u")

    def _change(
        self, b: Builder, p: Tensor, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        g = decayed(p, g, self.weight_decay)
        v = state[0] * self.rho + g * g * (1 - self.rho)
        d = b.sqrt(state[1] + self.eps) / b.sqrt(v + self.eps) * g
        u = state[1] * self.rho + d * d * (1 - self.rho)
        return d * lr, [v, u]


@dataclass(frozen=True)
class Lion(Optimizer):
    """p' = p - lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * p) (Chen et al. 2023)

    m' = beta2 * m + (1 - beta2) * g
    """

    lr: Rate = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)

    slots = ("m",)

    def _change(
        self, b: Builder, p: Tensor, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        (m,), (beta1, beta2) = state, self.betas
        direction = b.sign(m * beta1 + g * (1 - beta1))
        return (direction + p * self.weight_decay) * lr, [m * beta2 + g * (1 - beta2)]


@dataclass(frozen=True)
class Muon(Optimizer):
    """Momentum, made orthogonal: matrices whose singular values are near 1 (Jordan et al. 2024).

    A parameter of several axes is a matrix of its first axis; one of fewer takes SGD's step with
    Nesterov's momentum. Weight decay shrinks the parameter, as AdamW's.
    """

    lr: Rate = 0.02
    momentum: float = 0.95
    steps: int = 5

    slots = ("momentum",)

    def _change(
        self, b: Builder, p: Tensor, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        m = state[0] * self.momentum + g
        d = g + m * self.momentum
        if p.rank >= 2:
            d = self._orthogonal(b, d.reshape(p.shape[0], -1)).reshape(*p.shape)
        return (d + p * self.weight_decay) * lr, [m]

    def _orthogonal(self, b: Builder, x: Tensor) -> Tensor:
        """Newton and Schulz's iteration X' = a X + (b A + c A A) X with A = X Xᵀ."""
        rows, columns = x.shape
        assert isinstance(rows, int) and isinstance(columns, int)
        x = x.transpose() if rows > columns else x
        x = x / (b.sqrt((x * x).sum()) + 1e-7)
        for _ in range(self.steps):
            a = x @ x.transpose()
            x = x * 3.4445 + (a * -4.7750 + (a @ a) * 2.0315) @ x
        x = x.transpose() if rows > columns else x
        return x * max(1.0, rows / columns) ** 0.5


def _left(b: Builder, beta: float, t: Tensor) -> Tensor:
    """1 - beta^t: what a mean that began with 0 has seen."""
    return 1 - b.pow(b.scalar(beta, t.dtype), t)


__all__ = [
    "LAMB",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Muon",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "constant",
    "cosine",
    "exponential",
    "linear",
    "one_cycle",
    "steps",
    "warm_up",
]
