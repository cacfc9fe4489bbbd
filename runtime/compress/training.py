"""Training of quantized models: the network learns to live with its rounding.

    model = prepare(source, images, Recipe.of("int8"), loss="cross_entropy")
    model.fit({"x": images, "labels": labels}, epochs=3, batch_size=64)
    quantized = model.quantized()

The step graph rounds where the quantized model will (`compiler/compress/fake.py`), so what is
trained, what is exported and what runs compute the same. Batch norms have become part of the
weights before (frozen statistics). With `distill`, the model of floats is in the step graph too,
and part of the loss is how far the answers are from its own (Hinton et al. 2015).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...compiler.arguments import require
from ...compiler.compress.fake import trained_graph, trained_plan
from ...compiler.compress.quantize import Plan
from ...compiler.errors import UsageError
from ...compiler.ir.builder import Builder, Tensor
from ...compiler.ir.graph import Graph, clone
from ...compiler.ir.types import F32, I64, TensorType
from ..training.optimizers import Adam, Optimizer
from ..training.trainer import Trainer
from .quantize import Quantized

LABELS, TARGETS = "labels", "targets"
LOSSES = ("cross_entropy", "mse", "none")

Loss = str | Callable[[Builder, list[Tensor]], Tensor]


class TrainableModel:
    """A model that is trained as it will be quantized; `trainer` makes the steps.

    loss       "cross_entropy": of the first output and the input `labels` i64 (below 0: not
               counted); "mse": of it and the input `targets`; "none": only `distill`; or a function
               of the builder and the outputs
    distill    share of the loss that is the difference to the answers of the model of floats: 0 … 1
    learn_scales   whether scales are trained too
    """

    def __init__(
        self,
        plan: Plan,
        *,
        loss: Loss = "cross_entropy",
        optimizer: Optimizer | None = None,
        distill: float = 0.0,
        trainable: str | Sequence[str] = "*",
        learn_scales: bool = True,
        clip_norm: float | None = None,
        compile: Callable[[Graph], Any] | None = None,
    ):
        if not callable(loss) and loss not in LOSSES:
            raise UsageError(
                "unknown loss", expected=f"{', '.join(LOSSES)} or a function", received=repr(loss)
            )
        if not 0 <= distill <= 1 or (loss == "none" and distill != 1):
            raise UsageError(
                "distill is the share of the loss that the model of floats has",
                expected="0 to 1, and 1 without another loss",
                received=repr(distill),
            )
        self.plan = plan
        teacher = clone(plan.candidates.graph)[0]
        self.graph, values = trained_graph(plan, trainable, learn_scales=learn_scales)
        step = with_loss(self.graph, teacher, loss, distill)
        optimizer = Adam(1e-4) if optimizer is None else optimizer
        require("optimizer", optimizer, Optimizer, "an optimizer", "optimizers.Adam(1e-4)")
        self.trainer = Trainer(step, values, optimizer, clip_norm=clip_norm, compile=compile)

    def fit(self, data: Any, **options: Any) -> list[dict[str, float]]:
        """Train; `data` and options as in `Trainer.fit`."""
        return self.trainer.fit(data, **options)

    def quantized(self) -> Quantized:
        """The model as it has been trained so far."""
        plan = trained_plan(self.plan, self.values())
        graph, report = plan.apply()
        return Quantized(graph, report, plan.chosen(), self.plan.candidates.graph)

    def values(self) -> dict[str, np.ndarray]:
        """What is trained, by name."""
        return {n: np.array(self.trainer.values[n]) for n in self.trainer.parameters}


def with_loss(graph: Graph, teacher: Graph, loss: Loss, distill: float) -> Graph:
    """`graph` with the one output "loss"."""
    graph = clone(graph)[0]
    b = Builder(graph)
    outputs = [Tensor(b, v) for v in graph.outputs]
    graph.outputs, graph.output_names = [], []
    total = None
    if loss != "none" and distill < 1:
        total = _loss(b, outputs, loss) * (1 - distill)
    if distill > 0:
        inputs = {v.name: v for v in graph.inputs}
        answers = b.inline(teacher, [Tensor(b, inputs[v.name]) for v in teacher.inputs])
        apart = b.scalar(0, F32)
        for y, expected in zip(outputs, answers):
            apart = apart + divergence(b, y, expected)
        total = apart * distill if total is None else total + apart * distill
    assert total is not None
    b.output("loss", total)
    return graph


def divergence(b: Builder, y: Tensor, expected: Tensor) -> Tensor:
    """Kullback and Leibler's, from what the softmax of `expected` says to that of `y`."""
    p, log_p = b.softmax(expected, axis=-1), b.log_softmax(expected, axis=-1)
    return (p * (log_p - b.log_softmax(y, axis=-1))).sum(axes=y.rank - 1).mean()


def _loss(b: Builder, outputs: list[Tensor], loss: Loss) -> Tensor:
    if callable(loss):
        return loss(b, outputs)
    y = outputs[0]
    if loss == "mse":
        d = y - b.input(TARGETS, y.type)
        return (d * d).mean()
    labels = b.input(LABELS, TensorType(I64, y.shape[:-1]))
    counted = b.greater_equal(labels, b.scalar(0, I64))
    index = b.maximum(labels, b.scalar(0, I64)).reshape(*labels.shape, 1)
    log_p = b.gather_elements(b.log_softmax(y, axis=-1), index, axis=y.rank - 1)
    nothing = b.scalar(0, F32)
    losses = b.where(counted, nothing - log_p.reshape(labels.shape), nothing)
    return losses.sum() / b.maximum(counted.cast(F32).sum(), b.scalar(1, F32))
