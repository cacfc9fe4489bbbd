"""Sizes that a graph takes to be at least 1, and what a run does where they are 0.

Shape arithmetic that is evaluated while a model is read takes symbols to be positive: the larger of
N and 1 is N, `x[1:]` of f32[N] has N - 1 rows, a Reshape to M does not mean "as it was", which 0
does. Where another result would follow from a size of 0, the graph says of which symbols, and of
which sizes that follow from them:

    metadata {"tessel.nonempty": "M; N; N-2"}

A model is read anew for such sizes (`execution/empty.py`); what has only the graph refuses them.
"""

import contextlib
from collections.abc import Iterator

from . import bounds, dims
from .dim_parse import parse_dim
from .dims import Sym
from .graph import Graph

KEY = "tessel.nonempty"


@contextlib.contextmanager
def noting() -> Iterator[set[Sym]]:
    """Within it, `take_nonempty` notes symbols; those of data's sizes, which may be 0, are none."""
    with bounds.within_context(nonempty=set()) as here:
        yield here.nonempty


def take_nonempty(*found) -> None:
    """Note that what follows is right only where no symbol of these dims is 0."""
    noted = bounds.context().nonempty
    if noted is not None:
        names = set().union(*map(dims.symbols, found))
        noted |= {Sym.named(n) for n in names if not dims.may_be_zero(n)}


def take_positive(d) -> None:
    """Note that what follows is right only where `d` is at least 1; a size that data decides is
    none that could be looked at before a run."""
    noted = bounds.context().nonempty
    if noted is None or surely_from_zero(d, 1):
        return
    take_nonempty(d)
    if isinstance(d, Sym) and not any(map(dims.may_be_zero, d.symbols())):
        noted.add(d)


def take_at_least(d, least: int) -> None:
    """Note that d >= least has been used, which holds for positive sizes; unless it always does."""
    noted = bounds.context().nonempty
    if isinstance(d, Sym) and noted is not None and not surely_from_zero(d, least):
        take_nonempty(d)


def surely_from_zero(d, least: int) -> bool:
    """Whether d >= least, whatever sizes of 0 or more its symbols stand for."""
    low = bounds.lower_bound(bounds.all_from_zero(d))
    return low is not None and low >= least


def remember_nonempty(graph: Graph, noted: set[Sym]) -> None:
    """Leave word of the noted dims of which `graph` has the symbols."""
    known = set(graph.symbols())
    if found := sorted(str(d) for d in noted if d.symbols() <= known):
        graph.metadata[KEY] = "; ".join(found)


def nonempty(graph: Graph) -> list:
    """The dims that have to be at least 1. Raises TypeMismatch for other metadata."""
    return [parse_dim(d) for d in graph.metadata.get(KEY, "").split("; ") if d]


def conditions(graph: Graph) -> tuple:
    """What code for all sizes of such a graph is right for, besides sizes of at least 1: d > 0, for
    the dims that follow from sizes."""
    return tuple((d, 0) for d in nonempty(graph) if not bounds.above(d, 0))
