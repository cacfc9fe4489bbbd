"""Keras models as graphs of inference: as an ONNX file, as a package, or to compile.

model.export("m.onnx"); model.export("m.tsl")
graph = keras.to_graph(model)                     # tessel.compile(graph), tessel.to_onnx(graph)
"""

import functools
from collections.abc import Callable
from os import PathLike, fspath
from typing import Any

import numpy as np

from ...compiler.errors import TesselError, UsageError
from ...compiler.ir.dims import Sym
from ...compiler.ir.graph import Graph
from ...compiler.ir.types import TensorType, dtype_of
from ...runtime.compile import compile_graph
from ..native.tracing import Tracer
from ..onnx.exporter import write
from .functions.traced import TracedArray, find, lift

OURS = {"onnx": ".onnx", "tsl": ".tsl"}


def to_graph(model: Any, batch: int | None = None) -> Graph:
    """What `model` computes in inference, its weights as constants. Inputs are named as Keras names
    them, open dims stay open: `N`, `sequence_1`. With `batch`, dims of the first axis are that.

    A model that needs sizes where they are open is traced for a batch of 1 instead.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise UsageError(
            "the model does not know its inputs yet",
            where=f"to_graph({model.name})",
            fix="call it on a batch first, or begin it with layers.Input(shape)",
        )
    if batch is not None:
        return _trace(model, inputs, batch)
    try:
        return _trace(model, inputs, "N")
    except (TesselError, TypeError):
        return _trace(model, inputs, 1)


def _trace(model: Any, inputs: list, batch: Any) -> Graph:
    from keras.src import tree
    from keras.src.backend.common.stateless_scope import StatelessScope

    b = Tracer(model.name)
    values = []
    for x in inputs:
        sizes = [batch if i == 0 and n is None else n for i, n in enumerate(x.shape)]
        names = [f"{x.name}_{i}" if n is None else n for i, n in enumerate(sizes)]
        shape = tuple(Sym.named(n) if isinstance(n, str) else n for n in names)
        values.append(TracedArray(b.input(x.name, TensorType(dtype_of(x.dtype), shape))))
    structure = getattr(model, "_inputs_struct", None)
    given = values[0] if structure is None else tree.pack_sequence_as(structure, values)
    with StatelessScope():
        result = model(given, training=False) if model._call_has_training_arg else model(given)
    results = tree.flatten(result)
    names = [f"output_{i}" if len(results) > 1 else "output" for i in range(len(results))]
    for name, y in zip(names, results):
        b.output(name, lift(find(values), y).array)
    b.finished = True
    return b.graph


def exporting(original: Callable) -> Callable:
    """`Model.export`, which also writes ONNX files and tessel's packages."""

    @functools.wraps(original)
    def export(
        self: Any, filepath: str | PathLike, format: str | None = None, **options: Any
    ) -> Any:
        path = fspath(filepath)
        if format is None:
            format = next((f for f, end in OURS.items() if path.endswith(end)), "tf_saved_model")
        if format not in OURS:
            return original(self, filepath, format=format, **options)
        signature = options.get("input_signature")
        batch = None
        if signature is not None:
            first = np.ravel(np.asarray(signature, dtype=object))[0]
            batch = first.shape[0]
        graph = to_graph(self, batch)
        if format == "onnx":
            write(graph, path, opset=options.get("opset_version") or 21)
        else:
            compile_graph(graph).save(path)

    return export
