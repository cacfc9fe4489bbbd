"""The SPMD worker pool as LLVM IR: parked threads, one wake per run, generated barriers.

    i64  tessel_pool_run(ptr pool, ptr entry, ptr args, i64 nthreads)    -> threads used
    void tessel_barrier(ptr barrier, i64 nthreads)
    void entry(ptr args, i64 tid, i64 nthreads, ptr barrier)             the code that runs
    i64  tessel_pool_ask()                         -> 0, or not if a signal handler of Python raised

Three kinds of words (see `park_ir`) carry the whole pool:

    mailbox[tid]   value = number of runs this worker was asked to join
    pending        value = workers still inside the current run
    barrier        value = arrivals in this run; arrival number k (from 0) leaves once the value
                   reaches the next multiple of nthreads above k. The last arrival is the release:
                   there is no second flag to flip, and 64 bits do not wrap.

All threads of a run pass its every barrier, with the nthreads that the entry was given. A run of
one thread has no barrier (null) and passes through `tessel_barrier` untouched.
"""

import llvmlite.binding as llvm
from llvmlite import ir

from .futex import (
    I8,
    I32,
    I64,
    OS_OBJECT,
    PTR,
    ROUND_SYMBOL,
    VOID,
    FutexSleep,
    MutexSleep,
    at,
    build_spin,
    build_wait,
    build_wake,
    external,
    new_blocks,
    new_function,
    wait_until,
    zeroed,
)
from .pool_layout import (
    ACTIVE,
    ARGS_AT,
    BARRIER_ROUNDS,
    BARRIER_STOP,
    BARRIER_SYMBOL,
    BARRIER_WORD,
    CORES,
    ENTRY_AT,
    FPMODE_AT,
    LINE,
    LOCK,
    MAIL_POOL,
    MAIL_TID,
    MAILBOXES,
    MAX_THREADS,
    NTHREADS_AT,
    PENDING_WORD,
    STARTED,
    STATE_BYTES,
    PoolHost,
)

ENTRY = ir.FunctionType(VOID, [PTR, I64, I64, PTR])
ENTRY_PTR = ENTRY.as_pointer()  # a pointer that carries the type a call needs
BARRIER = ir.FunctionType(VOID, [PTR, I64])

STACK_BYTES = 4 << 20

# How many rounds of ROUND_NS a worker waits awake for the next run, and a thread for its peers
# within a run, before it sleeps. Waking a sleeper costs tens of microseconds.
IDLE_ROUNDS, BUSY_ROUNDS, CROWDED_ROUNDS = 5, 20, 0


def declare_barrier(module: ir.Module) -> ir.Function:
    """`tessel_barrier` as an external symbol of a generated module."""
    return ir.Function(module, BARRIER, BARRIER_SYMBOL)


def build_pool_module(host: PoolHost) -> ir.Module:
    """The module with the pool's functions and its zeroed state, `tessel_pool_state`."""
    module = ir.Module("tessel_pool")
    module.triple = host.triple
    zeroed(module, "tessel_pool_state", ir.ArrayType(I8, STATE_BYTES))
    kernel = MutexSleep(module) if host.futex is None else FutexSleep(module, host.futex)
    spin = build_spin(module, host)
    wait = build_wait(module, spin, kernel)
    wake = build_wake(module, kernel)
    _build_barrier(module, wait, wake)
    worker = _build_worker(module, host, wait, wake)
    grow = _build_grow(module, host, worker)
    _build_run(module, host, wait, wake, grow)
    _build_reset(module, kernel)
    _build_ask(module)
    return module


