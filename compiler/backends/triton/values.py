"""Expressions, reductions and stores as Triton text: what all kernel shapes share."""

import math
import re

from ...expr import expr as s
from ...expr.expr import Axis, Expr
from ...ir.types import BOOL, I64, DType
from . import library
from .primitives import (
    COMBINE,
    TYPES,
    Val,
    cast_text,
    identity_of,
    is_infix,
    literal,
    template_of,
    tile_reduction,
    type_name,
)
from .tile import INT32, NONE, Tile

SMALL_INTS = ("int1", "int8", "uint8", "int16", "uint16", "int32")


def fits_int32(e: Expr) -> bool:
    low, high = s.bounds(e)
    return low >= INT32[0] and high <= INT32[1]


def _wrapped(text: str, dtype: DType) -> str:
    """A byte as the integer of 2 or 4 bits that its low bits are."""
    if dtype.bits >= 8 or not dtype.is_int:
        return text
    # What lies in the byte's other bits is not said: zeros or copies of the sign.
    if dtype.kind == "u":
        return f"({text}) & {(1 << dtype.bits) - 1}"
    return f"(({text}) << {8 - dtype.bits}) >> {8 - dtype.bits}"


class TileEmitter(Tile):
    """Writes one kernel's body: `value` gives an expression a name, `store` writes memory."""

    # -- values ---------------------------------------------------------------------------

    def value(self, e: Expr) -> Val:
        for values in reversed(self._values):
            if e in values:
                return values[e]
        val = self._emit(e)
        self._values[-1][e] = val
        return val

    def hoist(self, roots, inner) -> None:
        """Compute here what does not depend on the axes of a loop that is about to begin."""
        inner = frozenset(inner)
        for e in s.walk(*roots):
            if e.op not in ("const", "axis") and not e.free & inner and self.knows(e):
                self.value(e)

    def _emit(self, e: Expr) -> Val:
        match e.op:
            case "const":
                type = "int32" if e.dtype == I64 and fits_int32(e) else type_name(e.dtype)
                return Val(literal(e.data, type), NONE, type, True)
            case "axis":
                return self.axis(e.data)
            case "load":
                return self._load(e)
            case "cast":
                return self._cast(e)
            case "bitcast":
                return self._bitcast(e)
            case "reduce":
                return self._reduce(e)
        if e.dtype == I64 or e.args[-1].dtype == I64:
            return self._int64(e)
        return self._apply(e, [self.value(a) for a in e.args], type_name(e.dtype))

    def _apply(self, e: Expr, args: list[Val], type: str) -> Val:
        operand = args[-1]
        template = template_of(e.op, operand.type)
        return self.apply(e.op, template, args, type)

    def apply(self, op: str, template: str, args: list[Val], type: str) -> Val:
        """A template on values; literals are kept where Triton reads them as intended."""
        values = args[1:] if op == "select" else args
        keep = (is_infix(template) or op == "select") and not all(a.literal for a in values)
        if not keep:
            args = [self.tensor(a) for a in args]
        elif op == "select":
            args = [self.tensor(args[0]), *values]
        dims = frozenset().union(*(a.dims for a in args))
        text = template.format(*(a.text for a in args))
        return Val(text, dims, type) if template == "{0}" else self.let(text, dims, type)

    def _int64(self, e: Expr) -> Val:
        """Integer arithmetic in 32 bits where the bounds allow it, else in 64."""
        args = [self.value(a) for a in e.args]
        wide = any(a.type == "int64" for a in args) or not fits_int32_all(e)
        if wide:
            args = [self._widen(a) for a in args]
        type = type_name(e.dtype) if e.dtype != I64 else "int64" if wide else "int32"
        template = template_of(e.op, args[-1].type)
        if e.op in ("floordiv", "mod") and s.bounds(e.args[0])[0] >= 0 and e.args[1].op == "const":
            template = "{0} // {1}" if e.op == "floordiv" else "{0} % {1}"
        val = self.apply(e.op, template, args, type)
        if val.type == "int64" and fits_int32(e):
            val = self.let(f"{val.text}.to(tl.int32)", val.dims, "int32")
        return val

    def _widen(self, val: Val) -> Val:
        if val.type != "int32":
            return val
        if val.literal:
            return Val(val.text, NONE, "int64", True)
        return self.let(f"{val.text}.to(tl.int64)", val.dims, "int64")

    def _cast(self, e: Expr) -> Val:
        x = self.tensor(self.value(e.args[0]))
        target = type_name(e.dtype)
        if e.dtype == I64 and x.type in SMALL_INTS:
            target = "int32"
        text = cast_text(x.text, x.type, target)
        text = _wrapped(text, e.dtype)
        return x if text == x.text else self.let(text, x.dims, target)

    def _bitcast(self, e: Expr) -> Val:
        """The same bits as another type; a bool is a byte."""
        x, target = self.tensor(self.value(e.args[0])), type_name(e.dtype)
        if e.dtype == BOOL:
            return self.let(f"{x.text}.to(tl.uint8, bitcast=True) != 0", x.dims, target)
        if e.args[0].dtype == BOOL:
            return self.let(f"{x.text}.to(tl.{target})", x.dims, target)
        text = _wrapped(f"{x.text}.to(tl.{target}, bitcast=True)", e.dtype)
        return self.let(text, x.dims, target)

    def _load(self, e: Expr) -> Val:
        """A load, masked by the domain and, where the index may lie outside, by its range."""
        (offset,), size = e.args, e.data.type.size
        at = self.value(offset)
        low, high = s.bounds(offset)
        conditions = []
        if at.dims:
            inside = self.mask(at.dims)
            conditions += [inside] if inside else []
        if low < 0:
            conditions.append(self.let(f"{at.text} >= 0", at.dims, "int1").text)
        if high >= size:
            conditions.append(self.let(f"{at.text} < {size}", at.dims, "int1").text)
        type = "int8" if type_name(e.dtype) == "int1" else type_name(e.dtype)
        guard = f", mask={' & '.join(conditions)}, other={literal(0, type)}" if conditions else ""
        text = f"tl.load({self.names[e.data]} + {at.text}{guard})"
        val = self.let(text, at.dims, type)
        if e.dtype.name == "bool":
            val = self.let(f"{val.text} != 0", val.dims, "int1")
        text = _wrapped(val.text, e.dtype)
        return val if text == val.text else self.let(text, val.dims, type)

    # -- reductions -----------------------------------------------------------------------

    def _reduce(self, e: Expr) -> Val:
        combiner, axes = e.data
        type = type_name(e.dtype)
        if e.dtype == I64 and combiner in ("max", "min") and fits_int32(e.args[0]):
            type = "int32"
        if any(a.extent == 0 for a in axes):
            return self.let(self.full(NONE, identity_of(combiner, type), type), NONE, type)
        inner = frozenset(axes)
        nested = any(r.op == "reduce" and r.free & inner for r in s.walk(e.args[0]))
        if self.lanes_taken or nested:
            return self._serial(e, combiner, axes, type)
        return self._lanes(e, combiner, axes, type)

    def _serial(self, e: Expr, combiner: str, axes, type: str) -> Val:
        """One element after the other, all lanes in step."""
        self.hoist(e.args, axes)
        dims = self.dims_of(e.free)
        acc = Val(self.name("acc"), dims, type)
        self.line(f"{acc.text} = {self.full(dims, identity_of(combiner, type), type)}")
        self._loop(e, combiner, list(axes), acc)
        return acc

    def _loop(self, e: Expr, combiner: str, axes: list[Axis], acc: Val) -> None:
        if not axes:
            self._accumulate(combiner, acc, self._typed(e.args[0], acc.type))
            return
        counter = self.name("k")
        with self.block(f"for {counter} in range({axes[0].extent}):"):
            self.bound[axes[0]] = self.let(f"tl.cast({counter}, tl.int32)", NONE, "int32", "i")
            self.hoist(e.args, axes[1:])
            self._loop(e, combiner, axes[1:], acc)

    def _accumulate(self, combiner: str, acc: Val, val: Val) -> None:
        template = template_of(COMBINE[combiner][0], acc.type)
        if not is_infix(template):
            val = self.tensor(val)
        self.line(f"{acc.text} = {template.format(acc.text, val.text)}")

    def _typed(self, e: Expr, type: str) -> Val:
        val = self.value(e)
        if val.type == type:
            return val
        if val.literal:
            return Val(literal(e.data, type), NONE, type, True)
        return self.let(cast_text(val.text, val.type, type), val.dims, type)

    def _lanes(self, e: Expr, combiner: str, axes, type: str) -> Val:
        """A block of elements side by side along tile dim 1, in a loop if there are many."""
        total, block = math.prod(a.extent for a in axes), self.blocks[1]
        outer = self.dims_of(e.free) - {1}
        self.hoist(e.args, axes)
        if total <= block:
            with self.scope():
                self.lanes_taken = True
                self.bind(axes, self.index(1, "", total, False))
                tile = self._block(e.args[0], combiner, type, outer | {1})
            return self._finish(combiner, tile, outer, type)
        acc = Val(self.name("acc"), outer | {1}, type)
        self.line(f"{acc.text} = {self.full(acc.dims, identity_of(combiner, type), type)}")
        counter = self.name("k")
        with self.block(f"for {counter} in range(0, {total}, {block}):"):
            self.lanes_taken = True
            self.bind(axes, self.index(1, counter, total, total > INT32[1] - block))
            self._accumulate(combiner, acc, self._block(e.args[0], combiner, type, None))
        return self._finish(combiner, acc, outer, type)

    def _block(self, body: Expr, combiner: str, type: str, dims) -> Val:
        """A tile of values; lanes past the end hold the combiner's identity."""
        val = self._typed(body, type)
        mask = self.masks[1]
        if mask is not None:
            neutral = literal(identity_of(combiner, type), type)
            val = self.tensor(val)
            text = f"tl.where({mask.text}, {val.text}, {neutral})"
            val = self.let(text, val.dims | {1}, type)
        if dims is not None and val.dims != dims:
            text = f"tl.broadcast_to({self.tensor(val).text}, {self.shape(dims)})"
            val = self.let(text, dims, type)
        return val

    def _finish(self, combiner: str, tile: Val, dims, type: str) -> Val:
        text = tile_reduction(combiner, type).format(tile.text)
        if type in ("int8", "uint8", "int16", "uint16") and ".reduce" not in text:
            text += f".to(tl.{type})"
        return self.let(text, dims, type)

    # -- stores ---------------------------------------------------------------------------

    def store(self, store, everywhere=NONE) -> None:
        """Write a store's value at every lane of the tile's dims `everywhere`."""
        at = self.value(store.index[0])
        val = self.tensor(self._memory(store))
        if self.blocks and (at.dims != everywhere or not everywhere):
            zeros = f"tl.zeros({self.shape(everywhere)}, tl.{at.type})"
            at = self.let(f"{at.text} + {zeros}", everywhere, at.type)
        conditions = [m] if (m := self.mask(everywhere)) else []
        if store.where is not None:
            conditions.append(self.tensor(self.value(store.where)).text)
        low, high = s.bounds(store.index[0])
        if low < 0:
            conditions.append(self.let(f"{at.text} >= 0", at.dims, "int1").text)
        if high >= store.buffer.type.size:
            test = f"{at.text} < {store.buffer.type.size}"
            conditions.append(self.let(test, at.dims, "int1").text)
        guard = f", mask={' & '.join(conditions)}" if conditions else ""
        place = f"{self.names[store.buffer]} + {at.text}"
        if store.mode != "set":
            val = self._combined(store, val, place, guard)
        self.line(f"tl.store({place}, {val.text}{guard})")

    def _memory(self, store) -> Val:
        """The value as it lies in memory."""
        val = self.value(store.value)
        target = TYPES[store.buffer.dtype.name][1]
        if val.type == target:
            return val
        val = self.tensor(val)
        return self.let(f"{val.text}.to(tl.{target})", val.dims, target)

    def _combined(self, store, val: Val, place: str, guard: str) -> Val:
        """`old (mode) new`, computed in the type's compute type."""
        dtype = store.buffer.dtype
        wide, memory = type_name(dtype.compute), TYPES[dtype.name][1]
        other = f"{guard}, other={literal(0, memory)}" if guard else ""
        old = Val(self.name(), val.dims, wide)  # never shared: memory changes between loads
        self.line(f"{old.text} = tl.load({place}{other}){_as(memory, wide)}")
        template = template_of(store.mode, wide)
        new = self.let(f"{val.text}{_as(memory, wide)}", val.dims, wide) if memory != wide else val
        text = f"({template.format(old.text, new.text)}){_as(wide, memory)}"
        return self.let(text, val.dims, memory)

    def helpers(self) -> str:
        """Text of the library's functions that the body calls."""
        used = re.findall(r"\b_[a-z0-9_]+\b", "\n".join(self.lines))
        return library.with_helpers(n for n in used if n in library.FUNCTIONS)


def fits_int32_all(e: Expr) -> bool:
    """Whether an integer operation can be done in 32 bits: its result and its operands fit."""
    parts = (*e.args, e) if e.dtype == I64 else e.args
    return all(fits_int32(p) for p in parts if p.dtype == I64)


def _as(source: str, target: str) -> str:
    if source == target:
        return ""
    return " != 0" if target == "int1" else f".to(tl.{target})"
