"""The roofline of a profile: which kernels are near a roof, and which roof that is.

    draw(path, data, peak, title, machine)      a picture, its format by the name's ending

Each kernel is a point at its operations per byte and its GFLOP/s; its area is its share of the
time. No kernel can be above the horizontal roof (multiply-adds in registers), nor above the slanted
one of the memory that its data comes from. After Williams, Waterman & Patterson, "Roofline: an
insightful visual performance model for multicore architectures" (2009).
"""

import datetime
from collections.abc import Iterator
from math import atan2, cos, degrees, log10, pi, sin

from ...compiler.classes import dataclass
from ...runtime.profiling.peak import Peak
from ..common.pictures import pyplot
from ..common.profile_tables import BEYOND
from ..common.tables import short

NAMED = 12  # kernels that are named, those that take longest
COLUMNS = 2  # of names
AREA = 2500.0  # square points of a kernel that takes all of the time
SMALLEST = 12.0  # square points that can still be seen
WIDTH, HEIGHT, NAMES = 11.0, 7.0, 1.6  # inches; names below the picture
RED, DARK = "#bf616a", "#7a2f38"
ROOFS = ("#4c566a", "#5e81ac", "#a3785c", "#b48ead")


def points(data: dict) -> list[dict]:
    """A point per distinct kernel that calculates: layers with equal code are one.

    {"x" flop/byte, "y" GFLOP/s, "share" of the time, "label"}, the longest first.
    """
    groups: dict[str, list[dict]] = {}
    for row in data["kernels"]:
        if row["flops"] and row["bytes"] and row["ms"] > 0:
            groups.setdefault(row["code"], []).append(row)
    found = []
    for rows in groups.values():
        flops, ms = sum(r["flops"] for r in rows), sum(r["ms"] for r in rows)
        times = f"{len(rows)} × " if len(rows) > 1 else ""
        found.append(
            {
                "x": flops / sum(r["bytes"] for r in rows),
                "y": flops / ms / 1e6,
                "share": sum(r["share"] for r in rows),
                "label": times + short(rows[0]["nodes"], 36),
            }
        )
    return sorted(found, key=lambda p: -p["share"])


def draw(path: str, data: dict, peak: Peak, title: str, machine: str) -> int:
    """Write the picture; returns how many kernels are in it."""
    matplotlib = pyplot()
    shown = points(data)
    figure = matplotlib.figure.Figure((WIDTH, HEIGHT + NAMES), dpi=150, layout="constrained")
    matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
    axes, names = figure.subplots(2, 1, height_ratios=[HEIGHT, NAMES])
    _frame(axes, shown, peak, data)
    _roofs(axes, peak)
    areas = [max(SMALLEST, AREA * p["share"]) for p in shown]
    xs, ys = [p["x"] for p in shown], [p["y"] for p in shown]
    axes.scatter(xs, ys, s=areas, color=RED, alpha=0.5, edgecolor=DARK, zorder=3)
    today = datetime.date.today().isoformat()
    cores = "1 thread" if data["threads"] == 1 else f"{data['threads']} threads"
    axes.set_title(f"{title}: roofline\n", fontsize=15, fontweight="bold", loc="left")
    axes.text(0, 1.015, f"{machine}, {cores}, {today}", transform=axes.transAxes, color=ROOFS[0])
    _names(names, shown[:NAMED], peak)
    figure.canvas.draw()  # decides the layout, by which numbers are placed
    _numbers(figure, axes, shown, areas)
    figure.savefig(path)
    return len(shown)


def _names(axes, named: list[dict], peak: Peak) -> None:
    """The numbered kernels, in columns: name, share of the time, rate."""
    axes.axis("off")
    rows = NAMED // COLUMNS
    beyond = any(p["y"] > BEYOND * peak.gflops for p in named)  # it was measured on a busy machine
    for i, p in enumerate(named):
        column, row = divmod(i, rows)
        text = f"{p['share']:.0%}, {p['y']:.0f} GFLOP/s"
        text += "" if beyond else f", {p['y'] / peak.gflops:.0%} of peak"
        x, y = column / COLUMNS, 1 - (row + 0.5) / rows
        axes.text(x, y, str(i + 1), color=DARK, fontweight="bold", fontsize=9, va="center")
        axes.text(x + 0.022, y, f"{p['label']}: {text}", fontsize=8, va="center")


