"""Runs whose sizes are 0 where a graph takes them to be at least 1 (`compiler/nonempty.py`).

exe.empty = WhenEmpty(read)        # read(shapes, values): the Graph for shapes without symbols
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..compiler import dims
from ..compiler.errors import InputError, TesselError, TypeMismatch
from ..compiler.ir import Graph
from ..compiler.nonempty import nonempty
from .build import optimize

if TYPE_CHECKING:
    from .executable import Executable


@dataclass(frozen=True)
class WhenEmpty:
    """Reads the model of an executable anew."""

    read: Callable[[dict[str, tuple], dict], Graph]

    def __call__(self, exe: "Executable", binding: Mapping[str, int]) -> Graph:
        ports, values = exe.signature.inputs, exe.signature.values
        shapes = dict(zip((p.name for p in ports), exe.signature.shapes(binding)))
        try:
            return self.read({n: s for n, s in shapes.items() if s is not None}, dict(values))
        except TesselError as error:
            first = error.findings[0] if error.findings else error
            raise InputError(
                f"the sizes {_shown(binding)} do not fit the model: {first.message}",
                where=first.where, expected=first.expected, received=first.received,
                findings=error.findings,
            ) from error  # fmt: skip


def graph_for(exe: "Executable", binding: Mapping[str, int]) -> Graph:
    """What is compiled for these sizes: the executable's graph where it means them, else its model
    read anew. Raises InputError where that is not there, or refuses these sizes."""
    empty = [d for d in nonempty(exe.graph) if not _is_positive(d, binding)] if binding else []
    if not empty:
        return exe.graph
    if exe.empty is None:
        raise InputError(
            f"the size {empty[0]} is 0, and the graph was made for sizes of at least 1",
            expected=f"at least 1 for {', '.join(map(str, nonempty(exe.graph)))}",
            received=_shown(binding),
            fix="compile the ONNX file itself: it is read anew for sizes of 0",
        )  # fmt: skip
    return optimize(exe.empty(exe, binding), exe.level, exe.target)


def _is_positive(d, binding: Mapping[str, int]) -> bool:
    try:
        return dims.substitute(d, binding) > 0
    except (ZeroDivisionError, TypeMismatch):  # n // 0; axes that do not broadcast
        return False


def _shown(binding: Mapping[str, int]) -> str:
    return ", ".join(f"{k}={v}" for k, v in binding.items())
