"""`tessel`, the command line: what is printed, how it ends. The commands are in `commands.py`.

Exit codes: 0 ok, 1 a check failed, 2 wrong usage or bad input, 130 interrupted (as shells say it
of SIGINT). Errors go to stderr without a traceback; `--debug`, anywhere on the line, shows it. A
reader of a pipe that has seen enough ends a command quietly, with 0.

This module imports next to nothing: once it runs, an interrupt is a line and no traceback.
"""

import os
import signal
import sys

INTERRUPTED = 130
_LINE = b"interrupted\n"


def _leave(number, frame) -> None:
    """End at once: while modules are imported, and when everything has been said."""
    os.write(2, _LINE)
    os._exit(INTERRUPTED)


def _on_interrupt(handler) -> None:
    """Let SIGINT do this, unless it is ignored (as for a script's background jobs)."""
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, handler)
    except ValueError:  # not the main thread: it is for that one to say
        pass


def _open_streams() -> None:
    """Stand in for streams that whoever started the command has closed (`>&-`): what is printed
    goes nowhere, and no file that is opened later gets their number and is written into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in given
    _open_streams()
    before = signal.getsignal(signal.SIGINT)
    try:
        _on_interrupt(_leave)
        from .commands import run
        from .common.terminal import prepare

        prepare()
        _on_interrupt(signal.default_int_handler)
        code = run([a for a in given if a != "--debug"], debug)
    except KeyboardInterrupt:  # just before or after `run`, which has a line of its own for it
        os.write(2, _LINE)
        code = INTERRUPTED
    finally:
        _on_interrupt(_leave if arguments is None else before)
    sys.exit(code)


def __getattr__(name: str):
    """`COMMANDS`, and what else `commands.py` has."""
    from . import commands

    return getattr(commands, name)


if __name__ == "__main__":
    main()
