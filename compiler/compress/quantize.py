"""A graph quantized by a recipe: what the parts of this folder are put together to.

plan = Plan.of(graph, recipe)             which products, which of them are kept, and why
plan.observe(seen)                        scales from what a calibration saw
graph, report = plan.apply()
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import reduce
from glob import escape

import numpy as np

from ..classes import dataclass
from ..errors import UsageError
from ..ir.graph import Graph, Node, Value, clone, constants
from ..passes.base import Report as PassReport
from ..passes.cleanup import DeadCodeElimination
from .blocks import LEAST, tables_to_bytes, weights_to_blocks
from .candidates import Candidates, Product, find_candidates, parts_of
from .insert import insert
from .observers import Observed, choose, clipped, squared_error
from .placement import keep_small
from .recipe import Recipe, Scale, nearest
from .report import Report, Row
from .tables import TABLES
from .weights import Narrow, bits_of, quantize_weights, rounding_of


@dataclass(eq=False)
class Plan:
    """The candidates of a graph under a recipe. `seen` is what a calibration saw, by value;
    `errors` what a value that is quantized alone does to the outputs."""

    candidates: Candidates
    recipe: Recipe
    scales: dict[str, Scale] = field(default_factory=dict)
    seen: dict[str, Observed] = field(default_factory=dict)
    weights: dict[Node, Narrow] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    shifts: dict[Node, np.ndarray] = field(default_factory=dict)  # added to outputs of products
    needed: Sequence[Product] = ()  # what a metric needs in f32
    slower: Sequence[Product] = ()  # what takes longer as bytes
    ms: dict[Node, tuple[float, float]] = field(default_factory=dict)  # predicted (floats, bytes)
    total_ms: tuple[float, float] | None = None
    sizes: Mapping[str, Sequence[int]] | None = None  # of the data, by input
    tables: Sequence[str] = ()  # that rows are gathered from, of bytes
    errors: dict[str, float] = field(default_factory=dict)  # of outputs, by the value to blame

    @classmethod
    def of(
        cls,
        graph: Graph,
        recipe: Recipe,
        aliases: Mapping[str, Sequence[str]] | None = None,
    ) -> "Plan":
        """`aliases` are names of nodes of the model by the origin of what became of them. Raises
        UsageError for patterns that name nothing."""
        candidates = find_candidates(graph)
        aliases = aliases or {}
        names = {p: _names(p, aliases) for p in candidates.products}
        for p in candidates.products:
            pattern = recipe.keeps(*names[p])
            if pattern is not None:
                p.keep = f"the recipe keeps {pattern!r}"
            else:
                p.keep = _unfit(p, recipe)
        if recipe.small and recipe.activations in ("u8", "i8"):
            keep_small(candidates, recipe.small)
        known = [n for found in names.values() for n in found]
        for pattern in recipe.keep:
            if not any(replace(recipe, keep=(pattern,)).keeps(n) for n in known):
                raise UsageError(
                    f"no product of the model is called {pattern!r}",
                    expected=", ".join(dict.fromkeys(p.where for p in candidates.products)),
                    fix=nearest(pattern, known),
                )
        return cls(candidates, recipe, dict(recipe.scales), shifts=_shifts(candidates, recipe))

    @property
    def is_static(self) -> bool:
        return self.recipe.activations not in ("f32", "dynamic")

    def wanted(self) -> list[Value]:
        """The values whose ranges a calibration has to find."""
        return list(self.candidates.sources()) if self.is_static else []

    def observe(self, seen: Mapping[str, Observed]) -> None:
        """Choose a scale for each value that is quantized, one for those that share it."""
        self.seen, recipe = dict(seen), self.recipe
        for group in self.groups():
            found = self.merged(group, seen)
            scale = choose(found, recipe.observer, recipe.activations, recipe.percentile)
            self.scales |= dict.fromkeys([v.name for v in group], scale)

    def groups(self) -> Iterator[list[Value]]:
        """The values whose ranges a calibration has to find, those together that share a scale."""
        shared, done = self._shared(), set()
        wanted = set(self.wanted())
        for value in self.wanted():
            if value not in done:
                group = [v for v in shared.get(value, [value]) if v in wanted]
                done |= set(group)
                yield group

    def merged(self, group: Sequence[Value], seen: Mapping[str, Observed]) -> Observed:
        """What was seen of all values of a group."""
        return reduce(Observed.merged, [seen[v.name] for v in group])

    def _shared(self) -> dict[Value, list[Value]]:
        """The values that have to have the scale of each, itself among them: sets that overlap are
        one."""
        found: dict[Value, list[Value]] = {}
        for group in self.candidates.groups:
            joined = list(dict.fromkeys(v for g in group for v in found.get(g, [g])))
            found |= dict.fromkeys(joined, joined)
        return found

    def apply(self) -> tuple[Graph, Report]:
        """The quantized graph, and what was done. Raises UsageError for scales that are missing."""
        graph = self.quantized()
        report = Report(self.recipe.name, self.rows())
        report.bytes_before = bytes_of(self.candidates.graph)
        report.bytes_after = bytes_of(graph)
        report.predicted_ms = self.total_ms
        if self.tables:
            report.notes.append(f"tables of 8 bits, a scale per row: {', '.join(self.tables)}")
        return graph, report

    def quantized(self) -> Graph:
        """The quantized graph. Raises UsageError for scales that are missing."""
        active = [p for p in self.candidates.products if p.keep is None]
        for p in active:
            for value in parts_of(p.source) if self.is_static else ():
                if value.name not in self.scales:
                    raise UsageError(
                        f"the recipe has no scale for {value.name!r}",
                        where=p.where,
                        expected="scales of this model, as a calibration wrote them",
                        fix="quantize with data, or remove the scales of another model",
                    )
            if not self.recipe.is_blocked:
                self.weights_of(p)
        if self.recipe.is_blocked:
            return self._in_blocks(active)
        graph = insert(
            self.candidates,
            {p.node: self.weights[p.node] for p in active},
            self.scales if self.is_static else {},
            self.recipe,
            self.shifts,
        )
        self.tables = [n.where for n in tables_to_bytes(graph)]
        DeadCodeElimination().run(graph, PassReport())
        return graph

    def _in_blocks(self, active: Sequence[Product]) -> Graph:
        graph, table = clone(self.candidates.graph)
        recipe = self.recipe
        kept = {table[p.node.outputs[0]].node for p in self.candidates.products if p.keep}
        known = [p for p in active if p.node in self.weights]
        weights_to_blocks(
            graph,
            8 if recipe.dtype in TABLES else bits_of(recipe),
            recipe.block if recipe.granularity == "block" else 0,
            recipe.symmetric,
            "int8" if recipe.activations == "dynamic" else "f32",
            keep=lambda node: node in kept,
            rounding=rounding_of(recipe),
            chosen={table[p.w]: self.weights[p.node].rounded for p in known},
            table=TABLES.get(recipe.dtype),
        )
        DeadCodeElimination().run(graph, PassReport())
        return graph

    def weights_of(self, p: Product) -> Narrow:
        """The narrow weights of a product: those that were chosen by data, or by the recipe."""
        if p.node not in self.weights:
            assert p.w.constant is not None
            self.weights[p.node] = quantize_weights(p.w.constant, p.axis, self.recipe)
        return self.weights[p.node]

    def chosen(self, data: str = "") -> Recipe:
        """The recipe with the scales that were chosen, and what a metric keeps."""
        stay = [*self.slower, *self.needed]
        keep = (*self.recipe.keep, *(escape(p.where) for p in stay))
        recipe = replace(self.recipe, scales=dict(self.scales), keep=tuple(dict.fromkeys(keep)))
        active = [p for p in self.candidates.products if p.keep is None and p.node in self.shifts]
        shifts = {p.name: [float(str(s)) for s in self.shifts[p.node]] for p in active}
        return replace(recipe, shifts=shifts, data=data or recipe.data)

    def rows(self) -> list[Row]:
        """What is said of each product."""
        return [self._row(p) for p in self.candidates.products]

    def _row(self, p: Product) -> Row:
        size = 0 if p.w.constant is None else p.w.constant.size
        row = Row(p.where, p.node.op.name, self.recipe.dtype, size, p.keep, ms=self.ms.get(p.node))
        if p.keep is not None:
            return row
        w = p.w.constant
        assert w is not None
        row = replace(row, activations=self.recipe.activations)
        if p.node in self.weights:
            error = _error(w, self.weights[p.node])
            row = replace(row, weight_sqnr=decibels(float(np.square(w).mean()), error))
        name = parts_of(p.source)[0].name
        scale, seen = self.scales.get(name), self.seen.get(name)
        if scale is None or not self.is_static:
            return row
        row = replace(row, scale=scale.scale, zero=scale.zero, observer=scale.observer)
        if seen is None:
            return row
        values, counts = seen.points
        power = float((values * values * counts).sum() / max(counts.sum(), 1))
        error = squared_error(seen, scale, self.recipe.activations)
        cut = clipped(seen, scale, self.recipe.activations)
        return replace(row, clipped=cut, sqnr=decibels(power, error))


def _unfit(p: Product, recipe: Recipe) -> str | None:
    """Why a recipe that needs no data leaves a product alone."""
    if recipe.activations not in ("f32", "dynamic"):
        return None
    if p.node.op.name == "conv":
        if recipe.activations == "dynamic":
            return "a convolution's data needs scales from a calibration (recipe int8)"
        return "a convolution would widen its weights in each run (recipe int8 makes bytes of both)"
    weights = p.w.constant
    if recipe.is_blocked and (weights is None or weights.ndim != 2 or weights.size < LEAST):
        return f"it has fewer than {LEAST} weights, or not those of a matrix"
    return None


def _shifts(candidates: Candidates, recipe: Recipe) -> dict[Node, np.ndarray]:
    """What a recipe adds to the outputs of products. Raises UsageError where it does not fit."""
    found = {}
    for p in candidates.products:
        shift = recipe.shifts.get(p.name)
        if shift is None or not recipe.corrects_biases:
            continue
        outputs = 0 if p.axis is None else p.w.shape[p.axis]
        if len(shift) != outputs:
            raise UsageError(
                f"the recipe's shifts for {p.name!r} are not those of this model",
                where=p.where,
                expected=f"{outputs} numbers",
                received=f"{len(shift)}",
                fix="quantize with data, or remove the shifts of another model",
            )
        found[p.node] = np.float32(shift)
    return found


def _error(w: np.ndarray, narrow: Narrow) -> float:
    return float(np.square(narrow.floats() - w).mean())


def decibels(power: float, error: float) -> float | None:
    """Signal to noise; None where there is no signal or no noise."""
    return 10 * float(np.log10(power / error)) if power > 0 and error > 0 else None


def bytes_of(graph: Graph) -> int:
    """The bytes of a graph's constants, those of fewer than 8 bits packed."""
    return sum(a.nbytes for a in constants(graph))


def _names(p: Product, aliases: Mapping[str, Sequence[str]]) -> list[str]:
    """What a user may call a product: its node's name, and those that became part of it."""
    return [p.where, *aliases.get(p.where, ()), p.node.outputs[0].name]


def aliases_of(model: Graph, graph: Graph) -> dict[str, list[str]]:
    """Names of nodes of `model` that the passes made part of others, by the origin of what became
    of them in `graph`: the next node on the way to the outputs that is still there."""
    left = {n.origin for n in graph.nodes}
    uses, found = model.uses(), {}  # type: ignore[var-annotated]
    for node in model.nodes:
        if node.origin is None or node.origin in left or node.op.name == "constant":
            continue
        at = node
        for _ in range(8):
            readers = [r for v in at.outputs for r, _ in uses.get(v, [])]
            if len(readers) != 1:
                break
            at = readers[0]
            if at.origin in left:
                found.setdefault(at.origin, []).append(node.origin)
                break
    return found
