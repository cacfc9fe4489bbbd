"""How many instructions generated code runs, counted from its loops: nothing is measured.

executed(program, target) -> instructions of all kernels, each block times the rounds of the
loops around it; of both sides of a branch; of an endless loop as if it took one turn. With
`updates`, outputs are written over inputs.
"""

from contextlib import contextmanager
from math import ceil, prod

import llvmlite.ir as ir
from tessel.compiler.backends.llvm.emit.emitter import Emitter
from tessel.compiler.backends.llvm.kernel import codegen
from tessel.compiler.backends.llvm.program.entry import build_plan
from tessel.compiler.backends.llvm.program.plan import Scheduled
from tessel.compiler.kernels.kernel import ENDLESS, For, Kernel, Program, walk_calls
from tessel.compiler.kernels.machine import Machine

FOLDED = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "udiv": lambda x, y: x // y,
    "sdiv": lambda x, y: x // y,
    "urem": lambda x, y: x % y,
    "srem": lambda x, y: x % y,
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "xor": lambda x, y: x ^ y,
}
COMPARED = {
    "slt": int.__lt__,
    "sgt": int.__gt__,
    "sle": int.__le__,
    "sge": int.__ge__,
    "eq": int.__eq__,
    "ne": int.__ne__,
}


class CountingEmitter(Emitter):
    """An emitter that notes for each block how often it runs. Units are those of one call."""

    units = 1

    def __init__(self, function: ir.Function, *args, **named):
        self.weights: dict[ir.Block, int] = {}
        self.now = 1
        append = function.append_basic_block

        def noted(name=""):
            block = append(name)
            self.weights[block] = self.now
            return block

        function.append_basic_block = noted
        super().__init__(function, *args, **named)

    @contextmanager
    def loop(self, start, stop, step=1, name="i"):
        outside = self.now
        rounds = ceil(max(0, self.number(stop) - self.number(start)) / step)
        with super().loop(start, stop, step, name) as i:
            self.now = outside * rounds
            self.weights[self.b.block] = self.now
            yield i
            self.now = outside

    def number(self, value: ir.Value) -> int:
        """The value of a loop's limit in the first round of the loops around it."""
        if isinstance(value, ir.Constant):
            return value.constant
        if isinstance(value, ir.Argument):
            return self.units if value.name == "end" else 0
        if isinstance(value, ir.PhiInstr):
            return self.number(value.incomings[0][0])
        if isinstance(value, ir.instructions.LoadInstr):
            return self.first_stored(value.operands[0])
        operands = [self.number(x) for x in value.operands]
        if isinstance(value, ir.instructions.SelectInstr):
            return operands[1] if operands[0] else operands[2]
        if isinstance(value, ir.instructions.ICMPInstr):
            return COMPARED[value.op](*operands)
        return FOLDED[value.opname](*operands)

    def first_stored(self, place: ir.Value) -> int:
        """What was stored first in a stack slot."""
        for block in self.function.blocks:
            for i in block.instructions:
                if isinstance(i, ir.instructions.StoreInstr) and i.operands[1] is place:
                    return self.number(i.operands[0])
        raise AssertionError(f"nothing was stored in {place}")


def instructions(kernel: Kernel, target: Machine) -> int:
    """What one run of a kernel executes."""
    code = codegen.schedule_kernel(kernel, target, frozenset(), in_place=False)
    made = []

    class Noted(CountingEmitter):
        units = code.units

        def __init__(self, *args, **named):
            super().__init__(*args, **named)
            made.append(self)

    usual, codegen.Emitter = codegen.Emitter, Noted
    try:
        codegen.kernel_module(code, target)
    finally:
        codegen.Emitter = usual
    return sum(len(b.instructions) * n for e in made for b, n in e.weights.items())


def executed(program: Program, target: Machine, updates: dict | None = None) -> int:
    """What a run of a program executes, at most."""

    total = 0
    for step, path in walk_calls(build_plan(program, target, updates).steps):
        if isinstance(step, Scheduled):
            loops = [x.trips for x in path if isinstance(x, For)]
            rounds = prod(1 if n == ENDLESS else n for n in loops)
            total += rounds * instructions(step.call.kernel, target)
    return total


__all__ = ["executed", "instructions"]
