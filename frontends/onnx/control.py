"""If: a known condition leaves one branch; else both become regions."""

from ...compiler.builder import Tensor
from ...compiler.errors import TesselError, TypeMismatch, UnsupportedError
from ...compiler.known_values import IMPOSSIBLE
from ...compiler.types import TensorType
from .call import Call
from .needs import ValueNeeded
from .region import Region, inline_graph
from .scope import flatten, regroup, types_of


def if_(c: Call):
    """`If`: a known condition leaves one branch; else `if` with closed regions."""
    branches = {name: c.attr(name) for name in ("then_branch", "else_branch")}
    condition = c.x(0)
    known = c.known(0)
    if known is not None and not condition.symbolic:
        if known.size != 1:
            raise TypeMismatch("a condition must be one bool", received=condition.type)
        name = "then_branch" if bool(known.reshape(())) else "else_branch"
        return inline_graph(c, branches[name], name)
    regions = _branches(c, branches)
    then, other = ([types_of(v) for v in r.results] for r in regions)
    if then != other:
        what = "the branches give different types, and the condition"
        if known is None and isinstance(error := c.must_be_known(0, what), ValueNeeded):
            raise error
        raise UnsupportedError(
            "the branches give different types, and the condition is not known while reading",
            where=c.where,
            expected=_shown(then),
            received=_shown(other),
            fix="pass --shapes for all inputs if the condition depends on a shape",
        )
    captured = list(dict.fromkeys(v for r in regions for v in r.scope.captured))
    graphs = [r.close(captured, flatten(r.results)) for r in regions]
    results = c.b.emit(
        "if",
        condition.reshape(()),
        *[Tensor(c.b, v) for v in captured],
        then_graph=graphs[0],
        else_graph=graphs[1],
    )
    results = list(results) if isinstance(results, tuple) else [results]
    return regroup(regions[0].results, results)


def _shown(types: list) -> str:
    return ", ".join("none" if t is None else str(t) for t in types)


def _branches(c: Call, branches: dict) -> list["Region"]:
    """Both branches as regions.

    A branch may contradict the shapes of the inputs because it is never taken with them (a speech
    model with a branch for each sample rate). It can give nothing right, so it gives NaN; the
    graph's metadata tell where.
    """
    from .reader import Skip

    regions: dict[str, Region] = {}
    impossible: list[TesselError] = []
    for name, graph in branches.items():
        mark = len(c.reader.findings.errors)
        try:
            regions[name] = Region(c, graph, name)
        except Skip:
            errors = c.reader.findings.errors[mark:]
            if impossible or not all(isinstance(e[0], TypeMismatch) for e in errors):
                raise
            impossible = c.reader.findings.take_since(mark)
    if impossible:
        (other,) = regions.values() if regions else (None,)
        types = [types_of(v) for v in other.results] if other is not None else []
        if not types or not all(isinstance(t, TensorType) and t.dtype.is_float for t in types):
            for error in impossible:
                c.reader.findings.add(error, None)
            raise Skip
        (name,) = branches.keys() - regions.keys()
        regions[name] = Region(c, branches[name], name, nan=types)
        c.reader.note(IMPOSSIBLE, f"{c.where}, {name}")
    return [regions[name] for name in branches]
