"""What code is made for: a target per file, and a line in `TARGETS`.

    target = open_target("cpu:x86-64-v3")
    record = target.compile(program, updates)

A name is a kind and what that kind makes of the rest: "cpu", "cpu:x86-64-v3", "cuda:sm_90".
"""

import importlib
from typing import Any

from ..errors import UsageError
from .base import Target

# Which module of this package has a kind, its class there, and the names that it takes. Only one of
# the modules is imported.
TARGETS = {
    "cpu": ("cpu", "CpuTarget", "cpu, cpu:NAME"),
    "numpy": ("numpy", "NumpyTarget", "numpy"),
    "cuda": ("cuda", "CudaTarget", "cuda, cuda:sm_NN"),
}
NAMES = ", ".join(names for _, _, names in TARGETS.values())


def open_target(name: str, cache: Any = None, tuning: Any = None) -> Target:
    """The target of a name. `cache` keeps compiled kernels, `tuning` measures schedules, where the
    target does so.

    Raises UsageError for unknown names, and for targets without schedules to measure where there
    is a `tuning`.
    """
    kind = name.partition(":")[0] if isinstance(name, str) else None
    if kind not in TARGETS:
        raise UsageError("unknown target", expected=NAMES, received=repr(name))
    module, made, _ = TARGETS[kind]
    target = getattr(importlib.import_module(f".{module}", __package__), made)
    if tuning is not None and not target.measures:
        raise UsageError(
            "there is nothing to tune",
            expected="target='cpu' or 'cpu:NAME'",
            received=name,
            fix="leave out tune",
        )
    return target(name, cache, tuning)
