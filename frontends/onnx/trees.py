"""ONNX trees, whose nodes compare in seven ways, as arrays of nodes that all ask `x <= threshold`.

    x < t       x <= the number before t          x > t, x >= t   the same, children swapped
    x == t      x <= t, then x <= the number before t
    x in set    a search tree over the sorted set of such pairs

A node with several of these is a graph rather than a tree, since pairs share their targets; the
two children of a node are copies of its targets laid side by side (see `compiler/ops/tree.py`),
and those share the pairs below them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...compiler.errors import ModelError

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
MEMBER = "BRANCH_MEMBER"
LEAF = "LEAF"


@dataclass(frozen=True)
class Node:
    """A node of an ONNX tree: `yes` and `no` are places in the list of nodes. A leaf is what
    its `leaf` says; `members` is the set of a BRANCH_MEMBER."""

    mode: str
    feature: int = 0
    split: float = 0.0
    yes: int = -1
    no: int = -1
    missing: bool = False
    leaf: int = -1
    members: tuple = ()


@dataclass
class Forest:
    """Arrays over places, as `tree_leaves` wants them; `leaf` is -1 where there is none.
    The first places are the trees' roots, the last one is a leaf of no tree; `steps` from any root
    lead to a leaf. `reach` lists each tree's leaves."""

    feature: np.ndarray
    threshold: np.ndarray
    child: np.ndarray
    missing: np.ndarray
    leaf: np.ndarray
    steps: int
    reach: list[list[int]]


@dataclass
class _Test:
    """`x[feature] <= threshold`, or x is NaN and `missing`: `yes`, else `no` (tests or leaves)."""

    feature: int
    threshold: float
    missing: bool
    yes: object = None
    no: object = None


@dataclass(frozen=True)
class _Leaf:
    number: int


def build(nodes: Sequence[Node], roots: Sequence[int], dtype, where: str) -> Forest:
    """The forest of the trees at `roots`, with thresholds of a numpy float type.

    Raises ModelError for children that are not there and for circles.
    """
    dtype = np.dtype(dtype).type
    tests = _tests(nodes, dtype, where)
    heads = [_at(tests, r, where) for r in roots]
    steps = _depth(heads, where)
    return _lay_out(heads, steps, dtype)


def _at(tests: list, i: int, where: str):
    if not 0 <= i < len(tests):
        raise ModelError(
            "a tree has no such node", where=where, expected=f"0 to {len(tests) - 1}", received=i
        )
    return tests[i]


def _tests(nodes: Sequence[Node], dtype, where: str) -> list:
    """Each ONNX node's first test; targets are filled in once all are there."""
    heads = [_Leaf(n.leaf) if n.mode == LEAF else _Test(n.feature, 0.0, False) for n in nodes]
    for node, head in zip(nodes, heads):
        if node.mode != LEAF:
            yes, no = _at(heads, node.yes, where), _at(heads, node.no, where)
            _fill(head, node, yes, no, dtype, where)
    return heads


def _before(t, dtype) -> float:
    """The largest number below t; NaN, which nothing is below, where there is none."""
    t = dtype(t)
    return np.nan if t == -np.inf else np.nextafter(t, dtype(-np.inf))


