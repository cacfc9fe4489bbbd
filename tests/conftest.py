"""What tests need, said by markers, and the real models.

    (none)            runs anywhere
    pytest.mark.shared  needs ../shared/models
    pytest.mark.gpu     needs an NVIDIA GPU
    pytest.mark.saturates("QGemm", …)  compares with ONNX Runtime's products of u8 and i8, in those
                        of its cases whose names have one of these words: see SATURATED
    pytest.mark.slow    takes more than five seconds; leave out with -m "not slow"
    pytest.mark.sweep(n, suite=m)  many sizes of one thing: `make check` runs n of its cases, spread
                        evenly (the others are marked `rest`), `make test` m (all, unless said),
                        `make sweeps`, which is pytest --sweeps, all

Each file is also in a class, which is a marker of its tests (`classes.py`, pyproject.toml): unit
tests are quick and need nothing, `make check` runs them.

A test whose need is not met is skipped with the reason. `shared_model` runs a test once per real
model, `shared_models("mnist_8")` gives a named one; both imply the `shared` marker's skip.
"""

import ctypes
import functools
import json
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from .classes import class_of

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT.parent / "shared" / "models"
NO_MODELS = "needs the real models in ../shared/models, next to the repository"
SATURATED = "ONNX Runtime's sums of products of u8 and i8 saturate on this CPU"
NO_GPU = "needs an NVIDIA GPU: libcuda finds no device"


@dataclass(frozen=True)
class SharedModel:
    """A real model with inputs and the outputs that ONNX Runtime gave for them."""

    name: str
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "model.onnx"

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        return _arrays(self.folder / "inputs.npz")

    @cached_property
    def outputs(self) -> dict[str, np.ndarray]:
        return _arrays(self.folder / "outputs.npz")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--exported",
        metavar="DIR",
        type=Path,
        help="folder of models made by ../shared/peers/export_models.py (needs torch)",
    )
    parser.addoption(
        "--sweeps",
        action="store_true",
        help="all cases of every sweep, also those that the suite leaves out",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tests, and the commands that they start, compile: earlier packages would stand for it."""
    os.environ.setdefault("TESSEL_REUSE", "0")


def has_gpu() -> bool:
    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
    except OSError:
        return False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "shared_model" not in metafunc.fixturenames:
        return
    manifest = MODELS / "manifest.json"
    if manifest.is_file():
        names = sorted(json.loads(manifest.read_text()))
        metafunc.parametrize("shared_model", names, indirect=True)
    else:
        absent = pytest.param("absent", marks=pytest.mark.shared)
        metafunc.parametrize("shared_model", [absent], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    gpu_tests = [item for item in items if item.get_closest_marker("gpu") is not None]
    if gpu_tests and not has_gpu():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason=NO_GPU))
    left_out = mark_sweeps(items)
    if left_out and not config.getoption("--sweeps"):
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]
    for item in items:
        item.add_marker(class_of(item.path))
        if {"shared_model", "shared_models"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.shared)
        if item.get_closest_marker("shared") is not None and not MODELS.is_dir():
            item.add_marker(pytest.mark.skip(reason=NO_MODELS))


def mark_sweeps(items: list[pytest.Item]) -> list[pytest.Item]:
    """Mark the cases of sweeps that the quick check leaves out (`rest`), and give those that the
    suite leaves out, too: which, depends on their number alone."""
    sweeps: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sweep") is not None:
            sweeps[item.nodeid.partition("[")[0]].append(item)
    left_out = []
    for cases in sweeps.values():
        marker = cases[0].get_closest_marker("sweep")
        in_check = spread(len(cases), *marker.args)
        in_suite = spread(len(cases), marker.kwargs.get("suite", len(cases)))
        for i, item in enumerate(cases):
            if i not in in_check:
                item.add_marker("rest")
            if i not in in_check | in_suite:
                left_out.append(item)
    return left_out


def spread(count: int, chosen: int) -> set[int]:
    """Which of `count` cases in a row are run where `chosen` of them shall be."""
    if chosen >= count:
        return set(range(count))
    return {round(i * (count - 1) / max(chosen - 1, 1)) for i in range(chosen)}


@functools.cache
def saturates() -> bool:
    """Whether ONNX Runtime adds pairs of products of u8 and i8 in 16 bits, as it does on x86 CPUs
    without VNNI ("Quantize ONNX models: when to use reduce-range", its documentation)."""
    ort = pytest.importorskip("onnxruntime")
    sides = [helper.make_tensor_value_info(*x) for x in (("x", 2, [1, 64]), ("w", 3, [64, 16]))]
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", sides, [helper.make_tensor_value_info("y", 6, [1, 16])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x, w = np.full((1, 64), 255, np.uint8), np.full((64, 16), 127, np.int8)
    return bool((session.run(None, {"x": x, "w": w})[0] != 64 * 255 * 127).any())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Where ONNX Runtime's sums are wrong, tests that compare with them cannot tell who differs."""
    try:
        return (yield)
    except AssertionError:
        marker = item.get_closest_marker("saturates")
        if marker is not None and any(word in item.name for word in marker.args) and saturates():
            pytest.skip(SATURATED)
        raise


@pytest.fixture
def shared_model(request: pytest.FixtureRequest) -> SharedModel:
    """Each real model in turn."""
    return SharedModel(request.param, MODELS / request.param)


@pytest.fixture
def shared_models() -> Callable[[str], SharedModel]:
    """A real model by its name: `shared_models("mnist_8")`."""
    return lambda name: SharedModel(name, MODELS / name)


@pytest.fixture
def root() -> Path:
    """The repository's root, which is the package."""
    return ROOT
