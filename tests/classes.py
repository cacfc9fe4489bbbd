"""The classes of test files: `python -m tests.classes unit` prints the files of one, for pytest.

`[tool.tessel.tests]` in pyproject.toml lists the files of each class by name; what is not listed is
a unit test. Each test gets its class as a marker, so that `pytest -m emulators` works as well.
"""

import functools
import sys
import tomllib
from pathlib import Path

TESTS = Path(__file__).resolve().parent
REST = "unit"


def listed() -> dict[str, list[str]]:
    """Class → names of its files, as pyproject.toml has it."""
    text = (TESTS.parent / "pyproject.toml").read_text()
    return tomllib.loads(text)["tool"]["tessel"]["tests"]


def test_files() -> list[Path]:
    return sorted(TESTS.rglob("test_*.py"))


def class_of(file: Path) -> str:
    """The class of a test file."""
    return _classes().get(file.name, REST)


@functools.cache
def _classes() -> dict[str, str]:
    return {name: kind for kind, names in listed().items() for name in names}


def files_of(kind: str) -> list[Path]:
    """The test files of a class. Raises ValueError where there is no such class."""
    if kind != REST and kind not in listed():
        raise ValueError(f"no such class of tests: {kind}; there are {REST}, {', '.join(listed())}")
    return [f for f in test_files() if class_of(f) == kind]


if __name__ == "__main__":
    for kind in sys.argv[1:]:
        print(*(f.relative_to(TESTS.parent) for f in files_of(kind)), sep="\n")
