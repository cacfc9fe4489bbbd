"""`tessel doctor`: what this installation is made of and what it finds, and how to mend what is
wrong. Exit code 0 also where there are problems: nothing was asked that failed."""

import importlib
import importlib.util
import os
import platform
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import click

from ..compiler.backends.llvm.cache import cache_folder
from ..compiler.backends.llvm.target import host
from ..compiler.cores import VARIABLE, available_cores, default_threads
from ..compiler.errors import TesselError
from ..compiler.files import not_private
from .bench import cpu_name
from .models import console, size

EPILOG = """\b
Examples:
  tessel doctor
"""
PACKAGES = ("tessel", "numpy", "onnx", "protobuf", "llvmlite", "ml_dtypes", "safetensors")
# What each extra of the installation brings: the modules, and what they are for.
EXTRAS = {
    "gpu": (("triton", "cuda.bindings"), "compiling for NVIDIA GPUs, and running there"),
    "images": (("PIL",), "image files as inputs, ImageDecoder"),
    "text": (("re2",), "RegexFullMatch, StringSplit by patterns"),
    "sign": (("cryptography",), "tessel sign, --trust"),
    "bench": (("onnxruntime", "openvino", "matplotlib"), "other engines, tessel bench --plot"),
}
USED = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vnni", "avxvnni", "avx512bf16",
        "amx-int8", "amx-bf16", "neon", "dotprod", "i8mm", "sve")  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What was found under a heading; `problem` and `fix` where something is wrong."""

    heading: str
    said: str
    problem: str | None = None
    fix: str | None = None


@click.command(epilog=EPILOG)
def doctor():
    """Say what this installation is made of, what the machine has, and what is wrong with it."""
    out, problems = console(), []
    for look in (versions, processor, cores, cache, gpu, extras):
        for line in _lines(look):
            out.print(f"{line.heading:12s} {line.said}")
            problems += [line] if line.problem is not None else []
    out.print()
    for line in problems:
        out.print(f"problem: {line.problem}", style="yellow")
        out.print(f"  fix: {line.fix}")
    if not problems:
        out.print("no problems found", style="green")


def _lines(look: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """What `look` finds; that it fails is a finding, too."""
    try:
        yield from look()
    except Exception as error:  # a damaged installation may raise anything
        name = look.__name__
        yield Line(name, "cannot be looked at", f"{name}: {type(error).__name__}: {error}",
                   "reinstall tessel: pip install --force-reinstall tessel")  # fmt: skip


def versions() -> Iterator[Line]:
    """Python's, and of the packages that tessel stands on."""
    yield Line("python", f"{platform.python_version()} ({platform.python_implementation()}), "
                         f"{platform.platform()}")  # fmt: skip
    for name in PACKAGES:
        version, error = version_of(name), None
        if name != "tessel" and version is not None:
            error = _import_error("google.protobuf" if name == "protobuf" else name)
        if error is not None:
            yield Line(name, f"{version}, cannot be imported", f"{name}: {error}",
                       f"pip install --force-reinstall {name}")  # fmt: skip
        elif version is None and name != "tessel":
            yield Line(name, "not installed", f"{name} is not installed", f"pip install {name}")
        else:
            yield Line(name, version or "from a folder, not installed")


