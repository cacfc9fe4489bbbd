"""Trees of arrays: tuples, lists, dicts and None, nested; everything else is a leaf.

    flatten({"w": w, "b": [b0, b1]})  ->  [b0, b1, w], structure
    paths(tree)                       ->  ["b.0", "b.1", "w"]

Dicts are walked in the order of their keys, so equal trees flatten alike.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...compiler.classes import dataclass
from ...compiler.errors import TypeMismatch


@dataclass(frozen=True)
class Structure:
    """A tree without its leaves; hashable. `kind`: leaf, none, tuple, list or dict."""

    kind: Any
    keys: tuple = ()
    children: tuple["Structure", ...] = ()

    def __str__(self) -> str:
        inner = [str(c) for c in self.children]
        if self.kind is dict:
            return "{" + ", ".join(f"{k!r}: {c}" for k, c in zip(self.keys, inner)) + "}"
        if self.kind in (tuple, list):
            left, right = "()" if self.kind is tuple else "[]"
            return f"{left}{', '.join(inner)}{right}"
        return "None" if self.kind is None else "*"


LEAF = Structure("leaf")


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


def _sorted(d: dict) -> list:
    try:
        return sorted(d)
    except TypeError:
        raise TypeMismatch(
            "a dict of arrays needs keys of one kind", received=", ".join(map(repr, d))
        ) from None
