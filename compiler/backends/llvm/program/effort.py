"""How much time of the compiler a kernel is worth: all of it only where a run spends its time.

A model of a hundred kernels spends four fifths of its time in a few of them. Contractions of
which a run takes little time are compiled with few of LLVM's passes; those of which it takes least
have shorter loops over k as well, and tiles of two heights where their number of rows is open,
instead of five. Windows get few passes always, since their loops hold nothing but what has to be
done; other kernels where they hardly count, since nobody else moves what their loops need not do.
No sum changes its order, so results are the same bit for bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from ....kernels.kernel import HostCallback, map_steps, walk_calls
from ..kernel.codegen import KernelCode
from ..kernel.objects import Passes
from ..schedules.base import Gain, Schedule
from .plan import Scheduled

FEW = 0.5  # of a run's predicted time, that of contractions which get few of LLVM's passes
LITTLE = 0.2  # the same for those whose code is shorter, too, and has fewer heights
LEAST = 0.02  # that of other kernels which get few passes


def least(times: Mapping[str, float], share: float) -> set[str]:
    """The kernels that take the least time, together at most `share` of the sum of all `times`."""
    chosen, left = set(), share * sum(times.values())
    for name, time in sorted(times.items(), key=lambda item: item[1]):
        left -= time
        if left < 0:
            break
        chosen.add(name)
    return chosen


def with_effort(
    codes: Mapping[str, KernelCode], times: Mapping[str, float]
) -> Callable[[KernelCode], KernelCode]:
    """For a code, the one to compile: the same, or one that is made faster. `codes` are those of a
    program by name, `times` what they take of a run. Schedules that were measured are kept."""
    few = {Gain.NONE: set(codes), Gain.SOME: least(times, FEW), Gain.MUCH: least(times, LEAST)}
    little = least(times, LITTLE)

    def made(code: KernelCode) -> KernelCode:
        if code.tuning_record is not None:
            return code
        if code.name in little and (shorter := code.schedule.shorter()) is not None:
            lower = tuple(_few(c, c.schedule.shorter()) for c in code.others[-1:])
            return replace(_few(code, shorter), others=lower)
        between = tuple(_few(c) for c in code.others[:-1])
        best = _few(code) if code.name in few[code.schedule.gain] else code
        return replace(best, others=between + code.others[-1:]) if between else best

    return made


def _few(code: KernelCode, schedule: Schedule | None = None) -> KernelCode:
    return replace(code, passes=Passes.FEW, schedule=schedule or code.schedule)


def seconds_of(code: KernelCode) -> float:
    """About how long LLVM takes for a kernel."""
    few, usual = code.schedule.seconds
    return few if code.passes == Passes.FEW else usual


def exchange(steps: list, made: Callable[[KernelCode], KernelCode]) -> list:
    """The steps of a plan with what is `made` of each code, once, in its place."""
    done: dict[int, KernelCode] = {}

    def exchanged(step: Scheduled | HostCallback, _) -> Scheduled | HostCallback:
        if not isinstance(step, Scheduled):
            return step
        if id(step.code) not in done:
            done[id(step.code)] = made(step.code)
        return replace(step, code=done[id(step.code)])

    return map_steps(steps, exchanged)


def codes_of(steps: list) -> list[KernelCode]:
    """The codes of a plan's steps, each once; several have one name where sizes alone differ."""
    found = (step.code for step, _ in walk_calls(steps) if isinstance(step, Scheduled))
    return [c for code in {id(c): c for c in found}.values() for c in (code, *code.others)]
