"""Names that Keras 3 has no longer, or has as legacy: offered under the same namespace.

`keras.backend.variable`, `keras.preprocessing.text.Tokenizer`, … are in `keras.src.legacy`.
"""

import importlib
from types import ModuleType
from typing import Any


def add_names(keras: Any) -> None:
    """What is traced in custom steps, besides Keras' own: `keras.gradients(loss, variables)`."""
    from .steps import gradients

    keras.gradients = gradients
    for module, names in PLACES.items():
        try:
            behind = importlib.import_module(module)
        except ImportError:
            continue
        for place, name in names:
            holder = keras
            for part in place.split("."):
                if part:
                    holder = _part(holder, part)
            if not hasattr(holder, name):
                setattr(holder, name, getattr(behind, name))


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


# Where the legacy code is: (the place under `keras`, the name).
PLACES: dict[str, list[tuple[str, str]]] = {
    "keras.src.legacy.preprocessing.text": [
        ("preprocessing.text", n)
        for n in ("Tokenizer", "text_to_word_sequence", "one_hot", "hashing_trick")
    ],
    "keras.src.legacy.preprocessing.image": [
        ("preprocessing.image", n) for n in ("ImageDataGenerator", "DirectoryIterator")
    ],
    "keras.src.legacy.preprocessing.sequence": [("preprocessing.sequence", "TimeseriesGenerator")],
}
