"""What kernels are called: the ops that they fuse. No code and no key follows from it."""

from dataclasses import replace

import pytest
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.kernel.codegen import kernel_module, schedule_kernel
from tessel.compiler.backends.triton.backend import Unit
from tessel.compiler.backends.triton.emit import emit
from tessel.compiler.backends.triton.schedule import choose
from tessel.compiler.backends.triton.target import parse_target
from tessel.compiler.ir.builder import Builder
from tessel.compiler.lowering.lower import lower


def kernels(f, *types):
    b = Builder()
    b.output("y", f(b, *[b.input(f"x{i}", t) for i, t in enumerate(types)]))
    return [call.kernel for call in lower(b.graph).kernels()]


CONV = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}


@pytest.mark.parametrize(
    ("f", "types", "name"),
    [
        (
            lambda b, x, w, r: b.relu(b.conv(x, w, **CONV) + r),
            ["f32[1,4,10,10]", "f32[8,4,3,3]", "f32[1,8,8,8]"],
            "conv+add+relu",
        ),
        (lambda b, x, w: b.gelu(x @ w), ["f32[80,60]", "f32[60,70]"], "matmul+gelu"),
        (
            lambda b, x, s, t: b.layer_norm(x, s, t, axis=-1, epsilon=1e-5),
            ["f32[8,64]", "f32[64]", "f32[64]"],
            "layer_norm",
        ),
        (lambda b, x: b.exp(x.transpose(1, 0)).cast("f64"), ["f32[8,64]"], "exp"),
        (lambda b, x: x.transpose(1, 0), ["f32[8,64]"], "transpose"),
        (lambda b, x: x.cast("f64"), ["f32[8,64]"], "cast"),
        (lambda b, x: b.tanh(b.tanh(b.exp(x))), ["f32[8,64]"], "exp+tanh"),
        (lambda b, x: b.sqrt(b.abs(b.tanh(b.exp(b.neg(x))))), ["f32[8,64]"], "neg+exp+tanh+abs+…"),
        (
            lambda b, x: b.reduce_sum(b.sqrt(b.abs(b.tanh(b.exp(b.neg(x))))), axes=[1]),
            ["f32[8,64]"],
            "neg+exp+tanh+reduce_sum+…",
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_kernel_is_called_by_the_ops_it_fuses(f, types, name):
    (kernel,) = kernels(f, *types)
    assert kernel.name == name


def test_origins_are_all_kept():
    def f(b, x):
        for name in ("neg", "exp", "tanh", "abs", "sqrt"):
            b.origin = f"/{name}"
            x = b.emit(name, x)
        return x

    (kernel,) = kernels(f, "f32[8,64]")
    assert kernel.origins == ("/neg", "/exp", "/tanh", "/abs", "/sqrt")


def renamed():
    (kernel,) = kernels(lambda b, x: b.exp(x), "f32[8,64]")
    other = replace(kernel, name="something+else")
    other.sources = kernel.sources
    return kernel, other


def test_machine_code_and_its_key_do_not_depend_on_the_name():
    target = NAMED["x86-64-v3"]
    a, b = (schedule_kernel(k, target, frozenset(), False) for k in renamed())
    assert a.name == b.name
    assert str(kernel_module(a, target)) == str(kernel_module(b, target))


def test_the_key_of_a_gpu_kernel_does_not_depend_on_the_name():
    target = parse_target("cuda:sm_90")
    sources = [emit(k, choose(k, target, "ieee")) for k in renamed()]
    assert [s.name for s in sources] == ["exp_kernel", "something_else_kernel"]
    assert sources[0].unnamed() == sources[1].unnamed()
    one, two = (Unit(s, (True, True)).key.rpartition("-") for s in sources)
    assert one[2] == two[2] and one[0] != two[0]
