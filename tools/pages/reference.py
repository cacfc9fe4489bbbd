"""docs/reference: the Python API, the command line and the errors, from what they describe.

    python -m tessel.tools.pages.reference docs/reference

A docstring's first paragraph becomes text; what follows keeps its lines, since lists of arguments
are aligned there.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import click

from ... import __all__ as PUBLIC
from ...compiler import errors
from ...compiler.errors import TesselError
from ...compiler.ir.op import OPS
from ...compiler.ir.text import parse_graph
from ..commands import tessel as command_line
from ..common.terminal import write
from .ops import plain

PACKAGE = __package__.partition(".")[0]
WIDTH = 96
MODULES = {
    "callbacks": "What `Trainer.fit` calls after each epoch.",
    "native": "Layers, losses and control flow for models that are written in Python.",
    "ops": "Ops of your own. [custom-ops.md](../custom-ops.md) shows each word at work.",
    "optimizers": "What a `Trainer` updates parameters with.",
}
API_HEAD = """\
# Python API

Every public name, from its docstring. This page is generated: `make docs`. The
[quickstart](../quickstart.md) shows the most common calls at work.

"""
CLI_HEAD = """\
# Command line

What `tessel COMMAND --help` says. This page is generated: `make docs`.

Exit codes: 0 ok, 1 a check failed, 2 wrong usage or bad input, 130 interrupted. Errors go to
stderr without a traceback; `--debug` shows it.

"""
ERRORS_HEAD = """\
# Errors

What a user can get wrong raises a `tessel.TesselError`, or one of the kinds below, which are
classes derived from it. Each error says what went wrong and, where it can, `where`, what was
`expected`, what was `received` and how to `fix` it; these are attributes of the exception. An
error with several `findings` lists them all. This page is generated: `make docs`; the examples
are errors that were raised while it was made.

