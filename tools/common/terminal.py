"""The one place where commands print: names come from files, and a terminal obeys what it is sent.

Whatever is printed goes through `errors.printable`, which writes control characters (escape
sequences, bells, marks that turn text around) as `\\x1b`. Nothing else in this folder writes to
stdout or stderr (`tests/unit/tools/test_terminal.py`).
"""

import sys
from contextlib import suppress

import rich.console
import rich.table

from ...compiler.errors import printable


class Console(rich.console.Console):
    """Rich's, whose strings are printable."""

    def print(self, *objects, **options) -> None:
        super().print(*(_clean(o) for o in objects), **options)

    def on_broken_pipe(self) -> None:
        """Say so, as any other writing does (`commands.run`); rich ends the process with 1."""
        raise BrokenPipeError

    def status(self, status, **options):
        return super().status(_clean(status), **options)


class Table(rich.table.Table):
    """Rich's, whose cells are printable."""

    def add_row(self, *cells, **options) -> None:
        super().add_row(*(_clean(c) for c in cells), **options)


def _clean(x):
    return printable(x) if isinstance(x, str) else x


def prepare() -> None:
    """Let streams write what their encoding lacks as `\\u2026`, rather than raise."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # closed, or no text stream
            stream.reconfigure(errors="backslashreplace")


def write(text: str) -> None:
    """Text to stdout."""
    sys.stdout.write(printable(text))


def say(text: str) -> None:
    """A line to stderr."""
    sys.stderr.write(printable(text) + "\n")
