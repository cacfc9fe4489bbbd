"""The wheels of a release: `python -m tessel.tools.wheels dist`, in a checkout.

tessel       everything
tessel-run   the same code for machines that only load and run packages, with a command line of its
             own (`runtime/command.py`). It depends on numpy and ml_dtypes alone, and carries the
             machine code of the thread pool (x86-64 Linux), which elsewhere LLVM makes at the
             first run.

Both install the folder `tessel`: one environment has one of them. Extras of pip only add packages,
so what needs fewer of them is a distribution of its own.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from ..compiler.errors import UsageError
from ..runtime.native.linker import PLAIN
from .common.terminal import write

ROOT = Path(__file__).resolve().parent.parent
RUN_PACKAGES = ("numpy", "ml_dtypes")
RUN_EXTRAS = ("sign",)
RUN_DESCRIPTION = "Loads and runs packages that tessel compiled (x86-64 Linux)"
_BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


def project(root: Path = ROOT) -> dict:
    """pyproject.toml. Raises UsageError where there is no checkout."""
    file = root / "pyproject.toml"
    if not file.is_file():
        raise UsageError(
            "wheels are built in a checkout", received=str(root), fix="clone the repository"
        )
    return tomllib.loads(file.read_text())


def copy_sources(root: Path, to: Path) -> None:
    """What wheels are made of. From a copy, since a build leaves folders behind that would end up
    in the next wheel."""
    tool = project(root)["tool"]["setuptools"]
    files = [root / name for name in ("pyproject.toml", "README.md", "LICENSE")]
    for package in tool["packages"]:
        files += (root / Path(*package.split(".")[1:])).glob("*.py")
    for package, names in tool["package-data"].items():
        files += [root / Path(*package.split(".")[1:]) / name for name in names]
    for file in files:
        copy = to / file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def build(root: Path, out: Path, run: bool = False) -> Path:
    """The wheel of tessel or, with `run`, of tessel-run, in the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_sources(root, copy)
        if run:
            _for_running(copy)
        done = subprocess.run(
            [sys.executable, "-c", _BUILD, str(out.resolve())],
            cwd=copy,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": ""},
        )
    if done.returncode != 0:
        raise UsageError(
            "setuptools did not build the wheel",
            received=done.stderr[-2000:],
            fix="pip install 'tessel[dev]'",
        )
    return out / done.stdout.split()[-1]


def _for_running(copy: Path) -> None:
    """Make tessel-run of a copy of the sources."""
    from ..compiler.backends.llvm.program.pool_ir import pool_object
    from ..runtime.native.pool import native_host, object_key

    if not PLAIN:
        raise UsageError("tessel-run is for x86-64 Linux, and built there")
    (copy / "pyproject.toml").write_text(run_project(project(copy)))
    host = native_host()
    (copy / "runtime" / "native" / f"{object_key(host)}.o").write_bytes(pool_object(host))


def run_project(full: dict) -> str:
    """The pyproject.toml of tessel-run, from that of tessel."""
    kept = ("version", "readme", "license", "license-files", "keywords", "classifiers")
    parts = {"name": "tessel-run", "description": RUN_DESCRIPTION}
    parts |= {name: full["project"][name] for name in (*kept, "requires-python")}
    parts["dependencies"] = [
        d for d in full["project"]["dependencies"] if d.startswith(RUN_PACKAGES)
    ]
    extras = {e: full["project"]["optional-dependencies"][e] for e in RUN_EXTRAS}
    packages = full["tool"]["setuptools"]["packages"]
    packages = [p for p in packages if not p.startswith("tessel.tools")]
    data = full["tool"]["setuptools"]["package-data"] | {
        "tessel": ["py.typed"],
        "tessel.runtime.native": ["*.o"],
    }
    tables = {
        "build-system": full["build-system"],
        "project": parts,
        "project.scripts": {"tessel-run": "tessel.runtime.command:main"},
        "project.optional-dependencies": extras,
        "tool.setuptools": {"packages": packages},
        "tool.setuptools.package-dir": full["tool"]["setuptools"]["package-dir"],
        "tool.setuptools.package-data": data,
    }
    return "\n".join(_table(name, values) for name, values in tables.items())


def _table(name: str, values: dict) -> str:
    """A table of TOML; strings and lists of strings are written as in JSON."""
    lines = [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def main(out: str = "dist") -> None:
    """Build both, and say how large they are."""
    for run in (False, True):
        wheel = build(ROOT, Path(out), run)
        write(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
