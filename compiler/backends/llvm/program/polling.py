"""Long loops ask now and then whether to go on, so that Ctrl-C ends them.

Python's signal handlers run when the thread that called machine code is back in Python. Thread 0
is that thread. It lets them run from loops that may not end, every PERIOD:

    head:   turns += 1;  if stop != 0 and turns >= stop: return            (every thread)
    body:   thread 0, if PERIOD has passed: if ask() != 0: stop = turns + 1

`turns` is each thread's own count of heads, the same for all, since all walk the same way. Between
two heads is a barrier, behind the place where thread 0 stores: all threads leave at the same head.
The word `stop` lies in the barrier's line; a run of one thread has its own. `ask` is an address in
the table (`pool_ir.py` has the function), null where no signal can arrive. Results of a run that
was stopped are worthless: its caller raises what the handler raised.
"""

from collections.abc import Iterable

import llvmlite.ir as ir

from ....ir.dims import Sym
from ....kernels.kernel import For, walk_steps
from ..base.types import I8, I64, PTR, i64
from .clock import clock
from .pool_layout import BARRIER_STOP

LONG = 10_000  # trips from which a loop asks
PERIOD = 50_000_000  # ns
SOON = 1_000_000  # ns: where turns are faster, not every one looks at the clock
SKIP = 16  # turns
ASK = ir.FunctionType(I64, [])


def is_long(step: For) -> bool:
    """Whether a loop may go on for long, whatever its body is."""
    return step.condition is not None or (not isinstance(step.trips, Sym) and step.trips >= LONG)


def any_long(steps: Iterable) -> bool:
    """Whether there is such a loop among the steps and within them."""
    return any(isinstance(step, For) and is_long(step) for step in walk_steps(steps))


class Polling:
    """The loops of one entry that ask, written by `main` (a `program.Main`)."""

    def __init__(self, main):
        self.main, b = main, main.b
        self.now = clock(main.module)
        self.turns, self.own, self.last, self.next, self.due = (self._word() for _ in range(5))
        b.store(i64(0), self.turns)
        b.store(i64(0), self.own)
        start = b.call(self.now, [])
        b.store(start, self.last)
        b.store(b.add(start, i64(PERIOD)), self.next)
        b.store(i64(0), self.due)
        alone = b.icmp_unsigned("==", main.barrier, ir.Constant(PTR, None))
        shared = b.gep(main.barrier, [i64(BARRIER_STOP)], source_etype=I8)
        self.stop = b.select(alone, self.own, shared)

    def _word(self) -> ir.Value:
        word = self.main.b.alloca(I64)
        word.type = PTR
        return word

    def head(self) -> None:
        """At a loop's head, in front of what decides whether it goes on."""
        b = self.main.b
        turns = b.add(b.load(self.turns, typ=I64), i64(1))
        b.store(turns, self.turns)
        stop = b.load_atomic(self.stop, "monotonic", 8, typ=I64)
        asked = b.icmp_signed("!=", stop, i64(0))
        with b.if_then(b.and_(asked, b.icmp_signed(">=", turns, stop)), likely=False):
            b.ret_void()

    def body(self) -> None:
        """At the beginning of a loop's body."""
        b = self.main.b
        turns = b.load(self.turns, typ=I64)
        due = b.icmp_signed(">=", turns, b.load(self.due, typ=I64))
        with b.if_then(b.and_(self.main.is_first, due)):
            now = b.call(self.now, [])
            fast = b.icmp_signed("<", b.sub(now, b.load(self.last, typ=I64)), i64(SOON))
            b.store(b.add(turns, b.select(fast, i64(SKIP), i64(1))), self.due)
            b.store(now, self.last)
            with b.if_then(b.icmp_signed(">=", now, b.load(self.next, typ=I64)), likely=False):
                b.store(b.add(now, i64(PERIOD)), self.next)
                self.stop_if(self._ask())

    def _ask(self) -> ir.Value:
        """Let signal handlers run; whether one raised, as an i64."""
        b = self.main.b
        function = self.main._pointer(self.main.ask_position)
        function.type = ASK.as_pointer()  # for llvmlite, which calls typed pointers only
        before = b.block
        with b.if_then(b.icmp_unsigned("!=", b.ptrtoint(function, I64), i64(0))):
            raised, inside = b.call(function, []), b.block
        answer = b.phi(I64)
        answer.add_incoming(i64(0), before)
        answer.add_incoming(raised, inside)
        return answer

    def stop_if(self, raised: ir.Value) -> None:
        """On thread 0: leave at the next head if this i64 is not 0."""
        b = self.main.b
        with b.if_then(b.icmp_signed("!=", raised, i64(0)), likely=False):
            following = b.add(b.load(self.turns, typ=I64), i64(1))
            b.atomic_rmw("xchg", self.stop, following, "monotonic")
