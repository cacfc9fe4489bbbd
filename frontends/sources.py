"""What a user may give as a model, as a `Source` that the runtime compiles.

    source = source_of("model.onnx", limits={"nodes": 1_000_000})
    graph = source.read({"x": (1, 3)})

A model is a path, the bytes of an ONNX file, a ModelProto, what another part of this package made
of one of these, or a Graph. The ONNX reader is loaded when something is read.
"""

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from ..compiler.arguments import received, require, require_shapes
from ..compiler.errors import UnsupportedError, UsageError
from ..compiler.ir.graph import Graph
from ..runtime.compile import GraphSource, Shapes, Source

if TYPE_CHECKING:
    import numpy as np

    from ..compiler.system.budgets import Limits
    from ..runtime.base.build import ShapeSpecialized
    from ..runtime.execution.structured import Reader

EXPECTED = "a path, the bytes of a file, a ModelProto or a Graph"


class OnnxSource:
    """A model that the ONNX reader reads: `model` is what `onnx.proto.load` takes."""

    is_file = True
    is_prepared = False

    def __init__(self, model: Any):
        self.model = model

    @property
    def reusable(self) -> Any:
        # Users' ops decide what a model means, and what they do is in no hash.
        users = sys.modules.get(f"{__package__}.user.registration")
        registered = getattr(users, "registered", None)  # None: another thread is importing it
        plain = users is None or (registered is not None and not registered())
        return self.model if plain and isinstance(self.model, (str, os.PathLike, bytes)) else None

    @property
    def files(self) -> dict[str, list[int]]:
        """The stamps of files beside a model that is `watched`."""
        return self.model.files

    def read(self, shapes: Shapes | None = None, values: Mapping | None = None) -> Graph:
        from .onnx.importer import read

        require_shapes(shapes)
        if values is not None:
            require("values", values, Mapping, "arrays by input name", "values={'shape': array}")
        return read(self.model, shapes=cast(Any, shapes), values=values)

    def specialized_model(
        self, shapes: Shapes | None, error: UnsupportedError
    ) -> "ShapeSpecialized | Reader | None":
        from .onnx.specialized import specialized_model

        return specialized_model(self.model, shapes, error)

    def watched(self) -> "OnnxSource":
        from .onnx.file.watched import Watched

        return OnnxSource(Watched(self.model))

    def default(self, name: str) -> "np.ndarray":
        from .onnx.read.overridable import default_of

        return default_of(self.model, name)

    def feeding(self, names: frozenset[str]) -> "OnnxSource":
        from .onnx.read.overridable import Feeding

        return OnnxSource(Feeding(self.model, names))


def source_of(
    model: Any, *, limits: "Limits | Mapping[str, int] | None" = None, dims: str = "check"
) -> Source:
    """A model that knows what it may cost, and (`dims="warn"`) whose dims of one name may differ.

    Raises UsageError for what is no model.
    """
    is_prepared = getattr(model, "is_quantized", False)  # what `quantize` gives
    if is_prepared:
        model = model.graph
    if dims not in ("check", "warn"):
        raise UsageError("unknown way with dims", expected="'check' or 'warn'", received=dims)
    if isinstance(model, Graph):
        if dims == "warn":
            raise UsageError(
                "a graph's dims are what it says", fix="leave out dims, or rename them"
            )
        graph = model if limits is None else _limited(model, limits)
        return GraphSource(graph, is_prepared)
    check_model(model)
    if limits is not None:
        from ..compiler.system.budgets import Limits
        from .onnx.file.proto import Limited

        model = Limited(model, Limits.of(limits))
    if dims == "warn":
        from .onnx.read.apart import Apart

        model = Apart(model)
    return OnnxSource(model)


def _limited(graph: Graph, limits: "Limits | Mapping[str, int]") -> Graph:
    from ..compiler.system.budgets import FOLDED, Limits

    graph = graph.copy()
    graph.metadata[FOLDED] = str(Limits.of(limits).folded)
    return graph


def check_model(model: Any) -> None:
    """Raise UsageError for what the ONNX reader cannot take."""
    if isinstance(model, (str, os.PathLike, bytes, bytearray, memoryview)):
        return
    from .onnx.file import proto as pb

    if isinstance(model, (pb.Source, pb.ModelProto)):
        return
    raise UsageError(
        "this is no model", expected=EXPECTED, received=received(model), fix=_fix(model)
    )


def _fix(x: Any) -> str | None:
    """What to do with things that people take for models."""
    if hasattr(x, "specializations"):
        return "it is compiled already: call it, or save it with exe.save(…)"
    if callable(x):
        return "tessel.jit(f), or tessel.native.trace(f, …) and compile its graph"
    return None
