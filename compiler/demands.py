"""What `strict` demands of a program before code is made of it."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .errors import TesselError, UnsupportedError
from .ir.graph import Graph
from .ir.hosted import HOSTED

if TYPE_CHECKING:
    from .kernels.kernel import Program


CALLBACK = "is a host callback: it runs in Python"


class NotCompiled(UnsupportedError):
    """What `strict` refuses: something would run outside compiled code, whatever the sizes are."""

    def __init__(self, findings: Iterable[TesselError]):
        super().__init__(
            "not everything runs in compiled code", findings=tuple(findings), fix="leave out strict"
        )


def check_graph(graph: Graph, strict: bool) -> None:
    """Raise NotCompiled where `strict` refuses nodes of a graph, before it is known whether there
    can be code for all sizes."""
    found = list(_outside(graph)) if strict else []
    if found:
        raise NotCompiled(found)


def _outside(graph: Graph) -> Iterator[UnsupportedError]:
    from .ir.host_callbacks import host_callback_of

    for node in graph.nodes:
        if node.op.name in HOSTED:
            what = "is run by the host, since its shapes depend on data"
        elif host_callback_of(node) is not None:
            what = CALLBACK
        else:
            for _, region in node.regions():
                yield from _outside(region)
            continue
        yield UnsupportedError(f"{node.op.name} {what}", where=node.where or None)


def refuse_host_callbacks(program: "Program") -> None:
    """Raise NotCompiled if something would run outside compiled code."""
    from .kernels.kernel import HostCallback, walk_steps

    findings = [
        UnsupportedError(f"{step.op} {CALLBACK}", where=step.origin or None)
        for step in walk_steps(program.steps)
        if isinstance(step, HostCallback)
    ]
    if findings:
        raise NotCompiled(findings)
