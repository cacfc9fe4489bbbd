"""What runs: `Built`, a module in memory and what it was made of; and where compiled code is kept.

    built.module(arrays, threads) -> outputs

A module takes contiguous arrays in the graph's order and returns fresh ones; for each entry of
`graph.updates` it writes into the input's array and returns that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ...compiler.arguments import require_path
from ...compiler.classes import dataclass
from ...compiler.ir.graph import Graph
from ...compiler.ir.metadata.known_values import IMPOSSIBLE

if TYPE_CHECKING:
    from ...compiler.backends.llvm.base.cache import ObjectCache
    from ...compiler.kernels.kernel import Program

Cache = str | Path | bool | None  # a folder, None: the user's, False: none


class Module(Protocol):
    """Code in memory; callable from several threads at once."""

    def __call__(self, inputs: Sequence[np.ndarray], threads: int) -> list[Any]: ...


@dataclass(eq=False)
class Built:
    """One specialization of a model: its graph and program, its code, and what runs it.

    `program` and `graph` are None where the code was loaded from a package. `code` is the
    target's own record (the CPU's is `NativeCode`), None for numpy. It is right for these `values`
    of inputs only. Where it `is_dynamic`, code and program are those of all sizes.
    """

    binding: dict[str, int]
    module: Any  # a `Module`; where it `is_dynamic`, one that has `bound(sizes)`
    code: Any = None
    graph: Graph | None = None
    program: "Program | None" = None
    values: dict[str, np.ndarray] = field(default_factory=dict)
    is_dynamic: bool = False
    stages: tuple = ()  # executables run one after the other (`staged.py`); `program` is then None
    notes: tuple[str, ...] = ()  # what the user should know of how it runs
    read: Callable[[], Graph] | None = None  # its graph, where it was loaded and is not read yet

    @property
    def said(self) -> list[str]:
        """The notes, and what its graph says of branches."""
        where = None if self.graph is None else self.graph.metadata.get(IMPOSSIBLE)
        return [*self.notes, *([] if where is None else [f"a branch is {IMPOSSIBLE} ({where})"])]


def in_place(outputs: list, inputs: Sequence[np.ndarray], updates: Mapping[int, int]) -> list:
    """`outputs`, of which those that update inputs are written over these."""
    for i, j in updates.items():
        inputs[j][...] = outputs[i]
        outputs[i] = inputs[j]
    return outputs


class ShapeSpecialized(Protocol):
    """A model whose graph depends on sizes and values of its inputs.

    `values` names the inputs whose values decide; a call can find out that there are more. `sized`
    says which nodes need sizes, and why. `by_structure` tells it from a `structured.Reader`.
    """

    by_structure: Literal[False]
    values: tuple[str, ...]
    sized: tuple[str, ...]

    @property
    def graph(self) -> Graph:
        """What the model declares."""

    def __call__(self, binding: Mapping[str, int], inputs: Mapping[str, np.ndarray]) -> Graph: ...


def object_cache(cache: Cache) -> "ObjectCache":
    """The cache of compiled kernels: None the user's, False none, else a folder."""
    from ...compiler.backends.llvm.base.cache import ObjectCache, cache_folder

    if cache is None:
        return ObjectCache(cache_folder() / "objects")
    if cache is not False:
        require_path("cache", cache, "None: the user's cache folder, False: none")
    return ObjectCache(None if isinstance(cache, bool) else Path(cache))


def package_folder(cache: Cache) -> Path | None:
    """Where packages of earlier compilations are, for `cache` as `object_cache` takes it."""
    from ...compiler.backends.llvm.base.cache import cache_folder

    if cache is False:
        return None
    if cache is not None:
        require_path("cache", cache, "None: the user's cache folder, False: none")
    return (cache_folder() if cache is None else Path(str(cache))) / "packages"
