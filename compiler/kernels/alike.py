"""Kernels of a program that differ only in numbers become one, which reads them from memory.

    b[i] = max(a[i] * 0.5, 0)       =>      b[i] = max(a[i] * c[0], 0)       c = [0.5], [0.25]
    b[i] = max(a[i] * 0.25, 0)

Scales of quantized models are such numbers: one kernel is compiled for all layers of one shape.
What is the same in all of them stays a number in the code. Where in a buffer a kernel stores is no
part of it either: the four edges of a padded image are written by two kernels.

    b[i + 40] = 0                   =>      b'[i] = 0                      b' = b from 40 on
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..expr import expr as s
from ..expr.expr import Buffer, Expr
from ..ir.dims import Sym
from ..ir.types import F32, TensorType
from .kernel import Call, Kernel, Program, Ref, Slot, map_steps


def alike(program: Program) -> Program:
    """The program with one kernel in place of those that differ in where they store and in numbers
    of f32."""
    program = replace(program, steps=_each(program.steps, _from_its_start))
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

    def exchanged(call: Call) -> Call:
        if id(call.kernel) not in made:
            return call
        kernel, place = made[id(call.kernel)]
        where = dict(zip(call.kernel.params, call.refs))
        return replace(call, kernel=kernel, refs=tuple(where.get(b, place) for b in kernel.params))

    return replace(program, steps=_each(program.steps, exchanged), weights=weights)


def _from_its_start(call: Call) -> Call:
    """The call with a buffer to store to that begins and ends where the kernel stores."""
    kernel = call.kernel
    store, *others = kernel.stores
    old = store.buffer
    read = any(e.op == "load" and e.data is old for e in s.walk(*kernel.roots()))
    if others or read or store.mode != "set" or len(store.index) != 1:
        return call
    low, high = s.bounds(store.index[0])
    if any(isinstance(n, Sym) for n in (low, high, *old.shape)):
        return call
    if not 0 <= low <= high < old.shape[0] or (low, high) == (0, old.shape[0] - 1):
        return call
    new = Buffer(old.name, TensorType(old.dtype, (high - low + 1,)))
    index = (s.sub(store.index[0], low),) if high > low else (s.const(0),)
    store = replace(store, buffer=new, index=index)
    moved = replace(kernel, stores=(store,))
    *refs, place = call.refs
    place = replace(place, offset=place.offset + low * old.dtype.bytes)
    return replace(call, kernel=moved, refs=(*refs, place))


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
            st,
            index=tuple(map(read, st.index)),
            value=read(st.value),
            where=None if st.where is None else read(st.where),
        )
        for st in kernel.stores
    ]
    result = replace(kernel, stores=tuple(stores))
    sources = dict(zip(kernel.params, kernel.sources))
    result.sources = tuple(sources.get(b, b) for b in result.params)
    return result


def _each(steps: list, change: Callable[[Call], Call]) -> list:
    """The steps with other calls of kernels."""
    return map_steps(steps, lambda step, _: change(step) if isinstance(step, Call) else step)
