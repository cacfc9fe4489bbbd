"""Everything a user can get wrong raises a `TesselError`: where, expected, received, fix.

`assert` is for our own bugs; a `TesselError` is for the user's model, file or call. The command
line prints it without a traceback and exits with `exit_code`.

Nothing else leaves an `entrance` (compile, load, run, save, …): what nobody foresaw becomes an
`InternalError`, which says that the fault is in tessel, and where, as far as the code that it went
through left word of it (`at`).
"""

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

# What a terminal obeys, or what turns text around, and halves of characters; not \n and \t.
_CONTROLS = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"


def printable(text: str) -> str:
    """`text` with control characters written as `\\x1b`, for terminals and logs."""
    return re.sub(
        _CONTROLS, lambda m: m[0].encode("unicode_escape", "surrogatepass").decode(), text
    )


class TesselError(Exception):
    """An error with an address.

    message   what went wrong, one sentence
    where     the original ONNX node, file, or user line
    expected / received   the two sides of the mismatch
    fix       what the user can do
    findings  further errors of the same run: all are reported, not only the first
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        expected: object = None,
        received: object = None,
        fix: str | None = None,
        findings: Sequence["TesselError"] = (),
    ):
        self.message, self.where, self.fix = message, where, fix
        self.expected, self.received = expected, received
        self.findings = tuple(findings)
        super().__init__(self.render())

    def render(self) -> str:
        lines = [self.message]
        for label, text in [
            ("where", self.where),
            ("expected", self.expected),
            ("received", self.received),
            ("fix", self.fix),
        ]:
            if text is not None:
                lines.append(f"  {label + ':':9s} {text}")
        for finding in self.findings:
            lines += ["  - " + finding.render().replace("\n", "\n    ")]
        return printable("\n".join(lines))


class TypeMismatch(TesselError):
    """Dtypes, ranks or dims that an operation cannot take."""


class GraphError(TesselError):
    """A graph or its text is not well formed; raised by the verifier and the parser."""


class ModelError(TesselError):
    """A model file is damaged or says something that its format does not allow."""


class UnsupportedError(TesselError):
    """A valid model asks for something tessel does not have."""


class InputError(TesselError):
    """`run` received inputs that do not fit the executable's signature."""


class PackageError(TesselError):
    """A `.tsl` package is damaged, foreign, or made for another machine."""


class UsageError(TesselError):
    """An option or argument is wrong."""


class OutOfMemoryError(TesselError, MemoryError):
    """A model, at the sizes that it is given, needs more memory than there is."""

    @classmethod
    def of(cls, error: MemoryError) -> "OutOfMemoryError":
        """The error for one of Python's or numpy's; one of our own as it is."""
        if isinstance(error, cls):
            return error
        return cls(
            "not enough memory",
            received=str(error) or None,
            fix="look at the sizes of inputs and of what follows from them (tessel explain)",
        )


class KernelError(TesselError):
    """An op that runs in Python (a user's, or one of strings and maps) raised an error."""


# What each package that `pip install tessel` brings is for; `tessel-run` does without most of them.
PURPOSES = {
    "llvmlite": "compiling for the CPU",
    "onnx": "reading and writing ONNX models",
    "google": "reading and writing ONNX models",  # protobuf, which onnx brings
    "safetensors": "reading and writing checkpoints",
    "click": "the command line",
    "rich": "the command line, and a training's progress bar",
}


class MissingPackageError(TesselError):
    """A Python package that this step needs is not installed."""

    @classmethod
    def of(cls, error: ModuleNotFoundError) -> "MissingPackageError | None":
        """The error for a package that tessel itself needs; None for any other module."""
        package = (error.name or "").split(".")[0]
        if package not in PURPOSES:
            return None
        seen = cls(
            f"{PURPOSES[package]} needs the package {package}, which is not installed",
            fix="pip install tessel",
        )
        seen.__cause__ = error
        return seen


class InternalError(TesselError):
    """A fault in tessel: an error that nobody foresaw. Its `__cause__` is the original."""

    @classmethod
    def of(cls, error: Exception) -> "InternalError":
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        return cls(
            f"this is a fault in tessel, not in what you did: {said}",
            where="; ".join(getattr(error, "__notes__", ())) or None,
            fix="please report it, with the model if you may (--debug shows the traceback)",
        )


def from_caller(error: Exception) -> None:
    """Mark an error of a function that listens: it says nothing of the model."""
    error.__tessel_caller__ = True  # type: ignore[attr-defined]


def is_callers(error: Exception) -> bool:
    """Whether the error is one that `from_caller` marked."""
    return getattr(error, "__tessel_caller__", False)


def unforeseen(error: Exception) -> Exception:
    """What a user gets to see of an error: itself, if it is a TesselError, a warning that was made
    an error, or comes from the user's own code, else one of tessel's, of which it is the cause."""
    if isinstance(error, (TesselError, Warning)):
        return error
    if is_users(error) and not isinstance(error, MemoryError):
        return error
    if isinstance(error, ModuleNotFoundError):
        missing = MissingPackageError.of(error)
        if missing is not None:
            return missing
    seen = OutOfMemoryError.of(error) if isinstance(error, MemoryError) else InternalError.of(error)
    seen.__cause__ = error
    return seen


def is_users(error: Exception) -> bool:
    """Whether code that is neither tessel's nor a library's had a part in an error since it came
    from there: a callback, a function that is traced, a handler of a signal."""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if _wrote(frame.f_code.co_filename, frame.f_globals):
            return True
        trace = trace.tb_next
    return False


def is_users_code(f: Callable) -> bool:
    """Whether a function, or what it wraps, is neither tessel's nor a library's."""
    import inspect  # slow to import, and nothing that succeeds needs it

    f = inspect.unwrap(f)
    code = getattr(f, "__code__", None)
    return code is not None and _wrote(code.co_filename, f.__globals__)


def _wrote(file: str, names: Mapping) -> bool:
    """Whether a user did: code of this file, with these global names."""
    return names.get("__name__") == "__main__" or not file.startswith(("<", *_libraries()))


@functools.cache
def _libraries() -> tuple[str, ...]:
    """Where code lies that no user wrote."""
    import sysconfig

    root = Path(__file__).parents[1]
    rooms = [str(root / room) + os.sep for room in ("compiler", "frontends", "runtime", "tools")]
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return (*rooms, str(root / "__init__.py"), *(sysconfig.get_path(n) + os.sep for n in names))


P = ParamSpec("P")
T = TypeVar("T")


def entrance(f: Callable[P, T]) -> Callable[P, T]:
    """`f`, which raises no errors of its own but TesselErrors. Warnings that were made errors and
    what users' own code raises are let through, and so are KeyboardInterrupt and SystemExit, which
    are no `Exception`s."""

    @functools.wraps(f)
    def wrapped(*args: P.args, **options: P.kwargs) -> T:
        try:
            return f(*args, **options)
        except Exception as error:
            raise unforeseen(error)  # noqa: B904  its cause is set

    return wrapped


def at(error: Exception, place: str) -> None:
    """Leave word of where an error happened, for `InternalError`; the innermost place is kept."""
    if not isinstance(error, TesselError) and not getattr(error, "__notes__", None):
        error.add_note(place)


class told:
    """`with told(place):` leaves word of the place in errors that come by."""

    def __init__(self, place: str):
        self.place = place

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: Any, trace: object) -> None:
        if isinstance(error, Exception):
            at(error, self.place)


class CheckFailed(TesselError):
    """A check ran and its answer is no (`tessel verify`, a benchmark's agreement gate)."""

    exit_code = 1
