"""`auto`: of the ranges that observers give a value, the one with the least error of the outputs.

One graph serves all: every value is quantized by a scale that is an input, where its switch says
so. Each value is quantized alone, by each of its scales, on some of the data; what the model's
outputs are then, against those of the floats, decides. Squared errors of the values themselves
decide where a model is too large for that (`BUDGET`).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ...compiler.classes import dataclass
from ...compiler.compress.candidates import find_products
from ...compiler.compress.observers import OBSERVERS, Observed, choose
from ...compiler.compress.placement import multiplications
from ...compiler.compress.quantize import Plan
from ...compiler.compress.recipe import Scale
from ...compiler.ir.editor import GraphEditor
from ...compiler.ir.graph import Graph, Node, Value
from ...compiler.ir.types import F32, TensorType, dtype_of, parse_type
from ...compiler.options import Options
from ...compiler.system.progress import Listener, tell
from ..base.signature import fix_shapes
from ..compile import GraphSource, compile_model
from .data import Data, Feed

BUDGET = 2e11  # multiplications that a choice may take: some seconds
FEEDS = 16  # runs that are looked at, at most
ALIKE = 0.01  # scales that differ by less are one


def least_output_error(
    plan: Plan,
    seen: Mapping[str, Observed],
    data: Data,
    *,
    threads: int | None = None,
    progress: Listener | None = None,
) -> str | None:
    """Replace the scales of a plan by those with the least error of outputs, or say why not."""
    graph = plan.candidates.graph
    if data.shapes is None:
        return "runs of different sizes: each range has the least squared error of its value"
    groups = list(plan.groups())
    found = {g[0].name: list(_scales(plan, g, seen)) for g in groups}
    fixed = fix_shapes(graph, data.shapes)
    runs = 1 + sum(len(s) for s in found.values())
    count = int(BUDGET // max(runs * sum(map(multiplications, find_products(fixed))), 1))
    if not count:
        return "the model is large: each range has the least squared error of its value"
    names = {v.name: g[0].name for g in groups for v in g}
    probe = _Probe.of(fixed, names, plan.recipe.activations, threads)
    feeds = [feed for feed, _ in zip(data, range(min(count, FEEDS)))]
    probe.refer_to(feeds)
    for i, group in enumerate(groups):
        tell(progress, "ranges", i, len(groups))
        scales = found[group[0].name]
        errors = [probe.error(feeds, group[0].name, s) for s in scales]
        best = scales[int(np.argmin(errors))]
        plan.scales |= dict.fromkeys([v.name for v in group], best)
        plan.errors |= dict.fromkeys([v.name for v in group], min(errors) / len(feeds))
    tell(progress, "ranges", len(groups), len(groups))
    return None


def _scales(plan: Plan, group: Sequence[Value], seen: Mapping[str, Observed]) -> Iterator[Scale]:
    """Those of all observers, without those that are nearly the same."""
    merged = plan.merged(group, seen)
    recipe, taken = plan.recipe, []
    for observer in OBSERVERS:
        scale = choose(merged, observer, recipe.activations, recipe.percentile)
        if all(abs(scale.scale / t.scale - 1) > ALIKE for t in taken):
            taken.append(scale)
            yield scale


@dataclass(eq=False)
class _Probe:
    """A graph that quantizes one value at a time; `expected` are its outputs in floats."""

    exe: object
    dtype: np.dtype
    off: Feed
    inputs: set[str]
    expected: list[dict[str, np.ndarray]]

    @classmethod
    def of(
        cls, graph: Graph, names: Mapping[str, str], dtype: str, threads: int | None
    ) -> "_Probe":
        """`names` of values that are quantized, each with the name of its scale."""
        probed = _with_switches(graph, names, dtype)
        exe = compile_model(GraphSource(probed), Options(), threads=threads, reuse=False)
        numpy = dtype_of(dtype).numpy
        off: Feed = {}
        for name in names.values():
            off |= {
                f"{name}/scale": np.float32(1),
                f"{name}/zero": numpy.type(0),
                f"{name}/on": np.bool_(False),
            }
        return cls(exe, numpy, off, {p.name for p in exe.inputs}, [])

    def run(self, feed: Feed) -> dict[str, np.ndarray]:
        given = {n: a for n, a in {**self.off, **feed}.items() if n in self.inputs}
        outputs = self.exe.run(given)  # type: ignore[attr-defined]
        return {n: y for n, y in outputs.items() if np.asarray(y).dtype == np.float32}

    def refer_to(self, feeds: Sequence[Feed]) -> None:
        self.expected = [self.run(feed) for feed in feeds]

    def error(self, feeds: Sequence[Feed], name: str, scale: Scale) -> float:
        """The squared error of the outputs, as a share of their squares."""
        said = {
            f"{name}/scale": np.float32(scale.scale),
            f"{name}/zero": self.dtype.type(scale.zero),
            f"{name}/on": np.bool_(True),
        }
        total = 0.0
        for feed, expected in zip(feeds, self.expected):
            for n, y in self.run({**feed, **said}).items():
                wide = expected[n].astype(np.float64)
                total += float(np.square(wide - y).sum() / max(np.square(wide).sum(), 1e-30))
        return total


def _with_switches(graph: Graph, names: Mapping[str, str], dtype: str) -> Graph:
    """A graph whose values of these names are quantized where `NAME/on` is true."""
    graph = graph.copy()
    edit = GraphEditor(graph)
    made: dict[Value, Value] = {}
    operands: dict[str, tuple] = {}

    def probed(value: Value) -> Value:
        name = names.get(value.name)
        if name is None:
            return value
        if value not in made:
            b, kind = edit.b, dtype_of(dtype)
            if name not in operands:
                operands[name] = (
                    _input(graph, f"{name}/scale", "f32[]"),
                    _input(graph, f"{name}/zero", f"{kind}[]"),
                    _input(graph, f"{name}/on", "bool[]"),
                )
            s, z, on = operands[name]
            q = b.quantize_linear(value, s, z, axis=0, dtype=kind)
            made[value] = b.where(on, b.dequantize_linear(q, s, z, axis=0), value).value
        return made[value]

    for node in edit:
        _redirect(node, probed)
    return graph


def _redirect(node: Node, probed) -> None:
    node.inputs = [probed(v) if v is not None and _is_f32(v) else v for v in node.inputs]


def _is_f32(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.dtype == F32


def _input(graph: Graph, name: str, type: str) -> Value:
    value = Value(name, parse_type(type))
    graph.inputs.append(value)
    return value
