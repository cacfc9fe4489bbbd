"""Tree ensembles of ai.onnx.ml: each row walks down all trees at once, then the leaves vote.

    start -> tree_leaves -> [N, trees] places of leaves -> gather of their weights -> sum

Where every tree votes for one target only (boosting), trees are sorted by target and each target
sums its own; else a leaf has a weight for every target.
"""

import numpy as np

from .....compiler.classes import dataclass
from .....compiler.errors import ModelError
from .....compiler.ir.types import F16, F32, F64, I64
from .....compiler.ops.contraction.scores import transform, two_columns
from .....compiler.ops.text.tree import STEPS
from ...read.call import Call
from .common import class_labels, labelled, rows
from .trees import LEAF, MEMBER, MODES, Forest, Nodes, build

NEUTRAL = {"SUM": 0.0, "AVERAGE": 0.0, "MIN": np.inf, "MAX": -np.inf}
COMBINE = {"SUM": np.add, "AVERAGE": np.add, "MIN": np.minimum, "MAX": np.maximum}
REDUCE = {"SUM": "reduce_sum", "AVERAGE": "reduce_sum", "MIN": "reduce_min", "MAX": "reduce_max"}
WASTE = 1.5  # places for trees, by the trees there are, up to which targets are kept apart


@dataclass(frozen=True)
class Votes:
    """Leaf `leaf[i]` gives `target[i]` the weight `weight[i]`."""

    leaf: np.ndarray
    target: np.ndarray
    weight: np.ndarray

    def table(self, leaves: int, targets: int, aggregate: str, where: str) -> np.ndarray:
        """[leaves + 1, targets]: the last row is of no leaf."""
        if len(self.target) and not 0 <= self.target.min() <= self.target.max() < targets:
            raise ModelError(
                "a leaf votes for a target that is not there",
                where=where,
                expected=f"0 to {targets - 1}",
                received=f"{self.target.min()} to {self.target.max()}",
            )
        table = np.full((leaves + 1, targets), NEUTRAL[aggregate], self.weight.dtype)
        COMBINE[aggregate].at(table, (self.leaf, self.target), self.weight)
        return table


def _scores(c: Call, x, nodes, roots, votes: Votes, leaves: int, targets: int, aggregate: str):
    """[N, targets] of x's dtype."""
    if aggregate not in NEUTRAL:
        raise c.unsupported(
            "unknown aggregate_function", expected=", ".join(NEUTRAL), received=aggregate
        )
    dtype = x.dtype.numpy
    forest = build(nodes, roots, dtype, c.where)
    x = _with_features(c, x, forest)
    table = votes.table(leaves, targets, aggregate, c.where).astype(dtype)
    start, per_target = _start(forest, table, NEUTRAL[aggregate])
    places = _walk(c, x, forest, start)
    if per_target:
        combined = COMBINE[aggregate].reduce(table, axis=1)[forest.leaf]
        weights = c.b.gather(c.b.constant(combined), places, axis=0)
        weights = weights.reshape(x.shape[0], targets, start.size // targets)
        total = c.b.emit(REDUCE[aggregate], weights, axes=(2,), keepdims=False)
    else:
        weights = c.b.gather(c.b.constant(table[forest.leaf]), places, axis=0)
        total = c.b.emit(REDUCE[aggregate], weights, axes=(1,), keepdims=False)
    if aggregate == "AVERAGE":
        total = total / len(roots)
    if aggregate in ("MIN", "MAX"):  # a target that nobody voted for scores zero
        nobody = c.b.equal(total, c.b.scalar(NEUTRAL[aggregate], x.dtype))
        total = c.b.where(nobody, c.b.scalar(0, x.dtype), total)
    return total


def _with_features(c: Call, x, forest: Forest):
    """x with the features that the trees ask for. Where their number is open, only those are
    taken, which fails where there are fewer."""
    features = x.shape[1] if x.rank == 2 else None
    low, high = int(forest.feature.min()), int(forest.feature.max())
    if features is None or low < 0 or (isinstance(features, int) and high >= features):
        raise ModelError(
            "the trees ask for features that x does not have",
            where=c.where,
            expected=f"x of [N, {high + 1}] or more, features from 0 on",
            received=f"{x.type}, feature {low if low < 0 else high}",
        )
    if isinstance(features, int):
        return x
    return c.b.emit("slice", x, axes=(1,), starts=(0,), steps=(1,), sizes=(high + 1,))


def _start(forest: Forest, table: np.ndarray, neutral: float) -> tuple[np.ndarray, bool]:
    """The roots in the order in which trees are walked, and whether they are sorted by target,
    the same number for each."""
    tree, leaf = forest.reach
    trees, targets = int(tree.max()) + 1, table.shape[1]
    if targets == 1:
        return np.arange(trees), True
    votes = np.zeros((trees, targets), bool)
    np.logical_or.at(votes, tree, table[leaf] != neutral)
    if (votes.sum(1) > 1).any():
        return np.arange(trees), False
    groups = [np.flatnonzero(column).tolist() for column in votes.T]
    each = max(max(map(len, groups)), 1)
    if each * targets > WASTE * trees:
        return np.arange(trees), False
    nowhere = len(forest.leaf) - 1
    return np.array([t for g in groups for t in g + [nowhere] * (each - len(g))]), True


def _walk(c: Call, x, forest: Forest, start: np.ndarray):
    places = c.b.constant(start.astype(np.int32)[None])
    left = forest.steps or 1
    nodes = [c.b.constant(a) for a in (forest.feature, forest.threshold, forest.child)]
    missing = c.b.constant(forest.missing) if forest.missing.any() else None
    while left:
        steps = min(left, STEPS)
        places = c.b.emit("tree_leaves", x, places, *nodes, missing, steps=steps)
        left -= steps
    return places


# -- the operators of versions 1 and 3 -----------------------------------------------------------


def _array(c: Call, name: str) -> np.ndarray:
    """An attribute of floats, or its `_as_tensor` twin, which may hold doubles."""
    tensor = c.attr(f"{name}_as_tensor", None)
    if tensor is not None:
        return np.asarray(tensor).reshape(-1)
    return np.asarray(c.attr(name, ()), np.float32)


def _ints(c: Call, name: str) -> np.ndarray:
    return np.asarray(c.attr(name, ()), np.int64)


class _Places:
    """Where the node of a tree is in the list of nodes."""

    def __init__(self, trees: np.ndarray, ids: np.ndarray):
        self.trees, self.low, self.span = np.unique(trees), ids.min(), int(np.ptp(ids)) + 1
        keys = self._keys(trees, ids)
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]

    def _keys(self, trees, ids):
        return np.searchsorted(self.trees, trees) * self.span + (ids - self.low)

    def find(self, trees: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """-1 where there is none."""
        inside = (ids >= self.low) & (ids < self.low + self.span) & np.isin(trees, self.trees)
        keys = np.where(inside, self._keys(trees, ids), -1)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.order[at], -1)


