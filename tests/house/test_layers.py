"""The plan of rooms (`layers.py`): imports follow it, and it has neither circles nor old rooms."""

import functools

import pytest

from . import import_graph
from .import_graph import Import, between, circles, imports, layer, room, sources
from .layers import EVERYONE_READS, IMPORTS_INSIDE, READS

# tools → the public API → frontends → runtime → compiler
LAYERS = ("compiler", "runtime", "frontends", import_graph.PUBLIC_API, "tools")
LARGEST_CIRCLE = 10  # files
LARGEST_FOLDER = 20  # files
ROOMS = list(READS)


@functools.cache
def found_imports() -> list[Import]:
    """What the package imports of itself now."""
    return list(imports(sources()))


def faults(found: list[Import]) -> list[str]:
    """Imports that the plan does not have."""
    return [
        f"{i.importer}.py:{i.line}: {a} may not read {b}"
        for i in found
        for a, b in [i.rooms]
        if a != b and b not in {*READS.get(a, "").split(), *EVERYONE_READS}
    ]


def test_imports_follow_the_plan():
    wrong = faults(found_imports())
    assert not wrong, "\n".join(wrong)


def test_the_plan_has_no_more_than_is_there():
    arrows = between(i.rooms for i in found_imports())
    stale = [(a, b) for a in READS for b in READS[a].split() if b not in arrows.get(a, ())]
    assert stale == []
    assert set(READS) == {room(module) for module in sources()}


def test_layers_are_read_from_above_only():
    wrong = [
        (a, b)
        for a in READS
        for b in READS[a].split()
        if LAYERS.index(layer(b)) > LAYERS.index(layer(a))
    ]
    assert wrong == []


def test_a_room_reads_only_rooms_that_stand_before_it():
    wrong = [(a, b) for a in READS for b in READS[a].split() if ROOMS.index(b) > ROOMS.index(a)]
    assert wrong == []


def test_few_modules_read_each_other():
    files = circles(between((i.importer, i.imported) for i in found_imports()))
    assert max(map(len, files), default=0) <= LARGEST_CIRCLE, files[0]


def test_no_folder_is_large():
    large = {f: n for f, n in import_graph.folders().items() if n > LARGEST_FOLDER}
    assert large == {}


def test_functions_import_only_where_a_reason_is_given():
    inside = {i.importer for i in found_imports() if i.inside}
    assert sorted(inside) == sorted(IMPORTS_INSIDE)


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("a/m", "from ..b.n import f", "b/n"),
        ("a/m", "from ..b import n", "b/n"),
        ("a/m", "from .. import b", "b/__init__"),
        ("a/m", "import tessel.b.n", "b/n"),
        ("a/m", "from tessel.b.n import f", "b/n"),
        ("a/m", "def f():\n    from ..b import n", "b/n"),
        ("a/m", "if TYPE_CHECKING:\n    from ..b import n", None),
        ("a/m", "import numpy", None),
    ],
)
def test_imports_are_found(module, source, expected):
    modules = {module: source, "b/n": "", "b/__init__": "", "__init__": ""}
    found = [i.imported for i in imports(modules)]
    assert found == ([] if expected is None else [expected])


def test_an_import_against_the_plan_is_named():
    modules = {"compiler/ir/graph": "from ...runtime.base import build", "runtime/base/build": ""}
    assert faults(list(imports(modules))) == [
        "compiler/ir/graph.py:1: compiler/ir may not read runtime/base"
    ]


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []
