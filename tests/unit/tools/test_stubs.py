"""The stubs of what is made from op records are what the records say now."""

import ast

import pytest
from tessel import native
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.op import OPS, Attr
from tessel.tools.pages import stubs


@pytest.fixture(scope="module")
def functions() -> dict[str, ast.FunctionDef]:
    """What functional.pyi declares, by name."""
    tree = ast.parse(stubs.functional_stub())
    return {f.name: f for f in tree.body if isinstance(f, ast.FunctionDef)}


@pytest.fixture(scope="module")
def methods() -> dict[str, ast.FunctionDef]:
    """What op_methods.pyi declares, by name."""
    (cls,) = (c for c in ast.parse(stubs.methods_stub()).body if isinstance(c, ast.ClassDef))
    return {f.name: f for f in cls.body if isinstance(f, ast.FunctionDef)}


@pytest.mark.parametrize("name", stubs.STUBS)
def test_a_stub_is_of_these_records(root, name):
    if (root / name).read_text() != stubs.STUBS[name]():
        pytest.fail(f"{name} is out of date; to rewrite it: make docs")


def test_every_function_is_declared(functions):
    hidden = {op.name for op in OPS.values()} - {op.name for op in stubs._public_ops()}
    assert set(functions) - {"__getattr__"} == set(native.functional.__all__) - hidden


def test_every_method_is_an_op(methods):
    assert set(methods) <= set(OPS)
    assert set(methods).isdisjoint(vars(Builder))


@pytest.mark.parametrize("name", ["strassen_product", "winograd_input", "order_keys", "within"])
def test_what_the_compiler_makes_is_hidden(functions, methods, name):
    assert name in OPS
    assert name not in functions and name not in methods


def test_the_parts_are_ops():
    assert set(OPS) >= stubs.PARTS


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("relu", "def relu(x: Operand, /) -> Array:"),
        ("concat", "def concat(*xs: Operand | Sequence[Operand] | None, axis: int) -> Array:"),
        ("logical_not", "def logical_not(x: Operand, /) -> Array:"),
        ("stack", "def stack(xs: Sequence[Array], *, axis: int=0) -> Array:"),
        ("split", "-> Any:"),
        ("top_k", "-> tuple[Array, Array]:"),
        ("iota", "-> np.ndarray:"),
        ("cast", "dtype: DTypeLike"),
        ("sum", "axis: int | Sequence[int] | None=None, keepdims: bool=False"),
    ],
)
def test_how_a_function_is_declared(functions, name, line):
    assert line in ast.unparse(functions[name])


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("relu", "def relu(self, x: Operand, /) -> Tensor:"),
        ("where", "def where(self, condition: Operand, x: Operand, y: Operand, /) -> Tensor:"),
        ("lstm", "-> tuple[Tensor, Tensor, Tensor]:"),
        ("clip", "low: Operand | None=None"),
    ],
)
def test_how_a_method_is_declared(methods, name, line):
    assert line in ast.unparse(methods[name])


@pytest.mark.parametrize(
    ("attr", "declared"),
    [
        (Attr("int"), "int"),
        (Attr("ints", ()), "Sequence[int] = ()"),
        (Attr("float", None), "float | None = None"),
        (Attr("float", float("inf")), "float = ..."),  # no literal says it
        (Attr("any", None), "Any = None"),
    ],
)
def test_how_an_attribute_is_declared(attr, declared):
    assert stubs._attribute(attr) == declared


def test_docstrings_begin_as_the_record_s(functions):
    assert ast.get_docstring(functions["concat"]) == OPS["concat"].doc.partition("\n\n")[0]
    assert all(ast.get_docstring(f) for n, f in functions.items() if n != "__getattr__")
