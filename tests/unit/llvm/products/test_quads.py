"""Products of bytes that are read where they lie, four steps of k at a time."""

import json
from dataclasses import replace

import llvmlite.binding as llvm
import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import NAMED, machine
from tessel.compiler.backends.llvm.kernel.codegen import kernel_module, schedule_kernel
from tessel.compiler.backends.llvm.schedules.contraction.quads import ENDS
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.types import U8, TensorType
from tessel.compiler.kernels.restore import read, restored, written
from tessel.compiler.kernels.simplify import merge_axes, split_axes
from tessel.compiler.lowering.lower import lower
from tessel.compiler.ops.contraction.conv import conv_integer_ref
from tessel.compiler.ops.contraction.matrix import matmul_integer_ref

RNG = np.random.default_rng(0)
V3 = NAMED["x86-64-v3"]
VNNI = replace(NAMED["x86-64-v4"], features="-prefer-256-bit,+avx512vnni")
CONV = {"strides": (), "pads": (), "dilations": (), "group": 1, "channels_last": True}


def product_of(x, w, zero=None, constant=False):
    b = Builder()
    of = b.constant if constant else lambda value: b.input("zero", b.constant(value).type)
    y = b.matmul_integer(
        b.input("x", b.constant(x).type), b.constant(w), None if zero is None else of(zero)
    )
    b.output("y", y)
    return b.graph


def code_of(graph, target=V3):
    """The scheduled kernel, and its constants."""
    (call,) = [c for c in lower(graph).kernels() if "integer" in c.kernel.name]
    kernel = merge_axes(split_axes(call.kernel))
    weights = [b for b in kernel.params if b.dtype.name == "i8" and b.type.shape[0] > 100]
    return schedule_kernel(kernel, target, frozenset(weights), in_place=False), weights


def weights_of(kind, depth, columns):
    """Small ones whose pairs fit in any order, normal ones, the largest that there are."""
    match kind:
        case "small":
            return RNG.integers(-64, 65, (depth, columns)).astype(np.int8)
        case "normal":
            return np.clip(RNG.normal(0, 36, (depth, columns)), -128, 127).astype(np.int8)
        case "largest":
            return RNG.choice(np.array([-128, 127], np.int8), (depth, columns))


def data(*shape, dtype=np.uint8):
    limits = np.iinfo(dtype)
    return RNG.choice(np.arange(limits.min, limits.max + 1), shape).astype(dtype)


@pytest.mark.parametrize("kind", ["small", "normal", "largest"])
@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 192, 17), (7, 197, 40), (6, 260, 8)])
def test_every_bit_is_right(kind, rows, depth, columns):
    """Also where all products are as large as they can be: none may saturate."""
    w = weights_of(kind, depth, columns)
    x = np.where(RNG.random((rows, depth)) < 0.5, np.uint8(255), data(rows, depth))
    got = tessel.compile(product_of(x, w)).run({"x": x})["y"]
    np.testing.assert_array_equal(got, matmul_integer_ref(x, w))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("constant", [False, True])
def test_zero_points_begin_the_sums(dtype, constant):
    x, w, zero = data(5, 200, dtype=dtype), weights_of("normal", 200, 24), dtype(77)
    exe = tessel.compile(product_of(x, w, zero, constant))
    got = exe.run({"x": x} if constant else {"x": x, "zero": zero})["y"]
    np.testing.assert_array_equal(got, matmul_integer_ref(x, w, zero))


@pytest.mark.parametrize(
    "more", [{"strides": (2, 2)}, {"dilations": (2, 1)}, {"dilations": (1, 2)}]
)
def test_taps_of_a_convolution_are_runs_of_bytes(more):
    x, w = data(2, 9, 8, 26), RNG.integers(-90, 91, (3, 3, 26, 20)).astype(np.int8)
    b = Builder()
    zero = b.constant(np.uint8(3))
    y = b.conv_integer(b.input("x", b.constant(x).type), b.constant(w), zero, **CONV | more)
    b.output("y", y)
    expected = conv_integer_ref(x, w, np.uint8(3), **CONV | more)
    np.testing.assert_array_equal(tessel.compile(b.graph).run({"x": x})["y"], expected)


