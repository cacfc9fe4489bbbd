"""A kernel as Triton source text, in one of the shapes of `schedule.py`.

    emit(kernel, schedule) -> Source     text, function name, pointer types, number of programs

Sizes are baked in: the function's only arguments are pointers, in the order of `kernel.params`.
Equal kernels give equal text.
"""

import math
import re
from dataclasses import replace

from ...classes import dataclass
from ...kernels.kernel import Kernel
from .contraction import emit_dot
from .primitives import TYPES, Val, type_name
from .schedule import TritonSchedule
from .tile import INT32, NONE
from .values import TileEmitter

HEADER = "import triton\nimport triton.language as tl\n"


@dataclass(frozen=True)
class Source:
    """One kernel's text. `pointers` are Triton signatures such as `*fp32`, one per argument."""

    text: str
    name: str
    pointers: tuple[str, ...]
    programs: int
    num_warps: int
    num_stages: int

    def unnamed(self) -> "Source":
        """The same under a name that all have: what keys are made of, as machine code does not
        depend on what a kernel is called."""
        text = self.text.replace(f"def {self.name}(", "def kernel(", 1)
        return replace(self, text=text, name="kernel")


def emit(kernel: Kernel, schedule: TritonSchedule) -> Source:
    """The source of a flattened kernel. Raises UnsupportedError for types that a GPU lacks."""
    for b in kernel.params:
        type_name(b.dtype)
    names = {b: f"b{i}" for i, b in enumerate(kernel.params)}
    t = TileEmitter(names, schedule.blocks[:2])
    match schedule.kind:
        case "map" | "reduce":
            programs = _emit_outputs(t, kernel)
        case "row":
            programs = _emit_rows(t, kernel, schedule)
        case "contract":
            programs = emit_dot(t, kernel, schedule.dot, schedule.blocks, schedule.group)
        case "serial":
            programs = _emit_serial(t, kernel)
    name = re.sub(r"\W+", "_", kernel.name).strip("_") + "_kernel"
    head = f"@triton.jit\ndef {name}({', '.join(names.values())}):\n"
    body = "\n".join(t.lines)
    pointers = tuple(f"*{TYPES[b.dtype.name][2]}" for b in kernel.params)
    text = f"{HEADER}{_spaced(t.helpers())}\n\n{head}{body}\n"
    return Source(text, name, pointers, programs, schedule.num_warps, schedule.num_stages)


def _spaced(helpers: str) -> str:
    return "\n" + helpers.rstrip("\n") + "\n" if helpers else ""


def _start(t: TileEmitter, total: int, program: str) -> str:
    """Text of the first index of a program's block of tile dim 0."""
    block = t.blocks[0]
    if total <= block:
        return ""
    if total > INT32[1] - block:
        program = f"{program}.to(tl.int64)"
    return program if block == 1 else t.let(f"{program} * {block}", prefix="first").text


def _bind_outer(t: TileEmitter, axes, program: str) -> int:
    """Bind axes to tile dim 0 of this program; the number of programs that it takes."""
    total = math.prod(a.extent for a in axes)
    start = _start(t, total, program)
    t.bind(axes, t.index(0, start, total, total > INT32[1] - t.blocks[0]))
    return -(-total // t.blocks[0])


def _emit_outputs(t: TileEmitter, kernel: Kernel) -> int:
    """map and reduce: a block of outputs along tile dim 0."""
    t.line("program = tl.program_id(0)")
    programs = _bind_outer(t, kernel.axes, "program")
    for store in kernel.stores:
        t.store(store, frozenset([0]))
    return programs


def _emit_rows(t: TileEmitter, kernel: Kernel, schedule: TritonSchedule) -> int:
    """row: what depends on the outer axes only is computed first, then the row is stored."""
    outer = schedule.outer
    inner = tuple(a for a in kernel.axes if a not in outer)
    total, block = math.prod(a.extent for a in inner), t.blocks[1]
    t.line("program = tl.program_id(0)")
    row, splits = "program", schedule.splits
    if splits > 1:
        row = t.let(f"program // {splits}", NONE, "int32", "row").text
    programs = _bind_outer(t, outer, row) * splits
    for store in kernel.stores:
        t.hoist(store.exprs(), inner)
        with t.scope():
            t.lanes_taken = True
            if total <= block and splits == 1:
                t.bind(inner, t.index(1, "", total, False))
                t.store(store, frozenset([0, 1]))
                continue
            first, last = _share(t, total, block, splits)
            counter = t.name("k")
            with t.block(f"for {counter} in range({first}, {last}, {block}):"):
                t.bind(inner, t.index(1, counter, total, total > INT32[1] - block))
                t.store(store, frozenset([0, 1]))
    return programs


def _share(t: TileEmitter, total: int, block: int, splits: int) -> tuple[str, str]:
    """The part of a row that this program stores: whole blocks."""
    if splits == 1:
        return "0", str(total)
    share = -(-total // (block * splits)) * block
    first = t.let(f"program % {splits} * {share}", NONE, "int32", "first")
    last = t.let(f"tl.minimum({first.text} + {share}, {total})", NONE, "int32", "last")
    return first.text, last.text


def _emit_serial(t: TileEmitter, kernel: Kernel) -> int:
    """serial: a program walks all elements, of those axes that are not apart; a barrier after each
    store orders loads after it."""
    apart, axes = kernel.axes[: kernel.apart], list(kernel.axes[kernel.apart :])
    if apart:
        t.line("program = tl.program_id(0)")
        t.bind(apart, Val("program", NONE, "int32"))
    if kernel.reads_outputs:
        _serial_loop(t, kernel.stores, axes)
    else:
        for store in kernel.stores:
            _serial_loop(t, [store], axes)
    return math.prod(a.extent for a in apart)


def _serial_loop(t: TileEmitter, stores, axes: list) -> None:
    if not axes:
        for store in stores:
            with t.fresh():
                t.store(store, NONE)
                t.line("tl.debug_barrier()")
        return
    counter = t.name("k")
    with t.block(f"for {counter} in range({axes[0].extent}):"):
        t.bound[axes[0]] = t.let(f"tl.cast({counter}, tl.int32)", NONE, "int32", "i")
        _serial_loop(t, stores, axes[1:])


__all__ = ["Source", "emit"]
