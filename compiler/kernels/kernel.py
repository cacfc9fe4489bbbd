"""Loops: one `Kernel` = parallel axes, and stores of scalar expressions at index maps.

    kernel NAME(BUFFER: TYPE, …) {
      for AXIS<EXTENT, …            # parallel, in any order
        BUFFER[index, …] = expr     # expr may hold reductions: sum:f32(k<64; a[i, k] * b[k, j])
    }

A reduction's free axes say at which loop level it is computed; the schedule decides the rest
(`compiler/kernels/tiling.py`). `Program` is the whole model: kernels in order, with control flow.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import Any

import numpy as np

from ..classes import dataclass
from ..expr import expr as s
from ..expr.expr import Axis, Buffer, Expr
from ..ir.bounds import size_hint
from ..ir.dims import Sym
from ..ir.types import Type
from ..system.concurrency import lazy


@dataclass(frozen=True)
class Store:
    """`buffer[index] = value`, where `where` holds (None: always).

    `mode`: set, or how it combines with what is there (add, mul, max, min: scatter).
    """

    buffer: Buffer
    index: tuple[Expr, ...]
    value: Expr
    where: Expr | None = None
    mode: str = "set"

    def exprs(self) -> tuple[Expr, ...]:
        return (*self.index, self.value, *(() if self.where is None else (self.where,)))


@dataclass(eq=False)
class Kernel:
    """`serial` kernels (scatters whose places may collide) run in order: their stores too, so that
    each sees what was stored before it. The rounds of their first `apart` axes touch different
    places, so that threads may share those.

    `origins` are addresses in the user's model of the nodes that were fused into it.
    """

    name: str
    axes: tuple[Axis, ...]
    stores: tuple[Store, ...]
    serial: bool = False
    origins: tuple[str, ...] = ()
    inputs: tuple[Buffer, ...] = field(init=False)
    outputs: tuple[Buffer, ...] = field(init=False)
    sources: tuple[Buffer, ...] = ()  # after flattening: the original buffers of `params`
    apart: int = 0

    def __post_init__(self) -> None:
        roots = [e for st in self.stores for e in st.exprs()]
        loads = dict.fromkeys(e.data for e in s.walk(*roots) if e.op == "load")
        self.outputs = tuple(dict.fromkeys(st.buffer for st in self.stores))
        self.inputs = tuple(b for b in loads if b not in self.outputs)

    @property
    def params(self) -> tuple[Buffer, ...]:
        """Inputs, then outputs: the order of the generated function's pointers."""
        return self.inputs + self.outputs

    @property
    def reads_outputs(self) -> bool:
        """Whether it loads from what it stores."""
        loads = (e.data for e in s.walk(*self.roots()) if e.op == "load")
        return any(b in self.outputs for b in loads)

    def roots(self) -> list[Expr]:
        return [e for st in self.stores for e in st.exprs()]

    def text(self, name: str | None = None, numbers: Mapping[Expr, str] | None = None) -> str:
        """Canonical text: equal kernels, whatever their buffers are called, print alike. `numbers`
        are names for constants."""
        names: dict = {b: f"b{i}" for i, b in enumerate(self.params)} | dict(numbers or {})
        axes: list[Axis] = list(self.axes)
        for e in s.walk(*self.roots()):
            if e.op == "reduce":
                axes += e.data[1]
        for i, a in enumerate(dict.fromkeys(axes)):
            names[a] = f"i{i}"
        params = ", ".join(f"{names[b]}: {b.type}" for b in self.params)
        loops = ", ".join(f"{names[a]}<{a.extent}" for a in self.axes)
        lines = [f"{'serial ' if self.serial else ''}kernel {name or 'k'}({params}) {{"]
        apart = f", of which {self.apart} apart" if self.apart else ""
        lines.append(f"  for {loops}{apart}")
        uses: dict[Expr, int] = {}
        for e in s.walk(*self.roots()):
            for a in e.args:
                uses[a] = uses.get(a, 0) + 1
        for e in s.walk(*self.roots()):
            if uses.get(e, 0) > 1 and e.op not in ("axis", "const"):
                lines.append(f"    let t{len(lines)} = {s.show(e, names)}")
                names[e] = f"t{len(lines) - 1}"
        for st in self.stores:
            index = ", ".join(s.show(i, names) for i in st.index)
            sign = "=" if st.mode == "set" else f"{st.mode}="
            guard = "" if st.where is None else f" where {s.show(st.where, names)}"
            lines.append(f"    {names[st.buffer]}[{index}] {sign} {s.show(st.value, names)}{guard}")
        return "\n".join([*lines, "}"])

    @lazy
    def written(self) -> str:
        """Its text, kept: names of code follow from it."""
        return self.text()

    def __str__(self) -> str:
        return self.text(self.name)


