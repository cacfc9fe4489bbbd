"""What outlives a call: module-level objects that change, caches, and context variables, by name.

A table that is written once, while its module is imported, is a constant. Whatever functions write
to is state, and stands here with the reason why it may.
"""

import ast
from collections.abc import Iterator

import pytest

from .import_graph import parsed
from .test_house import product_files, relative

PROCESS = "this process and what is installed, which stay as they are"
ALLOWED = {
    "compiler/backends/llvm/kernel/codegen.py: generator_version": PROCESS,
    "compiler/backends/llvm/base/target.py: initialize": "LLVM is initialized once",
    "compiler/backends/llvm/base/target.py: host": PROCESS,
    "compiler/backends/llvm/base/target.py: machine": "LLVM's own objects, of 16 targets at most",
    "compiler/backends/llvm/base/target.py: pass_builder": "LLVM's own objects, of 8 at most",
    "compiler/backends/llvm/schedules/contraction/quad_pack.py: _matchings": "105 ways, a constant",
    "compiler/backends/llvm/base/types.py: _vector": "types by scalar type and lanes: some dozens",
    "compiler/backends/triton/jit.py: load_function": "functions of source texts, 64 at most",
    "compiler/system/concurrency.py: _owners": "which locks a forked child renews; weak",
    "compiler/system/concurrency.py: _before_fork": "what a thread holds while it forks",
    "compiler/errors.py: _libraries": PROCESS,
    "compiler/expr/core.py: _interned": "equal expressions are one object; weak",
    "compiler/expr/core.py: _serial": "a number for each expression, which orders them",
    "compiler/system/nesting.py: _pieces": "two compiled patterns",
    "compiler/ir/op.py: OPS": "the table of ops, which users add to",
    "compiler/ops/text/strings.py: expression": "compiled patterns, 256 at most",
    "compiler/ops/internal/winograd.py: matrices": "small constants, a set for each size of tile",
    "compiler/ops/internal/winograd.py: whole_matrices": "the same of integers",
    "compiler/ir/bounds.py: _context": "of one reading or compilation: `within_context` ends it",
    "compiler/ir/types.py: _others": "the dtypes that there are",
    "frontends/native/tree.py: CLASSES": "classes that users made trees of",
    "frontends/onnx/file/schema.py: _schema": "one for each operator that ONNX has",
    "frontends/onnx/write/types.py: schema_types": "one for each operator that is written",
    "frontends/user/onnx_entry.py: _OWN": "users' ops, until they are removed",
    "frontends/user/registration.py: _USERS": "users' ops, until they are removed",
    "frontends/user/registration.py: OPS": "users' ops, until they are removed",
    "runtime/native/pool.py: _pool": "the threads of the process",
    "tools/pages/onnx_ops.py: _named_in_source": "the entries of the table of ONNX's operators",
}

MUTATORS = {
    "add",
    "append",
    "appendleft",
    "clear",
    "discard",
    "extend",
    "insert",
    "move_to_end",
    "pop",
    "popitem",
    "popleft",
    "remove",
    "setdefault",
    "sort",
    "update",
}
CACHES = ("cache", "lru_cache")
MUTABLE = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)
SHARED = ("ContextVar", "local", "WeakKeyDictionary", "WeakValueDictionary", "WeakSet")


def state_of(source: str) -> Iterator[str]:
    """The names of what a module's functions change, remember, or look up in their context."""
    body = parsed(source).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    own = {*_assigned(body), *_imported(body)}
    for node in [*body, *(n for c in classes for n in c.body)]:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _changed(node, own)
                if any(_called(d) in CACHES for d in node.decorator_list):
                    yield node.name
            case ast.Assign(value=ast.Call() as call) | ast.AnnAssign(value=ast.Call() as call):
                if _called(call) in (*SHARED, *CACHES):
                    yield from _assigned([node])
    for c in classes:
        for node in c.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, MUTABLE):
                yield from (f"{c.name}.{name}" for name in _assigned([node]))


def _assigned(body: list) -> Iterator[str]:
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (n.id for t in targets if t for n in ast.walk(t) if isinstance(n, ast.Name))


def _imported(body: list) -> Iterator[str]:
    """Names of other modules of the package that are not modules or functions."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.level:
            yield from (a.name for a in node.names if a.name.strip("_").isupper())


def _called(node: ast.expr) -> str:
    """The last name of a decorator or a call: lru_cache of @functools.lru_cache(8)."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _changed(function, own: set[str]) -> Iterator[str]:
    """Names of the module that a function assigns to, or to whose elements it does."""
    nodes = list(ast.walk(function))
    declared = {n for node in nodes if isinstance(node, ast.Global) for n in node.names}
    local = {a.arg for a in nodes if isinstance(a, ast.arg)}
    local |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    shared = own - (local - declared)
    yield from declared
    for node in nodes:
        match node:
            case ast.Subscript(value=ast.Name(name), ctx=ast.Store() | ast.Del()):
                found = name
            case ast.Attribute(value=ast.Name(name), ctx=ast.Store() | ast.Del()):
                found = name
            case ast.Call(func=ast.Attribute(value=ast.Name(name), attr=attr)):
                found = name if attr in MUTATORS else None
            case _:
                found = None
        if found in shared:
            yield found


def test_what_outlives_a_call_is_known():
    found = {f"{relative(f)}: {n}" for f in product_files() for n in state_of(f.read_text())}
    assert found - ALLOWED.keys() == set(), "state that no reason is given for"
    assert ALLOWED.keys() - found == set(), "no such state any more"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("kept = {}\ndef f(x):\n    kept[x] = 1", "kept"),
        ("kept: list = []\nclass A:\n    def f(self, x):\n        kept.append(x)", "kept"),
        ("n = 0\ndef f():\n    global n\n    n += 1", "n"),
        ("@functools.lru_cache(9)\ndef f(x):\n    return x", "f"),
        ("here: ContextVar = ContextVar('here')", "here"),
        ("from .table import TABLE\ndef f(x):\n    TABLE.pop(x)", "TABLE"),
        ("class A:\n    kept = []", "A.kept"),
    ],
)
def test_state_is_found(source, name):
    assert list(state_of(source)) == [name]


@pytest.mark.parametrize(
    "source",
    [
        "TABLE = {}\nTABLE[1] = 2\ndef f(x):\n    return TABLE[x]",
        "kept = {}\ndef f(kept, x):\n    kept[x] = 1",
        "found = 3\ndef f(x):\n    found = []\n    found.append(x)\n    return found",
    ],
)
def test_constants_are_no_state(source):
    assert not list(state_of(source))
