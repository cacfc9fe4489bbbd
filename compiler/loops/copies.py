"""Copies between places, and outputs that take over the memory of inputs.

An output that is an update of an input (`w` after a training step) is written over it. That is
right as long as nobody needs the old value any more: no later step reads it, and the step that
writes reads only the element that it replaces. Where it is not, the output is computed elsewhere
and copied at the end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..errors import UnsupportedError
from ..types import STR, TensorType
from . import expr as s
from .expr import Axis, Buffer
from .memory import Place, Storage
from .nest import Call, ExternCall, For, If, Kernel, Store
from .simplify import merge_axes


def copy_steps(source: Place, target: Place, type) -> list[Call | ExternCall]:
    """The step that copies a tensor; none if it is empty.

    Raises UnsupportedError for sequences and maps.
    """
    if isinstance(type, TensorType) and type.dtype == STR:
        if source.steps or target.steps:
            raise UnsupportedError("a loop cannot carry strings from turn to turn", received=type)
        return [ExternCall("identity", np.array, {}, (source,), (type,), (target,), (type,))]
    if not isinstance(type, TensorType):
        raise UnsupportedError(
            "sequences and maps cannot be copied from one output to another",
            received=type, fix="return what an op makes of them, once",
        )  # fmt: skip
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
    steps: list, inputs: Sequence[Place], outputs: Sequence[Place], types: Sequence,
    updates: Mapping[int, int],
) -> list:  # fmt: skip
    """The steps, with outputs that would be written over their inputs too early moved aside.

    `updates[i] = j`: output i, of types[i], takes over the memory of input j.
    """
    copies = []
    for i, j in updates.items():
        if _is_too_early(steps, outputs[i].storage, inputs[j].storage):
            spare = Place(Storage.of(types[i], "arena"))
            steps = [_moved(step, outputs[i].storage, spare.storage) for step in steps]
            copies += copy_steps(spare, outputs[i], types[i])
    return steps + copies


def _is_too_early(steps: list, new: Storage, old: Storage) -> bool:
    """Whether somebody reads `old` when some of `new` is written already."""
    written = False
    for step in steps:
        calls = list(_calls(step))
        reads = any(p.storage is old for call in calls for p in _reads(call))
        if written and reads:
            return True
        if any(p.storage is new for call in calls for p in _writes(call)):
            if reads and not (isinstance(step, Call) and _is_elementwise(step, new, old)):
                return True
            written = True
    return False


def _calls(step) -> Iterator:
    match step:
        case Call() | ExternCall():
            yield step
        case For(body=body, condition=condition):
            yield ExternCall("while", None, {}, (condition,), (), (), ())
            for inner in body:
                yield from _calls(inner)
        case If(condition=condition, then=then, orelse=orelse):
            yield ExternCall("if", None, {}, (condition,), (), (), ())
            for inner in (*then, *orelse):
                yield from _calls(inner)


def _reads(call) -> Iterator[Place]:
    places = call.refs[: len(call.kernel.inputs)] if isinstance(call, Call) else call.inputs
    return (p for p in places if p is not None)


def _writes(call) -> Sequence[Place]:
    return call.refs[len(call.kernel.inputs) :] if isinstance(call, Call) else call.outputs


def _is_elementwise(call: Call, new: Storage, old: Storage) -> bool:
    """Whether the kernel reads of `old` only the element of `new` that it stores."""
    where = dict(zip(call.kernel.params, call.refs))
    return all(
        e.args == store.index and where[e.data].steps == where[store.buffer].steps
        and where[e.data].offset == where[store.buffer].offset
        for store in call.kernel.stores
        for e in s.walk(*store.exprs())
        if e.op == "load" and where[e.data].storage is old
    )  # fmt: skip


def _moved(step, old: Storage, new: Storage):
    """The step with another storage in place of one."""

    def place(p: Place | None) -> Place | None:
        return replace(p, storage=new) if p is not None and p.storage is old else p

    def many(places) -> tuple:
        return tuple(map(place, places))

    match step:
        case Call():
            return replace(step, refs=many(step.refs))
        case ExternCall():
            return replace(step, inputs=many(step.inputs), outputs=many(step.outputs))
        case For():
            body = [_moved(x, old, new) for x in step.body]
            return replace(step, body=body, condition=place(step.condition))
        case If():
            branches = [[_moved(x, old, new) for x in b] for b in (step.then, step.orelse)]
            return If(place(step.condition), *branches)
    raise AssertionError(step)
