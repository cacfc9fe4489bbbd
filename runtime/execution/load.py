"""Code to something that runs: a loader for each kind of target, and a line in `LOADERS`.

    loader = open_loader(target)
    module = loader.load(record, program, output_types, updates)

A loader looks at this machine when it is opened; `load` does so when there is code.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...compiler.errors import UnsupportedError, UsageError
from ...compiler.system.mapped import files_behind
from ...compiler.targets.base import Target
from ..base.build import Module, in_place

if TYPE_CHECKING:
    from ...compiler.backends.llvm.program.native_code import NativeCode
    from ...compiler.kernels.kernel import Program


class Loader(Protocol):
    """Makes modules of a target's records."""

    def load(
        self, record: Any, program: "Program", outputs: Sequence, updates: Mapping[int, int]
    ) -> Module:
        """`outputs` are the outputs' types; `updates` say which of them takes over which input's
        memory. What this machine cannot run becomes a module that says so when it is called."""


class NumpyLoader:
    """Interprets the program."""

    def __init__(self, target: Target):
        self.target = target

    def load(
        self, record: None, program: "Program", outputs: Sequence, updates: Mapping[int, int]
    ) -> Module:
        from ...compiler.backends.numpy import NumpyModule

        inner, files = NumpyModule(program), files_behind(program.weights)

        def module(inputs: Sequence[np.ndarray], threads: int) -> list:
            for file in files:
                file.check()
            return in_place(inner(inputs), inputs, updates)

        return module


class NativeLoader:
    """Puts machine code into memory."""

    def __init__(self, target: Target):
        self.target = target

    def load(
        self,
        record: "NativeCode",
        program: "Program",
        outputs: Sequence,
        updates: Mapping[int, int],
    ) -> Module:
        from ...compiler.backends.llvm.base.target import runs_here
        from ..native.module import NativeModule

        reason = runs_here(self.target.machine)
        if reason is not None:
            return Foreign(self.target.name, reason)
        return NativeModule(record, outputs, dict(updates))


class Foreign:
    """Stands for code that this machine cannot run: it can be saved, not called."""

    def __init__(self, name: str, reason: str):
        self.name, self.reason = name, reason

    def __call__(self, inputs: Sequence[np.ndarray], threads: int) -> list:
        raise UsageError(
            f"code for {self.name} does not run on this machine",
            received=self.reason,
            fix="save it with exe.save(…) and load it there; target='cpu' is this machine",
        )


def _cuda(target: Target) -> Loader:
    try:
        from ..gpu.device import CudaLoader
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            "this installation has no GPU support",
            received=f"no module {error.name}",
            fix="pip install 'tessel[gpu]'; target='cpu' runs everywhere",
        ) from error
    return CudaLoader(target)


LOADERS: dict[str, Callable[[Target], Loader]] = {
    "cpu": NativeLoader,
    "numpy": NumpyLoader,
    "cuda": _cuda,
}


def open_loader(target: Target) -> Loader:
    """What loads the code of a target. Raises UnsupportedError where this installation has not got
    what that needs."""
    return LOADERS[target.kind](target)
