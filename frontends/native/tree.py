"""Trees of arrays: tuples, lists, dicts, named tuples and None, nested, and registered classes.

Everything else is a leaf.

    flatten({"w": w, "b": [b0, b1]})  ->  [b0, b1, w], structure
    paths(tree)                       ->  ["b.0", "b.1", "w"]

Dicts are walked in the order of their keys, so equal trees flatten alike. A dataclass becomes a
tree by `register_tree`, which also takes functions for any other class.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...compiler.classes import dataclass
from ...compiler.errors import TypeMismatch, UsageError


@dataclass(frozen=True)
class Structure:
    """A tree without its leaves; hashable. `kind`: leaf, none, or the class; `settings` is what a
    registered class has besides its children."""

    kind: Any
    keys: tuple = ()
    children: tuple["Structure", ...] = ()
    settings: Any = None

    def __str__(self) -> str:
        inner = [str(c) for c in self.children]
        if self.kind is dict:
            return "{" + ", ".join(f"{k!r}: {c}" for k, c in zip(self.keys, inner)) + "}"
        if self.kind in (tuple, list):
            left, right = "()" if self.kind is tuple else "[]"
            return f"{left}{', '.join(inner)}{right}"
        if isinstance(self.kind, type):
            parts = ", ".join(f"{k}={c}" for k, c in zip(self.keys, inner))
            return f"{self.kind.__name__}({parts})"
        return "None" if self.kind is None else "*"


LEAF = Structure("leaf")

Parts = tuple[dict[str, Any], Any]  # children by name, and settings: anything hashable


@dataclass(frozen=True)
class Registered:
    """How a class is taken apart and put together."""

    parts: Callable[[Any], Parts]
    build: Callable[[dict[str, Any], Any], Any]


CLASSES: dict[type, Registered] = {}


def register_tree(
    cls: type | None = None,
    *,
    static: Sequence[str] = (),
    parts: Callable[[Any], Parts] | None = None,
    build: Callable[[dict[str, Any], Any], Any] | None = None,
) -> Any:
    """Let objects of a class be trees; also a decorator of dataclasses.

        @register_tree(static=("name",))
        @dataclass
        class Batch:
            x: Any
            name: str

    The fields of a dataclass are children but for `static` ones, which are settings: compared by
    value, and compiled for. Of another class, `parts(object)` gives (children by name, settings),
    and `build(children, settings)` the object. Raises UsageError.
    """
    if cls is None:
        return lambda c: register_tree(c, static=static, parts=parts, build=build)
    if not isinstance(cls, type) or (parts is None) != (build is None):
        raise UsageError("a class, and both parts and build or neither", received=repr(cls))
    if parts is None or build is None:
        if not dataclasses.is_dataclass(cls):
            raise UsageError(
                f"{cls.__name__} is no dataclass",
                fix="give register_tree(cls, parts=…, build=…)",
            )
        names = [f.name for f in dataclasses.fields(cls) if f.init]
        unknown = set(static) - set(names)
        if unknown:
            raise UsageError("no such field", expected=", ".join(names), received=sorted(unknown))
        children = [n for n in names if n not in static]

        def parts(x: Any) -> Parts:
            kept = tuple((n, getattr(x, n)) for n in static)
            return {n: getattr(x, n) for n in children}, kept

        def build(found: dict[str, Any], settings: Any) -> Any:
            return cls(**found, **dict(settings))

    CLASSES[cls] = Registered(parts, build)
    return cls


def flatten(tree: Any) -> tuple[list, Structure]:
    """The leaves, in order, and what puts them back (`unflatten`)."""
    leaves: list = []

    def walk(t: Any) -> Structure:
        kind = type(t)
        if t is None:
            return Structure(None)
        if kind in (tuple, list):
            return Structure(kind, (), tuple(walk(c) for c in t))
        if kind is dict:
            keys = tuple(_sorted(t))
            return Structure(dict, keys, tuple(walk(t[k]) for k in keys))
        if kind in CLASSES or _is_named(kind):
            found, settings = _parts(t)
            return Structure(kind, tuple(found), tuple(map(walk, found.values())), settings)
        leaves.append(t)
        return LEAF

    return leaves, walk(tree)


def unflatten(structure: Structure, leaves: Iterable) -> Any:
    """The tree of `structure` with these leaves."""
    rest = iter(leaves)

    def build(s: Structure) -> Any:
        if s == LEAF:
            return next(rest)
        if s.kind is None:
            return None
        children = [build(c) for c in s.children]
        if s.kind in CLASSES:
            return CLASSES[s.kind].build(dict(zip(s.keys, children)), s.settings)
        if _is_named(s.kind):
            return s.kind(*children)
        return dict(zip(s.keys, children)) if s.kind is dict else s.kind(children)

    return build(structure)


def paths(tree: Any, prefix: str = "") -> list[str]:
    """A name for each leaf: its keys and positions joined by dots."""
    kind = type(tree)
    if tree is None:
        return []
    if kind in (tuple, list):
        items: Sequence = list(enumerate(tree))
    elif kind is dict:
        items = [(k, tree[k]) for k in _sorted(tree)]
    elif kind in CLASSES or _is_named(kind):
        items = list(_parts(tree)[0].items())
    else:
        return [prefix]
    return [p for k, c in items for p in paths(c, f"{prefix}.{k}" if prefix else str(k))]


def tree_map(f: Callable, tree: Any, *others: Any) -> Any:
    """`f` on each leaf of `tree` and the leaves in the same places of `others`."""
    leaves, structure = flatten(tree)
    columns = [leaves]
    for other in others:
        more, s = flatten(other)
        if s != structure:
            raise TypeMismatch("trees of different structure", expected=structure, received=s)
        columns.append(more)
    return unflatten(structure, [f(*row) for row in zip(*columns)])


def _is_named(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _parts(x: Any) -> Parts:
    """The children of a named tuple or of a registered object, and its settings."""
    registered = CLASSES.get(type(x))
    return (x._asdict(), None) if registered is None else registered.parts(x)


def _sorted(d: dict) -> list:
    try:
        return sorted(d)
    except TypeError:
        raise TypeMismatch(
            "a dict of arrays needs keys of one kind", received=", ".join(map(repr, d))
        ) from None
