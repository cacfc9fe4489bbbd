"""Code for sizes of 0: one for all combinations of sizes in which the same symbols are 0.

    exe.zeros.known(binding)     # code that is there, with these sizes; or None
    exe.zeros.make(binding)      # code made now; None where each combination needs its own

Code for all sizes is for those from 1 on. What computes nothing where a symbol is 0 is another
graph, and code with the other sizes open is made of that: the first turn of a decoder, whose cache
is empty, has one code for prompts of every length.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ...compiler.classes import dataclass
from ...compiler.driver import is_refusal
from ...compiler.errors import TesselError, TypeMismatch
from ...compiler.ir import dims
from ...compiler.ir.bounds import fits
from ...compiler.ir.nonempty import nonempty
from ..base.build import Built
from .empty import is_positive, open_graph_for

if TYPE_CHECKING:
    from .executable import Executable

KEPT = 8  # sets of symbols that are 0


@dataclass(frozen=True)
class ZeroCode:
    """Code in which the symbols of its key are 0; `nonempty` are dims that it takes to be above,
    `equal` those that must be equal besides what the code itself says."""

    built: Built
    nonempty: tuple
    equal: tuple


def bound_to(
    made: Built,
    exe: "Executable",
    binding: Mapping[str, int],
    rest: Mapping[str, int] | None = None,
) -> Built | None:
    """Open code with these sizes, if it is right for them. Raises InputError for sizes that
    contradict the model. `rest` are the sizes that are open in it, where those are not all.

    The code's conditions and equations decide; the graph is only walked where it is not known
    that they say all (`agrees`).
    """
    if not fits(made.code.conditions, binding if rest is None else rest, made.code.equations):
        return None
    if not made.code.agrees:
        from ...compiler.ir.specialize import specialize

        specialize(exe.graph, binding)
    return replace(
        made, binding=dict(binding), module=made.module.bound(binding), values=exe.signature.values
    )


class Zeros:
    """An executable's code for sizes of 0, by the symbols that are."""

    def __init__(self, exe: "Executable"):
        self.exe = exe
        self.codes: dict[frozenset[str], ZeroCode] = {}
        self._impossible: set[frozenset[str]] = set()

    def known(self, binding: Mapping[str, int]) -> Built | None:
        code = self.codes.get(_zeros(binding))
        if code is None or not all(is_positive(d, binding) for d in code.nonempty):
            return None
        rest = {n: size for n, size in binding.items() if size}
        if not fits((), rest, code.equal):
            return None
        return bound_to(code.built, self.exe, binding, rest)

    def make(self, binding: Mapping[str, int]) -> Built | None:
        exe, key = self.exe, _zeros(binding)
        if not key or len(key) == len(binding) or key in self._impossible or key in self.codes:
            return None
        if exe.for_all_sizes is None:
            return None
        equal = vanishing(exe.for_all_sizes.code.equations, key)
        if equal is None:
            return None
        try:
            graph = open_graph_for(exe, dict.fromkeys(key, 0))
            built = exe.session.build_dynamic(graph)
        except (TypeError, TesselError) as error:
            if not is_refusal(error):
                raise
            self._impossible.add(key)
            return None
        self.keep(key, ZeroCode(built, tuple(nonempty(graph)), equal))
        return self.known(binding)

    def keep(self, key: frozenset[str], code: ZeroCode) -> None:
        """Remember code; the oldest goes when there is too much."""
        self.codes[key] = code
        while len(self.codes) > KEPT:
            del self.codes[next(iter(self.codes))]


def vanishing(equations: Iterable, zeros: frozenset[str]) -> tuple | None:
    """What is left of equations between sizes that say nothing where some are 0: of M*N = M, which
    is what an axis of size N has that is left out, N = 1. None where that cannot be said."""
    left, zero = [], dict.fromkeys(zeros, 0)

    def agree(a: dims.Dim, b: dims.Dim) -> bool:
        return dims.substitute(a, zero) == dims.substitute(b, zero)

    for a, b in equations:
        try:
            if not agree(a, b):
                continue
            for s in map(dims.Sym.named, zeros):
                while _divides(s, a) and _divides(s, b):
                    a, b = a // s, b // s
            if agree(a, b):
                return None
        except (ZeroDivisionError, TypeMismatch):  # n // 0; axes that do not broadcast
            return None
        left.append((a, b))
    return tuple(left)


def _divides(s: dims.Sym, d: int | dims.Sym) -> bool:
    return isinstance(d, dims.Sym) and (d // s) * s == d


def _zeros(binding: Mapping[str, int]) -> frozenset[str]:
    return frozenset(n for n, size in binding.items() if size == 0)
