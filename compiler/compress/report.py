"""What was quantized and what not: a row per product, with scales, what is cut off, and reasons."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field
from html import escape
from typing import TYPE_CHECKING, Any

from ..classes import dataclass

if TYPE_CHECKING:
    from .comparison import Comparison


@dataclass(frozen=True)
class Row:
    """A product of the graph by its name in the model.

    kept      the reason why it stays in f32, or None
    scale, zero, observer   of its data, where that is quantized by scales from a calibration
    clipped   the share of calibration values that the range cuts off
    sqnr      signal to noise of its quantized data, and of its weights, in dB
    ms        of a run, predicted: as floats, as bytes
    """

    name: str
    op: str
    weights: str
    parameters: int
    kept: str | None = None
    activations: str = ""
    scale: float | None = None
    zero: int | None = None
    observer: str = ""
    clipped: float = 0.0
    sqnr: float | None = None
    weight_sqnr: float | None = None
    ms: tuple[float, float] | None = None


@dataclass
class Report:
    """Rows in the order of the graph, sizes in bytes of weights, and what was measured: metric by
    `before` and `after`; `comparison` where the models were compared on data."""

    recipe: str
    rows: list[Row] = field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0
    measured: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    comparison: "Comparison | None" = None
    predicted_ms: tuple[float, float] | None = None  # of a run on one thread, before and after

    @property
    def quantized(self) -> list[Row]:
        return [r for r in self.rows if r.kept is None]

    @property
    def kept(self) -> dict[str, str]:
        """Reasons by the name of what stays in f32."""
        return {r.name: r.kept for r in self.rows if r.kept is not None}

    def gains_nothing(self) -> str | None:
        """What to say where nothing was quantized: how often each reason stands in the report."""
        if self.quantized:
            return None
        reasons = Counter(self.kept.values())
        why = shares(reasons) or "the model has no products with constant weights"
        return f"nothing was quantized, so nothing is gained: {why}"

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def html(self) -> str:
        """The report as a page of its own: the table, and a bar for the noise of each product."""
        head = next(iter(self.lines()))
        measured = map(escape, self._metric())
        titles = "".join(f"<th>{escape(c)}</th>" for c in (*COLUMNS, "noise"))
        rows = "".join(
            f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in cells(r))}<td>{bar(r)}</td></tr>\n"
            for r in self.rows
        )
        said = "".join(f"<p>{line}</p>\n" for line in [escape(head), *measured])
        notes = "".join(f"<p>note: {escape(n)}</p>\n" for n in self.notes)
        title = f"<!doctype html><meta charset=utf-8><title>{escape(self.recipe)}</title>\n"
        page = f"{title}{STYLE}{said}<table><tr>{titles}</tr>\n{rows}</table>\n{notes}"
        return page if self.comparison is None else page + self.comparison.html()

    def lines(self) -> Iterable[str]:
        share = 100 * self.bytes_after / max(self.bytes_before, 1)
        yield (
            f"{self.recipe}: {len(self.quantized)} of {len(self.rows)} products quantized, "
            f"constants {self.bytes_before:,} -> {self.bytes_after:,} bytes ({share:.0f} %)"
        )
        if self.predicted_ms is not None:
            before, after = self.predicted_ms
            yield f"predicted: {before:.3g} -> {after:.3g} ms on one thread here"
        yield from self._metric()
        if self.rows:
            yield from table(COLUMNS, [cells(r) for r in self.rows])
        for note in self.notes:
            yield f"note: {note}"
        if self.comparison is not None:
            yield from ["", *self.comparison.lines()]

    def _metric(self) -> Iterable[str]:
        """What a search has measured: before and after, and how it got there."""
        before, after = (self.measured.get(f"metric {when}") for when in ("before", "after"))
        if before is None or after is None:
            return
        yield f"metric: {before:.6g} -> {after:.6g}"
        for i, tried in enumerate(self.measured["evaluations"], 1):
            yield f"evaluation {i}: {tried['kept']} products in f32 for it, {tried['metric']:.6g}"


COLUMNS = (
    *("product", "op", "weights", "dB", "data", "scale", "zero", "by", "cut %", "dB"),
    *("predicted ms", "kept"),
)


def cells(row: Row) -> list[str]:
    """A row as text."""
    ms = "" if row.ms is None else f"{row.ms[0]:.3g} -> {row.ms[1]:.3g}"
    if row.kept is not None:
        return [row.name, row.op, "f32", *[""] * 7, ms, row.kept]
    decibels = lambda x: "" if x is None else f"{x:.1f}"
    scale = "" if row.scale is None else f"{row.scale:.4g}"
    cut = "" if row.scale is None else f"{100 * row.clipped:.3f}"
    zero = "" if row.zero is None else str(row.zero)
    weights = [row.name, row.op, row.weights, decibels(row.weight_sqnr)]
    data = [row.activations, scale, zero, row.observer, cut, decibels(row.sqnr)]
    return [*weights, *data, ms, ""]


STYLE = (
    "<style>body{font:14px sans-serif}td,th{padding:2px 8px;text-align:left}"
    "tr:nth-child(even){background:#f4f4f4}</style>\n"
)
RANKING = "ranking"  # of products by their errors: only for searches that go on
LOUDEST, QUIETEST = 20.0, 60.0  # dB at the ends of a bar


def bar(row: Row) -> str:
    """How loud the noise of a product's data and weights is, as a drawing."""
    found = [x for x in (row.sqnr, row.weight_sqnr) if x is not None]
    if row.kept is not None or not found:
        return ""
    share = min(max((QUIETEST - min(found)) / (QUIETEST - LOUDEST), 0.02), 1.0)
    return (
        '<svg width="120" height="10"><rect width="120" height="10" fill="#ddd"/>'
        f'<rect width="{120 * share:.0f}" height="10" fill="#c33"/></svg>'
    )


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of aligned columns."""
    lines = [list(columns), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines]


def shares(counts: Mapping[str, int]) -> str:
    """`{"a": 3, "b": 1}` as text, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{n} × {count}" for n, count in ordered)
