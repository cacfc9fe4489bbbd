"""ONNX trees, whose nodes compare in seven ways, as arrays of nodes that all ask `x <= threshold`.

    x < t       x <= the number before t          x > t, x >= t   the same, children swapped
    x == t      x <= t, then x <= the number before t
    x in set    a search tree over the sorted set of such pairs

A node with several of these is a graph rather than a tree, since they share their targets. The two
children of a node are copies of its targets laid side by side (see `ops/text/tree.py`), and
all copies of a node share the pair below it. Forests have a million nodes: all of this is done on
arrays.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from .....compiler.classes import dataclass
from .....compiler.errors import ModelError

MODES = (
    "BRANCH_LEQ",
    "BRANCH_LT",
    "BRANCH_GTE",
    "BRANCH_GT",
    "BRANCH_EQ",
    "BRANCH_NEQ",
    "BRANCH_MEMBER",
    "LEAF",
)
LEQ, LT, GTE, GT, EQ, NEQ, MEMBER, LEAF = range(8)


@dataclass
class Nodes:
    """Arrays with an entry per node: `mode` counts in MODES, `yes` and `no` are entries, `leaf`
    is the number of a leaf. `members` are the sets of the BRANCH_MEMBER nodes."""

    mode: np.ndarray
    feature: np.ndarray
    split: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    missing: np.ndarray
    leaf: np.ndarray
    members: Mapping[int, Sequence[float]]


@dataclass
class Forest:
    """Arrays over places, as `tree_leaves` wants them; `leaf` is -1 where there is none.

    The first places are the trees' roots, the last one is a leaf of no tree; `steps` from any root
    lead to a leaf. `reach` pairs trees with the numbers of their leaves.
    """

    feature: np.ndarray
    threshold: np.ndarray
    child: np.ndarray
    missing: np.ndarray
    leaf: np.ndarray
    steps: int
    reach: tuple[np.ndarray, np.ndarray]


def build(nodes: Nodes, roots: Sequence[int], dtype, where: str) -> Forest:
    """The forest of the trees at `roots`, with thresholds of a numpy float type.

    Raises ModelError for children that are not there and for circles.
    """
    tests = _Tests(nodes, np.dtype(dtype).type, where)
    roots = np.asarray(roots, np.int64)
    _check_range(roots, len(nodes.mode), where)
    steps, reach = _walk(tests, roots, where)
    return _lay_out(tests, roots, steps, reach)


def _check_range(at: np.ndarray, count: int, where: str) -> None:
    wrong = at[(at < 0) | (at >= count)]
    if len(wrong):
        raise ModelError(
            "a tree has no such node",
            where=where,
            expected=f"0 to {count - 1}",
            received=int(wrong[0]),
        )


class _Tests:
    """`x[feature] <= threshold`, or x is NaN and `missing`: go to `yes`, else to `no`; a `leaf`
    of -1 is no leaf. The first tests are the nodes', others are appended."""

    def __init__(self, nodes: Nodes, dtype, where: str):
        mode, inner = np.asarray(nodes.mode), np.asarray(nodes.mode) != LEAF
        unknown = mode[(mode < 0) | (mode > LEAF)]
        if len(unknown):
            raise ModelError(
                "unknown mode of a node",
                where=where,
                expected=", ".join(MODES),
                received=int(unknown[0]),
            )
        for side in (nodes.yes, nodes.no):
            _check_range(side[inner], len(mode), where)
        self.dtype = dtype
        self.feature = np.where(inner, nodes.feature, 0)
        self.threshold = np.where(inner, nodes.split, 0).astype(dtype)
        self.missing = nodes.missing.astype(bool)
        self.yes, self.no = nodes.yes.copy(), nodes.no.copy()
        self.leaf = np.where(inner, -1, nodes.leaf)
        self._compare(mode)
        self._in_sets(np.flatnonzero(mode == MEMBER), nodes.members)

    def _compare(self, mode: np.ndarray) -> None:
        split, before = self.threshold.copy(), self._before(self.threshold)
        yes, no = self.yes.copy(), self.no.copy()
        strict = (mode == LT) | (mode == GTE)
        self.threshold[strict] = before[strict]
        swapped = ((mode == GT) | (mode == GTE)) & ~np.isnan(split)
        self.yes[swapped], self.no[swapped] = no[swapped], yes[swapped]
        self.missing[swapped] ^= True
        at = np.flatnonzero((mode == EQ) & ~np.isnan(split))
        self.yes[at] = self._append(self.feature[at], before[at], no[at], yes[at])
        at = np.flatnonzero(mode == NEQ)  # NaN differs from every number, and all from NaN
        self.yes[at] = self._append(self.feature[at], before[at], yes[at], no[at])
        self.no[at], self.missing[at] = yes[at], False

    def _before(self, t: np.ndarray) -> np.ndarray:
        """The largest number below t; NaN, which nothing is below, where there is none."""
        low = self.dtype(-np.inf)
        return np.where(t == low, self.dtype(np.nan), np.nextafter(t, low))

    def _append(self, feature, threshold, yes, no) -> np.ndarray:
        """Further tests, for which NaN is no."""
        n, count = len(self.feature), len(np.atleast_1d(feature))
        more = {
            "feature": feature,
            "threshold": threshold,
            "yes": yes,
            "no": no,
            "missing": np.zeros(count, bool),
            "leaf": np.full(count, -1),
        }
        for name, values in more.items():
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.atleast_1d(values).astype(old.dtype)]))
        return np.arange(n, n + count)

    def _in_sets(self, at: np.ndarray, members: Mapping[int, Sequence[float]]) -> None:
        """NaN is asked for first, then the set is searched."""
        for i in at.tolist():
            sorted_ = np.unique(np.asarray(members[i], self.dtype))
            found = self._search(i, sorted_, self.yes[i], self.no[i])
            self.threshold[i], self.no[i] = np.nan, found

    def _search(self, i: int, members: np.ndarray, yes: int, no: int) -> int:
        if not len(members):
            return no
        middle = len(members) // 2
        m, feature = members[middle : middle + 1], self.feature[i]
        below = self._search(i, members[:middle], yes, no)
        above = self._search(i, members[middle + 1 :], yes, no)
        (equal,) = self._append(feature, self._before(m), below, yes)
        (found,) = self._append(feature, m, equal, above)
        return found


