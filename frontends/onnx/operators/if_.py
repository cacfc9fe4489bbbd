"""If: a known condition leaves one branch; else both become regions, of `if`, or of `host_if` where
data decides sizes in them (`hosted.py`)."""

from ....compiler.errors import TesselError, TypeMismatch
from ....compiler.ir.builder import Tensor
from ....compiler.ir.dim_arrays import larger
from ....compiler.ir.hosted import inner_symbols
from ....compiler.ir.metadata.known_values import IMPOSSIBLE
from ....compiler.ir.types import TensorType
from ..read.call import Call
from ..read.continuation import BranchesDiffer, follows_from_data
from ..read.dependence import ValueDependence
from ..read.region import Region, inline_graph
from ..read.scope import Skip, flatten, regroup, types_of
from ..read.symbolic import bind
from .hosted import hosted_if, is_hosted


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
    if any(map(is_hosted, regions)):
        results = hosted_if(c, condition, regions)
        if results is not None:
            return results
    then, other = ([types_of(v) for v in r.results] for r in regions)
    if then != other:
        what = "the branches give different types, and the condition"
        error = c.value_dependence(0, what) if known is None else None
        again = any(c.proto is node for node in c.reader.continued)
        # Floats rarely come twice: better no code for each of their values.
        if isinstance(error, ValueDependence) and (again or not error.data):
            raise error
        if known is None and _differ_in_sizes(then, other):
            return _padded(c, condition, regions)
        message = "the branches give different types, and the condition is not known while reading"
        if follows_from_data(condition.value, c.b.outer):
            raise BranchesDiffer(
                message, where=c.where, expected=_shown(then), received=_shown(other)
            )
        raise c.size_dependence(
            message,
            expected=_shown(then),
            received=_shown(other),
            fix="pass --shapes for all inputs if the condition depends on a shape",
        )
    results = _emit(c, condition, regions, [flatten(r.results) for r in regions])
    return regroup(regions[0].results, results)


def _emit(c: Call, condition: Tensor, regions: list["Region"], results: list) -> list[Tensor]:
    captured = list(dict.fromkeys(v for r in regions for v in r.scope.captured))
    graphs = [r.close(captured, values) for r, values in zip(regions, results)]
    out = c.b.emit(
        "if",
        condition.reshape(()),
        *[Tensor(c.b, v) for v in captured],
        then_graph=graphs[0],
        else_graph=graphs[1],
    )
    return list(out) if isinstance(out, tuple) else [out]


def _differ_in_sizes(then: list, other: list) -> bool:
    """Whether both give numbers of the same dtypes and ranks."""
    return len(then) == len(other) and all(
        isinstance(a, TensorType)
        and isinstance(b, TensorType)
        and a.dtype == b.dtype
        and a.rank == b.rank
        and a.dtype.kind != "s"
        for a, b in zip(then, other)
    )


def _padded(c: Call, condition: Tensor, regions: list["Region"]) -> list[Tensor]:
    """Results of branches that differ in sizes: each branch fills up to the larger sizes and says
    its own; a slice behind the `if` cuts the rest off."""
    pairs = list(zip(*(r.results for r in regions)))
    dynamic_axes = [
        [i for i, (d, e) in enumerate(zip(x.shape, y.shape)) if d != e] for x, y in pairs
    ]
    filled = []
    for k, region in enumerate(regions):
        b, values, sizes = region.builder, [], []
        for pair, axes in zip(pairs, dynamic_axes):
            x, shape = pair[k], [larger(d, e) for d, e in zip(pair[0].shape, pair[1].shape)]
            pads = [0] * x.rank + [most - d for most, d in zip(shape, x.shape)]
            values.append(b.emit("pad", x, pads=tuple(pads)) if any(pads) else x)
            sizes += [x.shape[i] for i in axes]
        filled.append([*values, b.dims(sizes)])
    *results, sizes = _emit(c, condition, regions, filled)
    count = sum(map(len, dynamic_axes))
    found = [
        c.b.emit("slice", sizes, axes=(0,), starts=(i,), steps=(1,), sizes=(1,))
        for i in range(count)
    ]
    symbols = iter(bind(c, found, "branch"))
    cut = []
    for x, axes in zip(results, dynamic_axes):
        own = tuple(next(symbols) for _ in axes)
        zeros, ones = (0,) * len(axes), (1,) * len(axes)
        if axes:
            x = c.b.emit("slice", x, axes=tuple(axes), starts=zeros, steps=ones, sizes=own)
        cut.append(x)
    return cut


def _reason(error: TesselError, where: str | None) -> str:
    """What a run says that takes a branch with this error."""
    said = [error.message]
    for label, x in (("expected", error.expected), ("received", error.received)):
        said += [] if x is None else [f"{label} {x}"]
    at = "" if where is None else f" at {where}"
    return f"the inputs choose a branch that their shapes make impossible: {', '.join(said)}{at}"


def _shown(types: list) -> str:
    return ", ".join("none" if t is None else str(t) for t in types)


def _outside(value, region: Region):
    """The type of a region's result for who knows nothing of sizes that it finds: they are 0."""
    type = types_of(value)
    if not isinstance(type, TensorType):
        return type
    return type.substitute(dict.fromkeys(inner_symbols(region.builder.graph), 0))


def _branches(c: Call, branches: dict) -> list["Region"]:
    """Both branches as regions.

    A branch may contradict the shapes of the inputs because it is never taken with them (a speech
    model with a branch for each sample rate). It can give nothing right: a run that takes it fails
    and says what contradicts them. The graph's metadata tell where.
    """
    regions: dict[str, Region] = {}
    impossible: list[TesselError] = []
    reason = ""
    for name, graph in branches.items():
        mark = len(c.reader.findings.errors)
        try:
            regions[name] = Region(c, graph, name)
        except Skip:
            errors = c.reader.findings.errors[mark:]
            wrong = errors and all(isinstance(e[0], TypeMismatch) for e in errors)
            if impossible or not wrong:
                raise
            reason = _reason(errors[0][0], errors[0][3])
            impossible = c.reader.findings.take_since(mark)
    if impossible:
        (other,) = regions.values() if regions else (None,)
        types = [_outside(v, other) for v in other.results] if other is not None else []
        if not types or not all(isinstance(t, TensorType) and t.dtype.kind != "s" for t in types):
            for error in impossible:
                c.reader.findings.add(error, None)
            raise Skip
        (name,) = branches.keys() - regions.keys()
        regions[name] = Region(c, branches[name], name, impossible=types, reason=reason)
        c.reader.note(IMPOSSIBLE, f"{c.where}, {name}")
    return [regions[name] for name in branches]
