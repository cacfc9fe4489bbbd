"""Everything a user can get wrong raises a `TesselError`: where, expected, received, fix.

`assert` is for our own bugs; a `TesselError` is for the user's model, file or call. The command
line prints it without a traceback and exits with `exit_code`.
"""

from collections.abc import Sequence


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
        return "\n".join(lines)


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
        """The error for one of Python's or numpy's."""
        return cls(
            "not enough memory", received=str(error) or None,
            fix="look at the sizes of inputs and of what follows from them (tessel explain)",
        )  # fmt: skip


class CheckFailed(TesselError):
    """A check ran and its answer is no (`tessel verify`, a benchmark's agreement gate)."""

    exit_code = 1
