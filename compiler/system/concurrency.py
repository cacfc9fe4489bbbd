"""What threads share, and what a fork must not break.

    give_lock(self, "_building")       self._building is a lock, and a free one in a forked child
    @lazy                              a property that is computed when it is first read

A forked child has only the thread that forked. What other threads were in the middle of stays so
for ever: a lock that one held is never released, a module that one was importing never gets whole.
So locks that outlive a call are made here, and made again in the child; and a fork waits until
imports of this package and calls of LLVM that other threads are in have ended.

`functools.cached_property` has one lock for all instances of a class (until Python 3.12), which is
held while the value is computed. `lazy` has none: threads that come at the same time all compute
the value, and all get the one that was stored first.
"""

import _imp
import contextlib
import importlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar, overload

# The packages that a compilation imports as it goes.
IMPORTED = {__name__.partition(".")[0], "google", "llvmlite", "ml_dtypes", "numpy", "onnx"}
IMPORTED |= {"safetensors", *sys.stdlib_module_names}

T = TypeVar("T")
_owners: weakref.WeakKeyDictionary[Any, dict[str, Callable]] = weakref.WeakKeyDictionary()
_before_fork: list[contextlib.ExitStack] = []  # what the thread that forks holds


def give_lock(owner: Any, name: str, make: Callable = threading.Lock) -> Any:
    """Give `owner`, an object or a module, a lock of this name, and return it.

    It is a plain lock, for `with`: an interrupt never falls between taking it and the block.
    """
    _owners[owner] = {**_owners.get(owner, {}), name: make}
    setattr(owner, name, make())
    return getattr(owner, name)


class lazy(Generic[T]):
    """A property that is computed when it is first read, or the next time if that fails."""

    def __init__(self, compute: Callable[[Any], T]):
        self.compute, self.__doc__ = compute, compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> "lazy[T]": ...
    @overload
    def __get__(self, obj: object, owner: type | None = None) -> T: ...
    def __get__(self, obj: object, owner: type | None = None) -> "lazy[T] | T":
        return self if obj is None else obj.__dict__.setdefault(self.name, self.compute(obj))


def exports(package: str, where: Mapping[str, str]) -> tuple[Callable, Callable]:
    """`__getattr__` and `__dir__` of a package whose names are imported when they are asked for.

    A package that imports its own modules, while another thread imports one of those, is a circle
    at which Python gives up.

    `where` has the names by the relative module that defines them, separated by spaces; those of
    "." are modules.
    """
    modules = {name: module for module, names in where.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = modules[name]
        if module == ".":
            return importlib.import_module(f".{name}", package)
        value = getattr(importlib.import_module(module, package), name)
        return vars(sys.modules[package]).setdefault(name, value)

    return get, lambda: sorted({*vars(sys.modules[package]), *modules})


# -- forks ---------------------------------------------------------------------------------


def _prepare() -> None:
    """Before a fork: no other thread may be importing this package, or inside LLVM."""
    held = contextlib.ExitStack()
    held.enter_context(_no_imports())
    ffi = sys.modules.get("llvmlite.binding.ffi")
    llvm = getattr(getattr(ffi, "lib", None), "_lock", None)
    if llvm is not None:
        held.enter_context(llvm)
    _before_fork.append(held)


def _release() -> None:
    if _before_fork:
        _before_fork.pop().close()


def _renew_locks() -> None:
    """In the child: whoever held one of these locks is not here."""
    _release()
    for owner, names in list(_owners.items()):
        for name, make in names.items():
            setattr(owner, name, make())


@contextlib.contextmanager
def _no_imports() -> Iterator[None]:
    """Within it no thread is importing this package or what it needs, but for this thread itself.

    The import lock is what every import takes for a moment when it begins.
    """
    own: set[str] = set()
    while True:
        _imp.acquire_lock()
        pending = set(_being_imported()) - own
        if not pending:
            break
        _imp.release_lock()
        for name in pending:
            with contextlib.suppress(Exception):  # the importing thread hears of it
                importlib.import_module(name)  # waits; comes back at once in the importing thread
        own |= pending & set(_being_imported())
    try:
        yield
    finally:
        _imp.release_lock()


def _being_imported() -> Iterator[str]:
    """Modules whose code runs, and those that another thread has begun to look for.

    A lock of a module lives from before its thread looks for the file until the module is there;
    only then, and while its code runs, `sys.modules` has it.
    """
    locks = getattr(sys.modules["_frozen_importlib"], "_module_locks", {})
    for name, reference in list(locks.items()):
        lock = reference() if name.partition(".")[0] in IMPORTED else None
        if lock is not None and lock.owner != threading.get_ident():
            yield name
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in IMPORTED:
            spec = getattr(module, "__spec__", None)
            if getattr(spec, "_initializing", False):
                yield name


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare, after_in_parent=_release, after_in_child=_renew_locks)
