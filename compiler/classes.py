"""`dataclass`: the standard library's, made in a quarter of the time.

    from .classes import dataclass

    @dataclass(frozen=True)
    class Tile:
        rows: int
        columns: int = 8

The standard decorator writes up to six functions of each class as text and compiles each by itself:
for the hundred classes that a compilation loads this took a sixth of the time to a small model's
first answer. Here only `__init__` is text. What else such a class has is the standard's: its fields
are found by `dataclasses` itself, and `fields`, `replace`, `asdict`, `field` and `KW_ONLY` work.
"""

import dataclasses
import operator
import reprlib
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, eq=True):
        """A class whose instances are made of its annotated fields.

        frozen  no field can be set or deleted, and what is equal has the same hash
        eq      instances with equal fields are equal; False: only with themselves

        Raises TypeError where the standard decorator does: fields without a default behind those
        with one, frozen classes that inherit from others.
        """
        return (lambda c: _complete(c, frozen, eq)) if cls is None else _complete(cls, frozen, eq)


def _complete(cls: type, frozen: bool, eq: bool) -> type:
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # the standard decorator asks `inspect` for a signature
    derived = any(map(dataclasses.is_dataclass, cls.__mro__[1:]))
    cls = dataclasses.dataclass(init=False, repr=False, eq=False, frozen=frozen and derived)(cls)
    fields = dataclasses.fields(cls)
    own = vars(cls)
    if "__init__" not in own:
        cls.__init__ = _init(cls, fields, frozen)
    if "__repr__" not in own:
        cls.__repr__ = _repr([f.name for f in fields if f.repr])
    compared = [f.name for f in fields if f.compare]
    if eq:
        values = _values(compared)
        explicit = "__hash__" in own and not (own["__hash__"] is None and "__eq__" in own)
        if "__eq__" not in own:
            cls.__eq__ = _eq(values)
        if not explicit:
            cls.__hash__ = (lambda self: hash(values(self))) if frozen else None
    if frozen and not derived:  # else the standard decorator saw to it, and to its bases
        cls.__dataclass_params__.frozen = True  # type: ignore[attr-defined]
        names = frozenset(f.name for f in fields)
        cls.__setattr__ = _refusal(cls, names, "assign to", "__setattr__")
        cls.__delattr__ = _refusal(cls, names, "delete", "__delattr__")
    return cls


def _init(cls: type, fields: tuple[Field, ...], frozen: bool) -> Callable[..., None]:
    """`__init__`, from its text: `dataclasses._init_fn` says what it has to do."""
    names: dict[str, Any] = {"_set": object.__setattr__, "_made": _MADE}
    by_place, by_name, body = [], [], []
    for f in fields:
        if not f.init and f.default_factory is MISSING:
            continue
        value = parameter = f.name
        if f.default is not MISSING:
            names[f"_default_{f.name}"] = f.default
            parameter = f"{f.name}=_default_{f.name}"
        elif f.default_factory is not MISSING:
            names[f"_make_{f.name}"] = f.default_factory
            parameter = f"{f.name}=_made"
            value = f"_make_{f.name}()"
            if f.init:
                value += f" if {f.name} is _made else {f.name}"
        if f.init:
            (by_name if f.kw_only else by_place).append(parameter)
        body.append(f"_set(self, {f.name!r}, {value})" if frozen else f"self.{f.name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ["self", *by_place, *(["*", *by_name] if by_name else [])]
    text = f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body or ["pass"])
    found: dict[str, Any] = {}
    try:
        exec(text, names, found)
    except SyntaxError as error:  # of names alone, so of their order
        raise TypeError(f"{cls.__name__}: {error.msg}") from None
    init = found["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__module__ = cls.__module__
    init.__annotations__ = {f.name: f.type for f in fields if f.init} | {"return": None}
    return init


_MADE = type("made", (), {"__repr__": lambda self: "<made for each instance>"})()


def _values(names: list[str]) -> Callable[[Any], Any]:
    """What instances are compared by."""
    return operator.attrgetter(*names) if names else lambda self: ()


def _eq(values: Callable[[Any], Any]) -> Callable[[Any, Any], bool]:
    def __eq__(self, other):
        return (
            values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented
        )

    return __eq__


def _repr(names: list[str]) -> Callable[[Any], str]:
    @reprlib.recursive_repr()
    def __repr__(self):
        said = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.__class__.__qualname__}({said})"

    return __repr__


def _refusal(cls: type, names: frozenset[str], what: str, method: str) -> Callable[..., None]:
    def refuse(self, name, *value):
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot {what} field {name!r}")
        getattr(super(cls, self), method)(name, *value)

    refuse.__name__ = method
    return refuse
