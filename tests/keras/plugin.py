"""A pytest plug-in that runs Keras' own tests on tessel (`python -m tests.keras`).

`--traced`: functions of arrays are traced as well, and their graphs interpreted by numpy, so that
what is tested is what steps are made of, not Keras' numpy code.
"""

import importlib.util
import inspect
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

PARTS = ("image", "linalg", "math", "nn", "numpy")
ABSENT = ("jax", "tensorflow", "torch")  # what tests compare with
RARELY = ("arange", "eye", "identity", "ones", "zeros", "empty", "linspace", "logspace", "tri")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--traced", action="store_true", help="trace functions of arrays as well")


def pytest_configure(config: pytest.Config) -> None:
    import tessel.keras as keras

    for marker in ("requires_trainable_backend", "multi_device", "skip_if_backend"):
        config.addinivalue_line("markers", f"{marker}: of Keras' own tests")
    keras.config.disable_traceback_filtering()
    for name in ABSENT:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = _Absent(name)
    if config.getoption("--traced"):
        _trace_everything()


class _Absent(ModuleType):
    """A package that some tests compare with: whatever uses it is skipped."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        pytest.skip(f"compares with {self.__name__}", allow_module_level=True)


def _trace_everything() -> None:
    from tessel.frontends.keras.backend.parts import by_numpy

    from keras.src import backend

    for part in PARTS:
        module: Any = getattr(backend, part)
        for name, f in list(vars(module).items()):
            mine = inspect.isfunction(f) and f.__module__ == module.__name__
            if mine and not name.startswith("_") and name not in RARELY:
                setattr(module, name, by_numpy(f, f))


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with np.errstate(all="ignore"):
        yield
