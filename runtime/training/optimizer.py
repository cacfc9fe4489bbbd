"""What optimizers are: graphs from a parameter and its gradient to the next parameter.

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


def decayed(p: Tensor, g: Tensor, weight_decay: float) -> Tensor:
    return g if weight_decay == 0 else g + p * weight_decay
