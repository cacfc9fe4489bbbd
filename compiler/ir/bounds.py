"""What can be said of dims whose symbols are open: bounds, order, and sizes to expect.

Symbols stand for positive ints, so that `N*S >= S` and `(S + 15)//16 >= 1` hold whatever they are.
What follows for every size may decide about the code that is made; what is merely `size_hint` may
only decide about its speed.

What is taken of sizes beyond that belongs to one reading or one compilation: its `Context`. Shape
rules and schedules ask for it here, since their signatures are those of the ops' records.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import field, replace
from typing import Any, TypeAlias

from ..classes import dataclass
from ..errors import TypeMismatch
from . import dims
from .dims import Dim, Sym

Order: TypeAlias = Callable[[Any, Any], bool]

DEFAULT_SIZE_HINT = 128  # the size that a dim is taken to have if nothing is known of it
SEVERAL = 16  # elements of an axis that would be empty for that size


@dataclass
class Assumed:
    """What sizes must meet: a > b for each (a, b) of `above`, a == b for each of `equal`."""

    above: dict[tuple, None] = field(default_factory=dict)
    equal: dict[tuple, None] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What one reading or compilation takes of dynamic dims.

    assumed     what code for all sizes is right for, noted as it is made; None: nothing may be
    size_hints  the sizes that symbols usually have, as far as that is said
    nonempty    dims that are taken to be at least 1, noted while a model is read (`nonempty.py`)
    """

    assumed: Assumed | None = None
    size_hints: Mapping[str, int] = field(default_factory=dict)
    nonempty: set[Sym] | None = None


_NOTHING = Context()
_context: ContextVar[Context] = ContextVar("sizes", default=_NOTHING)


def context() -> Context:
    """What holds here: nothing is taken outside of `assuming`, `size_hints` and `noting`."""
    return _context.get()


@contextlib.contextmanager
def within_context(**changes: Any) -> Iterator[Context]:
    """Within it, the context is this one with `changes` (fields of Context)."""
    token = _context.set(replace(_context.get(), **changes))
    try:
        yield _context.get()
    finally:
        _context.reset(token)


class DynamicSize(TypeError):
    """Something has to be known of a size that is open: the code must be made for one size.

    `node` is which one says so, where that is known.
    """

    def __init__(self, reason: str, node: Any = None):
        self.node = node
        super().__init__(reason if node is None else f"{_named(node)}: {reason}")


@contextlib.contextmanager
def sizes_of(node: Any) -> Iterator[None]:
    """Within it, what has to be known of a dynamic dim is said of this node; also where Python's
    own arithmetic wants a number, and has a size that is open."""
    try:
        yield
    except TypeError as error:
        raise dynamic_size_of(node, error) from error


def dynamic_size_of(node: Any, error: TypeError) -> TypeError:
    """`error` as one of this node: as it is, where no size of the node is open, or something else
    is wrong."""
    if (
        getattr(error, "node", None) is not None
        or not needs_sizes(error)
        or not _dynamic_dims(node)
    ):
        return error
    known = isinstance(error, DynamicSize)
    return DynamicSize(str(error) if known else "its code is made for numbers", node)


def needs_sizes(error: Exception) -> bool:
    """Whether an error says that a dynamic dim must be known; any other TypeError is a fault.

    Where Python's own arithmetic wants a number and has a size, its message names the type:
    "'Sym' object cannot be interpreted as an integer", "must be real number, not Sym".
    """
    if isinstance(error, DynamicSize):
        return True
    return isinstance(error, TypeError) and Sym.__name__ in str(error)


def _dynamic_dims(node: Any) -> list[str]:
    values = [v for v in (*node.inputs, *node.outputs) if v is not None]
    found = (dims.symbols(d) for v in values for d in getattr(v.type, "shape", ()))
    return sorted(set().union(*found))


def _named(node: Any) -> str:
    name = node.where if node.origin is None else f"{node.origin} ({node.op.name})"
    return f"{name} depends on {', '.join(_dynamic_dims(node))}"


# -- bounds --------------------------------------------------------------------------------


def lower_bound(d: Dim) -> int | None:
    """A number that `d` cannot be below, symbols being at least 1; None if there is none."""
    if not isinstance(d, Sym):
        return d
    terms = _paired(d.terms)
    total = 0
    for monomial, c in terms.items():
        if monomial and c < 0:
            return None
        least = 1
        for atom in monomial:
            if not isinstance(atom, str):
                least *= _atom_lower_bound(atom)
        total += c * least
    return total


