"""Names that Keras 3 has no longer, or has as legacy: offered under the same namespace.

Most are in `keras.src.legacy`; the few that are not stand here.
"""

import importlib
import inspect
from types import ModuleType
from typing import Any

import numpy as np

from .export import exporting, to_graph
from .steps import gradients

# Where legacy code is, and the place under `keras` where its names are offered.
PLACES = {
    "keras.src.legacy.layers": "layers",
    "keras.src.legacy.preprocessing.image": "preprocessing.image",
    "keras.src.legacy.preprocessing.sequence": "preprocessing.sequence",
    "keras.src.legacy.preprocessing.text": "preprocessing.text",
}


def add_names(keras: Any) -> None:
    """Add them to Keras, with `keras.gradients`, `keras.to_graph` and `Model.export` to ONNX."""
    keras.gradients, keras.to_graph = gradients, to_graph
    keras.Model.export = exporting(keras.Model.export)
    for module, place in PLACES.items():
        holder = keras
        for part in place.split("."):
            holder = _part(holder, part)
        for name, value in vars(importlib.import_module(module)).items():
            own = (inspect.isfunction(value) or inspect.isclass(value)) and not name.startswith("_")
            if own and value.__module__ == module and not hasattr(holder, name):
                setattr(holder, name, value)
    for name, value in keras_2_backend(keras).items():
        if not hasattr(keras.backend, name):
            setattr(keras.backend, name, value)
    keras.utils.HDF5Matrix = HDF5Matrix


def keras_2_backend(keras: Any) -> dict[str, Any]:
    """Keras 2's `K`: the functions of `keras.ops` under their names, and those that differ."""
    ops = keras.ops
    same = {name: f for name, f in vars(ops).items() if inspect.isfunction(f)}
    return same | {
        "variable": lambda value, dtype=None, name=None, constraint=None: keras.Variable(
            np.asarray(value, dtype or keras.config.floatx()), name=name
        ),
        "constant": lambda value, dtype=None, shape=None, name=None: np.broadcast_to(
            np.asarray(value, dtype or keras.config.floatx()), shape or np.shape(value)
        ),
        "placeholder": lambda shape=None, ndim=None, dtype=None, name=None: keras.Input(
            batch_shape=shape or (None,) * ndim, dtype=dtype, name=name
        ),
        "eval": value_of,
        "get_value": value_of,
        "set_value": lambda x, value: x.assign(value),
        "update": lambda x, value: x.assign(value),
        "update_add": lambda x, value: x.assign_add(value),
        "update_sub": lambda x, value: x.assign_sub(value),
        "int_shape": lambda x: tuple(x.shape),
        "concatenate": lambda xs, axis=-1: ops.concatenate(xs, axis),
        "permute_dimensions": ops.transpose,
        "batch_flatten": lambda x: ops.reshape(x, (ops.shape(x)[0], -1)),
        "flatten": lambda x: ops.reshape(x, (-1,)),
        "gather": lambda x, indices: ops.take(x, indices, axis=0),
        "pow": ops.power,
        "l2_normalize": lambda x, axis=-1: ops.normalize(x, axis),
        "switch": ops.where,
        "random_normal": keras.random.normal,
        "random_uniform": keras.random.uniform,
        "truncated_normal": keras.random.truncated_normal,
        "gradients": gradients,
    }


def value_of(x: Any) -> np.ndarray:
    """The numbers of a variable or an array: Keras 2's `K.eval` and `K.get_value`."""
    return np.asarray(x)


class HDF5Matrix:
    """Rows of a data set of an HDF5 file, as an array that is read where it is indexed.

        x = HDF5Matrix("data.h5", "images", start=0, end=100)

    `normalizer` is applied to what is read.
    """

    def __init__(
        self,
        datapath: str,
        dataset: str,
        start: int = 0,
        end: int | None = None,
        normalizer: Any = None,
    ):
        h5py = importlib.import_module("h5py")
        self.data = h5py.File(datapath, "r")[dataset]
        self.start, self.end = start, self.data.shape[0] if end is None else end
        self.normalizer = normalizer

    def __len__(self) -> int:
        return self.end - self.start

    def __getitem__(self, key: Any) -> np.ndarray:
        rows = np.arange(self.start, self.end)[key]
        if np.ndim(rows) == 0 or len(rows) == 0:
            found = self.data[int(rows)] if np.ndim(rows) == 0 else self.data[:0]
        else:
            unique, places = np.unique(rows, return_inverse=True)  # h5py wants them ascending
            found = self.data[unique][places]
        return found if self.normalizer is None else self.normalizer(found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.data.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim


def _part(holder: Any, name: str) -> Any:
    if not hasattr(holder, name):
        setattr(holder, name, ModuleType(f"{holder.__name__}.{name}"))
    return getattr(holder, name)


def find_module(name: str) -> ModuleType:
    """A module that `add_names` made, by the name it would have. Raises ModuleNotFoundError."""
    holder: Any = importlib.import_module("keras")
    for part in name.split(".")[1:]:
        holder = getattr(holder, part, None)
    if not isinstance(holder, ModuleType):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return holder
