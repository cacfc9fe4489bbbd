"""Modules do not import each other in circles when they are loaded.

Python gives up at a circle that two threads enter from different sides: one of them is told of a
"deadlock" or finds a module that is not whole. A package counts as imported by its modules.
"""

import ast
from collections.abc import Iterator

import pytest

from .import_graph import inner, parsed
from .test_house import imports, product_files, relative


def loaded(tree: ast.Module) -> ast.Module:
    """The imports that run when a module is loaded: none of functions, nor of what only type
    checkers read."""
    found, ahead = [], list(tree.body)
    while ahead:
        node = ahead.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.append(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            ahead += node.orelse
        else:
            ahead += inner(node)
    return ast.Module(found, [])


def edges(sources: dict[tuple[str, ...], tuple[bool, str]]) -> dict[tuple, set[tuple]]:
    """Which modules each one imports; sources are (is it a package, text) by path."""
    found = {}
    for path, (is_package, text) in sources.items():
        tree = loaded(parsed(text))
        targets = {path[:i] for i in range(len(path))}
        for _, target in imports(tree, path if is_package else path[:-1]):
            if isinstance(target, tuple):
                targets |= {target} if target in sources else {target[:-1]}
        found[path] = (targets & set(sources)) - {path}
    return found


def circles(graph: dict[tuple, set[tuple]]) -> Iterator[str]:
    """Modules that can be reached from themselves."""
    for start in graph:
        reached, ahead = set(), list(graph[start])
        while ahead:
            module = ahead.pop()
            if module not in reached:
                reached.add(module)
                ahead += graph[module]
        if start in reached:
            yield ".".join(start)


def test_modules_are_loaded_in_no_circle():
    sources = {}
    for file in product_files():
        parts = tuple(relative(file).removesuffix(".py").split("/"))
        is_package = parts[-1] == "__init__"
        sources[parts[:-1] if is_package else parts] = is_package, file.read_text()
    # What the root reads reads nothing: whoever wants it has begun with the root.
    found = edges(sources)
    system = [("compiler", "system", name) for name in ("alias", "concurrency")]
    for module in (("compiler", "errors"), *system):
        packages = {module[:i] for i in range(len(module))}
        assert not found[module] - packages
        found[()] -= {module, *packages}
    assert not list(circles(found))


@pytest.mark.parametrize(
    ("package", "module", "wrong"),
    [
        ("from .m import f", "", ["p", "p.m"]),  # the package and its module
        ("", "from . import m", []),
        ("def f():\n    from . import m", "", []),
        ("if TYPE_CHECKING:\n    from . import m", "", []),
    ],
)
def test_circles_are_named(package, module, wrong):
    assert list(circles(edges({("p",): (True, package), ("p", "m"): (False, module)}))) == wrong
