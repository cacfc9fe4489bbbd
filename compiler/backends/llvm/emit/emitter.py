"""Expressions as LLVM IR: `Emitter.emit(e)` gives the value of an expression where the builder is.

At most one axis is vectorised at a time (the *vector* axis); an expression that depends on it is a
vector of `lanes` elements, any other stays scalar and is splat where the two meet. A load whose
offset grows by one per lane is a vector load, by a short stride a few of them and shuffles; other
strides and computed places are gathers.
A mask, where set, guards lanes past the end.

Values are remembered per loop level, so what was computed outside a loop is reused inside.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod

import llvmlite.ir as ir

from ....expr import expr as s
from ....expr.expr import Axis, Buffer, Expr
from ....ir.dims import Sym
from ....ir.types import BOOL, I64, DType
from ....kernels.machine import Machine
from ....kernels.tiling import is_short_stride
from ..base.types import (
    I32,
    PTR,
    constant,
    i64,
    memory_type,
    no_mask,
    register_type,
    suffix,
    vector,
)
from ..base.types import I64 as WORD
from .dynamic_sizes import Sizes
from .opaque import opaque
from .rounding import emit_rounded, rounded
from .scalar import PRIMITIVE, emit_bitcast, emit_cast, intrinsic, lanes_of, splat
from .shuffles import load_strided, store_strided
from .windows import Window, emit_places, row_of

UNROLL = 16  # loops of at most so many rounds are written out


class Emitter:
    """Code of one function. `pointers` are the function's pointer arguments by buffer."""

    def __init__(
        self,
        function: ir.Function,
        pointers: dict[Buffer, ir.Value],
        target: Machine,
        symbols: Mapping[str, ir.Value] | None = None,
    ):
        self.function, self.pointers, self.target = function, pointers, target
        self.soft_half = not target.converts_half
        self.entry = function.append_basic_block("entry")
        self.b = ir.IRBuilder(self.entry)
        self.size = Sizes(self.b, symbols or {}).value
        self.where: dict[Axis, ir.Value] = {}
        self.vector_axis: Axis | None = None
        self.lanes: int | None = None
        self.mask: ir.Value | None = None
        self.scopes: list[dict[Expr, ir.Value]] = [{}]
        self.kept: dict[Expr, tuple[Buffer, Expr]] = {}  # rows that are wanted (cached_rows.py)
        self.windows: dict[Buffer, Window | None] = {}  # rows of places (known_rows.py)
        self.sums: dict[int, tuple[ir.Value, ir.Value, int]] = {}  # by id: itself, its two terms
        self.made: tuple = (None, {})  # a block, and what was made in it to be used again

    # -- control flow ---------------------------------------------------------------------

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is computed inside is forgotten afterwards."""
        self.scopes.append({})
        yield
        self.scopes.pop()

    @contextmanager
    def loop(self, start: ir.Value, stop: ir.Value, step: int = 1, name="i") -> Iterator[ir.Value]:
        """for (i = start; i < stop; i += step); the body runs not at all if start >= stop."""
        b, f = self.b, self.function
        head, body = f.append_basic_block(f"{name}.head"), f.append_basic_block(f"{name}.body")
        done = f.append_basic_block(f"{name}.done")
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(WORD, name)
        i.add_incoming(start, before)
        b.cbranch(b.icmp_signed("<", i, stop), body, done)
        b.position_at_end(body)
        with self.scope():
            yield i
        i.add_incoming(b.add(i, i64(step)), b.block)
        b.branch(head)
        b.position_at_end(done)

    @contextmanager
    def at(self, axis: Axis, value: ir.Value) -> Iterator[None]:
        """The axis has a value."""
        old = self.where.get(axis)
        self.where[axis] = value
        yield
        if old is None:
            del self.where[axis]
        else:
            self.where[axis] = old

    @contextmanager
    def vectorised(self, axis: Axis | None, lanes: int | None, mask=None) -> Iterator[None]:
        """`axis` runs along the lanes, from its value in `where` on."""
        old = self.vector_axis, self.lanes, self.mask
        self.vector_axis, self.lanes, self.mask = axis, lanes, mask
        yield
        self.vector_axis, self.lanes, self.mask = old

    def variable(self, type: ir.Type, name="") -> ir.Value:
        """A stack slot, allocated once per call."""
        with self.b.goto_entry_block():
            return self.b.alloca(type, name=name)

    # -- values ---------------------------------------------------------------------------

    def is_vector(self, e: Expr) -> bool:
        return self.vector_axis is not None and self.vector_axis in e.free

    def emit(self, e: Expr) -> ir.Value:
        """The value of `e`: a vector if it depends on the vector axis."""
        value = self._known(e)
        if value is not None:
            return value
        for x in self._below(e):
            self.scopes[-1][x] = self._emit(x)
        return self.scopes[-1][e]

    def _known(self, e: Expr) -> ir.Value | None:
        for scope in reversed(self.scopes):
            if e in scope:
                return scope[e]
        return None

    def _below(self, e: Expr) -> Iterator[Expr]:
        """`e` after the arguments that have no value yet: sums of a thousand terms are deep, and
        must not be so for Python. Loads, reductions and index arithmetic see to their own."""
        stack, seen = [(e, False)], set()
        while stack:
            x, done = stack.pop()
            if done:
                yield x
            elif x not in seen and self._known(x) is None:
                seen.add(x)
                stack.append((x, True))
                if x.op not in ("load", "reduce") and x.dtype != I64:
                    short = rounded(x)
                    args = x.args if short is None else (short.x,)
                    stack += [(a, False) for a in reversed(args)]

    def forget(self, buffer: Buffer) -> None:
        """What was computed from a buffer is not so any more: something was stored there."""
        for scope in self.scopes:
            for e in [e for e in scope if e.free or e.args]:
                if any(x.op == "load" and x.data is buffer for x in s.walk(e)):
                    del scope[e]

    def remember(self, e: Expr, value: ir.Value) -> None:
        self.scopes[-1][e] = value

    def vector(self, e: Expr) -> ir.Value:
        """The value of `e` in every lane (scalar where nothing is vectorised)."""
        value = self.emit(e)
        if self.vector_axis is None or isinstance(value.type, ir.VectorType):
            return value
        if isinstance(value, ir.Constant):
            return splat(self.b, value, self.lanes)
        known, key = self._made_here(), (id(value), self.lanes)
        if key not in known:
            known[key] = splat(self.b, value, self.lanes), value
        return known[key][0]

    def _emit(self, e: Expr) -> ir.Value:
        match e.op:
            case "size":
                return self.size(e.data)
            case "const":
                return constant(e.data, e.dtype, soft_half=self.soft_half)
            case "axis":
                return self._axis(e.data)
            case "load":
                return self._load(e)
            case "reduce":
                from .reduction import emit_reduction

                return emit_reduction(self, e)
            case "cast" if (short := rounded(e)) is not None:
                return emit_rounded(self.b, e, short, self.emit(short.x), self.target)
            case "cast":
                return emit_cast(self.b, self.emit(e.args[0]), e.args[0].dtype, e.dtype)
            case "bitcast":
                return emit_bitcast(self.b, self.emit(e.args[0]), e.args[0].dtype, e.dtype)
        if e.dtype == I64 and e.op in ("add", "mul") and not self.is_vector(e):
            terms, base = s.linear(e)
            if e not in terms:
                return self.offset(terms, base)
        args = [self.vector(a) if self.is_vector(e) else self.emit(a) for a in e.args]
        dtype = e.args[1].dtype if e.op == "select" else e.args[0].dtype
        return PRIMITIVE[e.op](self.b, dtype, *args)

    def _axis(self, axis: Axis) -> ir.Value:
        value = self.where[axis]
        if axis is not self.vector_axis:
            return value
        steps = ir.Constant(vector(WORD, self.lanes), list(range(self.lanes)))
        return self.b.add(splat(self.b, value, self.lanes), steps)

    def offset(self, terms: dict[Expr, int], base) -> ir.Value:
        """A linear index as a scalar; the vector axis counts with its first value."""
        if not terms:
            return self.size(base)
        values = [self.where[t.data] if t.op == "axis" else self.emit(t) for t in terms]
        total = self._total(list(zip(values, terms.values())))
        return self.b.add(total, self.size(base)) if base else total

    def _total(self, parts: list[tuple[ir.Value, int]]) -> ir.Value:
        """The sum of values times constants."""
        total = None
        for value, c in parts:
            if c != 1:
                value = self.b.mul(value, self.size(c))
            total = value if total is None else self.b.add(total, value)
        return total

    def plus(self, value: ir.Value, number: int) -> ir.Value:
        """The value of an axis that is a constant further on, which addresses make use of."""
        if number == 0:
            return value
        total = self.b.add(value, i64(number))
        self.sums[id(total)] = total, value, number
        return total

    def address(self, buffer: Buffer, index: Expr) -> ir.Value:
        """Where `index` lies, the vector axis with its first value. Addresses of one block that are
        constants apart are made from one pointer: LLVM would find that out, but takes its time."""
        terms, near = s.linear(index)
        parts = []
        for term, c in terms.items():
            value = self.where[term.data] if term.op == "axis" else self.emit(term)
            while id(value) in self.sums:
                _, value, number = self.sums[id(value)]
                near = near + c * number
            if isinstance(value, ir.Constant):
                near = near + c * value.constant
            else:
                parts.append((value, c))
        type, known = memory_type(buffer.dtype), self._made_here()
        start = self.pointers[buffer]
        key = (id(start), buffer.dtype, *((id(value), c) for value, c in parts))
        if key not in known:
            pointer = start
            if parts:
                pointer = self.b.gep(start, [self._total(parts)], source_etype=type)
            known[key] = pointer, start, parts  # what has these ids stays
        pointer, *_ = known[key]
        return self.b.gep(pointer, [self.size(near)], source_etype=type) if near else pointer

    def _made_here(self) -> dict[tuple, tuple]:
        """Pointers and splats of the present block, by the ids of what they are made of."""
        if self.made[0] is not self.b.block:
            self.made = self.b.block, {}
        return self.made[1]

    # -- memory ---------------------------------------------------------------------------

    def read_numbers(self, roots: list[Expr], kept: Sequence[Buffer]) -> None:
        """Load single elements, but none that is only there where a condition holds."""
        for x in s.walk(*roots):
            if x.op == "load" and x.data in kept and x.args[0].op == "const":
                (size,) = x.data.shape
                if not isinstance(size, Sym) and 0 <= x.args[0].data < size:
                    self.emit(x)

    def lane_stride(self, index: Expr) -> int | None:
        """How far the index moves per lane; None if it is not linear in the vector axis."""
        terms, _ = s.linear(index)
        stride = 0
        for term, c in terms.items():
            if term.op == "axis" and term.data is self.vector_axis:
                stride = c
            elif self.vector_axis in term.free:
                return None
        return stride

    def _load(self, e: Expr) -> ir.Value:
        (index,) = e.args
        type = memory_type(e.dtype, self.soft_half)
        size = e.dtype.bytes
        stride = 0 if self.vector_axis is None else self.lane_stride(index)
        if stride == 0:
            pointer = self.address(e.data, index)
            value = self.b.load(pointer, typ=type, align=size)
        elif stride == 1:
            pointer = self.address(e.data, index)
            value = self._load_vector(pointer, type, size)
        elif stride and self.mask is None and is_short_stride(stride, self.lanes):
            value = load_strided(self, self.address(e.data, index), type, size, stride)
        else:
            value = self._gather(e.data, index, type, size)
        return self.from_memory(value, e.dtype)

    def from_memory(self, value: ir.Value, dtype: DType) -> ir.Value:
        """What elements of a dtype are in registers, as they were loaded."""
        is_vector = isinstance(value.type, ir.VectorType)
        if dtype == BOOL:
            return self.b.icmp_unsigned(
                "!=", value, ir.Constant(value.type, None if is_vector else 0)
            )
        if dtype.bits < 8:
            return self.b.trunc(value, vector(register_type(dtype), lanes_of(value)))
        return value

    def _load_vector(self, pointer, type, size) -> ir.Value:
        vec = vector(type, self.lanes)
        if self.mask is None:
            return self.b.load(pointer, typ=vec, align=size)
        return self.load_masked(pointer, vec, size, self.mask)

    def load_masked(self, pointer, vec: ir.VectorType, size: int, mask) -> ir.Value:
        """A vector of which the lanes outside of the mask are zero."""
        return self._masked(
            "load", vec, [pointer, ir.Constant(I32, size), mask, ir.Constant(vec, None)]
        )

    def _gather(self, buffer: Buffer, index: Expr, type: ir.Type, size: int) -> ir.Value:
        known = row_of(self, index) if self.windows else None
        if known is not None:
            return emit_places(self, buffer, *known, type)
        return self.gather(self.pointers[buffer], self.vector(index), type, size, self._mask())

    def gather(self, base, steps: ir.Value, type: ir.Type, size: int, mask) -> ir.Value:
        """The elements that are so many steps from `base`."""
        vec = vector(type, self.lanes)
        pointers = self._lane_pointers(base, steps, type)
        args = [pointers, ir.Constant(I32, size), mask, ir.Constant(vec, None)]
        return self._masked("gather", vec, args)

    def _lane_pointers(self, base, steps: ir.Value, type: ir.Type) -> ir.Value:
        gep = self.b.gep(base, [steps], source_etype=type)
        gep.type = vector(PTR, self.lanes)  # llvmlite types it as a scalar
        return gep

    def _mask(self) -> ir.Value:
        if self.mask is not None:
            return self.mask
        return no_mask(self.lanes)

    def _masked(self, kind: str, vec: ir.VectorType, args: list) -> ir.Value | None:
        """llvm.masked.load, store, gather or scatter."""
        places = "p0" if kind in ("load", "store") else f"v{vec.count}p0"
        name = f"llvm.masked.{kind}.{suffix(vec)}.{places}"
        result = vec if kind in ("load", "gather") else ir.VoidType()
        f = intrinsic(self.b.module, name, result, [a.type for a in args])
        return self.b.call(f, args)

    def store(self, buffer: Buffer, index: Expr, value: ir.Value, where: ir.Value | None) -> None:
        """buffer[index] = value, in the lanes where `where` and the mask allow."""
        type = memory_type(buffer.dtype)
        size = buffer.dtype.bytes
        if buffer.dtype.bits < 8:
            value = self.b.zext(value, vector(type, lanes_of(value)))
        stride = 0 if self.vector_axis is None else self.lane_stride(index)
        if stride == 0 and (where is None or not isinstance(where.type, ir.VectorType)):
            self._store_scalar(buffer, index, value, where, size)
            return
        if not isinstance(value.type, ir.VectorType):
            value = splat(self.b, value, self.lanes)
        mask = self.mask
        if where is not None:
            if not isinstance(where.type, ir.VectorType):
                where = splat(self.b, where, self.lanes)
            mask = where if mask is None else self.b.and_(mask, where)
        if stride == 1:
            pointer = self.address(buffer, index)
            if mask is None:
                self.b.store(value, pointer, align=size)
            else:
                if self.target.vector_bytes == 64 and isinstance(value.type.element, ir.IntType):
                    value = opaque(self.b, value)
                self._masked("store", value.type, [value, pointer, ir.Constant(I32, size), mask])
            return
        if mask is None and isinstance(stride, int):
            store_strided(self.b, self.address(buffer, index), value, size, stride)
            return
        pointers = self._lane_pointers(self.pointers[buffer], self.vector(index), type)
        mask = self._mask() if mask is None else mask
        self._masked("scatter", value.type, [value, pointers, ir.Constant(I32, size), mask])

    def store_contiguous(self, buffer: Buffer, index: Expr, value: ir.Value) -> None:
        """A vector to `index` and the places that follow it."""
        pointer = self.address(buffer, index)
        self.b.store(value, pointer, align=buffer.dtype.bytes)

    def _store_scalar(self, buffer, index, value, where, size) -> None:
        assert not isinstance(value.type, ir.VectorType), "several lanes store to one place"

        def put():
            with self.scope():
                pointer = self.address(buffer, index)
            self.b.store(value, pointer, align=size)

        if where is None:
            put()
        else:
            with self.b.if_then(where):
                put()

    def loops(self, axes: list[Axis], body, unroll: int = UNROLL) -> None:
        """Nested loops over axes; short ones are written out."""
        if not axes:
            body()
            return
        rounds = prod(a.extent for a in axes)
        if not isinstance(rounds, Sym) and rounds <= unroll:
            self._unrolled(axes, body)
            return
        first, rest = axes[0], axes[1:]
        with self.loop(i64(0), self.size(first.extent), name="k") as k, self.at(first, k):
            self.loops(rest, body, unroll)

    def _unrolled(self, axes: list[Axis], body) -> None:
        if not axes:
            with self.scope():
                body()
            return
        for k in range(axes[0].extent):
            with self.at(axes[0], i64(k)):
                self._unrolled(axes[1:], body)
