"""The Python kernels of a program beside its machine code.

Those that end a program run when its machine code has returned; the others are called back from
it. Where each finds its operands is worked out once per module:

    ("arena", k)    a view of a frame's arena          ("object", k)   what another kernel returned
    ("input", k)    ("output", k)    ("weight", k)     ("pointer", k)  what machine code hands over

Strings, sequences and maps have no bytes that machine code could hand over: they stay here.
"""

import ctypes
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...compiler.classes import dataclass
from ...compiler.errors import KernelError, TesselError, is_users, is_users_code
from ...compiler.ir.types import TensorType, Type
from ...compiler.kernels.machine import has_bytes

if TYPE_CHECKING:
    from ...compiler.kernels.kernel import HostCallback, Ref

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.POINTER(ctypes.c_int64))


@dataclass(frozen=True)
class _Operand:
    """A value: entry `number` of the list `kind`; with a type, these bytes of that entry. `shape`
    is that of strings."""

    kind: str
    number: int
    offset: int = 0
    type: TensorType | None = None
    shape: tuple | None = None

    def get(self, memory: Mapping[str, Sequence]) -> Any:
        x = memory[self.kind][self.number]
        if self.type is not None:
            return view(x, self.offset, self.type)
        return x if self.shape is None else x.reshape(self.shape)


class HostCallbacks:
    """The kernels of one program: `start` a run, hand out its callback, `finish` it.

    `arena` lists (offset, type) of the views that a frame has to keep for it.
    """

    def __init__(self, steps: "Sequence[HostCallback]", tail: int):
        self.arena: list[tuple[int, TensorType]] = []
        self._objects: dict[Ref, int] = {}
        self._within = [self._step(s, called=True) for s in steps[: len(steps) - tail]]
        self._tail = [self._step(s, called=False) for s in steps[len(steps) - tail :]]

    def views(self, arena: np.ndarray) -> list[np.ndarray]:
        """What a frame with this arena keeps."""
        return [view(arena, *place) for place in self.arena]

    @property
    def called(self) -> bool:
        """Whether machine code calls any of them."""
        return bool(self._within)

    def start(
        self, inputs: Sequence, outputs: list, weights: Sequence, views: Sequence[np.ndarray]
    ) -> "_Run":
        memory = {
            "input": inputs,
            "output": outputs,
            "weight": weights,
            "arena": views,
            "object": [None] * len(self._objects),
        }
        return _Run(self._within, self._tail, memory)

    def _step(self, step: "HostCallback", called: bool) -> tuple:
        refs = [r for r in (*step.inputs, *step.outputs) if r is not None]
        pointers = {r: (i if called else None) for i, r in enumerate(refs)}
        types = [*step.input_types, *step.output_types]
        operands = [
            None if r is None or t is None else self._operand(r, t, pointers[r])
            for r, t in zip((*step.inputs, *step.outputs), types)
        ]
        count, place = len(step.inputs), (step.op, step.origin or None)
        passed = [(o.number, t) for o, t in zip(operands, types) if o and o.kind == "pointer"]
        return step.function, step.attrs, operands[:count], operands[count:], place, passed

    def _operand(self, ref: "Ref", type: Type, pointer: int | None) -> _Operand:
        kind, index = ref.slot.kind, ref.slot.index
        if not has_bytes(type):
            shape = type.shape if isinstance(type, TensorType) else None
            if kind == "arena":
                return _Operand("object", self._objects.setdefault(ref, len(self._objects)))
            return _Operand(kind, index, shape=shape)
        if pointer is not None:
            return _Operand("pointer", pointer)
        if kind == "arena":
            self.arena.append((ref.offset, type))
            return _Operand("arena", len(self.arena) - 1)
        return _Operand(kind, index, ref.offset, type)


class _Run:
    """One run. Two runs at a time have nothing in common."""

    def __init__(self, within: list, tail: list, memory: dict):
        self._within, self._tail, self._memory = within, tail, memory
        self._errors: list[BaseException] = []

    def callback(self) -> int:
        """The address that machine code calls; good for as long as this object lives."""
        serving = _serve(self._within, self._memory, self._errors)
        next(serving)
        self._callback = _CALLBACK(serving.send)
        address = ctypes.cast(self._callback, ctypes.c_void_p).value
        assert address is not None
        return address

    def finish(self) -> None:
        """Run what ends the program. Raises what any kernel raised."""
        if self._errors:
            raise self._errors[0]
        for step in self._tail:
            _run(step, self._memory)


def _serve(
    within: list, memory: dict, errors: list[BaseException]
) -> Generator[int, Sequence[int], None]:
    """What `send` calls with the words {number, places}: runs that kernel, unless one has raised.

    Yields 1 once one has: machine code ends the loops around it. Exceptions must not unwind through
    machine code. A function's first step is where Python raises for a signal that came before it,
    and nothing in the function can catch that; a generator goes on within its `try`.
    """
    while True:
        try:
            while True:
                words = yield len(errors[:1])
                if not errors:
                    step = within[words[0]]
                    arrays = {i: _array(words[1 + i], t) for i, t in step[-1]}
                    _run(step, {**memory, "pointer": arrays})
        except GeneratorExit:
            return
        except BaseException as error:
            errors.append(error)


def _run(step: tuple, memory: dict) -> None:
    function, attrs, inputs, outputs, (op, where), _ = step
    try:
        results = function(*[None if o is None else o.get(memory) for o in inputs], **attrs)
    except (TesselError, MemoryError, Warning):
        raise
    except Exception as error:
        if is_users(error) and not is_users_code(function):  # a handler of a signal
            raise
        said = f"{type(error).__name__}: {error}"
        raise KernelError(f"{op} fails on these inputs: {said}", where=where) from error
    if not isinstance(results, tuple):
        results = (results,)
    for o, result in zip(outputs, results):
        if o.kind in ("pointer", "arena") or o.type is not None:
            o.get(memory)[...] = result
        else:
            is_view = o.kind == "output" and isinstance(result, np.ndarray)
            memory[o.kind][o.number] = result.copy() if is_view else result


def view(memory: np.ndarray, offset: int, type: TensorType) -> np.ndarray:
    """A value within a contiguous array."""
    raw = memory.reshape(-1).view(np.uint8)[offset : offset + type.nbytes]
    return raw.view(type.dtype.numpy).reshape(cast(tuple[int, ...], type.shape))


def _array(address: int, type: TensorType) -> np.ndarray:
    raw = (ctypes.c_uint8 * cast(int, type.nbytes)).from_address(address)
    flat = np.frombuffer(memoryview(raw), type.dtype.numpy)
    return flat.reshape(cast(tuple[int, ...], type.shape))
