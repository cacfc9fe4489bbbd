"""CPU targets: `cpu` (this machine), `cpu:x86-64-v3`, `cpu:x86-64-v4`, `cpu:aarch64`, ….

`host()` reads this machine; named targets are fixed. A package keeps its target's name and the
features that its code needs, and the loader refuses code that this machine cannot run.

LLVM is imported where it is needed: loading a package's code usually needs none.
"""

import functools
import platform
import re
from pathlib import Path

from ....errors import UsageError
from ....kernels.machine import Machine

_X86 = "x86_64-unknown-linux-gnu"
NAMED = {
    t.name: t
    for t in [
        Machine(
            "x86-64-v2", _X86, "x86-64-v2", "", 16, 16, 32 << 10, 256 << 10, converts_half=False
        ),
        Machine("x86-64-v3", _X86, "x86-64-v3", "", 32, 16, 32 << 10, 512 << 10),
        Machine("x86-64-v4", _X86, "x86-64-v4", "-prefer-256-bit", 64, 32, 32 << 10, 1 << 20),
        Machine("aarch64", "aarch64-unknown-linux-gnu", "generic", "+neon", 16, 32, 64 << 10),
        Machine(
            "riscv64",
            "riscv64-unknown-linux-gnu",
            "generic-rv64",
            "+m,+a,+f,+d",
            16,
            32,
            converts_half=False,
        ),
    ]
}


@functools.cache
def initialize() -> None:
    """Make LLVM's code generators known, once."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@functools.cache
def host() -> Machine:
    """This machine."""
    import llvmlite.binding as llvm

    initialize()
    triple = llvm.get_process_triple()
    try:
        features = dict(llvm.get_host_cpu_features())
    except RuntimeError:  # not known for every platform
        features = {}
    features |= dict.fromkeys(_UNUSED & features.keys(), False)
    flat = ",".join(f"{'+' if on else '-'}{name}" for name, on in sorted(features.items()))
    vector_bytes, registers, converts_half = 16, 32, triple.startswith(("aarch64", "arm64"))
    if triple.startswith("x86_64"):
        wide = features.get("avx512f") and features.get("avx512vl") and features.get("avx512bw")
        vector_bytes = 64 if wide else 32 if features.get("avx2") else 16
        registers = 32 if wide else 16
        converts_half = bool(features.get("f16c"))
        if wide:
            flat += ",-prefer-256-bit"
    return Machine(
        "host",
        triple,
        llvm.get_host_cpu_name(),
        flat,
        vector_bytes,
        registers,
        cache_size(1, 32 << 10),
        cache_size(2, 512 << 10),
        converts_half,
    )


def cache_size(level: int, default: int) -> int:
    """Bytes of the first core's data cache of a level, as Linux tells; `default` elsewhere."""
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            said = {n: (cache / n).read_text().strip() for n in ("level", "type", "size")}
        except OSError:
            continue
        size = re.fullmatch(r"(\d+)([KM])", said["size"])
        if said["level"] == str(level) and said["type"] in ("Data", "Unified") and size:
            return int(size[1]) << (10 if size[2] == "K" else 20)
    return default


def parse_target(text: str) -> Machine:
    """The target of `cpu` or `cpu:NAME`. Raises UsageError for unknown names."""
    kind, _, name = text.partition(":")
    if kind == "cpu" and not name:
        return host()
    if kind == "cpu" and name in NAMED:
        return NAMED[name]
    raise UsageError(
        "unknown CPU target", expected="cpu, " + ", ".join(f"cpu:{n}" for n in NAMED), received=text
    )


def runs_here(target: Machine) -> str | None:
    """Why code for `target` cannot run on this machine, or None."""
    needed = {
        "x86-64-v2": {"sse4.2", "ssse3", "popcnt"},
        "x86-64-v3": {"avx2", "fma", "bmi2", "f16c"},
        "x86-64-v4": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd"},
    }.get(target.cpu)
    if needed is None:
        needed = {f[1:] for f in target.features.split(",") if f.startswith("+")}
    if target.triple == _X86 and platform.machine() == "x86_64" and _linux_tells(needed):
        return None
    here = host()
    if target.triple.split("-")[0] != here.triple.split("-")[0]:
        return f"it is code for {target.triple.split('-')[0]}"
    if target == here:
        return None
    missing = needed - {f[1:] for f in here.features.split(",") if f.startswith("+")}
    return f"this CPU lacks {', '.join(sorted(missing)[:6])}" if missing else None


# Features that no code of ours uses, and that Linux does not list where it does not either.
_UNUSED = {"shstk"}

# LLVM's names of features that Linux names otherwise, apart from dots and underscores.
_LINUX_NAMES = {
    "64bit": "lm",
    "bmi": "bmi1",
    "crc32": "sse42",
    "lzcnt": "abm",
    "pclmul": "pclmulqdq",
    "prfchw": "3dnowprefetch",
    "rdrnd": "rdrand",
    "sahf": "lahflm",
    "sha": "shani",
    "sse3": "pni",
}


def _linux_tells(features: set[str]) -> bool:
    """Whether Linux says that this x86 CPU has `features`; False also where it says nothing."""
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    known = set(flags.replace("_", "").split())
    return {_LINUX_NAMES.get(f, f.replace(".", "")) for f in features} <= known


@functools.lru_cache(maxsize=16)
def machine(target: Machine, level: int = 2):
    """LLVM's TargetMachine, for a level of its code generator from 0 (quick to make) to 3."""
    import llvmlite.binding as llvm

    initialize()
    t = llvm.Target.from_triple(target.triple)
    return t.create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=level,
        reloc="pic",
        codemodel="default",
        jit=False,
    )


@functools.lru_cache(maxsize=8)
def pass_builder(target: Machine):
    """What makes LLVM's scalar passes for a target."""
    import llvmlite.binding as llvm

    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = False
    options.slp_vectorization = False
    options.loop_unrolling = False
    options.loop_interleaving = False
    return llvm.create_pass_builder(machine(target), options)


def dispose(passes) -> None:
    """Free passes that have run. llvmlite (as of 0.50) has a method for it that another one hides,
    so that 200 KiB of each compiled kernel would stay for ever."""
    from llvmlite.binding import ffi, newpassmanagers

    if type(passes)._dispose is ffi.ObjectRef._dispose:
        newpassmanagers.NewPassManager._dispose(passes)
        passes.detach()
    else:
        passes.close()
