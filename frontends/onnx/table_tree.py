"""Tree ensembles of ai.onnx.ml: each row walks down all trees at once, then the leaves vote.

    start -> tree_leaves -> [N, trees] places of leaves -> gather of their weights -> sum

Where every tree votes for one target only (boosting), trees are sorted by target and each target
sums its own; else a leaf has a weight for every target.
"""

from dataclasses import dataclass

import numpy as np

from ...compiler.errors import ModelError
from ...compiler.ops.scores import transform, two_columns
from ...compiler.ops.tree import STEPS
from ...compiler.types import F16, F32, F64, I64
from .call import Call
from .labels import class_labels, labelled
from .trees import LEAF, MEMBER, MODES, Forest, Node, build

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
    _check_features(c, x, forest)
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


def _check_features(c: Call, x, forest: Forest) -> None:
    features = x.shape[1] if x.rank == 2 else None
    low, high = int(forest.feature.min()), int(forest.feature.max())
    if features is None or low < 0 or (isinstance(features, int) and high >= features):
        raise ModelError(
            "the trees ask for features that x does not have",
            where=c.where,
            expected=f"x of [N, {high + 1}] or more, features from 0 on",
            received=f"{x.type}, feature {low if low < 0 else high}",
        )


def _start(forest: Forest, table: np.ndarray, neutral: float) -> tuple[np.ndarray, bool]:
    """The roots in the order in which trees are walked, and whether they are sorted by target,
    the same number for each."""
    trees, targets = len(forest.reach), table.shape[1]
    if targets == 1:
        return np.arange(trees), True
    votes = [(table[leaves] != neutral).any(0) for leaves in forest.reach]
    if any(v.sum() > 1 for v in votes):
        return np.arange(trees), False
    groups: list[list[int]] = [[] for _ in range(targets)]
    for tree, v in enumerate(votes):
        if v.any():
            groups[int(v.argmax())].append(tree)
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


def _array(c: Call, name: str, dtype=None) -> np.ndarray:
    """An attribute of floats, or its `_as_tensor` twin, which may hold doubles."""
    tensor = c.attr(f"{name}_as_tensor", None)
    if tensor is not None:
        return np.asarray(tensor).reshape(-1)
    return np.asarray(c.attr(name, ()), np.float32)


def _ints(c: Call, name: str) -> np.ndarray:
    return np.asarray(c.attr(name, ()), np.int64)


def _nodes(c: Call) -> tuple[list[Node], list[int], dict, np.dtype]:
    """Nodes, places of roots, {(tree, node id): place}, dtype of the thresholds."""
    trees, ids = _ints(c, "nodes_treeids").tolist(), _ints(c, "nodes_nodeids").tolist()
    modes = [m.decode() if isinstance(m, bytes) else m for m in c.attr("nodes_modes", ())]
    features, splits = _ints(c, "nodes_featureids").tolist(), _array(c, "nodes_values")
    yes, no = _ints(c, "nodes_truenodeids").tolist(), _ints(c, "nodes_falsenodeids").tolist()
    missing = _ints(c, "nodes_missing_value_tracks_true").tolist() or [0] * len(ids)
    c.ignore("nodes_hitrates", "nodes_hitrates_as_tensor")
    lengths = {len(v) for v in (trees, ids, modes, features, splits, yes, no, missing)}
    if len(lengths) != 1 or 0 in lengths:
        raise ModelError(
            "the attributes nodes_* must have one entry per node",
            where=c.where,
            received=f"lengths {sorted(lengths)}",
        )
    place = {key: i for i, key in enumerate(zip(trees, ids))}
    nodes, roots, seen = [], [], set()
    for i, tree in enumerate(trees):
        if tree not in seen:  # the first node of a tree is its root
            seen.add(tree)
            roots.append(i)
        if modes[i] == LEAF:
            nodes.append(Node(LEAF, leaf=i))
            continue
        children = [place.get((tree, child), -1) for child in (yes[i], no[i])]
        nodes.append(Node(modes[i], features[i], splits[i], *children, bool(missing[i])))
    return nodes, roots, place, splits.dtype


