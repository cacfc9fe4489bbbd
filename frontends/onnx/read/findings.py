"""Everything wrong with a model, grouped: one error instead of the first."""

from ....compiler.errors import ModelError, TesselError, TypeMismatch, UnsupportedError
from ....compiler.system.budgets import LimitError
from .dependence import SizeDependence, ValueDependence

_SHOWN = 6  # addresses per group


class Findings:
    """Errors met while reading, each with the node's (op_type, domain, version)."""

    def __init__(self):
        self.errors: list[tuple[TesselError, tuple | None, str, str | None]] = []

    def add(
        self,
        error: TesselError,
        context: tuple | None = None,
        operands=(),
        where: str | None = None,
    ) -> None:
        if isinstance(error, LimitError):
            raise error  # there would be as many of them as there are nodes
        shown = ", ".join("none" if v is None else str(getattr(v, "type", "?")) for v in operands)
        self.errors.append((error, context, shown, error.where or where))

    def take_since(self, mark: int) -> list[TesselError]:
        """Remove and return what was added after there were `mark` errors."""
        taken = [e[0] for e in self.errors[mark:]]
        del self.errors[mark:]
        return taken

    def raise_if_any(self, where: str) -> None:
        """Raise one error with all findings. Its kind is that of the gravest."""
        if not self.errors:
            return
        groups: dict[tuple, list] = {}
        for error, context, operands, place in self.errors:
            key = (type(error), error.message, context, str(error.fix))
            groups.setdefault(key, []).append((error, operands, place))
        kinds = [type(e[0]) for e in self.errors]
        kind = next(
            (k for k in (ModelError, UnsupportedError, TypeMismatch) if k in kinds),
            UnsupportedError if {ValueDependence, SizeDependence} & set(kinds) else kinds[0],
        )
        count = len(self.errors)
        raise kind(
            f"the model cannot be read: {count} problem{'s' if count > 1 else ''}",
            where=where,
            findings=[_finding(key[2], errors) for key, errors in groups.items()],
        )


def _finding(context: tuple | None, errors: list) -> TesselError:
    first, operands, _ = errors[0]
    places = [place or "?" for _, _, place in errors]
    where = ", ".join(places[:_SHOWN])
    if len(places) > _SHOWN:
        where += f" and {len(places) - _SHOWN} more"
    message = first.message
    if context is not None:
        op_type, domain, version = context
        name = f"{domain}:{op_type}" if domain else op_type
        version = "" if version is None else f" (opset {version})"
        times = f", {len(errors)} times" if len(errors) > 1 else ""
        message = f"{name}{version} of {operands or 'nothing'}{times}: {message}"
    details = {"inputs": first.inputs} if isinstance(first, ValueDependence) else {}
    return type(first)(
        message,
        where=where,
        expected=first.expected,
        received=first.received,
        fix=first.fix,
        findings=first.findings,
        **details,
    )