def _frame(axes, shown: list[dict], peak: Peak, data: dict) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    xs, ys = [p["x"] for p in shown] or [1.0], [p["y"] for p in shown] or [1.0]
    ridge = peak.gflops / min((r.median for r in peak.reads.values()), default=peak.gflops)
    axes.set_xlim(min(*xs, ridge) / 3, max(*xs, ridge) * 3)
    axes.set_ylim(max(min(ys), peak.gflops / 1e4) / 3, peak.gflops * 2.2)
    axes.set_xlabel("arithmetic intensity: flop per byte that must be moved")
    axes.set_ylabel("GFLOP/s")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(pyplot().ticker.LogLocator(subs=(1, 2, 5), numticks=20))
        axis.set_minor_locator(pyplot().ticker.NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(True, which="major", color="#e5e9f0", zorder=0)
    unseen = sum(r["share"] for r in data["kernels"]) - sum(p["share"] for p in shown)
    note = "area: share of the time"
    if unseen >= 0.005:
        note += f"\nnot shown: {unseen:.0%} of it, in kernels without arithmetic"
    axes.text(0.99, 0.02, note, transform=axes.transAxes, ha="right", color="#4c566a", fontsize=9)


def _roofs(axes, peak: Peak) -> None:
    """The peak, and a slanted line per level of memory, up to where they meet."""
    low, high = axes.get_xlim()
    bottom = axes.get_ylim()[0]
    rates = [rate.median for rate in peak.reads.values()]
    start = peak.gflops / max(rates, default=peak.gflops / low)
    axes.plot([start, high], [peak.gflops] * 2, color=ROOFS[0], linewidth=2, zorder=2)
    axes.annotate(
        f"{peak.gflops:.0f} GFLOP/s: f32 multiply-adds",
        (start, peak.gflops),
        (0, 5),
        textcoords="offset points",
        color=ROOFS[0],
    )
    for (level, rate), color in zip(peak.reads.items(), ROOFS[1:]):
        ridge = peak.gflops / rate.median
        axes.plot([low, ridge], [low * rate.median, peak.gflops], color=color, zorder=2)
        # Near the lower end, inside the picture; the same angle as the line.
        x = max(low, bottom / rate.median) * 1.15
        axes.annotate(
            f"{level} {rate.median:.0f} GB/s",
            (x, x * rate.median),
            (0, 4),
            textcoords="offset points",
            rotation=_slope(axes),
            rotation_mode="anchor",
            color=color,
            fontsize=9,
        )


def _slope(axes) -> float:
    """Degrees at which GB/s rise in the picture."""
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    box = axes.get_position()
    width, height = box.width * WIDTH, box.height * (HEIGHT + NAMES)
    return degrees(atan2(height / log10(y1 / y0), width / log10(x1 / x0)))


def _numbers(figure, axes, shown: list[dict], areas: list[float]) -> None:
    """Numbers of the longest kernels, each beside its point where nothing else is."""
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    taken = [t.get_window_extent(renderer) for t in axes.texts]
    scale = figure.dpi / 72
    centres = [axes.transData.transform((p["x"], p["y"])) for p in shown]
    radii = [(area / pi) ** 0.5 * scale for area in areas]
    for i, (x, y) in enumerate(centres[:NAMED]):
        for dx, dy in _places(radii[i] + 6 * scale):
            box = Box.around(x + dx, y + dy, 7 * scale, 5 * scale)
            free = not any(box.overlaps(b) for b in taken) and not _covers(box, centres, radii)
            if free and frame.x0 < box.x0 < box.x1 < frame.x1 and frame.y0 < box.y0:
                break
        taken.append(box)
        axes.annotate(
            str(i + 1),
            (shown[i]["x"], shown[i]["y"]),
            (dx / scale, dy / scale),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            color=DARK,
            fontweight="bold",
            zorder=5,
            arrowprops={
                "arrowstyle": "-",
                "color": DARK,
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float) -> "Box":
        """From `width` left to `width` right of (x, y), and so with the height."""
        return cls(x - width, y - height, x + width, y + height)

    def overlaps(self, other) -> bool:
        """`other` is a Box, or matplotlib's."""
        apart = self.x1 < other.x0 or other.x1 < self.x0 or self.y1 < other.y0 or other.y1 < self.y0
        return not apart


def _covers(box: Box, centres, radii) -> bool:
    """Whether a number would lie on a point."""
    for (x, y), radius in zip(centres, radii):
        dx = max(box.x0 - x, 0, x - box.x1)
        dy = max(box.y0 - y, 0, y - box.y1)
        if dx * dx + dy * dy < radius * radius:
            return True
    return False


def _places(radius: float) -> Iterator[tuple[float, float]]:
    """Where a number may be, as pixels from its point: around it, and ever further away."""
    for far in (1.0, 1.4, 1.9, 2.5, 3.2, 4.0, 5.0, 6.5):
        for turn in range(16):
            angle = pi * turn / 8
            yield far * radius * cos(angle), far * radius * sin(angle)
