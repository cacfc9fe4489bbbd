"""The child process: runs cases that arrive on its stdin, answers on what was its stdout.

    python -m tests.conformance.worker ENGINE      messages are pickles behind their length

Its memory is limited: a case that wants more gets a MemoryError, or dies alone.
"""

import faulthandler
import os
import pickle
import struct
import sys
import time
import warnings

from .cases import Case, from_bytes
from .compare import Wrong, compare
from .engines import ENGINES, FAULTS, VARIANTS

MEMORY = 4 << 30
THREADS = (1, 2)


def read_message(file):
    """The next message, None at the end."""
    head = file.read(8)
    return None if len(head) < 8 else pickle.loads(file.read(*struct.unpack("<q", head)))


def write_message(file, message) -> None:
    data = pickle.dumps(message)
    file.write(struct.pack("<q", len(data)) + data)
    file.flush()


def run_case(engine: str, case: Case) -> dict:
    """{status, message, seconds, externs}: seconds of CPU until the first result was there."""
    result = {"status": "pass", "message": "", "seconds": 0.0, "externs": []}
    try:
        _run(engine, case, result)
    except Wrong as error:
        result |= {"status": "wrong", "message": str(error)}
    except NotImplementedError as error:
        result |= {"status": "unsupported", "message": str(error)}
    except (Exception, SystemExit) as error:
        kind = type(error).__name__
        if kind == "UnsupportedError" or kind == "ValueDependence":
            result |= {"status": "unsupported", "message": str(error)}
        else:
            result |= {"status": "error", "message": f"{kind}: {error}"}
    return result


def _run(engine: str, case: Case, result: dict) -> None:
    model, sets = case.load()
    start = time.process_time()
    run = (ENGINES | VARIANTS | FAULTS)[engine](model)
    for threads in THREADS if engine.startswith("tessel") else (1,):
        for inputs, expected in sets:
            got = run(inputs, threads)
            result["seconds"] = result["seconds"] or time.process_time() - start
            if len(got) != len(expected):
                raise Wrong(f"{len(got)} outputs instead of {len(expected)}")
            for info, e, g in zip(model.graph.output, expected, got):
                compare(e, g, case.rtol, case.atol, f"{info.name} on {threads} threads")
    result["externs"] = sorted(set(host_callbacks(getattr(run, "executable", None))))


def host_callbacks(exe):
    """Ops of the executable that ran in Python."""
    from tessel.compiler.kernels.kernel import HostCallback, walk_steps

    for built in () if exe is None else exe.specializations:
        if built.program is not None:
            yield from (
                s.op for s in walk_steps(built.program.steps) if isinstance(s, HostCallback)
            )


def limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def main(engine: str) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # engines print
    faulthandler.enable()
    warnings.simplefilter("ignore")
    if engine not in ("onnxruntime", "openvino"):  # these reserve more than they use
        limit_memory()
    while (data := read_message(sys.stdin.buffer)) is not None:
        write_message(answers, run_case(engine, from_bytes(data)))


if __name__ == "__main__":
    main(sys.argv[1])
