"""The import graph of the package: which room reads which, and where modules read each other.

    python -m tests.house.import_graph          # prints it

A room is a folder; the modules of the package's root and of `compiler/` itself are rooms of their
own. Imports that only type checkers read do not count.
"""

import ast
import functools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("compiler", "runtime", "frontends", "tools")
PUBLIC_API = "__init__"
ALONE = ("", "compiler")  # folders whose modules are rooms of their own


@dataclass(frozen=True)
class Import:
    """`importer` reads `imported` (paths below the root, no suffix); `inside` a function."""

    importer: str
    imported: str
    line: int
    inside: bool

    @property
    def rooms(self) -> tuple[str, str]:
        return room(self.importer), room(self.imported)


def product_files() -> list[Path]:
    """The modules of the package: the public API and everything in the layers."""
    layers = (f for layer in LAYERS for f in sorted((ROOT / layer).rglob("*.py")))
    return [ROOT / "__init__.py", *layers]


@functools.cache
def parsed(source: str) -> ast.Module:
    """The tree of a source, which is parsed once for all tests: they leave it as it is."""
    return ast.parse(source)


def inner(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements inside of one, or of a module: imports stand nowhere else."""
    for name in ("body", "orelse", "finalbody"):
        yield from (n for n in getattr(node, name, ()) if isinstance(n, ast.stmt))
    for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield from part.body


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """All of a module."""
    for node in inner(tree):
        yield node
        yield from statements(node)


def name(file: Path) -> str:
    """A module by its path: "compiler/ir/graph"; a package is its `__init__`."""
    return file.relative_to(ROOT).with_suffix("").as_posix()


def room(module: str) -> str:
    """Where a module lives."""
    folder, _, own = module.rpartition("/")
    if folder in ALONE and own != "__init__":
        return module
    return folder or PUBLIC_API


def layer(where: str) -> str:
    """The layer that a room or a module is in."""
    first = where.split("/")[0]
    return first if first in LAYERS else PUBLIC_API


def imports(modules: Mapping[str, str]) -> Iterator[Import]:
    """Every import of each other by modules, whose sources are given."""
    for module, source in modules.items():
        package = module.split("/")[:-1]
        for node, inside in _import_statements(parsed(source)):
            for path in _targets(node, package):
                found = _module("/".join(path), modules)
                if found is not None and found != module:
                    yield Import(module, found, node.lineno, inside)


def _import_statements(tree: ast.AST, inside: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    for node in inner(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node, inside
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from _import_statements(other, inside)
        else:
            function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            yield from _import_statements(node, inside or function)


def _targets(node: ast.stmt, package: list[str]) -> Iterator[list[str]]:
    """Paths below the root that a statement may mean: with the name, which may be a module."""
    if isinstance(node, ast.Import):
        names = [alias.name.split(".") for alias in node.names]
        yield from (rest for first, *rest in names if first == "tessel")
        return
    base = node.module.split(".") if node.module else []
    if node.level:
        base = package[: len(package) - (node.level - 1)] + base
    elif base[0] != "tessel":
        return
    else:
        base = base[1:]
    yield from ([*base, alias.name] for alias in node.names)


def _module(path: str, modules: Mapping[str, str]) -> str | None:
    """The module that a path is, or is a name of."""
    folder = path.rpartition("/")[0]
    for candidate in (path, f"{path}/__init__", folder, f"{folder}/__init__".lstrip("/")):
        if candidate in modules:
            return candidate
    return None


def sources() -> dict[str, str]:
    return {name(f): f.read_text() for f in product_files()}


def circles(arrows: Mapping[Hashable, Iterable[Hashable]]) -> list[list]:
    """Sets of nodes that reach each other (Tarjan 1972), the largest first."""
    index: dict = {}
    lowest: dict = {}
    stack: list = []
    found: list[list] = []

    def visit(node) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for other in arrows.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == index[node]:
            at = stack.index(node)
            found.append(stack[at:])
            del stack[at:]

    for node in arrows:
        if node not in index:
            visit(node)
    return sorted((c for c in found if len(c) > 1), key=len, reverse=True)


def between(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Who reads whom, without oneself."""
    arrows: dict[str, set[str]] = defaultdict(set)
    for importer, imported in pairs:
        if importer != imported:
            arrows[importer].add(imported)
    return dict(arrows)


def folders() -> dict[str, int]:
    """How many modules each folder of the package has."""
    count: dict[str, int] = defaultdict(int)
    for file in product_files()[1:]:
        count[file.parent.relative_to(ROOT).as_posix()] += 1
    return dict(count)


def main() -> None:
    found = list(imports(sources()))
    arrows = between(i.rooms for i in found)
    for importer in sorted(arrows):
        print(f"{importer}\n    {', '.join(sorted(arrows[importer]))}")
    files = between((i.importer, i.imported) for i in found)
    sizes = folders()
    fullest = max(sizes, key=sizes.__getitem__)
    print(f"\nrooms {len(sizes)}, arrows {sum(map(len, arrows.values()))}")
    for what, graph in (("rooms", arrows), ("files", files)):
        loops = circles(graph)
        largest = f", the largest {len(loops[0])}" if loops else ""
        print(f"circles of {what}: {len(loops)}{largest}")
        for loop in loops:
            print("    " + ", ".join(sorted(loop)))
    print(f"largest folder: {fullest}, {sizes[fullest]} files")
    print(f"imports inside functions: {sum(i.inside for i in found)}")


if __name__ == "__main__":
    main()
