"""What one model may cost to compile, so that a file of a kilobyte cannot take a machine.

    tessel.compile("model.onnx", limits={"nodes": 1_000_000})     # or Limits(nodes=1_000_000)

A model can say little and mean much: functions that call the next one twice, constants that are put
together with themselves, tensors whose file holds two numbers and a shape. Each kind has a budget
that no model of practice has met; where one is spent, the model is refused and the error names it.
Constants are the exception: past their budget they are computed by the runs, and a note says so.
"""

from collections.abc import Mapping
from dataclasses import fields

from ..classes import dataclass
from ..errors import TesselError, UsageError

FOLDED = "limits.folded"  # in a graph's metadata: the budget, where it is not the default
SPENT = "constants that are left to be computed by each run"  # and what was left


class LimitError(TesselError):
    """A model asks for more than the limits allow."""

    @classmethod
    def of(cls, name: str, limit: int, message: str, where: str | None = None) -> "LimitError":
        return cls(
            message,
            where=where,
            expected=f"at most {limit:,} (limits: {name})",
            fix=f"if you trust the model, raise it: limits={{{name!r}: …}} (terminal: --limit "
            f"{name}=…)",
        )


@dataclass(frozen=True)
class Limits:
    """Budgets of one compilation.

    nesting   graphs and functions inside of each other
    nodes     nodes that are read: calls of functions, turns of loops that are written out, elements
              of sequences; those that stand in the file come on top, a hundred times
    dense     bytes of the arrays that sparse tensors stand for
    folded    bytes of constants that are computed while compiling; four times the bytes of the
              model's own constants come on top
    """

    nesting: int = 40
    nodes: int = 100_000
    dense: int = 1 << 30
    folded: int = 512 << 20

    @classmethod
    def of(cls, limits: "Limits | Mapping[str, int] | None") -> "Limits":
        """Limits from what a user gives. Raises UsageError."""
        if limits is None:
            return cls()
        if isinstance(limits, cls):
            return limits
        names = [f.name for f in fields(cls)]
        if not isinstance(limits, Mapping) or not set(limits) <= set(names):
            raise UsageError("no such limits", expected=", ".join(names), received=limits)
        for name, value in limits.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UsageError(f"the limit {name} is no number", received=repr(value))
        return cls(**limits)


class Budget:
    """What is left of `limits` while one model is read."""

    def __init__(self, limits: Limits, own: int = 0):
        """`own`: how many nodes stand in the file."""
        self.limits, self._nodes, self._dense = limits, limits.nodes + 100 * own, 0

    def node(self, count: int = 1) -> None:
        """So many more nodes, or values of one, are read or made. Raises LimitError."""
        self._nodes -= count
        if self._nodes < 0:
            raise LimitError.of(
                "nodes",
                self.limits.nodes,
                "the model's functions, loops or sequences make too many nodes",
            )

    def level(self, depth: int, where: str) -> None:
        """A graph or function is read inside of `depth` others. Raises LimitError."""
        if depth > self.limits.nesting:
            raise LimitError.of(
                "nesting", self.limits.nesting, "graphs or functions are nested too deep", where
            )

    def dense(self, nbytes: int, where: str) -> None:
        """A sparse tensor stands for so many bytes. Raises LimitError."""
        self._dense += nbytes
        if self._dense > self.limits.dense:
            raise LimitError.of(
                "dense", self.limits.dense, f"sparse tensors stand for {self._dense:,} bytes", where
            )
