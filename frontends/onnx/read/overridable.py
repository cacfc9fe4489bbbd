"""Initializers that are inputs too: since IR version 4, defaults that a run may replace.

    types = overridable(model)                       # {"scale": f32[1]}
    graph = read(Feeding("model.onnx", {"scale"}))   # `scale` is an input like any other
    default_of("model.onnx", "scale")

A model is read with the defaults as weights, and its graph says which they are
(`ir/metadata/optional_inputs.py`). Before IR version 4, files list all initializers as inputs, and
none of them may be fed.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from ....compiler.classes import dataclass
from ....compiler.errors import ModelError
from ..file import proto as pb

SINCE = 4  # the IR version


def overridable(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that have a default."""
    if model.ir_version < SINCE:
        return []
    graph = model.graph
    given = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return [i for i in graph.input if i.name in given]


@dataclass(frozen=True)
class Feeding(pb.Source):
    """A model of which some overridable initializers are fed. `source` is what `pb.load` takes."""

    source: Any
    names: frozenset[str]

    def load(self) -> pb.Loaded:
        """The model without those initializers; the caller's own stays as it is."""
        loaded = pb.load(self.source)
        model = onnx.ModelProto()
        model.CopyFrom(loaded.model)
        _drop(model.graph.initializer, lambda t: t.name in self.names)
        _drop(model.graph.sparse_initializer, lambda t: t.values.name in self.names)
        return replace(loaded, model=model)


def _drop(repeated, is_dropped) -> None:
    for i in reversed(range(len(repeated))):
        if is_dropped(repeated[i]):
            del repeated[i]


def default_of(source, name: str) -> np.ndarray:
    """The value of an initializer; `source` as in `pb.load`. Raises ModelError."""
    loaded = pb.load(source)
    for tensor in loaded.model.graph.initializer:
        if tensor.name == name:
            raw = loaded.weights.get(name)
            return pb.to_array(tensor, loaded.folder, f"initializer {name}", raw)
    for sparse in loaded.model.graph.sparse_initializer:
        if sparse.values.name == name:
            return pb.densify(sparse, loaded.folder, name, loaded.budget())
    raise ModelError("there is no such initializer", where=loaded.where, received=name)
