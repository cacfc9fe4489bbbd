"""Every test file is in one class, and `make check` runs the unit tests alone."""

import subprocess
import sys
from collections import Counter

import pytest

from .. import classes


def test_every_file_is_in_exactly_one_class():
    names = [name for names in classes.listed().values() for name in names]
    assert [n for n, count in Counter(names).items() if count > 1] == []
    of_classes = [f for kind in (classes.REST, *classes.listed()) for f in classes.files_of(kind)]
    assert sorted(of_classes) == classes.test_files()


def test_what_is_listed_is_there():
    there = Counter(f.name for f in classes.test_files())
    assert [n for names in classes.listed().values() for n in names if there[n] != 1] == []


def test_every_class_is_a_marker(pytestconfig):
    markers = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert {classes.REST, *classes.listed()} <= markers


def test_tests_have_their_class_as_a_marker(request):
    assert request.node.get_closest_marker("unit") is not None
    assert request.node.get_closest_marker("models") is None


def test_make_check_runs_the_unit_tests_that_need_no_models(root):
    rule = (root / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert "-m tests.classes unit" in rule
    assert '-m "not shared and not gpu and not slow and not rest"' in rule


@pytest.mark.sweep(2)
@pytest.mark.parametrize("case", range(5))
def test_the_quick_check_runs_some_cases_of_each_sweep(case, request):
    assert (request.node.get_closest_marker("rest") is None) == (case in (0, 4))


@pytest.mark.sweep(1, suite=2)
@pytest.mark.parametrize("case", range(5))
def test_the_suite_runs_some_cases_of_a_long_sweep(case, request, pytestconfig):
    sampled = request.session.testscollected > 1 and not pytestconfig.getoption("--sweeps")
    assert case in (0, 4) or not sampled


def test_the_files_of_a_class_are_printed(root):
    command = [sys.executable, "-m", "tests.classes", "emulators"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert "tests/suites/test_foreign.py" in done.stdout.splitlines()
    with pytest.raises(ValueError, match="no such class of tests: slow; there are unit, "):
        classes.files_of("slow")
