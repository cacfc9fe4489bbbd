"""Runs whose sizes are 0 where a graph takes them to be at least 1 (`compiler/ir/nonempty.py`).

exe.empty = WhenEmpty(read)        # read(shapes, values): the Graph for shapes without symbols
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ...compiler.classes import dataclass
from ...compiler.errors import InputError, TesselError, TypeMismatch
from ...compiler.ir import dims
from ...compiler.ir.bounds import above
from ...compiler.ir.graph import Graph
from ...compiler.ir.nonempty import nonempty
from ...compiler.ir.types import TensorType

if TYPE_CHECKING:
    from .executable import Executable


@dataclass(frozen=True)
class WhenEmpty:
    """Reads the model of an executable anew; sizes that a binding leaves out stay open."""

    read: Callable[[dict[str, tuple], dict], Graph]

    def __call__(self, exe: "Executable", binding: Mapping[str, int]) -> Graph:
        types = {p.name: p.type.substitute(binding) for p in exe.signature.inputs}
        shapes = {
            n: tuple(None if isinstance(d, dims.Sym) else d for d in t.shape)
            for n, t in types.items()
            if isinstance(t, TensorType)
        }
        try:
            return self.read(shapes, dict(exe.signature.values))
        except TesselError as error:
            first = error.findings[0] if error.findings else error
            raise InputError(
                f"the sizes {dims.shown(binding)} do not fit the model: {first.message}",
                where=first.where,
                expected=first.expected,
                received=first.received,
                findings=error.findings,
            ) from error


def graph_for(exe: "Executable", binding: Mapping[str, int]) -> Graph:
    """What is compiled for these sizes: the executable's graph where it means them, else its model
    read anew. Raises InputError where that is not there, or refuses these sizes."""
    empty = [d for d in nonempty(exe.graph) if not is_positive(d, binding)] if binding else []
    if not empty:
        return exe.graph
    if exe.empty is None:
        raise InputError(
            f"the size {empty[0]} is 0, and the graph was made for sizes of at least 1",
            expected=f"at least 1 for {', '.join(map(str, nonempty(exe.graph)))}",
            received=dims.shown(binding),
            fix="compile the ONNX file itself: it is read anew for sizes of 0",
        )
    return exe.session.optimize(exe.empty(exe, binding))


def open_graph_for(exe: "Executable", binding: Mapping[str, int]) -> Graph:
    """What is compiled where some sizes are known and the others open, from 1 on. Raises as
    `graph_for` does."""
    if all(is_positive(d, binding) for d in nonempty(exe.graph)):
        from ...compiler.ir.specialize import specialize

        graph = specialize(exe.graph, binding)
    elif exe.empty is not None:
        graph = exe.empty(exe, binding)
    else:
        raise InputError("the graph was made for sizes of at least 1", received=dims.shown(binding))
    return exe.session.optimize(graph)


def is_positive(d: dims.Dim, binding: Mapping[str, int]) -> bool:
    """Whether a dim is at least 1 for these sizes, and for whatever sizes from 1 on are left."""
    try:
        return above(dims.substitute(d, binding), 0)
    except (ZeroDivisionError, TypeMismatch):  # n // 0; axes that do not broadcast
        return False
