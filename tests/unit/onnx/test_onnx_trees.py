"""Tree ensembles of ai.onnx.ml: every mode of a node, every way to add up leaves."""

import operator

import numpy as np
import onnx
import pytest
import tessel
from onnx import helper
from tessel.compiler.errors import ModelError, TesselError
from tessel.frontends.onnx.operators.ai_onnx_ml.trees import MODES, Nodes, build

from ...support.onnx_models import graph_of, onnxruntime, ops

COMPARE = {
    "BRANCH_LEQ": operator.le,
    "BRANCH_LT": operator.lt,
    "BRANCH_GTE": operator.ge,
    "BRANCH_GT": operator.gt,
    "BRANCH_EQ": operator.eq,
    "BRANCH_NEQ": operator.ne,
}
TYPES = {
    "f2": onnx.TensorProto.FLOAT16,
    "f4": onnx.TensorProto.FLOAT,
    "f8": onnx.TensorProto.DOUBLE,
    "i8": onnx.TensorProto.INT64,
    "i4": onnx.TensorProto.INT32,
}
X = np.array([[a, b] for a in (-1.0, -0.0, 0.5, 1.0, np.nan, np.inf) for b in (0.0, 1.0, np.nan)])


def random_tree(rng, depth, modes, tree=0, targets=1):
    """Attributes nodes_* of one tree, and the votes of its leaves."""
    rows, votes = [], []

    def grow(level):
        i = len(rows)
        rows.append(None)
        if level == depth or (level and rng.uniform() < 0.2):
            rows[i] = ("LEAF", 0, 0.0, 0, 0, 0)
            target = tree % targets if targets > 1 else 0
            votes.append((tree, i, target, float(np.round(rng.normal(), 3))))
        else:
            mode, missing = str(rng.choice(modes)), int(rng.integers(2))
            split = float(rng.choice([-1.0, 0.0, 0.5, 1.0]))
            rows[i] = (mode, int(rng.integers(2)), split, grow(level + 1), grow(level + 1), missing)
        return i

    grow(0)
    return rows, votes


def attributes(trees, kind, **more):
    rows = [(t, i, *row) for t, (nodes, _) in enumerate(trees) for i, row in enumerate(nodes)]
    names = (
        "treeids",
        "nodeids",
        "modes",
        "featureids",
        "values",
        "truenodeids",
        "falsenodeids",
        "missing_value_tracks_true",
    )
    found = {f"nodes_{name}": list(column) for name, column in zip(names, zip(*rows))}
    votes = [v for _, votes in trees for v in votes]
    for name, column in zip(("treeids", "nodeids", "ids", "weights"), zip(*votes)):
        found[f"{kind}_{name}"] = list(column)
    return found | more


def walk(nodes, x):
    """The number of the leaf that a row comes to."""
    i = 0
    while nodes[i][0] != "LEAF":
        mode, feature, split, yes, no, missing = nodes[i]
        value = x[feature]
        i = yes if COMPARE[mode](value, split) or (missing and np.isnan(value)) else no
    return i


def summed(trees, x) -> list:
    """What the trees say of each row, one node after the other."""
    weights = [{i: w for _, i, _, w in votes} for _, votes in trees]
    return [sum(w[walk(nodes, row)] for (nodes, _), w in zip(trees, weights)) for row in x]


def model(op, x, outputs, version=3, **attrs) -> onnx.ModelProto:
    node = helper.make_node(op, ["x"], [name for name, _ in outputs], domain="ai.onnx.ml", **attrs)
    info = helper.make_tensor_value_info("x", TYPES[x.dtype.str[1:]], ["N", *x.shape[1:]])
    outs = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    graph = helper.make_graph([node], "g", [info], outs)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run(proto, x) -> list:
    return list(tessel.compile(proto, threads=1).run({"x": x}).values())


FLOAT, INT, WORDS = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.STRING
Y = [("y", FLOAT)]


