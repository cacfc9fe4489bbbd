"""What a model wants to be fed, whichever way it was opened; and the inputs that a command runs.

    interface = of_graph(graph)                  or of_executable(exe), of_specialized(model)
    feeds = interface.feeds(given, seed, shapes)

What a user does not give is made at random, in sizes that `guess.py` chooses and stderr names.
Values that decide shapes are never made up: the error has the command that gives them.
"""

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field

import click
import numpy as np

from ...compiler.analysis.equations import equal_sizes, equations
from ...compiler.analysis.input_limits import input_limits
from ...compiler.classes import dataclass
from ...compiler.errors import InputError, TesselError, UsageError
from ...compiler.ir.dims import Sym, symbols
from ...compiler.ir.graph import Graph
from ...compiler.ir.specialize import specialize
from ...compiler.ir.types import TensorType, dtype_of
from ...runtime.base.signature import Port, Signature
from ...runtime.execution.executable import Executable
from .feeds import Input, Shape, random_feeds
from .given import Given
from .guess import Guess, attempts, guess
from .structures import gather, invent, is_plain
from .terminal import say

PATIENCE = 2.0  # seconds to look for values that an example can have


@dataclass(frozen=True)
class Interface:
    """The inputs of a model. `static()` names those whose values decide shapes;
    `read(sizes, values)` gives the graph for sizes of dynamic dims and values of inputs, and may
    find that more decide; `graph()` is the one of all sizes, if there is such; `own` are values
    that no others may replace."""

    ports: Sequence[Port]
    read: Callable[[Mapping[str, int], Mapping[str, np.ndarray]], Graph]
    graph: Callable[[], Graph | None] = lambda: None
    static: Callable[[], Sequence[str]] = tuple
    own: Mapping[str, np.ndarray] = field(default_factory=dict)

    def feeds(
        self, given: Given, seed: int | None, shapes: Mapping[str, Shape], model: object = "MODEL"
    ) -> dict:
        """Arrays by name: those `given`, others at random. What has a default is left out, unless
        it is given. `model` is what errors call the file."""
        self._want_values(given, model)
        missing = self._missing(given, seed)
        if not missing:
            if seed is not None and given:
                raise UsageError("--inputs has every input: nothing is left for --random")
            if shapes and given:
                raise UsageError("--inputs already says the shapes", fix="leave out --shapes")
            return gather(self.ports, given.arrays, given.where)
        if given:
            names = ", ".join(p.name for p in missing)
            say(f"note: at random, as --inputs does not have them: {names}")
        made = self._random(missing, given.arrays, 0 if seed is None else seed, shapes)
        self._want_values(given, model)
        made |= {p.name: self.own[p.name] for p in missing if p.name in self.own}
        rest = [p for p in self.ports if p not in missing]
        return gather(rest, given.arrays, given.where) | made

    def _want_values(self, given: Given, model: object) -> None:
        if any(n not in given.arrays for n in self.static()):
            raise self.values_needed(model)

    def _missing(self, given: Given, seed: int | None) -> list[Port]:
        """The inputs to make up. A file of inputs that lacks some is refused (by `gather`), unless
        random ones are asked for."""
        required = [p for p in self.ports if not p.optional]
        if given and given.whole and seed is None:
            return []
        there = [*given.arrays]
        return [
            p for p in required if not any(n == p.name or n.startswith(f"{p.name}[") for n in there)
        ]

    def _random(self, missing: list[Port], arrays: Mapping, seed: int, shapes: Mapping) -> dict:
        if not is_plain(self.ports):
            if not is_plain(missing):
                say("note: lists of two and vectors of three are made up; --inputs gives others")
            return invent(missing, lambda ports: random_feeds(ports, seed))
        graph = self.graph()
        limits = {} if graph is None else input_limits(graph)
        names = [p.name for p in self.ports]
        known = {n: x.shape for n, x in arrays.items() if n in names}
        found = self.guess(known | dict(shapes), arrays)
        return random_feeds(
            missing,
            seed,
            {p.name: found.shapes[p.name] for p in missing},
            limits=limits,
            sizes=found.sizes,
        )

    def guess(self, shapes: Mapping[str, Shape], values: Mapping | None = None) -> Guess:
        """Sizes for the dims that are open still; said on stderr."""
        names = {p.name for p in self.ports}
        optional = {p.name for p in self.ports if p.optional}
        shapes = {n: s for n, s in shapes.items() if n in names - optional or n not in names}
        ports = [p for p in self.ports if not p.optional]
        values = {} if values is None else values
        found = guess(ports, shapes, lambda sizes: self.read(sizes, values), self._equal())
        if found.guessed:
            say(f"note: {found}")
        return found

    def _equal(self) -> dict[str, object]:
        """Dims that must be what others make them."""
        graph = self.graph()
        if graph is None or not any(map(symbols_of, self.ports)):
            return {}
        try:
            return equal_sizes(graph, equations(graph))[1]
        except (TypeError, TesselError):
            return {}

    # -- values that decide shapes ----------------------------------------------------------

    def values_needed(self, model: object) -> UsageError:
        """The error where values of inputs decide shapes and are not given, in every command."""
        ports = [p for p in self.ports if p.name in self.static()]
        context = click.get_current_context(silent=True)
        command = "run" if context is None or context.info_name is None else context.info_name
        values = self._example(ports)
        options = " ".join(
            "--inputs " + shlex.quote(f"{n}={json.dumps(x.tolist(), separators=(',', ':'))}")
            for n, x in values.items()
        )
        return UsageError(
            "values of inputs decide shapes, so they have to be given",
            expected=", ".join(map(str, ports)),
            fix=f"for example: tessel {command} {shlex.quote(str(model))} {options}",
        )

    def _example(self, ports: Sequence[Port]) -> dict[str, np.ndarray]:
        """Values that the model takes, if such are found in little time; else ones."""
        end = time.monotonic() + PATIENCE
        required = [p for p in self.ports if not p.optional]
        for pattern in _PATTERNS:
            values = {p.name: _vector(p, pattern) for p in ports}
            for sizes in attempts(required, {n: x.shape for n, x in values.items()}):
                if time.monotonic() > end:
                    break
                with suppress(TesselError):
                    self.read(sizes, values)
                    return values
        return {p.name: _vector(p, _PATTERNS[0]) for p in ports}


