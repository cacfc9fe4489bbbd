"""`Executable`: a model ready to run.

    exe.run({"x": x}) -> {"y": y}        exe(x) -> y

The sizes of symbolic dims are known when arrays arrive: each combination of shapes is compiled
once (a *specialisation*, see `build.py`) and the last ones are kept. A run looks its
specialisation up by the shapes of its inputs; only where that fails are inputs looked at closely.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from ..compiler.errors import InputError, UsageError
from ..compiler.ir import Graph
from ..compiler.types import TensorType
from .build import Built, Target, build
from .pool import available_cores
from .signature import Port, Signature, receive

KEPT = 16  # specialisations


class Executable:
    """A compiled model. Runs may come from several threads at once.

    `graph` is the optimized graph, with symbolic dims; `threads` how many cores a run may use;
    `notes` what the user should know of how it was made or loaded.
    """

    def __init__(
        self, graph: Graph, target: Target, *,
        level: int = 2, threads: int | None = None, strict: bool = False, kept: int = KEPT,
    ):  # fmt: skip
        self.graph, self.target, self.level, self.strict = graph, target, level, strict
        self.threads = check_threads(threads)
        self.notes: list[str] = []
        self.report = None
        self._kept = kept
        self._signature = Signature.of(graph)
        self._names = self._signature.names
        self._dtypes = [p.dtype for p in self.inputs]
        self._output_names = [p.name for p in self.outputs]
        self._built: OrderedDict[tuple, Built] = OrderedDict()  # by the inputs' shapes
        self._latest: Built | None = None
        self._building = threading.Lock()
        self._bound: dict[str, np.ndarray] = {}
        self._bound_run = threading.Lock()
        self._updates = {self._names[i]: o for o, i in graph.updates.items()}
        if not graph.symbols():
            self._static_key = tuple(
                v.type.shape if isinstance(v.type, TensorType) else None for v in graph.inputs
            )
        else:
            self._static_key = None

    @property
    def inputs(self) -> tuple[Port, ...]:
        return self._signature.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        return self._signature.outputs

    # -- running --------------------------------------------------------------------------

    def run(self, inputs: Mapping) -> dict:
        """The outputs by name, for arrays by name. Raises InputError for inputs that don't fit.

        The arrays returned belong to the caller.
        """
        if self._bound or self._updates:
            return self._run_with_updates(inputs)
        arrays, built = self._prepare(inputs)
        return dict(zip(self._output_names, built.module(arrays, self.threads)))

    def __call__(self, *inputs):
        """Positional inputs; the output, or a tuple of them if there are several."""
        names = [n for n in self._names if n not in self._bound]
        if len(inputs) != len(names):
            raise InputError(
                "wrong number of inputs", expected=f"{len(names)}: {', '.join(names)}",
                received=len(inputs),
            )  # fmt: skip
        outputs = tuple(self.run(dict(zip(names, inputs))).values())
        return outputs[0] if len(outputs) == 1 else outputs

    def _prepare(self, feeds: Mapping) -> tuple[list, Built]:
        """Checked arrays and their specialisation; the quick way if nothing is unusual."""
        try:
            arrays = [feeds[n] for n in self._names]
            key = tuple([x.shape for x in arrays])
            built = self._built[key]
            if built is not self._latest:
                self._built.move_to_end(key)
                self._latest = built
            if len(feeds) == len(arrays):
                for x, dtype in zip(arrays, self._dtypes):
                    flags = x.flags
                    if x.dtype is not dtype or not (flags.c_contiguous and flags.aligned):
                        break
                else:
                    return arrays, built
        except (KeyError, AttributeError, TypeError):
            pass  # something is unusual: the careful check says what
        arrays, binding = self._signature.check(feeds)
        return arrays, self.specialization(binding, tuple([x.shape for x in arrays]))

    def _run_with_updates(self, feeds: Mapping) -> dict:
        """Updated inputs are written in place: the executable's own, or a copy of the caller's."""
        with self._bound_run:
            taken = [n for n in feeds if n in self._bound] if isinstance(feeds, Mapping) else []
            if taken:
                raise InputError(
                    "a bound input belongs to the executable", received=", ".join(taken),
                    fix="leave it out of run(…), or write to the array that bind(…) returned",
                )  # fmt: skip
            if isinstance(feeds, Mapping):
                feeds = {**feeds, **self._bound}
            arrays, built = self._prepare(feeds)
            for i, name in enumerate(self._names):
                if name in self._updates and name not in self._bound:
                    arrays[i] = arrays[i].copy()
            outputs = built.module(arrays, self.threads)
            hidden = {self._updates[n] for n in self._bound if n in self._updates}
            return {
                n: y for i, (n, y) in enumerate(zip(self._output_names, outputs)) if i not in hidden
            }

    def bind(self, name: str, array) -> np.ndarray:
        """Keep an input here: it is no longer given to `run`, and an output that updates it is
        written into it, not returned.

        Returns the executable's own array, which starts as a copy of `array`; reading it between
        runs shows the present values, writing to it changes them.
        """
        if name not in self._names:
            raise UsageError("no such input", expected=", ".join(self._names), received=name)
        port = self.inputs[self._names.index(name)]
        own = receive(port, array).copy()
        with self._bound_run:
            self._bound[name] = own
        return own

    # -- specialisations ------------------------------------------------------------------

    def specialization(self, binding: Mapping[str, int], key: tuple | None = None) -> Built:
        """The code for sizes of the symbolic dims, compiled now if it is not there."""
        if key is None:
            key = self._key(binding)
        built = self._built.get(key)
        if built is not None:
            return built
        with self._building:
            built = self._built.get(key)
            if built is None:
                built = build(self.graph, dict(binding), self.level, self.target, self.strict)
                self.keep(built, key)
        return built

    def keep(self, built: Built, key: tuple | None = None) -> None:
        """Remember a specialisation; the oldest goes when there are too many."""
        self._built[self._key(built.binding) if key is None else key] = built
        while len(self._built) > self._kept:
            self._built.popitem(last=False)

    def _key(self, binding: Mapping[str, int]) -> tuple:
        """The shapes of the inputs under a binding."""
        if self._static_key is not None:
            return self._static_key
        missing = [s for s in self.graph.symbols() if s not in binding]
        if missing:
            raise UsageError(
                "sizes are missing", expected=", ".join(self.graph.symbols()),
                received=", ".join(f"{k}={v}" for k, v in binding.items()) or "none",
            )  # fmt: skip
        return tuple(v.type.substitute(binding).shape for v in self.graph.inputs)

    @property
    def specializations(self) -> list[Built]:
        """Those that are compiled, oldest first."""
        return list(self._built.values())

    # -- packages -------------------------------------------------------------------------

    def save(self, path) -> None:
        """Write a `.tsl` package: the graph, its weights, and the code that is compiled."""
        from .package import save

        save(self, path)

    def __repr__(self):
        inputs, outputs = (", ".join(map(str, x)) for x in (self.inputs, self.outputs))
        return f"<tessel.Executable {self.target.name} ({inputs}) -> ({outputs})>"


def check_threads(threads: int | None) -> int:
    """The number of threads that `threads` means. Raises UsageError for less than one."""
    if threads is None:
        return available_cores()
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or threads < 1:
        raise UsageError("a run needs a thread", expected="threads ≥ 1, or None", received=threads)
    return int(threads)
