"""What is asked of a graph before its code serves all sizes: whether it makes sense for them, and
which sizes its schedules are chosen for."""

import itertools
import math
from collections.abc import Iterator, Mapping

from ..errors import InputError
from ..ir import dims
from ..ir.graph import Graph

PROBES = (2, 101, 2003)  # where the primes begin that stand for sizes


def sizes_agree(graph: Graph, code, solution: Mapping) -> bool:
    """Whether the graph makes sense for all sizes that meet the code's conditions and equations.

    Relations between polynomials that hold for primes hold for all sizes. Where a rule refuses
    them, or none of the primes (and their multiples of what is divided by, rising and falling) meet
    the conditions, each combination of sizes has to be looked at.
    """
    from ..ir.bounds import fits
    from ..ir.specialize import specialize
    from .equations import divisors

    names = sorted(graph.symbols())
    free = [n for n in names if n not in solution]
    common = math.lcm(*divisors(graph))
    tried = 0
    for order, factor, first in itertools.product((1, -1), sorted({1, common}), PROBES):
        binding = {n: p * factor for n, p in zip(free[::order], primes(first))}
        binding |= {n: dims.substitute(d, binding) for n, d in solution.items() if n in names}
        if not fits(code.conditions, binding, code.equations):
            continue
        tried += 1
        try:
            specialize(graph, binding)
        except InputError:
            return False
        if tried == len(PROBES):
            break
    return tried > 0 or not names


def primes(first: int) -> Iterator[int]:
    """Prime numbers from `first` on."""
    return (n for n in itertools.count(first) if all(n % d for d in range(2, math.isqrt(n) + 1)))


def size_hints_of(graph: Graph) -> dict[str, int]:
    """The sizes that schedules are chosen for: the first axis of inputs counts what is independent,
    usually one; other axes, and sizes that data decides, are as `sizes.size_hint` has them. Where
    an axis would be empty then (`x[1:]` of [N]), more is expected."""
    from ..ir.bounds import hint_nonempty
    from ..ir.dims import may_be_zero
    from ..ir.types import TensorType

    shapes = [v.type.shape for v in graph.inputs if isinstance(v.type, TensorType)]
    first = {str(s[0]) for s in shapes if len(s) > 1 or (len(shapes) == 1 and s)}
    rest = {str(d) for s in shapes for d in s[1:]}
    known = {n for n in graph.symbols() if not may_be_zero(n)}
    all_dims = (d for v in graph.values() if isinstance(v.type, TensorType) for d in v.type.shape)
    return hint_nonempty(dict.fromkeys(all_dims), dict.fromkeys((first - rest) & known, 1))
