"""A module that stands in `sys.modules` under a name of this package, and is loaded when used."""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """The module `name`; `load()` gives where its names are, once the first of them is asked for.

    Its submodules are found when something asks for `__path__`, as imports of them do.
    """

    def __init__(self, name: str, doc: str, load: Callable[[str], ModuleType]):
        super().__init__(name, doc)
        self.__spec__ = ModuleSpec(name, None, is_package=True)
        self.__dict__["_load"] = load

    def __getattr__(self, name: str) -> Any:
        asked = not name.startswith("__") or name in ("__path__", "__version__", "__all__")
        if not asked:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        behind = self.__dict__["_load"](self.__name__)
        if name == "__path__":
            return self.__dict__.setdefault(name, [])
        return getattr(behind, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.__dict__["_load"](self.__name__))})


def give_lazy_module(name: str, doc: str, load: Callable[[str], ModuleType]) -> None:
    """Put one into `sys.modules`, where `import name` and `import name.part` find it."""
    sys.modules.setdefault(name, LazyModule(name, doc, load))