def test_any_number_of_rows():
    w = weights_of("normal", 224, 33)
    b = Builder()
    x = b.input("x", TensorType(U8, (Sym.named("n"), 224)))
    b.output("y", b.matmul_integer(x, b.constant(w)))
    exe = tessel.compile(b.graph)
    for rows in (1, 4, 5, 13):
        x = data(rows, 224)
        np.testing.assert_array_equal(exe.run({"x": x})["y"], matmul_integer_ref(x, w))


@pytest.mark.parametrize(
    ("target", "there", "absent"),
    [(V3, "vpmaddubsw", "vpdpbusd"), (VNNI, "vpdpbusd", "vpmaddwd")],
)
def test_instructions(target, there, absent):
    graph = product_of(data(12, 256), weights_of("normal", 256, 64))
    code, _ = code_of(graph, target)
    assert code.schedule.quads is not None and code.schedule.a == "direct"
    text = machine(target).emit_assembly(llvm.parse_assembly(str(kernel_module(code, target))))
    assert there in text and absent not in text


@pytest.mark.parametrize("depth", [8, 29, 64])
def test_quads_of_targets_with_dot_products_hold_all_weights(depth):
    """What `vpdpbusd` sums, computed from the packed table: offsets, quads, sums of columns."""
    x, w = data(3, depth), weights_of("largest", depth, 40)
    code, weights = code_of(product_of(x, w), VNNI)
    plan = code.schedule
    assert plan.quads.way == "dots"
    packed = code.pack({weights[0]: w.reshape(-1)})[0]
    steps, begin = plan.quads.steps, ENDS + plan.width
    for panel, first in zip(packed, plan.first_columns()):
        quads = panel[plan.quad_table :][: steps * plan.width].view(np.int8)
        quads = quads.reshape(steps, plan.width, 4).astype(np.int64)
        places = panel[begin : begin + steps][:, None] + np.arange(4)
        found = np.einsum("rsb,scb->rc", x[:, places].astype(np.int64), quads)
        expected = x.astype(np.int64) @ w.astype(np.int64)
        count = min(plan.width, 40 - first)
        np.testing.assert_array_equal(found[:, :count], expected[:, first : first + count])
        np.testing.assert_array_equal(panel[ENDS:begin][:count], w.sum(0)[first : first + count])


@pytest.mark.parametrize("target", [V3, VNNI])
@pytest.mark.parametrize(("kind", "depth"), [("normal", 192), ("normal", 205), ("largest", 197)])
def test_weights_are_found_again_in_quads(target, kind, depth):
    w = weights_of(kind, depth, 40)
    code, weights = code_of(product_of(data(3, depth), w), target)
    assert code.schedule.quads is not None
    ((buffer, recipe),) = code.schedule.restores()
    assert buffer is weights[0]
    packed = code.pack({buffer: w.reshape(-1)})
    found = restored([(packed, read(json.loads(json.dumps(written(recipe)))))], w.dtype, w.shape)
    np.testing.assert_array_equal(found, w)


@pytest.mark.parametrize(("kind", "taken"), [("small", True), ("normal", True), ("largest", False)])
def test_weights_few_of_which_fit_stay_pairs(kind, taken):
    w = weights_of(kind, 512, 48)
    graph = product_of(data(16, 512), w)
    (call,) = [c for c in lower(graph).kernels() if "integer" in c.kernel.name]
    kernel = merge_axes(split_axes(call.kernel))
    (weights,) = [b for b in kernel.params if b.type.size == w.size]
    found = schedule_kernel(kernel, V3, frozenset([weights]), False, contents={weights: w})
    assert (found.schedule.quads is not None) == taken
    assert found.schedule.pairs != taken