def _paired(terms: Mapping[tuple, int]) -> Mapping[tuple, int]:
    """The terms with those taken away that others outweigh: N*S - S is at least 0."""
    negative = [m for m, c in terms.items() if c < 0 and m]
    if not negative:
        return terms
    left = dict(terms)
    for monomial in negative:
        longer = [m for m, c in left.items() if c > 0 and len(m) >= len(monomial)]
        for other in sorted(longer, key=len, reverse=True):
            if not _is_times_symbols(other, monomial):
                continue
            taken = min(left[other], -left[monomial])
            left[other] -= taken
            left[monomial] += taken
            if not left[monomial]:
                break
    return {m: c for m, c in left.items() if c}


def _is_times_symbols(monomial: tuple, part: tuple) -> bool:
    """Whether a monomial is `part` times symbols."""
    rest = list(monomial)
    for atom in part:
        if atom not in rest:
            return False
        rest.remove(atom)
    return all(isinstance(a, str) for a in rest)


def _atom_lower_bound(atom: Any) -> int:
    function, a, b = atom
    low_a, low_b = lower_bound(a), lower_bound(b)
    if function == "max":
        return max((x for x in (low_a, low_b) if x is not None), default=0)
    if function == "broadcast" and low_a and low_b and min(low_a, low_b) > 0:
        return max(low_a, low_b)
    if function == "min" and low_a is not None and low_b is not None:
        return min(low_a, low_b)
    if function == "floordiv" and low_a is not None and isinstance(b, int) and b > 0:
        return low_a // b
    return 0 if function in ("mod", "broadcast") else -(1 << 62)


def at_least(a: Any, b: Any) -> bool:
    """Whether a >= b surely holds, for dims and infinities."""
    if isinstance(a, float) or isinstance(b, float):
        return a == math.inf or b == -math.inf or (_is_number(a) and _is_number(b) and a >= b)
    low = lower_bound(a - b)
    return low is not None and low >= 0


def _is_number(x: object) -> bool:
    return not isinstance(x, Sym)


def from_zero(d: Dim) -> Dim:
    """A dim in which sizes that data decides, which may be 0, are those of other symbols less 1."""
    names = [n for n in dims.symbols(d) if dims.may_be_zero(n)]
    return dims.substitute(d, {n: Sym.named(n) - 1 for n in names}) if names else d


def above(a: Any, b: Any) -> bool:
    """Whether a > b surely holds, for dims and infinities."""
    if isinstance(a, float) or isinstance(b, float):
        if not (_is_number(a) and _is_number(b)):
            return a == math.inf or b == -math.inf
        return a > b
    low = lower_bound(a - b)
    return low is not None and low > 0


def maybe_below(a: Any, b: Any) -> bool:
    """Whether a < b is possible."""
    return not at_least(a, b)


def larger(a: Any, b: Any, surely: Order = at_least) -> Any:
    """max of two dims, without `max(…)` where symbols decide it; `surely` says that a >= b."""
    if surely(a, b):
        return a
    return b if surely(b, a) else dims.dim_max(a, b)


def largest(sizes: Iterable[Any]) -> Any:
    """The maximum of dims; 0 if there are none."""
    kept: list[Any] = []
    for d in dict.fromkeys(sizes):
        if not any(at_least(other, d) for other in kept):
            kept = [other for other in kept if not at_least(d, other)] + [d]
    return functools.reduce(dims.dim_max, kept) if kept else 0


def smaller(a: Any, b: Any, surely: Order = at_least) -> Any:
    """min of two dims, without `min(…)` where symbols decide it; `surely` says that a >= b."""
    if surely(a, b):
        return b
    return a if surely(b, a) else dims.dim_min(a, b)


# -- assumptions ---------------------------------------------------------------------------


@contextlib.contextmanager
def assuming() -> Iterator[Assumed]:
    """Within it, what `assume_above` and `assume_equal` cannot decide is noted."""
    with within_context(assumed=Assumed()) as here:
        assert here.assumed is not None
        yield here.assumed


def assume_above(a: Any, b: Any) -> None:
    """What is made now is right only where a > b. Raises DynamicSize outside of `assuming`, and
    where it is surely wrong."""
    if (not isinstance(a, Sym) and not isinstance(b, Sym)) or above(a, b):
        return
    noted = context().assumed
    if noted is None or at_least(b, a):
        raise DynamicSize(f"{a} > {b} is needed")
    noted.above[a, b] = None


def assume_equal(a: Any, b: Any) -> bool:
    """Whether two dims may be equal: False only where they surely differ.

    Where sizes decide, what is made now is right only if they are equal. That is noted within
    `assuming`; elsewhere it is left to `specialize`, which asks again when the sizes are known.
    """
    if a == b:
        return True
    if surely_differ(a, b):
        return False
    noted = context().assumed
    if noted is not None:
        noted.equal[a, b] = None
    return True


