"""Equations between dynamic dims: what a graph takes to be equal, and the graph where it is.

    add(x: f32[N,4], y: f32[M,4]) : f32[broadcast(N,M),4]      N == M, and M is written N:

    add(x: f32[N,4], y: f32[N,4]) : f32[N,4]

Exporters name equal sizes apart (the lengths of keys and of values). A graph keeps what holds for
all sizes, so that one in which N is 1 can be made from it (`specialize`); code for all sizes is
made of what this module returns, and runs where the equations hold.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from ..errors import TypeMismatch
from ..ir import dims
from ..ir.bounds import assume_equal_shapes, assuming
from ..ir.dims import Sym
from ..ir.graph import Graph, Node
from ..ir.specialize import specialize
from ..ir.types import TensorType

Equations = dict[tuple, None]  # (a, b): a == b


def broadcasts(d) -> set[tuple]:
    """The parts of each `broadcast(…)` inside of a dim."""
    found: set[tuple] = set()
    if not isinstance(d, Sym):
        return found
    for monomial in d.terms:
        for atom in monomial:
            if isinstance(atom, str):
                continue
            inner = dims.broadcast_parts(Sym({(atom,): 1})) if atom[0] == "broadcast" else atom[1:]
            found |= {inner} if atom[0] == "broadcast" else set()
            found = found.union(*map(broadcasts, inner))
    return found


def equations(graph: Graph) -> Equations:
    """What must be equal: the parts of each `broadcast(…)`, and what shape rules take to be.

    Raises TypeMismatch where a rule refuses the graph whatever the sizes are.
    """
    found: Equations = {}
    for d in _dims(graph):
        for parts in broadcasts(d):
            found |= dict.fromkeys(pairwise(parts))
    with assuming() as noted:
        for node in _nodes(graph):
            _infer(node)
    found |= noted.equal
    return found | dict.fromkeys(pair for a, b in found for pair in _arguments(a, b))


def _arguments(a, b) -> Iterator[tuple]:
    """(N, M) for max(N,S) == max(M,S): not the only way to be equal, but the usual one."""
    difference = _without_common_factors(a - b)
    if not isinstance(difference, Sym) or sorted(difference.terms.values()) != [-1, 1]:
        return
    first, second = difference.terms
    if (
        len(first) == len(second) == 1
        and isinstance(first[0], tuple)
        and first[0][0] == second[0][0]
    ):
        (_, *left), (_, *right) = first[0], second[0]
        pairs = [(x, y) for x, y in zip(left, right) if x != y]
        if len(pairs) == 1:
            yield pairs[0]


def equal_sizes(graph: Graph, found: Iterable[tuple]) -> tuple[Graph, dict]:
    """The graph with symbols and expressions replaced that equations decide, and what each is."""
    order = [
        s
        for v in graph.inputs
        if isinstance(v.type, TensorType)
        for d in v.type.shape
        for s in sorted(dims.symbols(d))
    ]
    solution = solve(found, order)
    return (specialize(graph, solution) if solution else graph), solution


def solve(found: Iterable[tuple], order: Iterable[str] = ()) -> dict:
    """Symbols by what they are equal to, in terms of the others; and where that says nothing of a
    symbol, expressions: `min(N,64)`, rows of a table of 64, is N where it is added to N rows.

    Only what is a sum of products with positive factors takes a symbol's place: of such a dim it
    is known that it is 1 or more. Of two symbols the earlier one of `order` stays, and one that
    data decides, which may be 0, goes first.
    """
    rank = {s: i for i, s in reversed(list(enumerate(order)))}
    solution: dict = {}
    for a, b in found:
        try:
            difference = dims.substitute(a, solution) - dims.substitute(b, solution)
        except TypeMismatch:
            continue  # surely not equal: no run meets it
        difference = _without_common_factors(difference)
        if not isinstance(difference, Sym):
            continue
        names = sorted(
            difference.symbols(),
            key=lambda s: (dims.may_be_zero(s), rank.get(s, len(rank)), s),
            reverse=True,
        )
        for name in (*names, *_expressions(difference)):
            value = _alone(difference, name)
            if value is not None:
                step = {name: value}
                solution = {s: dims.substitute(d, step) for s, d in solution.items()} | step
                break
    return solution


def _without_common_factors(d):
    """N - 1 for 2*N*M - 2*M: no size is 0 where code for all sizes runs."""
    if not isinstance(d, Sym):
        return d
    for atom in dict.fromkeys(next(iter(d.terms))):
        least = min(monomial.count(atom) for monomial in d.terms)
        for _ in range(least if isinstance(atom, str) else 0):
            d = d // Sym.named(atom)
    return d // math.gcd(*d.terms.values()) if isinstance(d, Sym) else d


def _expressions(difference: Sym) -> list[tuple]:
    """The terms that are a minimum, a maximum, … and nothing else."""
    return [m[0] for m in difference.terms if len(m) == 1 and isinstance(m[0], tuple)]


def _alone(difference: Sym, name: str | tuple):
    """What a symbol or expression is where `difference` is 0; None where that is not plain."""
    c = difference.terms.get((name,))
    if c not in (1, -1):
        return None
    value = (difference - Sym({(name,): c})) * -c
    if not isinstance(value, Sym):
        return value if value > 0 else None
    plain = all(isinstance(atom, str) for monomial in value.terms for atom in monomial)
    positive = all(factor > 0 for factor in value.terms.values())
    return value if plain and positive and name not in value.symbols() else None


def divisors(graph: Graph) -> set[int]:
    """The numbers that dims of the graph are divided by."""
    return {n for d in _dims(graph) for n in _divisors(d)}


def _divisors(d) -> Iterator[int]:
    if not isinstance(d, Sym):
        return
    for monomial in d.terms:
        for atom in monomial:
            if isinstance(atom, tuple):
                function, a, b = atom
                if function in ("floordiv", "mod") and isinstance(b, int) and b > 0:
                    yield b
                yield from _divisors(a)
                yield from _divisors(b)


def holds(found: Iterable[tuple], sizes: Mapping[str, int]) -> bool:
    """Whether all equations hold."""
    return all(dims.substitute(a, sizes) == dims.substitute(b, sizes) for a, b in found)


def _nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for _, region in node.regions():
            yield from _nodes(region)


def _infer(node: Node) -> None:
    inferred = node.op.infer([None if v is None else v.type for v in node.inputs], node.attrs)
    for v, t in zip(node.outputs, inferred):
        if isinstance(v.type, TensorType) and isinstance(t, TensorType):
            assume_equal_shapes(v.type.shape, t.shape)


def _dims(graph: Graph) -> Iterator[Sym]:
    """The dynamic dims of types and attributes, also in regions."""

    def visit(value) -> Iterator[Sym]:
        match value:
            case Sym():
                yield value
            case tuple() | list():
                for v in value:
                    yield from visit(v)

    for v in graph.inputs:
        yield from visit(getattr(v.type, "shape", ()))
    for node in graph.nodes:
        for v in node.outputs:
            yield from visit(getattr(v.type, "shape", ()))
        for value in node.attrs.values():
            yield from visit(value)
        for _, region in node.regions():
            yield from _dims(region)
