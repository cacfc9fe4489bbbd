"""Sizes that follow from data: they become symbols, which the model binds while it runs.

    Reshape(x, %s)     %b = bind_dims(%s) {symbols=[_reshape0, _reshape1]}
                 =>    reshape(x) {shape=[_reshape0,_reshape1]}

Elements of an operand that the reader can see (`Concat(k, 4)`) stay what they are. A model with
such symbols is cut into stages (`compiler/passes/stages.py`).
"""

from collections.abc import Sequence

import numpy as np

from ....compiler.errors import TypeMismatch
from ....compiler.ir import dims
from ....compiler.ir.bounds import surely_differ
from ....compiler.ir.builder import Tensor
from ....compiler.ir.dims import Sym
from ....compiler.ir.types import I64, broadcast
from .dependence import SizeDependence
from .folded import FoldedValue, as_symbols

Element = int | Sym | Tensor
MOST = 256  # elements of an operand that decides a shape: twice as many as there are axes
_THROUGH = ("identity", "reshape", "bind_dims")


def fresh(c, hint: str, count: int) -> tuple[Sym, ...]:
    """Symbols that nothing else of the model has, also not in its branches and loops."""
    taken = c.reader.taken | set(c.reader.graph.symbols())
    names = (f"_{hint}{n}" for n in range(len(taken) + count))
    found = [n for n in names if n not in taken][:count]
    c.reader.taken.update(found)
    return tuple(Sym.named(n) for n in found)


def bind(c, sizes: Sequence[Tensor], hint: str) -> list:
    """Symbols for sizes (tensors of one element each) that the model computes; what is known of
    them stays what it is.

    In a branch or a loop, the host then runs its graphs (`hosted.py`).
    """
    return bound(c, [elements(c, t, 1)[0] for t in sizes], hint)


def _symbols(c, sizes: Sequence[Tensor], hint: str) -> list[Sym]:
    key = (hint, *map(c.b.value, sizes))
    if key not in c.b.found:
        symbols = fresh(c, hint, len(sizes))
        vector = join(c, sizes)
        c.b.emit("bind_dims", vector, symbols=symbols)
        c.b.found[key] = symbols
    return list(c.b.found[key])


def join(c, elements: Sequence[Element]) -> Tensor:
    """Elements as an i64 vector."""
    parts = [scalar(c, e).reshape((1,)) for e in elements]
    if not parts:
        return c.b.constant(np.zeros(0, np.int64))
    return parts[0] if len(parts) == 1 else c.b.emit("concat", *parts, axis=0)


def scalar(c, e: Element) -> Tensor:
    """An element as an i64 scalar."""
    if isinstance(e, Tensor):
        return e.cast(I64).reshape(())
    return c.b.dims([e]).reshape(())


def elements(c, x: Tensor, count: int | None = None) -> list[Element]:
    """The elements of a tensor in order, each as well known as can be.

    `count`: how many there must be, where the type need not say it (the first that is found).
    """
    if isinstance(x, FoldedValue):
        return as_symbols(x.array)
    size = dims.prod(x.shape)
    if isinstance(size, Sym) and count is not None:
        x, size = x.b.emit("gather", x.reshape((size,)), np.arange(count), axis=0), count
    if isinstance(size, Sym):
        raise SizeDependence(
            "the number of elements of an operand that decides a shape is not known",
            where=c.where,
            received=x.type,
        )
    node = x.value.node
    if node is not None:
        inputs = [None if v is None else Tensor(x.b, v) for v in node.inputs]
        if node.op.name == "constant":
            return as_symbols(node.attrs["value"])
        if node.op.name == "dims":
            return list(node.attrs["values"])
        if node.op.name in _THROUGH or (node.op.name == "cast" and _is_wide(node)):
            return elements(c, inputs[0])
        if node.op.name == "concat" and x.rank == 1:
            return [e for v in inputs for e in elements(c, v)]
    if size > MOST:
        raise TypeMismatch(
            "so many numbers describe no shape",
            where=c.where,
            expected=f"at most {MOST} elements that only a run knows",
            received=x.type,
        )
    flat = x.reshape((size,))
    return [_element(flat, i) for i in range(size)]


def _is_wide(cast) -> bool:
    """Whether a cast keeps the value of a size."""
    types = [cast.inputs[0].dtype, cast.attrs["dtype"]]
    return all(t.is_int and t.bits >= 32 for t in types)


def _element(x: Tensor, i: int) -> Tensor:
    if dims.prod(x.shape) == 1:
        return x.reshape(())
    part = x.b.emit("slice", x, axes=(0,), starts=(i,), steps=(1,), sizes=(1,))
    return part.reshape(())


def bound(c, found: Sequence[Element], hint: str) -> list:
    """The elements, with symbols for those that only data knows."""
    unknown = [e for e in found if isinstance(e, Tensor)]
    symbols = iter(_symbols(c, unknown, hint) if unknown else ())
    return [next(symbols) if isinstance(e, Tensor) else e for e in found]


