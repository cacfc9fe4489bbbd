"""Reading a clock from generated code, for what times itself (peak, timestamps)."""

import time

import llvmlite.ir as ir

from ..base.types import I32, I64, PTR, i64

MONOTONIC = int(getattr(time, "CLOCK_MONOTONIC", 1))
THREAD = int(getattr(time, "CLOCK_THREAD_CPUTIME_ID", MONOTONIC))


def clock(module: ir.Module, which: int = MONOTONIC) -> ir.Function:
    """`i64 tessel_clock()`: nanoseconds since some moment, the same for all threads. Those of
    `THREAD` are its own: they stand still while others have the core.

    `clock_gettime` rather than a cycle counter: it needs no calibration, and it may be read by
    programs on every machine. On Linux it is no system call and costs about 30 ns; that of
    `THREAD` is one.
    """
    name = "tessel_clock"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(I64, []), name)
    function.linkage = "internal"
    b = ir.IRBuilder(function.append_basic_block())
    read = ir.Function(module, ir.FunctionType(I32, [I32, PTR]), "clock_gettime")
    moment = b.alloca(ir.ArrayType(I64, 2))  # struct timespec: seconds, nanoseconds
    moment.type = PTR
    b.call(read, [ir.Constant(I32, which), moment])
    seconds = b.load(moment, typ=I64)
    rest = b.load(b.gep(moment, [i64(8)], source_etype=ir.IntType(8)), typ=I64)
    b.ret(b.add(b.mul(seconds, i64(10**9)), rest))
    return function
