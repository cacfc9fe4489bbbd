"""`tessel doctor`: what this installation is made of and what it finds, and how to mend what is
wrong. Exit code 0 also where there are problems: nothing was asked that failed.

`--json` prints a list of findings, each with its heading, what is said, the facts as values, and
`problem` and `fix` where something is wrong.
"""

import importlib
import importlib.util
import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, field
from importlib import metadata

import click

from ..compiler.backends.llvm.base.cache import LIMIT as OBJECTS_LIMIT
from ..compiler.backends.llvm.base.cache import cache_folder
from ..compiler.backends.llvm.base.target import NAMED, host, runs_here
from ..compiler.classes import dataclass
from ..compiler.errors import TesselError
from ..compiler.system.cores import VARIABLE, available_cores, default_threads
from ..compiler.system.files import not_private
from ..runtime.reuse import folder as reuse_folder
from .bench import cpu_name
from .common.tables import console, size
from .common.terminal import write

EPILOG = """\b
Examples:
  tessel doctor
  tessel doctor --json
"""
PACKAGES = ("tessel", "numpy", "onnx", "protobuf", "llvmlite", "ml_dtypes", "safetensors")
# What each extra of the installation brings: the modules, and what they are for.
EXTRAS = {
    "gpu": (("triton", "cuda.bindings"), "compiling for NVIDIA GPUs, and running there"),
    "images": (("PIL",), "image files as inputs, ImageDecoder"),
    "text": (("re2",), "RegexFullMatch, StringSplit by patterns"),
    "sign": (("cryptography",), "tessel sign, --trust"),
    "keras": (("keras", "scipy"), "tessel.keras"),
    "bench": (("onnxruntime", "openvino", "matplotlib"), "other engines, tessel bench --plot"),
}
USED = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vnni",
    "avxvnni",
    "avx512bf16",
    "amx-int8",
    "amx-bf16",
    "neon",
    "dotprod",
    "i8mm",
    "sve",
)


@dataclass(frozen=True)
class Line:
    """What was found under a heading, also as values (`facts`); `problem` and `fix` where something
    is wrong. Lines without a heading belong to the one above."""

    heading: str
    said: str
    problem: str | None = None
    fix: str | None = None
    facts: dict = field(default_factory=dict)


