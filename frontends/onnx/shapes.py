"""The type of every value of a model, by the names of the file.

    types, error = value_types("model.onnx")
    types["h"]                                  # f32[N,64]; None where it cannot be said

Reading a model is its shape inference: dims of the inputs are symbols, and what is computed from
shapes is followed (`values.py`), so that sizes are known as far as they follow from the inputs'.
"""

from collections.abc import Mapping

from ...compiler.errors import TesselError
from ...compiler.ir.builder import Tensor
from ...compiler.ir.types import Type
from .file import proto as pb
from .operators.table import OPERATORS
from .read.reader import Reader
from .read.scope import Sequence


def value_types(
    model, *, shapes: Mapping | None = None, values: Mapping | None = None
) -> tuple[dict[str, "Type | str | None"], TesselError | None]:
    """The types of inputs, initializers and nodes' results in the order of the file, and the error
    if not all of the model can be read.

    `model`, `shapes` and `values` as in `read`. A sequence is told by its elements' types as text.
    """
    reader = Reader(pb.load(model), OPERATORS)
    error = None
    try:
        reader.read(dict(shapes or {}), dict(values or {}), {})
    except TesselError as caught:
        if reader.scope is None:
            raise
        error = caught
    return {n: _type(v) for n, v in reader.scope.values.items() if n}, error


def _type(value) -> "Type | str | None":
    if isinstance(value, Tensor):
        return value.type
    if isinstance(value, Sequence):
        types = [_type(v) for v in value.items]
        return f"seq({', '.join(map(str, types))})"
    return None