def reshaped(c, x: Tensor, found: Sequence[Element], keep_zeros: bool) -> list:
    """The dims of a reshape of `x` to elements of which data knows some.

    One unknown among numbers above 0 is what they leave; more are resolved as the model runs.
    """
    known = [e for e in found if not isinstance(e, Tensor)]
    positive = all(not isinstance(e, Sym) and e > 0 for e in known)
    if len(known) == len(found) - 1 and positive:
        return [-1 if isinstance(e, Tensor) else e for e in found]
    sizes = []
    for i, e in enumerate(found):
        if isinstance(e, Tensor) and not keep_zeros and i < x.rank:
            e = scalar(c, e)
            e = c.b.emit("where", c.b.emit("equal", e, c.scalar(0, I64)), scalar(c, x.shape[i]), e)
        elif isinstance(e, int) and e == 0 and not keep_zeros:
            e = x.shape[i]
        sizes.append(e)
    vector = join(c, sizes)
    rest = c.b.emit("equal", vector, c.scalar(-1, I64))
    one, total = c.scalar(1, I64), scalar(c, dims.prod(x.shape))
    product = c.b.emit(
        "reduce_prod", c.b.emit("where", rest, one, vector), axes=(0,), keepdims=False
    )
    left = c.b.emit("div", total, c.b.emit("maximum", product, one))
    resolved = c.b.emit("where", rest, left, vector)
    open_ = [isinstance(e, Tensor) or e == -1 for e in sizes]
    found = [_element(resolved, i) if o else sizes[i] for i, o in enumerate(open_)]
    return bound(c, found, "reshape")


def expanded(c, x: Tensor, found: Sequence[Element]) -> tuple:
    """The shape that `x` has when it is broadcast to elements of which data knows some; an unknown
    1 keeps the dim of `x`."""
    rank = max(x.rank, len(found))
    own, found = [(1,) * (rank - len(d)) + tuple(d) for d in (x.shape, found)]
    sizes = []
    for d, e in zip(own, found):
        if not isinstance(e, Tensor):
            e = broadcast((d,), (e,))[0]
        elif isinstance(d, Sym):
            one = c.b.emit("equal", scalar(c, e), c.scalar(1, I64))
            e = c.b.emit("where", one, scalar(c, d), scalar(c, e))
        elif d != 1:
            e = d
        sizes.append(e)
    return tuple(bound(c, sizes, "expand"))


def slice_axis(c, x: Tensor, axis: int, start: Element, end: Element, step: Element) -> Tensor:
    """x[start:end:step] on an axis, as a gather at start + step · (0 … size - 1).

    Only the size becomes a symbol: where it is the same, other places need no other code.
    """
    b, size = c.b, scalar(c, x.shape[axis])
    start, end, step = (scalar(c, e) for e in (start, end, step))
    zero, one = c.scalar(0, I64), c.scalar(1, I64)

    def clamp(position, front):
        position = b.emit(
            "where", b.emit("less", position, zero), b.emit("add", position, size), position
        )
        low = b.emit("where", backwards, c.scalar(front, I64), zero)
        high = b.emit("where", backwards, b.emit("sub", size, one), size)
        return b.emit("minimum", b.emit("maximum", position, low), high)

    backwards = b.emit("less", step, zero)
    # A position of -size - 1 or less means the very front; adding the size once must not wrap it.
    start, end = (b.emit("maximum", e, c.scalar(-(1 << 62), I64)) for e in (start, end))
    start, end = clamp(start, 0), clamp(end, -1)
    distance = b.emit("sub", end, start)
    distance = b.emit("where", backwards, b.emit("neg", distance), distance)
    stride = b.emit("abs", step)
    count = b.emit("add", distance, b.emit("sub", stride, one))
    count = b.emit("div", b.emit("maximum", count, zero), stride)
    (symbol,) = bind(c, [count], "slice")
    places = b.emit("iota", shape=(symbol,), axis=0, dtype=I64)
    places = b.emit("add", b.emit("mul", places, step), start)
    return b.emit("gather", x, places, axis=axis)


def sized(c, x: Tensor, axis: int, size, what: str) -> Tensor:
    """x, whose `axis` must have `size` elements. Raises TypeMismatch where it surely has not; where
    sizes decide, a reshape asks for it."""
    if x.shape[axis] == size:
        return x
    if surely_differ(x.shape[axis], size):
        raise TypeMismatch(
            f"{what} have another size",
            where=c.where,
            expected=f"{size} on axis {axis}",
            received=x.type,
        )
    return x.reshape((*x.shape[:axis], size, *x.shape[axis + 1 :]))


def first_places(c, keep: Tensor, hint: str) -> Tensor:
    """The places of a bool vector that are true, in order: i64[_n]."""
    places, count = all_places(c, keep)
    (symbol,) = bind(c, [count], hint)
    return c.b.emit("slice", places, axes=(0,), starts=(0,), steps=(1,), sizes=(symbol,))


def all_places(c, keep: Tensor) -> tuple[Tensor, Tensor]:
    """The same with anything behind them, as long as `keep`, and how many they are."""
    b, (n,) = c.b, keep.shape
    running = b.emit("running_count", keep)
    nowhere = scalar(c, n)
    at = b.emit("where", keep, b.emit("sub", running, c.scalar(1, I64)), nowhere)
    none = b.emit("expand", c.scalar(0, I64), shape=(n + 1,))
    order = b.emit("iota", shape=(n,), axis=0, dtype=I64)
    places = b.emit("scatter_elements", none, at, order, axis=0)
    count = b.emit("reduce_sum", keep.cast(I64), axes=(0,), keepdims=True)
    return places, count
