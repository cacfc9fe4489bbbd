"""The commands of `tessel`; each is a file of this folder, imported when it is used (`cli.py`)."""

import importlib
import os
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from .. import __version__
from ..compiler.errors import TesselError, UsageError, printable, unforeseen
from ..compiler.system.budgets import Limits
from ..compiler.system.files import reading, shown
from .cli import INTERRUPTED
from .common.terminal import say

COMMANDS = {
    "compile": "Compile a model to a package, or print a stage of it.",
    "run": "Run a model or package on given or random inputs.",
    "quantize": "Make a model smaller and faster: narrow numbers in place of floats.",
    "bench": "Time models on several backends, side by side.",
    "verify": "Compare every stage of compilation with numpy.",
    "explain": "Say what the compiler did with a model, and what it declined.",
    "inspect": "Summarise a model file or package.",
    "sign": "Sign a package, or make a key for it.",
    "cache": "Say what was compiled before and is kept, or clear it.",
    "doctor": "Say what this installation is made of, and what is wrong with it.",
    "demo": "Classify handwritten digits, and see how that was compiled.",
}


class Commands(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, context):
        return list(COMMANDS)

    def get_command(self, context, name):
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f".{name}", __package__)
        return getattr(module, name)

    def format_commands(self, context, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


EPILOG = """\b
Examples:
  tessel compile model.onnx -o model.tsl
  tessel run model.tsl --inputs in.npz -o out.npz
  tessel verify model.onnx
"""


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tessel")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option(
    "--ops",
    "files",
    metavar="FILE.py",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Run a Python file first that registers ops of your own (tessel.ops.register).",
)
@click.option(
    "--limit",
    "limits",
    metavar="NAME=VALUE",
    multiple=True,
    help="What a model may cost to compile (nesting, nodes, dense, folded), where it needs more.",
)
@click.pass_context
def tessel(context, debug, files, limits):
    """A neural network compiler: ONNX or Python in, native code out."""
    context.obj = parse_limits(limits)
    for file in files:
        run_user_file(file)


def parse_limits(texts: Iterable[str]) -> Limits | None:
    """`("nodes=5",)` → Limits(nodes=5); None for none. Raises UsageError."""
    given = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not value.isascii() or not value.isdecimal() or len(value) > 18:
            raise UsageError("this is no limit", expected="NAME=NUMBER", received=shown(text))
        given[name] = int(value)
    return Limits.of(given) if given else None


def run_user_file(file: Path) -> None:
    """Run a user's file, which registers ops. Raises UsageError for what it raises."""
    with reading(file, UsageError):
        pass
    try:
        runpy.run_path(str(file), run_name=file.stem)
    except TesselError:
        raise
    except Exception as error:
        received = f"{type(error).__name__}: {error}"
        raise UsageError("a file with ops fails", where=str(file), received=received) from error


def run(arguments: list[str], debug: bool) -> int:
    """Run a command line; its exit code."""
    streams = sys.stdout, sys.stderr
    try:
        code = tessel.main(arguments, prog_name="tessel", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return 2
    except click.ClickException as error:
        error.message = printable(error.message)
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        return report("interrupted", INTERRUPTED, False)
    except (BrokenPipeError, SystemExit) as error:
        # The reader has seen enough; click then puts other streams in place, and exits.
        if isinstance(error, SystemExit) and sys.stdout is streams[0]:
            raise
        sys.stdout, sys.stderr = streams
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return report(f"error: {error}", 2, debug)
    except Exception as error:
        seen = unforeseen(error)
        return report(f"error: {seen}", getattr(seen, "exit_code", 2), debug)


def report(message: str, code: int, debug: bool) -> int:
    """Print an error, and its traceback if that was asked for."""
    if debug:
        import traceback

        say(traceback.format_exc())
    say(message)
    return code
