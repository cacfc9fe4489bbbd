"""Products with dequantized weights of few bits become products with packed weights."""

import numpy as np
import pytest
import tessel
from onnx import TensorProto, helper
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import DTYPES
from tessel.compiler.passes.base import run_pipeline
from tessel.compiler.pipelines import default_pipeline

RNG = np.random.default_rng(0)
K, N, BLOCK = 96, 48, 32
X = RNG.normal(size=(3, K)).astype(np.float32)


def ops(graph):
    graph = run_pipeline(graph, default_pipeline(2))
    return [n.op.name for n in graph.nodes if n.op.name != "constant"]


def numbers(dtype, shape=(K, N)):
    kind = DTYPES[dtype]
    if kind.is_float:
        return RNG.normal(size=shape).astype(kind.numpy)
    low = -(1 << kind.bits - 1) if kind.kind == "i" else 0
    return RNG.integers(low, low + (1 << kind.bits), shape).astype(kind.numpy)


def product(w, scale, zero=None, axis=0, turned=False):
    b = Builder()
    x = b.input("x", f"f32[3,{K}]")
    zero = None if zero is None else b.constant(zero)
    weights = b.dequantize_linear(b.constant(w), b.constant(scale), zero, axis=axis)
    b.output("y", x @ (weights.transpose(1, 0) if turned else weights))
    return b.graph


def scales(*shape):
    return RNG.uniform(0.01, 0.02, shape).astype(np.float32)


def check(graph, expected):
    assert ops(graph) == ["matmul_blocks"]
    np.testing.assert_allclose(tessel.compile(graph)(X), X @ expected, rtol=1e-4, atol=1e-4)


def repeated(a):
    return np.repeat(a, BLOCK, axis=0)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("dtype", ["i4", "u4", "i2", "u2", "i8", "u8"])
def test_integers_by_blocks(dtype, zeros):
    w, scale = numbers(dtype), repeated(scales(K // BLOCK, N))
    zero = repeated(numbers(dtype, (K // BLOCK, N))) if zeros else None
    shifted = w.astype(np.float32) - (0 if zero is None else zero.astype(np.float32))
    check(product(w, scale, zero), shifted * scale)


@pytest.mark.parametrize("dtype", ["f8e4m3fn", "f8e5m2", "f4e2m1"])
def test_narrow_floats_by_blocks(dtype):
    w, scale = numbers(dtype), repeated(scales(K // BLOCK, N))
    check(product(w, scale), w.astype(np.float32) * scale)


def test_a_scale_per_column():
    w, scale = numbers("i8"), scales(N)
    check(product(w, scale, axis=1), w.astype(np.float32) * scale)


def test_transposed_weights():
    w, scale = numbers("i4", (N, K)), np.repeat(scales(N, K // BLOCK), BLOCK, axis=1)
    check(product(w, scale, turned=True), (w.astype(np.float32) * scale).T)


def test_what_is_no_product_of_blocks_stays():
    w = numbers("i8")
    assert ops(product(w, scales(K, N))) == ["dequantize_linear", "matmul"]
    assert ops(product(w, scales(K), axis=0)) == ["dequantize_linear", "matmul"]


@pytest.mark.parametrize("zeros", [False, True])
def test_a_file_of_opset_21(zeros):
    q, s = RNG.integers(0, 16, (K, N)), scales(K // BLOCK, N)
    z = RNG.integers(0, 16, (K // BLOCK, N))
    pairs = lambda a: (a.reshape(-1)[::2] | a.reshape(-1)[1::2] << 4).astype(np.uint8).tobytes()
    packed = [helper.make_tensor("w", TensorProto.UINT4, (K, N), pairs(q), raw=True)]
    packed.append(helper.make_tensor("s", TensorProto.FLOAT, s.shape, s.tobytes(), raw=True))
    if zeros:
        packed.append(helper.make_tensor("z", TensorProto.UINT4, z.shape, pairs(z), raw=True))
    given = ["w", "s", "z"] if zeros else ["w", "s"]
    nodes = [
        helper.make_node("DequantizeLinear", given, ["f"], axis=0, block_size=BLOCK),
        helper.make_node("MatMul", ["x", "f"], ["y"]),
    ]
    value = lambda name, n: helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, n])
    graph = helper.make_graph(nodes, "g", [value("x", K)], [value("y", N)], packed)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    exe = tessel.compile(model)
    assert [n.op.name for n in exe.graph.nodes if n.op.name != "constant"] == ["matmul_blocks"]
    weights = (q - (repeated(z) if zeros else 0)) * repeated(s)
    np.testing.assert_allclose(exe(X), X @ weights.astype(np.float32), rtol=1e-4, atol=1e-4)
