"""What a schedule is: how a kernel's loops run, decided before code is made.

A `Schedule` is a frozen dataclass. `propose` makes one for a kernel, or gives a `Refusal` that says
why not; `schedules.SCHEDULES` lists the kinds in the order in which they are asked. Everything
else that the backend asks of a schedule is a method here, so that a new kind of schedule is one
file and one line of that list (docs/how-to/add-a-schedule.md).

Its fields are all that its code follows from, besides the kernel and the target: the key of the
object cache is made of them (`Schedule.key`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from enum import Enum
from typing import ClassVar

import llvmlite.ir as ir
import numpy as np

from ....classes import dataclass
from ....expr import expr as s
from ....expr.expr import Axis, Buffer, Expr
from ....expr.show import show
from ....ir.dims import Sym
from ....ir.types import DType
from ....kernels.kernel import Kernel
from ....kernels.machine import Machine
from ....kernels.restore import Recipe
from ....system.concurrency import lazy
from ..emit.emitter import Emitter
from .tuning_records import TuningRecord

Dim = int | Sym


@dataclass(frozen=True)
class Refusal:
    """Why a kernel does not get a schedule of some kind, for `tessel explain`."""

    reason: str


@dataclass(frozen=True)
class Given:
    """A kernel to be scheduled. `constants` are the parameters whose contents are known, which
    `contents` has where whoever asks does (what a schedule computes must not depend on them);
    `in_place`: the memory of an output is also read; `general`: its sizes are those to expect, and
    the schedule will be made right for all those of this kernel (`Schedule.opened`)."""

    kernel: Kernel
    target: Machine
    constants: frozenset[Buffer] = frozenset()
    in_place: bool = False
    general: Kernel | None = None
    contents: Mapping[Buffer, np.ndarray] = field(default_factory=dict)

    @property
    def is_specialized(self) -> bool:
        """Whether it stands for a kernel with dynamic dims."""
        return self.general is not None

    @lazy
    def product(self) -> "Expr | Refusal":
        """The sum of products that is the only reduction of what the kernel stores, or why there is
        none that several outputs can share."""
        if self.in_place:
            return Refusal("it reads the memory that it writes")
        r = only_reduction(self.kernel, "nothing is summed")
        if isinstance(r, Refusal):
            return r
        if r.data[0] != "sum" or r.args[0].op != "mul":
            return Refusal("its reduction is no sum of products")
        return r


def only_reduction(kernel: Kernel, none: str) -> Expr | Refusal:
    """The only reduction of what a kernel stores, or why there is not one; `none` where there is
    no reduction at all."""
    store = kernel.stores[0]
    if kernel.serial or len(kernel.stores) > 1:
        return Refusal("its stores run in order" if kernel.serial else "it has several stores")
    if store.mode != "set" or store.where is not None:
        return Refusal("it adds to what is there, or stores under a condition")
    reductions = [e for e in s.walk(store.value) if e.op == "reduce"]
    if len(reductions) != 1:
        return Refusal("it has several reductions" if reductions else none)
    return reductions[0]


@dataclass(frozen=True)
class Arguments:
    """What a kernel's function takes besides buffers and sizes: the units from `begin` to `end`,
    and pointers to the packed constant and to the thread's scratch memory."""

    begin: ir.Value
    end: ir.Value
    packed: ir.Value
    scratch: ir.Value


@dataclass(frozen=True)
class HintSpecialized:
    """A kernel with dynamic dims (`given`), scheduled for the sizes to expect.

    `schedule` and `ns` are those of the kernel with these sizes, `axes` are the open kernel's in
    place of its own. `again()` schedules it for the sizes that are to be expected by then.
    """

    given: Given
    schedule: "Schedule"
    ns: float
    axes: Mapping[Axis, Axis]
    again: Callable[[], "HintSpecialized"]


class Gain(Enum):
    """What the usual passes of LLVM make of the code that few of them leave (`effort.py`)."""

    NONE = "its loops hold nothing but what has to be done"
    SOME = "worth the time where a run spends its own"
    MUCH = "nobody else moves what its loops need not do"


