"""LLVM IR -> object code: which passes run, and how much effort goes into code generation.

Apart from the rest of the generator, since processes that only compile text need nothing else.
"""

from enum import IntEnum

import llvmlite.binding as llvm

from ....kernels.machine import Machine
from ..base.target import dispose, machine, pass_builder


class Passes(IntEnum):
    """Which of LLVM's passes run over a module."""

    FEW = 1
    MOST = 2  # those over functions: a kernel is one, and those over modules would do them again
    ALL = 3


def parse(module) -> llvm.ModuleRef:
    """Parse and verify LLVM IR: text, or a module of `llvmlite.ir`."""
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    return parsed


def optimize(module, target: Machine, passes: Passes = Passes.ALL) -> llvm.ModuleRef:
    """Parse, verify and run LLVM's scalar passes; vectors and unrolling are already chosen."""
    parsed = parse(module)
    builder = pass_builder(target)
    if passes == Passes.FEW:
        pipeline, over = _few(), [parsed]
    elif passes == Passes.MOST:
        pipeline = builder.getFunctionPassManager()
        over = [f for f in parsed.functions if not f.is_declaration]
    else:
        pipeline, over = builder.getModulePassManager(), [parsed]
    try:
        for part in over:
            pipeline.run(part, builder)
    finally:
        dispose(pipeline)
    return parsed


def _few():
    """The passes without which code would be poor: they take a quarter of the time of most. What
    the others do, the generator has mostly done itself: hoist, unroll, reuse."""
    manager = llvm.create_new_module_pass_manager()
    manager.add_sroa_pass()
    manager.add_simplify_cfg_pass()
    # Values before instructions: what the other order leaves of stores to a tile that registers
    # cannot hold has made LLVM 22's numbering of values abort the process.
    manager.add_new_gvn_pass()
    manager.add_instruction_combine_pass()
    manager.add_simplify_cfg_pass()
    return manager


def object_code(module, target: Machine, passes: Passes = Passes.ALL, level: int = 2) -> bytes:
    """Machine code of a module, as an object file; `level` is that of LLVM's code generator."""
    return machine(target, level).emit_object(optimize(module, target, passes))