"""


# -- the Python API ------------------------------------------------------------------------


def api() -> str:
    """The page of the Python API."""
    face = importlib.import_module(PACKAGE)
    values = {name: getattr(face, name) for name in PUBLIC}
    functions = {n: v for n, v in values.items() if inspect.isfunction(v)}
    classes = {n: v for n, v in values.items() if inspect.isclass(v)}
    parts = [API_HEAD + "## Functions\n"]
    parts += [_function(f"tessel.{n}", f, "###") for n, f in sorted(functions.items())]
    parts += ["## Classes\n", *(_class(f"tessel.{n}", c) for n, c in sorted(classes.items()))]
    for name, said in MODULES.items():
        parts.append(f"## tessel.{name}\n\n{said}\n")
        parts += _module(f"tessel.{name}", values[name])
    public = sum(not op.name.startswith("_") for op in OPS.values())
    parts.append(
        f"## tessel.native.functional\n\n{public} functions, one for each op: a tensor is "
        "positional, an attribute named. [ops.md](ops.md) lists them.\n"
    )
    return "\n".join(parts)


def _module(name: str, module: ModuleType) -> Iterator[str]:
    """A list of what a module has, with the first sentence of each."""
    rows = []
    for item in sorted(module.__all__) if hasattr(module, "__all__") else _own_names(module):
        value = getattr(module, item)
        if inspect.ismodule(value):
            continue
        said = _summary(value)
        call = f"{item}{_arguments(value)}" if callable(value) else item
        rows.append(f"- `{call}`" + (f": {said}" if said else ""))
    yield "\n".join(rows) + "\n"


def _own_names(module: ModuleType) -> list[str]:
    """What a module without `__all__` defines itself."""
    return sorted(
        n
        for n, v in vars(module).items()
        if not n.startswith("_") and getattr(v, "__module__", None) == module.__name__
    )


def _function(name: str, f: Callable, heading: str) -> str:
    return f"{heading} {name}\n\n```python\n{_wrapped(name, f)}\n```\n\n{documentation(f)}"


def _class(name: str, cls: type) -> str:
    parts = [f"### {name}\n", documentation(cls)]
    for item, value in vars(cls).items():
        if item.startswith("_") and item != "__call__":
            continue
        if isinstance(value, property) and value.__doc__:
            parts.append(f"- `{item}`: {plain(_first(value.__doc__))}")
        elif inspect.isfunction(value) and value.__doc__:
            call = item if item != "__call__" else ""
            arguments = _arguments(value, skip=1)
            parts.append(f"- `{call}{arguments}`: {plain(_first(value.__doc__))}")
    return "\n".join(parts) + "\n"


def _arguments(value: object, skip: int = 0) -> str:
    """(a, *, b=1), without annotations: these are for editors."""
    try:
        parameters = list(inspect.signature(value).parameters.values())[skip:]
    except (TypeError, ValueError):
        return "(…)"
    plain_ones = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    text = str(inspect.Signature(plain_ones))
    return text if " at 0x" not in text and "<" not in text else "(…)"


def _wrapped(name: str, f: Callable) -> str:
    """A call with its arguments, in lines that are short enough."""
    text = name + _arguments(f)
    if len(text) <= WIDTH:
        return text
    lines = [f"{name}("]
    for argument in text[len(name) + 1 : -1].split(", "):
        if len(lines[-1]) + len(argument) > WIDTH or len(lines) == 1:
            lines.append("   ")
        lines[-1] += f" {argument},"
    return "\n".join([*lines, ")"])


def documentation(value: object) -> str:
    """A docstring as Markdown."""
    text = inspect.getdoc(value) or ""
    first, _, rest = text.partition("\n\n")
    if first.endswith(":") or "\n  " in first:  # what follows belongs to it
        first, rest = "", text
    said = f"{plain(first)}\n" if first else ""
    return said + (f"\n```text\n{rest.strip(chr(10))}\n```\n" if rest.strip() else "")


def _first(text: str) -> str:
    return " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())


def _summary(value: object) -> str:
    """The first sentence of what is said of a value; nothing of types that say what Python says."""
    if not callable(value) or not value.__doc__:
        return ""
    if inspect.isclass(value) and value.__doc__.startswith(f"{value.__name__}("):  # a dataclass's
        return ""
    return plain(_first(value.__doc__).partition(". ")[0].rstrip("."))


# -- the command line ----------------------------------------------------------------------


def cli() -> str:
    """The page of the command line."""
    parts = [CLI_HEAD, *_command(["tessel"], command_line, None)]
    return "\n".join(parts)


def _command(path: list[str], command: click.Command, parent: click.Context | None) -> Iterator:
    name = path[-1]
    context = click.Context(
        command,
        parent,
        name,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        color=False,
        help_option_names=["-h", "--help"],
    )
    lines = [line.rstrip() for line in command.get_help(context).splitlines()]
    yield "\n".join([f"## {' '.join(path)}\n", "```text", *lines, "```\n"])
    if isinstance(command, click.Group):
        for item in command.list_commands(context):
            yield from _command([*path, item], command.get_command(context, item), context)


# -- errors --------------------------------------------------------------------------------


def error_page() -> str:
    """The page of the errors."""
    parts = [ERRORS_HEAD + "| error | raised when |\n| --- | --- |"]
    kinds = sorted(_kinds(), key=lambda kind: kind.__name__)
    parts[0] += "".join(
        f"\n| [{k.__name__}](#{k.__name__.lower()}) | {plain(_first(k.__doc__))} |" for k in kinds
    )
    parts[0] += "\n"
    examples = dict(_examples())
    for kind in kinds:
        base = kind.__mro__[1].__name__
        code = f"The command line exits with {kind.exit_code}."
        kin = "" if base == "TesselError" else f" It is a `{base}` too."
        lines = [f"## {kind.__name__}\n", plain(inspect.cleandoc(kind.__doc__)) + "\n", code + kin]
        if kind in examples:
            call, error = examples[kind]
            lines += [
                "",
                "```python",
                call,
                "```",
                "",
                "```text",
                f"{kind.__name__}: {error}",
                "```",
            ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _kinds() -> set[type[TesselError]]:
    """Every kind of error that leaves the compiler and the runtime."""
    for module in ("compiler.system.budgets", "runtime.gpu.driver"):
        importlib.import_module(f"{PACKAGE}.{module}")
    found, ahead = set(), [TesselError]
    while ahead:
        for kind in ahead.pop().__subclasses__():
            ahead.append(kind)
            if kind.__module__.startswith(f"{PACKAGE}.") and not kind.__name__.startswith("_"):
                found.add(kind)
    return {
        k
        for k in found
        if hasattr(errors, k.__name__) or k.__name__ in ("LimitError", "DeviceError")
    }


EXAMPLES = {
    "UsageError": 'tessel.compile(graph, target="cpu:pentium")',
    "InputError": 'tessel.compile(graph).run({"x": np.zeros((3, 5), np.float32)})',
    "PackageError": 'tessel.load("absent.tsl")',
    "GraphError": 'parse_graph("graph g(%x: f32[4]) -> (%y) {\\n  %y = relu(%z) : f32[4]\\n}", {})',
    "ModelError": 'tessel.compile(b"not a model")',
    "UnsupportedError": "tessel.compile(onnx_model_with_a_custom_operator)",
}


def _examples() -> Iterator[tuple[type[TesselError], tuple[str, TesselError]]]:
    """Errors, each with the call that raises it."""
    import numpy as np
    from onnx import TensorProto, helper

    face = importlib.import_module(PACKAGE)
    functional = face.native.functional
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    node = helper.make_node("Frobnicate", ["x"], ["y"], "layer7", domain="my.domain")
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    names = {
        "tessel": face,
        "np": np,
        "F": functional,
        "parse_graph": parse_graph,
        "graph": face.native.trace(functional.relu, "f32[N,4]"),
        "onnx_model_with_a_custom_operator": helper.make_model(
            helper.make_graph([node], "g", [info], [out]),
            opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("my.domain", 1)],
            ir_version=10,
        ),
    }
    for call in EXAMPLES.values():
        try:
            eval(call, names)
        except TesselError as error:
            yield type(error), (call, error)


PAGES = {"api.md": api, "cli.md": cli, "errors.md": error_page}


def main(folder: str) -> None:
    """Write all three."""
    for name, page in PAGES.items():
        (Path(folder) / name).write_text(page())
        write(f"wrote {folder}/{name}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
