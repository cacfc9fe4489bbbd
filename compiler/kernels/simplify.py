"""Fewer, longer axes: split what reshapes left behind, then merge what is contiguous.

    split_axes   (i // 64), (i % 64)  ->  two axes of which both are plain
    flatten      x[i, j]              ->  x[i*768 + j]: every buffer becomes one row
    merge_axes   x[i*768 + j] over i<128, j<768  ->  x[m] over m<98304

After it, the index of a load is a sum of axes times constants wherever the model allows.
"""

from collections.abc import Callable
from itertools import pairwise

from ..expr import expr as s
from ..expr.expr import Axis, Buffer, Expr
from ..expr.index import NUMBERS, divides
from ..ir.bounds import above, size_hint
from ..ir.dims import Sym
from ..ir.types import TensorType
from .kernel import Kernel, Store

SHORT = 16  # an axis that is shorter is no vector's
NEAR = 4  # elements between what neighbours read
COPIES = 7  # elements that vectors are stored to by turns at the most


def map_kernel(kernel: Kernel, axes, apart: int, visit: Callable[[Expr], Expr | None]) -> Kernel:
    """The kernel with other axes and `visit` applied to its expressions (see expr.transform)."""
    memo: dict = {}
    stores = tuple(
        Store(
            st.buffer,
            tuple(s.transform(i, visit, memo) for i in st.index),
            s.transform(st.value, visit, memo),
            None if st.where is None else s.transform(st.where, visit, memo),
            st.mode,
        )
        for st in kernel.stores
    )
    return Kernel(kernel.name, tuple(axes), stores, kernel.serial, kernel.origins, apart=apart)


# -- splitting -----------------------------------------------------------------------------


