"""Triton kernels in Triton's interpreter against the numpy interpreter of the same loops."""

import numpy as np
import pytest
from tessel.compiler.backends.numpy import NUMPY, NumpyModule, run_kernel
from tessel.compiler.backends.triton import primitives
from tessel.compiler.backends.triton.backend import compile_program
from tessel.compiler.backends.triton.emit import emit
from tessel.compiler.backends.triton.jit import Binary, load_function
from tessel.compiler.backends.triton.schedule import TritonSchedule, choose
from tessel.compiler.backends.triton.target import parse_target
from tessel.compiler.errors import InputError
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import TensorType
from tessel.compiler.kernels.kernel import Kernel, Store
from tessel.compiler.lowering.lower import lower
from tessel.compiler.passes.checks import with_checks
from tessel.runtime.gpu.device import CudaDevice, CudaModel

from ...support import triton_interpreter as interpreter
from ...support.fake_cuda import FakeDriver
from ...support.triton_kernels import GRAPHS, assert_close, feeds_of, program_of

SM90 = parse_target("cuda:sm_90")


def run_interpreted(program, inputs):
    """The program on a driver whose launches the interpreter carries out."""
    module = compile_program(program, SM90)
    for key, unit in module.units.items():
        module.binaries[key] = Binary(key.encode(), unit.source.name, unit.source.num_warps, 0)

    def execute(key, programs, threads, pointers, scratch):
        source = module.units[key].source
        elements = [interpreter.element(p) for p in source.pointers]
        function = load_function(source.text, source.name)
        interpreter.run_at(function, programs, list(zip(pointers, elements)), driver.ranges())

    driver = FakeDriver(execute=execute)
    driver.arity = {k.encode(): len(u.source.pointers) for k, u in module.units.items()}
    with CudaModel(module, device=CudaDevice(driver=driver)) as model:
        return model.run(inputs)


@pytest.mark.sweep(16, suite=24)
@pytest.mark.parametrize("name", GRAPHS)
def test_kernels_compute_what_numpy_does(name):
    program, inputs = program_of(name), feeds_of(name)
    received = run_interpreted(program, inputs)
    for got, want in zip(received, NumpyModule(program)(inputs), strict=True):
        assert_close(got, want)


@pytest.mark.parametrize("count", [3, 1 << 15])
def test_a_run_notes_what_is_out_of_range(count):
    b = Builder()
    x, i = b.input("x", "f32[4,2]"), b.input("i", f"i64[{count}]")
    b.output("y", b.gather(x, i, axis=0))
    program = lower(with_checks(b.graph))
    x, right = np.arange(8, dtype=np.float32).reshape(4, 2), np.arange(count) % 4
    np.testing.assert_array_equal(run_interpreted(program, [x, right])[0], x[right])
    for place, value in [(0, 4), (count - 1, -5)]:
        wrong = right.copy()
        wrong[place] = value
        with pytest.raises(InputError) as error:
            run_interpreted(program, [x, wrong])
        assert error.value.received == value


# -- primitives ----------------------------------------------------------------------------------

EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-3, -1e-4, 3.0, np.inf, -np.inf, np.nan]
SPREAD = [*EDGES, *np.linspace(-9, 9, 41), 50.0, -50.0, 1e4, 85.0, -85.0, 1e-20]
# The largest magnitudes that are asked for, where a little more is beyond 32 bits.
DOMAINS = {"sin": 50, "cos": 50, "tan": 50, "pow": 1e3, "rem": 1e3, "mod": 1e3}
DIVISIONS = ("div", "truncdiv", "floordiv", "mod", "rem")
BITS = ("bitand", "bitor", "bitxor", "select")
ON_FLOATS = [op for op, rows in primitives.TABLE.items() if {"f", "*"} & set(rows)]
ON_INTS = [op for op, rows in primitives.TABLE.items() if {"i", "*"} & set(rows)]


