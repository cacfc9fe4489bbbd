"""The house's own rules: who may import whom, what is packaged, how long a file may be."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from .import_graph import parsed, statements

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("compiler", "runtime", "frontends", "tools")
FACE = "the face"

# tools → the face → frontends → runtime → compiler
MAY_IMPORT = {
    "compiler": {"compiler"},
    "runtime": {"runtime", "compiler"},
    "frontends": {"frontends", "runtime", "compiler"},
    FACE: {FACE, "frontends", "runtime", "compiler"},
    "tools": {"tools", FACE, "frontends", "runtime", "compiler"},
}

# Every package from elsewhere that the product may import, and where (prefixes of paths).
ANYWHERE = ("",)
THIRD_PARTY = {
    "numpy": ANYWHERE,
    "ml_dtypes": ANYWHERE,
    "onnx": ("frontends/", "tools/", "__init__.py"),
    "google": ("frontends/onnx/", "tools/"),  # protobuf's errors, which onnx lets through
    "llvmlite": ("compiler/backends/llvm/", "runtime/", "tools/doctor.py"),
    "safetensors": ("runtime/", "frontends/"),
    "click": ("tools/",),
    "rich": ("tools/", "frontends/native/", "runtime/training/"),  # training: its progress bar
    "triton": ("compiler/backends/triton/", "runtime/gpu/"),
    "cuda": ("compiler/backends/triton/", "runtime/gpu/"),
    "matplotlib": ("tools/common/pictures.py",),
    "keras": ("frontends/keras/",),
    "PIL": ("compiler/ops/vision/image.py",),
    "re2": ("compiler/ops/text/strings.py",),
    "cryptography": ("runtime/package/trust.py",),
    # Engines that the benchmark measures; nothing is computed with them.
    "onnxruntime": ("tools/benchmark/worker.py", "tools/demo.py"),
    "openvino": ("tools/benchmark/worker.py", "tools/demo.py"),
    "torch": ("tools/benchmark/worker.py",),
    "onnx2torch": ("tools/benchmark/worker.py",),
}

# Files past the limit, each with the reason why it is still one file.
MAX_LINES = 400
LONG_FILES: dict[str, str] = {
    "compiler/backends/llvm/emit/emitter.py": "one class, whose methods share a function's state",
}

MACHINE_PATH = re.compile(r"(?<![\w.~}\])/-])/(?:work|root|home|Users)/\w")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".txt", ".json", ""}


def product_files() -> list[Path]:
    """The modules of the package: the face and everything in the rooms."""
    return [
        ROOT / "__init__.py",
        *(f for room in ROOMS for f in sorted((ROOT / room).rglob("*.py"))),
    ]


def python_files() -> list[Path]:
    more = [f for folder in ("tests", "examples", "docs") for f in (ROOT / folder).rglob("*.py")]
    return product_files() + sorted(more)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a module given by its path below the package; the package itself is the face."""
    return parts[0] if parts and parts[0] in ROOMS else FACE


