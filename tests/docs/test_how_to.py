"""The how-tos, as a stranger follows them: their blocks in a copy of the tree, and nothing else.

A block of code says in its first line what it changes:

    # compiler/passes/flush.py (new)            the file is the rest of the block
    # compiler/ops/unary.py (at the end)        the rest of the block follows the file
    # compiler/pipelines.py (after: a line)     the rest follows that line, which is there once
    # try_it.py (to try it)                     the reader's own, no part of the change

A block of the language `console` has commands behind `$`, and what they print; `…` is anything.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "how-to"
FILES = {"add-an-op": 2, "add-a-pass": 3, "add-a-schedule": 3, "add-a-target": 3}
HOW = r"new|at the end|to try it|after: (?P<line>.*)"
HEAD = re.compile(rf"# (?P<path>[\w./-]+) \((?P<how>{HOW})\)$")
LIMIT = 120  # seconds for a command


@dataclass(frozen=True)
class Change:
    path: str
    how: str
    line: str | None
    text: str


@dataclass(frozen=True)
class Command:
    text: str
    prints: str


def steps(page: str) -> list[Change | Command]:
    """What a page has its reader do, in order."""
    found: list[Change | Command] = []
    for language, code in re.findall(r"^```(\w*)\n(.*?)^```", page, re.M | re.S):
        if language == "console":
            for part in re.split(r"^\$ ", code, flags=re.M)[1:]:
                command, _, prints = part.partition("\n")
                found.append(Command(command, prints))
        head, _, rest = code.partition("\n")
        match = HEAD.match(head)
        if match is not None:
            found.append(Change(match["path"], match["how"], match["line"], rest))
    return found


def apply(change: Change, tree: Path) -> None:
    """Make a change in a tree; fails where it does not fit."""
    path = tree / change.path
    if change.how in ("new", "to try it"):
        assert not path.exists(), f"{change.path} is there already"
        path.write_text(change.text)
        return
    lines = path.read_text().splitlines(keepends=True)
    if change.line is None:
        lines.append("\n" + change.text)
    else:
        at = [i for i, line in enumerate(lines) if line.strip() == change.line]
        assert len(at) == 1, f"{change.path} has {len(at)} lines {change.line!r}"
        lines.insert(at[0] + 1, change.text)
    path.write_text("".join(lines))


def run(command: str, tree: Path) -> subprocess.CompletedProcess:
    """A command of a page in a tree, whose package and command line it finds."""
    there = os.pathsep.join([str(tree.parent / "bin"), os.environ.get("PATH", "")])
    env = os.environ | {
        "PATH": there,
        "PYTHONPATH": str(tree.parent),
        "COLUMNS": "120",
        "NO_COLOR": "1",
        "TESSEL_REUSE": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        command, shell=True, cwd=tree, env=env, capture_output=True, text=True, timeout=LIMIT
    )


def matches(printed: str, expected: str) -> bool:
    """Whether a page says what was printed."""
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return re.search(pattern, printed, re.S) is not None


@pytest.fixture
def tree(tmp_path) -> Path:
    """A copy of what git would have, as the package `tessel`, with the commands that pages name."""
    tree = tmp_path / "tessel"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "build", "dist", "*.egg-info", "shared")
    shutil.copytree(ROOT, tree, ignore=ignored)
    (tmp_path / "bin").mkdir()
    for name, module in {"tessel": "tessel.tools.cli", "pytest": "pytest", "python": None}.items():
        script = tmp_path / "bin" / name
        called = f"-m {module} " if module else ""
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {called}"$@"\n')
        script.chmod(0o755)
    return tree


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_stranger_can_follow(name, tree):
    page, changed = (PAGES / f"{name}.md").read_text(), set()
    for step in steps(page):
        if isinstance(step, Change):
            apply(step, tree)
            changed |= {step.path} - ({step.path} if step.how == "to try it" else set())
            continue
        done = run(step.text, tree)
        shown = done.stdout + done.stderr
        assert matches(shown, step.prints), f"$ {step.text}\n{shown}\nexpected\n{step.prints}"
    assert 1 <= len(changed) <= FILES[name], f"the page changes {sorted(changed)}"


def test_there_is_a_test_of_each_how_to():
    assert {p.stem for p in PAGES.glob("*.md")} == set(FILES)


# -- the parts of this test ----------------------------------------------------------------


def test_what_a_page_has_one_do():
    page = (
        "```python\n# a/b.py (new)\nx = 1\n```\n```\n# not a change\n```\n"
        "```python\n# c.py (after: y = (2,))\nz = 3\n```\n```console\n$ ls\na\n$ true\n```\n"
    )
    assert steps(page) == [
        Change("a/b.py", "new", None, "x = 1\n"),
        Change("c.py", "after: y = (2,)", "y = (2,)", "z = 3\n"),
        Command("ls", "a\n"),
        Command("true", ""),
    ]


def test_changes_fit_or_fail(tmp_path):
    (tmp_path / "c.py").write_text("a = 1\n  b = 2\nc = 3\n")
    apply(Change("c.py", "after: b = 2", "b = 2", "x\n"), tmp_path)
    apply(Change("c.py", "at the end", None, "y\n"), tmp_path)
    assert (tmp_path / "c.py").read_text() == "a = 1\n  b = 2\nx\nc = 3\n\ny\n"
    with pytest.raises(AssertionError, match="has 0 lines 'b'"):
        apply(Change("c.py", "after: b", "b", "x\n"), tmp_path)
    with pytest.raises(AssertionError, match="there already"):
        apply(Change("c.py", "new", None, ""), tmp_path)


def test_what_is_printed_is_what_the_page_says():
    assert matches("1 passed in 3.2s\n", "1 passed in …s\n")
    assert not matches("1 failed in 3.2s\n", "1 passed in …s\n")
