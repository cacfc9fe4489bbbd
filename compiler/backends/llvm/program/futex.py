"""Waiting and waking between native threads, as LLVM IR.

Everything in the worker pool waits in one way and is woken in one way. A *word* is a line of
memory {i64 value, i64 sleepers, …}:

    spin(word, seen, limit)    did the value change within `limit` pauses of the core?
    wait(word, seen, rounds)   spin; then count in `sleepers`, look again, sleep in the kernel
    wake(word)                 wake the sleepers, if any; the caller has just changed the value

The change of the value, the count of sleepers and the looks after them are sequentially
consistent, so either the sleeper sees the new value or the waker sees the sleeper.

On Linux the kernel sleep is a futex on the low half of the value (the hosts are little-endian);
elsewhere it is one mutex and condition variable for the process.
"""

from collections.abc import Callable

from llvmlite import ir

from .pool_layout import LINE, PoolHost

I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
PTR, VOID = ir.PointerType(), ir.VoidType()

SLEEPERS = 8
ROUND_SYMBOL = "tessel_pool_round"
# Larger than any libc's pthread_attr_t, sigset_t, mutex or condition variable.
OS_OBJECT = ir.ArrayType(I64, 32)

_FUTEX_WAIT_PRIVATE, _FUTEX_WAKE_PRIVATE, _EVERYONE = 128, 129, 2**31 - 1
_ISB_SY = 15


class FutexSleep:
    """Kernel sleep on Linux: `syscall(futex, …)`."""

    def __init__(self, module: ir.Module, number: int):
        self.number = number
        self.syscall = external(module, "syscall", I64, [I64], var_arg=True)

    def initialise(self, b: ir.IRBuilder) -> None:
        """A futex has no state of its own."""

    def sleep(self, b: ir.IRBuilder, word: ir.Value, seen: ir.Value) -> None:
        expected = b.trunc(seen, I32)
        forever = ir.Constant(PTR, None)
        b.call(self.syscall, [I64(self.number), word, I32(_FUTEX_WAIT_PRIVATE), expected, forever])

    def wake(self, b: ir.IRBuilder, word: ir.Value) -> None:
        b.call(self.syscall, [I64(self.number), word, I32(_FUTEX_WAKE_PRIVATE), I32(_EVERYONE)])


class MutexSleep:
    """Kernel sleep elsewhere: one mutex and one condition for all words.

    A wake disturbs the sleepers of the other words too; they look at their value and sleep again.
    """

    def __init__(self, module: ir.Module):
        self.mutex = zeroed(module, "tessel_pool_mutex", OS_OBJECT)
        self.condition = zeroed(module, "tessel_pool_condition", OS_OBJECT)
        self.calls = {
            name: external(module, f"pthread_{name}", I32, [PTR] * arity)
            for name, arity in [
                ("mutex_init", 2),
                ("cond_init", 2),
                ("mutex_lock", 1),
                ("mutex_unlock", 1),
                ("cond_wait", 2),
                ("cond_broadcast", 1),
            ]
        }

    def initialise(self, b: ir.IRBuilder) -> None:
        b.call(self.calls["mutex_init"], [self.mutex, ir.Constant(PTR, None)])
        b.call(self.calls["cond_init"], [self.condition, ir.Constant(PTR, None)])

    def sleep(self, b: ir.IRBuilder, word: ir.Value, seen: ir.Value) -> None:
        b.call(self.calls["mutex_lock"], [self.mutex])
        now = b.load_atomic(word, "seq_cst", 8, typ=I64)
        with b.if_then(b.icmp_unsigned("==", now, seen)):
            b.call(self.calls["cond_wait"], [self.condition, self.mutex])
        b.call(self.calls["mutex_unlock"], [self.mutex])

    def wake(self, b: ir.IRBuilder, word: ir.Value) -> None:
        b.call(self.calls["mutex_lock"], [self.mutex])
        b.call(self.calls["cond_broadcast"], [self.condition])
        b.call(self.calls["mutex_unlock"], [self.mutex])


def build_spin(module: ir.Module, host: PoolHost) -> ir.Function:
    """i1 spin(word, seen, limit): did the value change within `limit` pauses?"""
    function, b, (word, seen, limit) = new_function(
        module, "tessel_pool_spin", I1, [PTR, I64, I64], exported=True
    )
    start, look, again, leave = new_blocks(b, "look", "again", "leave")
    b.branch(look)
    b.position_at_end(look)
    turn = b.phi(I64, "turn")
    changed = b.icmp_unsigned("!=", b.load_atomic(word, "acquire", 8, typ=I64), seen)
    b.cbranch(b.or_(changed, b.icmp_unsigned(">=", turn, limit)), leave, again)
    b.position_at_end(again)
    _pause(b, module, host)
    turn.add_incoming(I64(0), start)
    turn.add_incoming(b.add(turn, I64(1)), again)
    b.branch(look)
    b.position_at_end(leave)
    b.ret(changed)
    return function