# What shapes, places and counts often are: as [1, 1], [1, -1], [2, 2], [0, 0].
_PATTERNS = (
    lambda n: [1] * n,
    lambda n: [1] * (n - 1) + [-1],
    lambda n: [2] * n,
    lambda n: [0] * n,
)


def _vector(port: Port, pattern: Callable) -> np.ndarray:
    sizes = dict.fromkeys(symbols_of(port), 2)
    shape = port.type.substitute(sizes).shape
    count = int(np.prod(shape))
    return np.array(pattern(count), np.int64).astype(port.dtype).reshape(shape)


def symbols_of(port: Port) -> set[str]:
    """The dynamic dims of an input."""
    shape = port.type.shape if isinstance(port.type, TensorType) else ()
    return set().union(*map(symbols, shape))


# -- ways to open a model -------------------------------------------------------------------


def of_graph(graph: Graph) -> Interface:
    """The inputs of a graph."""
    signature = Signature.of(graph)
    return Interface(
        signature.inputs,
        lambda sizes, values: specialize(graph, sizes),
        lambda: graph,
        own=signature.values,
    )


def of_specialized(model) -> Interface:
    """The inputs of a model that is read when sizes and values are known (`specialized.py`)."""
    return Interface(Signature.of(model.graph).inputs, _reader(model), static=lambda: model.values)


def of_unread(inputs: Sequence[Input]) -> Interface:
    """The inputs of a file that only its signature is known of."""
    ports = [
        Port(
            i.name,
            TensorType(
                dtype_of(np.empty(0, i.dtype)),
                tuple(d if isinstance(d, int) else Sym.named(d) for d in i.shape),
            ),
        )
        for i in inputs
    ]

    def read(sizes, values):
        raise InputError("tessel cannot read the model")

    return Interface(ports, read)


def _reader(model) -> Callable:
    def read(sizes, values):
        try:
            return model(sizes, values)
        except KeyError as name:  # only now it is known that this one decides, too
            raise InputError("values of an input decide shapes", received=name) from None

    return read


def of_executable(exe: Executable) -> Interface:
    """The inputs of an executable, whatever it was made of."""
    own, model = exe.signature.values, exe.specialize
    if model is not None:
        return Interface(exe.inputs, _reader(model), static=lambda: model.values, own=own)
    static = tuple(n for n in exe.static if n not in own)
    return Interface(
        exe.inputs,
        lambda sizes, values: specialize(exe.graph, sizes),
        lambda: exe.graph,
        lambda: static,
        own,
    )