def run_primitive(op, arrays):
    """`op` over arrays of one length and dtype, in the interpreter and in numpy."""
    buffers = [s.Buffer(f"x{i}", TensorType(a.dtype, a.shape)) for i, a in enumerate(arrays)]
    axis = s.Axis("i", len(arrays[0]))
    value = s.apply(op, *(b[s.axis(axis)] for b in buffers))
    out = s.Buffer("y", TensorType(value.dtype, (axis.extent,)))
    kernel = Kernel(op, (axis,), (Store(out, (s.axis(axis),), value),))
    source = emit(kernel, choose(kernel, SM90))
    got = np.zeros(axis.extent, value.dtype.numpy)
    want = got.copy()
    named = dict(zip(buffers, arrays)) | {out: got}
    function = load_function(source.text, source.name)
    interpreter.run(function, source.programs, *(named[b] for b in kernel.params))
    with np.errstate(all="ignore"):
        run_kernel(kernel, [*(named[b] for b in kernel.inputs), want])
    return got, want


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", [op for op in ON_FLOATS if op not in BITS])
def test_float_primitives(op, dtype):
    values = np.array(SPREAD, dtype)
    limit = DOMAINS.get(op)
    if limit is not None:
        values = values[~(np.isfinite(values) & (np.abs(values) > limit))]
    count = s.PRIMITIVES[op][0]
    arrays = [values]
    if count > 1:
        left, right = np.meshgrid(values[:24], values[:24])
        arrays = [left.ravel(), right.ravel(), right.ravel()][:count]
    if op in ("rem", "mod"):  # by 0 and of infinities: whatever the machine says
        inside = np.isfinite(arrays[0]) & np.isfinite(arrays[1]) & (arrays[1] != 0)
        arrays = [a[inside] for a in arrays]
    got, want = run_primitive(op, arrays)
    if got.dtype == np.bool_:
        np.testing.assert_array_equal(got, want)
    else:
        rtol = 3e-6 if dtype == np.float32 else 1e-13
        np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-38)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8])
@pytest.mark.parametrize("op", [op for op in ON_INTS if op not in ("select", "fma")])
def test_integer_primitives(op, dtype):
    low = 0 if np.dtype(dtype).kind == "u" else -9
    values = np.arange(low, 10).astype(dtype)
    arrays = [values]
    if s.PRIMITIVES[op][0] == 2:
        left, right = np.meshgrid(values, values)
        arrays = [left.ravel(), right.ravel()]
    if op in (*DIVISIONS, "pow", "shl", "shr"):
        inside = arrays[1] > 0 if op in ("pow", "shl", "shr") else arrays[1] != 0
        arrays = [a[inside] for a in arrays]
    if op in ("shl", "shr"):
        arrays[1] = arrays[1] % 8
    got, want = run_primitive(op, arrays)
    np.testing.assert_array_equal(got, want)


def test_every_primitive_has_a_meaning():
    assert set(s.PRIMITIVES) - set(primitives.TABLE) == {"cast", "bitcast"}
    assert set(primitives.TABLE) <= set(s.PRIMITIVES) | {"cast"}
    assert set(NUMPY) == set(primitives.TABLE)


BITS = [
    ("f32", "i32"),
    ("i64", "f64"),
    ("f16", "u16"),
    ("bf16", "i16"),
    ("i8", "u8"),
    ("bool", "u8"),
    ("u8", "bool"),
    ("i4", "u4"),
    ("u4", "i4"),
    ("i2", "u2"),
    ("u2", "i2"),
]


@pytest.mark.parametrize(("source", "target"), BITS)
def test_the_same_bits_as_another_type(source, target):
    values = np.array([0, 1, 3, -1, 2, -2, 1])
    x = s.Buffer("x", TensorType(source, values.shape))
    array = values.astype(x.dtype.numpy)
    axis = s.Axis("i", len(values))
    out = s.Buffer("y", TensorType(target, values.shape))
    value = s.bitcast(x[s.axis(axis)], target)
    kernel = Kernel("bits", (axis,), (Store(out, (s.axis(axis),), value),))
    got, want = (np.zeros(values.shape, out.dtype.numpy) for _ in range(2))
    run_kernel(kernel, [array, want])
    unit = emit(kernel, choose(kernel, SM90))
    interpreter.run(load_function(unit.text, unit.name), unit.programs, array, got)
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


CASTS = [("f32", d) for d in ("i8", "u8", "i32", "i64", "u32", "f16", "bf16", "bool", "f64")] + [
    ("i64", "i8"),
    ("i64", "f32"),
    ("i8", "i64"),
    ("u8", "i32"),
    ("bool", "f32"),
    ("f16", "i8"),
    ("i32", "bool"),
    ("bf16", "f32"),
    ("f64", "i64"),
    ("u64", "f32"),
]