def split_axes(kernel: Kernel) -> Kernel:
    """Split axes until no `//` or `%` cuts through one, where the divisors allow it."""
    for _ in range(16):
        found = _find_split(kernel)
        if found is None:
            return kernel
        axis, inner = found
        high, low = Axis(axis.name, axis.extent // inner), Axis(axis.name, inner)
        joined = s.axis(high) * inner + s.axis(low)
        kernel = _replace_axis(kernel, axis, (high, low), joined)
    return kernel


def _find_split(kernel: Kernel) -> tuple | None:
    for e in s.walk(*kernel.roots()):
        if e.op not in ("floordiv", "mod") or e.args[1].op not in NUMBERS:
            continue
        divisor = e.args[1].data
        terms, _ = s.linear(e.args[0])
        for term, k in terms.items():
            if term.op != "axis" or not above(k, 0) or not divides(k, divisor):
                continue
            inner, extent = divisor // k, term.data.extent
            fits = inner not in (1, extent) and above(inner, 0) and divides(inner, extent)
            if fits and (
                not _is_resampled(kernel, term.data, inner)
                or _is_repeated(kernel, term.data, inner)
            ):
                return term.data, inner
    return None


def _is_resampled(kernel: Kernel, axis: Axis, inner) -> bool:
    """Whether neighbours along an axis are stored beside each other and read near each other, so
    that a vector of them is better than the pieces of `inner` that the axis could be cut into."""
    if isinstance(inner, Sym) or inner > SHORT or axis not in kernel.axes:
        return False
    for st in kernel.stores:
        if _moving(s.flatten(st.index, st.buffer.shape), axis) is not s.axis(axis):
            return False
    extent = size_hint(axis.extent)
    starts = range(0, extent, max(1, extent // NEAR))
    summed = {a for e in s.walk(*kernel.roots()) if e.op == "reduce" for a in e.data[1]}
    for e in s.walk(*kernel.roots()):
        if e.op != "load" or axis not in e.free:
            continue
        if e.free & summed:  # a convolution's groups: pieces are products by themselves
            return False
        place = _moving(s.flatten(e.args, e.data.shape), axis)
        if place is None:
            return False
        for i in starts:
            here = [_at(place, axis, min(i + k, extent - 1)) for k in range(2 * inner)]
            if any(p.op != "const" for p in here):
                return False
            if max(p.data for p in here) - min(p.data for p in here) > NEAR * inner:
                return False
    return True


def _is_repeated(kernel: Kernel, axis: Axis, inner: int) -> bool:
    """Whether whole pieces of `inner` neighbours store the same, and there are enough pieces for a
    vector of them, which is read once and stored with each of its elements repeated."""
    pieces = axis.extent // inner
    if inner > COPIES or size_hint(pieces) < SHORT:
        return False
    high, low = Axis(axis.name, pieces), Axis(axis.name, inner)
    place = s.axis(high) * inner + s.axis(low)
    visit = lambda e: place if e.op == "axis" and e.data is axis else None
    memo: dict = {}
    values = [x for st in kernel.stores for x in (st.value, st.where) if x is not None]
    return all(low not in s.transform(x, visit, memo).free for x in values)


def _moving(index: Expr, axis: Axis) -> Expr | None:
    """The part of an index that moves with an axis, if it does so with that axis alone."""
    terms, _ = s.linear(index)
    own = {t: c for t, c in terms.items() if axis in t.free}
    return s.from_linear(own, 0) if all(t.free == {axis} for t in own) else None


def _at(e: Expr, axis: Axis, value: int) -> Expr:
    """An index at a place of the axis, for the sizes to expect."""

    def visit(x: Expr) -> Expr | None:
        if x.op == "size":
            return s.const(size_hint(x.data))
        return s.const(value) if x.op == "axis" and x.data is axis else None

    return s.transform(e, visit)


def _replace_axis(kernel: Kernel, old: Axis, new: tuple[Axis, ...], value: Expr) -> Kernel:
    """Replace one axis, of the domain or of a reduction, by others."""
    memo: dict = {}

    def visit(e: Expr) -> Expr | None:
        if e.op == "axis":
            return value if e.data is old else None
        if e.op == "reduce" and old in e.data[1]:
            axes = [n for a in e.data[1] for n in (new if a is old else (a,))]
            return s.reduce(e.data[0], axes, s.transform(e.args[0], visit, memo), e.dtype)
        return None

    def split(axes) -> list[Axis]:
        return [n for a in axes for n in (new if a is old else (a,)) if n.extent != 1]

    return map_kernel(kernel, split(kernel.axes), len(split(kernel.axes[: kernel.apart])), visit)


# -- flattening ----------------------------------------------------------------------------


def flatten(kernel: Kernel) -> Kernel:
    """Every buffer as one row, indices as offsets; axes of extent 1 dropped."""
    flat: dict[Buffer, Buffer] = {}
    memo: dict = {}

    def row(b: Buffer) -> Buffer:
        if b not in flat:
            flat[b] = b if b.type.rank == 1 else Buffer(b.name, TensorType(b.dtype, (b.type.size,)))
        return flat[b]

    def visit(e: Expr) -> Expr | None:
        if e.op != "load" or e.data.type.rank == 1:
            return None
        index = [s.transform(i, visit, memo) for i in e.args]
        return s.make("load", (s.flatten(index, e.data.shape),), row(e.data), e.dtype)

    stores = tuple(
        Store(
            row(st.buffer),
            (s.flatten([s.transform(i, visit, memo) for i in st.index], st.buffer.shape),),
            s.transform(st.value, visit, memo),
            None if st.where is None else s.transform(st.where, visit, memo),
            st.mode,
        )
        for st in kernel.stores
    )
    axes = tuple(a for a in kernel.axes if a.extent != 1)
    apart = sum(a.extent != 1 for a in kernel.axes[: kernel.apart])
    result = Kernel(kernel.name, axes, stores, kernel.serial, kernel.origins, apart=apart)
    back = {new: old for old, new in flat.items()}
    result.sources = tuple(back.get(b, b) for b in result.params)
    return result


# -- merging -------------------------------------------------------------------------------


def merge_axes(kernel: Kernel) -> Kernel:
    """Flatten, then merge neighbouring axes that every load and store walks as one.

    The result's `sources` are the original kernel's buffers in the order of its params.
    """
    kernel = flatten(kernel)
    sources = dict(zip(kernel.params, kernel.sources))
    groups = lambda k: (
        [k.axes[: k.apart], k.axes[k.apart :]]
        + [e.data[1] for e in s.walk(*k.roots()) if e.op == "reduce"]
    )
    merged = True
    while merged:
        merged = False
        steps, pinned = _strides(kernel)
        for group in groups(kernel):
            for a, b in pairwise(group):
                if a in pinned or b in pinned:
                    continue
                if all(t.get(a, 0) == t.get(b, 0) * b.extent for t in steps):
                    kernel = _merge(kernel, a, b)
                    merged = True
                    break
            if merged:
                break
    kernel.sources = tuple(sources[b] for b in kernel.params)
    return kernel


def _strides(kernel: Kernel) -> tuple[list[dict[Axis, int]], set[Axis]]:
    """Per load and store {axis: stride}, and the axes that are used in any other way."""
    steps: list[dict[Axis, int]] = []
    pinned: set[Axis] = set()
    seen: set[Expr] = set()

    def offset(e: Expr):
        terms, _ = s.linear(e)
        steps.append({t.data: k for t, k in terms.items() if t.op == "axis"})
        for t in terms:
            if t.op != "axis":
                scan(t)

    def scan(e: Expr):
        if e in seen:
            return
        seen.add(e)
        if e.op == "axis":
            pinned.add(e.data)
        elif e.op == "load":
            offset(e.args[0])
        else:
            for a in e.args:
                scan(a)

    for st in kernel.stores:
        offset(st.index[0])
        scan(st.value)
        if st.where is not None:
            scan(st.where)
    return steps, pinned


def _merge(kernel: Kernel, a: Axis, b: Axis) -> Kernel:
    m = Axis(a.name, a.extent * b.extent)
    memo: dict = {}
    ea, eb, em = (s.make("axis", (), x, s.I64) for x in (a, b, m))

    def visit(e: Expr) -> Expr | None:
        if e.op == "load":
            return s.make("load", (index(e.args[0]),), e.data, e.dtype)
        if e.op == "reduce" and b in e.data[1]:
            axes = [m if x is a else x for x in e.data[1] if x is not b]
            return s.reduce(e.data[0], axes, s.transform(e.args[0], visit, memo), e.dtype)
        return None

    def index(e: Expr) -> Expr:
        terms, c = s.linear(e)
        result = {}
        for t, k in terms.items():
            if t is eb:
                result[em] = k
            elif t is not ea:
                t = s.transform(t, visit, memo)
                result[t] = result.get(t, 0) + k
        return s.from_linear(result, c)

    stores = tuple(
        Store(
            st.buffer,
            (index(st.index[0]),),
            s.transform(st.value, visit, memo),
            None if st.where is None else s.transform(st.where, visit, memo),
            st.mode,
        )
        for st in kernel.stores
    )
    axes = tuple(m if x is a else x for x in kernel.axes if x is not b)
    apart = kernel.apart - (b in kernel.axes[: kernel.apart])
    return Kernel(kernel.name, axes, stores, kernel.serial, kernel.origins, apart=apart)
