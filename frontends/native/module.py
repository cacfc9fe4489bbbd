"""Modules: plain objects that say how to compute; what they learn lives outside of them.

    class Net(Module):
        def __init__(self):
            self.conv = Conv2d(1, 16, 3, padding=1)
            self.head = Linear(16, 10)

        def forward(self, s, x):                    # s: this module's parameters and parts
            x = relu(s.conv(x)).mean((2, 3))
            return s.head(x)

    net = Net()
    params = net.init(np.random.default_rng(0))     # {"conv": {"weight": …, "bias": …}, …}
    y = net(params, x)                              # in a traced function
    y, state = net.apply(params, x, state=state, training=True)

Parts may stand in lists, tuples and dicts, too: `for block in s.blocks: x = block(x)`, and
`s.heads["a"](x)`.

Parameters and state (running statistics) are nested dicts of arrays, named after the attributes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...compiler.errors import TypeMismatch, UsageError
from .tracing import Array


class Module:
    """A layer or a network. Subclasses set parts in `__init__` and write `forward(s, x)`."""

    def forward(self, s: "Scope", *xs: Any, **named: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward(s, x)")

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Initial values of the module's own parameters, without its parts'."""
        return {}

    def statistics(self) -> dict[str, np.ndarray]:
        """Initial values of the module's own state: arrays that training updates by itself."""
        return {}

    def parts(self) -> dict[str, "Module"]:
        """The modules that this one is made of, by the names of their parameters."""
        found = {k: _as_part(v) for k, v in vars(self).items()}
        return {k: m for k, m in found.items() if m is not None}

    def init(self, rng: np.random.Generator) -> dict:
        """Initial parameters, nested like the module."""
        inner = {k: m.init(rng) for k, m in self.parts().items()}
        return self.parameters(rng) | {k: p for k, p in inner.items() if p}

    def init_state(self, rng: np.random.Generator | None = None) -> dict:
        """Initial state, nested like the module; empty where nothing keeps statistics. Random
        layers take their seeds from `rng`; without it they are 0."""
        inner = {k: m.init_state(rng) for k, m in self.parts().items()}
        return self.statistics() | {k: s for k, s in inner.items() if s}

    def apply(
        self,
        params: Mapping,
        *xs: Array,
        state: Mapping | None = None,
        training: bool = False,
    ) -> tuple[Any, dict[str, Any]]:
        """(result, new state) for traced inputs; `state` defaults to the initial one."""
        state = self.init_state() if state is None else state
        s = Scope(self, params, state, training)
        return s(*xs), s.new_state()

    def __call__(self, params: Mapping, *xs: Array, state: Mapping | None = None) -> Any:
        """The result in inference."""
        return self.apply(params, *xs, state=state)[0]


class Parts(Module):
    """Modules in a list, a tuple or a dict: parts whose names are places or keys."""

    def __init__(self, items: Any):
        self.items = items

    def parts(self) -> dict[str, Module]:
        named = self.items.items() if isinstance(self.items, dict) else enumerate(self.items)
        found = {str(k): _as_part(v) for k, v in named}
        return {k: m for k, m in found.items() if m is not None}


def _as_part(x: Any) -> Module | None:
    """A module, or the modules in a container; None where there are none."""
    if isinstance(x, Module):
        return x
    if isinstance(x, (list, tuple, dict)):
        parts = Parts(x)
        return parts if parts.parts() else None
    return None


class Scope:
    """What `forward` sees: `s.weight` is a parameter or a statistic, `s.conv(x)` runs a part."""

    def __init__(
        self, module: Module, params: Mapping, state: Mapping, training: bool, path: str = ""
    ):
        self._module, self._params, self._state = module, params, state
        self._path = path
        self._new: dict[str, Array] = {}
        self._scopes: dict[str, Scope] = {}
        self.training = training

    def __call__(self, *xs: Array, **named: Any) -> Any:
        for x in xs:
            if not isinstance(x, Array):
                raise TypeMismatch(
                    "a module is called on traced tensors",
                    where=self._path or type(self._module).__name__,
                    received=type(x).__name__,
                    fix="call it in a function under tessel.jit, grad or trace",
                )
        return self._module.forward(self, *xs, **named)

    def __iter__(self) -> Iterator[Any]:
        """The parts of a list, the keys of a dict."""
        if isinstance(self._container(), dict):
            return iter(self._container())
        return (self[name] for name in self._module.parts())

    def __len__(self) -> int:
        return len(self._container())

    def _container(self) -> Any:
        if not isinstance(self._module, Parts):
            raise TypeMismatch(
                "only modules in a list or a dict can be counted and walked over",
                where=self._path or type(self._module).__name__,
            )
        return self._module.items

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str | int) -> Any:
        """A part's scope, a parameter or a statistic."""
        if isinstance(name, int):
            name = str(range(len(self))[name])
        if name in self._scopes:
            return self._scopes[name]
        if name in self._module.parts():
            part, path = self._module.parts()[name], f"{self._path}.{name}".lstrip(".")
            params, state = self._params.get(name, {}), self._state.get(name, {})
            self._scopes[name] = Scope(part, params, state, self.training, path)
            return self._scopes[name]
        for table in (self._new, self._params, self._state):
            if name in table:
                return table[name]
        raise UsageError(
            f"{type(self._module).__name__} has no parameter {name!r}",
            where=self._path or None,
            expected=", ".join([*self._module.parts(), *self._params, *self._state]),
            fix="take the parameters from init() of this module",
        )

    @property
    def path(self) -> str:
        """Where the module is in the whole one: "blocks.0.dropout"."""
        return self._path

    def has(self, name: str) -> bool:
        """Is there such a parameter? (A bias may be left out.)"""
        return name in self._params

    def update(self, name: str, value: Array) -> None:
        """Set a statistic; it comes back in the new state."""
        self._new[name] = value

    def new_state(self) -> dict:
        """The state after `forward`."""
        inner = {k: s.new_state() for k, s in self._scopes.items()}
        return dict(self._state) | self._new | {k: s for k, s in inner.items() if s}
