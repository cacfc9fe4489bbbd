"""Threads that share a kernel's units, and help each other.

    for owner of me, me + 1, …, me - 1:        everybody's part of the units, my own first
      while there are pieces left of owner's part:    take the next one (an atomic addition)
        run it

Cores are seldom equally fast: another program, or another guest of the same machine, slows one of
them down. Which thread computes a unit makes no difference to its result. A thread's own part is
the same in every kernel, so that what it has written is in its own cache when it reads it again.

The counters of what has been taken lie behind the arena: one word that says which of two sets this
run uses (whoever runs the entry changes it each time), then the sets. The first thread clears the
other set. Kernels in loops, and runs of more than `OWNERS` threads, have fixed parts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

import llvmlite.ir as ir

from ....ir.bounds import size_hint
from ..base.types import I8, I64, PTR, VOID, i64
from ..kernel.codegen import KernelCode

OWNERS = 16  # threads that help each other at most
PIECE = 8000.0  # ns of estimated work that a piece has at least
PIECES = 32  # that a kernel is cut into at most
LINE = 64  # bytes: the word in front, and a multiple of what a kernel's counters take
ROW = OWNERS * 8


def piece_of(code: KernelCode) -> int | None:
    """Units of a piece, or None where a kernel is better cut into one part per thread."""
    count = max(1, min(PIECES, int(code.cost / PIECE)))
    piece = code.schedule.piece(ceil(size_hint(code.units) / count))
    return piece if 4 * piece <= size_hint(code.units) else None


def counter_bytes(steps: int) -> int:
    """Bytes of the counters of so many stealable steps."""
    return LINE + 2 * steps * ROW if steps else 0


@contextmanager
def counted(b: ir.IRBuilder, count: ir.Value, name: str) -> Iterator[ir.Value]:
    """for (n = 0; n < count; n++)"""
    before = b.block
    head, body, done = (b.append_basic_block(f"{name}{x}") for x in ("", ".body", ".done"))
    b.branch(head)
    b.position_at_end(head)
    n = b.phi(I64, "n")
    n.add_incoming(i64(0), before)
    b.cbranch(b.icmp_signed("<", n, count), body, done)
    b.position_at_end(body)
    yield n
    n.add_incoming(b.add(n, i64(1)), b.block)
    b.branch(head)
    b.position_at_end(done)


class WorkStealing:
    """Writes the sharing of units into the entry. `start` points to the counters."""

    def __init__(self, b: ir.IRBuilder, start: ir.Value, rows: dict[int, int], tid, threads):
        self.b, self.rows, self.tid, self.threads = b, rows, tid, threads
        size = len(rows) * ROW
        turn = b.and_(b.load(start, typ=I64), i64(1))
        sets = b.gep(start, [i64(LINE)], source_etype=I8)
        self.mine = b.gep(sets, [b.mul(turn, i64(size))], source_etype=I8)
        other = b.gep(sets, [b.mul(b.sub(i64(1), turn), i64(size))], source_etype=I8)
        with b.if_then(b.icmp_signed("==", tid, i64(0))):
            clear = ir.FunctionType(VOID, [PTR, I8, I64, ir.IntType(1)])
            name = "llvm.memset.p0.i64"
            f = b.module.globals.get(name) or ir.Function(b.module, clear, name)
            b.call(f, [other, ir.Constant(I8, 0), i64(size), ir.Constant(ir.IntType(1), 0)])

    def run(self, step, piece: ir.Value, part: Callable, invoke: Callable) -> None:
        """Share the step's units, `piece` at a time. `part(owner)` gives the first and the last
        unit of a thread's part."""
        b = self.b
        row = b.gep(self.mine, [i64(self.rows[id(step)] * ROW)], source_etype=I8)
        helps = b.icmp_signed("<=", self.threads, i64(OWNERS))
        rounds = b.select(helps, self.threads, i64(0))
        alone = b.or_(b.icmp_signed("==", self.threads, i64(1)), b.not_(helps))
        with b.if_else(alone) as (yes, no):
            with yes:
                invoke(*part(self.tid))
            with no, counted(b, rounds, "owner") as n:
                owner = b.add(self.tid, n)
                past = b.icmp_signed(">=", owner, self.threads)
                owner = b.select(past, b.sub(owner, self.threads), owner)
                counter = b.gep(row, [owner], source_etype=I64)
                self._take(counter, piece, *part(owner), invoke)

    def _take(self, counter, piece, begin, end, invoke: Callable) -> None:
        b = self.b
        head, body, done = (b.append_basic_block(f"take{x}") for x in ("", ".body", ".done"))
        b.branch(head)
        b.position_at_end(head)
        first = b.add(begin, b.atomic_rmw("add", counter, piece, "monotonic"))
        b.cbranch(b.icmp_signed("<", first, end), body, done)
        b.position_at_end(body)
        last = b.add(first, piece)
        invoke(first, b.select(b.icmp_signed("<", last, end), last, end))
        b.branch(head)
        b.position_at_end(done)
