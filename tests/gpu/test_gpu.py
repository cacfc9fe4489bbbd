"""What only a GPU can tell: real launches, graphs, approximate math, tensor cores, races.

Run by `make gpu`, or `pytest -m gpu`. Results are compared with the numpy interpreter of the same
loops. Speed is measured by `tessel bench MODEL --backends tessel-cuda,tessel,onnxruntime`.
"""

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.numpy import NUMPY, NumpyModule, run_kernel
from tessel.compiler.backends.triton import primitives
from tessel.compiler.backends.triton.backend import compile_program
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.op import OPS
from tessel.compiler.ir.types import TensorType, dtype_of, tensor_type_of
from tessel.compiler.kernels.kernel import Call, Kernel, Program, Ref, Slot, Store
from tessel.compiler.lowering.lower import lower
from tessel.runtime.gpu.device import CudaDevice, CudaModel

from ..support.triton_kernels import GRAPHS, assert_close, feeds_of, program_of

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def device():
    return CudaDevice()


def run_on(device, program, inputs, **options):
    module = compile_program(program, device.target, **options)
    with CudaModel(module, device=device) as model:
        return model.run(inputs)


@pytest.mark.parametrize("name", GRAPHS)
def test_kernels_compute_what_numpy_does(name, device):
    program, inputs = program_of(name), feeds_of(name)
    received = run_on(device, program, inputs)
    for got, want in zip(received, NumpyModule(program)(inputs), strict=True):
        assert_close(got, want)


# -- ops ---------------------------------------------------------------------------------------


def _on_device(x) -> bool:
    return x is None or (isinstance(x, np.ndarray) and x.dtype != object)


def _graph(op, sample):
    b = Builder(name=op.name)
    given = [
        None if x is None else b.input(f"x{i}", tensor_type_of(x))
        for i, x in enumerate(sample.inputs)
    ]
    results = b.emit(op.name, *given, **sample.attrs)
    for i, y in enumerate(results if isinstance(results, tuple) else (results,)):
        b.output(f"y{i}", y)
    return b.graph


@pytest.mark.parametrize("op", list(OPS.values()), ids=lambda op: op.name)
def test_ops(op, device):
    """Four samples: kernels of one op differ little, and each costs a compilation."""
    samples = [x for x in op.samples() if all(_on_device(a) for a in x.inputs)]
    for sample in samples[:4]:
        graph = _graph(op, sample)
        if all(isinstance(v.type, TensorType) and v.type.dtype.kind != "s" for v in graph.values()):
            _check_sample(lower(graph), [x for x in sample.inputs if x is not None], device)


def _check_sample(program, inputs, device) -> None:
    received = run_on(device, program, inputs)
    for got, want in zip(received, NumpyModule(program)(inputs), strict=True):
        if got.dtype.kind in "iub":
            np.testing.assert_array_equal(got, want)
            continue
        tolerance = {64: 1e-9, 32: 1e-4, 16: 2e-2, 8: 0.2}[dtype_of(got).bits]
        as_f64 = [x.astype(np.float64) for x in (got, want)]
        np.testing.assert_allclose(*as_f64, rtol=tolerance, atol=tolerance)


# -- primitives --------------------------------------------------------------------------------

ONE = [op for op, (count, _) in s.PRIMITIVES.items() if count == 1 and op in primitives.TABLE]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", [op for op in ONE if {"f", "*"} & set(primitives.TABLE[op])])
def test_functions_of_floats(op, dtype, device):
    special = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, np.inf, -np.inf, np.nan]
    values = np.concatenate([special, np.linspace(-20, 20, 4001), np.geomspace(1e-6, 30, 1000)])
    values = values.astype(dtype)
    x = s.Buffer("x", TensorType(dtype_of(values), values.shape))
    axis = s.Axis("i", len(values))
    i = s.axis(axis)
    value = s.apply(op, x[i])
    y = s.Buffer("y", TensorType(value.dtype, values.shape))
    kernel = Kernel(op, (axis,), (Store(y, (i,), value),))
    kernel.sources = kernel.params
    refs = (Ref(Slot("input", 0)), Ref(Slot("output", 0)))
    program = Program([Call(kernel, refs)], [x.type], [y.type], [], 0)
    [got] = run_on(device, program, [values])
    want = np.zeros_like(got)
    with np.errstate(all="ignore"):
        run_kernel(kernel, [values, want])
    assert op in NUMPY
    # f32: exp, sin and cos are the hardware's fast ones, whose errors grow with the argument.
    rtol, atol = (2e-5, 5e-6) if dtype == np.float32 else (1e-12, 1e-15)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