# -- programs ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slot:
    """A place in memory: `kind` is input, output, weight, arena or record (what a run notes,
    `checks.py`); `index` its number there."""

    kind: str
    index: int


@dataclass(frozen=True)
class Ref:
    """A buffer of a step: `offset` bytes into a slot, plus `step` bytes per round of a loop.

    `steps` = ((loop id, bytes), …): how the place moves with each enclosing `For`.
    """

    slot: Slot
    offset: int = 0
    steps: tuple[tuple[int, int], ...] = ()


@dataclass(eq=False)
class Call:
    """Run a kernel; `refs` are the places of `kernel.params`, in order.

    Calls of one `group` write different parts of one buffer, in any order.
    """

    kernel: Kernel
    refs: tuple[Ref, ...]
    group: int | None = None


@dataclass(eq=False)
class HostCallback:
    """Run a kernel written by hand in Python (listed by `explain`)."""

    op: str
    function: Callable | int  # in a plan of machine code: its number
    attrs: dict[str, Any]
    inputs: tuple[Ref | None, ...]
    input_types: tuple[Type | None, ...]
    outputs: tuple[Ref, ...]
    output_types: tuple[Type, ...]
    origin: str = ""


ENDLESS = 1 << 62  # trips of a loop that nothing but its condition ends
GUESS = 16  # rounds of such a loop, for estimates of time


@dataclass(eq=False)
class For:
    """Repeat `body` `trips` times; `id` names the loop in Refs.

    With a `condition`, a bool that the body writes: for as long as it is true before a turn.
    """

    id: int
    trips: int | Sym
    body: "list[Step]"
    condition: Ref | None = None

    @property
    def rounds(self) -> int | Sym:
        """How often the body runs; a guess where only the run knows."""
        return self.trips if self.condition is None else min(size_hint(self.trips), GUESS)


@dataclass(eq=False)
class If:
    """Run `then` if the bool at `condition` is true, else `orelse`."""

    condition: Ref
    then: "list[Step]"
    orelse: "list[Step]"


Step = Call | HostCallback | For | If
Path = tuple[For | If, ...]  # loops and branches around a step, the outermost first


@dataclass(eq=False)
class Program:
    """A whole model, lowered. Sizes in bytes; weights are arrays in the order of their slots.

    Where sizes are open, extents, strides and shapes are dims.
    """

    steps: list[Step]
    inputs: list[Type]
    outputs: list[Type]
    weights: list[np.ndarray]
    arena: int
    fusions: list = field(default_factory=list)  # what fuse.py decided, one per region
    slots: tuple[int | Sym, ...] = ()  # where sizes are open: the bytes of the arena's slots, dims
    conditions: tuple = ()  # (a, b): it is right where a > b, dims
    equations: tuple = ()  # (a, b): and where a == b
    checks: tuple = ()  # what its record says (`run_checks.py`), in the order of its words

    def kernels(self) -> Iterator[Call]:
        """Every call, also those inside loops and branches."""
        return (step for step in walk_steps(self.steps) if isinstance(step, Call))


