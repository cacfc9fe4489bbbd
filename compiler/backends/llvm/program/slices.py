"""A loop around one kernel, to time it by itself.

    void slice(ptr table, i64 sets, i64 times)

calls the kernel `times` times with all of its units. `table` has `sets` rows of pointers, each the
kernel's parameters, packed constant and scratch; the calls take them in turn, so that weights come
from as far away as they do in a model.
"""

import llvmlite.ir as ir

from ....kernels.machine import Machine
from ..base.types import I64, PTR, VOID, i64
from ..kernel.codegen import KernelCode

SLICE = "slice"


def pointers_of(code: KernelCode) -> int:
    """Pointers in a row of the table."""
    return len(code.params) + 2


def slice_module(code: KernelCode, target: Machine) -> ir.Module:
    """The LLVM module of the loop, which needs the kernel's."""
    module = ir.Module(name=SLICE)
    module.triple = target.triple
    count = pointers_of(code)
    kernel = ir.Function(module, ir.FunctionType(VOID, [PTR] * count + [I64, I64]), code.name)
    f = ir.Function(module, ir.FunctionType(VOID, [PTR, I64, I64]), SLICE)
    table, sets, times = f.args
    b = ir.IRBuilder(f.append_basic_block("entry"))
    entry, loop, done = b.block, f.append_basic_block("loop"), f.append_basic_block("done")
    b.branch(loop)
    b.position_at_end(loop)
    i = b.phi(I64, "i")
    i.add_incoming(i64(0), entry)
    first = b.mul(b.urem(i, sets), i64(count))
    places = [b.gep(table, [b.add(first, i64(n))], source_etype=PTR) for n in range(count)]
    b.call(kernel, [*(b.load(p, typ=PTR) for p in places), i64(0), i64(code.units)])
    following = b.add(i, i64(1))
    i.add_incoming(following, loop)
    b.cbranch(b.icmp_signed("<", following, times), loop, done)
    b.position_at_end(done)
    b.ret_void()
    return module
