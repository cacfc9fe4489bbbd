"""Models that are read anew for sizes or values, in the cache of earlier compilations.

    KEY.deferred.tsl       what the model declares, and which inputs' values decide
    KEY.deferred.HASH.tsl  a package of the graph for one combination of sizes and values

A process that finds the first runs what it finds of the second, and reads the model only for what
it does not find (`Recalled`).
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...compiler.errors import TesselError
from ...compiler.ir.graph import Graph
from ...compiler.options import Options
from ...compiler.system.concurrency import give_lock
from ...compiler.system.files import is_own
from ..base.build import Built, ShapeSpecialized
from ..execution.executable import Executable
from ..execution.package import Package, read_signature, save, written_signature
from ..execution.session import Session
from ..package.container import Container, Writer
from .folder import bytes_of, fits, remove, trim, use

if TYPE_CHECKING:
    from ...compiler.backends.llvm.base.cache import ObjectCache

SECTION = "deferred"


class Recalled:
    """A `ShapeSpecialized` of an earlier process, which `make` reads once it is needed."""

    by_structure: Literal[False] = False

    def __init__(
        self, make: Callable[[], ShapeSpecialized], values: tuple, sized: tuple, names: list
    ):
        self.values: tuple[str, ...] = values
        self.sized: tuple[str, ...] = sized
        self._make, self._names = make, names
        self._model: ShapeSpecialized | None = None
        self._making = give_lock(self, "_making")

    @property
    def graph(self) -> Graph:
        """What the model declares."""
        return self._read().graph

    def _read(self) -> ShapeSpecialized:
        with self._making:
            if self._model is None:
                self._model = self._make()
            return self._model

    def __call__(self, binding: Mapping[str, int], inputs: Mapping[str, np.ndarray]) -> Graph:
        model = self._read()
        graph = model(binding, inputs)
        self.values = tuple(n for n in self._names if n in {*self.values, *model.values})
        return graph


def load(
    path: Path, make: Callable[[], ShapeSpecialized], threads: int, cache: "ObjectCache"
) -> tuple[Executable, dict[str, Any]]:
    """The executable that was kept as `path`, which has compiled nothing yet, and what was written
    beside it. Raises OSError, PackageError, or what nonsense raises."""
    section = Container(path).section(SECTION)
    said = json.loads(bytes(section))
    signature = read_signature(said["signature"])
    model = Recalled(make, tuple(said["values"]), tuple(said["sized"]), signature.names)
    session = Session.open(said["target"], Options.from_dict(said), cache=cache)
    exe = Executable(
        lambda: model.graph, session, signature=signature, specialize=model, threads=threads
    )
    return exe, said["about"]


def keep(path: Path, exe: Executable, about: Mapping) -> None:
    """Write what `load` reads. Raises OSError, TesselError."""
    model = exe.specialize
    assert model is not None
    said = {
        "signature": written_signature(exe.signature),
        "values": list(model.values),
        "sized": list(model.sized),
        "target": exe.target.name,
        **exe.options.to_dict(),
        "about": about,
    }
    with Writer(path, durable=False) as out:
        out.add(SECTION, [json.dumps(said).encode()])


def attach(path: Path, exe: Executable, about: Mapping, is_same: Callable[[], bool]) -> None:
    """From now on `exe` looks for specializations beside `path`, and keeps what it compiles there,
    as long as the model `is_same`."""

    def place(binding: Mapping[str, int], inputs: Mapping[str, np.ndarray]) -> Path:
        values = [(n, inputs[n].tobytes()) for n in exe.static]
        what = repr((exe.signature.shapes(binding), values)).encode()
        return path.with_name(f"{path.stem}.{hashlib.sha256(what).hexdigest()[:24]}.tsl")

    def recall(binding: Mapping[str, int], inputs: Mapping[str, np.ndarray]) -> Built | None:
        package = place(binding, inputs)
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, TesselError):
            found = is_own(os.stat(package)) and _recalled(package, exe)
            if found:
                use(package)
                return found
        return None

    def store(_: Executable) -> None:
        built, folder = exe.specializations[-1], path.parent
        if built.graph is None or not is_same() or not path.exists():
            return  # it was recalled; the model is another one now; the cache was cleared
        package = place(built.binding, built.values)
        if not fits(folder, bytes_of(built.graph)):
            return
        try:
            save(exe, package, durable=False, about={"notes": built.said}, only=built)
            keep(path, exe, about)  # by now more inputs may decide
        except (OSError, TesselError):
            remove(package)
            return
        if fits(folder, os.stat(package).st_size):
            trim(folder, keep=package)
        else:
            remove(package)

    exe.recall, exe.on_built = recall, store


def _recalled(path: Path, exe: Executable) -> Built | None:
    """The specialization that a package holds, if its code runs here."""
    package = Package(path)
    if package.foreign() is not None:
        return None
    package.container.check()
    made = package.load(threads=exe.threads, cache=exe.target.cache)
    (built,) = made.specializations
    notes = tuple(str(n) for n in package.about["notes"])
    return replace(built, notes=notes, read=lambda: made.graph)
