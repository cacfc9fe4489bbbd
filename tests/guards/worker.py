"""The child process: runs the cases whose names arrive on stdin, and answers on what was stdout.

python -m tests.guards.worker          a line of JSON before each step, and one with outcomes
"""

import faulthandler
import functools
import json
import os
import resource
import sys
import warnings

from tessel.compiler.backends.llvm.base.target import NAMED, runs_here

from ..support import damage
from . import records, schedules, standard, subject
from .attempt import attempt

MEMORY = 6 << 30
ROOMS = {"ops": records, "onnx": standard, "schedules": schedules}


def targets() -> tuple[str, ...]:
    """Those of `subject.TARGETS` that run on this machine."""
    known = (f"cpu:{t.name}" for t in NAMED.values() if runs_here(t) is None)
    return ("cpu", *(t for t in known if t in subject.TARGETS))


def make(case: str, here: tuple[str, ...]) -> subject.Subject:
    """The subject of a case's name, ROOM/MODEL/SEED."""
    name, _, _ = case.rpartition("/")
    room = ROOMS[name.partition("/")[0]]
    made = room.subject(name, damage.seed(case))
    made.options = subject.options(damage.seed(case, "options"), here)
    return made


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")  # numpy's, about what stray values are
    here = targets()

    def tell(**what) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    for line in sys.stdin:
        case = line.strip()
        prepared = functools.partial(make, case, here)
        outcomes = attempt(prepared, damage.seed(case, "order"), lambda text: tell(at=text))
        tell(case=case, outcomes=[o.to_json() for o in outcomes])


if __name__ == "__main__":
    main()