# -- contractions ------------------------------------------------------------------------------


def _matmul(size, dtype):
    b = Builder()
    x, w = (b.input(name, f"{dtype}[{size},{size}]") for name in "xw")
    b.output("y", b.matmul(x, w))
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((size, size)).astype(dtype_of(dtype).numpy) for _ in "xw"]
    want = inputs[0].astype(np.float64) @ inputs[1].astype(np.float64)
    return lower(b.graph), inputs, want


@pytest.mark.parametrize(
    ("dtype", "precision", "error"),
    [
        ("f32", "ieee", 2e-6),
        ("f32", "tf32x3", 2e-5),
        ("f32", "tf32", 2e-3),
        ("f16", "ieee", 2e-3),
        ("bf16", "ieee", 1e-2),
    ],
)
@pytest.mark.parametrize("size", [1024, 777])
def test_large_products(size, dtype, precision, error, device):
    program, inputs, want = _matmul(size, dtype)
    [got] = run_on(device, program, inputs, precision=precision)
    assert np.abs(got.astype(np.float64) - want).max() <= error * np.abs(want).max()


# -- running -----------------------------------------------------------------------------------


def test_graphs_and_single_launches_agree_and_repeat(device):
    program, inputs = program_of("softmax_in_blocks"), feeds_of("softmax_in_blocks")
    module = compile_program(program, device.target)
    with (
        CudaModel(module, device=device) as graph,
        CudaModel(module, device=device, use_graph=False) as eager,
    ):
        [first] = graph.run(inputs)
        for model in (graph, eager, graph, eager):
            np.testing.assert_array_equal(model.run(inputs)[0], first)


def test_collisions_of_a_scatter_add_up(device):
    b = Builder()
    x, i, u = b.input("x", "f32[4]"), b.input("i", "i64[300]"), b.input("u", "f32[300]")
    b.output("y", b.scatter_elements(x, i, u, axis=0, reduction="add"))
    index = np.arange(300) % 3
    [y] = run_on(device, lower(b.graph), [np.zeros(4, np.float32), index, np.ones(300, np.float32)])
    assert y.tolist() == [100, 100, 100, 0]


def test_loops_and_branches(device):
    inner = Builder(name="body")
    state, x = inner.input("s", "f32[3]"), inner.input("x", "f32[3]")
    inner.output("s1", state + x)
    inner.output("y", state * x)
    b = Builder()
    operands = b.input("state", "f32[3]"), b.input("xs", "f32[5,3]")
    last, ys = b.emit("scan", *operands, body=inner.graph, states=1, scans=1)
    b.output("last", last)
    b.output("ys", ys)
    program = lower(b.graph)
    inputs = [np.ones(3, np.float32), np.arange(15, dtype=np.float32).reshape(5, 3)]
    for got, want in zip(run_on(device, program, inputs), NumpyModule(program)(inputs)):
        assert_close(got, want)


@pytest.mark.parametrize("name", ["mnist_8", "tinybert_untrained", "squeezenet_fp16", "silero_vad"])
def test_real_models(name, shared_models):
    model = shared_models(name)
    shapes = {k: v.shape for k, v in model.inputs.items()}
    outputs = tessel.compile(model.path, target="cuda", shapes=shapes).run(model.inputs)
    for key, want in model.outputs.items():
        got = outputs[key].astype(np.float64)
        tolerance = 2e-2 if want.dtype == np.float16 else 1e-3
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * np.abs(want).max())
