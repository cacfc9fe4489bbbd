"""Products and what is made of their columns as one kernel: the gates of a recurrent cell.

    x[b, n] = sum_k h[b, k] * W[k, n]                  for n < 4 * H
    c'[b, j] = f(x[b, j], x[b, j + H], …)       =>     c'[b, j] = f(sum_k h[b, k] * W[k, j], …)
    h'[b, j] = g(x[b, j + 3 * H], c'[b, j])            h'[b, j] = g(…)
    y[b, j] = h'[b, j]                                 y[b, j] = …

Fusion computes a product once, so whatever two kernels read has memory. Where a register tile holds
the columns j of all sums that a product has there (`kernels/gates.py`), it is computed once, too,
and needs none. Kernels that follow a product and walk along its rows are moved into it, as long as
none of the steps between is in their way.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from ..classes import dataclass
from ..expr import expr as s
from ..expr.expr import Axis, Buffer, Expr
from ..ir.bounds import size_hint
from ..ir.dims import Sym
from ..kernels.contraction import Contraction, find_contraction
from ..kernels.gates import MOST, contiguous, find_gates, sums_of
from ..kernels.kernel import Call, For, If, Kernel, Step, Store, reads_of, walk_steps, writes_of
from .memory import Place, Storage
from .names import joined

LEAST = 8  # columns, and products of a sum, from which tiles pay
LARGE = 1 << 19  # bytes of weights which one row reads at the memory's speed: nothing may pause it
DEEPEST = 8192  # products of a sum, for which there is scratch memory


def join_products(steps: list) -> list:
    """The steps with kernels that follow products moved into these."""
    return _Joiner(steps).body(steps, False)


class _Joiner:
    """`users` are the steps that touch a storage, anywhere in the program."""

    def __init__(self, steps: list):
        self.users: dict[Storage, list[Step]] = {}
        for step in walk_steps(steps):
            for storage in {p.storage for p in (*reads_of(step), *writes_of(step))}:
                self.users.setdefault(storage, []).append(step)

    def body(self, steps: list, in_loop: bool) -> list:
        made: list = []
        taken: set[int] = set()
        for i, step in enumerate(steps):
            if id(step) in taken:
                continue
            if isinstance(step, For):
                made.append(replace(step, body=self.body(step.body, True)))
            elif isinstance(step, If):
                then, orelse = self.body(step.then, in_loop), self.body(step.orelse, in_loop)
                made.append(replace(step, then=then, orelse=orelse))
            else:
                call, others = self._joined(steps, i, in_loop)
                made.append(call)
                taken.update(map(id, others))
        return made

    def _joined(self, steps: list, i: int, in_loop: bool) -> tuple[Step, list[Call]]:
        """Step i, with those of the following ones that became part of it."""
        step, following = steps[i], steps[i + 1 :]
        product = _product_of(step)
        if product is None:
            return step, []
        group = _Group(product)
        passed = _Passed()
        for other in following:
            if not (isinstance(other, Call) and passed.may_follow(other) and group.take(other)):
                passed.add(other)
        # A product by itself is stored as it was, whatever reads it: only in loops do copies of
        # small arrays cost as much as what makes them.
        if not group.taken or (group.sums < 2 and not in_loop):
            return step, []
        call = group.call(self._is_read(product.place, steps, i, group.taken))
        return (step, []) if call is None else (call, group.taken)

    def _is_read(self, place: Place, steps: list, i: int, taken: list[Call]) -> bool:
        """Whether anybody but `taken` may read what step i writes to a place, in this round of a
        loop or in the next one."""
        if place.storage.kind != "arena":
            return True
        users = {id(x) for x in self.users[place.storage]}
        around = [x for x in (*steps[i + 1 :], *steps[: i + 1]) if id(x) in users]
        if len(around) < len(users):
            return True
        after = next(x for x in around if not any(x is t for t in taken))
        return not _writes_all(after, place)


@dataclass(frozen=True, eq=False)
class _Product:
    """A call that is a product with weights; its kernel's one store is to `place`, whose rows lie
    one after the other."""

    call: Call
    contraction: Contraction
    place: Place
    buffers: Mapping[Buffer, Place]

    @property
    def store(self) -> Store:
        return self.call.kernel.stores[0]


def _product_of(step: Step) -> _Product | None:
    if not isinstance(step, Call) or step.group is not None:
        return None
    kernel, places = step.kernel, dict(zip(step.kernel.params, step.refs))
    c = find_contraction(kernel)
    if c is None or not c.reduce.dtype.is_float or c.batch or len(c.n) != 1:
        return None
    depth, columns = prod(a.extent for a in c.k), c.n[0].extent
    if isinstance(depth, Sym) or isinstance(columns, Sym) or not LEAST <= depth <= DEEPEST:
        return None
    rows = prod(size_hint(a.extent) for a in c.m)
    if rows == 1 and depth * columns * c.reduce.dtype.bytes > LARGE:
        return None
    weights = [places[x.data] for x in s.walk(c.b) if x.op == "load"]
    if not weights or not all(p.storage.kind == "weight" and not p.steps for p in weights):
        return None
    place, index = places[kernel.stores[0].buffer], kernel.stores[0].index[0]
    extents = [a.extent for a in kernel.axes]
    if index is not s.flatten([s.axis(a) for a in kernel.axes], extents):
        return None
    return _Product(step, c, place, places)


def _writes_all(step: Step, place: Place) -> bool:
    """Whether a step writes each element at a place, and reads none of its memory."""
    if not isinstance(step, Call) or place.storage in _touched(reads_of(step)):
        return False
    kernel, extents = step.kernel, [a.extent for a in step.kernel.axes]
    whole = s.flatten([s.axis(a) for a in kernel.axes], extents)
    return any(
        p == place and st.mode == "set" and st.where is None and st.index == (whole,)
        for b, p in zip(kernel.params, step.refs)
        for st in kernel.stores
        if st.buffer is b and b.type.size == prod(extents)
    )


class _Passed:
    """What the steps between a product and the calls that move to it touch: those that stay."""

    def __init__(self) -> None:
        self.read: set[Storage] = set()
        self.written: set[Storage] = set()

    def add(self, step: Step) -> None:
        for own in walk_steps([step]):
            self.read |= _touched(reads_of(own))
            self.written |= _touched(writes_of(own))

    def may_follow(self, call: Call) -> bool:
        """Whether a call could as well run before these steps."""
        reads, writes = _touched(reads_of(call)), _touched(writes_of(call))
        return not (writes & self.read or writes & self.written or reads & self.written)


def _touched(places: Iterable[Place]) -> set[Storage]:
    return {p.storage for p in places}


class _Group:
    """A product and the calls that it takes. `stores` and `value`, what the product stores, have
    the group's own buffers, at `places`; `axes` are those of all, which the first call decides."""

    def __init__(self, product: _Product):
        self.product = product
        self.taken: list[Call] = []
        self.axes: tuple[Axis, ...] = ()
        self.stores: list[Store] = []
        self.buffers: dict[tuple, Buffer] = {}
        self.places: dict[Buffer, Place] = {}
        own = lambda e: (
            s.make("load", e.args, self._buffer(e.data, product.buffers[e.data]), e.dtype)
            if e.op == "load"
            else None
        )
        self.value = s.transform(product.store.value, own)
        self.sums = 1

    def take(self, call: Call) -> bool:
        """Take a call, if it is one that walks along the product's rows."""
        kernel, places = call.kernel, dict(zip(call.kernel.params, call.refs))
        made = {self.product.place.storage, *(self.places[st.buffer].storage for st in self.stores)}
        reads, writes = _touched(reads_of(call)), _touched(writes_of(call))
        plain = all(st.mode == "set" and st.where is None for st in kernel.stores)
        if kernel.serial or kernel.apart or not plain or call.group is not None:
            return False
        if not reads & made or writes & (made | reads | _touched(self.places.values())):
            return False
        if sums_of([st.value for st in kernel.stores]):
            return False
        for axes, binding in self._bindings(kernel):
            bound = [self._bound(st, places, binding) for st in kernel.stores]
            stores = [*self.stores, *(st for st in bound if st is not None)]
            sums = len(sums_of([st.value for st in stores]))
            ends = {contiguous(st) for st in stores}
            if None not in bound and sums <= MOST and ends == {axes[-1]}:
                self.axes, self.stores, self.sums = axes, stores, sums
                self.taken.append(call)
                return True
        return False

    def call(self, keeps_product: bool) -> Call | None:
        """The call of all in one; None where that is no kernel that tiles have sums for."""
        kept = self._columns() if keeps_product else []
        if kept is None:
            return None
        stores = [*self.stores, *kept]
        name = joined(x.kernel.name for x in (self.product.call, *self.taken))
        origins = [o for x in (self.product.call, *self.taken) for o in x.kernel.origins]
        kernel = Kernel(name, self.axes, tuple(stores), origins=tuple(dict.fromkeys(origins)))
        if find_gates(kernel) is None:
            return None
        kernel.sources = kernel.params
        return Call(kernel, tuple(self.places[b] for b in kernel.params))

    # -- expressions ----------------------------------------------------------------------

    def _bindings(self, kernel: Kernel) -> Iterator[tuple[tuple[Axis, ...], dict[Axis, Expr]]]:
        """Ways in which a kernel's axes may be the group's: one by one, or merged into one."""
        own = kernel.axes
        if not self.taken:
            yield own, {}
        axes = self.axes or self.product.call.kernel.axes
        extents = [a.extent for a in axes]
        if self.taken and [a.extent for a in own] == extents:
            yield axes, {a: s.axis(x) for a, x in zip(own, axes)}
        if len(own) == 1 and own[0].extent == prod(extents):
            yield axes, {own[0]: s.flatten([s.axis(a) for a in axes], extents)}

    def _bound(self, st: Store, places: Mapping, binding: dict[Axis, Expr]) -> Store | None:
        """A store of a call as one of the group's; None where it reads what the group makes at
        other places than its own."""
        memo: dict[Expr, Expr] = {}
        values = {(self.places[x.buffer], x.index[0]): x.value for x in self.stores}
        made = {place.storage for place, _ in values} | {self.product.place.storage}

        def visit(e: Expr) -> Expr | None:
            if e.op == "axis":
                return binding.get(e.data)
            if e.op != "load":
                return None
            place, index = places[e.data], s.transform(e.args[0], visit, memo)
            if place == self.product.place:
                return self._column(index)
            if place.storage in made:
                if (place, index) not in values:
                    raise _Elsewhere
                return values[place, index]
            return s.make("load", (index,), self._buffer(e.data, place), e.dtype)

        try:
            index = s.transform(st.index[0], visit, memo)
            bound = Store(self._buffer(st.buffer, places[st.buffer]), (index,),
                          s.transform(st.value, visit, memo))  # fmt: skip
        except _Elsewhere:
            return None
        return bound

    def _column(self, index: Expr) -> Expr:
        """What the product stores at an offset, which is to be a row's, and a column's from some
        constant on. Raises _Elsewhere where it is not."""
        *rows, last = self.product.call.kernel.axes
        terms, first = s.linear(index)
        *strides, _ = s.strides_of([a.extent for a in (*rows, last)])
        found = {c: t for t, c in terms.items() if t.op == "axis"}
        if len(found) != len(terms) or set(found) != {1, *strides}:
            raise _Elsewhere
        if any(found[c].data.extent != a.extent for c, a in zip(strides, rows)):
            raise _Elsewhere
        count = found[1].data.extent
        if isinstance(count, Sym) or isinstance(first, Sym) or count < LEAST:
            raise _Elsewhere
        if not 0 <= first <= last.extent - count:
            raise _Elsewhere
        return self._at([found[c] for c in strides], found[1] + first)

    def _at(self, rows: Sequence[Expr], column: Expr) -> Expr:
        """The product's value at a place."""
        axes = self.product.call.kernel.axes
        return s.substitute(self.value, dict(zip(axes, (*rows, column))))

    def _columns(self) -> list[Store] | None:
        """Stores of all that the product itself stored; None where its columns are no whole number
        of the group's."""
        *rows, last = map(s.axis, self.axes)
        count = self.axes[-1].extent
        total = self.product.call.kernel.axes[-1].extent
        if len(self.axes) != len(self.product.call.kernel.axes) or total % count:
            return None
        buffer, made = self._buffer(self.product.store.buffer, self.product.place), []
        extents = [a.extent for a in self.product.call.kernel.axes]
        for first in range(0, total, count):
            column = last + first
            place = s.flatten([*rows, column], extents)
            made.append(Store(buffer, (place,), self._at(rows, column)))
        return made

    def _buffer(self, buffer: Buffer, place: Place) -> Buffer:
        """The group's own buffer for a place."""
        key = place, buffer.type
        if key not in self.buffers:
            self.buffers[key] = Buffer(buffer.name, buffer.type)
            self.places[self.buffers[key]] = place
        return self.buffers[key]


class _Elsewhere(Exception):
    """A kernel reads what a group makes at a place that is not the one it stores to."""
