"""From a model to an `Executable`: what is behind `tessel.compile`.

    exe = compile_model(source, Options(), target="cpu", shapes={"x": (1, 3)})
    exe = compile_graph(graph)

A `Source` is a model as the frontend that reads it knows it; the runtime sees graphs only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from ..compiler.arguments import require, require_function, require_shapes
from ..compiler.classes import dataclass
from ..compiler.errors import ModelError, UnsupportedError, UsageError, entrance
from ..compiler.ir.graph import Graph
from ..compiler.options import Options
from ..compiler.system import concurrency  # noqa: F401  first: from here on forks wait for imports
from ..compiler.system.cores import check_threads
from .base.build import Cache, ShapeSpecialized, object_cache, package_folder
from .base.signature import Port, fix_shapes
from .execution.executable import Executable
from .execution.session import Session

if TYPE_CHECKING:
    from ..compiler.passes.base import Observer
    from ..compiler.system.progress import Listener
    from .execution.structured import Reader
    from .tuning.tune import Tuning

Shapes = Mapping[str, Sequence[int | None]]


class Source(Protocol):
    """A model that can be read.

    `reusable` is the path or the bytes by which an earlier compilation of the same model is found;
    None where there is no such thing. `is_file` says whether it can be read anew: for sizes of 0,
    or with other inputs. `is_prepared` says that passes have been over it, and that files are
    written of it as it is.
    """

    @property
    def reusable(self) -> Any: ...
    @property
    def is_file(self) -> bool: ...
    @property
    def is_prepared(self) -> bool: ...

    def read(self, shapes: Shapes | None = None, values: Mapping | None = None) -> Graph:
        """The graph, with these sizes of dynamic dims, right for these values of inputs."""

    def specialized_model(
        self, shapes: Shapes | None, error: UnsupportedError
    ) -> "ShapeSpecialized | Reader | None":
        """What reads the model once sizes, values or structures are known, where `error` says that
        it is only these which are missing."""

    def watched(self) -> "Source":
        """The same model, whose `files` are known once it was read."""

    @property
    def files(self) -> Mapping[str, list[int]]:
        """The stamps of files beside a model that is `watched`."""

    def default(self, name: str) -> np.ndarray:
        """The value of an input that has a default."""

    def feeding(self, names: frozenset[str]) -> "Source":
        """The model in which inputs with a default have none."""


class GraphSource:
    """A graph as a model."""

    reusable = None
    is_file = False

    def __init__(self, graph: Graph, is_prepared: bool = False):
        self.graph, self.is_prepared = graph, is_prepared

    def read(self, shapes: Shapes | None = None, values: Mapping | None = None) -> Graph:
        require_shapes(shapes)
        if values:
            raise UsageError("a graph's shapes never depend on values", received=", ".join(values))
        return fix_shapes(self.graph, shapes) if shapes else self.graph

    def specialized_model(self, shapes: Shapes | None, error: UnsupportedError) -> None:
        return None

    def watched(self) -> "GraphSource":
        return self

    @property
    def files(self) -> Mapping[str, list[int]]:
        return {}

    def default(self, name: str) -> np.ndarray:
        raise KeyError(name)  # no input of a graph has a default

    def feeding(self, names: frozenset[str]) -> "GraphSource":
        return self


@dataclass(frozen=True)
class _Said:
    """What `compile` was asked for, beside the model."""

    options: Options
    target: str
    shapes: Shapes | None
    threads: int
    cache: Cache
    progress: "Listener | None"


@entrance
def compile_graph(
    graph: Graph, *, target: str = "cpu", threads: int | None = None, cache: Cache = None
) -> Executable:
    """The executable of a graph, with the default options. Raises TesselError."""
    require("the graph", graph, Graph, "a Graph", "tessel.from_onnx(path), or tessel.compile")
    return compile_model(GraphSource(graph), Options(), target=target, threads=threads, cache=cache)


def compile_model(
    source: Source,
    options: Options,
    *,
    target: str = "cpu",
    shapes: Shapes | None = None,
    threads: int | None = None,
    cache: Cache = None,
    observer: "Observer | None" = None,
    tune: "float | Tuning | None" = None,
    reuse: bool = True,
    progress: "Listener | None" = None,
) -> Executable:
    """The executable of a model; the words are those of `tessel.compile`. Raises TesselError."""
    from ..compiler.system.garbage import seldom_collected

    for what, listener in (("observer", observer), ("progress", progress)):
        if listener is not None:
            require_function(what, listener)
    said = _Said(options, target, shapes, check_threads(threads), cache, progress)
    with seldom_collected:
        if reuse and observer is None and tune is None and not options.verify_bounds:
            exe = _compile_once(source, said)
        else:
            exe = _compile(source, said, observer, tune)
        if exe.signature.optional and source.is_file:
            _take_overrides(exe, source, said)
    return exe


def _compile_once(source: Source, said: _Said) -> Executable:
    """`_compile`, unless an earlier one of the same left its package in the cache."""
    from .reuse.entries import find, why_not

    shapes = said.shapes
    decisive = {"options": said.options.key(), "target": said.target, "shapes": shapes}
    folder = package_folder(said.cache)
    entry = None if source.reusable is None else find(source.reusable, decisive, folder)
    if entry is None:
        exe = _compile(source, said)
        if (reason := why_not(folder)) is not None:
            exe.notes.append(reason)
        return exe
    make = cast(Callable[[], ShapeSpecialized], partial(_specialized_model, source, shapes))
    found = entry.load(said.threads, object_cache(said.cache), make)
    if found is not None:
        found.session.driver.progress = said.progress
        return found if found.specialize is not None else _take_empty(found, source, shapes)
    watched = source.watched()
    exe = _compile(watched, said)
    entry.keep(exe, watched.files)
    return exe


def _specialized_model(source: Source, shapes: Shapes | None) -> "ShapeSpecialized | Reader":
    """A model that is read anew for sizes or values, as an earlier process found out."""
    try:
        source.read(shapes)
    except UnsupportedError as error:
        if (specialized := source.specialized_model(shapes, error)) is not None:
            return specialized
        raise
    raise ModelError("the file has changed since it was compiled", fix="compile it again")


def _compile(
    source: Source,
    said: _Said,
    observer: "Observer | None" = None,
    tune: "float | Tuning | None" = None,
) -> Executable:
    """The executable, with every initializer as a weight."""
    from ..compiler.ir.metadata.structure import KEY
    from ..compiler.ir.nonempty import nonempty
    from ..compiler.passes.base import Report
    from ..compiler.system.budgets import SPENT
    from ..compiler.system.progress import tell

    shapes, progress = said.shapes, said.progress
    tuning = None
    if tune is not None:
        from .tuning.tune import open_tuning

        tuning = open_tuning(tune, said.cache)
    objects = object_cache(said.cache)
    session = Session.open(
        said.target, said.options, cache=objects, tuning=tuning, progress=progress
    )
    tell(progress, "read", 0, 1)
    try:
        graph = source.read(shapes)
    except UnsupportedError as error:
        specialized = source.specialized_model(shapes, error)
        if specialized is None:
            raise
        return _specialized_executable(specialized, session, said.threads)
    tell(progress, "read", 1, 1)
    if said.options.quantize is not None:
        from ..compiler.compress.candidates import refuse_quantized

        refuse_quantized(graph)
    report = Report()
    graph = session.optimize(graph, report, observer)
    exe = Executable(graph, session, threads=said.threads)
    exe.report = report
    if nonempty(graph):
        _take_empty(exe, source, shapes)
    exe.open()
    if not exe.signature.symbols:
        exe.specialization({})
    if tuning is not None:
        exe.notes.extend(tuning.notes)
    if SPENT in graph.metadata:
        exe.notes.append(f"{SPENT} (limits: folded): {graph.metadata[SPENT]}")
    if objects.note is not None:
        exe.notes.append(objects.note)
    if KEY not in graph.metadata:
        return exe
    from .execution.structured import with_structure

    return with_structure(exe, graph.metadata)


def _specialized_executable(
    model: "ShapeSpecialized | Reader", session: Session, threads: int
) -> Executable:
    """The executable of a model that is read when a run shows what it lacks."""
    if model.by_structure:
        from .execution.structured import Structured

        return Structured.of(model, session, threads)
    return Executable(model.graph, session, threads=threads, specialize=model)


def _take_empty(exe: Executable, source: Source, shapes: Shapes | None) -> Executable:
    """`exe`, which reads its model anew for sizes of 0, where its graph does not mean them."""
    from .execution.empty import WhenEmpty

    if source.is_file and exe.signature.symbols:
        exe.empty = WhenEmpty(partial(_read_sized, source, dict(shapes or {})))
    return exe


def _read_sized(source: Source, shapes: dict, sized: dict, values: dict) -> Graph:
    return source.read(shapes | sized, values)


def _take_overrides(exe: Executable, source: Source, said: _Said) -> None:
    """From now on `exe` takes values for those of its weights that a run may replace."""
    from .execution.overrides import Overrides

    def fed(names: frozenset[str]) -> Executable:
        return _compile(source.feeding(names), replace(said, progress=None))

    ports = [
        Port(name, type, partial(source.default, name))
        for name, type in exe.signature.optional.items()
    ]
    exe.overrides = Overrides(ports, fed)
