"""Whether a node that cannot be read while dims are open could be read if they were known.

    GatherND(x: f32[N,M], i: i64[K,D])     D must be a number: fits with N = M = K = D = 1
    GatherND(x: f32[N,M], i: i64[])        fits with no sizes: the model is wrong

A shape rule says what it refuses, not which sizes it would take. So sizes are tried: the node is
read again, into a graph of its own, with numbers in place of symbols. One combination that fits is
enough: the node needs sizes (`dependence.SizeDependence`), and the model is read anew for those of
a run.
"""

import copy
import itertools
import random
from collections.abc import Iterator, Mapping

import numpy as np

from ....compiler.errors import TesselError
from ....compiler.ir import dims
from ....compiler.ir.builder import Tensor
from ....compiler.ir.dims import Sym
from ....compiler.ir.types import Type
from .dependence import ValueDependence
from .findings import Findings
from .folded import FoldedValue, FoldingBuilder
from .scope import FAILED, Scope, Sequence, Skip

SMALL = (1, 2, 3, 4, 5, 6, 8)  # sizes to try besides those that the node itself names
POOL = 12  # how many sizes are tried
DRAWN = 96  # combinations at random
MOST = 600  # combinations


def fits_some_sizes(reader, scope: Scope, node, operands: list, read) -> bool:
    """Whether `read(reader, scope, operands)` reads the node with numbers for the dynamic dims of
    its operands. Sizes that data decides stay open: no run gives them."""
    names = sorted(n for n in _symbols(operands) if not dims.may_be_zero(n))
    if not names:
        return False
    combinations = itertools.islice(_combinations(names, _pool(node, operands)), MOST)
    return any(_fits(reader, _TrialScope(scope, c), operands, read) for c in combinations)


def _fits(reader, scope: "_TrialScope", operands: list, read) -> bool:
    """Whether the node is read with these sizes, or lacks no more than values of inputs."""
    trial = copy.copy(reader)
    trial.findings, trial.notes, trial.seen = Findings(), {}, {}
    trial.graph, trial.inlining = scope.builder.graph, list(reader.inlining)
    try:
        results = read(trial, scope, [scope.taken(v) for v in operands])
    except ValueDependence:
        return True
    except Skip:  # a node of a body could not be read
        errors = [e[0] for e in trial.findings.errors]
        return bool(errors) and all(isinstance(e, ValueDependence) for e in errors)
    except (TesselError, ArithmeticError, LookupError, TypeError, ValueError):
        return False
    wrong = [e for e, *_ in trial.findings.errors if not isinstance(e, ValueDependence)]
    return not wrong and FAILED not in results


# -- sizes --------------------------------------------------------------------------------


def _combinations(names: list[str], pool: list[int]) -> Iterator[dict[str, int]]:
    """Sizes for symbols: all alike; some at random, always the same ones; all alike but one."""
    for size in pool:
        yield dict.fromkeys(names, size)
    if len(names) == 1:
        return
    draw = random.Random(0)
    for _ in range(DRAWN):
        yield {n: draw.choice(pool) for n in names}
    for size, name, own in itertools.product(pool, names, pool):
        if own != size:
            yield {**dict.fromkeys(names, size), name: own}


def _pool(node, operands: list) -> list[int]:
    """Sizes that may mean something to a node: those in its types and attributes, small ones."""
    own = [d for v in _tensors(operands) for d in v.shape if isinstance(d, int)]
    for a in node.attribute:
        own += [a.i, *a.ints]
    found = dict.fromkeys(n for n in (*SMALL, *own) if 0 < n <= 1 << 16)
    return list(found)[:POOL]


def _symbols(operands: list) -> set[str]:
    found: set[str] = set()
    for v in _tensors(operands):
        for d in v.shape:
            found |= dims.symbols(d)
        if isinstance(v, FoldedValue) and v.symbolic:
            for e in v.array.flat:
                found |= dims.symbols(e)
    return found


def _tensors(values: list) -> Iterator[Tensor]:
    for v in values:
        if isinstance(v, Sequence):
            yield from _tensors(v.items)
        elif isinstance(v, Tensor) and hasattr(v.type, "shape"):
            yield v


# -- the graph of a trial -----------------------------------------------------------------


class _TrialScope(Scope):
    """A scope whose values are inputs of the trial's graph, with sizes in place of symbols."""

    def __init__(self, origin: Scope, binding: Mapping[str, int]):
        super().__init__(
            FoldingBuilder(name="trial"),
            origin.opsets,
            attributes=origin.attributes,
            prefix=origin.prefix,
        )
        self.origin, self.binding = origin, binding
        self.nodes = origin.nodes

    def find(self, name: str):
        if name not in self.values:
            self.values[name] = self.taken(self.origin.find(name))
        return self.values[name]

    def taken(self, value):
        """A value of the model's graph in the trial's."""
        if isinstance(value, Sequence):
            return Sequence([self.taken(v) for v in value.items])
        if isinstance(value, FoldedValue):
            return FoldedValue(self.builder, self._numbers(value), value.dtype, value.name)
        if not isinstance(value, Tensor):
            return value
        if value.constant is not None:
            return self.builder.constant(value.constant)
        return self.builder.input(value.value.name, self._sized(value.type))

    def _numbers(self, value: FoldedValue) -> np.ndarray:
        if not value.symbolic:
            return value.array
        array = np.empty(value.array.shape, object)
        array.flat = [
            dims.substitute(e, self.binding) if isinstance(e, Sym) else e for e in value.array.flat
        ]
        return array

    def _sized(self, type: Type) -> Type:
        sized = type.substitute(self.binding)
        if any(isinstance(d, int) and d < 0 for d in getattr(sized, "shape", ())):
            raise ValueError("a negative size")
        return sized
