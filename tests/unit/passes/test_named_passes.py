"""Passes by name: `--passes`, `tessel.compile(…, passes=)`, and what is said of wrong ones."""

from dataclasses import dataclass

import numpy as np
import pytest
import tessel
from tessel.compiler.driver import Driver
from tessel.compiler.errors import UsageError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.options import Options
from tessel.compiler.passes.base import Pass, Pipeline, Step
from tessel.compiler.passes.named import listing, parse_passes
from tessel.compiler.pipelines import default_pipeline, known_passes
from tessel.compiler.targets.table import open_target

from ..tools.test_cli import call  # noqa: F401

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Mine(Pass):
    """a pass with a field of each kind"""

    name = "mine"
    limit: int = 4
    share: float = 0.5
    deep: bool = False
    word: str = "low"


@dataclass(frozen=True)
class Other(Pass):
    """a pass without fields"""

    name = "other"


KNOWN = {"mine": Step(Mine(), "for this test"), "other": Step(Other(), "has no fields")}
DEFAULT = Pipeline((Step(Mine(limit=1), "of the level"),))


def actions(text):
    return [step.action for step in parse_passes(text, KNOWN, DEFAULT)]


def families():
    """x @ a, x @ b, x @ c"""
    b = Builder()
    x = b.input("x", "f32[4,8]")
    for n in "abc":
        weight = b.constant(RNG.random((8, 8), dtype=np.float32))
        b.output(n, b.matmul(x, weight))
    return b.graph


# -- the text --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mine", [Mine()]),
        ("mine,mine", [Mine(), Mine()]),
        ("mine{limit=4096}", [Mine(limit=4096)]),
        (" mine { limit = 2 , share=1 } , mine", [Mine(limit=2, share=1.0), Mine()]),
        ("mine{deep=True,word=high}", [Mine(deep=True, word="high")]),
        ("mine{deep=false}", [Mine()]),
        ("default,mine", [Mine(limit=1), Mine()]),
    ],
)
def test_what_a_text_means(text, expected):
    assert actions(text) == expected


FIELDS = "limit: int = 4, share: float = 0.5, deep: bool = False, word: str = low"


@pytest.mark.parametrize(
    ("text", "message", "expected"),
    [
        ("nothing", "unknown pass", "default, mine, other"),
        ("default{limit=1}", "unknown pass", "default, mine, other"),
        ("mine{depth=3}", "the pass mine has no such field", FIELDS),
        ("other{limit=1}", "the pass other has no such field", "no fields: leave out the braces"),
        ("mine{limit}", "the pass mine has no such field", FIELDS),
        ("mine{limit=high}", "the field limit of the pass mine", "limit: int = 4"),
        ("mine{limit=1.5}", "the field limit of the pass mine", "limit: int = 4"),
        ("mine{limit=True}", "the field limit of the pass mine", "limit: int = 4"),
        ("mine{deep=1}", "the field deep of the pass mine", "deep: bool = False"),
        ("mine{limit=1", "names no pass", "NAME{FIELD=VALUE},NAME,…"),
        ("mine,", "names no pass", "NAME{FIELD=VALUE},NAME,…"),
        ("mine mine", "names no pass", "NAME{FIELD=VALUE},NAME,…"),
        ("  ", "named in a text", "NAME{FIELD=VALUE},NAME,…"),
    ],
)
def test_a_wrong_text_names_what_there_is(text, message, expected):
    with pytest.raises(UsageError, match=message) as caught:
        actions(text)
    assert caught.value.expected == expected


def test_the_listing_has_fields_and_reasons():
    text = listing(KNOWN)
    assert f"mine{{{FIELDS}}}\n    for this test" in text and text.startswith("default\n")


# -- a compilation ---------------------------------------------------------------------------


def test_the_passes_of_the_pipelines_are_known_by_name():
    known = known_passes()
    assert {"fold_constants", "simplify", "channels_last", "winograd"} <= set(known)
    assert {s.action.name for s in default_pipeline(2)} <= set(known)


def test_a_compilation_runs_the_passes_that_are_named():
    seen = []
    tessel.compile(
        families(),
        passes="dce,combine_products{least=3}",
        target="numpy",
        observer=lambda action, graph, changed: seen.append((action, changed)),
    )
    assert [(a.name, c) for a, c in seen] == [("dce", False), ("combine_products", True)]
    assert seen[1][0].least == 3


def test_fields_decide():
    graph, x = families(), RNG.random((4, 8), dtype=np.float32)
    texts = [f"default,combine_products{{least={n}}}" for n in (3, 4)]
    exes = [tessel.compile(graph, passes=text, cache=False) for text in texts]
    assert [sum(n.op.name == "matmul" for n in e.graph.nodes) for e in exes] == [1, 3]
    for a, b in zip(exes[0](x), exes[1](x)):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_third_level_makes_one_product_of_several():
    graph, x = families(), RNG.random((4, 8), dtype=np.float32)
    second, third = (tessel.compile(graph, opt_level=n, cache=False) for n in (2, 3))
    assert [sum(n.op.name == "matmul" for n in e.graph.nodes) for e in (second, third)] == [3, 1]
    for a, b in zip(second(x), third(x)):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_package_keeps_them(tmp_path):
    exe = tessel.compile(families(), passes="dce", cache=False)
    exe.save(tmp_path / "m.tsl")
    assert tessel.load(tmp_path / "m.tsl", native=False).options.passes == "dce"


@pytest.mark.parametrize("passes", ["nothing", "fold_constants{limit=3}", 3, ["dce"]])
def test_wrong_passes_are_refused_before_a_model_is_read(passes):
    with pytest.raises(UsageError, match="pass"):
        Driver(open_target("numpy"), Options(passes=passes))


# -- the terminal ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["compile", "explain", "run"])
def test_commands_list_them(call, command):  # noqa: F811
    code, out, _ = call(command, "--passes", "help")
    assert code == 0 and "winograd{vector_bytes: int = 64, cpu: str = }" in out


def test_commands_take_them(call, tmp_path):  # noqa: F811
    path = tmp_path / "m.graph"
    path.write_text("graph g(%x: f32[2]) -> (%y) {\n  %a = exp(%x)\n  %y = neg(%x)\n}\n")
    code, out, _ = call("compile", path, "--emit", "graph", "--passes", "cse")
    assert code == 0 and "exp" in out
    code, out, _ = call("compile", path, "--emit", "graph", "--passes", "dce")
    assert code == 0 and "exp" not in out
    code, _, err = call("explain", path, "--passes", "winograd{bytes=3}")
    assert code == 2 and "vector_bytes: int = 64" in err
