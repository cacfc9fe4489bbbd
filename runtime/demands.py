"""What a user may demand of a program before code is made of it: `strict`, `verify_bounds`."""

from typing import TYPE_CHECKING

from ..compiler.errors import UnsupportedError

if TYPE_CHECKING:
    from ..compiler.loops.nest import Program
    from .build import Target


def check_demands(program: "Program", target: "Target", strict: bool) -> None:
    """Raise UnsupportedError where `strict` refuses something, CheckFailed where the target was
    asked for a proof that programs stay inside their arrays (`verified`) and there is none."""
    if strict:
        refuse_externs(program)
    if target.verified is not None:
        from ..compiler.loops.bounds import verify_bounds

        target.verified += verify_bounds(program)


def refuse_externs(program: "Program") -> None:
    """Raise UnsupportedError if something would run outside compiled code."""
    from ..compiler.loops.nest import ExternCall, For, If

    def visit(steps):
        for step in steps:
            match step:
                case ExternCall():
                    yield step
                case For(body=body):
                    yield from visit(body)
                case If(then=then, orelse=orelse):
                    yield from visit(then)
                    yield from visit(orelse)

    findings = [
        UnsupportedError(f"{step.op} runs in Python", where=step.origin or None)
        for step in visit(program.steps)
    ]
    if findings:
        raise UnsupportedError(
            "not everything runs in compiled code", findings=findings, fix="leave out strict"
        )
