"""What a sliding window is: read from a kernel's expressions.

    y[…, r, v] = f(combine over taps (k, j) of g(x[…, r·step + k·dilation, v·step + j·dilation]))

`g` may stand under a condition: that the place lies within the input, which is what padding is.
Where it does not hold the value is the identity of the combiner, so that such taps may be left
out. A factor that knows the taps but not the places (the weights of a depthwise convolution) is the
same for all outputs of a line.
"""

from math import gcd, prod

from .....classes import dataclass
from .....expr import expr as s
from .....expr.expr import Axis, Expr
from .....ir.bounds import size_hint
from .....ir.dims import Sym
from .....ir.types import BOOL
from .....kernels.contraction import contiguous_axis
from .....kernels.kernel import Kernel
from ..base import Dim, Refusal, only_reduction

COMBINERS = ("sum", "max", "min")
SUMMED = ("f32", "f64", "i32")  # dtypes of sums
TAPS = 256  # of a window at most
LINE_TAPS = 32  # of a line of a window
STRIDE = 4  # elements from one lane of a vector to the next

# a <op> b as difference >= 0: the sign of a - b, and what is added
_DIFFERENCE = {"ge": (1, 0), "gt": (1, -1), "le": (-1, 0), "lt": (-1, -1)}


@dataclass(frozen=True)
class Slide:
    """An axis of outputs and the taps along it: output p sees place p * step + tap * dilation.
    `conditions` (a, t, c) hold where a * p + t * tap + c >= 0; where one does not, the tap counts
    for nothing."""

    axis: Axis
    tap: Axis
    step: int
    dilation: int
    conditions: tuple[tuple[int, int, int], ...] = ()

    def inside(self) -> tuple[int, Dim]:
        """From which output on, up to which, all conditions hold for every tap."""
        if not self.conditions:
            return 0, self.axis.extent
        low, high = 0, self.axis.extent
        for a, t, c in self.conditions:
            least = c + min(0, t * (self.tap.extent - 1))
            if a > 0:
                low = max(low, -(least // a))
            else:
                high = min(high, least // -a + 1)
        return low, max(low, high)

    @property
    def shares(self) -> bool:
        """Whether two outputs see the same place."""
        return self.step < self.tap.extent and self.dilation < size_hint(self.axis.extent)

    def holds(self, output: int, tap: int) -> bool:
        return all(a * output + t * tap + c >= 0 for a, t, c in self.conditions)

    def places(self, outputs: int) -> dict[int, list[tuple[int, int]]]:
        """The (output, tap) that see each place, for so many neighbouring outputs."""
        users: dict[int, list[tuple[int, int]]] = {}
        for p in range(outputs):
            for k in range(self.tap.extent):
                users.setdefault(p * self.step + k * self.dilation, []).append((p, k))
        return dict(sorted(users.items()))


@dataclass(frozen=True)
class Form:
    """`body` is what is combined, `seen` the part of it that the places decide (all of it, or the
    factor of `weight`). In it `guard` is the select of padding, if there is one, and `value` what
    it is where its conditions hold. `columns` is the vector axis with its taps, `rows` the
    innermost of the other axes with taps, `rest` are those around it."""

    reduce: Expr
    seen: Expr
    weight: Expr | None
    guard: Expr | None
    value: Expr
    vector_axis: Axis
    columns: Slide | None
    rows: Slide | None
    rest: tuple[Slide, ...]
    outer: tuple[Axis, ...]

    @property
    def combiner(self) -> str:
        return self.reduce.data[0]

    @property
    def slides(self) -> tuple[Slide, ...]:
        return tuple(x for x in (*self.rest, self.rows, self.columns) if x is not None)


def sliding_form(kernel: Kernel) -> Form | Refusal:
    """The window of a kernel, or why it has none."""
    r, vector_axis = only_reduction(kernel, "nothing is combined"), contiguous_axis(kernel)
    if isinstance(r, Refusal):
        return r
    combiner, taps = r.data
    narrow = r.dtype.bits < (32 if r.dtype.is_float else 8)
    if combiner not in COMBINERS or narrow or (combiner == "sum" and r.dtype.name not in SUMMED):
        return Refusal(f"there are no windows of {combiner}:{r.dtype}")
    if vector_axis is None or vector_axis not in r.free:
        return Refusal("its output has no axis that fills a vector")
    if any(isinstance(a.extent, Sym) for a in (vector_axis, *taps)):
        return Refusal("the size of its window, or of what it slides along, is open")
    if prod(a.extent for a in taps) > TAPS or any(a.extent > LINE_TAPS for a in taps):
        return Refusal(f"its window has more than {TAPS} places")
    guard = _guard(r.args[0], frozenset(taps))
    if isinstance(guard, Refusal):
        return guard
    seen, weight = _factors(r, guard, vector_axis)
    return _form(kernel, r, seen, weight, guard, vector_axis)


def _form(kernel, r, seen, weight, guard, vector_axis) -> Form | Refusal:
    taps, conditions, value = r.data[1], [], seen
    if guard is not None:
        conditions = [_difference(c) for c in _conjuncts(guard.args[0])]
        value = _unclamped(guard.args[1], list(_conjuncts(guard.args[0])))
        if any(c is None for c in conditions):
            return Refusal("its conditions are not about places in its input")
    body = seen if guard is None else s.transform(seen, lambda e: value if e is guard else None)
    strides = _strides(body, vector_axis)
    if isinstance(strides, Refusal):
        return strides
    slides = _slides(kernel, strides, taps, [terms for terms, _ in conditions])
    if isinstance(slides, Refusal):
        return slides
    bounded = []
    for slide in slides:
        own = []
        for terms, c in conditions:
            if set(terms) == {slide.axis, slide.tap}:
                a, t = terms[slide.axis], terms[slide.tap]
                if a * slide.dilation != t * slide.step:
                    return Refusal("its conditions are about other places than it reads")
                own.append((a, t, c))
        bounded.append(Slide(slide.axis, slide.tap, slide.step, slide.dilation, tuple(own)))
    if sum(len(x.conditions) for x in bounded) != len(conditions):
        return Refusal("its conditions are not each about one axis")
    columns = next((x for x in bounded if x.axis is vector_axis), None)
    others = [x for x in bounded if x is not columns]
    if any(x.conditions for x in others) and not _vanishes(r, guard, others):
        return Refusal("what it pads with counts")
    apart = max(x.get(vector_axis, 0) for x in strides)
    if apart < 2 and not any(x.shares for x in bounded):
        return Refusal("neighbouring outputs share no inputs")
    if any(not 0 <= x.get(vector_axis, 0) <= (1 if columns is None else STRIDE) for x in strides):
        return Refusal("what its vectors are made of lies too far apart")
    rows = others.pop(0) if others else None
    if rows is not None and rows.conditions and isinstance(rows.axis.extent, Sym):
        return Refusal("the size of what it slides along is open")
    if any(isinstance(n, Sym) for x in others for c in x.conditions for n in c):
        return Refusal("the size of what it slides along is open")
    inner = {vector_axis, *([rows.axis] if rows is not None else [])}
    outer = tuple(a for a in kernel.axes if a not in inner)
    return Form(r, seen, weight, guard, value, vector_axis, columns, rows, tuple(others), outer)


def _guard(body: Expr, taps: frozenset[Axis]) -> Expr | Refusal | None:
    """The select whose condition knows taps."""
    guards = [
        e
        for e in s.walk(body)
        if e.op == "select" and e.args[0].free & taps and _is_place(e.args[0])
    ]
    if len(guards) > 1:
        return Refusal("it has several conditions")
    return guards[0] if guards else None


def _is_place(condition: Expr) -> bool:
    """Whether a condition is made of axes alone."""
    return all(e.op != "load" for e in s.walk(condition))


def _conjuncts(e: Expr):
    if e.op == "and":
        for a in e.args:
            yield from _conjuncts(a)
    else:
        yield e


def _difference(e: Expr) -> tuple[dict[Axis, int], int] | None:
    """A comparison as sum >= 0: the sum's coefficients by axes, and its constant."""
    if e.op not in _DIFFERENCE or any(a.dtype != s.I64 for a in e.args):
        return None
    sign, more = _DIFFERENCE[e.op]
    terms, c = s.linear(e.args[0] - e.args[1])
    if any(t.op != "axis" or isinstance(k, Sym) for t, k in terms.items()) or isinstance(c, Sym):
        return None
    return {t.data: sign * k for t, k in terms.items()}, sign * c + more


def _unclamped(value: Expr, conditions: list[Expr]) -> Expr:
    """`value` where the conditions hold: max(i, 0) is i where i >= 0."""
    low = {(c.args[0], c.args[1].data) for c in conditions if c.op == "ge" and _known(c)}
    high = {(c.args[0], c.args[1].data - 1) for c in conditions if c.op == "lt" and _known(c)}

    def visit(e: Expr) -> Expr | None:
        if e.op not in ("min", "max") or e.dtype != s.I64 or e.args[1].op != "const":
            return None
        x = s.transform(e.args[0], visit)
        bounds = low if e.op == "max" else high
        return x if (x, e.args[1].data) in bounds else None

    return s.transform(value, visit)


def _known(comparison: Expr) -> bool:
    return comparison.args[1].op == "const"


def _factors(r: Expr, guard: Expr | None, vector_axis: Axis) -> tuple[Expr, Expr | None]:
    """(what places decide, the weights): the factors of a sum of products whose weights are the
    same for all places of a row; else all of it, and None."""
    body = r.args[0]
    if r.data[0] == "sum" and body.op == "mul":
        for x, w in (body.args, body.args[::-1]):
            own = guard is None or guard in set(s.walk(x))
            if (
                own
                and vector_axis in x.free
                and vector_axis not in w.free
                and w.free & {*r.data[1]}
            ):
                return x, w
    return body, None


def _strides(body: Expr, vector_axis: Axis) -> list[dict[Axis, Dim]] | Refusal:
    """The strides of every load."""
    if any(e.op == "axis" for e in _outside(body)):
        return Refusal("it computes with the places of its window")
    strides: list[dict[Axis, Dim]] = []
    for e in s.walk(body):
        if e.op == "load":
            terms, _ = s.linear(e.args[0])
            if any(t.op != "axis" for t in terms):
                return Refusal("it reads at places that are not evenly apart")
            strides.append({t.data: k for t, k in terms.items()})
            if (strides[-1].get(vector_axis, 0) > 1 and e.dtype.bits < 8) or e.dtype == BOOL:
                return Refusal("it reads bits")
    return strides


def _slides(
    kernel: Kernel,
    strides: list[dict[Axis, Dim]],
    taps: tuple[Axis, ...],
    conditions: list[dict[Axis, int]],
) -> list[Slide] | Refusal:
    """An axis of outputs for each axis of taps, the innermost first: the one that a condition names
    beside it, else the one whose stride is most like its own."""
    reading = [x for x in strides if set(taps) & set(x)]
    if not reading or any(set(taps) - set(x) for x in reading):
        return Refusal("what it reads does not know all of its window's axes")
    first = reading[0]
    if any(isinstance(first[t], Sym) for t in taps):
        return Refusal("the size of what it slides along is open")
    known = [a for a in kernel.axes if not isinstance(first.get(a, 0), Sym)]
    named = {a: t for terms in conditions for a in terms for t in taps if t in terms and a is not t}
    slides, free = [], [a for a in known if first.get(a, 0) > 0]
    for tap in sorted(taps, key=lambda t: first[t]):
        k = first[tap]
        fitting = [a for a in free if named.get(a, tap) is tap] if k > 0 else []
        own = [a for a in fitting if a in named] or fitting
        if not own:
            return Refusal("its window slides along no axis of its output")
        found = [Slide(a, tap, first[a] // gcd(first[a], k), k // gcd(first[a], k)) for a in own]
        slides.append(min(found, key=lambda x: (not x.shares, max(x.step, x.dilation))))
        free.remove(slides[-1].axis)
    for x in strides:
        for slide in slides:
            a, t = x.get(slide.axis, 0), x.get(slide.tap, 0)
            if a * slide.dilation != t * slide.step:
                return Refusal("neighbouring outputs share no inputs")
    return slides


def _outside(e: Expr):
    """What is above loads."""
    yield e
    if e.op != "load":
        for a in e.args:
            yield from _outside(a)


def _vanishes(r: Expr, guard: Expr | None, slides: list[Slide]) -> bool:
    """Whether what is combined is the combiner's identity where the conditions do not hold. The
    least that a narrower type has is one as well, where every window has a tap inside."""
    if guard is None:
        return True
    body = s.transform(r.args[0], lambda e: e.args[2] if e is guard else None)
    if body.op == "mul" and r.data[0] == "sum":
        return any(a.op == "const" and a.data == 0 for a in body.args)
    if body.op == "const" and body.data == s.identity(r.data[0], r.dtype):
        return True
    while body.op == "cast":
        body = body.args[0]
    return (
        body.op == "const"
        and body.data == s.identity(r.data[0], body.dtype)
        and all(_has_taps(x) for x in slides)
    )


def _has_taps(slide: Slide) -> bool:
    """Whether every output has a tap that counts."""
    if isinstance(slide.axis.extent, Sym):
        return not slide.conditions
    return all(
        any(slide.holds(p, k) for k in range(slide.tap.extent)) for p in range(slide.axis.extent)
    )