@pytest.mark.parametrize(("source", "target"), CASTS)
def test_casts_truncate_and_saturate(source, target):
    values = np.array([0, 1, 100, 3, 7], np.int64)
    if source[0] in "fb" and source != "bool":
        values = np.array([0, -0.7, 2.9, 300, -300, 3e9, -3e9, 1e30, np.nan, np.inf, -np.inf])
        values = values[np.abs(values) < 6e4] if source == "f16" else values
    x = s.Buffer("x", TensorType(source, values.shape))
    axis = s.Axis("i", len(values))
    out = s.Buffer("y", TensorType(target, values.shape))
    value = s.cast(x[s.axis(axis)], target)
    kernel = Kernel("cast", (axis,), (Store(out, (s.axis(axis),), value),))
    unit = emit(kernel, choose(kernel, SM90))
    array, got = values.astype(x.dtype.numpy), np.zeros(values.shape, out.dtype.numpy)
    want = got.copy()
    interpreter.run(load_function(unit.text, unit.name), unit.programs, array, got)
    with np.errstate(all="ignore"):
        run_kernel(kernel, [array, want])
    as_f64 = [a.astype(np.float64) for a in (got, want)]
    np.testing.assert_array_equal(*as_f64)


# -- memory --------------------------------------------------------------------------------------


def test_reads_at_computed_places_outside_the_buffer_are_masked():
    x, i = s.Buffer("x", TensorType("f32", (10,))), s.Buffer("i", TensorType("i64", (4,)))
    out, axis = s.Buffer("y", TensorType("f32", (4,))), s.Axis("i", 4)
    kernel = Kernel("gather", (axis,), (Store(out, (s.axis(axis),), x[i[s.axis(axis)]]),))
    source = emit(kernel, choose(kernel, SM90))
    arrays = {x: np.arange(10, dtype=np.float32), i: np.array([3, -1, 10, 2**40])}
    got = np.full(4, 7, np.float32)
    function = load_function(source.text, source.name)
    interpreter.run(function, 1, *(arrays[b] for b in kernel.inputs), got)
    assert got.tolist() == [3, 0, 0, 0]


def test_production_sizes_of_a_contraction():
    program, inputs = program_of("matmul"), feeds_of("matmul")
    [call] = program.kernels()
    schedule = choose(call.kernel, SM90)
    large = TritonSchedule("contract", (128, 128, 32), 8, 3, dot=schedule.dot)
    source = emit(call.kernel, large)
    arrays = {"input": inputs, "output": [np.zeros((33, 37), np.float32)]}
    refs = [arrays[r.slot.kind][r.slot.index] for r in call.refs]
    interpreter.run(load_function(source.text, source.name), source.programs, *refs)
    assert_close(arrays["output"][0], NumpyModule(program)(inputs)[0])


def test_rows_shared_by_several_programs():
    b = Builder()
    x = b.input("x", "f32[6,3000]")
    b.output("y", x - x.max(axes=1, keepdims=True))
    program = lower(b.graph)
    [call] = program.kernels()
    schedule = choose(call.kernel, SM90)
    split = TritonSchedule("row", (2, 1024), outer=schedule.outer, splits=2)
    source = emit(call.kernel, split)
    assert source.programs == 6  # 3 pairs of rows, two programs each
    x = np.random.default_rng(0).standard_normal((6, 3000)).astype(np.float32)
    y = np.zeros_like(x)
    interpreter.run(load_function(source.text, source.name), source.programs, x, y)
    assert_close(y, x - x.max(axis=1, keepdims=True))


def test_the_interpreter_sees_accesses_out_of_bounds():
    program = program_of("gelu")
    [call] = program.kernels()
    source = emit(call.kernel, choose(call.kernel, SM90))
    function = load_function(source.text, source.name)
    short, out = np.zeros(100, np.float32), np.zeros((3, 91), np.float32)
    with pytest.raises(Exception, match="load out of bounds"):
        interpreter.run(function, source.programs, short, out)


# -- whole models ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_8", "tinybert_untrained"])
def test_real_models(name, shared_models):
    model = shared_models(name)
    program = lower_model(model)
    received = run_interpreted(program, list(model.inputs.values()))
    for got, want in zip(received, model.outputs.values(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def lower_model(model):
    """A real model's program for the sizes of its inputs, in the order of those."""
    from tessel.compiler.passes.base import run_pipeline
    from tessel.compiler.pipelines import default_pipeline
    from tessel.frontends.onnx.importer import read

    shapes = {name: x.shape for name, x in model.inputs.items()}
    graph = read(model.path, shapes=shapes)
    assert [v.name for v in graph.inputs] == list(model.inputs)
    return lower(run_pipeline(graph, default_pipeline(2, channels_last=True)))