def _walk(tests: _Tests, roots: np.ndarray, where: str) -> tuple[int, tuple]:
    """The longest way from a root to a leaf, and the leaves of each tree."""
    tree, node, count = np.arange(len(roots)), roots, len(tests.feature)
    steps, found = 0, []
    while True:
        at_leaf = tests.leaf[node] >= 0
        found.append((tree[at_leaf], tests.leaf[node[at_leaf]]))
        tree, node = tree[~at_leaf], node[~at_leaf]
        if not len(node):
            break
        steps += 1
        if steps > count:
            raise ModelError("a tree runs in a circle", where=where)
        below = np.concatenate([tests.yes[node], tests.no[node]])
        tree, node = np.divmod(np.unique(np.tile(tree, 2) * count + below), count)
    return steps, tuple(np.concatenate(column) for column in zip(*found))


def _lay_out(tests: _Tests, roots: np.ndarray, steps: int, reach: tuple) -> Forest:
    """Roots first, then all trees' pairs level by level."""
    pair = np.full(len(tests.feature), -1)  # the place of the pair below a test
    levels, count, level = [roots], len(roots), roots
    while True:
        level = np.unique(level[(tests.leaf[level] < 0) & (pair[level] < 0)])
        if not len(level):
            break
        pair[level] = count + 2 * np.arange(len(level))
        level = np.stack([tests.yes[level], tests.no[level]], 1).reshape(-1)
        levels.append(level)
        count += len(level)
    order = np.concatenate(levels)
    is_leaf = np.append(tests.leaf[order] >= 0, True)
    end = lambda array, value: np.append(array[order], value)
    return Forest(
        feature=np.where(is_leaf, 0, end(tests.feature, 0)).astype(np.int32),
        threshold=np.where(is_leaf, np.nan, end(tests.threshold, 0)).astype(tests.dtype),
        child=np.where(is_leaf, np.arange(-1, count), end(pair, 0)).astype(np.int32),
        missing=~is_leaf & end(tests.missing, False),
        leaf=end(tests.leaf, -1),
        steps=steps,
        reach=reach,
    )