class Schedule(ABC):
    """One kernel's schedule; a subclass is a kind of schedule, a frozen dataclass.

    `name` is what profiles and `explain` call the kind, and `meaning` what their legends say of it;
    `str(schedule)` is how they describe one, in `words` that the legends explain.
    `spends` is what its cycles are spent on, beyond those that any schedule needs (`roofline.py`).
    `seconds` is about how long LLVM takes for a kernel, with few passes and with the usual ones;
    `tunable`: whether `candidates.py` has others for the same kernel. `opens`: whether `opened`
    makes it right for any size; kernels with dynamic dims are not offered to kinds that do not.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]
    words: ClassVar[tuple[tuple[str, str], ...]] = ()
    spends: ClassVar[str] = "operations on data, more than one per element and vector"
    gain: ClassVar[Gain] = Gain.MUCH
    seconds: ClassVar[tuple[float, float]] = (0.005, 0.008)
    tunable: ClassVar[bool] = False
    opens: ClassVar[bool] = False

    # -- what every kind says -------------------------------------------------------------

    @classmethod
    @abstractmethod
    def propose(cls, given: Given) -> "Schedule | Refusal":
        """The schedule of a kernel whose sizes are known."""

    @property
    @abstractmethod
    def units(self) -> Dim:
        """Independent pieces of work, which threads may share."""

    @abstractmethod
    def cycles(self, kernel: Kernel, target: Machine) -> float:
        """Cycles of its arithmetic on one core, for whatever it executes (`cost_model.py`)."""

    def parts(self, kernel: Kernel, target: Machine) -> Iterator[tuple[str, float]]:
        """The same cycles in parts: (what they are spent on that the schedule, not the kernel,
        asks for; "" for what has to be done, cycles). `tessel explain` tells the reasons of kernels
        that are slow (`roofline.py`)."""
        yield "", self.cycles(kernel, target)

    @abstractmethod
    def emit(self, e: Emitter, kernel: Kernel, given: Arguments, in_place: bool) -> None:
        """Write the body of the kernel's function."""

    @abstractmethod
    def __str__(self) -> str: ...

    # -- memory ---------------------------------------------------------------------------

    @property
    def packs(self) -> bool:
        """Whether it has constants packed while compiling (`pack`), which its code then reads."""
        return False

    @property
    def packed_bytes(self) -> Dim:
        """Bytes of the packed constant."""
        return 0

    def pack(self, arrays: dict[Buffer, np.ndarray]) -> np.ndarray:
        """The packed constant, from the arrays of the kernel's constant buffers."""
        raise NotImplementedError(f"a {self.name} schedule packs nothing")

    def restores(self) -> Iterator[tuple[Buffer, Recipe]]:
        """Constant buffers of which the packed constant may hold all elements, and how these are
        found in it (`kernels/restore.py`). Whoever relies on that compares."""
        return iter(())

    def params(self, kernel: Kernel) -> tuple[Buffer, ...]:
        """The buffers that its function takes: all of the kernel's that are not packed."""
        return kernel.params

    def scratch_bytes(self, kernel: Kernel) -> Dim:
        """Bytes of scratch memory per thread."""
        return 0

    def traffic(self, target: Machine, between: int | None) -> Iterator[tuple[int, int]]:
        """(bytes, bytes of the memory that they lie in) of what it reads besides each parameter
        once. `between` are the bytes that pass by from one run of the kernel to the next."""
        return iter(())

    def pages(self, kernel: Kernel) -> int:
        """How often it comes to another page of memory that does not follow the one before."""
        return 0

    @property
    def streams(self) -> bool:
        """Whether a run reads each byte of the packed constant once, in the order of the units."""
        return False

    # -- threads, effort, tuning ----------------------------------------------------------

    def piece(self, units: int) -> int:
        """About so many units that one thread should take together."""
        return units

    def shorter(self) -> "Schedule | None":
        """The same with shorter code, where a run spends little time; None: there is none."""
        return None

    def improved(
        self, given: Given, tuning_records: Mapping[str, TuningRecord]
    ) -> tuple["Schedule", TuningRecord | None]:
        """The schedule that was measured to be faster than this one, if there is one."""
        return self, None

    # -- dynamic dims -----------------------------------------------------------------------

    def opened(self, specialized: HintSpecialized) -> Sequence[tuple["Schedule", float]]:
        """The schedule of `specialized`, which is this one, for any size; with its cost in ns.
        There may be several, of which the entry takes the one with the least `rank`. Raises
        DynamicSize where code for any size cannot be made."""
        raise NotImplementedError(f"a {self.name} schedule is made for known sizes")

    @property
    def rank(self) -> Dim:
        """What the entry compares schedules of one kernel by, when it knows the sizes."""
        return self.units

    # -- the key --------------------------------------------------------------------------

    def key(self, kernel: Kernel) -> str:
        """Text that differs between any two schedules of a kernel, and is the same in every
        process. It has every field: axes, buffers and expressions by their numbers in the kernel.

        Raises TypeError where a field is nothing that text can be made of.
        """
        return written(self, Numbers(kernel))


class Numbers(dict):
    """A name for each axis, parameter and expression of a kernel, by its place there: i0, b0, e0.
    Most schedules have the kernel's own axes only; the others are counted when one is asked for."""

    def __init__(self, kernel: Kernel):
        super().__init__((a, f"i{n}") for n, a in enumerate(kernel.axes))
        self.kernel: Kernel | None = kernel

    def __missing__(self, key: Axis | Buffer | Expr) -> str:
        if self.kernel is None:
            raise KeyError(key)
        kernel, self.kernel = self.kernel, None
        exprs = list(s.walk(*kernel.roots()))
        summed = (a for e in exprs if e.op == "reduce" for a in e.data[1])
        for letter, found in (("i", (*kernel.axes, *summed)), ("b", kernel.params), ("e", exprs)):
            self.update((x, f"{letter}{n}") for n, x in enumerate(dict.fromkeys(found)))
        return self[key]


def written(value: object, names: Numbers) -> str:
    """A field's value as text."""
    match value:
        case None | bool() | int() | float() | str():
            return repr(value)
        case Axis() | Buffer() | Expr():
            try:
                return names[value]
            except KeyError:
                if isinstance(value, Expr):
                    return show(value, names)
                raise TypeError(f"the kernel has no {value!r}") from None
        case tuple():
            return f"({', '.join([written(x, names) for x in value])})"
        case Sym() | DType() | Enum():
            return str(value)
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(
            f"a schedule cannot have a {type(value).__name__} as a field: use numbers, text, "
            "axes, buffers, expressions, tuples and dataclasses of those"
        )
    parts = [f"{f.name}={written(getattr(value, f.name), names)}" for f in fields(value)]
    return f"{type(value).__name__}({', '.join(parts)})"