def _nodes(c: Call) -> tuple[Nodes, np.ndarray, _Places]:
    """The nodes, and which of them are roots."""
    names = [
        f"nodes_{k}"
        for k in (
            "treeids",
            "nodeids",
            "featureids",
            "truenodeids",
            "falsenodeids",
            "missing_value_tracks_true",
        )
    ]
    trees, ids, features, yes, no, missing = (_ints(c, name) for name in names)
    code = {name: i for i, name in enumerate(MODES)}
    modes, splits = c.attr("nodes_modes", ()), _array(c, "nodes_values")
    mode = np.array([code.get(m, -1) for m in modes], np.int64)
    missing = missing if len(missing) else np.zeros_like(ids)
    c.ignore("nodes_hitrates", "nodes_hitrates_as_tensor")
    lengths = {len(v) for v in (trees, ids, mode, features, splits, yes, no, missing)}
    if len(lengths) != 1 or 0 in lengths:
        raise ModelError(
            "the attributes nodes_* must have one entry per node",
            where=c.where,
            received=f"lengths {sorted(lengths)}",
        )
    places = _Places(trees, ids)
    children = [places.find(trees, side) for side in (yes, no)]
    number = np.arange(len(ids))
    nodes = Nodes(mode, features, splits, *children, missing, number, {})
    roots = np.sort(np.unique(trees, return_index=True)[1])  # the first node of each tree
    return nodes, roots, places


def _votes(c: Call, kind: str, places: _Places) -> Votes:
    weights, targets = _array(c, f"{kind}_weights"), _ints(c, f"{kind}_ids")
    trees, ids = _ints(c, f"{kind}_treeids"), _ints(c, f"{kind}_nodeids")
    same = len(weights) == len(trees) == len(ids) == len(targets)
    leaf = places.find(trees, ids) if same else targets
    if not same or (leaf < 0).any():
        raise ModelError(
            f"the attributes {kind}_* must name a leaf and a weight per vote",
            where=c.where,
            received="a node that is not there" if same else f"{len(weights)} weights",
        )
    return Votes(leaf, targets, weights)


def _compared(c: Call, thresholds: np.dtype):
    """x in the type in which it is compared: f64 where one side is, else f32."""
    x = c.x(0)
    return rows(x.cast(F64 if x.dtype == F64 or thresholds == np.float64 else F32))


def _with_base(c: Call, scores, base: np.ndarray):
    if len(base) not in (0, scores.shape[1]):
        raise ModelError(
            "base_values must have one entry per target",
            where=c.where,
            expected=scores.shape[1],
            received=len(base),
        )
    return scores + base if len(base) else scores


def regressor(c: Call):
    nodes, roots, places = _nodes(c)
    votes = _votes(c, "target", places)
    x = _compared(c, nodes.split.dtype)
    targets = c.attr("n_targets", 1)
    aggregate = c.attr("aggregate_function", "SUM")
    scores = _scores(c, x, nodes, roots, votes, len(nodes.mode), targets, aggregate)
    scores = _with_base(c, scores, _array(c, "base_values"))
    return transform(c.b, scores, c.attr("post_transform", "NONE")).cast(F32)


