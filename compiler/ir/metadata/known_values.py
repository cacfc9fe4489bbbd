"""Graphs that are right for some values of their inputs only, because those decided shapes.

The graph says so in its metadata, so that its text, packages and ONNX files made of it say it too:

    metadata {"tessel.values": "{\\"shape\\": [3, 4]}"}
"""

import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from ...errors import ModelError
from ..graph import Graph
from ..types import TensorType

KEY = "tessel.values"
IMPOSSIBLE = "impossible with these shapes: a run that takes it fails"  # metadata: which branches


def remember_values(graph: Graph, values: Mapping[str, np.ndarray]) -> None:
    """Note that `graph` is right for these values of its inputs only."""
    if values:
        known = known_values(graph) | dict(values)
        graph.metadata[KEY] = json.dumps({n: plain(a) for n, a in known.items()})


def known_values(graph: Graph) -> dict[str, np.ndarray]:
    """The values of inputs that `graph` is right for. Raises ModelError if they make no sense."""
    if KEY not in graph.metadata:
        return {}
    types = {v.name: v.type for v in graph.inputs if isinstance(v.type, TensorType)}
    try:
        return {
            name: np.array(value, types[name].dtype.numpy).reshape(cast(Any, types[name].shape))
            for name, value in json.loads(graph.metadata[KEY]).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ModelError(
            f"the graph's values of inputs make no sense: {type(error).__name__}: {error}",
            where=f"metadata {KEY}",
            received=graph.metadata[KEY],
        ) from error


def plain(array: np.ndarray) -> Any:
    """Numbers in lists."""
    return array.tolist() if array.dtype.kind in "iufb" else array.astype(np.float64).tolist()
