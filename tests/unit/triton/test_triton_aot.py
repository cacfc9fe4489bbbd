"""Triton kernels compiled to machine code, without a GPU."""

import numpy as np
import pytest
from tessel.compiler.backends.triton import jit
from tessel.compiler.backends.triton.backend import compile_program
from tessel.compiler.backends.triton.emit import Source, emit
from tessel.compiler.backends.triton.jit import Binary, build, compile_source
from tessel.compiler.backends.triton.schedule import choose
from tessel.compiler.backends.triton.target import parse_target
from tessel.compiler.errors import UnsupportedError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.lowering.lower import lower

from ...support.triton_kernels import GRAPHS, program_of

pytest.importorskip("triton", reason="needs triton (pip install 'tessel[gpu]', Linux only)")

# One kernel of each shape; the rest is the same constructs again.
SHAPES = ["softmax_in_blocks", "gelu", "arg_max", "max_pool_wide", "scatter", "matmul_uint8"]
SM90, GFX942 = parse_target("cuda:sm_90"), parse_target("hip:gfx942")


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Triton's own cache: every test compiles."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))


def large_matmul(dtype):
    b = Builder()
    x, w, c = (b.input(n, f"{dtype}[{d}]") for n, d in zip("xwc", ("2048,256", "256,2048", "2048")))
    b.output("y", b.relu(b.matmul(x, w) + c))
    [call] = lower(b.graph).kernels()
    return call.kernel


def compiled(kernel, target, **options):
    source = emit(kernel, choose(kernel, target, **options))
    return build(source, target, (True,) * len(source.pointers))


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_compiles_for_hopper(name):
    for call in program_of(name).kernels():
        binary, asm = compiled(call.kernel, SM90)
        assert binary.code[1:4] == b"ELF"
        assert binary.name in asm["ptx"]
        assert binary.shared <= SM90.shared
        assert binary.scratch == 0


@pytest.mark.parametrize(
    ("target", "instruction"),
    [("cuda:sm_80", "mma.sync"), ("cuda:sm_90", "wgmma"), ("cuda:sm_100", "tcgen05.mma")],
)
def test_half_products_use_tensor_cores(target, instruction):
    target = parse_target(target)
    binary, asm = compiled(large_matmul("f16"), target)
    assert instruction in asm["ptx"]
    assert 0 < binary.shared <= target.shared


def test_half_products_use_matrix_cores_of_amd():
    binary, asm = compiled(large_matmul("f16"), GFX942)
    assert "v_mfma" in asm["amdgcn"]
    assert binary.shared <= GFX942.shared
    assert binary.warp == 64


def test_float_products_are_exact_unless_asked():
    _, exact = compiled(large_matmul("f32"), SM90)
    assert "mma" not in exact["ptx"] and "fma.rn.f32" in exact["ptx"]
    _, fast = compiled(large_matmul("f32"), SM90, precision="tf32")
    assert "tf32" in fast["ptx"]


def test_machine_code_is_cached_under_what_decides_it(tmp_path, monkeypatch):
    [call] = program_of("gelu").kernels()
    source = emit(call.kernel, choose(call.kernel, SM90))
    first = compile_source(source, SM90, (True, True), tmp_path)
    [file] = tmp_path.glob("*.bin")
    assert Binary.unpack(file.read_bytes()) == first

    def refuse(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(jit, "build", refuse)
    assert compile_source(source, SM90, (True, True), tmp_path) == first
    for other in [(SM90, (True, False)), (parse_target("cuda:sm_80"), (True, True))]:
        with pytest.raises(AssertionError, match="compiled again"):
            compile_source(source, *other, tmp_path)


def test_a_module_compiles_each_kernel_once_and_in_threads(tmp_path):
    module = compile_program(program_of("scatter"), SM90)
    module.compile(threads=2, cache=tmp_path)
    assert set(module.binaries) == set(module.units)
    assert len(list(tmp_path.glob("*.bin"))) == len(module.units)


def test_what_triton_refuses_names_the_kernel():
    text = "import triton\nimport triton.language as tl\n\n\n@triton.jit\ndef bad_kernel(b0):\n"
    source = Source(text + "    tl.store(b0, tl.arange(0, 3))\n", "bad_kernel", ("*fp32",), 1, 4, 2)
    with pytest.raises(UnsupportedError, match="cannot compile kernel bad_kernel for cuda:sm_90"):
        build(source, SM90, (True,))


@pytest.mark.slow
@pytest.mark.sweep(4, suite=41)
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("target", ["cuda:sm_80", "cuda:sm_90", "cuda:sm_100", "hip:gfx942"])
def test_everything_compiles_everywhere(name, target):
    target = parse_target(target)
    for call in program_of(name).kernels():
        binary, _ = compiled(call.kernel, target)
        assert binary.shared <= target.shared


def test_float8_of_amd_is_refused_on_nvidia():
    b = Builder()
    b.output("y", b.input("x", "f8e4m3fnuz[64]").cast(np.float32))
    [call] = lower(b.graph).kernels()
    with pytest.raises(UnsupportedError, match="cast_kernel for cuda:sm_90"):
        compiled(call.kernel, SM90)


def test_strings_are_refused():
    b = Builder()
    b.output("y", b.string_concat(b.input("x", "str[2]"), b.input("z", "str[2]")))
    with pytest.raises(UnsupportedError, match=r"(?s)no strings: string_concat.*target='cpu'"):
        compile_program(lower(b.graph), "cuda:sm_90")


def test_a_parser_that_stumbles_over_threads_is_asked_again():
    answers = iter([SystemError("AST constructor recursion depth mismatch"), "compiled"])

    def once():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert jit._patiently(once) == "compiled"

    def never():
        raise SystemError("something else")

    with pytest.raises(SystemError, match="something else"):
        jit._patiently(never)
