"""Inputs with a default: since ONNX IR version 4, an initializer that is an input too may be fed.

A graph has the default as a constant, and says in its metadata which inputs it could have had:

    metadata {"tessel.optional": "{\\"scale\\": \\"f32[1]\\"}"}
"""

import json
from collections.abc import Mapping

from ...errors import ModelError, TesselError
from ..graph import Graph
from ..types import Type, parse_type

KEY = "tessel.optional"


def remember_optional(graph: Graph, types: Mapping[str, Type]) -> None:
    """Note which constants of `graph` are defaults of inputs, and the types of those."""
    graph.metadata.pop(KEY, None)
    if types:
        graph.metadata[KEY] = json.dumps({name: str(type) for name, type in types.items()})


def optional_inputs(graph: Graph) -> dict[str, Type]:
    """The types of the inputs whose defaults `graph` has. Raises ModelError for other metadata."""
    try:
        found = json.loads(graph.metadata.get(KEY, "{}"))
        return {name: parse_type(type) for name, type in found.items()}
    except (ValueError, TypeError, AttributeError, TesselError) as error:
        raise ModelError(
            f"the graph's optional inputs make no sense: {type(error).__name__}: {error}",
            where=f"metadata {KEY}",
            received=graph.metadata[KEY],
        ) from error
