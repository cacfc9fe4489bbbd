"""Dynamic dims filled in: a kernel or a program for one combination of sizes.

    bind(program, {"N": 4})      a program without dynamic dims, for what needs numbers
    hint_specialized(kernel)     the kernel with the sizes to expect, and which axis is which

Schedules are chosen by looking at the specialized kernel; what they decide holds for the kernel of
any size.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from ..expr import expr as s
from ..expr.expr import Axis, Buffer, Expr
from ..ir import dims
from ..ir.bounds import size_hint
from ..ir.types import TensorType
from .kernel import Call, HostCallback, Kernel, Program, Ref, Slot, Store, map_steps, with_places
from .machine import place_slots


def hint_specialized(kernel: Kernel) -> tuple[Kernel, dict[Axis, Axis], dict[Buffer, Buffer]]:
    """The kernel with the sizes to expect, and its axes and buffers by the kernel's own."""
    return bind_kernel(kernel, size_hint)


def bind_kernel(kernel: Kernel, size: Callable) -> tuple[Kernel, dict[Axis, Axis], dict]:
    """The kernel with `size(dim)` for every dim, and its axes and buffers by the kernel's own.

    Axes are kept even where their extent becomes 1.
    """
    axes: dict[Axis, Axis] = {}
    buffers: dict[Buffer, Buffer] = {}
    memo: dict[Expr, Expr] = {}

    def axis(a: Axis) -> Axis:
        if a not in axes:
            axes[a] = Axis(a.name, size(a.extent))
        return axes[a]

    def buffer(b: Buffer) -> Buffer:
        if b not in buffers:
            shape = tuple(size(d) for d in b.shape)
            buffers[b] = Buffer(b.name, TensorType(b.dtype, shape))
        return buffers[b]

    def visit(e: Expr) -> Expr | None:
        match e.op:
            case "axis":
                return s.make("axis", (), axis(e.data), s.I64)
            case "size":
                return s.const(size(e.data))
            case "load":
                index = tuple(s.transform(i, visit, memo) for i in e.args)
                return s.make("load", index, buffer(e.data), e.dtype)
            case "reduce":
                body = s.transform(e.args[0], visit, memo)
                own = tuple(axis(a) for a in e.data[1])
                return s.make("reduce", (body,), (e.data[0], own), e.dtype)
        return None

    def bound(e: Expr) -> Expr:
        return s.transform(e, visit, memo)

    stores = tuple(
        Store(
            buffer(st.buffer),
            tuple(map(bound, st.index)),
            bound(st.value),
            None if st.where is None else bound(st.where),
            st.mode,
        )
        for st in kernel.stores
    )
    own = tuple(axis(a) for a in kernel.axes)
    for b in (*kernel.params, *kernel.sources):
        buffer(b)
    specialized = Kernel(
        kernel.name, own, stores, kernel.serial, kernel.origins, apart=kernel.apart
    )
    specialized.sources = tuple(buffers[b] for b in kernel.sources)
    return specialized, axes, buffers


def is_dynamic(kernel: Kernel) -> bool:
    """Whether sizes of the kernel are open."""
    return bool(symbols_of(kernel))


def symbols_of(kernel: Kernel) -> tuple[str, ...]:
    """The names of the sizes that the kernel's code needs, in order."""
    found = set().union(*(dims.symbols(a.extent) for a in kernel.axes))
    for e in s.walk(*kernel.roots()):
        if e.op == "size":
            found |= dims.symbols(e.data)
        elif e.op == "reduce":
            found = found.union(*(dims.symbols(a.extent) for a in e.data[1]))
    return tuple(sorted(found))


def bind(program: Program, sizes: Mapping[str, int]) -> Program:
    """The program for one combination of sizes."""

    def size(d):
        return dims.substitute(d, sizes)

    starts, arena = place_slots(program.slots, sizes)

    def ref(r: Ref) -> Ref:
        slot, first = r.slot, 0
        if r.slot.kind == "arena" and program.slots:
            slot, first = Slot("arena", 0), starts[r.slot.index]
        moves = tuple((loop, size(n)) for loop, n in r.steps)
        return Ref(slot, first + size(r.offset), moves)

    def call(step: Call | HostCallback, _) -> Call | HostCallback:
        if not isinstance(step, Call):
            return with_places(step, ref)
        bound, _, buffers = bind_kernel(step.kernel, size)
        places = {buffers[b]: ref(r) for b, r in zip(step.kernel.params, step.refs)}
        return Call(bound, tuple(places[b] for b in bound.params), step.group)

    return replace(
        program,
        steps=map_steps(program.steps, call, ref, size),
        inputs=[t.substitute(sizes) for t in program.inputs],
        outputs=[t.substitute(sizes) for t in program.outputs],
        arena=program.arena if not program.slots else arena,
        slots=(),
        conditions=(),
        equations=(),
    )
