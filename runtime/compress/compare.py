"""A quantized model against its original on data: which kernel errs, and what each costs.

    comparison = compare(original, quantized, data)      graphs; data as `Data.of` takes it

One graph computes both, and the errors (`compiler/compress/compared.py`): memory does not grow with
the data. Times are those of the two models by themselves.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...compiler.compress.compared import ERRORS, Border, borders, joint, require_same_inputs
from ...compiler.compress.comparison import Comparison, KernelError, decibels
from ...compiler.errors import InputError
from ...compiler.ir.graph import Graph
from ...compiler.lowering.expand import expand_composites
from ...compiler.lowering.fuse import plan_fusion
from ...compiler.options import Options
from ...compiler.system.progress import Listener, tell
from ..base.signature import Signature, fix_shapes
from ..compile import GraphSource, compile_model
from ..execution.executable import Executable
from ..profiling.profile import profile
from .data import Data, Feed

Times = list[tuple[tuple[str, ...], float]]  # (origins, ms) of kernels


def compare(
    original: Graph,
    quantized: Graph,
    data: Any,
    *,
    measure: bool = False,
    threads: int | None = None,
    progress: Listener | None = None,
) -> Comparison:
    """Every kernel's error on the data, and predicted times for its sizes; with `measure`, both
    models are run and timed as well. Raises UsageError for models that are not each other's."""
    require_same_inputs(original, quantized)
    feeds = Data.of(data, Signature.of(original).inputs)
    if feeds.shapes is not None:
        original, quantized = (fix_shapes(g, feeds.shapes) for g in (original, quantized))
    found = borders(original, quantized, _in_memory(original))
    exe = _compiled(joint(original, quantized, found), threads)
    alone = {"f32": _compiled(original, threads), "quantized": _compiled(quantized, threads)}
    sums = np.zeros((len(found), 7))
    outputs: dict[str, list[float]] = {n: [0.0, 0.0] for n in quantized.output_names}
    runs, same, first = 0, True, None
    for feed in feeds:
        results = exe.run(feed)
        errors = results[ERRORS].astype(np.float64)
        sums[:, 3:5] = np.maximum(sums[:, 3:5], errors[:, 3:5])
        sums[:, [0, 1, 2, 5, 6]] += errors[:, [0, 1, 2, 5, 6]]
        right = alone["f32"].run(feed)
        for name, total in outputs.items():
            if name in right and right[name].dtype == np.float32:
                wide = right[name].astype(np.float64)
                total[0] += float(np.square(wide).sum())
                total[1] += float(np.square(wide - results[name]).sum())
        if first is None:
            first = feed
            plain = alone["quantized"].run(feed)
            same = all(np.array_equal(plain[n], results[n], equal_nan=True) for n in outputs)
        runs += 1
        tell(progress, "compare", runs, max(runs, feeds.total or 0))
    if first is None:
        raise InputError("the data has no samples", fix="give at least one")
    rows = [_row(border, total) for border, total in zip(found, sums)]
    result = Comparison(rows, {n: decibels(*t) for n, t in outputs.items() if t[0]}, {}, runs, same)
    if not same:
        result.notes.append("looking at kernels changed bits of the outputs: they sum otherwise")
    _add_times(result, found, alone, first, measure)
    return result


def _compiled(graph: Graph, threads: int | None) -> Executable:
    return compile_model(GraphSource(graph), Options(), threads=threads, reuse=False)


def _in_memory(graph: Graph) -> set[str]:
    """The names of values that the fusion plan of the model of floats gives memory."""
    expanded = expand_composites(graph.copy())
    inlined = plan_fusion(expanded).inlined
    return {v.name for v in expanded.values() if v not in inlined and v.constant is None}


def _row(border: Border, total: np.ndarray) -> KernelError:
    signal, own, accumulated, own_largest, largest, cut, count = map(float, total)
    return KernelError(
        border.origins,
        border.original.name,
        decibels(signal, own),
        decibels(signal, accumulated),
        largest,
        own_largest,
        cut / max(count, 1),
        border.codes is not None or any(_is_narrow(n) for n in border.nodes),
    )


def _is_narrow(node) -> bool:
    """Whether a node reads integers of 8 bits or less, or floats that these stand for."""
    return any(v is not None and v.type.dtype.bits <= 8 for v in node.inputs if v is not None)


# -- times ------------------------------------------------------------------------------------


def _add_times(
    result: Comparison,
    found: Sequence[Border],
    alone: dict[str, Executable],
    feed: Feed,
    measure: bool,
) -> None:
    """Predicted ms of each row's kernels, and measured ones."""
    kinds = {"predicted ms": _predicted}
    if measure:
        kinds["measured ms"] = _measured
    for title, times in kinds.items():
        both = [times(exe, feed) for exe in alone.values()]
        if any(t is None for t in both):
            continue
        each = [
            _by_border(t, [_origins(b, k) for b in found])
            for k, t in enumerate(both)
            if t is not None
        ]
        result.total[title] = tuple(sum(ms for _, ms in t) for t in both)  # type: ignore[misc]
        field = title.split()[0]
        for i, row in enumerate(result.kernels):
            object.__setattr__(row, field, (each[0][i], each[1][i]))


def _origins(border: Border, of_quantized: int) -> list[str]:
    nodes = border.nodes if of_quantized else border.before
    return [n.origin for n in nodes if n.origin is not None]


def _predicted(exe: Executable, feed: Feed) -> Times | None:
    exe.run(feed)
    built = exe.specializations[-1]
    found = exe.target.predict(exe.fixed(built.binding).code if built.is_dynamic else built.code)
    if found is None:
        return None
    return [(p.step.call.kernel.origins, p.ns * p.rounds / 1e6) for p in found]


def _measured(exe: Executable, feed: Feed) -> Times:
    return [(k.origins, k.ns / 1e6) for k in profile(exe, feed).kernels]


def _by_border(times: Iterable[tuple[tuple[str, ...], float]], origins: list[list[str]]):
    """The ms of each border: a kernel belongs to the first that computes one of its nodes."""
    where: dict[str, int] = {}
    for i, names in enumerate(origins):
        for name in names:
            where.setdefault(name, i)
    total = [0.0] * len(origins)
    for names, ms in times:
        places = [where[n] for n in names if n in where]
        if places:
            total[min(places)] += ms
    return total
