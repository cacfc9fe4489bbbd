"""Compute what is known while compiling: a node of constants becomes a constant.

Left as it is: what is impure, what has regions, what makes much out of little (an expanded
scalar is free when it is fused, but costs memory when it is stored), and what would make floats out
of the narrow integers that weights are stored as.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np

from ..errors import InputError, at
from ..ir import dims, op
from ..ir.graph import Graph, Node, Value, constants, widens
from ..ir.interpret import evaluate
from ..ir.types import TensorType
from ..system.budgets import FOLDED, SPENT, Limits

LARGEST = 16 << 20  # bytes of a result much larger than its operands
LARGEST_COPY = 64 << 10  # the same for ops that make any number of elements out of one
_REPEATS = ("expand", "tile", "iota", "random_bits", "random_uniform", "random_normal")


class Allowance:
    """How many bytes of constants may still be made of one graph (`budgets.py`), and what was left
    as it is because there were too many. Once something was, only small things are folded: what one
    pass over the graph leaves, the next one would double."""

    def __init__(self, nbytes: int, spent: bool):
        self.nbytes, self.spent = nbytes, spent
        self.left: list[str] = []

    @classmethod
    def of(cls, graph: Graph) -> "Allowance":
        most = int(graph.metadata.get(FOLDED, Limits.folded))
        own = sum(array.nbytes for array in constants(graph))
        return cls(most + 4 * own, SPENT in graph.metadata)

    def take(self, node: Node, nbytes: int) -> bool:
        """Whether a node may become a constant of so many bytes."""
        if nbytes <= LARGEST_COPY:
            return True
        if self.spent or nbytes > self.nbytes:
            if not self.spent:
                self.left.append(f"{node.op.name} at {node.where}")
            self.spent = True
            return False
        self.nbytes -= nbytes
        return True


def fold_node(node: Node, allowance: Allowance | None = None) -> bool:
    """Make `node` a constant in place if it can be one; whether it was."""
    value = folded(node, allowance)
    if value is None:
        return False
    node.op = op.get("constant")
    node.inputs, node.attrs = [], {"value": value}
    return True


def folded(node: Node, allowance: Allowance | None = None) -> np.ndarray | None:
    """The value of a node with one result, if its operands are constants and it pays."""
    if len(node.outputs) != 1:
        return None
    values = fold_values(node, allowance)
    return None if values is None else values[0]


def fold_values(node: Node, allowance: Allowance | None = None) -> list[np.ndarray] | None:
    """All results of a node whose operands are constants, or None."""
    if not _foldable(node):
        return None
    if allowance is not None and not allowance.take(node, _bytes(node.outputs)):
        return None
    operands = [None if v is None else v.constant for v in node.inputs]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            results = evaluate(node, operands)
        except InputError:
            return None  # an index out of range: a run that comes to it fails, no other
        except Exception as error:
            at(error, f"{node.op.name} at {node.where}")
            raise
    return [np.ascontiguousarray(x).reshape(x.shape) for x in results]


def _foldable(node: Node) -> bool:
    if node.op.name == "constant" or not node.op.pure or any(node.regions()):
        return False
    if any(v is not None and v.constant is None for v in node.inputs):
        return False
    first = node.inputs[0] if node.inputs else None
    if first is not None and widens(node.op.name, first.type, node.outputs[0].type):
        return False
    if not all(isinstance(v.type, TensorType) and v.type.is_static for v in node.outputs):
        return False
    if not all(dims.is_static(a if isinstance(a, tuple) else (a,)) for a in node.attrs.values()):
        return False
    made, read = _bytes(node.outputs), _bytes(node.inputs)
    limit = LARGEST_COPY if node.op.name in _REPEATS else LARGEST
    return made <= limit or made <= 2 * read


def _bytes(values: Sequence[Value | None]) -> int:
    return sum(
        math.prod(v.type.shape) * v.type.dtype.bytes
        for v in values
        if v is not None and isinstance(v.type, TensorType) and v.type.is_static
    )
