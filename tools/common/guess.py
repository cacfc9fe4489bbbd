"""Sizes for dynamic dims that a command needs and nobody gave. Every command guesses here.

    found = guess(ports, {}, read)
    found.shapes            {"image": (1, 3, 16, 16)}
    str(found)              height=16, width=16: guessed; --shapes image:1x3x16x16 sets them

Small sizes come first: all 1; then first axes, which count what is independent, stay 1 and others
are 2, 8, 16, …; then one of them grows alone; then all do. Taken are the first sizes which the
model takes and of which nothing is empty, else the first which it takes, else 1: the model then
says what is wrong with them.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace

from ...compiler.classes import dataclass
from ...compiler.errors import TesselError
from ...compiler.ir.dims import substitute, symbols
from ...compiler.ir.graph import Graph
from ...compiler.ir.types import TensorType
from ...runtime.base.signature import Port, bind
from .feeds import Shape, bind_sizes

MOST = 6  # dynamic dims that are tried one by one
PATIENCE = 10.0  # seconds of trying
SIZES = (2, 8, 16, 32, 64, 128, 224, 256, 512)
Read = Callable[[dict[str, int]], Graph]  # the graph for sizes; raises TesselError if they are none


@dataclass(frozen=True)
class Guess:
    """Whole shapes of inputs by name; the sizes of dynamic dims, and those of them that are
    guessed; the inputs in whose shapes these are."""

    shapes: dict[str, tuple[int, ...]]
    sizes: dict[str, int]
    guessed: dict[str, int]
    open: tuple[str, ...]

    def __str__(self):
        sizes = ", ".join(f"{n}={size}" for n, size in self.guessed.items())
        given = " ".join(shape_text(n, self.shapes[n]) for n in self.open)
        return f"{sizes}: guessed; --shapes {shlex.quote(given)} sets them"


def shape_text(name: str, shape: Sequence[int]) -> str:
    """x:1x3, as `--shapes` takes it."""
    return f"{name}:{'x'.join(map(str, shape))}" if len(shape) else f"{name}[]"


def guess(
    ports: Sequence[Port],
    given: Mapping[str, Shape],
    read: Read,
    equal: Mapping[str, object] | None = None,
) -> Guess:
    """Sizes of the dynamic dims of `ports`, beside those that the shapes `given` fix.

    `equal`: dims that follow from others (`equal_sizes` of `analysis/equations.py`). Raises
    InputError for shapes that contradict the ports.
    """
    tensors = [p for p in ports if isinstance(p.type, TensorType)]
    order = attempts(ports, given, equal)
    sizes = order[0] if len(order) == 1 else _first_taken(order, read)
    known = known_sizes(tensors, given)
    shapes = {p.name: p.type.substitute(sizes).shape for p in tensors}
    guessed = {n: size for n, size in sizes.items() if n not in known}
    touched = (p.name for p in tensors if any(symbols(d) & guessed.keys() for d in p.type.shape))
    return Guess(shapes, sizes, guessed, tuple(touched))


def attempts(
    ports: Sequence[Port], given: Mapping[str, Shape], equal: Mapping[str, object] | None = None
) -> list[dict[str, int]]:
    """Sizes of all dynamic dims to try, in order; one if `given` fixes them all."""
    tensors = [p for p in ports if isinstance(p.type, TensorType)]
    known = known_sizes(tensors, given)
    names = dict.fromkeys(n for p in tensors for d in p.type.shape for n in sorted(symbols(d)))
    missing = [n for n in names if n not in known]
    if not missing:
        return [known]
    firsts = {str(p.type.shape[0]) for p in tensors if p.type.rank > 1}
    rest = {n for p in tensors for d in p.type.shape[1:] for n in symbols(d)}
    return [known | _solved(s, equal or {}, known) for s in _candidates(missing, firsts - rest)]


def known_sizes(tensors: Sequence[Port], given: Mapping[str, Shape]) -> dict[str, int]:
    """The sizes of symbols that shapes fix, also through dims such as 2*N."""
    simple = bind_sizes(tensors, given)  # refuses what does not fit
    names = {n for p in tensors for d in p.type.shape for n in symbols(d)}
    whole = [p for p in tensors if all(isinstance(d, int) for d in given.get(p.name, ("",)))]
    arrays = [SimpleNamespace(shape=tuple(given[p.name])) for p in whole]
    found, _ = bind([p.type for p in whole], arrays, [p.name for p in whole])
    return {n: size for n, size in simple.items() if n in names} | found


def _candidates(missing: Sequence[str], firsts: set[str]) -> Iterator[dict[str, int]]:
    yield dict.fromkeys(missing, 1)
    ones = {n: 1 for n in missing if n in firsts}
    if len(ones) < len(missing):
        yield from (dict.fromkeys(missing, size) | ones for size in SIZES)
    if 2 < len(missing) <= MOST:
        for n in missing:
            yield from (dict.fromkeys(missing, 1) | {n: size} for size in SIZES)
    if ones:
        yield from (dict.fromkeys(missing, size) for size in SIZES)


def _solved(sizes: dict[str, int], equal: Mapping[str, object], known: Mapping) -> dict[str, int]:
    """The sizes, with those that follow from others as these make them."""
    every = {**sizes, **known}
    follow = {n: substitute(d, every) for n, d in equal.items() if n in sizes}
    return sizes | {n: size for n, size in follow.items() if isinstance(size, int)}


def _first_taken(order: Sequence[dict[str, int]], read: Read) -> dict[str, int]:
    taken, end = None, time.monotonic() + PATIENCE
    for sizes in order:
        if time.monotonic() > end:
            break
        try:
            graph = read(sizes)
        except (TesselError, ZeroDivisionError):
            continue
        if not _has_empty(graph):
            return sizes
        taken = sizes if taken is None else taken
    return order[0] if taken is None else taken


def _has_empty(graph: Graph) -> bool:
    """Whether something that nodes compute is empty. (Constants may be: an absent operand.)"""
    return any(
        isinstance(v.type, TensorType) and 0 in v.type.shape
        for node in graph.nodes
        if node.op.name != "constant"
        for v in node.outputs
    )