def pool_object(host: PoolHost) -> bytes:
    """The pool's code as an object file."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(str(build_pool_module(host)))
    module.verify()
    target = llvm.Target.from_triple(host.triple)
    tm = target.create_target_machine(opt=2, reloc="pic", codemodel="default", jit=False)
    return tm.emit_object(module)


def _build_barrier(module: ir.Module, wait: ir.Function, wake: ir.Function) -> ir.Function:
    """Meet the other threads of this run."""
    function, b, (word, nthreads) = new_function(
        module, BARRIER_SYMBOL, VOID, [PTR, I64], exported=True
    )
    with b.if_then(b.icmp_signed("<=", nthreads, I64(1))):
        b.ret_void()
    arrival = b.atomic_rmw("add", word, I64(1), "seq_cst")
    position = b.urem(arrival, nthreads)
    with b.if_then(b.icmp_unsigned("==", position, b.sub(nthreads, I64(1)))):
        b.call(wake, [word])
        b.ret_void()
    target = b.add(b.sub(arrival, position), nthreads)
    rounds = b.load(at(b, word, BARRIER_ROUNDS), typ=I64)
    wait_until(b, word, lambda value: b.icmp_unsigned(">=", value, target), wait, rounds)
    b.ret_void()
    return function


def _build_worker(
    module: ir.Module, host: PoolHost, wait: ir.Function, wake: ir.Function
) -> ir.Function:
    """ptr worker(mailbox): wait for mail, join that run, report, for ever."""
    function, b, (mailbox,) = new_function(module, "worker", PTR, [PTR])
    pool = b.load(at(b, mailbox, MAIL_POOL), typ=PTR)
    tid = b.load(at(b, mailbox, MAIL_TID), typ=I64)
    pending = at(b, pool, PENDING_WORD)
    start, look = new_blocks(b, "look")
    b.branch(look)
    b.position_at_end(look)
    done = b.phi(I64, "done")  # runs joined so far
    done.add_incoming(I64(0), start)
    wait_until(b, mailbox, lambda value: b.icmp_unsigned("!=", value, done), wait, I64(IDLE_ROUNDS))
    entry = b.load(at(b, pool, ENTRY_AT), typ=ENTRY_PTR)
    args = b.load(at(b, pool, ARGS_AT), typ=PTR)
    nthreads = b.load(at(b, pool, NTHREADS_AT), typ=I64)
    _load_fp_mode(b, module, host, at(b, pool, FPMODE_AT))
    b.call(entry, [args, tid, nthreads, at(b, pool, BARRIER_WORD)])
    left = b.atomic_rmw("sub", pending, I64(1), "seq_cst")
    with b.if_then(b.icmp_unsigned("==", left, I64(1))):
        b.call(wake, [pending])
    done.add_incoming(b.add(done, I64(1)), b.block)
    b.branch(look)
    return function


def _build_grow(module: ir.Module, host: PoolHost, worker: ir.Function) -> ir.Function:
    """i64 grow(pool, wanted): start workers up to `wanted`; how many there are in the end.

    Fewer than wanted when the system refuses a thread: the run then uses those it has.
    """
    function, b, (pool, wanted) = new_function(module, "grow", I64, [PTR, I64])
    attributes, blocked, previous = (b.alloca(OS_OBJECT) for _ in range(3))
    thread = b.alloca(I64)
    none = ir.Constant(PTR, None)
    sigmask = external(module, "pthread_sigmask", I32, [I32, PTR, PTR])
    sigdelset = external(module, "sigdelset", I32, [PTR, I32])
    b.call(external(module, "pthread_attr_init", I32, [PTR]), [attributes])
    b.call(
        external(module, "pthread_attr_setstacksize", I32, [PTR, I64]),
        [attributes, I64(STACK_BYTES)],
    )
    b.call(external(module, "sigfillset", I32, [PTR]), [blocked])
    for signal in host.fatal_signals:
        b.call(sigdelset, [blocked, I32(signal)])
    b.call(sigmask, [I32(host.set_mask), blocked, previous])
    first = b.load(at(b, pool, STARTED), typ=I64)

    start, look, create, started, leave = new_blocks(b, "look", "create", "started", "leave")
    b.branch(look)
    b.position_at_end(look)
    count = b.phi(I64, "count")
    count.add_incoming(first, start)
    b.cbranch(b.icmp_unsigned("<", count, wanted), create, leave)
    b.position_at_end(create)
    tid = b.add(count, I64(1))
    mailbox = _mailbox(b, pool, tid)
    b.store(pool, at(b, mailbox, MAIL_POOL))
    b.store(tid, at(b, mailbox, MAIL_TID))
    pthread_create = external(module, "pthread_create", I32, [PTR, PTR, PTR, PTR])
    refused = b.call(pthread_create, [thread, attributes, worker, mailbox])
    b.cbranch(b.icmp_unsigned("==", refused, I32(0)), started, leave)
    b.position_at_end(started)
    detach = external(module, "pthread_detach", I32, [I64])
    b.call(detach, [b.load(thread, typ=I64)])
    count.add_incoming(tid, started)
    b.branch(look)
    b.position_at_end(leave)
    b.call(sigmask, [I32(host.set_mask), previous, none])
    b.call(external(module, "pthread_attr_destroy", I32, [PTR]), [attributes])
    b.store(count, at(b, pool, STARTED))
    b.ret(count)
    return function


def _build_run(
    module: ir.Module, host: PoolHost, wait: ir.Function, wake: ir.Function, grow: ir.Function
) -> ir.Function:
    """The caller is thread 0. A busy pool is not waited for: the run goes on alone, which gives
    the same result. `active` counts the threads of all runs, also of those that are alone: while
    there are others, a run takes no more threads than they leave cores, as two that take turns on
    a core make each other wait at barriers."""
    function, b, (pool, entry, args, asked) = new_function(
        module, "tessel_pool_run", I64, [PTR, ENTRY_PTR, PTR, I64], exported=True
    )
    _, shared, free, staffed, alone, unlock_alone = new_blocks(
        b, "shared", "free", "staffed", "alone", "unlock_alone"
    )
    lock, active = at(b, pool, LOCK), at(b, pool, ACTIVE)
    cores = b.load(at(b, pool, CORES), typ=I64)
    b.cbranch(b.icmp_signed("<=", asked, I64(1)), alone, shared)

    b.position_at_end(shared)
    bounded = b.icmp_unsigned("<", asked, I64(MAX_THREADS))
    asked = b.select(bounded, asked, I64(MAX_THREADS))
    taken = b.atomic_rmw("xchg", lock, I64(1), "seq_cst")
    with b.if_then(b.icmp_unsigned("!=", taken, I64(0))):
        b.branch(alone)
    others = b.load_atomic(active, "seq_cst", 8, typ=I64)
    room = b.select(b.icmp_unsigned("==", others, I64(0)), asked, b.sub(cores, others))
    asked = b.select(b.icmp_signed("<", asked, room), asked, room)
    b.cbranch(b.icmp_signed("<=", asked, I64(1)), unlock_alone, free)

    b.position_at_end(free)
    wanted = b.sub(asked, I64(1))
    there = b.load(at(b, pool, STARTED), typ=I64)
    with b.if_else(b.icmp_unsigned("<", there, wanted)) as (short, enough):
        with short:
            grown, grown_in = b.call(grow, [pool, wanted]), b.block
        with enough:
            enough_in = b.block
    workers = b.phi(I64, "workers")
    workers.add_incoming(grown, grown_in)
    workers.add_incoming(wanted, enough_in)
    b.cbranch(b.icmp_unsigned("==", workers, I64(0)), unlock_alone, staffed)

    b.position_at_end(staffed)
    nthreads = b.add(workers, I64(1))
    pending, barrier = at(b, pool, PENDING_WORD), at(b, pool, BARRIER_WORD)
    b.store(entry, at(b, pool, ENTRY_AT))
    b.store(args, at(b, pool, ARGS_AT))
    b.store(nthreads, at(b, pool, NTHREADS_AT))
    _store_fp_mode(b, module, host, at(b, pool, FPMODE_AT))
    crowded = b.icmp_unsigned(">", nthreads, cores)
    # Spinning keeps the awaited thread off the core when there are more threads than cores.
    rounds = b.select(crowded, I64(CROWDED_ROUNDS), I64(BUSY_ROUNDS))
    b.store(I64(0), barrier)
    b.store(rounds, at(b, barrier, BARRIER_ROUNDS))
    b.store(I64(0), at(b, barrier, BARRIER_STOP))
    b.store(workers, pending)
    b.atomic_rmw("add", active, nthreads, "seq_cst")

    send, sent = b.append_basic_block("send"), b.append_basic_block("sent")
    b.branch(send)
    b.position_at_end(send)
    tid = b.phi(I64, "tid")
    mailbox = _mailbox(b, pool, tid)
    b.atomic_rmw("add", mailbox, I64(1), "seq_cst")
    b.call(wake, [mailbox])
    following = b.add(tid, I64(1))
    tid.add_incoming(I64(1), staffed)
    tid.add_incoming(following, send)
    b.cbranch(b.icmp_unsigned("<", following, nthreads), send, sent)

    b.position_at_end(sent)
    b.call(entry, [args, I64(0), nthreads, barrier])
    wait_until(b, pending, lambda value: b.icmp_unsigned("==", value, I64(0)), wait, rounds)
    b.atomic_rmw("sub", active, nthreads, "seq_cst")
    b.atomic_rmw("xchg", lock, I64(0), "seq_cst")
    b.ret(nthreads)

    b.position_at_end(unlock_alone)
    b.atomic_rmw("xchg", lock, I64(0), "seq_cst")
    b.branch(alone)
    b.position_at_end(alone)
    b.atomic_rmw("add", active, I64(1), "seq_cst")
    b.call(entry, [args, I64(0), I64(1), ir.Constant(PTR, None)])
    b.atomic_rmw("sub", active, I64(1), "seq_cst")
    b.ret(I64(1))
    return function


def _build_reset(module: ir.Module, kernel: FutexSleep | MutexSleep) -> ir.Function:
    """void tessel_pool_reset(pool, pauses, cores): a pool without workers.

    pauses   what this machine executes in ROUND_NS
    cores    more threads than these sleep at once when they wait
    """
    function, b, (pool, pauses, cores) = new_function(
        module, "tessel_pool_reset", VOID, [PTR, I64, I64], exported=True
    )
    b.call(external(module, "memset", PTR, [PTR, I32, I64]), [pool, I32(0), I64(STATE_BYTES)])
    b.store(pauses, module.globals[ROUND_SYMBOL])
    b.store(cores, at(b, pool, CORES))
    kernel.initialise(b)
    b.ret_void()
    return function


def _build_ask(module: ir.Module) -> ir.Function:
    """i64 tessel_pool_ask(): let Python's signal handlers run. What one raises waits in
    `tessel_pool_raised` {type, value, traceback}. For the thread that called from Python."""
    function, b, _ = new_function(module, "tessel_pool_ask", I64, [], exported=True)
    raised = zeroed(module, "tessel_pool_raised", ir.ArrayType(PTR, 3))
    state = b.call(external(module, "PyGILState_Ensure", I32, []), [])
    answer = b.call(external(module, "PyErr_CheckSignals", I32, []), [])
    with b.if_then(b.icmp_signed("!=", answer, I32(0)), likely=False):
        fetch = external(module, "PyErr_Fetch", VOID, [PTR, PTR, PTR])
        b.call(fetch, [at(b, raised, 8 * i) for i in range(3)])
    b.call(external(module, "PyGILState_Release", VOID, [I32]), [state])
    b.ret(b.sext(answer, I64))
    return function


def _store_fp_mode(b: ir.IRBuilder, module: ir.Module, host: PoolHost, field) -> None:
    """Rounding and flush-to-zero of the caller: a worker that kept its own would give results
    that depend on the thread count."""
    if host.arch in ("x86_64", "i686"):
        b.call(external(module, "llvm.x86.sse.stmxcsr", VOID, [PTR]), [field])
    elif host.arch in ("aarch64", "arm64"):
        b.store(b.call(external(module, "llvm.aarch64.get.fpcr", I64, []), []), field)


def _load_fp_mode(b: ir.IRBuilder, module: ir.Module, host: PoolHost, field) -> None:
    if host.arch in ("x86_64", "i686"):
        b.call(external(module, "llvm.x86.sse.ldmxcsr", VOID, [PTR]), [field])
    elif host.arch in ("aarch64", "arm64"):
        b.call(external(module, "llvm.aarch64.set.fpcr", VOID, [I64]), [b.load(field, typ=I64)])


def _mailbox(b: ir.IRBuilder, pool: ir.Value, tid: ir.Value) -> ir.Value:
    offset = b.add(b.mul(tid, I64(LINE)), I64(MAILBOXES))
    return b.gep(pool, [offset], inbounds=True, source_etype=I8)
