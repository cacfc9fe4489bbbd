"""Trees of classes, modules in containers, and indexing by arrays."""

import dataclasses
import typing

import numpy as np
import pytest
from tessel.compiler.errors import TypeMismatch, UsageError
from tessel.frontends import native
from tessel.frontends.native import functional as F
from tessel.frontends.native import tree

from ...support.interpreted import grad, jit

X = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)


class Point(typing.NamedTuple):
    x: typing.Any
    y: typing.Any


@native.register_tree(static=("name",))
@dataclasses.dataclass
class Batch:
    images: typing.Any
    name: str = "a"


class Pair:
    def __init__(self, left, right):
        self.left, self.right = left, right


native.register_tree(
    Pair,
    parts=lambda p: ({"left": p.left, "right": p.right}, None),
    build=lambda found, _: Pair(**found),
)


def test_objects_are_trees():
    t = {"p": Point(1, [2]), "b": Batch(3, "n"), "q": Pair(4, None)}
    leaves, structure = tree.flatten(t)
    assert leaves == [3, 1, 2, 4]
    assert tree.paths(t, "in") == ["in.b.images", "in.p.x", "in.p.y.0", "in.q.left"]
    assert "Point(x=*, y=[*])" in str(structure)
    again = tree.unflatten(structure, leaves)
    assert again["p"] == t["p"] and again["b"] == t["b"] and again["q"].left == 4
    assert tree.flatten(Batch(3, "m"))[1] != tree.flatten(Batch(3, "n"))[1]


def test_objects_go_through_compiled_functions():
    f = jit(lambda p, b: Batch(p.x * b.images, b.name + "!"))
    result = f(Point(X, X), Batch(X, "n"))
    assert result.name == "n!" and type(result) is Batch
    np.testing.assert_allclose(result.images, X * X)
    d = grad(lambda p: (p.x * p.y).sum())(Point(X, X + 1))
    np.testing.assert_allclose(d.x, X + 1)


def test_what_cannot_be_registered():
    with pytest.raises(UsageError, match="no dataclass"):
        native.register_tree(type("Other", (), {}))
    with pytest.raises(UsageError, match="no such field"):
        native.register_tree(Batch, static=("nothing",))


class Net(native.Module):
    def __init__(self):
        self.blocks = [native.Linear(5, 5), native.Linear(5, 5)]
        self.heads = {"a": native.Linear(5, 2), "b": [native.Linear(5, 1)]}
        self.sizes = [1, 2]

    def forward(self, s, x):
        for block in s.blocks:
            x = F.relu(block(x))
        assert len(s.blocks) == 2 and list(s.heads) == ["a", "b"]
        return s.heads["a"](x), s.heads["b"][-1](x), s.blocks[0](x)


def test_modules_in_lists_and_dicts_have_parameters():
    net = Net()
    params = net.init(np.random.default_rng(0))
    assert {p.rpartition(".")[0] for p in tree.paths(params)} == {
        "blocks.0",
        "blocks.1",
        "heads.a",
        "heads.b.0",
    }
    a, b, c = jit(lambda p, x: net(p, x))(params, X)
    assert (a.shape[-1], b.shape[-1], c.shape[-1]) == (2, 1, 5)
    with pytest.raises(TypeMismatch, match="in a list or a dict"):
        native.trace(lambda x: len(native.module.Scope(net, {}, {}, False)), "f32[3]")


I, K = np.array([0, -1, 2]), np.array([[1], [0]])
KEYS = {
    "two arrays": (I, I % 3),
    "broadcast": (K, I % 3),
    "one in the middle": (slice(None), [2, 0]),
    "beside each other": (slice(1, None), I % 3, I),
    "apart": (I, slice(None), I),
    "apart by None": (I, None, I % 3),
    "a number beside": (1, slice(None), I),
    "the end": (..., I),
    "the end of two": (..., K % 3, I),
    "None and a slice": (None, I, slice(0, 2), ...),
    "bools": (np.array([True, False, True, True]),),
    "bools of two axes": (X[..., 0] > 0,),
    "one": (K,),
}


@pytest.mark.parametrize("name", KEYS)
def test_indexing_is_numpys(name):
    key = KEYS[name]
    np.testing.assert_array_equal(jit(lambda x: x[key])(X), X[key])


def test_traced_indices():
    f = lambda x, i, j: x[i, :, j]
    np.testing.assert_array_equal(jit(f)(X, I, I), X[I, :, I])
    d = grad(lambda x, i, j: f(x, i, j).sum())(X, I * 0, I)
    expected = np.zeros_like(X)
    np.add.at(expected, (I * 0, slice(None), I), 1)
    np.testing.assert_array_equal(d, expected)


@pytest.mark.parametrize(
    ("f", "message"),
    [(lambda x: x[x > 0], "an index is an integer"), (lambda x: x[I, I, I, I], "too many indices")],
)
def test_wrong_indices(f, message):
    with pytest.raises(TypeMismatch, match=message) as error:
        jit(f)(X)
    assert "test_trees_and_parts.py" in error.value.where
