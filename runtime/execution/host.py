"""What the host runs between compiled stages: a branch, the turns of a loop, a decoder.

    step = HostStep(node, [executable, …])
    results = step(arrays, threads)               # condition, operands, sizes -> results

Rows that a loop stacks are kept turn by turn and joined at the end, so that memory follows the
turns that came, not those that may. Before it grows, memory is looked at: a loop without an end
ends with an OutOfMemoryError, or when it is interrupted.
"""

import contextlib
from collections.abc import Sequence

import numpy as np

from ...compiler.errors import OutOfMemoryError, TesselError
from ...compiler.ir.graph import Node
from ...compiler.ir.hosted import bound_symbols
from ...compiler.ir.interpret import evaluate
from ...compiler.ops.control.host_control import joined

LOOK = 64 << 20  # bytes of rows after which memory is looked at, and again at each doubling


class HostStep:
    """Runs a `host_if`, a `host_loop`, or the kernel in Python of another node; `executables` are
    those of its graphs, in their order.

    What `arrays` have behind the node's operands tells the graphs sizes.
    """

    def __init__(self, node: Node, executables: Sequence):
        self.node, self.executables = node, list(executables)
        runs = {"host_if": self._branch, "host_loop": self._turns}
        self._run = runs.get(node.op.name, self._kernel)

    def __call__(self, arrays: Sequence[np.ndarray], threads: int) -> tuple[list, dict[str, int]]:
        """The results, and the sizes of the symbols that they bind."""
        try:
            results = self._run(list(arrays), threads)
        except TesselError as error:
            error.where = error.where or self.node.where
            raise
        return results, bound_symbols(self.node, results)

    def _kernel(self, operands: list, threads: int) -> list:
        return evaluate(self.node, operands)

    def _branch(self, arrays: list, threads: int) -> list:
        condition, *operands = arrays
        return self.executables[0 if condition.item() else 1].call(operands, threads)

    def _turns(self, arrays: list, threads: int) -> list:
        condition, *operands = arrays
        go, attrs = bool(condition.item()), self.node.attrs
        states, captured = operands[: attrs["states"]], operands[attrs["states"] :]
        types = [v.type for v in attrs["body"].outputs[1 + len(states) :]]
        rows: list[list[np.ndarray]] = [[] for _ in types]
        held, look = 0, LOOK
        while go:
            again, *out = self.executables[0].call([*states, *captured], threads)
            go, states = bool(again.reshape(())), out[: len(states)]
            for found, y in zip(rows, out[len(states) :]):
                found.append(y)
                held += y.nbytes
            if held >= look:
                look = 2 * held
                _expect_room(held)
        stacked = []
        for found, type in zip(rows, types):
            stacked.append(joined(found, type, attrs["pieces"]))
            found.clear()
        return [*states, *stacked]


def _expect_room(held: int) -> None:
    """Raise OutOfMemoryError if there is no room to join rows of so many bytes."""
    free = available_memory()
    if free is not None and free < held:
        raise OutOfMemoryError(
            "a loop gives more rows than memory holds",
            expected=f"at most {free:,} bytes more",
            received=f"{held:,} bytes of rows so far",
            fix="does its condition ever become false? A trip count M bounds the iterations",
        )


def available_memory() -> int | None:
    """Bytes that this process can still take without swapping, as far as the system says."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo") as file:
        lines = dict(line.split(":") for line in file)
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with contextlib.suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            with open("/proc/self/statm") as file:
                found.append(max(0, limit - int(file.read().split()[0]) * resource.getpagesize()))
    return min(found, default=None)