def assume_at_least(a: Any, b: Any) -> bool:
    """Whether a >= b is possible, for dims; noted like `assume_equal`."""
    more, less = all_from_zero(a - b), all_from_zero(b - a)
    if at_least(more, 0):
        return True
    if above(less, 0):
        return False
    noted = context().assumed
    if noted is not None:
        noted.above[a + 1, b] = None
    return True


def conditions(above: Iterable, equal: Iterable) -> Iterator[tuple]:
    """Pairs a > b: equations are two of them each."""
    yield from above
    for a, b in equal:
        yield from ((a + 1, b), (b + 1, a))


def assume_equal_shapes(a: Iterable, b: Iterable) -> bool:
    """`assume_equal` of shapes, axis by axis; those of two ranks differ."""
    a, b = tuple(a), tuple(b)
    return len(a) == len(b) and all(assume_equal(d, e) for d, e in zip(a, b))


def surely_differ(a: Any, b: Any) -> bool:
    """Whether a == b is impossible, also for sizes of 0."""
    difference = all_from_zero(a - b)
    return above(difference, 0) or above(0, difference)


def all_from_zero(d: Dim) -> Any:
    """The dim with symbols that begin at 0 instead of 1: each is written as another one less 1."""
    return dims.substitute(d, {n: Sym.named(n) - 1 for n in dims.symbols(d)})


def fits(above: Iterable, sizes: Mapping[str, int], equal: Iterable = ()) -> bool:
    """Whether a > b for all (a, b) of `above`, and a == b for those of `equal`; and nothing is
    empty."""
    size = dims.substitute
    try:
        return (
            all(n > 0 for n in sizes.values())
            and all(size(a, sizes) == size(b, sizes) for a, b in equal)
            and all(size(a, sizes) > size(b, sizes) for a, b in above)
        )
    except (ZeroDivisionError, TypeMismatch):  # n // 0; axes that do not broadcast
        return False


# -- sizes to expect -----------------------------------------------------------------------


def size_hints(sizes: Mapping[str, int]) -> Any:
    """Within it, `size_hint` takes the symbols to be of these sizes."""
    return within_context(size_hints=dict(sizes))


def more_size_hints(sizes: Mapping[str, int]) -> Any:
    """`size_hints` with these sizes instead of, or besides, those that hold now."""
    return size_hints({**context().size_hints, **sizes})


def size_hint(d: Any) -> int:
    """The size to expect of a dim: 1 at least, since schedules divide by it."""
    if not isinstance(d, Sym):
        return d
    known = context().size_hints
    return max(
        1, _size({n: known.get(n, DEFAULT_SIZE_HINT) for n in d.symbols()}, d, DEFAULT_SIZE_HINT)
    )


def value(d: Dim, sizes: Mapping[str, int]) -> int:
    """The number that a dim is where each of its symbols is one: `substitute` without dims between.
    Raises ZeroDivisionError, TypeMismatch where it is none."""
    if not isinstance(d, Sym):
        return d
    whole = 0
    for monomial, c in d.terms.items():
        for atom in monomial:
            if isinstance(atom, str):
                c *= sizes[atom]
            else:
                function, a, b = atom
                c *= dims.FUNCTIONS[function](value(a, sizes), value(b, sizes))
        whole += c
    return whole


def hint_nonempty(found: Iterable, sizes: Mapping[str, int]) -> dict[str, int]:
    """`sizes` to expect, larger where else one of the dims `found` would be empty (N - 1, N//4):
    such that it has `SEVERAL` elements, if that can be. One alone (a signal of one frame) is no
    more usual than none, and schedules for one are slow for many."""
    sizes = dict(sizes)
    for d in found:
        names = sorted(dims.symbols(d))
        usual = {n: sizes.get(n, DEFAULT_SIZE_HINT) for n in names}
        if not names or _size(usual, d, 0) > 0:
            continue
        larger_ones = [
            usual | {n: max(usual[n], DEFAULT_SIZE_HINT << i) for n in some}
            for i in range(14)
            for some in (names, *([n] for n in names))
        ]
        enough = (s for least in (SEVERAL, 1) for s in larger_ones if _size(s, d, 0) >= least)
        sizes |= next(enough, {})
    return sizes


def _size(sizes: Mapping[str, int], d: Any, otherwise: int) -> int:
    """The dim for some sizes; `otherwise` where they make no sense."""
    try:
        return value(d, sizes)
    except (ZeroDivisionError, TypeMismatch):
        return otherwise
