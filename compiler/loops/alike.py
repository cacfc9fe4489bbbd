"""Kernels of a program that differ only in numbers become one, which reads them from memory.

    b[i] = max(a[i] * 0.5, 0)       =>      b[i] = max(a[i] * c[0], 0)       c = [0.5], [0.25]
    b[i] = max(a[i] * 0.25, 0)

Scales of quantized models are such numbers: one kernel is compiled for all layers of one shape.
What is the same in all of them stays a number in the code.
"""

from dataclasses import replace

import numpy as np

from ..types import F32, TensorType
from . import expr as s
from .expr import Buffer, Expr
from .nest import Call, For, If, Kernel, Program, Ref, Slot


def alike(program: Program) -> Program:
    """The program with one kernel in place of those that differ in numbers of f32."""
    groups: dict[str, dict[int, tuple[Kernel, list[Expr]]]] = {}
    for call in program.kernels():
        numbers = _numbers(call.kernel)
        if numbers:
            names = {x: f"c{i}:{x.dtype}" for i, x in enumerate(numbers)}
            same = groups.setdefault(call.kernel.text(numbers=names), {})
            same[id(call.kernel)] = call.kernel, numbers
    made: dict[int, tuple[Kernel, Ref]] = {}
    weights = list(program.weights)
    for group in groups.values():
        _join(list(group.values()), made, weights)
    if not made:
        return program
    return replace(program, steps=_exchanged(program.steps, made), weights=weights)


def _numbers(kernel: Kernel) -> list[Expr]:
    """The numbers of f32 in a kernel, each once, in the order in which they are met."""
    return [x for x in s.walk(*kernel.roots()) if x.op == "const" and x.dtype == F32]


def _join(group: list, made: dict, weights: list) -> None:
    """What each kernel of a group becomes, by its id, with the place of its numbers."""
    columns = zip(*([x.data for x in numbers] for _, numbers in group))
    differ = [i for i, column in enumerate(columns) if len(set(map(repr, column))) > 1]
    if not differ:
        return
    type = TensorType(F32, (len(differ),))
    places: dict[bytes, Ref] = {}
    for kernel, numbers in group:
        array = np.array([numbers[i].data for i in differ], np.float32)
        key = array.tobytes()
        if key not in places:
            places[key] = Ref(Slot("weight", len(weights)))
            weights.append(array)
        buffer = Buffer("numbers", type)
        loads = {numbers[i]: s.load(buffer, [place]) for place, i in enumerate(differ)}
        made[id(kernel)] = _with_loads(kernel, loads), places[key]


def _with_loads(kernel: Kernel, loads: dict[Expr, Expr]) -> Kernel:
    memo: dict = {}
    read = lambda e: s.transform(e, loads.get, memo)
    stores = [
        replace(
            st, index=tuple(map(read, st.index)), value=read(st.value),
            where=None if st.where is None else read(st.where),
        )
        for st in kernel.stores
    ]  # fmt: skip
    result = Kernel(kernel.name, kernel.axes, tuple(stores), kernel.serial, kernel.origins)
    sources = dict(zip(kernel.params, kernel.sources))
    result.sources = tuple(sources.get(b, b) for b in result.params)
    return result


def _exchanged(steps: list, made: dict) -> list:
    return [_step(step, made) for step in steps]


def _step(step, made: dict):
    match step:
        case For():
            return replace(step, body=_exchanged(step.body, made))
        case If():
            then, orelse = (_exchanged(x, made) for x in (step.then, step.orelse))
            return replace(step, then=then, orelse=orelse)
        case Call() if id(step.kernel) in made:
            kernel, place = made[id(step.kernel)]
            where = dict(zip(step.kernel.params, step.refs))
            return replace(
                step, kernel=kernel, refs=tuple(where.get(b, place) for b in kernel.params)
            )
    return step