@click.command(epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def doctor(as_json):
    """Say what this installation is made of, what the machine has, and what is wrong with it."""
    lines = [line for look in LOOKS for line in _lines(look)]
    if as_json:
        write(json.dumps(findings(lines), indent=2) + "\n")
        return
    out, problems = console(), [line for line in lines if line.problem is not None]
    for line in lines:
        out.print(f"{line.heading:12s} {line.said}")
    out.print()
    for line in problems:
        out.print(f"problem: {line.problem}", style="yellow")
        out.print(f"  fix: {line.fix}")
    if not problems:
        out.print("no problems found", style="green")


def findings(lines: list[Line]) -> list[dict]:
    """The lines for JSON: each has the heading that it stands under, and a fix only with a
    problem."""
    heading, found = "", []
    for line in lines:
        heading = line.heading or heading
        entry = asdict(line) | {"heading": heading}
        if line.problem is None:
            del entry["problem"], entry["fix"]
        found.append(entry)
    return found


def _lines(look: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """What `look` finds; that it fails is a finding, too."""
    try:
        yield from look()
    except Exception as error:  # a damaged installation may raise anything
        name = look.__name__
        yield Line(
            name,
            "cannot be looked at",
            f"{name}: {type(error).__name__}: {error}",
            "reinstall tessel: pip install --force-reinstall tessel",
        )


def versions() -> Iterator[Line]:
    """Python's, and of the packages that tessel stands on."""
    facts = {"version": platform.python_version(), "platform": platform.platform()}
    said = f"{facts['version']} ({platform.python_implementation()}), {facts['platform']}"
    yield Line("python", said, facts=facts)
    for name in PACKAGES:
        version, error = version_of(name), None
        if name != "tessel" and version is not None:
            error = _import_error("google.protobuf" if name == "protobuf" else name)
        if error is not None:
            yield Line(
                name,
                f"{version}, cannot be imported",
                f"{name}: {error}",
                f"pip install --force-reinstall {name}",
            )
        elif version is None and name != "tessel":
            yield Line(name, "not installed", f"{name} is not installed", f"pip install {name}")
        else:
            yield Line(name, version or "from a folder, not installed", facts={"version": version})


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


def compilers() -> Iterator[Line]:
    """What compiles: LLVM, and the versions of ONNX's operators that are read and written."""
    import llvmlite.binding as llvm

    version = ".".join(map(str, llvm.llvm_version_info))
    yield Line("llvm", f"{version} (in llvmlite)", facts={"llvm": version})
    import onnx

    from ..frontends.onnx.write.writer import OPSET

    newest = onnx.defs.onnx_opset_version()
    yield Line(
        "onnx opsets",
        f"1 to {newest} are read, {OPSET} to {newest} are written",
        facts={"read": [1, newest], "written": [OPSET, newest]},
    )


def processor() -> Iterator[Line]:
    """The CPU as code is generated for it."""
    yield Line("cpu", cpu_name(), facts={"model": cpu_name()})
    target = host()
    features = {f[1:] for f in target.features.split(",") if f.startswith("+")}
    known = [f for f in USED if f in features]
    facts = {"triple": target.triple, "name": target.cpu}
    yield Line("", f"LLVM: {target.triple}, {target.cpu}", facts=facts)
    levels = [name for name, named in NAMED.items() if runs_here(named) is None]
    yield Line(
        "",
        f"levels: {', '.join(levels) or 'none of those that have a name'} (--target cpu:LEVEL)",
        facts={"levels": levels},
    )
    yield Line(
        "",
        f"vectors of {8 * target.vector_bytes} bits, {target.registers} registers",
        facts={"vector_bits": 8 * target.vector_bytes, "registers": target.registers},
    )
    missing = target.triple.startswith("x86_64") and not {"avx2", "fma"} <= features
    yield Line(
        "",
        f"features: {', '.join(known) or 'none of those that are looked for'}",
        "this CPU shows no AVX2 and FMA: code is several times slower" if missing else None,
        "in a virtual machine, pass the host's CPU through (QEMU: -cpu host)",
        {"features": known},
    )
    yield Line(
        "",
        f"caches: L1 {size(target.l1)}, L2 {size(target.l2)} per core",
        facts={"l1": target.l1, "l2": target.l2},
    )


def cores() -> Iterator[Line]:
    """How many cores a run takes, and what limits them."""
    there, allowed = os.cpu_count() or 1, available_cores()
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    quota = "no quota is lower" if allowed >= affinity else f"{allowed} by a control group's quota"
    yield Line(
        "cores",
        f"{allowed} allowed: {there} there, {affinity} by affinity, {quota}",
        facts={"there": there, "affinity": affinity, "allowed": allowed},
    )
    set_to = os.environ.get(VARIABLE, "").strip()
    if not set_to:
        return
    try:
        threads = default_threads()
    except TesselError as error:
        yield Line("", f"{VARIABLE}={set_to}", error.message, error.fix)
        return
    yield Line(
        "",
        f"{VARIABLE}={threads}",
        f"runs take {threads} threads on {allowed} cores" if threads > allowed else None,
        f"unset {VARIABLE}, or set it to {allowed} at most",
        {"threads": threads},
    )


def cache() -> Iterator[Line]:
    """Whether what is compiled can be kept, and how much is."""
    folder = cache_folder()
    try:
        reason = not_private(folder)
        writable = os.access(folder, os.W_OK)
    except (OSError, ValueError) as error:
        yield Line(
            "cache",
            f"{folder}, not usable",
            f"the cache folder cannot be used: {error}",
            "set XDG_CACHE_HOME to a folder that you may write to",
        )
        return
    if reason is not None:
        yield Line(
            "cache",
            f"{folder}, not used",
            f"the cache is not used: {reason}",
            f"chmod 700 {folder}, or set XDG_CACHE_HOME to another folder",
        )
        return
    if not writable:
        yield Line(
            "cache",
            f"{folder}, read only",
            f"{folder} cannot be written to",
            "models are compiled anew each time; set XDG_CACHE_HOME",
        )
        return
    yield Line("cache", f"{folder}, private", facts={"folder": str(folder)})
    packages = folder / "packages"
    for name, found, limit in (
        ("packages", reuse_folder.entries(packages), reuse_folder.limit_of(packages)),
        ("kernels", reuse_folder.found(folder / "objects", "*/[!.]*"), OBJECTS_LIMIT),
    ):
        held = sum(status.st_size for _, status in found)
        facts = {"cache": name, "count": len(found), "bytes": held, "limit": limit}
        said = f"{name}: {len(found)}, {size(held)} of at most {size(limit)}"
        yield Line("", said, facts=facts)


def gpu() -> Iterator[Line]:
    """The GPU and its driver; that there is none is no problem."""
    from ..runtime.gpu.driver import CudaDevice, why_unavailable

    reason = why_unavailable()
    if reason is not None:
        yield Line("gpu", f"none: {reason}", facts={"gpu": None})
        return
    try:
        target = CudaDevice().target
    except TesselError as error:
        yield Line(
            "gpu",
            "does not answer",
            f"the GPU cannot be used: {error.message}",
            error.fix or "look at nvidia-smi",
        )
        return
    lacks = _import_error("triton")
    yield Line(
        "gpu",
        f"found, its target is {target}",
        None if lacks is None else "there is a GPU, but no Triton to compile for it",
        "pip install 'tessel[gpu]'",
        {"gpu": str(target)},
    )


def extras() -> Iterator[Line]:
    """What is installed beside, and what the rest would bring."""
    for i, (extra, (modules, what)) in enumerate(EXTRAS.items()):
        there = [m for m in modules if _is_there(m)]
        state = "installed" if len(there) == len(modules) else "not installed"
        if there and len(there) < len(modules):
            state = "only " + ", ".join(there)
        versions = [f"{m} {v}" for m in there if (v := version_of(_DISTRIBUTIONS.get(m, m)))]
        said = f"{extra}: {state}" + (f" ({', '.join(versions)})" if versions else "")
        said += f": {what}" + ("" if there == list(modules) else f"; pip install 'tessel[{extra}]'")
        facts = {"extra": extra, "gives": what, "installed": {m: m in there for m in modules}}
        yield Line("extras" if i == 0 else "", said, facts=facts)


LOOKS = (versions, compilers, processor, cores, cache, gpu, extras)
_DISTRIBUTIONS = {"PIL": "pillow", "re2": "google-re2", "cuda.bindings": "cuda-bindings"}


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # of a parent that is not there
        return False
