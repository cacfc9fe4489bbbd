"""How far a quantized model is from its original, kernel by kernel: a table, JSON, a page."""

from collections.abc import Iterable
from dataclasses import asdict, field
from html import escape
from math import log10
from typing import Any

from ..classes import dataclass
from .report import STYLE, table


@dataclass(frozen=True)
class KernelError:
    """What lies in memory after a kernel, against the model of floats.

    nodes         of the original model that the kernel computes; `value` is the last one's result
    own           signal to noise in dB of this kernel alone: it reads what floats give
    accumulated   of the quantized model as it runs
    largest       error of an element as it runs; `own_largest` of this kernel alone
    cut           share of floats' values that the bytes' range cuts off
    predicted, measured   ms of a run in these nodes: (floats, quantized), where that is known
    """

    nodes: tuple[str, ...]
    value: str
    own: float
    accumulated: float
    largest: float
    own_largest: float
    cut: float = 0.0
    is_quantized: bool = True
    predicted: tuple[float, float] | None = None
    measured: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        return self.nodes[0]


@dataclass
class Comparison:
    """Kernels in the order of the model; `total` ms of a run of both, by what says so; `same`:
    whether looking changed no bit of the outputs."""

    kernels: list[KernelError]
    outputs: dict[str, float] = field(default_factory=dict)  # dB by name
    total: dict[str, tuple[float, float]] = field(default_factory=dict)
    runs: int = 0
    same: bool = True
    notes: list[str] = field(default_factory=list)

    def first_below(self, limit: float) -> KernelError | None:
        """The first kernel whose accumulated signal to noise is below `limit` dB."""
        return next((k for k in self.kernels if k.accumulated < limit), None)

    @property
    def worst(self) -> list[KernelError]:
        """Those that err most by themselves first."""
        return sorted(self.kernels, key=lambda k: k.own)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, whole: bool = True) -> Iterable[str]:
        """A table; without `whole`, only of kernels that err."""
        yield from self.heads()
        rows = self.kernels if whole else [k for k in self.kernels if k.own < EXACT]
        timed = [i for i, c in enumerate(COLUMNS) if i < UNTIMED or any(_times(k)[c] for k in rows)]
        cells = [[_cells(k)[i] for i in timed] for k in rows]
        yield from table([COLUMNS[i] for i in timed], cells)
        if len(rows) < len(self.kernels):
            yield f"… and {len(self.kernels) - len(rows)} more, which do not err"
        yield ""
        for k in self.worst[:3]:
            if k.own < EXACT:
                yield f"errs most by itself: {' + '.join(k.nodes)} ({k.own:.1f} dB)"
        for note in self.notes:
            yield f"note: {note}"

    def heads(self) -> Iterable[str]:
        """What is said of the whole models."""
        for name, decibels in self.outputs.items():
            yield f"output {name}: {_decibels(decibels)} dB, {self.runs} runs"
        for how, (before, after) in self.total.items():
            yield f"{how}: {before:.3g} -> {after:.3g} ms ({before / max(after, 1e-9):.2f}×)"

    def html(self) -> str:
        """The table, and a drawing of the errors along the model."""
        said = "".join(f"<p>{escape(line)}</p>\n" for line in self.heads())
        titles = "".join(f"<th>{escape(c)}</th>" for c in COLUMNS)
        rows = "".join(
            f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in _cells(k))}</tr>\n"
            for k in self.kernels
        )
        notes = "".join(f"<p>note: {escape(n)}</p>\n" for n in self.notes)
        return f"{STYLE}{said}{self.drawing()}<table><tr>{titles}</tr>\n{rows}</table>\n{notes}"

    def drawing(self) -> str:
        """Signal to noise along the model, as SVG: a point per kernel, which says its name."""
        if not self.kernels:
            return ""
        top = max(min(max(k.own for k in self.kernels), EXACT), 10.0)
        x = lambda i: 50 + 900 * (i + 0.5) / len(self.kernels)
        y = lambda d: 20 + 260 * (1 - min(max(d, 0.0), top) / top)
        parts = [
            f'<line x1="50" x2="950" y1="{y(d):.0f}" y2="{y(d):.0f}" stroke="#ddd"/>'
            f'<text x="44" y="{y(d) + 4:.0f}" text-anchor="end">{d} dB</text>'
            for d in range(0, int(top) + 1, 10)
        ]
        for label, color, of in LINES:
            points = [(x(i), y(of(k))) for i, k in enumerate(self.kernels)]
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{color}"/>')
            parts += [
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{color}"><title>'
                f"{escape(' + '.join(k.nodes))}: {_decibels(of(k))} dB</title></circle>"
                for (a, b), k in zip(points, self.kernels)
            ]
            at = 60 + 160 * [name for name, *_ in LINES].index(label)
            parts.append(f'<text x="{at}" y="300" fill="{color}">● {label}</text>')
        return f'<svg viewBox="0 0 960 310" width="960" font-size="11">{"".join(parts)}</svg>\n'


EXACT = 120.0  # dB from which on there is no error worth a word
LINES = (
    ("own", "#36c", lambda k: k.own),
    ("accumulated", "#c33", lambda k: k.accumulated),
)
UNTIMED = 6
COLUMNS = (
    "kernel",
    "own dB",
    "accumulated dB",
    "largest error",
    "cut %",
    "",
    "predicted ms",
    "measured ms",
)


def decibels(signal: float, noise: float) -> float:
    """Signal to noise; 999 without noise, as JSON has no infinity."""
    if noise <= 0:
        return NONE
    return 10 * log10(max(signal, 1e-30) / noise)


NONE = 999.0


def _decibels(x: float) -> str:
    return "exact" if x >= NONE else f"{x:.1f}"


def _times(k: KernelError) -> dict[str, str]:
    said = lambda t: "" if t is None else f"{t[0]:.3g} -> {t[1]:.3g}"
    return {"predicted ms": said(k.predicted), "measured ms": said(k.measured)}


def _cells(k: KernelError) -> list[str]:
    return [
        " + ".join(k.nodes),
        _decibels(k.own),
        _decibels(k.accumulated),
        f"{k.largest:.3g}",
        f"{100 * k.cut:.3f}" if k.is_quantized else "",
        "" if k.is_quantized else "f32",
        *_times(k).values(),
    ]