def imports(
    tree: ast.Module, package: tuple[str, ...]
) -> Iterator[tuple[int, tuple[str, ...] | str]]:
    """(line, path below tessel) for each import of the package, (line, name) for each other one.

    `package` is the path below tessel of the package that the module is in.
    """
    for node in statements(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, _target(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            target = _target(node.module)
            if isinstance(target, str):
                yield node.lineno, target
            else:
                yield from ((node.lineno, (*target, alias.name)) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level - 1 <= len(package), f"line {node.lineno}: above the package"
            base = package[: len(package) - (node.level - 1)]
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((node.lineno, (*base, alias.name)) for alias in node.names)


def _target(name: str) -> tuple[str, ...] | str:
    first, *rest = name.split(".")
    return tuple(rest) if first == "tessel" else first


def import_faults(path: str, source: str) -> list[str]:
    """What `source`, as the file `path`, imports against the rules."""
    package = Path(path).parent.parts
    own = room_of(package)
    faults = []
    for line, target in imports(parsed(source), package):
        if isinstance(target, tuple):
            other = room_of(target)
            if other not in MAY_IMPORT[own]:
                faults.append(f"{path}:{line}: {own} may not import {other}")
        elif target not in sys.stdlib_module_names:
            allowed = THIRD_PARTY.get(target, ())
            if not path.startswith(tuple(allowed)):
                where = ", ".join(allowed) or "nothing"
                faults.append(f"{path}:{line}: only {where} may import {target}")
    return faults


def test_imports_point_one_way():
    faults = [
        f for path in product_files() for f in import_faults(relative(path), path.read_text())
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("compiler/ir/graph.py", "from ...runtime import x", "compiler may not import runtime"),
        ("compiler/ops/common.py", "from ... import compile", "compiler may not import the face"),
        ("compiler/ops/common.py", "from ... import tools", "compiler may not import tools"),
        ("runtime/gpu/device.py", "import tessel.frontends", "runtime may not import frontends"),
        ("frontends/onnx/shapes.py", "from ...tools import x", "frontends may not import tools"),
        ("frontends/native/nn.py", "def f():\n    import tessel", "may not import the face"),
        ("__init__.py", "from .tools.cli import main", "the face may not import tools"),
        ("compiler/ir/graph.py", "import torch", "only tools/benchmark/worker.py may import torch"),
        ("compiler/kernels/kernel.py", "import triton.language", "may import triton"),
        ("runtime/execution/executable.py", "from rich import print", "may import rich"),
        ("compiler/ir/graph.py", "import pandas", "only nothing may import pandas"),
    ],
)
def test_a_wrong_import_is_named(path, source, fault):
    assert fault in " ".join(import_faults(path, source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "tools/run.py",
            "from .. import compile\nfrom .common.feeds import random_feeds\nimport click",
        ),
        ("tools/benchmark/worker.py", "import tessel\nimport torch"),
        ("__init__.py", "from .frontends.onnx import read\nfrom .runtime.executable import E"),
        ("runtime/gpu/driver.py", "from cuda.bindings import driver"),
        (
            "compiler/ops/movement/move.py",
            "from ...ir.graph import Graph\nfrom ..common import case",
        ),
        ("frontends/native/train.py", "from rich.progress import Progress"),
    ],
)
def test_a_right_import_passes(path, source):
    assert import_faults(path, source) == []


TYPED = (
    "__init__.py",
    "compiler/arguments.py",
    "compiler/driver.py",
    "compiler/options.py",
    "compiler/passes/named.py",
    "compiler/targets/*.py",
    "frontends/sources.py",
    "runtime/base/build.py",
    "runtime/compile.py",
    "runtime/execution/load.py",
    "runtime/execution/session.py",
)


@pytest.mark.parametrize("pattern", TYPED)
def test_the_face_and_what_is_behind_it_are_annotated(pattern):
    missing = []
    for path in ROOT.glob(pattern):
        for node in ast.walk(parsed(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                a = node.args
                given = [
                    x for x in a.posonlyargs + a.args + a.kwonlyargs if x.arg not in ("self", "cls")
                ]
                missing += [f"{node.name}({x.arg})" for x in given if x.annotation is None]
                if node.returns is None and not node.name.startswith("__"):
                    missing.append(f"{node.name} -> ?")
    assert not missing


def test_only_the_driver_optimizes_and_lowers():
    found = {
        relative(path)
        for path in product_files()
        for node in ast.walk(parsed(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("run_pipeline", "lower")
    }
    others = {"compiler/ops/text/strings.py", "tools/pages/ops.py"}  # strings; a page about each op
    assert found - others == {"compiler/driver.py"}


def package_folders() -> set[str]:
    """Each folder with an `__init__.py`, as a package name."""
    return {
        ".".join(("tessel", *f.parent.relative_to(ROOT).parts))
        for f in product_files()
        if f.name == "__init__.py"
    }


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_folder_is_listed():
    assert set(project()["tool"]["setuptools"]["packages"]) == package_folders()


def test_every_module_lies_in_a_package():
    lost = [relative(f) for f in product_files() if not (f.parent / "__init__.py").exists()]
    assert not lost, "their folder has no __init__.py: " + ", ".join(lost)


def test_files_are_short():
    long = {
        relative(f): count
        for f in python_files()
        if (count := len(f.read_text().splitlines())) > MAX_LINES and relative(f) not in LONG_FILES
    }
    assert not long, f"past {MAX_LINES} lines; look for the file that wants to be born: {long}"


def test_the_list_of_long_files_is_true():
    stale = [
        name
        for name in LONG_FILES
        if not (ROOT / name).exists() or len((ROOT / name).read_text().splitlines()) <= MAX_LINES
    ]
    assert not stale


def test_the_formatter_is_seldom_overruled():
    """Tables that read by columns, and lines that would make a file too long."""
    mark = re.compile(r"#\s*fmt:\s*(skip|off)\b")
    marks = [relative(f) for f in python_files() for _ in mark.finditer(f.read_text())]
    assert len(marks) < 40, marks


def test_every_module_has_a_docstring():
    begins = re.compile(r'\A(#.*\n|\s)*[rR]?"""')
    bare = [relative(f) for f in python_files() if not begins.match(f.read_text())]
    assert not bare


def test_no_file_names_a_place_on_someones_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        files = python_files()
    else:
        files = [ROOT / name for name in listed.stdout.splitlines()]
    found = [
        f"{relative(f)}: {match[0]}"
        for f in files
        if f.suffix in TEXT_SUFFIXES and f.is_file()
        for match in MACHINE_PATH.finditer(f.read_text())
    ]
    assert not found, "\n".join(found)


def test_the_pattern_for_machine_paths():
    assert MACHINE_PATH.search("open('/" + "work/x')")
    assert not MACHINE_PATH.search("../work/x docs/work/x https://example.org/home/x")
