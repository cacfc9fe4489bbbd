"""Codes in registers: the fields of packed vectors as integers and as floats."""

from collections.abc import Sequence

import llvmlite.ir as ir

from .....classes import dataclass
from .....ir.types import F32
from ...base.types import I8, I32, i64, no_mask, register_type, vector
from ...emit.emitter import Emitter
from ...emit.scalar import intrinsic, splat
from .planes import WORD, Layout

FLOAT = register_type(F32)


@dataclass(frozen=True)
class Fields:
    """The vectors of a chunk for one vector of columns: 32 bits a lane, one per plane's vector."""

    e: Emitter
    layout: Layout
    words: Sequence[ir.Value]

    def bytes_of(self, group: int) -> ir.Value:
        """Four steps of k, from 4 · `group` on: a byte each in every lane."""
        total = None
        for plane in self.layout.planes:
            word, h = self.words[plane.first + group // plane.fields], group % plane.fields
            part = word
            if plane.bits < 8:
                mask = ((1 << plane.bits) - 1) * 0x01010101
                part = self._shifted(word, h * plane.bits - plane.shift)
                part = self._and(part, mask << plane.shift)
            total = part if total is None else self.e.b.or_(total, part)
        return total

    def number(self, step: int) -> ir.Value:
        """The code of one step of k, times 2^`exponent(step)`, as an integer of 32 bits."""
        planes = self.layout.planes
        group, byte = divmod(step, WORD)
        if len(planes) == 1:
            (plane,) = planes
            word = self.words[group // plane.fields]
            at = 8 * byte + plane.bits * (group % plane.fields)
            if at + plane.bits == 32:
                return self._shifted(word, at)
            if self.layout.form.table is None:
                return self._and(word, ((1 << plane.bits) - 1) << at)
            return self._and(self._shifted(word, at), (1 << plane.bits) - 1)
        total = None
        for plane in planes:
            word = self.words[plane.first + group // plane.fields]
            at = 8 * byte + plane.bits * (group % plane.fields)
            mask = ((1 << plane.bits) - 1) << plane.shift
            part = self._and(self._shifted(word, at - plane.shift), mask)
            total = part if total is None else self.e.b.or_(total, part)
        return total

    def _shifted(self, word: ir.Value, right: int) -> ir.Value:
        b = self.e.b
        if right == 0:
            return word
        by = ir.Constant(word.type, [abs(right)] * word.type.count)
        return b.lshr(word, by) if right > 0 else b.shl(word, by)

    def _and(self, word: ir.Value, mask: int) -> ir.Value:
        mask &= 0xFFFFFFFF
        mask -= (mask >> 31) << 32
        return self.e.b.and_(word, ir.Constant(word.type, [mask] * word.type.count))


def exponent(layout: Layout, step: int) -> int:
    """By which power of two `Fields.number` is too large."""
    if len(layout.planes) > 1 or layout.form.table is not None:
        return 0
    (plane,) = layout.planes
    group, byte = divmod(step % layout.chunk, WORD)
    at = 8 * byte + plane.bits * (group % plane.fields)
    return 0 if at + plane.bits == 32 else at


def looked_up(e: Emitter, table: ir.Value, index: ir.Value, entries: int, lanes: int) -> ir.Value:
    """The entries of a table in memory: out of registers where x86 has them, else one by one."""
    b = e.b
    wide = vector(FLOAT, lanes)
    x86 = e.target.triple.startswith("x86_64") and e.target.vector_bytes == 4 * lanes
    if x86 and lanes == 8 and entries <= 16:
        pick = intrinsic(b.module, "llvm.x86.avx2.permps", wide, [wide, index.type])
        parts = [
            b.call(pick, [b.load(_moved(b, table, 8 * i), typ=wide, align=4), index])
            for i in range(-(-max(entries, 8) // 8))
        ]
        if len(parts) == 1:
            return parts[0]
        upper = b.icmp_signed(">", index, splat(b, ir.Constant(I32, 7), lanes))
        return b.select(upper, parts[1], parts[0])
    if x86 and lanes == 16 and entries <= 16:
        pick = intrinsic(b.module, "llvm.x86.avx512.permvar.sf.512", wide, [wide, index.type])
        return b.call(pick, [b.load(table, typ=wide, align=4), index])
    steps = b.zext(index, vector(i64(0).type, lanes))
    saved, e.lanes = e.lanes, lanes
    value = e.gather(table, steps, FLOAT, F32.bytes, no_mask(lanes))
    e.lanes = saved
    return value


def _moved(b: ir.IRBuilder, pointer: ir.Value, floats: int) -> ir.Value:
    return b.gep(pointer, [i64(4 * floats)], source_etype=I8)