def _votes(c: Call, kind: str, place: dict) -> Votes:
    weights = _array(c, f"{kind}_weights")
    trees, ids = _ints(c, f"{kind}_treeids").tolist(), _ints(c, f"{kind}_nodeids").tolist()
    targets = _ints(c, f"{kind}_ids")
    unknown = [k for k in zip(trees, ids) if k not in place]
    if unknown or not len(weights) == len(trees) == len(ids) == len(targets):
        raise ModelError(
            f"the attributes {kind}_* must name a leaf and a weight per vote",
            where=c.where,
            received=f"no node {unknown[0]}" if unknown else f"{len(weights)} weights",
        )
    leaf = np.array([place[k] for k in zip(trees, ids)], np.int64)
    return Votes(leaf, targets, weights)


def _compared(c: Call, thresholds: np.dtype):
    """x in the type in which it is compared: f64 where one side is, else f32."""
    x = c.x(0)
    x = x.cast(F64 if x.dtype == F64 or thresholds == np.float64 else F32)
    return x.reshape(1, *x.shape) if x.rank == 1 else x


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
    nodes, roots, place, thresholds = _nodes(c)
    votes = _votes(c, "target", place)
    x = _compared(c, thresholds)
    targets = c.attr("n_targets", 1)
    aggregate = c.attr("aggregate_function", "SUM")
    scores = _scores(c, x, nodes, roots, votes, len(nodes), targets, aggregate)
    scores = _with_base(c, scores, _array(c, "base_values"))
    return transform(c.b, scores, c.attr("post_transform", "NONE")).cast(F32)


def classifier(c: Call):
    """A model of two classes may vote for one of them only: that score decides, from 1/2 on where
    all weights are positive (probabilities), else from 0 on. As class 0 it is the only score and
    means the second class, as exporters have it; as class 1 it is what it says.
    """
    labels = class_labels(c, "classlabels_int64s")
    nodes, roots, place, thresholds = _nodes(c)
    votes = _votes(c, "class", place)
    x, n = _compared(c, thresholds), len(labels)
    base, post = _array(c, "base_values"), c.attr("post_transform", "NONE")
    voted = set(votes.target.tolist())
    single = n == 2 and voted == {0}
    scores = _scores(c, x, nodes, roots, votes, len(nodes), 1 if single else n, "SUM")
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
    modes = np.asarray(c.attr("nodes_modes")).tolist()
    splits = np.asarray(c.attr("nodes_splits")).reshape(-1)
    features = c.attr("nodes_featureids")
    missing = c.attr("nodes_missing_value_tracks_true", None) or [0] * len(modes)
    c.ignore("nodes_hitrates")
    ends = [
        (c.attr(f"nodes_{side}nodeids"), c.attr(f"nodes_{side}leafs")) for side in ("true", "false")
    ]
    weights = np.asarray(c.attr("leaf_weights")).reshape(-1)
    targets = np.asarray(c.attr("leaf_targetids"), np.int64)
    lengths = {len(v) for v in (modes, splits, features, missing, *ends[0], *ends[1])}
    if len(lengths) != 1 or len(weights) != len(targets):
        raise ModelError(
            "the attributes nodes_* and leaf_* must each have one length",
            where=c.where,
            received=f"{sorted(lengths)}; {len(weights)} weights, {len(targets)} targets",
        )
    count, names = len(modes), (*MODES, MEMBER)
    sets = iter(_members(c, modes.count(len(MODES))))
    nodes = []
    for i, mode in enumerate(modes):
        children = [ids[i] + (count if leaf[i] else 0) for ids, leaf in ends]
        name = names[mode] if 0 <= mode < len(names) else str(mode)
        members = next(sets) if name == MEMBER else ()
        nodes.append(Node(name, features[i], splits[i], *children, bool(missing[i]), -1, members))
    nodes += [Node(LEAF, leaf=i) for i in range(len(weights))]
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
