"""From a graph to an ONNX model.

model = write(graph, "model.onnx")
"""

from numbers import Integral
from os import PathLike
from pathlib import Path

import onnx

from ...compiler.arguments import require, require_path
from ...compiler.errors import UsageError
from ...compiler.ir.graph import Graph
from ...compiler.system.files import write_file
from .write.file import check, tensor, write_external
from .write.older import OLDEST, older
from .write.table import TABLE
from .write.types import NewerOpset
from .write.writer import OPSET, Writer

EXTERNAL = 1_500_000_000  # bytes of weights from which on they go to a file beside the model


def write(
    graph: Graph,
    path: "str | PathLike[str] | None" = None,
    *,
    opset: int = OPSET,
    external_bytes: int = EXTERNAL,
) -> onnx.ModelProto:
    """The ONNX model of `graph`, checked; written to `path` if given.

    Its opset is the first from `opset` on that has all operators and dtypes of the graph, or, below
    21, this one if it has them all. Weights
    of more than `external_bytes` in all go to `<path>.data`. The file appears whole or not at all.
    Raises UnsupportedError naming an op that ONNX cannot say, UsageError for an opset that is not
    written.
    """
    if path is not None:
        require_path("the ONNX file", path)
    require("opset", opset, Integral, "a number")
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise UsageError(
            "no such opset can be written", expected=f"{OLDEST} to {newest}", received=opset
        )
    writer, model = _written(graph, max(opset, OPSET))
    if opset < OPSET:
        older(model, writer.arrays, opset)
    weights = sum(a.nbytes for a in writer.arrays.values())
    if weights <= external_bytes:
        check(model, writer.arrays)
        for name, array in writer.arrays.items():
            model.graph.initializer.append(tensor(name, array))
        if path is not None:
            write_file(path, model.SerializeToString(), UsageError)
        return model
    if path is None:
        raise UsageError(
            "the weights are too large for one ONNX file",
            expected=f"at most {external_bytes} bytes",
            received=f"{weights} bytes",
            fix="give a path: the weights go to a second file beside it",
        )
    write_external(Path(path), model, writer.arrays)
    return model


def _written(graph: Graph, opset: int) -> tuple[Writer, onnx.ModelProto]:
    """In the first opset, from `opset` on, that has all operators and dtypes of the graph."""
    while True:
        try:
            writer = Writer(graph, opset, TABLE)
            return writer, writer.model()
        except NewerOpset as needed:
            opset = needed.opset
