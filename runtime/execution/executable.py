"""`Executable`: a model ready to run.

    exe.run({"x": x}) -> {"y": y}        exe(x) -> y

The sizes of symbolic dims are known when arrays arrive. Code that takes them as arguments serves
all; where there is no such code, each combination of shapes is compiled once. Either way a
combination is a *specialization* (see `build.py`), and the last ones are kept. A run looks it up by
the shapes of inputs, and the values of those that decide shapes (`static`); else it looks closely.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...compiler.driver import is_refusal, what_needs_sizes
from ...compiler.errors import InputError, TesselError, UsageError, entrance, unforeseen
from ...compiler.ir.graph import Graph
from ...compiler.ir.metadata.known_values import plain
from ...compiler.system.concurrency import give_lock
from ...compiler.system.cores import check_threads
from ..base.build import Built, ShapeSpecialized
from ..base.signature import Port, Signature, receive
from ..native.updating import Certain, certain_limits, refuse_out_of_range
from .empty import WhenEmpty, graph_for
from .zeros import Zeros, bound_to

if TYPE_CHECKING:
    from ...compiler.options import Options
    from ...compiler.passes.base import Report
    from ...compiler.targets.base import Target
    from .overrides import Overrides
    from .pickling import Source
    from .session import Session

KEPT = 16  # specializations
EACH = "each combination of sizes is compiled by itself, the last ones are kept: "
_STATIC = "inputs decide shapes; this is compiled for "


class Executable:
    """A compiled model. Runs may come from several threads at once.

    `graph` is the optimized graph, with symbolic dims; `session` makes its code, for a `target` and
    with `options`; `threads` how many cores a run may use;
    `notes` what the user should know of how it was made or loaded; `report` what the passes did.

    `graph` may be given as a function that makes it when it is first needed (`signature` then says
    what it is like). `specialize(binding, inputs)` replaces putting sizes into the graph, for
    models that cannot be read without sizes or values; `graph` is then only a declaration.
    """

    def __init__(
        self, graph: Graph | Callable[[], Graph], session: "Session", *,
        signature: Signature | None = None, threads: int | None = None, kept: int = KEPT,
        specialize: ShapeSpecialized | None = None,
    ):  # fmt: skip
        self._graph, self.session = graph, session
        self.signature = Signature.of(cast(Graph, graph)) if signature is None else signature
        self.specialize = specialize
        self.threads = check_threads(threads)
        self.notes: list[str] = []
        self.report: Report | None = None
        self.source: Source | None = None  # the package that it was loaded from
        self._kept = kept
        self._names = self.signature.names
        # No array is of the dtype that stands for strings: each has to be looked at.
        ports = self.signature.inputs
        self._dtypes = [np.dtype("V") if p.dtype == object else p.dtype for p in ports]
        self._output_names = [p.name for p in self.outputs]
        self._built: OrderedDict[tuple[Any, ...], Built] = (
            OrderedDict()
        )  # by the inputs' shapes, and values
        self._dynamic: Built | None = None  # the code for all sizes
        self.needs_sizes: str | None = None  # why there is none
        self._static: tuple[int, ...] = ()
        self._certain: Certain | None = None
        self._latest: Built | None = None
        self._building = give_lock(self, "_building")
        self._bound_run = give_lock(self, "_bound_run")
        self._parsing = give_lock(self, "_parsing")
        self._bound: dict[str, np.ndarray] = {}
        self._free = self._names  # inputs that a run is given: those that are not bound
        self.on_built: Callable[[Executable], None] | None = None  # after code for further sizes
        self.recall: Callable[[dict, dict], Built | None] | None = None  # what `reuse` has kept
        self.empty: WhenEmpty | None = None  # what reads the model anew for sizes of 0
        self.zeros = Zeros(self)
        self.overrides: Overrides | None = None  # what runs where inputs with a default are fed
        self._updates = {self._names[i]: o for o, i in self.signature.updates.items()}
        if specialize is not None and specialize.sized:
            self.notes.append(EACH + "; ".join(specialize.sized))
        self._make_static(self.signature.values if specialize is None else specialize.values)

    @property
    def graph(self) -> Graph:
        if callable(self._graph):
            with self._parsing:
                made = self._graph  # by now another thread may have made it
                self._graph = made() if callable(made) else made
        return self._graph

    @property
    def target(self) -> "Target":
        """What the code is made for."""
        return self.session.target

    @property
    def options(self) -> "Options":
        """What decides the code besides the target."""
        return self.session.options

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What a run has to give, then what it may give (`port.optional`, `port.default`)."""
        return self.signature.inputs + (() if self.overrides is None else self.overrides.ports)

    @property
    def outputs(self) -> tuple[Port, ...]:
        return self.signature.outputs

    # -- running --------------------------------------------------------------------------

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, for arrays by name. Raises InputError for inputs that don't fit,
        OutOfMemoryError where memory does not hold what follows from them.

        The arrays returned belong to the caller.
        """
        try:
            if self._bound or self._updates:
                return self._run_with_updates(inputs)
            arrays, built = self._prepare(inputs)
            return dict(zip(self._output_names, built.module(arrays, self.threads)))
        except Exception as error:
            raise unforeseen(error)  # noqa: B904  its cause is set

    def __call__(self, *inputs: Any) -> Any:
        """Positional inputs; the output, or a tuple of them if there are several."""
        names = self._free
        if len(inputs) != len(names):
            wanted = f"{len(names)}: {', '.join(names)}"
            raise InputError("wrong number of inputs", expected=wanted, received=len(inputs))
        try:
            built = None if self._bound or self._updates else self._known(inputs)
            if built is not None:
                outputs = built.module(inputs, self.threads)
            else:
                outputs = tuple(self.run(dict(zip(names, inputs))).values())
        except Exception as error:
            raise unforeseen(error)  # noqa: B904  its cause is set
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _prepare(self, feeds: Mapping[str, Any]) -> tuple[list[Any], Built]:
        """Checked arrays and their specialization; the quick way if nothing is unusual."""
        try:
            arrays = [feeds[n] for n in self._names]
            usual = len(feeds) == len(arrays)
        except (KeyError, IndexError, AttributeError, TypeError):
            usual = False  # the careful check says what is wrong
        built = self._known(arrays) if usual else None
        if built is not None:
            return arrays, built
        if (other := self._overridden(feeds)) is not None:
            return other._prepare(feeds)
        arrays, binding = self.signature.check(feeds)
        return arrays, self.specialization(binding, arrays)

    def _overridden(self, feeds: Mapping[str, Any]) -> "Executable | None":
        """What takes these inputs, where they replace defaults."""
        if self.overrides is None:
            return None
        fed = self.overrides.fed(feeds)
        return self.overrides.executable(fed) if fed else None

    @entrance
    def ready(self, inputs: Mapping[str, Any]) -> None:
        """Compile for these inputs, as `run` would."""
        self._prepare(inputs)

    def _known(self, arrays: Sequence[Any]) -> Built | None:
        """The specialization of inputs in order that code can take as they are, if it is there.

        None if anything is unusual: it is then for the careful check to convert or to refuse.
        """
        try:
            key = tuple([x.shape for x in arrays])
            if self._static:
                key += tuple([arrays[i].tobytes() for i in self._static])
            built = self._built[key]
            if built is not self._latest:
                self._built.move_to_end(key)
                self._latest = built
            for x, dtype in zip(arrays, self._dtypes):
                flags = x.flags
                # Scalars of numpy have all of these attributes, and no memory to hand over.
                if (
                    x.dtype != dtype
                    or not (flags.c_contiguous and flags.aligned)
                    or type(x) is not np.ndarray  # subclasses are looked at
                ):
                    return None
        except (KeyError, IndexError, AttributeError, TypeError):
            return None
        return built

    def _run_with_updates(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Updated inputs are written in place: the executable's own, or a copy of the caller's."""
        with self._bound_run:
            taken = [n for n in feeds if n in self._bound] if isinstance(feeds, Mapping) else []
            if taken:
                raise InputError(
                    "a bound input belongs to the executable", received=", ".join(taken),
                    fix="leave it out of run(…), or write to the array that bind(…) returned",
                )  # fmt: skip
            if self.overrides is not None and self.overrides.fed(feeds):
                raise UsageError(
                    "defaults cannot be replaced while inputs are bound", received=", ".join(feeds)
                )
            if isinstance(feeds, Mapping):
                feeds = {**feeds, **self._bound}
            arrays, built = self._prepare(feeds)
            if self._certain is None:
                checked = self._updates and not self.options.unchecked
                self._certain = certain_limits(self.graph, self._names) if checked else []
            refuse_out_of_range(arrays, self._certain, built.binding)
            for i, name in enumerate(self._names):
                if name in self._updates and name not in self._bound:
                    arrays[i] = arrays[i].copy()
            outputs = built.module(arrays, self.threads)
            hidden = {self._updates[n] for n in self._bound if n in self._updates}
            return {
                n: y for i, (n, y) in enumerate(zip(self._output_names, outputs)) if i not in hidden
            }

    @entrance
    def bind(self, name: str, array: Any) -> np.ndarray:
        """Keep an input here: it is no longer given to `run`, and an output that updates it is
        written into it, not returned.

        Returns the executable's own array, which starts as a copy of `array`; reading it between
        runs shows the present values, writing to it changes them.
        """
        if name not in self._names:
            raise UsageError("no such input", expected=", ".join(self._names), received=name)
        port = self.signature.inputs[self._names.index(name)]
        own = receive(port, array).copy()
        with self._bound_run:
            self._bound[name] = own
            self._free = [n for n in self._names if n not in self._bound]
        return own

    # -- specializations ------------------------------------------------------------------

    @property
    def static(self) -> tuple[str, ...]:
        """Inputs that decide shapes: the model is compiled for each of their values.

        What was loaded from a package takes the values that it was saved with, and no others.
        """
        return tuple(self._names[i] for i in self._static)

    def _make_static(self, names: Iterable[str]) -> None:
        """From now on, values of these inputs are part of a specialization's key."""
        static = tuple(self._names.index(n) for n in names)
        if static == self._static:
            return
        self._built, self._static = OrderedDict(), static  # keys of another length are never met
        self.notes = [n for n in self.notes if not n.startswith(_STATIC)]
        own = (f"{n} = {plain(a)}" for n, a in self.signature.values.items())
        each = f"each value of {', '.join(self.static)}"
        self.notes.append(_STATIC + (each if self.specialize is not None else ", ".join(own)))

    @entrance
    def specialization(
        self, binding: Mapping[str, int], inputs: Sequence[np.ndarray] | None = None
    ) -> Built:
        """The code for sizes of the symbolic dims, compiled now if it is not there.

        `inputs` are checked arrays in order; without them there must be no `static` inputs.
        """
        built = self._built.get(self._key(binding, inputs))
        if built is not None:
            return built
        with self._building:
            built = self._built.get(self._key(binding, inputs))
            if built is None:
                bound = self._bound_to(binding)
                built = bound or self.zeros.make(binding) or self._build(dict(binding), inputs)
                self.keep(built)
                if bound is None and self.on_built is not None:
                    self.on_built(self)
        return built

    def fixed(
        self, binding: Mapping[str, int], inputs: Sequence[np.ndarray] | None = None
    ) -> Built:
        """Code for these sizes and no others, which runs from now on: its kernels show numbers."""
        built = self.specialization(binding, inputs)
        if built.is_dynamic:
            with self._building:
                built = self._build(dict(binding), inputs)
                self.keep(built)
        return built

    def open(self, built: Built | None = None) -> None:
        """Make code for all sizes now, or take what was made before. Where some op has to know the
        sizes, each combination is compiled when it is first run; a note says why."""
        if built is None and (not self.signature.symbols or not self.target.dynamic_shapes):
            return
        graph = self.graph if built is None else None  # a package's is read now, and may be damaged
        try:
            self._dynamic = built or self.session.build_dynamic(cast(Graph, graph), self.report)
            self._note(self._dynamic.notes)
        except (TypeError, TesselError) as error:
            if not is_refusal(error):
                raise
            self.without_dynamic(what_needs_sizes(error))

    def without_dynamic(self, reason: str) -> None:
        """There is no code for all sizes, which has been found out already."""
        self.needs_sizes = reason
        self.notes.append(EACH + reason)

    def _bound_to(self, binding: Mapping[str, int]) -> Built | None:
        """The code for all sizes with these ones, if it is there and right for them. Raises
        InputError for sizes that contradict the model."""
        if self._dynamic is None:
            return None
        return bound_to(self._dynamic, self, binding) or self.zeros.known(binding)

    @property
    def for_all_sizes(self) -> Built | None:
        """The code for all sizes, if there is such."""
        return self._dynamic

    def _key(self, binding: Mapping[str, int], inputs: Sequence[np.ndarray] | None) -> tuple:
        if inputs is not None:
            shapes = tuple([getattr(x, "shape", None) for x in inputs])  # maps have none
            return shapes + tuple([inputs[i].tobytes() for i in self._static])
        shapes = self.signature.shapes(binding)
        values = self.signature.values
        missing = [n for n in self.static if n not in values]
        if missing:
            raise UsageError(
                "values of inputs that decide shapes are missing", expected=", ".join(missing),
                fix="run it once with real inputs (in a terminal: --inputs FILE.npz)",
            )  # fmt: skip
        return shapes + tuple([values[n].tobytes() for n in self.static])

    def keep(self, built: Built) -> None:
        """Remember a specialization; the oldest goes when there are too many."""
        values = tuple([built.values[n].tobytes() for n in self.static])
        self._built[self.signature.shapes(built.binding) + values] = built
        while len(self._built) > self._kept:
            self._built.popitem(last=False)
        self._note(built.said)

    def _note(self, notes: Iterable[str]) -> None:
        self.notes += [n for n in notes if n not in self.notes]

    def _build(self, binding: dict[str, int], inputs: Sequence[np.ndarray] | None) -> Built:
        if self.specialize is None:
            report = None if binding else self.report  # it has been told once
            built = self.session.build(graph_for(self, binding), binding, report)
            return replace(built, values=self.signature.values)
        named = {} if inputs is None else dict(zip(self._names, inputs))
        made = None if self.recall is None else self.recall(binding, named)
        if made is None:
            graph = self.session.optimize(self.specialize(binding, named))
            made = self.session.build(graph, {})
        built = made
        self._make_static(self.specialize.values)
        values = {n: named[n].copy() for n in self.static}
        return replace(built, binding=binding, values=values)

    @property
    def specializations(self) -> list[Built]:
        """Those that are compiled, oldest first."""
        return list(self._built.values())

    # -- packages -------------------------------------------------------------------------

    @entrance
    def save(self, path: str | PathLike[str]) -> None:
        """Write a `.tsl` package: the graph, its weights, and the code that is compiled."""
        from .package import save

        save(self, path)

    def __reduce__(self) -> tuple[Any, ...]:
        from .pickling import reduced

        return reduced(self)

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, x)) for x in (self.inputs, self.outputs))
        return f"<tessel.Executable {self.target.name} ({inputs}) -> ({outputs})>"
