"""What becomes of one case: every feed of a subject, with guards at either side.

Feeds are run twice, on one thread and on two, with guards at the one side and at the other, and
with other bytes in outputs, arena and scratch before. Both runs must give the same bits: what
differs was not written, follows from memory that nobody wrote, or from how many threads there are.
"""

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import tessel
from tessel.compiler.errors import InternalError, KernelError
from tessel.compiler.ir.types import dtype_of
from tessel.runtime.native.module import NativeModule

from .memory import SIDES, GuardedMemory
from .subject import Feed, Refused, Subject

# What a feed comes to. All else is a failure.
AGREES, ALONE, REFUSED, SKIPPED = "agrees", "no reference", "refused", "not written down"
FAULTS = (InternalError, KernelError)  # errors of tessel's own making, which no model should see
GOOD = (AGREES, ALONE, REFUSED, SKIPPED)


@dataclass
class Outcome:
    """`kind` is one of GOOD or says in a word what failed; `message` tells more."""

    kind: str
    message: str = ""

    def to_json(self) -> dict:
        return asdict(self)


def attempt(
    make: Callable[[], Subject], rng: random.Random, tell: Callable[[str], None] = lambda text: None
) -> list[Outcome]:
    """The outcome of each feed. `tell` hears what is done next: a crash comes after it."""
    try:
        subject = make()
    except Refused as error:
        return [Outcome(SKIPPED, _line(error))]
    order = rng.sample(SIDES, 2)
    memory = GuardedMemory(order[0])
    before, NativeModule.memory = NativeModule.memory, memory
    try:
        tell("compile")
        try:
            exe = tessel.compile(subject.model, threads=1, **subject.options)
        except FAULTS as error:
            return [_bug(error)]
        except tessel.TesselError as error:
            return [Outcome(REFUSED, _line(error))]
        outcomes = []
        for number, feed in enumerate(subject.feeds):
            tell(f"feed {number}")
            outcomes.append(_attempt_feed(subject, exe, feed, memory, order))
        return outcomes
    except Exception as error:
        return [_bug(error)]
    finally:
        NativeModule.memory = before


def _attempt_feed(subject, exe, feed: Feed, memory: GuardedMemory, order) -> Outcome:
    results = []
    for threads, side in zip((1, 2), order):
        memory.side = side
        given = {n: memory.input(x) for n, x in feed.arrays.items()}
        exe.threads = threads
        try:
            if threads > 1:
                _insist_on_threads(exe)
            result = exe.run(given)
        except FAULTS as error:
            return _bug(error)
        except tessel.TesselError as error:
            result = error
        except Exception as error:
            return _bug(error)
        broken = memory.check()
        if broken:
            return Outcome("slack", broken)
        results.append(result)
    return _judge(subject, feed, *results)


def _insist_on_threads(exe) -> None:
    """Small programs too are to run on as many threads as they are told."""
    for built in exe.specializations:
        if getattr(built.code, "parallel", True) is False:
            built.code.parallel = True
        if getattr(built.module, "small", False):
            built.module.small = False


def _judge(subject: Subject, feed: Feed, first, second) -> Outcome:
    if isinstance(first, tessel.TesselError) or isinstance(second, tessel.TesselError):
        if type(first) is type(second):
            return Outcome(REFUSED, _line(first))
        return Outcome("threads", f"one run: {_line(first)}; the other: {_line(second)}")
    for name, y in first.items():
        if feed.specified and not _same_bits(y, second[name]):
            return Outcome("unstable", f"{name}: {_where(y, second[name])}")
    try:
        with np.errstate(all="ignore"):
            wanted = subject.reference(feed.arrays)
    except Exception as error:
        return Outcome(ALONE, f"{type(error).__name__}: {_line(error)}")
    if not feed.comparable or not feed.specified:
        return Outcome(ALONE, "what floats hold, or what the op asks for, is not as planned")
    given = _tensors(first)
    if len(given) != len(wanted):
        return Outcome("wrong", f"{len(given)} outputs instead of {len(wanted)}")
    for (name, y), x in zip(given, wanted):
        message = difference(y, x, subject.rtol)
        if message:
            return Outcome("wrong", f"{name}: {message}")
    return Outcome(AGREES)


def _tensors(outputs: dict) -> list[tuple]:
    """Outputs as a graph has them: each tensor of a list by itself, no empty optionals."""
    found = []
    for name, y in outputs.items():
        parts = y if isinstance(y, list) and all(isinstance(i, np.ndarray) for i in y) else [y]
        found += [(name, part) for part in parts if part is not None]
    return found


def _same_bits(x, y) -> bool:
    if isinstance(x, np.ndarray) and x.dtype != object:
        return x.shape == y.shape and x.tobytes() == y.tobytes()
    return repr(x) == repr(y)


def _where(x, y) -> str:
    if not isinstance(x, np.ndarray) or x.dtype == object or x.shape != y.shape:
        return "objects differ"
    raw = [np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (x, y)]
    places = np.flatnonzero((raw[0] != raw[1]).reshape(x.size, -1).any(1))
    at = tuple(int(i) for i in np.unravel_index(places[0], x.shape)) if x.ndim else ()
    return f"{len(places)} of {x.size} elements, first at {at}: {x[at]!r} and {y[at]!r}"


def difference(got, wanted, rtol: float) -> str | None:
    """How `got` differs from the reference: None if by no more than rounding, which sums have in
    proportion to their largest elements."""
    if not isinstance(wanted, np.ndarray) or not isinstance(got, np.ndarray):
        return None if repr(got) == repr(wanted) else f"{got!r} instead of {wanted!r}"[:300]
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return f"{got.dtype}{list(got.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
    if wanted.dtype == object:
        return None if got.tolist() == wanted.tolist() else "other strings"
    if not dtype_of(wanted).is_float:
        return _first(got, wanted, got != wanted)
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    with np.errstate(all="ignore"):
        near = np.abs(a - b) <= rtol * np.abs(b) + rtol * 0.1 * max(1.0, finite.max(initial=0.0))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return _first(got, wanted, ~(near | same))


def _first(got, wanted, differs: np.ndarray) -> str | None:
    places = np.argwhere(differs)
    if not len(places):
        return None
    at = tuple(int(i) for i in places[0])
    return f"{len(places)} of {got.size} differ, first at {at}: {got[at]!r}, not {wanted[at]!r}"


def _bug(error: Exception) -> Outcome:
    import traceback

    error = error.__cause__ or error
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{last.filename.rpartition('tessel/')[2]}:{last.lineno} {last.name}"
    return Outcome("exception", f"{type(error).__name__}: {_line(error)} ({place})")


def _line(error) -> str:
    return " ".join(str(error).split())[:300] if isinstance(error, Exception) else "a result"