@pytest.mark.parametrize("modes", [["BRANCH_LEQ"], ["BRANCH_EQ", "BRANCH_NEQ"], list(COMPARE)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_every_mode_and_missing_values(modes, dtype):
    rng = np.random.default_rng(len(modes))
    trees = [random_tree(rng, 4, modes, t) for t in range(6)]
    x = X.astype(dtype)
    (y,) = run(model("TreeEnsembleRegressor", x, Y, **attributes(trees, "target", n_targets=1)), x)
    np.testing.assert_allclose(y[:, 0], summed(trees, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["i4", "i8"])
def test_ints_are_compared_with_fractions(dtype):
    rng = np.random.default_rng(7)
    trees = [random_tree(rng, 3, list(COMPARE), t) for t in range(4)]
    x = rng.integers(-2, 3, (9, 2)).astype(dtype)
    (y,) = run(model("TreeEnsembleRegressor", x, Y, **attributes(trees, "target", n_targets=1)), x)
    np.testing.assert_allclose(y[:, 0], summed(trees, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize(("targets", "trees"), [(1, 3), (3, 7), (3, 2), (4, 5)])
def test_leaves_are_added_up_per_target(aggregate, targets, trees):
    rng = np.random.default_rng(targets + trees)
    made = [random_tree(rng, 3, ["BRANCH_LEQ"], t, targets) for t in range(trees)]
    # ONNX Runtime leaves base_values out of targets that no leaf votes for.
    more = {"base_values": np.linspace(0.1, 0.4, targets)} if trees >= targets else {}
    attrs = attributes(made, "target", n_targets=targets, aggregate_function=aggregate, **more)
    x = rng.normal(size=(11, 2)).astype("f4")
    proto = model("TreeEnsembleRegressor", x, Y, **attrs)
    np.testing.assert_allclose(run(proto, x)[0], onnxruntime(proto, x)[0], rtol=1e-5, atol=1e-6)


def test_trees_of_one_target_each_are_sorted_by_target():
    rng = np.random.default_rng(0)
    made = [random_tree(rng, 3, ["BRANCH_LEQ"], t, 2) for t in range(6)]
    x = np.zeros((1, 2), np.float32)
    proto = model("TreeEnsembleRegressor", x, Y, **attributes(made, "target", n_targets=2))
    assert "reshape" in ops(graph_of(proto))  # [N, trees] to [N, targets, trees of each]


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"])
def test_post_transforms(post):
    rng = np.random.default_rng(1)
    made = [random_tree(rng, 2, ["BRANCH_LT"], t, 3) for t in range(6)]
    made = [(nodes, [(*v[:3], abs(v[3]) / 9 + 0.01) for v in votes]) for nodes, votes in made]
    x = rng.normal(size=(5, 2)).astype("f4")
    attrs = attributes(made, "target", n_targets=3, post_transform=post)
    proto = model("TreeEnsembleRegressor", x, Y, **attrs)
    np.testing.assert_allclose(run(proto, x)[0], onnxruntime(proto, x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("labels", [[5, 7], ["no", "yes"]])
@pytest.mark.parametrize(  # ONNX Runtime leaves LOGISTIC out where all weights are positive
    ("weights", "post"), [("probabilities", "NONE"), ("mixed", "NONE"), ("mixed", "LOGISTIC")]
)
def test_one_score_decides_between_two_classes(labels, weights, post):
    rng = np.random.default_rng(2)
    made = [random_tree(rng, 3, ["BRANCH_LEQ"], t) for t in range(3)]
    if weights == "probabilities":
        made = [(nodes, [(*v[:3], abs(v[3]) / 4) for v in votes]) for nodes, votes in made]
    kind = "classlabels_int64s" if labels == [5, 7] else "classlabels_strings"
    attrs = attributes(made, "class", post_transform=post, **{kind: labels})
    x = rng.normal(size=(20, 2)).astype("f4")
    outputs = [("label", INT if labels == [5, 7] else WORDS), ("score", FLOAT)]
    proto = model("TreeEnsembleClassifier", x, outputs, **attrs)
    (label, score), (expected, scores) = run(proto, x), onnxruntime(proto, x)
    assert label.tolist() == expected.tolist()
    np.testing.assert_allclose(score, scores, rtol=1e-5, atol=1e-6)


def test_more_levels_than_one_kernel_takes():
    rows, votes, depth = [], [], 40
    for i in range(depth):  # a list: each node says x[0] <= i, or goes on
        rows.append(
            ("BRANCH_LEQ", 0, float(i), depth + i, i + 1 if i < depth - 1 else 2 * depth, 0)
        )
    for i in range(depth + 1):
        rows.append(("LEAF", 0, 0.0, 0, 0, 0))
        votes.append((0, depth + i, 0, float(i)))
    x = np.array([[-1.0], [0.5], [17.0], [38.5], [99.0]], np.float32)
    proto = model("TreeEnsembleRegressor", x, Y, **attributes([(rows, votes)], "target"))
    assert ops(graph_of(proto)).count("tree_leaves") == 3
    assert run(proto, x)[0][:, 0].tolist() == [0.0, 1.0, 17.0, 39.0, 40.0]


# -- TreeEnsemble ---------------------------------------------------------------------------------


def ensemble(x, modes, splits, ends, leaves, **more):
    """`ends`: (yes, yes is a leaf, no, no is a leaf) per node."""
    dtype = TYPES[x.dtype.str[1:]]
    tensor = lambda name, values: helper.make_tensor(name, dtype, [len(values)], values)
    yes, yes_leaf, no, no_leaf = map(list, zip(*ends))
    if "membership_values" in more:
        more["membership_values"] = tensor("members", more["membership_values"])
    return model(
        "TreeEnsemble",
        x,
        [("y", dtype)],
        5,
        nodes_modes=helper.make_tensor("m", onnx.TensorProto.UINT8, [len(modes)], modes),
        nodes_splits=tensor("s", splits),
        nodes_featureids=[0] * len(modes),
        nodes_truenodeids=yes,
        nodes_trueleafs=yes_leaf,
        nodes_falsenodeids=no,
        nodes_falseleafs=no_leaf,
        leaf_weights=tensor("w", leaves),
        tree_roots=[0],
        leaf_targetids=[0] * len(leaves),
        n_targets=1,
        **more,
    )


def apart(trees):
    """Attributes of TreeEnsemble: inner nodes and leaves in lists of their own."""
    rows, leaves, roots = [], [], []
    for nodes, votes in trees:
        inner = [i for i, node in enumerate(nodes) if node[0] != "LEAF"]
        place = {i: len(rows) + k for k, i in enumerate(inner)}
        leaf = {i: len(leaves) + k for k, (_, i, *_) in enumerate(votes)}
        leaves += [(target, weight) for _, _, target, weight in votes]
        roots.append(len(rows))
        end = lambda i, place=place, leaf=leaf: (leaf[i], 1) if i in leaf else (place[i], 0)
        for i in inner:
            mode, feature, split, yes, no, missing = nodes[i]
            rows.append((MODES.index(mode), feature, split, *end(yes), *end(no), missing))
    names = (
        "modes",
        "featureids",
        "splits",
        "truenodeids",
        "trueleafs",
        "falsenodeids",
        "falseleafs",
        "missing_value_tracks_true",
    )
    found = {f"nodes_{name}": list(column) for name, column in zip(names, zip(*rows))}
    targets, weights = map(list, zip(*leaves))
    return found | {"leaf_targetids": targets, "leaf_weights": weights, "tree_roots": roots}


def random_ensemble(targets, **more):
    rng = np.random.default_rng(targets)
    trees = [random_tree(rng, 4, list(COMPARE), t, targets) for t in range(6)]
    attrs = apart(trees) | {"n_targets": targets} | more
    for name in ("nodes_splits", "leaf_weights"):
        attrs[name] = helper.make_tensor(name, FLOAT, [len(attrs[name])], attrs[name])
    modes = attrs["nodes_modes"]
    attrs["nodes_modes"] = helper.make_tensor("m", onnx.TensorProto.UINT8, [len(modes)], modes)
    return model("TreeEnsemble", X.astype("f4"), Y, 5, **attrs)


@pytest.mark.parametrize("aggregate", range(4))
@pytest.mark.parametrize(("targets", "post"), [(1, 0), (3, 0), (3, 3)])
def test_ensembles(aggregate, targets, post):
    proto = random_ensemble(targets, aggregate_function=aggregate, post_transform=post)
    x = X.astype("f4")
    np.testing.assert_allclose(run(proto, x)[0], onnxruntime(proto, x)[0], rtol=1e-5, atol=1e-6)


def test_transforms_are_numbered_as_onnx_does():
    """1 is SOFTMAX, 2 is LOGISTIC; ONNX Runtime has them the other way round."""
    x = X.astype("f4")
    score, softmax, logistic = (run(random_ensemble(3, post_transform=p), x)[0] for p in range(3))
    e = np.exp(score)
    np.testing.assert_allclose(softmax, e / e.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(logistic, 1 / (1 + np.exp(-score)), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_sets(dtype):
    x = np.array([[v] for v in (1.0, 1.2, 3.0, 12.0, 7.0, np.nan, -5.0)], dtype)
    members = [1.2, 3.7, 8.0, 9.0, np.nan, 12.0, 7.0, np.nan]
    proto = ensemble(
        x,
        [6, 6],
        [0.0, 0.0],
        [(0, 1, 1, 0), (1, 1, 2, 1)],
        [5.0, 6.0, 7.0],
        membership_values=members,
        nodes_missing_value_tracks_true=[0, 1],
    )
    assert run(proto, x)[0][:, 0].tolist() == [7.0, 5.0, 7.0, 6.0, 6.0, 6.0, 7.0]


def test_a_tree_that_is_a_leaf():
    x = np.zeros((3, 1), np.float32)
    proto = ensemble(x, [0], [0.0], [(0, 1, 0, 1)], [2.5])
    assert run(proto, x)[0].tolist() == [[2.5]] * 3


# -- what is refused ------------------------------------------------------------------------------


def nodes_of(yes, no, mode=(0, 0, 7)):
    n = len(yes)
    return Nodes(
        np.array(mode),
        np.zeros(n, int),
        np.zeros(n),
        np.array(yes),
        np.array(no),
        np.zeros(n, int),
        np.arange(n),
        {},
    )


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (nodes_of([1, 0, 0], [2, 2, 0]), "circle"),
        (nodes_of([1, 5, 0], [2, 2, 0]), "no such node"),
        (nodes_of([1, 2, 0], [2, 2, 0], (0, 9, 7)), "unknown mode"),
    ],
)
def test_damaged_trees_are_refused(nodes, message):
    with pytest.raises(ModelError, match=message):
        build(nodes, [0], np.float32, "Trees")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes_values": [0.0]}, "one entry per node"),
        ({"target_ids": [3, 3]}, "a target that is not there"),
        ({"target_nodeids": [9, 9]}, "a leaf and a weight per vote"),
        ({"nodes_featureids": [4, 0, 0]}, "features that x does not have"),
        ({"aggregate_function": "MEAN"}, "unknown aggregate_function"),
        ({"post_transform": "TANH"}, "no such post_transform"),
        ({"base_values": [1.0, 2.0]}, "base_values must have one entry per target"),
    ],
)
def test_wrong_attributes_are_refused(change, message):
    rows = [("BRANCH_LEQ", 0, 0.0, 1, 2, 0), ("LEAF", 0, 0.0, 0, 0, 0), ("LEAF", 0, 0.0, 0, 0, 0)]
    attrs = attributes([(rows, [(0, 1, 0, 1.0), (0, 2, 0, 2.0)])], "target") | change
    with pytest.raises(TesselError, match=message):
        graph_of(model("TreeEnsembleRegressor", np.zeros((1, 2), np.float32), Y, **attrs))


def test_the_modes_are_onnx():
    assert set(COMPARE) == set(MODES[:6])
