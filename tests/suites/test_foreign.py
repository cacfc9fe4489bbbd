"""Machine code for CPUs other than this one, run by an emulator: it computes what numpy does.

Needs qemu's user emulation and the binutils of the machine (see docs/architecture.md, "Other
CPUs"); skipped where they are absent. Starting the emulator takes longer than most programs, so a
test links all of its programs into one executable.
"""

from dataclasses import replace

import numpy as np
import pytest
from tessel.compiler.backends.llvm.backend import compile_program, whole_object
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.schedules.contraction.schedule import ContractSchedule
from tessel.compiler.backends.llvm.schedules.nest import NestSchedule
from tessel.compiler.backends.llvm.schedules.window import WindowSchedule
from tessel.compiler.backends.llvm.vmath import formulas
from tessel.compiler.backends.numpy import NumpyModule, has_bytes
from tessel.compiler.driver import Driver
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.core import PRIMITIVES
from tessel.compiler.ir.interpret import bind_shapes, interpret
from tessel.compiler.ir.op import OPS
from tessel.compiler.ir.specialize import specialize
from tessel.compiler.ir.types import DTYPES, F16, F32
from tessel.compiler.lowering.lower import lower
from tessel.compiler.passes.base import run_pipeline
from tessel.compiler.pipelines import cpu_pipeline
from tessel.compiler.targets.table import open_target
from tessel.frontends.onnx.importer import read

from ..support.foreign import FOREIGN, Job, link, link_whole, missing_tool
from ..support.kernels import buffer_of, close, program_of, scheduled, store
from ..unit.llvm import test_vector_math as vector_math
from ..unit.llvm.products import test_llvm_contractions as contractions
from ..unit.llvm.products import test_llvm_convolutions as convolutions
from ..unit.llvm.schedules import test_llvm_online as online
from ..unit.llvm.schedules import test_llvm_windows as windows
from ..unit.llvm.test_llvm_casts import FLOATS, codes, numbers, rounded, same_bits, some
from ..unit.ops.test_ops import check, expected_of, graph_of, samples
from ..unit.passes.test_winograd import conv_graph

RNG = np.random.default_rng(0)
whole = contractions.whole


@pytest.fixture(params=FOREIGN)
def target(request):
    target = NAMED[request.param]
    reason = missing_tool(target)
    if reason is not None:
        pytest.skip(reason)
    return target


def run(codes, inputs, folder) -> list:
    """The outputs of each program for its inputs, or what went wrong, from one executable."""
    jobs = []
    for i, (code, arrays) in enumerate(zip(codes, inputs, strict=True)):
        types = code.plan.program.outputs
        jobs.append(Job(i, arrays, [np.zeros(t.shape, t.dtype.numpy) for t in types]))
    findings = link(codes, folder).run(jobs)
    return [job.outputs if finding is None else finding for job, finding in zip(jobs, findings)]


def run_kernels(cases, target, folder):
    """For each (kernel, arrays, constants) the pair (machine code's output, numpy's)."""
    programs = [program_of(*case) for case in cases]
    inputs = [[x for b, x in arrays.items() if b not in c] for _, arrays, c in cases]
    results = run([compile_program(p, target) for p in programs], inputs, folder)
    for result in results:
        assert not isinstance(result, str), result
    with np.errstate(all="ignore"):
        expected = [NumpyModule(p)(x) for p, x in zip(programs, inputs)]
    return [(y, z) for ys, zs in zip(results, expected) for y, z in zip(ys, zs, strict=True)]


def schedules(cases, target):
    return [scheduled(program_of(*case), target) for case in cases]


# -- ops and models --------------------------------------------------------------------------------


@pytest.mark.sweep(1, suite=19)
@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({op.group for op in OPS.values()}))
def test_ops_mean_what_their_references_say(family, target, tmp_path):
    """All samples but those that need Python while they run."""
    chosen, codes, given = [], [], []
    for parameter in samples(lambda op: op.group == family):
        graph, inputs = graph_of(*parameter.values)
        program = lower(graph)
        if not all(map(has_bytes, (*program.inputs, *program.outputs))):
            continue
        code = compile_program(program, target)
        if not code.host_callbacks:
            chosen.append(parameter)
            codes.append(code)
            given.append(inputs)
    if not codes:
        pytest.skip("these run in Python")
    wrong = []
    for parameter, received in zip(chosen, run(codes, given, tmp_path)):
        op, sample = parameter.values
        try:
            assert not isinstance(received, str), received
            check(sample, received, expected_of(op, sample))
        except AssertionError as error:
            wrong.append(f"{parameter.id}: {error}")
    assert not wrong, "\n".join(wrong)


