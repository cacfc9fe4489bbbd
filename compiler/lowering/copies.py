"""Copies between places, and outputs that take over the memory of inputs.

An output that is an update of an input (`w` after a training step) is written over it. That is
right as long as nobody needs the old value any more: no later step reads it, and the step that
writes reads only the element that it replaces. Where it is not, the output is computed elsewhere
and copied at the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..errors import UnsupportedError
from ..expr import expr as s
from ..expr.expr import Axis, Buffer
from ..ir.types import STR, TensorType
from ..kernels.kernel import (
    Call,
    HostCallback,
    Kernel,
    Store,
    map_steps,
    reads_of,
    walk_steps,
    with_places,
    writes_of,
)
from ..kernels.simplify import merge_axes
from .memory import Place, Storage


def copy_steps(source: Place, target: Place, type) -> list[Call | HostCallback]:
    """The step that copies a tensor; none if it is empty.

    Raises UnsupportedError for sequences and maps.
    """
    if isinstance(type, TensorType) and type.dtype == STR:
        if source.steps or target.steps:
            raise UnsupportedError(
                "a loop cannot carry strings from one iteration to the next", received=type
            )
        return [HostCallback("identity", np.array, {}, (source,), (type,), (target,), (type,))]
    if not isinstance(type, TensorType):
        raise UnsupportedError(
            "sequences and maps cannot be copied from one output to another",
            received=type,
            fix="return what an op makes of them, once",
        )
    x, y = Buffer("x", type), Buffer("y", type)
    axes = tuple(Axis("i", d) for d in type.shape)
    index = tuple(s.axis(a) for a in axes)
    kernel = merge_axes(Kernel("copy", axes, (Store(y, index, x[index]),)))
    return [Call(kernel, (source, target))] if all(a.extent for a in kernel.axes) else []


def zero_steps(target: Place, type: TensorType) -> list[Call]:
    """The step that fills a tensor with zeros; none if it is empty."""
    y = Buffer("y", type)
    axes = tuple(Axis("i", d) for d in type.shape)
    zero = s.cast(s.const(0, type.dtype.compute), type.dtype)
    kernel = merge_axes(Kernel("zero", axes, (Store(y, tuple(s.axis(a) for a in axes), zero),)))
    return [Call(kernel, (target,))] if all(a.extent for a in kernel.axes) else []


def keep_old_values(
    steps: list,
    inputs: Sequence[Place],
    outputs: Sequence[Place],
    types: Sequence,
    updates: Mapping[int, int],
) -> list:
    """The steps, with outputs that would be written over their inputs too early moved aside.

    `updates[i] = j`: output i, of types[i], takes over the memory of input j.
    """
    copies = []
    for i, j in updates.items():
        if _is_too_early(steps, outputs[i].storage, inputs[j].storage):
            spare = Place(Storage.of(types[i], "arena"))
            steps = _moved(steps, outputs[i].storage, spare.storage)
            copies += copy_steps(spare, outputs[i], types[i])
    return steps + copies


def _is_too_early(steps: list, new: Storage, old: Storage) -> bool:
    """Whether somebody reads `old` when some of `new` is written already."""
    written = False
    for step in steps:
        inner = list(walk_steps([step]))
        reads = any(p.storage is old for x in inner for p in reads_of(x))
        if written and reads:
            return True
        if any(p.storage is new for x in inner for p in writes_of(x)):
            if reads and not (isinstance(step, Call) and _is_elementwise(step, new, old)):
                return True
            written = True
    return False


def _is_elementwise(call: Call, new: Storage, old: Storage) -> bool:
    """Whether the kernel reads of `old` only the element of `new` that it stores."""
    where = dict(zip(call.kernel.params, call.refs))
    return all(
        e.args == store.index
        and where[e.data].steps == where[store.buffer].steps
        and where[e.data].offset == where[store.buffer].offset
        for store in call.kernel.stores
        for e in s.walk(*store.exprs())
        if e.op == "load" and where[e.data].storage is old
    )


def _moved(steps: list, old: Storage, new: Storage) -> list:
    """The steps with another storage in place of one."""
    place = lambda p: replace(p, storage=new) if p.storage is old else p
    return map_steps(steps, lambda call, _: with_places(call, place), place)