def version_of(name: str) -> str | None:
    """The version that is installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _import_error(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # what a broken installation raises
        return f"{type(error).__name__}: {error}"
    return None


def processor() -> Iterator[Line]:
    """The CPU as code is generated for it."""
    yield Line("cpu", cpu_name())
    target = host()
    features = {f[1:] for f in target.features.split(",") if f.startswith("+")}
    known = [f for f in USED if f in features]
    yield Line("", f"LLVM: {target.triple}, {target.cpu}")
    yield Line("", f"vectors of {8 * target.vector_bytes} bits, {target.registers} registers")
    missing = target.triple.startswith("x86_64") and not {"avx2", "fma"} <= features
    yield Line(
        "", f"features: {', '.join(known) or 'none of those that are looked for'}",
        "this CPU shows no AVX2 and FMA: code is several times slower" if missing else None,
        "in a virtual machine, pass the host's CPU through (QEMU: -cpu host)",
    )  # fmt: skip
    yield Line("", f"caches: L1 {size(target.l1)}, L2 {size(target.l2)} per core")


def cores() -> Iterator[Line]:
    """How many cores a run takes, and what limits them."""
    there, allowed = os.cpu_count() or 1, available_cores()
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    said = f"{allowed} allowed, {there} there, {affinity} by affinity"
    said += ", fewer by the quota of a control group" if allowed < affinity else ""
    yield Line("cores", said)
    set_to = os.environ.get(VARIABLE, "").strip()
    if not set_to:
        return
    try:
        threads = default_threads()
    except TesselError as error:
        yield Line("", f"{VARIABLE}={set_to}", error.message, error.fix)
        return
    yield Line(
        "", f"{VARIABLE}={threads}",
        f"runs take {threads} threads on {allowed} cores" if threads > allowed else None,
        f"unset {VARIABLE}, or set it to {allowed} at most",
    )  # fmt: skip


def cache() -> Iterator[Line]:
    """Whether what is compiled can be kept, and how much is."""
    folder = cache_folder()
    try:
        reason = not_private(folder)
        writable = os.access(folder, os.W_OK)
    except (OSError, ValueError) as error:
        yield Line("cache", f"{folder}, not usable", f"the cache folder cannot be used: {error}",
                   "set XDG_CACHE_HOME to a folder that you may write to")  # fmt: skip
        return
    if reason is not None:
        yield Line("cache", f"{folder}, not used", f"the cache is not used: {reason}",
                   f"chmod 700 {folder}, or set XDG_CACHE_HOME to another folder")  # fmt: skip
        return
    if not writable:
        yield Line("cache", f"{folder}, read only", f"{folder} cannot be written to",
                   "models are compiled anew each time; set XDG_CACHE_HOME")  # fmt: skip
        return
    yield Line("cache", f"{folder}, private, {size(_held(folder))} (tessel cache)")


def _held(folder: Path) -> int:
    """Bytes of the files in a folder."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(path, name))
            except OSError:  # gone meanwhile
                continue
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total


def gpu() -> Iterator[Line]:
    """The GPU and its driver; that there is none is no problem."""
    from ..runtime.device_cuda import CudaDevice, why_unavailable

    reason = why_unavailable()
    if reason is not None:
        yield Line("gpu", f"none: {reason}")
        return
    try:
        target = CudaDevice().target
    except TesselError as error:
        yield Line("gpu", "does not answer", f"the GPU cannot be used: {error.message}",
                   error.fix or "look at nvidia-smi")  # fmt: skip
        return
    lacks = _import_error("triton")
    yield Line(
        "gpu", f"found, its target is {target}",
        None if lacks is None else "there is a GPU, but no Triton to compile for it",
        "pip install 'tessel[gpu]'",
    )  # fmt: skip


def extras() -> Iterator[Line]:
    """What is installed beside, and what the rest would bring."""
    for i, (extra, (modules, what)) in enumerate(EXTRAS.items()):
        there = [m for m in modules if _is_there(m)]
        state = "installed" if len(there) == len(modules) else "not installed"
        if there and len(there) < len(modules):
            state = "only " + ", ".join(there)
        versions = [f"{m} {v}" for m in there if (v := version_of(_DISTRIBUTIONS.get(m, m)))]
        said = f"{extra}: {state}" + (f" ({', '.join(versions)})" if versions else "")
        yield Line("extras" if i == 0 else "", f"{said}: {what}")


_DISTRIBUTIONS = {"PIL": "pillow", "re2": "google-re2", "cuda.bindings": "cuda-bindings"}


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # of a parent that is not there
        return False
