"""The child process of `tessel bench`: one backend, loaded once, timed when the parent asks.

It is started as a script, not imported, so that a process that measures another engine does not
carry tessel in its memory. It imports nothing of the package; `import tessel` happens only in the
functions that open tessel, as in a user's program.

A backend is a function `open_x(path, options) -> run`, where `run(feeds)` takes a dict of numpy
arrays and returns a dict of outputs. `BACKENDS` names the modules that it needs, whose import is
timed apart. `path/to/file.py:function` names a backend of the user's own.

The conversation, over a multiprocessing connection whose descriptor is the only argument:

    parent                                              child
    {"backend", "path", "feeds", "options"}         →   {"import_s"}  {"load_s"}  {"first_ms"}
    "outputs"                                       →   the outputs of the first run, a list
    ("slice", seconds or None, runs or None, warm)  →   {"ms": [...], "cpu_s", "wall_s"}
    None                                            →   {"peak_rss_mib"}, and it ends

At any point the child may answer {"error": text} or {"missing": text} and end.
"""

import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

Run = Callable[[dict], dict]


def open_tessel(path: str, options: dict, **more) -> Run:
    import tessel

    if path.endswith(".tsl"):
        return tessel.load(path, threads=options["threads"]).run
    return tessel.compile(path, threads=options["threads"], **more).run


def open_tessel_here(path: str, options: dict) -> Run:
    return open_tessel(path, options, tune=options["tune"], quantize=options.get("quantize"))


def open_tessel_numpy(path: str, options: dict) -> Run:
    return open_tessel(path, options, target="numpy")


def open_tessel_cuda(path: str, options: dict) -> Run:
    return open_tessel(path, options, target="cuda")


def open_onnxruntime(path: str, options: dict) -> Run:
    import onnxruntime as ort

    levels = ort.GraphOptimizationLevel
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options["threads"]
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    settings.graph_optimization_level = {
        "off": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[options["ort_level"]]
    session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds)))


def open_openvino(path: str, options: dict) -> Run:
    import openvino as ov

    # Its default precision is bf16 where the CPU has it: that would be another model.
    settings = {
        "INFERENCE_NUM_THREADS": options["threads"],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()
    outputs = list(request.model_outputs)

    def run(feeds: dict) -> dict:
        result = request.infer(feeds, share_inputs=True, share_outputs=True)
        return {output.get_any_name(): result[output] for output in outputs}

    return run


def open_torch(path: str, options: dict) -> Run:
    """PyTorch itself reads no ONNX; onnx2torch rebuilds the model, for the ops that it knows."""
    import onnx
    import onnx2torch
    import torch

    torch.set_num_threads(options["threads"])
    model = onnx.load(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in weights]
    names = [value.name for value in model.graph.output]
    module = onnx2torch.convert(model).eval()

    def run(feeds: dict) -> dict:
        with torch.inference_mode():
            result = module(*(torch.from_numpy(feeds[name]) for name in inputs))
        tensors = [result] if isinstance(result, torch.Tensor) else result
        return {name: tensor.numpy() for name, tensor in zip(names, tensors)}

    return run


@dataclass(frozen=True)
class Backend:
    """How to open a model, what must be installed for it, and which files it reads.

    `peer`: another project's engine. That it cannot run a model is a fact about it, to be listed,
    and no failure of ours.
    """

    open: Callable[[str, dict], Run]
    modules: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = (".onnx",)
    peer: bool = False


BACKENDS = {
    "tessel": Backend(open_tessel_here, ("tessel",), (".onnx", ".tsl")),
    "numpy": Backend(open_tessel_numpy, ("tessel",)),
    "tessel-cuda": Backend(open_tessel_cuda, ("tessel",)),
    "onnxruntime": Backend(open_onnxruntime, ("onnxruntime",), peer=True),
    "openvino": Backend(open_openvino, ("openvino",), peer=True),
    "torch": Backend(open_torch, ("torch", "onnx2torch"), peer=True),
}


def find(name: str) -> Backend:
    """The table's backend, or the one that `path/to/file.py:function` names."""
    if name in BACKENDS:
        return BACKENDS[name]
    file, _, function = name.rpartition(":")
    spec = importlib.util.spec_from_file_location("bench_backend", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Backend(getattr(module, function), suffixes=(".onnx", ".tsl"))


def peak_rss_mib() -> float:
    """The most memory that this process held.

    From /proc where there is one: `ru_maxrss` begins, on Linux, with what the parent held when it
    started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def time_slice(run: Run, feeds: dict, seconds: float | None, runs: int | None, warm: int) -> dict:
    """Run for `seconds`, or `runs` times; `warm` runs first wake the threads, uncounted."""
    for _ in range(warm):
        run(feeds)
    now, milliseconds = time.perf_counter, []
    cpu, start = time.process_time(), now()
    end = None if seconds is None else start + seconds
    while len(milliseconds) < runs if end is None else (not milliseconds or now() < end):
        begin = now()
        run(feeds)
        milliseconds.append(1e3 * (now() - begin))
    return {"ms": milliseconds, "cpu_s": time.process_time() - cpu, "wall_s": now() - start}


def serve(pipe: Connection) -> None:
    job = pipe.recv()
    feeds, options = job["feeds"], job["options"]
    if options["cpus"] is not None:
        os.sched_setaffinity(0, options["cpus"])

    start = time.perf_counter()
    backend = find(job["backend"])
    for name in backend.modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in backend.modules:
                raise
            pipe.send({"missing": f"not installed ({error.name})"})
            return
    pipe.send({"import_s": time.perf_counter() - start})

    start = time.perf_counter()
    run = backend.open(job["path"], options)
    pipe.send({"load_s": time.perf_counter() - start})

    start = time.perf_counter()
    first = run(feeds)
    pipe.send({"first_ms": 1e3 * (time.perf_counter() - start)})
    # Copied before the next run: some engines hand out their own buffers.
    outputs = [np.array(v) if isinstance(v, np.ndarray) else v for v in first.values()]
    del first

    while (job := pipe.recv()) is not None:
        if job == "outputs":
            pipe.send(outputs)
        else:
            pipe.send(time_slice(run, feeds, *job[1:]))
    pipe.send({"peak_rss_mib": peak_rss_mib()})


def main() -> None:
    pipe = Connection(int(sys.argv[1]))
    try:
        serve(pipe)
    except Exception as error:  # whatever it is, the parent reports it
        text = " ".join(str(error).split())
        pipe.send({"error": f"{type(error).__name__}: {text}"})


if __name__ == "__main__":
    main()
