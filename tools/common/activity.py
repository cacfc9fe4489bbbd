"""What a command is doing, on a terminal: one line on stderr that is gone at the end.

    with Activity("reading model.onnx") as activity:
        exe = tessel.compile(path, progress=activity)       ⠋ kernels 12 of 80

Where stderr is no terminal there is nothing.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from ...compiler.errors import printable
from ...compiler.system.progress import Progress
from .terminal import Console


class Activity:
    """The line. Called with a `Progress`, it shows that."""

    def __init__(self, first: str):
        self._spinner = Spinner("dots", Text(printable(first)))
        self._live: Live | None = None

    def __enter__(self) -> "Activity":
        if sys.stderr.isatty():
            # What goes to stdout may go to a file: it stays what it is.
            self._live = Live(
                self._spinner,
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                refresh_per_second=8,
            )
            self._live.start(refresh=True)
        return self

    def __exit__(self, *error) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, progress: Progress) -> None:
        self.show(f"{progress.stage} {progress.done} of {progress.total}")

    def show(self, text: str) -> None:
        """Show what is going on."""
        self._spinner.update(text=Text(printable(text)))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The line is gone, for who prints to stdout."""
        live = self._live
        if live is not None:
            live.stop()
        try:
            yield
        finally:
            if live is not None and self._live is live:
                live.start(refresh=True)
