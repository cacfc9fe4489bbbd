"""Kernels with several codes, for different numbers of rows: which of them the entry takes.

All codes of a kernel take the same arguments. One function per kernel calls the code that a number
says, so that the entry has one call of it whatever the choice.
"""

from collections.abc import Callable, Sequence

import llvmlite.ir as ir

from ....classes import dataclass
from ..base.types import I64, VOID, i64
from ..kernel.codegen import KernelCode, function_type
from .work_stealing import piece_of

WHOLE = 1 << 40  # units of a piece where a part is not cut


@dataclass(frozen=True)
class Chosen:
    """The number of a code, its units, and the units of a piece."""

    number: ir.Value
    units: ir.Value
    piece: ir.Value


def choose(b: ir.IRBuilder, size: Callable, codes: Sequence[KernelCode]) -> Chosen:
    """The code whose schedule has the least rank for the sizes that there are."""
    best = None
    for i, code in enumerate(codes):
        here = Chosen(i64(i), size(code.units), i64(piece_of(code) or WHOLE))
        cost = size(code.schedule.rank)
        if best is None:
            best, least = here, cost
            continue
        better = b.icmp_signed("<", cost, least)
        least = b.select(better, cost, least)
        best = Chosen(
            b.select(better, here.number, best.number),
            b.select(better, here.units, best.units),
            b.select(better, here.piece, best.piece),
        )
    return best


def dispatcher(module: ir.Module, codes: Sequence[KernelCode], functions: Sequence) -> ir.Function:
    """A function of a kernel's arguments and the number of one of its codes, which it calls."""
    type = ir.FunctionType(VOID, [*function_type(codes[0]).args, I64])
    f = ir.Function(module, type, f"any_{codes[0].name}")
    f.linkage = "internal"
    f.attributes.add("noinline")
    *arguments, number = f.args
    blocks = [f.append_basic_block(f"code{i}") for i in range(len(codes) + 1)]
    b = ir.IRBuilder(blocks[0])
    switch = b.switch(number, blocks[1])
    for i, (function, block) in enumerate(zip(functions, blocks[1:])):
        if i:
            switch.add_case(i64(i), block)
        b.position_at_end(block)
        b.call(function, arguments)
        b.ret_void()
    return f
