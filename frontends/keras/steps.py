"""Steps of a Keras model as compiled graphs: variables and a batch in, results and variables out.

    step = Step(model.train_step, lambda: variables)
    logs = step(batch)                     # traced and compiled for each signature of `batch`

The function is traced inside a StatelessScope in which every variable stands for an input of the
graph; what it assigns becomes an output. Its gradients are part of the same graph.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...compiler.autodiff.gradients import gradients as graph_gradients
from ...compiler.autodiff.gradients import zeros_like
from ...compiler.classes import dataclass
from ...compiler.errors import UsageError
from ...compiler.ir.graph import Graph
from ...compiler.ir.interpret import interpret
from ...compiler.ir.types import TensorType, dtype_of
from ...runtime.compile import compile_graph
from ..native.tracing import Tracer, user_line
from .functions.traced import TracedArray, find, lift

MAX_COMPILED = 64


@dataclass(frozen=True)
class Compiled:
    """What runs a step (`exe`, or None for numpy), and which variables it reads and assigns."""

    exe: Any
    graph: Graph
    read: list[Any]
    data: list[int]
    assigned: list[Any]
    structure: Any
    known: list[Any]


class Step:
    """A function of a batch that reads and assigns variables, compiled for each signature."""

    def __init__(
        self, f: Callable, variables: Callable[[], Sequence], *, compiled: bool = True
    ) -> None:
        self._f, self._variables, self._compiled = f, variables, compiled
        self._made: OrderedDict[tuple, Compiled] = OrderedDict()

    def __call__(self, data: Any) -> Any:
        from keras.src import tree

        leaves = [_array(x) for x in tree.flatten(data)]
        variables = list({id(v): v for v in self._variables()}.values())
        key = (
            str(tree.map_structure(lambda _: 0, data)),
            *((x.dtype.str, x.dtype.name, x.shape) if _is_array(x) else x for x in leaves),
            *((id(v), v.trainable) for v in variables),
        )
        made = self._made.get(key)
        if made is None or not self._compiled:
            made = self._made[key] = self._make(data, leaves, variables)
            while len(self._made) > MAX_COMPILED:
                self._made.popitem(last=False)
        arrays = [_value(v) for v in made.read] + [leaves[i] for i in made.data]
        if made.exe is None:
            results = interpret(made.graph, arrays)
        else:
            names = [v.name for v in made.graph.inputs]
            found = made.exe.run(dict(zip(names, arrays)))
            results = [found[n] for n in made.graph.output_names]
        count = len(made.assigned)
        for variable, value in zip(made.assigned, results[:count]):
            variable._value = value
        rest = iter(results[count:])
        return tree.pack_sequence_as(
            made.structure, [next(rest) if k is _COMPUTED else k for k in made.known]
        )

    @property
    def graphs(self) -> list[Graph]:
        """The graphs of the steps that were compiled, for `explain` and the curious."""
        return [c.graph for c in self._made.values()]

    def _make(self, data: Any, leaves: list, variables: list) -> Compiled:
        from keras.src import tree

        graph, assigned, structure = trace(self._f, data, leaves, variables)
        now = list({id(v): v for v in self._variables()}.values())
        if [id(v) for v in now] != [id(v) for v in variables]:  # metrics build themselves late
            variables = now
            graph, assigned, structure = trace(self._f, data, leaves, variables)
        flat = tree.flatten(structure)
        known = [_COMPUTED if isinstance(x, TracedArray) else x for x in flat]
        uses = {v for n in graph.nodes for v in n.inputs} | set(graph.outputs)
        places = [i for i, v in enumerate(graph.inputs) if v in uses]
        graph.inputs = [graph.inputs[i] for i in places]
        read = [variables[i] for i in places if i < len(variables)]
        arrays = [i for i, x in enumerate(leaves) if _is_array(x)]
        batch = [arrays[i - len(variables)] for i in places if i >= len(variables)]
        exe = compile_graph(graph) if self._compiled and graph.outputs else None
        return Compiled(exe, graph, read, batch, assigned, structure, known)


_COMPUTED = object()


def trace(f: Callable, data: Any, leaves: list, variables: list) -> tuple[Graph, list, Any]:
    """The graph of `f(data)`; the variables that it assigns, whose outputs come first; its result.

    Raises TesselError for what cannot be traced.
    """
    from keras.src import tree
    from keras.src.backend.common.stateless_scope import StatelessScope

    b = Tracer(getattr(f, "__name__", "step"))
    inputs = [b.input(_name(v), TensorType(dtype_of(v._dtype), tuple(v._shape))) for v in variables]
    traced = [
        TracedArray(b.input(f"batch.{i}", TensorType(dtype_of(x), x.shape))) if _is_array(x) else x
        for i, x in enumerate(leaves)
    ]
    scope = StatelessScope(
        [(v, TracedArray(x)) for v, x in zip(variables, inputs)], collect_losses=True
    )
    scope.tessel_inputs = dict(scope.state_mapping)
    with scope:
        result = f(tree.pack_sequence_as(data, traced))
    assigned = [
        v for v in variables if scope.get_current_value(v) is not scope.tessel_inputs[id(v)]
    ]
    for v in assigned:
        like = scope.tessel_inputs[id(v)]
        b.output(f"new.{_name(v)}", lift(like, scope.get_current_value(v), v._dtype).array)
    names = set(b.graph.output_names)
    for i, x in enumerate(tree.flatten(result)):
        if isinstance(x, TracedArray):
            b.output(f"result.{i}", x.array)
    assert len(names) == len(assigned), "paths of variables are unique"
    b.finished = True
    return b.graph, assigned, result


def gradients(loss: Any, variables: Sequence) -> list[TracedArray]:
    """d loss / d variable for each of `variables`, in a traced step (`train_step`); zeros for one
    that the loss does not depend on.

        def train_step(self, data):
            x, y = data
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            self.optimizer.apply(keras.gradients(loss, self.trainable_variables))
    """
    from keras.src.backend.common.stateless_scope import get_stateless_scope

    inputs = getattr(get_stateless_scope(), "tessel_inputs", None)
    if inputs is None or find(loss) is None:
        raise UsageError(
            "gradients are part of a step that is traced",
            where=user_line(),
            expected="a loss computed in train_step",
            received=repr(loss),
            fix="override train_step(self, data) of a model, and call fit",
        )
    variables = [getattr(v, "variable", v) for v in variables]
    wrt = [inputs[id(v)].array for v in variables]
    loss = loss if isinstance(loss, TracedArray) else lift(find(loss), loss)
    scalar = loss if loss.ndim == 0 else loss.sum()
    b = loss.b
    found = graph_gradients(b, [scalar.array], wrt)
    return [TracedArray(b.array(zeros_like(b, x) if d is None else d)) for x, d in zip(wrt, found)]


def _name(v: Any) -> str:
    return f"{v.path}.{id(v)}" if v.path.count("/") == 0 else f"{v.path}#{id(v) % 10**6}"


def _value(v: Any) -> np.ndarray:
    if v._value is None:
        v._deferred_initialize()
    return np.asarray(v._value)


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def _array(x: Any) -> Any:
    if hasattr(x, "assign_add"):
        return np.asarray(x.value)
    if isinstance(x, (np.ndarray, np.generic)) or hasattr(x, "__array__"):
        return np.asarray(x)
    return x
