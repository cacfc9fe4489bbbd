"""What a core can do at most: two loops that do nothing else, for `tessel bench --peak`.

    void tessel_peak_fma(ptr lines, i64 tid, i64 nthreads, ptr barrier)
    void tessel_peak_read(ptr lines, i64 tid, i64 nthreads, ptr barrier)

Both are entries as the worker pool runs them. Each thread has a line of eight 64-bit words: how
many rounds to make, where its data lies, how many steps of `READ` vectors that is; it writes when
it began and ended, in ns, and a result, so that the loop is not removed.

The first one multiplies and adds in registers only: as many accumulators as the target has room
for beside the operands, which is more than the latency of a multiply-add times the units that do
them (4 cycles, 2 units). The second one reads memory from its first byte to its last.
"""

from collections.abc import Callable

import llvmlite.ir as ir

from ....kernels.machine import Machine
from ..base.types import I8, I64, PTR, Splat, i64, suffix
from ..emit.scalar import intrinsic
from .clock import clock
from .pool_ir import ENTRY, declare_barrier

FMA, READ_ENTRY = "tessel_peak_fma", "tessel_peak_read"
WORDS = 8  # 64-bit words of a thread's line: one cache line, so that none is shared
ROUNDS, DATA, STEPS, BEGAN, ENDED, RESULT = range(6)
UNROLL = 4  # multiply-adds per accumulator and round
READ = 8  # vectors per step of the reading loop, each with an accumulator of its own


def accumulators(target: Machine) -> int:
    """Vectors that are summed into: 24 of 32 registers, 12 of 16."""
    return target.registers * 3 // 4


def flops_per_round(target: Machine) -> int:
    """What a round of the multiply-add loop computes, for one thread."""
    return 2 * target.lanes(32) * accumulators(target) * UNROLL


def bytes_per_step(target: Machine) -> int:
    """What a step of the reading loop reads."""
    return READ * target.vector_bytes


def peak_module(target: Machine) -> ir.Module:
    """The LLVM module of both entries."""
    module = ir.Module(name="tessel_peak")
    module.triple = target.triple
    meet = declare_barrier(module)
    _entry(module, FMA, meet, lambda b, line: _multiply_adds(b, line, target))
    _entry(module, READ_ENTRY, meet, lambda b, line: _reads(b, line, target))
    return module


def _entry(module: ir.Module, name: str, meet: ir.Function, body: Callable) -> None:
    """Meet the other threads, then time the body."""
    f = ir.Function(module, ENTRY, name)
    lines, tid, threads, barrier = f.args
    b = ir.IRBuilder(f.append_basic_block("entry"))
    line = b.gep(lines, [b.mul(tid, i64(WORDS))], source_etype=I64)
    b.call(meet, [barrier, threads])
    now = clock(module)
    # The body reads its operands from the line after the first call and leaves its result there
    # before the second: neither may pass a call that could change or read memory.
    b.store(b.call(now, []), _word(b, line, BEGAN))
    body(b, line)
    b.store(b.call(now, []), _word(b, line, ENDED))
    b.ret_void()


def _word(b: ir.IRBuilder, line: ir.Value, index: int) -> ir.Value:
    return b.gep(line, [i64(index)], source_etype=I64)


def _multiply_adds(b: ir.IRBuilder, line: ir.Value, target: Machine) -> None:
    lanes, single = target.lanes(32), ir.FloatType()
    type = ir.VectorType(single, lanes)
    fma = intrinsic(b.module, f"llvm.fma.{suffix(type)}", type, [type, type, type])
    rounds = b.load(_word(b, line, ROUNDS), typ=I64)
    # Unknown to LLVM, and tiny: sums must not reach infinity.
    seed = b.bitcast(b.load(_word(b, line, RESULT), typ=ir.IntType(32)), single)
    x = b.insert_element(ir.Constant(type, ir.Undefined), seed, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    x = b.shuffle_vector(x, x, zeros)
    # Different starts: equal accumulators would be made one.
    starts = [Splat(type, ir.Constant(single, float(i))) for i in range(accumulators(target))]

    def step(sums):
        for _ in range(UNROLL):
            sums = [b.call(fma, [x, x, acc]) for acc in sums]
        return sums

    total = starts[0]
    for acc in _loop(b, rounds, starts, lambda i, sums: step(sums)):
        total = b.fadd(total, acc)
    b.store(total, _scratch(b, type))


def _reads(b: ir.IRBuilder, line: ir.Value, target: Machine) -> None:
    lanes = target.lanes(64)
    type = ir.VectorType(I64, lanes)
    rounds, steps = (b.load(_word(b, line, k), typ=I64) for k in (ROUNDS, STEPS))
    data = b.load(_word(b, line, DATA), typ=PTR)
    zero = Splat(type, i64(0))

    def step(i, sums):
        start = b.mul(i, i64(bytes_per_step(target)))
        places = [b.add(start, i64(v * target.vector_bytes)) for v in range(READ)]
        loads = [
            b.load(b.gep(data, [p], source_etype=I8), typ=type, align=target.vector_bytes)
            for p in places
        ]
        return [b.xor(acc, x) for acc, x in zip(sums, loads)]

    def once(_, sums):
        return _loop(b, steps, sums, step)

    total = zero
    for acc in _loop(b, rounds, [zero] * READ, once):
        total = b.xor(total, acc)
    b.store(total, _scratch(b, type))


def _scratch(b: ir.IRBuilder, type: ir.Type) -> ir.Value:
    """Memory that every call might read: what is stored there must have been computed."""
    variable = b.module.globals.get("tessel_peak_sink")
    if variable is None:
        variable = ir.GlobalVariable(b.module, ir.ArrayType(I64, WORDS), "tessel_peak_sink")
        variable.initializer = ir.Constant(variable.value_type, None)
        variable.align = 64
    variable.type = PTR
    return variable


def _loop(b: ir.IRBuilder, count: ir.Value, starts: list, body: Callable) -> list:
    """`values = body(i, values)` for i < count (at least once); returns the last values."""
    before = b.block
    head, done = b.append_basic_block("loop"), b.append_basic_block("done")
    b.branch(head)
    b.position_at_end(head)
    i = b.phi(I64, "i")
    i.add_incoming(i64(0), before)
    phis = [b.phi(start.type) for start in starts]
    for phi, start in zip(phis, starts):
        phi.add_incoming(start, before)
    values = body(i, phis)
    following = b.add(i, i64(1))
    for phi, value in zip([i, *phis], [following, *values]):
        phi.add_incoming(value, b.block)
    b.cbranch(b.icmp_signed("<", following, count), head, done)
    b.position_at_end(done)
    return values