# -- walks ---------------------------------------------------------------------------------
#
# A call is any step but a loop or a branch. A backend's own records of calls (a kernel with its
# code, a launch) stand among loops and branches like those above, and are walked alike.


def walk_steps(steps: Iterable) -> Iterator:
    """Every step, also inside loops and branches: first the loop or branch, then what is in it."""
    for step in steps:
        yield step
        match step:
            case For(body=body):
                yield from walk_steps(body)
            case If(then=then, orelse=orelse):
                yield from walk_steps(then)
                yield from walk_steps(orelse)


def walk_calls(steps: Iterable, path: Path = ()) -> Iterator[tuple[Any, Path]]:
    """Every call in order, and the loops and branches around it, the outermost first."""
    for step in steps:
        match step:
            case For(body=body):
                yield from walk_calls(body, (*path, step))
            case If(then=then, orelse=orelse):
                yield from walk_calls(then, (*path, step))
                yield from walk_calls(orelse, (*path, step))
            case _:
                yield step, path


def run_order(
    steps: Iterable, holds: Callable[[Any, Mapping[int, int]], bool], turns: Mapping[int, int] = {}
) -> Iterator[tuple[Any, Mapping[int, int]]]:
    """The calls that a run makes, one after the other, each with the turns of the loops around it
    by their ids. `holds(place, turns)` reads a condition, when the run has come there."""
    for step in steps:
        match step:
            case For(id=loop, trips=trips, body=body, condition=condition):
                for turn in range(trips):  # type: ignore[arg-type]  # for all sizes: TypeError
                    if condition is not None and not holds(condition, turns):
                        break
                    yield from run_order(body, holds, {**turns, loop: turn})
            case If(condition=condition, then=then, orelse=orelse):
                yield from run_order(then if holds(condition, turns) else orelse, holds, turns)
            case _:
                yield step, turns


def map_steps(
    steps: Iterable,
    change: Callable[[Any, Path], Any],
    place: Callable[[Any], Any] = lambda place: place,
    size: Callable[[Any], Any] = lambda dim: dim,
    path: Path = (),
) -> list:
    """The steps with `change(call, path)` in place of each call (None: nothing). `path` are the
    loops and branches around it, the outermost first; `place` and `size` change the places that
    decide about loops and branches, and loops' trips."""
    made: list = []
    for step in steps:
        inside = lambda body, step=step: map_steps(body, change, place, size, (*path, step))
        match step:
            case For(trips=trips, body=body, condition=condition):
                body = inside(body)
                condition = None if condition is None else place(condition)
                made.append(replace(step, trips=size(trips), body=body, condition=condition))
            case If(condition=condition, then=then, orelse=orelse):
                made.append(If(place(condition), inside(then), inside(orelse)))
            case _:
                made += [] if (changed := change(step, path)) is None else [changed]
    return made


def reads_of(step: Step) -> tuple:
    """The places that a step itself reads; of a loop or a branch, the one that decides."""
    match step:
        case Call(kernel=kernel, refs=refs):
            return refs[: len(kernel.inputs)]
        case HostCallback(inputs=inputs):
            return tuple(p for p in inputs if p is not None)
    return () if step.condition is None else (step.condition,)


def writes_of(step: Step) -> tuple:
    """The places that a step itself writes."""
    match step:
        case Call(kernel=kernel, refs=refs):
            return refs[len(kernel.inputs) :]
        case HostCallback(outputs=outputs):
            return outputs
    return ()


def with_places(call: Call | HostCallback, place: Callable[[Any], Any]) -> Call | HostCallback:
    """The call at other places."""
    if isinstance(call, Call):
        return replace(call, refs=tuple(map(place, call.refs)))
    inputs = tuple(None if p is None else place(p) for p in call.inputs)
    return replace(call, inputs=inputs, outputs=tuple(map(place, call.outputs)))
