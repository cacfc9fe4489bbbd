"""Shapes and dtypes of what a function gives, found by tracing it, without computing anything."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ....compiler.errors import TesselError
from ....compiler.ir.dims import Sym
from ....compiler.ir.types import TensorType, dtype_of
from ...native.tracing import Tracer
from ..functions.traced import TracedArray

OPEN = 83, 89  # sizes that stand for an open dim: where results differ, their dim is open


def compute_output_spec(original: Callable, fn: Callable, *args: Any, **kwargs: Any) -> Any:
    """`fn` of KerasTensors as KerasTensors. What cannot be traced runs on arrays, as in Keras."""
    try:
        return _traced_spec(fn, args, kwargs)
    except (TesselError, NotImplementedError):
        return original(fn, *args, **kwargs)


def standardize_shape(original: Callable) -> Callable:
    """Keras' check of shapes, to which tessel's open dims are Keras' open dims: None."""

    def standardized(shape: Any) -> Any:
        if isinstance(shape, (list, tuple)):
            shape = tuple(None if isinstance(d, Sym) else d for d in shape)
        return original(shape)

    return standardized


def _traced_spec(fn: Callable, args: Any, kwargs: Any) -> Any:
    from keras.src import tree
    from keras.src.backend.common.keras_tensor import KerasTensor
    from keras.src.backend.common.stateless_scope import StatelessScope
    from keras.src.backend.common.symbolic_scope import SymbolicScope
    from keras.src.backend.common.variables import standardize_dtype

    tensors = [x for x in tree.flatten((args, kwargs)) if isinstance(x, KerasTensor)]
    is_open = any(None in x.shape for x in tensors)

    def run(size: int) -> Any:
        b = Tracer("spec")

        def traced(x: Any) -> Any:
            if not isinstance(x, KerasTensor):
                return x
            shape = tuple(size if n is None else n for n in x.shape)
            array = b.input("x", TensorType(dtype_of(x.dtype), shape))
            result = TracedArray(array)
            mask = getattr(x, "_keras_mask", None)
            if isinstance(mask, KerasTensor):
                result._keras_mask = traced(mask)
            return result

        given_args, given_kwargs = tree.map_structure(traced, (args, kwargs))
        with StatelessScope(), SymbolicScope():
            return fn(*given_args, **given_kwargs)

    results = [run(size) for size in (OPEN if is_open else OPEN[:1])]
    shapes = [[getattr(x, "shape", None) for x in tree.flatten(r)] for r in results]
    found = []
    for i, x in enumerate(tree.flatten(results[0])):
        if not isinstance(x, (TracedArray, np.ndarray, np.generic)):
            found.append(x)
            continue
        sizes = zip(*(s[i] for s in shapes))
        shape = tuple(s[0] if len(set(s)) == 1 else None for s in sizes)
        found.append(KerasTensor(shape, standardize_dtype(x.dtype)))
    return tree.pack_sequence_as(results[0], found)
