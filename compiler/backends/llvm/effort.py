"""How much time of the compiler a kernel is worth: all of it only where a run spends its time.

A model of a hundred kernels spends four fifths of its time in a few of them. The contractions among
the others are compiled with few of LLVM's passes, shorter loops over k, and tiles of two heights
where their number of rows is open. No sum changes its order, so results are the same bit for bit.
"""

from collections.abc import Mapping
from dataclasses import replace

from ...loops.nest import For, If
from .codegen import KernelCode, Passes
from .contract_schedule import ContractSchedule

SHARE = 0.2  # of a run's predicted time, that of the kernels which are compiled with less effort
UNROLL = 32  # multiply-adds that are written out in their loops over k


def worth_little(times: Mapping[str, float]) -> set[str]:
    """The kernels that take the least time, together at most `SHARE` of the sum of all `times`."""
    chosen, left = set(), SHARE * sum(times.values())
    for name, time in sorted(times.items(), key=lambda item: item[1]):
        left -= time
        if left < 0:
            break
        chosen.add(name)
    return chosen


def with_less_effort(code: KernelCode) -> KernelCode:
    """The same kernel in code that is made faster. Schedules that were measured are kept."""
    if not isinstance(code.schedule, ContractSchedule) or code.winner is not None:
        return code
    return replace(
        code, name=f"{code.name}_few", passes=Passes.FEW,
        schedule=replace(code.schedule, unroll=UNROLL),
        others=tuple(with_less_effort(c) for c in code.others[-1:]),
    )  # fmt: skip


def seconds_of(code: KernelCode) -> float:
    """About how long LLVM takes for a kernel."""
    if not isinstance(code.schedule, ContractSchedule):
        return 0.01
    return 0.04 if code.passes == Passes.FEW else 0.08


def exchange(steps: list, codes: Mapping[str, KernelCode]) -> list:
    """The steps of a plan with the `codes` of those kernels that have one, by name."""
    return [_exchanged(step, codes) for step in steps]


def _exchanged(step, codes: Mapping[str, KernelCode]):
    match step:
        case For(body=body):
            return replace(step, body=exchange(body, codes))
        case If(then=then, orelse=orelse):
            return replace(step, then=exchange(then, codes), orelse=exchange(orelse, codes))
    code = getattr(step, "code", None)
    return step if code is None else replace(step, code=codes[code.name])
