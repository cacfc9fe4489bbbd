"""From an ONNX model to a graph: a path, the bytes of a file, or a ModelProto."""

from collections.abc import Mapping
from pathlib import Path

import onnx

from ...compiler.ir.graph import Graph
from .file import proto as pb
from .operators.table import OPERATORS
from .read.reader import Reader


def read(
    model: "str | Path | bytes | onnx.ModelProto",
    *,
    shapes: Mapping[str, tuple] | None = None,
    values: Mapping[str, object] | None = None,
    structures: Mapping[str, object] | None = None,
) -> Graph:
    """The Graph of an ONNX model (a path, the file's bytes, or a ModelProto).

    `shapes` fixes dims that the file leaves open, by input name; `values` are arrays of inputs
    that decide shapes: the graph is right for these values only. `structures` say what inputs that
    are no tensors consist of (`read/inputs.py`). Raises ModelError for damaged files and one
    UnsupportedError, ModelError or TypeMismatch listing all nodes that cannot be read.
    """
    return Reader(pb.load(model), OPERATORS).read(shapes or {}, values or {}, structures or {})