def _fill(head: _Test, node: Node, yes, no, dtype, where: str) -> None:
    def become(threshold, missing, low, high):
        head.threshold, head.missing, head.yes, head.no = threshold, missing, low, high

    def pair(threshold, high):
        """x < threshold: `no`; x == threshold: `yes`; else `high`."""
        return threshold, _Test(node.feature, _before(threshold, dtype), False, no, yes), high

    mode, t, missing = node.mode, dtype(node.split), node.missing
    if mode == MEMBER:
        members = np.unique(np.asarray(node.members, dtype))
        low, high = _search(head.feature, members, yes, no, dtype), no
        if isinstance(low, _Test):
            become(low.threshold, False, low.yes, low.no)
            if missing:  # NaN first, then the search
                become(np.nan, True, yes, low)
        else:
            become(np.nan, missing, yes, high)
    elif np.isnan(t):  # no comparison holds
        become(np.nan, missing, yes, yes if mode == "BRANCH_NEQ" else no)
    elif mode == "BRANCH_LEQ":
        become(t, missing, yes, no)
    elif mode == "BRANCH_LT":
        become(_before(t, dtype), missing, yes, no)
    elif mode == "BRANCH_GT":
        become(t, not missing, no, yes)
    elif mode == "BRANCH_GTE":
        become(_before(t, dtype), not missing, no, yes)
    elif mode == "BRANCH_EQ":
        threshold, low, high = pair(t, no)
        become(threshold, missing, low, high)
    elif mode == "BRANCH_NEQ":  # NaN differs from every number
        become(t, False, _Test(node.feature, _before(t, dtype), False, yes, no), yes)
    else:
        expected = ", ".join((*MODES, MEMBER, LEAF))
        raise ModelError("unknown mode of a node", where=where, expected=expected, received=mode)


def _search(feature: int, members: np.ndarray, yes, no, dtype):
    """Is x one of the sorted members? A search tree of pairs."""
    if not len(members):
        return no
    middle = len(members) // 2
    m = members[middle]
    below = _search(feature, members[:middle], yes, no, dtype)
    above = _search(feature, members[middle + 1 :], yes, no, dtype)
    return _Test(feature, m, False, _Test(feature, _before(m, dtype), False, below, yes), above)


def _depth(heads: Sequence, where: str) -> int:
    """The longest way from a head to a leaf. Raises ModelError for a circle."""
    depth: dict[int, int] = {}
    for head in heads:
        stack = [head]
        open_: set[int] = set()
        while stack:
            x = stack[-1]
            if isinstance(x, _Leaf) or id(x) in depth:
                if isinstance(x, _Leaf):
                    depth[id(x)] = 0
                stack.pop()
                continue
            if id(x) in open_:
                depth[id(x)] = 1 + max(depth[id(x.yes)], depth[id(x.no)])
                stack.pop()
                continue
            open_.add(id(x))
            for y in (x.yes, x.no):
                if id(y) in open_ and id(y) not in depth:
                    raise ModelError("a tree runs in a circle", where=where)
                stack.append(y)
    return max((depth[id(h)] for h in heads), default=0)


def _lay_out(heads: Sequence, steps: int, dtype) -> Forest:
    """Roots first, then each tree's pairs level by level."""
    places = list(heads)
    child = [0] * len(heads)
    pairs: dict[tuple[int, int], int] = {}
    for root in range(len(heads)):
        queue = [root]  # grows while it is walked
        for place in queue:
            x = places[place]
            if isinstance(x, _Leaf):
                child[place] = place - 1
                continue
            key = (id(x.yes), id(x.no))
            if key not in pairs:
                pairs[key] = len(places)
                queue += [len(places), len(places) + 1]
                places += [x.yes, x.no]
                child += [0, 0]
            child[place] = pairs[key]
    child.append(len(places) - 1)
    places.append(_Leaf(-1))
    is_leaf = [isinstance(x, _Leaf) for x in places]
    return Forest(
        feature=np.array([0 if t else x.feature for x, t in zip(places, is_leaf)], np.int32),
        threshold=np.array([np.nan if t else x.threshold for x, t in zip(places, is_leaf)], dtype),
        child=np.array(child, np.int32),
        missing=np.array([not t and x.missing for x, t in zip(places, is_leaf)], bool),
        leaf=np.array([x.number if t else -1 for x, t in zip(places, is_leaf)], np.int64),
        steps=steps,
        reach=[_leaves(h) for h in heads],
    )


def _leaves(head) -> list[int]:
    found, seen, stack = [], set(), [head]
    while stack:
        x = stack.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, _Leaf):
            found.append(x.number)
        else:
            stack += [x.yes, x.no]
    return found
