"""Load Keras with tessel behind its numpy backend; the one place that knows how Keras is loaded.

`KERAS_BACKEND=numpy` while Keras is imported, and a finder on `sys.meta_path` that changes some of
its modules right after they have run:

    keras.src.backend.numpy.*         public functions: arrays go to Keras' numpy code, traced
                                      tensors to ours; `np` there is `functions.table.TracedNumpy`
    keras.src.backend.numpy.trainer   the class with fit, evaluate and predict is ours

Two of those files import jax for a few functions; they get a stand-in, and these functions are
ours for arrays, too. Keras may get plug-ins for backends one day (keras-team/keras, RFC 23523):
this file is what moves to them.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from ...compiler.errors import MissingPackageError, UsageError

BACKEND = "keras.src.backend.numpy"
PARTS = ("core", "image", "linalg", "math", "nn", "numpy", "random", "rnn")
MARK = "__tessel__"  # on Keras' backend module: it was loaded here
NEED_JAX = ("jax", "jax.lax", "keras.src.backend.jax", "keras.src.backend.jax.math")


def load_keras(alias: str) -> ModuleType:
    """Keras with tessel as its backend; `alias.layers` is then importable as Keras' own module.

    Raises MissingPackageError without Keras, UsageError if Keras was imported before.
    """
    if "keras" not in sys.modules:
        if importlib.util.find_spec("keras") is None:
            raise MissingPackageError(
                f"{alias} needs the package keras, which is not installed",
                expected="keras>=3.10,<4",
                fix='pip install "tessel[keras]"',
            )
        with _hooked():
            keras = importlib.import_module("keras")
            from .backend.specs import standardize_shape
            from .names import add_names

            add_names(keras)
            kept = sys.modules["keras.src.backend"]
            kept.standardize_shape = standardize_shape(kept.standardize_shape)
    keras = sys.modules["keras"]
    if not hasattr(sys.modules.get(BACKEND), MARK):
        raise UsageError(
            "Keras was imported before, and runs on another backend",
            where=f"import {alias}",
            expected=f"{alias} before `import keras`",
            received=f"keras {keras.__version__} on {keras.config.backend()}",
            fix=f"replace `import keras` by `import {alias} as keras`, in all files",
        )
    if not any(isinstance(f, _Alias) and f.alias == alias for f in sys.meta_path):
        sys.meta_path.insert(0, _Alias(alias))
    return keras


@contextmanager
def _hooked() -> Iterator[None]:
    """While Keras is imported, its backend is numpy, and its files are ours to see."""
    before = os.environ.get("KERAS_BACKEND")
    finder = _Finder()
    os.environ["KERAS_BACKEND"] = "numpy"
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        if before is None:
            os.environ.pop("KERAS_BACKEND")
        else:
            os.environ["KERAS_BACKEND"] = before


class _Finder(MetaPathFinder):
    """Finds the modules of Keras' numpy backend where they are, and adds what is done to them."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        if not name.startswith(BACKEND):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, name.removeprefix(BACKEND).lstrip("."))
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader, part: str):
        self.loader, self.part = loader, part

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        with _stand_ins() if self.part in ("math", "nn") else _nothing():
            self.loader.exec_module(module)
        if self.part == "":
            setattr(module, MARK, True)
        elif self.part in PARTS:
            from .backend.parts import change

            change(module, self.part)
        elif self.part == "trainer":
            from .trainer import trainer_class

            module.NumpyTrainer = trainer_class(module.NumpyTrainer)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:  # get_source and the like, for tracebacks
        return getattr(self.loader, name)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Modules in place of jax, for imports only: what uses them is replaced (`parts.EAGER`)."""
    before = {name: sys.modules.get(name) for name in NEED_JAX}
    for name in NEED_JAX:
        sys.modules[name] = _StandIn(name)
    sys.modules["jax"].lax = sys.modules["jax.lax"]  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _StandIn(ModuleType):
    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> Any:
            raise UsageError(f"Keras' numpy backend computes this with {self.__name__}.{name}")

        return missing


class _Alias(MetaPathFinder, Loader):
    """Imports of `ALIAS.layers` give the module `keras.layers`."""

    def __init__(self, alias: str):
        self.alias = alias

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(f"{self.alias}."):
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        own = f"keras{module.__name__.removeprefix(self.alias)}"
        try:
            real = importlib.import_module(own)
        except ModuleNotFoundError:
            from .names import find_module

            real = find_module(own)
        sys.modules[module.__name__] = real
