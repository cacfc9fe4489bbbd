"""Triton source text to machine code, ahead of time: no GPU, no torch.

    load_function(text, name)            the jit function of a text that is in no file
    compile_source(source, target, …)    Binary: code and what a launch must know

Binaries are cached in the user's cache folder under the hash of all that decides them. Launching a
binary needs neither this module nor triton.
"""

import contextlib
import hashlib
import json
import linecache
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from ...classes import dataclass
from ...errors import TesselError, UnsupportedError
from ...system.files import not_private, read_file, replacing_file, user_cache
from .emit import Source
from .target import GpuTarget

NEEDS_TRITON = "pip install 'tessel[gpu]' (Linux only); --emit triton works without it"
_FORMAT = 1  # part of the cache's key: raise it when `Binary` changes


@dataclass(frozen=True)
class Binary:
    """Machine code of one kernel (cubin or hsaco) and what a launch must know.

    `shared` and `scratch` are bytes per program; `warp` is threads per warp.
    """

    code: bytes
    name: str
    num_warps: int
    shared: int
    warp: int = 32
    scratch: int = 0
    scratch_align: int = 1

    def pack(self) -> bytes:
        """One line of JSON, then the code."""
        meta = {k: v for k, v in asdict(self).items() if k != "code"}
        return json.dumps(meta, sort_keys=True).encode() + b"\n" + self.code

    @staticmethod
    def unpack(data: bytes) -> "Binary":
        meta, _, code = data.partition(b"\n")
        return Binary(code=code, **json.loads(meta))


def require_triton():
    """The triton package. Raises UnsupportedError where it is not installed."""
    try:
        import triton
    except ImportError:
        raise UnsupportedError(
            "compiling for a GPU needs the triton package", fix=NEEDS_TRITON
        ) from None
    return triton


@lru_cache(maxsize=64)
def load_function(text: str, name: str):
    """The jit function `name` of a source text."""
    triton = require_triton()
    file = f"<tessel {hashlib.sha256(text.encode()).hexdigest()[:24]}>"
    # Triton reads a function's source through linecache; an entry without a time is never stale.
    entry = linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    namespace = {"__name__": file}
    exec(compile(text, file, "exec"), namespace)
    function = namespace[name]
    assert isinstance(function, triton.JITFunction), name
    weakref.finalize(function, _forget, file, entry)
    return function


def _forget(file: str, entry: tuple) -> None:
    """Drop a source text, unless another function of the same text has come since."""
    if linecache.cache.get(file) is entry:
        del linecache.cache[file]


def cache_folder() -> Path:
    """Where binaries are kept, if nobody says otherwise."""
    return Path(user_cache(), "triton")


def compile_source(
    source: Source, target: GpuTarget, aligned: tuple[bool, ...], cache: Path | None = None
) -> Binary:
    """Compile one kernel. `aligned`: which pointers are multiples of 16 bytes.

    Raises UnsupportedError for what the target cannot do, naming the kernel.
    """
    triton = require_triton()
    key = _key(source, target, aligned, triton.__version__)
    file = (cache if cache is not None else cache_folder()) / f"{key}.bin"
    private = _is_private(file.parent)
    if private:
        with contextlib.suppress(OSError):
            return Binary.unpack(read_file(file))
    binary, _ = build(source, target, aligned)
    if private:
        with replacing_file(file, durable=False) as f:
            f.write(binary.pack())
    return binary


def _is_private(folder: Path) -> bool:
    """Whether nobody else can put code there."""
    with contextlib.suppress(OSError):
        return not_private(folder) is None
    return False


def compile_all(jobs, target: GpuTarget, threads: int, cache: Path | None = None) -> list[Binary]:
    """`compile_source` of many (source, aligned) at once."""
    jobs = list(jobs)
    if threads <= 1 or len(jobs) < 2:
        return [compile_source(s, target, a, cache) for s, a in jobs]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda job: compile_source(job[0], target, job[1], cache), jobs))


def _key(source: Source, target: GpuTarget, aligned, version: str) -> str:
    parts = [_FORMAT, version, target.name, aligned, *asdict(source.unnamed()).values()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def build(source: Source, target: GpuTarget, aligned) -> tuple[Binary, dict]:
    """Compile without our cache; also Triton's intermediate texts by name (ptx, ttgir, …)."""
    triton = require_triton()
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = load_function(source.text, source.name)
    signature = dict(zip(function.arg_names, source.pointers, strict=True))
    attrs = {(i,): [["tt.divisibility", 16]] for i, ok in enumerate(aligned) if ok}
    options = {
        "num_warps": source.num_warps,
        "num_stages": source.num_stages,
        "enable_fp_fusion": True,
    }
    try:
        compiled = _patiently(
            lambda: triton.compile(
                ASTSource(function, signature, {}, attrs),
                target=GPUTarget(target.api, target.arch, target.warp),
                options=options,
            )
        )
    except (triton.CompilationError, ValueError, RuntimeError, AssertionError) as error:
        raise UnsupportedError(
            f"Triton cannot compile kernel {source.name} for {target.name}",
            received=_innermost(error),
            fix="report this with the output of --emit triton; target='cpu' runs the model",
        ) from error
    return _binary(compiled, target), compiled.asm


def _patiently(compile_it, attempts: int = 5):
    """Once more where Python's parser fails: until 3.12 it counts the recursion of all threads
    together, and Triton parses in each (github.com/python/cpython/issues/106905)."""
    for _ in range(attempts - 1):
        with contextlib.suppress(SystemError):
            return compile_it()
    return compile_it()


def _innermost(error: BaseException) -> str:
    """The last line of what the first cause says: Triton wraps it in excerpts of the source."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or repr(error)).splitlines()[-1].strip()


def _binary(compiled, target: GpuTarget) -> Binary:
    meta = compiled.metadata
    if meta.shared > target.shared:
        raise TesselError(
            f"kernel {meta.name} needs more shared memory than {target.name} has",
            expected=f"at most {target.shared} bytes",
            received=f"{meta.shared} bytes",
        )
    assert meta.num_ctas == 1 and not meta.launch_cooperative_grid, meta
    assert not meta.profile_scratch_size, meta
    return Binary(
        code=compiled.asm["cubin" if target.api == "cuda" else "hsaco"],
        name=meta.name,
        num_warps=meta.num_warps,
        shared=meta.shared,
        warp=target.warp,
        scratch=meta.global_scratch_size,
        scratch_align=meta.global_scratch_align,
    )
