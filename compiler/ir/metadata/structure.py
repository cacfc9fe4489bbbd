"""How the tensors of a graph make up a model's sequences and optionals.

The inputs and outputs of a graph are tensors. A model that takes or gives lists, or nothing at
all, becomes a graph for each *structure* of its inputs: how long each list is, and which optionals
are there. The graph says in its metadata which tensors belong together:

    metadata {"tessel.structure": …}
    {"inputs": [["xs", "seq(f32[N])", ["xs[0]", "xs[1]"]], ["o", "optional(f32[3])", null]],
     "outputs": [["y", "f32[3]", "y"]]}

A tree is the name of a tensor, a list of trees, or None.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ...classes import dataclass
from ...errors import ModelError
from ..graph import Graph

KEY = "tessel.structure"
Tree = str | None | list


@dataclass(frozen=True)
class Group:
    """One input or output of a model: its name, its declared type, its tensors in the graph."""

    name: str
    type: str
    tree: Tree


@dataclass(frozen=True)
class Structure:
    """Those of a model, in order."""

    inputs: tuple[Group, ...]
    outputs: tuple[Group, ...]

    @property
    def plain(self) -> bool:
        """Whether every input and output is a tensor of that name."""
        return all(g.tree == g.name for g in (*self.inputs, *self.outputs))


def remember_structure(graph: Graph, structure: Structure) -> None:
    """Note in the metadata how the graph's tensors belong together."""
    if not structure.plain:
        sides = {"inputs": structure.inputs, "outputs": structure.outputs}
        data = {k: [[g.name, g.type, g.tree] for g in groups] for k, groups in sides.items()}
        graph.metadata[KEY] = json.dumps(data)


def structure_of(metadata: Mapping[str, str]) -> Structure | None:
    """The structure in a graph's metadata, or None. Raises ModelError if it makes no sense."""
    if KEY not in metadata:
        return None
    try:
        data = json.loads(metadata[KEY])
        sides = [
            tuple(Group(name, type, _checked(tree)) for name, type, tree in data[side])
            for side in ("inputs", "outputs")
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"the graph's structure makes no sense: {type(error).__name__}: {error}",
            where=f"metadata {KEY}",
            received=metadata[KEY],
        ) from error
    return Structure(*sides)


def _checked(tree: Any) -> Tree:
    if isinstance(tree, list):
        return [_checked(t) for t in tree]
    if tree is not None and not isinstance(tree, str):
        raise TypeError(f"{tree!r} is no tree")
    return tree


def leaves(tree: Tree) -> Iterator[str]:
    """The names of a tree's tensors, in order."""
    if isinstance(tree, str):
        yield tree
    for t in tree if isinstance(tree, list) else ():
        yield from leaves(t)


def grow(tree: Tree, tensors: Mapping[str, Any]) -> Any:
    """The value of a tree: an array, a list, or None."""
    if isinstance(tree, list):
        return [grow(t, tensors) for t in tree]
    return None if tree is None else tensors[tree]


def structure_tree(name: str, structure: Any) -> Tree:
    """The tree of a structure: None, the rank of a tensor, "map", or a tuple of structures."""
    if isinstance(structure, tuple):
        return [structure_tree(f"{name}[{i}]", f) for i, f in enumerate(structure)]
    return None if structure is None else name
