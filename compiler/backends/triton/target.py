"""The GPUs that code is generated for, by name: `cuda:sm_90`, `hip:gfx942`."""

import re

from ...classes import dataclass
from ...errors import UsageError

# Kibibytes of shared memory that one program may ask for (CUDA C++ Programming Guide, table of
# compute capabilities).
_SHARED = {80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 120: 99, 121: 99}
_PROCESSORS = {80: 108, 86: 84, 89: 128, 90: 132, 100: 148, 120: 170}
DEFAULT = "cuda:sm_90"


@dataclass(frozen=True)
class GpuTarget:
    """`api` is cuda or hip; `arch` 90 or "gfx942"; `shared` bytes per program."""

    api: str
    arch: int | str
    warp: int
    shared: int
    processors: int

    @property
    def name(self) -> str:
        return f"cuda:sm_{self.arch}" if self.api == "cuda" else f"hip:{self.arch}"


def parse_target(name: str) -> GpuTarget:
    """A target from its name; `cuda` alone means sm_90. Raises UsageError."""
    if name == "cuda":
        name = DEFAULT
    if match := re.fullmatch(r"cuda:sm_(\d+)a?", name):
        arch = int(match[1])
        if arch in _SHARED:
            return GpuTarget("cuda", arch, 32, _SHARED[arch] << 10, _PROCESSORS.get(arch, 108))
    elif match := re.fullmatch(r"hip:(gfx[0-9a-f]+)", name):
        wave64 = match[1].startswith("gfx9")
        shared = 160 if match[1] == "gfx950" else 64
        return GpuTarget("hip", match[1], 64 if wave64 else 32, shared << 10, 256)
    raise UsageError(
        "unknown GPU target",
        expected=f"cuda, cuda:sm_N with N one of {', '.join(map(str, _SHARED))}, or hip:gfxN",
        received=name,
    )
