"""The text of Triton kernels: one of each shape word for word, and what all texts have in common.

Needs no triton. `python -m tests.unit.triton.test_triton_source` in the repository's root rewrites
the golden files in tests/golden/triton from what is generated now.
"""

import ast
import re
from pathlib import Path

import pytest
from tessel.compiler.backends.triton.backend import compile_program
from tessel.compiler.backends.triton.emit import emit
from tessel.compiler.backends.triton.library import FUNCTIONS, with_helpers
from tessel.compiler.backends.triton.primitives import COMBINE, TABLE
from tessel.compiler.backends.triton.schedule import choose
from tessel.compiler.backends.triton.target import parse_target
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import TensorType
from tessel.compiler.kernels.kernel import Kernel, Store
from tessel.compiler.lowering.lower import lower

from ...support.triton_kernels import GRAPHS, program_of

GOLDEN = Path(__file__).parents[2] / "golden" / "triton"
SM90 = parse_target("cuda:sm_90")
SHAPES = {
    "softmax": "row",
    "softmax_in_blocks": "row",
    "gelu": "map",
    "arg_max": "reduce",
    "sum_rows": "reduce",
    "max_pool_wide": "map",
    "matmul_f16": "contract",
    "conv": "contract",
    "matmul_uint8": "contract",
    "matmul_blocks": "contract",
    "matmul_blocks_int8": "contract",
    "scatter": "serial",
}


def text_of(name: str) -> str:
    return compile_program(program_of(name), SM90).source()


@pytest.mark.parametrize("name", SHAPES)
def test_texts_are_as_they_were(name):
    assert text_of(name) == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize(("name", "kind"), SHAPES.items())
def test_shapes(name, kind):
    assert kind in [choose(c.kernel, SM90).kind for c in program_of(name).kernels()]


@pytest.mark.parametrize("name", GRAPHS)
def test_equal_programs_give_equal_text(name):
    first, second = text_of(name), text_of(name)
    assert first == second
    ast.parse(first)


def test_equal_kernels_are_one():
    b = Builder()
    x, y = b.input("x", "f32[4,8]"), b.input("y", "f32[4,8]")
    b.output("u", b.tanh(x))
    b.output("v", b.tanh(y))
    module = compile_program(lower(b.graph), SM90)
    assert len(module.units) == 1
    assert [launch.key for launch in module.launches()] == list(module.units) * 2


def test_a_place_that_is_not_aligned_makes_another_unit():
    def scanned(width):
        inner = Builder(name="body")
        state, x = inner.input("s", f"f32[{width}]"), inner.input("x", f"f32[{width}]")
        inner.output("s1", state + x)
        b = Builder()
        operands = b.input("state", f"f32[{width}]"), b.input("xs", f"f32[9,{width}]")
        b.output("last", b.emit("scan", *operands, body=inner.graph, states=1, scans=1))
        return compile_program(lower(b.graph), SM90)

    assert all(all(unit.aligned) for unit in scanned(4).units.values())
    assert not all(all(unit.aligned) for unit in scanned(3).units.values())


def test_known_machine_code_is_taken_over():
    module = compile_program(program_of("gelu"), SM90)
    [key] = module.units
    again = compile_program(program_of("gelu"), SM90, binaries={key: "code", "other": "code"})
    assert again.binaries == {key: "code"}


def test_offsets_beyond_31_bits_are_computed_in_64():
    size = 3 << 30
    x, y = (s.Buffer(n, TensorType("i8", (size,))) for n in "xy")
    axis = s.Axis("i", size)
    i = s.axis(axis)
    kernel = Kernel("copy", (axis,), (Store(y, (i,), x[i]),))
    text = emit(kernel, choose(kernel, SM90)).text
    assert "program.to(tl.int64) * 1024" in text


def test_index_arithmetic_is_in_32_bits_where_it_fits():
    text = text_of("transpose")
    assert "int64" not in text


def test_only_the_functions_that_are_called_come_along():
    functions = re.findall(r"def (_\w+)", with_helpers(["_sinh"]))
    assert functions == ["_tanh", "_expm1", "_sinh"]
    assert with_helpers([]) == ""


def test_every_function_that_a_template_calls_is_there():
    rows = [t for row in TABLE.values() for t in row.values()] + [t for _, t in COMBINE.values()]
    called = {name for t in rows for name in re.findall(r"\b_[a-z0-9_]+\b", t)}
    assert called <= set(FUNCTIONS)


def update() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in SHAPES:
        (GOLDEN / f"{name}.txt").write_text(text_of(name))


if __name__ == "__main__":
    update()
