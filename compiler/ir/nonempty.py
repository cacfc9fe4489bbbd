"""Sizes that a graph takes to be at least 1, and what a run does where they are 0.

Shape arithmetic that is evaluated while a model is read takes symbols to be positive: the larger of
N and 1 is N, `x[1:]` of f32[N] has N - 1 rows, a Reshape to M does not mean "as it was", which 0
does. Where another result would follow from a size of 0, the graph says of which symbols, and of
which sizes that follow from them:

    metadata {"tessel.nonempty": "M; N; N-2"}

A model is read anew for such sizes (`execution/empty.py`); what has only the graph refuses them.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import TypeMismatch
from . import bounds, dims
from .dim_parse import parse_dim
from .dims import Dim, Sym
from .graph import Graph
from .types import Shape

KEY = "tessel.nonempty"


@contextlib.contextmanager
def noting() -> Iterator[set[Sym]]:
    """Within it, `take_nonempty` notes symbols; those of data's sizes, which may be 0, are none."""
    with bounds.within_context(nonempty=set()) as here:
        assert here.nonempty is not None
        yield here.nonempty


def take_nonempty(*found: Any) -> None:
    """Note that what follows is right only where no symbol of these dims is 0."""
    noted = bounds.context().nonempty
    if noted is not None:
        names = set().union(*map(dims.symbols, found))
        noted |= {Sym.named(n) for n in names if not dims.may_be_zero(n)}


def take_positive(d: Dim) -> None:
    """Note that what follows is right only where `d` is at least 1; a size that data decides is
    none that could be looked at before a run."""
    noted = bounds.context().nonempty
    if noted is None or surely_from_zero(d, 1):
        return
    take_nonempty(d)
    if isinstance(d, Sym) and not any(map(dims.may_be_zero, d.symbols())):
        noted.add(d)


def take_at_least(d: Any, least: int) -> None:
    """Note that d >= least has been used, which holds for positive sizes; unless it always does."""
    noted = bounds.context().nonempty
    if isinstance(d, Sym) and noted is not None and not surely_from_zero(d, least):
        take_nonempty(d)


def surely_from_zero(d: Dim, least: int) -> bool:
    """Whether d >= least, whatever sizes of 0 or more its symbols stand for."""
    low = bounds.lower_bound(bounds.all_from_zero(d))
    return low is not None and low >= least


def remember_nonempty(graph: Graph, noted: set[Sym]) -> None:
    """Leave word of the noted dims of which `graph` has the symbols."""
    known = set(graph.symbols())
    if found := sorted(str(d) for d in noted if d.symbols() <= known):
        graph.metadata[KEY] = "; ".join(found)


def nonempty(graph: Graph) -> list[Dim]:
    """The dims that have to be at least 1. Raises TypeMismatch for other metadata."""
    return [parse_dim(d) for d in graph.metadata.get(KEY, "").split("; ") if d]


def conditions(graph: Graph) -> tuple[Any, ...]:
    """What code for all sizes of such a graph is right for, besides sizes of at least 1: d > 0, for
    the dims that follow from sizes."""
    return tuple((d, 0) for d in nonempty(graph) if not bounds.above(d, 0))


def resolve_shape(old: Sequence[Dim], new: Sequence[Dim]) -> Shape:
    """`new` with one -1 replaced by what is left of `old`'s size.

    Raises TypeMismatch if the sizes differ or cannot be divided.
    """
    new = tuple(new)
    total = dims.prod(old)
    if any(map(_is_rest, new)):
        # Dims that stay where they are say nothing of what is left, also where they are 0.
        stays = [i < len(old) and d == old[i] for i, d in enumerate(new)]
        others = dims.prod(d for i, d in enumerate(old) if i >= len(new) or not stays[i])
        known = dims.prod(d for d, s in zip(new, stays) if not s and not _is_rest(d))
        take_positive(known)
        if isinstance(known, int) and known == 0:
            rest = 0
        else:
            rest = others // known
        if isinstance(others, int) and isinstance(known, int) and rest * known != others:
            raise _size_mismatch(old, new)
        new = tuple(rest if _is_rest(d) else d for d in new)
    size = dims.prod(new)
    if isinstance(size, int) and isinstance(total, int) and size != total:
        raise _size_mismatch(old, new)
    return new


def _is_rest(d: Dim) -> bool:
    return isinstance(d, int) and d == -1


def _size_mismatch(old: Sequence[Dim], new: Sequence[Dim]) -> TypeMismatch:
    return TypeMismatch(
        "a reshape must keep the number of elements",
        expected=f"{dims.prod(old)} elements, as in [{','.join(map(str, old))}]",
        received=f"[{','.join(map(str, new))}]",
    )
