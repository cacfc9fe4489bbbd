"""Optimizers as graphs: from a parameter and its gradient to the next parameter.

An optimizer is a frozen dataclass. `slots` names the arrays that it keeps for each parameter,
`init_state` makes them, `update` appends the nodes of one step. Its arithmetic is in f32 for
narrower parameters. The learning rate and the step's number are inputs of the graph, so schedules
don't recompile; `lr` is a number or a function of the step (0, 1, …).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY

import numpy as np

from ...compiler.arguments import require
from ...compiler.classes import dataclass
from ...compiler.errors import UsageError
from ...compiler.ir.builder import Builder, Tensor, as_tensor_type


@dataclass(frozen=True)
class Optimizer:
    """What optimizers share. `weight_decay` w adds w * parameter to the gradient."""

    lr: float | Callable[[int], float]
    _: KW_ONLY
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not callable(self.lr):
            require("lr", self.lr, (int, float, np.number), "a number, or a function of the step")
        negative = [
            name
            for name, value in vars(self).items()
            if isinstance(value, (int, float)) and not 0 <= value < np.inf
        ]
        if negative:
            raise UsageError(
                f"{type(self).__name__}: {', '.join(negative)} must not be negative",
                received=repr(self),
            )

    @property
    def slots(self) -> tuple[str, ...]:
        return ()

    def learning_rate(self, step: int) -> float:
        return float(self.lr(step) if callable(self.lr) else self.lr)

    def init_state(self, parameters: Mapping) -> dict[str, np.ndarray]:
        """Zeros for each slot of each parameter (arrays or types): {"w.momentum": …}."""
        types = {name: as_tensor_type(p) for name, p in parameters.items()}
        return {
            f"{name}.{slot}": np.zeros(t.shape, t.dtype.compute.numpy)
            for name, t in types.items()
            for slot in self.slots
        }

    def update(
        self, b: Builder, p: Tensor, g: Tensor, state: Sequence[Tensor], lr: Tensor, step: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The next parameter and slots. `lr` is f32[], `step` i64[]: 1 in the first step."""
        dtype = p.dtype.compute
        wide, g, lr, t = p.cast(dtype), g.cast(dtype), lr.cast(dtype), step.cast(dtype)
        change, state = self._change(b, wide, g, list(state), lr, t)
        return (wide - change).cast(p.dtype), state

    def _change(
        self, b: Builder, p: Tensor, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        raise NotImplementedError


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
        g = _decayed(p, g, self.weight_decay)
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
        return self._step(b, _decayed(p, g, self.weight_decay), state, lr, t)

    def _step(
        self, b: Builder, g: Tensor, state: list[Tensor], lr: Tensor, t: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        (m, v), (beta1, beta2) = state, self.betas
        m = m * beta1 + g * (1 - beta1)
        v = v * beta2 + g * g * (1 - beta2)
        step = lr / (1 - b.pow(b.scalar(beta1, t.dtype), t))
        denominator = b.sqrt(v / (1 - b.pow(b.scalar(beta2, t.dtype), t))) + self.eps
        return m / denominator * step, [m, v]


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


def _decayed(p: Tensor, g: Tensor, weight_decay: float) -> Tensor:
    return g if weight_decay == 0 else g + p * weight_decay


def cosine(lr: float, steps: int, warmup: int = 0) -> Callable[[int], float]:
    """A schedule: up in a line over `warmup` steps, then down to 0 along a half cosine."""

    def at(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return lr * 0.5 * (1 + float(np.cos(np.pi * done)))

    return at
