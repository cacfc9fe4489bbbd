"""Training as one compiled graph (`step.py`): a `Trainer` compiles it once, keeps the arrays, and
feeds it batches.
"""

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ...compiler.arguments import require, require_function
from ...compiler.errors import InputError, TesselError, UsageError
from ...compiler.ir.builder import as_tensor_type
from ...compiler.ir.graph import Graph, Value
from ..compile import compile_graph
from .callbacks import Callback
from .checkpoint import load_checkpoint, save_checkpoint
from .optimizer import Optimizer
from .step import STEP, Groups, group_of, rate_name, restrict, step_graph


class Trainer:
    """Trains what a graph computes.

        trainer = Trainer(train, values, Adam(1e-3), evaluation=evaluate)
        trainer.fit({"x": images, "y": labels}, epochs=10, batch_size=64)

    `graph` returns "loss" and metrics; `values` holds the inputs that live as long as the
    training: parameters, and the state that `graph.updates` names; the other inputs are the
    batch. `frozen` patterns ("params.0.*") name parameters that keep their values.
    `evaluation` is the graph in inference mode, with the output "prediction". `compile` makes what
    runs of a Graph: `functools.partial(tessel.compile, target="cuda")` trains on a GPU. With
    `stop_at_nan` a loss that is not finite raises TesselError, which names the step. `groups` give
    parameters by patterns another optimizer: {"*.bias": AdamW(1e-3, weight_decay=0)}.
    """

    def __init__(
        self,
        graph: Graph,
        values: Mapping[str, np.ndarray],
        optimizer: Optimizer,
        *,
        compile: Callable[[Graph], Any] | None = None,
        evaluation: Graph | None = None,
        frozen: Sequence[str] = (),
        clip_norm: float | None = None,
        clip_value: float | None = None,
        stop_at_nan: bool = True,
        groups: Groups | None = None,
    ):
        require(
            "Trainer",
            graph,
            Graph,
            "the Graph that computes the loss",
            "tessel.native.training_graphs(model, …), or tessel.from_onnx(path)",
        )
        require(
            "values",
            values,
            Mapping,
            "arrays by input name",
            "tessel.native.flat_values(params, state)",
        )
        require("optimizer", optimizer, Optimizer, "an optimizer", "optimizers.Adam(1e-3)")
        if evaluation is not None:
            require("evaluation", evaluation, Graph, "a Graph in inference mode")
        compile = compile_graph if compile is None else compile
        require_function("compile", compile)
        names = [v.name for v in graph.inputs]
        updated = {names[i] for i in graph.updates.values()}
        groups = dict(groups or {})
        for pattern in (*frozen, *groups):
            if not fnmatch.filter(values, pattern):
                raise UsageError(f"no parameter matches {pattern!r}", expected=", ".join(values))
        self.parameters = [
            n
            for n in names
            if n in values
            and n not in updated
            and not any(fnmatch.fnmatchcase(n, p) for p in frozen)
        ]
        self.inputs = [n for n in names if n not in values]
        self.optimizer, self._compile, self._evaluation = optimizer, compile, evaluation
        self.graph = step_graph(
            graph,
            optimizer,
            self.parameters,
            clip_norm=clip_norm,
            clip_value=clip_value,
            groups=groups,
        )
        self._stop_at_nan = stop_at_nan
        rates = {rate_name(None): optimizer} | {rate_name(g): o for g, o in groups.items()}
        self._rates = {v.name: rates[v.name] for v in self.graph.inputs if v.name in rates}
        slots: dict[str, np.ndarray] = {}
        for n in self.parameters:
            group = group_of(n, groups)
            slots |= (optimizer if group is None else groups[group]).init_state({n: values[n]})
        self.values = {n: np.array(values[n]) for n in names if n in values}
        self.values |= {f"optimizer.{n}": v for n, v in slots.items()}
        self.values[STEP] = np.zeros((), np.int64)
        self._executables: dict[str, tuple] = {}

    @property
    def steps(self) -> int:
        """How many steps have been made."""
        return int(self.values[STEP])

    def step(self, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Train on one batch; returns the loss and the metrics before the update."""
        exe = self._step_executable()
        now = self.steps
        rates = {n: np.float32(o.learning_rate(now)) for n, o in self._rates.items()}
        results = exe.run({**batch, **{n: np.asarray(r) for n, r in rates.items()}})
        record = {name: float(value) for name, value in results.items()}
        if self._stop_at_nan and not np.isfinite(record["loss"]):
            raise TesselError(
                f"the loss of step {self.steps} is not finite",
                received=record["loss"],
                fix="go back to a checkpoint; a lower learning rate, clip_norm=1.0, and a look at "
                "the batch help. stop_at_nan=False goes on",
            )
        return record

    def fit(
        self,
        data: Any,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        validation: Any = None,
        progress: bool = True,
        rng: np.random.Generator | None = None,
        drop_last: bool = False,
        callbacks: Sequence[Callback] = (),
    ) -> list[dict[str, float]]:
        """Train on `data` in a new random order each epoch; returns the means of each epoch.

        `data` is a dict of arrays (or what numpy makes arrays of) by input name, or a tuple in the
        order of `self.inputs`. Anything else that can be iterated, or a function that gives such a
        thing for each epoch, gives the batches themselves: dicts or tuples. The last batch may be
        smaller, unless the graph knows its batches' size or `drop_last` is set. With `validation`
        data the epoch's record has its loss and metrics too: "validation_loss". `callbacks` are
        called after each epoch (`callbacks.py`).
        """
        arrays = self._data(data) if isinstance(data, (Mapping, tuple, list)) else None
        total = None
        if arrays is not None:
            count = len(next(iter(arrays.values())))
            batch_size = min(batch_size, count)
            drop_last = drop_last or not self._has_open_batches()
            total = epochs * (count // batch_size if drop_last else -(-count // batch_size))
        history: list[dict[str, float]] = []
        try:
            for callback in callbacks:
                callback.before_fit(self)
            with _bar(disable=not progress) as bar:
                task = bar.add_task("", total=total, shown="")
                for epoch in range(epochs):
                    if arrays is None:
                        batches = self._given(data() if callable(data) else data)
                    else:
                        batches = _batches(
                            arrays, batch_size, self._order(count, rng), last=not drop_last
                        )
                    record = self._epoch(batches, bar, task, f"epoch {epoch + 1}/{epochs}")
                    if validation is not None:
                        result = self.evaluate(validation, batch_size=batch_size)
                        record |= {f"validation_{n}": v for n, v in result.items()}
                        bar.update(task, shown=_shown(record))
                    history.append(record)
                    ends = [c.after_epoch(self, epoch, record) for c in callbacks]
                    if any(ends):
                        break
        finally:
            for callback in callbacks:
                callback.after_fit(self)
        return history

    def _epoch(self, batches: Iterator[dict], bar: Progress, task: Any, name: str) -> dict:
        """A step for each batch; the means over all samples."""
        totals: dict[str, float] = {}
        seen, record = 0, {}
        for batch in batches:
            size = max((len(x) for x in batch.values() if np.ndim(x)), default=1)
            seen += size
            for metric, value in self.step(batch).items():
                totals[metric] = totals.get(metric, 0.0) + value * size
            record = {n: t / seen for n, t in totals.items()}
            bar.update(task, advance=1, description=name, shown=_shown(record))
        if not seen:
            raise InputError(
                "an epoch has no batches",
                fix="a generator can be walked through once: give a function that makes one",
            )
        return record

    def _given(self, batches: Iterable) -> Iterator[dict[str, np.ndarray]]:
        for batch in batches:
            yield self._data(batch)

    def _has_open_batches(self) -> bool:
        """Whether batches may be of any size."""
        shapes = [as_tensor_type(v.type).shape for v in self._batch_inputs()]
        return all(s and not isinstance(s[0], int) for s in shapes)

    def _batch_inputs(self) -> list[Value]:
        return [v for v in self.graph.inputs if v.name in self.inputs]

    def _order(self, count: int, rng: np.random.Generator | None) -> np.ndarray:
        """The order of an epoch: by default it follows from the steps made before, so that what is
        loaded from a checkpoint goes on as it would have."""
        rng = np.random.default_rng([0, self.steps]) if rng is None else rng
        return rng.permutation(count)

    def evaluate(self, data: Any, *, batch_size: int = 256) -> dict[str, float]:
        """The means of loss and metrics over `data`, in inference mode."""
        graph = self._needs_evaluation()
        data = self._data(data)
        count = len(next(iter(data.values())))
        exe, _ = self._compiled("evaluate", lambda: graph)
        totals = {n: 0.0 for n in graph.output_names if n != "prediction"}
        for batch in _batches(data, batch_size, np.arange(count), last=True):
            size = len(next(iter(batch.values())))
            results = exe.run(self._feeds(graph, batch))
            for name in totals:
                totals[name] += float(results[name]) * size / count
        return totals

    def predict(self, *xs: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """The model's output for inputs without targets."""
        evaluation = self._needs_evaluation()
        exe, graph = self._compiled("predict", lambda: restrict(evaluation, "prediction"))
        names = [v.name for v in graph.inputs if v.name not in self.values]
        if len(names) != len(xs):
            raise InputError("wrong number of inputs", expected=", ".join(names), received=len(xs))
        batches = _batches(dict(zip(names, xs)), batch_size, np.arange(len(xs[0])), last=True)
        return np.concatenate([exe.run(self._feeds(graph, x))["prediction"] for x in batches])

    def save(self, path: str | PathLike[str]) -> None:
        """Write parameters, state and the optimizer's arrays to a safetensors file."""
        save_checkpoint(path, self.values)

    def load(self, path: str | PathLike[str]) -> None:
        """Continue from a checkpoint of the same model and optimizer. Raises ModelError."""
        for name, value in load_checkpoint(path, self.values).items():
            np.copyto(self.values[name], value)

    def _step_executable(self) -> Any:
        """The step, compiled at its first use; from then on `values` are its own arrays."""
        if "step" not in self._executables:
            exe, _ = self._compiled("step", lambda: self.graph)
            self.values = {n: exe.bind(n, v) for n, v in self.values.items()}
        return self._executables["step"][0]

    def _compiled(self, name: str, make: Callable[[], Graph]) -> tuple:
        """An executable and its graph, compiled at its first use."""
        if name not in self._executables:
            graph = make()
            self._executables[name] = self._compile(graph), graph
        return self._executables[name]

    def _feeds(self, graph: Graph, batch: Mapping) -> dict[str, np.ndarray]:
        own = {v.name: self.values[v.name] for v in graph.inputs if v.name in self.values}
        return {**own, **batch}

    def _needs_evaluation(self) -> Graph:
        if self._evaluation is None:
            raise UsageError(
                "this trainer was made without a graph for evaluation",
                fix="give Trainer(…, evaluation=…) the graph in inference mode",
            )
        return self._evaluation

    def _data(self, data: Any) -> dict[str, np.ndarray]:
        data = dict(zip(self.inputs, data)) if isinstance(data, (tuple, list)) else dict(data)
        if set(data) != set(self.inputs):
            raise InputError(
                "the data does not fit the graph's inputs",
                expected=", ".join(self.inputs),
                received=", ".join(data),
            )
        types = {v.name: as_tensor_type(v.type).dtype.numpy for v in self._batch_inputs()}
        data = {n: _as_kind(x, types[n]) for n, x in data.items()}
        sizes = {n: len(x) for n, x in data.items()}
        if len(set(sizes.values())) != 1 or 0 in sizes.values():
            raise InputError(
                "the arrays of a data set must have one length, above 0",
                received=", ".join(f"{n}: {s}" for n, s in sizes.items()),
            )
        return data


def _as_kind(x: Any, dtype: np.dtype) -> np.ndarray:
    """An array; numbers of the same kind take the input's width, integers where all of them fit."""
    x, dtype = np.asarray(x), np.dtype(dtype)
    same = x.dtype.kind == dtype.kind and x.dtype.kind in "fiu"
    if same and dtype.kind != "f" and dtype.itemsize < x.dtype.itemsize and x.size:
        same = np.iinfo(dtype).min <= x.min() and x.max() <= np.iinfo(dtype).max
    return x.astype(dtype, copy=False) if same else x


def _batches(data: Mapping, size: int, order: np.ndarray, last: bool = False) -> Iterator[dict]:
    end = len(order) if last else len(order) - len(order) % size
    for start in range(0, end, size):
        chosen = order[start : start + size]
        yield {name: x[chosen] for name, x in data.items()}


def _bar(disable: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[shown]}"),
        TimeRemainingColumn(),
        disable=disable,
    )


def _shown(record: Mapping[str, float]) -> str:
    names = sorted(record, key=lambda name: (name.startswith("validation"), name != "loss", name))
    return "  ".join(f"{name} {record[name]:.4f}" for name in names)
