"""How commands lay out what they print: tables that fit the terminal, with a legend; quantities.

    print_table(out, columns, rows)

On a narrow terminal the columns that matter least are left out, and names of nodes are shortened
by whole names. The legend explains the columns that are shown. Data (`--json`) has everything.
"""

import os
import re
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from ...compiler.classes import dataclass
from ...compiler.errors import printable
from .terminal import Console, Table

PIPED = 160  # columns of what is no terminal, unless $COLUMNS says otherwise
NODES = 24  # columns that names of nodes need at least
GAP = 2  # columns between two columns


def console(stderr: bool = False) -> Console:
    out = Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)
    if not out.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        out.width = PIPED
    return out


# -- quantities ----------------------------------------------------------------------------


def duration(ms: float) -> str:
    """850 ns is 0.85 µs; 12.3 µs, 4.56 ms, 789 ms, 1.23 s: three digits, in µs below 1 ms."""
    size = abs(ms)
    if size == 0:
        return "0 µs"
    if size < 0.9995:
        return f"{three_digits(1e3 * ms)} µs"
    return f"{three_digits(ms)} ms" if size < 999.5 else f"{three_digits(ms / 1e3)} s"


def three_digits(value: float) -> str:
    """Three significant digits, without exponents."""
    size = abs(value)
    decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:.{decimals}f}"


def operations(flops: float) -> str:
    """1.82 GFLOP, 24.6 MFLOP, 512 FLOP"""
    for unit in ("", "k", "M"):
        if flops < 999.5:
            return f"{three_digits(flops) if unit else f'{flops:.0f}'} {unit}FLOP"
        flops /= 1e3
    return f"{three_digits(flops)} GFLOP"


def size(nbytes: float) -> str:
    """1.5 MiB"""
    for unit in ("B", "KiB", "MiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.2f} GiB"


def short(origins: Iterable[str], limit: int = 60) -> str:
    """The names of fused nodes in at most `limit` columns: those in the middle are counted, and
    one that is too long by itself keeps its end, where exporters put what tells it apart."""
    names = [printable(name) for name in origins]
    text = " + ".join(names)
    if cell_len(text) <= limit:
        return text
    for left in range(1, len(names) - 1):
        head, tail = names[: (len(names) - left + 1) // 2], names[-((len(names) - left) // 2) :]
        text = " + ".join([*head, f"… {left} more …", *tail])
        if cell_len(text) <= limit:
            return text
    rest = f" + {len(names) - 1} more" if len(names) > 1 else ""
    room = max(8, limit - len(rest))
    first = names[0] if names else ""
    return (first if cell_len(first) <= room else "…" + first[-(room - 1) :]) + rest


# -- tables --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """`meaning` is its line in the legend, `words` lines for words that its cells may have. Where a
    terminal is narrow, the columns of the highest `rank` are left out first; those of rank 0 never
    are."""

    heading: str
    meaning: str = ""
    right: bool = True
    rank: int = 0
    words: tuple[tuple[str, str], ...] = ()


Cell = str | tuple[str, ...]  # a tuple: names of nodes, which take the room that is left


def table(*headings: str, right: str = "") -> Table:
    """A plain table; `right` lists the headings of right-aligned columns."""
    result = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for h in headings:
        numeric = h in right.split(",")
        result.add_column(h, justify="right" if numeric else "left", no_wrap=numeric)
    return result


def print_table(
    out: Console, columns: Sequence[Column], rows: Sequence[Sequence[Cell]], rest: str = ""
) -> None:
    """The rows, a line about the `rest`, and a legend of what is shown. Columns without any text
    are left out."""
    shown = [i for i, c in enumerate(columns) if any(row[i] for row in rows)]
    widths = {i: _width(columns[i], [row[i] for row in rows]) for i in shown}
    dropped: list[str] = []
    for i in sorted(shown, key=lambda i: -columns[i].rank):
        if columns[i].rank and _total(widths) > out.width:
            shown.remove(i)
            del widths[i]
            dropped.append(columns[i].heading)
    nodes = next((i for i in shown if any(isinstance(row[i], tuple) for row in rows)), None)
    room = max(NODES, out.width - _total({i: w for i, w in widths.items() if i != nodes}) - GAP)
    t = table(
        *(columns[i].heading for i in shown),
        right=",".join(columns[i].heading for i in shown if columns[i].right),
    )
    for row in rows:
        cells = [row[i] for i in shown]
        t.add_row(*(short(c, room) if isinstance(c, tuple) else c for c in cells))
    out.print(t, soft_wrap=False)
    print_rest(out, rest)
    lines = []
    for i in shown:
        lines.append((columns[i].heading, columns[i].meaning))
        text = " ".join(row[i] for row in rows if isinstance(row[i], str))
        lines += [(f"  {word}", means) for word, means in columns[i].words if _has(text, word)]
    if dropped:
        lines.append(("(left out)", f"{', '.join(dropped)}: no room"))
    print_legend(out, lines)


def _has(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _width(column: Column, cells: Sequence[Cell]) -> int:
    """What a column needs; names of nodes can do with little."""
    texts = [
        min(NODES, cell_len(short(c, NODES))) if isinstance(c, tuple) else cell_len(printable(c))
        for c in cells
    ]
    return max(cell_len(column.heading), *texts)


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def print_legend(out: Console, lines: Sequence[tuple[str, str]]) -> None:
    """What words in the table above mean, a line each."""
    lines = [(word, meaning) for word, meaning in lines if meaning]
    t = Table(box=None, pad_edge=False, show_edge=False, show_header=False, style="dim")
    t.add_column(no_wrap=True)
    t.add_column()
    for word, meaning in lines:
        t.add_row(f"  {word}", meaning)
    if lines:
        out.print(t, soft_wrap=False)


def print_rest(out: Console, text: str) -> None:
    """A line about what was left out, if there is something to say."""
    if text:
        out.print(text, style="dim")


def print_list(out: Console, items: Sequence[tuple[int, str]]) -> None:
    """Counted texts, whose further lines are indented below the first."""
    t = Table(box=None, pad_edge=False, show_edge=False, show_header=False)
    t.add_column(justify="right", no_wrap=True, min_width=7)
    t.add_column(overflow="fold")
    for count, text in items:
        t.add_row(f"{count} ×", text)
    if items:
        out.print(t, soft_wrap=False)
