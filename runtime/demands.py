"""What a user may demand of a program before code is made of it: `strict`, `verify_bounds`."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..compiler.errors import TesselError, UnsupportedError
from ..compiler.hosted import HOSTED
from ..compiler.ir import Graph

if TYPE_CHECKING:
    from ..compiler.loops.nest import Program
    from .build import Target


CALLBACK = "is a host callback: it runs in Python"


class NotCompiled(UnsupportedError):
    """What `strict` refuses: something would run outside compiled code, whatever the sizes are."""

    def __init__(self, findings: Iterable[TesselError]):
        super().__init__("not everything runs in compiled code", findings=tuple(findings),
                         fix="leave out strict")  # fmt: skip


def check_graph(graph: Graph, strict: bool) -> None:
    """Raise NotCompiled where `strict` refuses nodes of a graph, before it is known whether there
    can be code for all sizes."""
    found = list(_outside(graph)) if strict else []
    if found:
        raise NotCompiled(found)


def _outside(graph: Graph) -> Iterator[UnsupportedError]:
    from ..compiler.ops.python import extern_of

    for node in graph.nodes:
        if node.op.name in HOSTED:
            what = "is run by the host, since its shapes depend on data"
        elif extern_of(node) is not None:
            what = CALLBACK
        else:
            for _, region in node.regions():
                yield from _outside(region)
            continue
        yield UnsupportedError(f"{node.op.name} {what}", where=node.where or None)


def check_demands(program: "Program", target: "Target", strict: bool) -> None:
    """Raise NotCompiled where `strict` refuses something, CheckFailed where the target was
    asked for a proof that programs stay inside their arrays (`verified`) and there is none."""
    if strict:
        refuse_externs(program)
    if target.verified is not None:
        from ..compiler.loops.bounds import verify_bounds

        target.verified += verify_bounds(program)


def refuse_externs(program: "Program") -> None:
    """Raise NotCompiled if something would run outside compiled code."""
    from ..compiler.loops.nest import ExternCall, walk_steps

    findings = [
        UnsupportedError(f"{step.op} {CALLBACK}", where=step.origin or None)
        for step in walk_steps(program.steps)
        if isinstance(step, ExternCall)
    ]
    if findings:
        raise NotCompiled(findings)
