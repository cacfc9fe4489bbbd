"""`compiler/classes.py`: classes as the standard decorator makes them, for each thing asked."""

import copy
import dataclasses
import pickle
import re
from dataclasses import KW_ONLY, FrozenInstanceError, field
from dataclasses import dataclass as standard
from typing import ClassVar

import pytest
from tessel.compiler.classes import dataclass as own

BOTH = pytest.mark.parametrize("decorate", [standard, own], ids=["standard", "own"])


def pair(decorate, **options):
    """A class with a field of each kind, and what `__post_init__` adds."""

    @decorate(**options)
    class Pair:
        kind: ClassVar[str] = "pair"
        first: int
        second: tuple = (1, 2)
        made: list = field(default_factory=list)
        aside: str = field(default="aside", compare=False, repr=False)
        total: int = field(init=False)
        _: KW_ONLY
        named: float = 0.5

        def __post_init__(self):
            object.__setattr__(self, "total", self.first + len(self.second))

    return Pair


@BOTH
@pytest.mark.parametrize("frozen", [False, True])
def test_fields_defaults_and_what_is_made(decorate, frozen):
    Pair = pair(decorate, frozen=frozen)
    x, y = Pair(3), Pair(3, named=0.5, second=(1, 2))
    assert (x.first, x.second, x.made, x.aside, x.total, x.named) == (
        3,
        (1, 2),
        [],
        "aside",
        5,
        0.5,
    )
    assert x.made is not y.made and x == y and x != Pair(4) and x != 3
    assert [f.name for f in dataclasses.fields(Pair)][-2:] == ["total", "named"]
    assert dataclasses.replace(x, first=9).total == 11
    assert dataclasses.asdict(x)["second"] == (1, 2)
    assert copy.deepcopy(x) == x
    assert repr(x).endswith("Pair(first=3, second=(1, 2), made=[], total=5, named=0.5)")
    assert Pair.__match_args__ == ("first", "second", "made", "aside")
    for wrong in ({}, {"first": 1, "other": 2}):
        with pytest.raises(TypeError):
            Pair(**wrong)
    with pytest.raises(TypeError):
        Pair(1, (1,), [], "a", 0.5)  # what is named has no place


@BOTH
def test_frozen_fields_stay(decorate):
    @decorate(frozen=True)
    class Point:
        x: int
        y: int = 0

    point = Point(1)
    for change in (
        lambda: setattr(point, "x", 2),
        lambda: setattr(point, "other", 2),
        lambda: delattr(point, "y"),
    ):
        with pytest.raises(FrozenInstanceError, match=r"cannot (assign to|delete) field"):
            change()
    assert {point: "there"}[Point(1, 0)] == "there"

    @decorate(frozen=True)
    class Named(Point):
        name: str = ""

    assert Named(1, 2, "n") == Named(1, 2, "n") != Named(1, 2)
    assert Named(1) != point and hash(Named(1)) == hash(Named(1))
    with pytest.raises(FrozenInstanceError):
        Named(1).name = "m"


@BOTH
def test_which_methods_are_left_as_they_are(decorate):
    @decorate(frozen=True)
    class Own:
        x: int

        def __eq__(self, other):
            return True

        def __hash__(self):
            return 7

        def __repr__(self):
            return "own"

    assert Own(1) == Own(2) and hash(Own(1)) == 7 and repr(Own(1)) == "own"

    @decorate(eq=False)
    class Identity:
        x: int

    assert Identity(1) != Identity(1) and hash(Identity(1)) != 0

    @decorate
    class Changing:
        x: int

    changing = Changing(1)
    changing.x = 2
    assert changing == Changing(2)
    with pytest.raises(TypeError, match="unhashable"):
        hash(changing)


@BOTH
def test_an_instance_that_holds_itself(decorate):
    @decorate
    class Ring:
        inside: list

    ring = Ring([])
    ring.inside.append(ring)
    assert repr(ring).endswith("Ring(inside=[...])")


@BOTH
def test_a_class_without_fields(decorate):
    @decorate(frozen=True)
    class Nothing:
        """Says nothing."""

    assert Nothing() == Nothing() and hash(Nothing()) == hash(Nothing())
    assert repr(Nothing()).endswith("Nothing()")


@BOTH
@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_classes_and_others_do_not_inherit_from_each_other(decorate, frozen):
    @decorate(frozen=frozen)
    class Base:
        x: int = 0

    with pytest.raises(TypeError, match="cannot inherit"):

        @decorate(frozen=not frozen)
        class Derived(Base):
            y: int = 0


@BOTH
def test_fields_without_a_default_come_first(decorate):
    with pytest.raises(TypeError, match="default"):

        @decorate
        class Wrong:
            x: int = 0
            y: int


def test_classes_of_both_kinds_inherit_from_each_other():
    """A user's pass may be made by the standard decorator."""
    for first, second in ((standard, own), (own, standard)):

        @first(frozen=True)
        class Base:
            x: int

        @second(frozen=True)
        class Derived(Base):
            y: int = 2

        assert Derived(1) == Derived(1, 2) and hash(Derived(1)) == hash(Derived(1))
        with pytest.raises(FrozenInstanceError):
            Derived(1).x = 3


@own(frozen=True)
class Kept:
    """Of a module, so that it can be pickled."""

    x: int
    y: tuple = ()


def test_instances_are_pickled():
    assert pickle.loads(pickle.dumps(Kept(1, (2,)))) == Kept(1, (2,))
    assert Kept.__init__.__qualname__ == "Kept.__init__"


def test_classes_of_the_package_are_made_so(root):
    standard_ones = [
        path.relative_to(root).as_posix()
        for room in ("compiler", "runtime", "frontends", "tools")
        for path in sorted((root / room).rglob("*.py"))
        if re.search(r"^from dataclasses import .*\bdataclass\b", path.read_text(), re.MULTILINE)
    ]
    assert standard_ones == ["tools/benchmark/worker.py"]  # it imports nothing of the package
