"""What is released: the wheel of tessel, and that of tessel-run, used without the checkout."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tessel
from tessel.runtime.native.linker import PLAIN
from tessel.tools import wheels

from .test_house import package_folders, product_files, relative

ROOT = wheels.ROOT
INPUT = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return set(file.namelist())


def metadata_of(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as file:
        [name] = [n for n in file.namelist() if n.endswith(".dist-info/METADATA")]
        return file.read(name).decode()


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """The wheel of tessel."""
    pytest.importorskip("setuptools", "77", reason="building the wheel needs setuptools>=77")
    return wheels.build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The wheel of tessel-run."""
    pytest.importorskip("setuptools", "77", reason="building the wheel needs setuptools>=77")
    if not PLAIN:
        pytest.skip("tessel-run is for x86-64 Linux")
    return wheels.build(ROOT, tmp_path_factory.mktemp("wheel"), run=True)


@pytest.fixture
def python(tmp_path):
    """Run code with a wheel and some installed packages, and nothing else: `python(wheel, code,
    "numpy")`. Python's own site-packages are not on the path (-S)."""

    def python(wheel: Path, code: str, *packages: str, arguments=()) -> subprocess.CompletedProcess:
        place = tmp_path / "site"
        with zipfile.ZipFile(wheel) as file:
            file.extractall(place)
        for package in packages:
            home = Path(sys.modules[package].__file__).parent
            for folder in (home, home.with_name(f"{package}.libs")):
                if folder.is_dir() and not (place / folder.name).exists():
                    (place / folder.name).symlink_to(folder)
        environment = {
            "PATH": os.environ["PATH"],
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "PYTHONPATH": str(place),
        }
        command = [sys.executable, "-S", "-c", code, *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120
        )

    return python


@pytest.fixture
def package(tmp_path) -> Path:
    """The demo's model, compiled."""
    path = tmp_path / "digits.tsl"
    tessel.compile(ROOT / "examples/models/digits.onnx").save(path)
    return path


# -- tessel --------------------------------------------------------------------------------


def test_the_wheel_holds_every_module_and_what_the_code_reads(full):
    expected = {f"tessel/{relative(f)}" for f in product_files()}
    expected |= {"tessel/py.typed", "tessel/examples/models/digits.onnx"}
    assert expected <= names_in(full)
    outside = {n for n in names_in(full) if not n.startswith(("tessel/", "tessel-"))}
    assert not outside and not [n for n in names_in(full) if n.startswith("tessel/tests/")]


def test_the_wheel_says_what_it_is(full):
    said = metadata_of(full)
    for line in (
        "Name: tessel",
        f"Version: {tessel.__version__}",
        "License-Expression: Apache-2.0",
        "License-File: LICENSE",
        "Classifier: Typing :: Typed",
    ):
        assert line in said.splitlines()


def test_the_demo_runs_from_the_wheel(full, tmp_path):
    """With the packages of this environment, but not its tessel."""
    with zipfile.ZipFile(full) as file:
        file.extractall(tmp_path / "site")
    code = "from tessel.tools import cli, demo; print(demo.MODEL); cli.main(['demo'])"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert "10 of 10 are right" in done.stdout


# -- tessel-run ----------------------------------------------------------------------------

RUN = """
import sys, numpy as np, tessel
exe = tessel.load(sys.argv[1], threads=2)
np.save(sys.argv[2], exe(np.load(sys.argv[3])))
print(*exe.notes)
"""
COMPILE = """
import sys, tessel
try:
    {call}
except tessel.TesselError as error:
    print(type(error).__name__, error, sep="\\n")
"""


def test_a_package_runs_with_numpy_and_ml_dtypes_alone(small, package, python, tmp_path):
    np.save(tmp_path / "x.npy", INPUT)
    arguments = package, tmp_path / "y.npy", tmp_path / "x.npy"
    done = python(small, RUN, "numpy", "ml_dtypes", arguments=arguments)
    assert (done.stdout, done.stderr) == ("\n", "")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), tessel.load(package)(INPUT))


def test_the_command_tessel_run_needs_no_more(small, package, python, tmp_path):
    code = "from tessel.runtime.command import main; main()"
    arguments = package, "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz"
    (port,) = tessel.load(package).inputs
    np.savez(tmp_path / "in.npz", **{port.name: INPUT})
    done = python(small, code, "numpy", "ml_dtypes", arguments=arguments)
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = np.load(tmp_path / "out.npz").values()
    np.testing.assert_array_equal(found, tessel.load(package)(INPUT))


@pytest.mark.parametrize(
    ("call", "missing", "purpose"),
    [
        ("tessel.load(sys.argv[1], native=False)", "llvmlite", "compiling for the CPU"),
        ("tessel.compile(sys.argv[2])", "llvmlite", "compiling for the CPU"),
        ("tessel.to_onnx(sys.argv[2])", "onnx", "reading and writing ONNX models"),
        ("tessel.from_onnx(sys.argv[2])", "onnx", "reading and writing ONNX models"),
    ],
)
def test_what_needs_more_says_what_to_install(small, package, python, call, missing, purpose):
    model = ROOT / "examples/models/digits.onnx"
    code = COMPILE.format(call=call)
    done = python(small, code, "numpy", "ml_dtypes", arguments=(package, model))
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "MissingPackageError",
        f"{purpose} needs the package {missing}, which is not installed",
        "  fix:      pip install tessel",
    ]


def test_tessel_run_depends_on_little(small):
    said = metadata_of(small).splitlines()
    needed = [line for line in said if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert [line.split()[1].split(">")[0] for line in needed] == ["numpy", "ml_dtypes"]
    assert "Name: tessel-run" in said and f"Version: {tessel.__version__}" in said
    names = names_in(small)
    assert len([n for n in names if n.endswith(".o")]) == 1
    assert not [n for n in names if n.startswith("tessel/tools/")]
    assert {
        f"tessel/{relative(f)}" for f in product_files() if relative(f)[:6] != "tools/"
    } <= names


def test_the_project_of_tessel_run_is_made_from_tessel_s():
    made = tomllib.loads(wheels.run_project(wheels.project(ROOT)))
    assert made["project"]["license"] == "Apache-2.0"
    assert made["project"]["scripts"] == {"tessel-run": "tessel.runtime.command:main"}
    assert set(made["tool"]["setuptools"]["packages"]) == {
        p for p in package_folders() if not p.startswith("tessel.tools")
    }


def test_wheels_need_a_checkout(tmp_path):
    with pytest.raises(tessel.TesselError, match="wheels are built in a checkout"):
        wheels.build(tmp_path, tmp_path / "out")