def build_wait(
    module: ir.Module, spin: ir.Function, kernel: FutexSleep | MutexSleep
) -> ir.Function:
    """void wait(word, seen, rounds): until the value differs, give or take a false alarm.

    A round spins for `tessel_pool_round` pauses, then offers the core: whom we wait for may be
    queued behind us when other programs are busy.
    """
    function, b, (word, seen, rounds) = new_function(module, "wait", VOID, [PTR, I64, I64])
    pauses = b.load(zeroed(module, ROUND_SYMBOL, I64), typ=I64)
    start, look, awake, yield_core, asleep = new_blocks(b, "look", "awake", "yield", "park")
    b.branch(look)
    b.position_at_end(look)
    turn = b.phi(I64, "turn")
    turn.add_incoming(I64(0), start)
    b.cbranch(b.icmp_unsigned("<", turn, rounds), awake, asleep)
    b.position_at_end(awake)
    with b.if_then(b.call(spin, [word, seen, pauses])):
        b.ret_void()
    b.branch(yield_core)
    b.position_at_end(yield_core)
    b.call(external(module, "sched_yield", I32, []), [])
    turn.add_incoming(b.add(turn, I64(1)), yield_core)
    b.branch(look)
    b.position_at_end(asleep)
    sleepers = at(b, word, SLEEPERS)
    b.atomic_rmw("add", sleepers, I64(1), "seq_cst")
    now = b.load_atomic(word, "seq_cst", 8, typ=I64)
    with b.if_then(b.icmp_unsigned("==", now, seen)):
        kernel.sleep(b, word, seen)
    b.atomic_rmw("sub", sleepers, I64(1), "seq_cst")
    b.ret_void()
    return function


def build_wake(module: ir.Module, kernel: FutexSleep | MutexSleep) -> ir.Function:
    """void wake(word): the caller has just changed its value with a seq_cst operation."""
    function, b, (word,) = new_function(module, "wake", VOID, [PTR])
    sleepers = b.load_atomic(at(b, word, SLEEPERS), "seq_cst", 8, typ=I64)
    with b.if_then(b.icmp_unsigned("!=", sleepers, I64(0)), likely=False):
        kernel.wake(b, word)
    b.ret_void()
    return function


def wait_until(
    b: ir.IRBuilder,
    word: ir.Value,
    reached: Callable[[ir.Value], ir.Value],
    wait: ir.Function,
    rounds: ir.Value,
) -> None:
    """Inline: `while not reached(value): wait(word, value, rounds)`."""
    look, blocked, leave = (b.append_basic_block(name) for name in ("until", "blocked", "reached"))
    b.branch(look)
    b.position_at_end(look)
    value = b.load_atomic(word, "acquire", 8, typ=I64)
    b.cbranch(reached(value), leave, blocked)
    b.position_at_end(blocked)
    b.call(wait, [word, value, rounds])
    b.branch(look)
    b.position_at_end(leave)


def _pause(b: ir.IRBuilder, module: ir.Module, host: PoolHost) -> None:
    if host.arch in ("x86_64", "i686"):
        b.call(external(module, "llvm.x86.sse2.pause", VOID, []), [])
    elif host.arch in ("aarch64", "arm64"):
        # `isb` holds the core for a while as x86's `pause` does; `yield` is a no-op there.
        b.call(external(module, "llvm.aarch64.isb", VOID, [I32]), [I32(_ISB_SY)])


def at(b: ir.IRBuilder, base: ir.Value, offset: int) -> ir.Value:
    return b.gep(base, [I64(offset)], inbounds=True, source_etype=I8)


def new_function(module, name, result, arguments, *, exported=False):
    function = ir.Function(module, ir.FunctionType(result, arguments), name)
    function.linkage = "external" if exported else "internal"
    return function, ir.IRBuilder(function.append_basic_block("start")), function.args


def new_blocks(b: ir.IRBuilder, *names: str) -> list[ir.Block]:
    """The current block and new ones of these names."""
    return [b.block, *(b.append_basic_block(name) for name in names)]


def external(module, name, result, arguments, *, var_arg=False) -> ir.Function:
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(result, arguments, var_arg=var_arg), name)


def zeroed(module: ir.Module, name: str, kind: ir.Type) -> ir.GlobalVariable:
    variable = ir.GlobalVariable(module, kind, name)
    variable.initializer = ir.Constant(variable.value_type, None)
    variable.align = LINE
    return variable