def classifier(c: Call):
    """A model of two classes may vote for one of them only: that score decides, from 1/2 on where
    all weights are positive (probabilities), else from 0 on. As class 0 it is the only score and
    means the second class, as exporters have it; as class 1 it is what it says.
    """
    labels = class_labels(c, "classlabels_int64s")
    nodes, roots, places = _nodes(c)
    votes = _votes(c, "class", places)
    x, n = _compared(c, nodes.split.dtype), len(labels)
    base, post = _array(c, "base_values"), c.attr("post_transform", "NONE")
    voted = set(votes.target.tolist())
    single = n == 2 and voted == {0}
    scores = _scores(c, x, nodes, roots, votes, len(nodes.mode), 1 if single else n, "SUM")
    scores = _with_base(c, scores, base[:1] if single else base)
    if n == 2 and len(voted) == 1:
        positive = bool((votes.weight >= 0).all())
        limit = c.b.scalar(0.5 if positive and post in ("NONE", "PROBIT") else 0, scores.dtype)
        score = scores if single else scores[:, 1:]
        chosen = (score > limit).cast(I64).reshape(x.shape[0])
        if single:
            scores = two_columns(c.b, scores, post, positive)
    else:
        chosen = c.b.arg_max(scores, axis=1, keepdims=False)
    return labelled(c.b, chosen, labels), transform(c.b, scores, post).cast(F32)


# -- TreeEnsemble, version 5 -----------------------------------------------------------------------

AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
POST = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def ensemble(c: Call):
    """`TreeEnsemble`: inner nodes and leaves are lists of their own."""
    mode = np.asarray(c.attr("nodes_modes"), np.int64).reshape(-1)
    splits = np.asarray(c.attr("nodes_splits")).reshape(-1)
    count = len(mode)
    missing = _ints(c, "nodes_missing_value_tracks_true")
    missing = missing if len(missing) else np.zeros(count, np.int64)
    c.ignore("nodes_hitrates")
    weights = np.asarray(c.attr("leaf_weights")).reshape(-1)
    targets, features = _ints(c, "leaf_targetids"), _ints(c, "nodes_featureids")
    names = [f"nodes_{k}" for k in ("truenodeids", "falsenodeids", "trueleafs", "falseleafs")]
    yes, no, yes_leaf, no_leaf = (_ints(c, name) for name in names)
    lengths = {len(v) for v in (splits, features, missing, yes, no, yes_leaf, no_leaf)}
    if lengths != {count} or len(weights) != len(targets) or not count:
        raise ModelError(
            "the attributes nodes_* and leaf_* must each have one length",
            where=c.where,
            received=f"{sorted(lengths | {count})}; {len(weights)} weights, {len(targets)} targets",
        )
    pad = lambda array, value=0: np.append(array, np.full(len(weights), value, array.dtype))
    leaf = np.append(np.full(count, -1), np.arange(len(weights)))
    yes, no = pad(yes + count * (yes_leaf != 0)), pad(no + count * (no_leaf != 0))
    members = dict(
        zip(np.flatnonzero(mode == MEMBER).tolist(), _members(c, (mode == MEMBER).sum()))
    )
    nodes = Nodes(pad(mode, LEAF), pad(features), pad(splits), yes, no, pad(missing), leaf, members)
    votes = Votes(np.arange(len(weights)), targets, weights)
    x, aggregate = c.x(0), c.attr("aggregate_function", 1)
    aggregate = AGGREGATES[aggregate] if 0 <= aggregate < 4 else str(aggregate)
    wanted = c.attr("n_targets", 1)
    wide = x.cast(F32) if x.dtype == F16 else x
    if x.dtype == F16:  # thresholds are halves: exact in f32
        votes = Votes(votes.leaf, votes.target, weights.astype(np.float32))
    roots = c.attr("tree_roots")
    scores = _scores(c, wide, nodes, roots, votes, len(weights), wanted, aggregate)
    post = c.attr("post_transform", 0)
    return transform(c.b, scores, POST[post] if 0 <= post < 5 else str(post)).cast(x.dtype)


def _members(c: Call, count: int) -> list[tuple]:
    """The sets of the BRANCH_MEMBER nodes, each ended by a NaN."""
    values = np.asarray(c.attr("membership_values", np.zeros(0, np.float32))).reshape(-1)
    ends = np.flatnonzero(np.isnan(values))
    if len(ends) != count:
        raise ModelError(
            "membership_values needs a set, ended by a NaN, per BRANCH_MEMBER",
            where=c.where,
            expected=count,
            received=len(ends),
        )
    starts = [0, *(ends[:-1] + 1)] if count else []
    return [tuple(values[a:b].tolist()) for a, b in zip(starts, ends)]


TABLE = {
    "TreeEnsemble": ensemble,
    "TreeEnsembleRegressor": regressor,
    "TreeEnsembleClassifier": classifier,
}