def prepared(graph):
    """The program that `tessel.compile` makes of a graph of known sizes."""
    driver = Driver(open_target("cpu"))
    chains = driver.target.takes_chains(driver.options)
    return lower(driver.prepare(driver.optimize(graph)), chains=chains)


def test_a_model_as_one_object(target, root, tmp_path):
    """What `tessel compile --emit object` writes needs nothing but the runner."""
    path = root / "examples" / "models" / "digits.onnx"
    graph = specialize(read(path), {"N": 5})
    program, x = prepared(graph), RNG.random((5, 1, 8, 8), dtype=np.float32)
    code = compile_program(program, target)
    job = Job(0, [x], [np.zeros((5, 10), np.float32)])
    executable = link_whole(whole_object(code.plan, target), code, tmp_path)
    assert executable.run([job]) == [None]
    close(job.outputs[0], interpret(graph, [x])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mnist_8", "dtln_1", "tinybert_untrained"])
def test_real_models(name, shared_models, target, tmp_path):
    """A convolutional, a recurrent and a transformer model give what ONNX Runtime gave."""
    model = shared_models(name)
    graph = read(model.path, shapes={k: v.shape for k, v in model.inputs.items()})
    arrays = [np.ascontiguousarray(model.inputs[v.name]) for v in graph.inputs]
    program = prepared(specialize(graph, bind_shapes(graph, arrays)))
    (received,) = run([compile_program(program, target)], [arrays], tmp_path)
    for y, output in zip(received, graph.output_names, strict=True):
        close(y, model.outputs[output], rtol=1e-4, atol=1e-5)


def test_convolutions_by_winograd(target, tmp_path):
    graphs = [conv_graph(size, 32, 48) for size in (14, 15)]
    programs = [lower(run_pipeline(g, cpu_pipeline())) for g in graphs]
    inputs = [[RNG.standard_normal(g.inputs[0].type.shape, np.float32)] for g in graphs]
    codes = [compile_program(p, target) for p in programs]
    assert all(len(code.plan.steps) > 2 for code in codes)  # transform, multiply, transform
    for y, graph, x in zip(run(codes, inputs, tmp_path), graphs, inputs):
        close(y[0], interpret(graph, x)[0], rtol=1e-4, atol=1e-5)


# -- contractions and windows: exact, since the values are small integers --------------------------


def products(constant: bool):
    """Every dtype, ragged tiles, batches, narrow operands, bytes, epilogues."""
    for m, k, n in [(1, 7, 33), (4, 16, 16), (13, 21, 35), (29, 1, 4), (33, 40, 70)]:
        yield operands((m, k), (k, n), constant)
    for dtype in ("f64", "i32", "i64"):
        yield operands((13, 21), (21, 35), constant, dtype, dtype)
    for dtype in ("f16", "bf16", "f8e4m3fn"):
        yield operands((9, 21), (21, 35), constant, dtype)
    for dtype in ("i8", "u8"):
        yield operands((9, 51), (51, 35), constant, dtype, "i32")
    after = lambda v, i, j: s.maximum(v * 0.5 - 1.0, 0.0)
    yield operands((19, 8), (8, 37), constant, epilogue=after)
    yield operands((56, 1024), (1024, 64), constant)  # rows that collide in the cache


def operands(left, right, constant, dtype="f32", acc="f32", **options):
    x, w = whole(left, dtype), whole(right, dtype)
    a, b = buffer_of("a", x), buffer_of("b", w)
    kernel = contractions.product(a, b, acc, **options)
    return kernel, {a: x, b: w}, [b] if constant else []


def images():
    """Convolutions: in place, padded while packing, tiles of several lines."""
    for size, pad, stride in [(9, 0, 1), (8, 1, 1), (9, 1, 2), (5, 2, 1)]:
        x, w = whole((2, size, size, 3)), whole((3, 3, 3, 18))
        a, b = buffer_of("a", x), buffer_of("b", w)
        yield convolutions.convolution(a, b, pad, stride), {a: x, b: w}, [b]
    for height, width in [(9, 3), (4, 2), (7, 7)]:
        x, w = whole((2, height + 2, width + 2, 5)), whole((3, 3, 5, 64))
        a, b = buffer_of("a", x), buffer_of("b", w)
        yield convolutions.convolution(a, b), {a: x, b: w}, [b]


def check_products(cases, target, folder, ways):
    plans = [p for p in schedules(cases, target) if isinstance(p, ContractSchedule)]
    assert len(plans) > len(cases) / 2
    assert {p.a for p in plans} == ways
    assert {"constant", "pack"} <= {p.b for p in plans} <= {"constant", "pack", "direct"}
    assert not any(p.pairs for p in plans)
    for received, expected in run_kernels(cases, target, folder):
        np.testing.assert_array_equal(received, expected)


def test_contractions(target, tmp_path):
    cases = [*products(True), *products(False), *images()]
    check_products(cases, target, tmp_path, {"direct", "pack"})


def test_contractions_that_turn_rows(target, tmp_path):
    """Vectors of four registers get the schedules of machines with wider ones."""
    sizes = [(rows, depth) for rows in (17, 40) for depth in (16, 31, 70)]
    cases = [operands((m, k), (k, 270), c) for m, k in sizes for c in (True, False)]
    check_products(cases, replace(target, vector_bytes=64), tmp_path, {"turn"})


def test_windows(target, tmp_path):
    lines = [windows.depthwise((3, n), c) for n in (2, 7, 9, 33) for c in (16, 17, 40)]
    taps = [windows.depthwise(taps=t) for t in ((1, 3), (5, 5), (2, 4))]
    steps = [windows.depthwise(stride=2, dilation=d) for d in (1, 2)]
    dtypes = [windows.depthwise(dtype=d) for d in ("f64", "i32", "u8", "i8")]
    cases = [(*c, ()) for c in (*lines, *taps, *steps, *dtypes)]
    assert all(isinstance(p, WindowSchedule) for p in schedules(cases, target))
    for received, expected in run_kernels(cases, target, tmp_path):
        np.testing.assert_array_equal(received, expected)


def test_attention(target, tmp_path):
    """Also with the tiles of machines with wider vectors."""
    cases = [
        online.attention(13, 17, 5, 7),
        online.attention(31, 300, 40, causal=True, mask=online.hidden_rows),
        online.attention(20, 600, 16, 33, mask=online.first_block_hidden, heads=1),
        online.attention(40, 40, 24, dtype="f64", causal=True),
    ]
    for width in (target.vector_bytes, 64):
        machine = replace(target, vector_bytes=width)
        programs = [online.lower_for_cpu(graph) for graph, *_ in cases]
        codes = [compile_program(p, machine) for p in programs]
        assert {s.name for code in codes for s in online.schedules(code)} == {"online"}
        results = run(codes, [arrays for _, arrays, _ in cases], tmp_path)
        for (_, _, expected), received in zip(cases, results, strict=True):
            np.testing.assert_allclose(received[0], expected, rtol=1e-4, atol=1e-5)


# -- nests -----------------------------------------------------------------------------------------


def test_rows(target, tmp_path):
    """Softmax and variance, of rows shorter and longer than a vector."""
    cases = []
    for n in (2, 5, 16, 50, 197, 5000):
        x = RNG.standard_normal((3, n)).astype(np.float32)
        a = buffer_of("a", x)

        def softmax(i, j, a=a, n=n):
            most = s.reduce("max", [n], lambda k: a[i, k])
            power = lambda k: s.exp(a[i, k] - most)
            return power(j) / s.reduce("sum", [n], power)

        def variance(i, a=a, n=n):
            mean = s.reduce("sum", [n], lambda k: a[i, k]) * (1 / n)
            return s.reduce("sum", [n], lambda k: (a[i, k] - mean) * (a[i, k] - mean))

        cases += [(store((3, n), softmax), {a: x}, ()), (store((3,), variance), {a: x}, ())]
    for received, expected in run_kernels(cases, target, tmp_path):
        close(received, expected)


def test_ragged_ends_guards_and_places(target, tmp_path):
    """Any length around a vector's, stores under a condition, gathers, transposes."""
    cases = []
    for dtype in ("f32", "f64", "i8", "f16"):
        for n in (1, 2, 3, 4, 5, 7, 8, 9, 15, 17, 31, 33, 65):
            x = np.arange(n).astype(DTYPES[dtype].numpy)
            a = buffer_of("a", x)
            body = lambda i, a=a, d=dtype: s.cast(s.cast(a[i], "f32") * 2.0 + 1.0, d)
            cases.append((store((n,), body, dtype), {a: x}, ()))
    for n in (3, 16, 37):
        x = RNG.standard_normal((5, n)).astype(np.float32)
        rows = RNG.integers(0, 5, 23)
        a, r = buffer_of("a", x), buffer_of("r", rows)
        read = lambda i, j, a=a: a[i, j]
        guarded = store((5, n), read, where=lambda i, j, a=a: a[i, j] > 0.0)
        gathered = store((23, n), lambda i, j, a=a, r=r: a[r[i], j])
        turned = store((n, 5), lambda i, j, a=a: a[j, i])
        cases += [(guarded, {a: x}, ()), (gathered, {a: x, r: rows}, ()), (turned, {a: x}, ())]
    for received, expected in run_kernels(cases, target, tmp_path):
        np.testing.assert_array_equal(received, expected)


def test_groups_are_interleaved(target, tmp_path):
    cases = []
    for groups, count, dtype in [(2, 15, "f32"), (4, 16, "f32"), (4, 58, "u8"), (2, 58, "f64")]:
        x = np.arange(3 * groups * count).reshape(3, groups, count).astype(DTYPES[dtype].numpy)
        a = buffer_of("a", x)
        kernel = store((3, count, groups), lambda i, j, g, a=a: a[i, g, j], dtype)
        cases.append((kernel, {a: x}, ()))
    plans = schedules(cases, target)
    assert all(isinstance(p, NestSchedule) and p.interleave is not None for p in plans)
    for received, expected in run_kernels(cases, target, tmp_path):
        np.testing.assert_array_equal(received, expected)


# -- scalars ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vector_mathematics_is_within_its_bounds(dtype, target, tmp_path):
    names = [n for n in formulas.FUNCTIONS if n in PRIMITIVES and n != "fma"]
    cases, arguments = [], []
    for name in names:
        x = vector_math.inputs_of(name, dtype, count=500)
        ties = dtype([0.0, -0.0, 0.5, -1.5, 1, -1, np.inf, -np.inf, np.nan])
        x = [np.concatenate([v, ties]) for v in x]
        buffers = [buffer_of(f"x{i}", v) for i, v in enumerate(x)]
        body = lambda i, name=name, bs=buffers: s.apply(name, *(b[i] for b in bs))
        cases.append((store(x[0].shape, body, buffers[0].dtype), dict(zip(buffers, x)), ()))
        arguments.append(x)
    for name, x, (received, _) in zip(names, arguments, run_kernels(cases, target, tmp_path)):
        want, bound = vector_math.exact(name, *x), formulas.FUNCTIONS[name]
        stated = bound.ulp_f32 if dtype is np.float32 else bound.ulp_f64
        flushed = (received == 0) & (np.abs(want) < np.finfo(dtype).tiny) & (name == "sigmoid")
        error = np.where(flushed, 0, vector_math.ulp_error(received, want))
        assert error.max() <= stated + 2**-11, (name, [v[error.argmax()] for v in x])


def test_narrow_floats_are_converted_to_the_bit(target, tmp_path):
    cases, pairs = [], []
    for dtype in FLOATS:
        for x, to in [(codes(dtype), F32), (numbers(), dtype)]:
            a = buffer_of("a", x)
            body = lambda i, a=a, to=to: s.cast(a[i], to)
            cases.append((store(x.shape, body, to.name), {a: x}, ()))
            pairs.append((x, to))
    x = np.concatenate([codes(F16).astype(np.float64), [65520 - 1e-9, 2**-25 + 2**-70, 1e300]])
    a = buffer_of("a", x)
    cases.append((store(x.shape, lambda i: s.cast(a[i], F16), "f16"), {a: x}, ()))
    pairs.append((x, F16))
    for (x, to), (received, _) in zip(pairs, run_kernels(cases, target, tmp_path)):
        same_bits(received, rounded(x, to), x)


@pytest.mark.parametrize("source", ["f32", "f64", "bf16", "i64", "u8"])
def test_numbers_become_ints_by_saturation_and_floats(source, target, tmp_path):
    """NaN becomes 0, in both its spellings."""
    x = some(DTYPES[source])
    a = buffer_of("a", x)
    to = [d for d in DTYPES.values() if d.kind != "s"]
    cases = [(store(x.shape, lambda i, d=d: s.cast(a[i], d), d), {a: x}, ()) for d in to]
    for received, expected in run_kernels(cases, target, tmp_path):
        same_bits(received, expected, x)
