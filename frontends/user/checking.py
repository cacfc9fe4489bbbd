"""`check`: an op's samples through every stage, and its gradient against differences.

op.ref  =  graph interpreted  =  loops in numpy  =  machine code on 1 and 2 threads
d sum(w * y) / dx[i]  =  (f(x + h e_i) - f(x - h e_i)) / 2h,    f(x) = sum(w * ref(x))
"""

from collections.abc import Callable, Iterator

import numpy as np

from ...compiler.arguments import require
from ...compiler.autodiff.gradients import gradients
from ...compiler.errors import CheckFailed, TesselError
from ...compiler.ir import op as registry
from ...compiler.ir.builder import Builder
from ...compiler.ir.interpret import interpret
from ...compiler.ir.op import NotDifferentiable, Op, Sample
from ...compiler.ir.types import F32, F64, TensorType, dtype_of, tensor_type_of
from ...runtime.compile import compile_graph

STEP = 1e-6  # of the differences, in f64
ELEMENTS = 24  # of each operand
BITS = "the result on two threads is not that on one, bit for bit"


def check(op: str | Op) -> list[str]:
    """Test an op on its samples. Returns what was compared; raises CheckFailed with every
    difference.

    Results of all backends must agree with `ref` within the samples' tolerances, and gradients
    (of f32 and f64 samples that do not say `grad=False`) with differences of `ref`.
    """
    require("ops.check", op, (str, Op), "the name of an op, or its record")
    op = op if isinstance(op, Op) else registry.get(op)
    done, findings = [], []
    for i, sample in enumerate(op.samples()):
        for stage, test in _tests(op, sample):
            name = f"sample {i}: {stage}"
            try:
                test()
            except (
                TesselError,
                AssertionError,
                ArithmeticError,
                LookupError,
                TypeError,
                ValueError,
                AttributeError,
            ) as error:
                findings.append(CheckFailed(f"{name}: {_said(error)}"))
            else:
                done.append(name)
    if findings:
        raise CheckFailed(f"{op.name} is not what its `ref` says", findings=findings)
    return done


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, (AssertionError, TesselError)) else f"{error!r}"


def _tests(op: Op, sample: Sample) -> Iterator[tuple[str, Callable]]:
    """(name, function that raises) for each comparison of a sample."""
    inputs = [x for x in sample.inputs if x is not None]

    def of_target(target, threads=1):
        exe = compile_graph(_graph(op, sample), target=target, threads=threads, cache=False)
        return list(exe.run({p.name: x for p, x in zip(exe.inputs, inputs)}).values())

    def on_threads():
        for one, two in zip(of_target("cpu"), of_target("cpu", threads=2)):
            same = not isinstance(one, np.ndarray) or one.tobytes() == two.tobytes()
            assert same or one.dtype == object, BITS

    yield "types", lambda: _agree_types(op, sample)
    yield "graph", lambda: _agree(op, sample, interpret(_graph(op, sample), inputs))
    yield "loops", lambda: _agree(op, sample, of_target("numpy"))
    yield "machine code", lambda: _agree(op, sample, of_target("cpu"))
    yield "two threads", on_threads
    floats = [x for x in inputs if dtype_of(x).is_float]
    fine = floats and all(dtype_of(x) in (F32, F64) for x in floats)
    if sample.grad and fine and not isinstance(op.grad, NotDifferentiable):
        yield "gradient", lambda: _agree_gradients(op, sample)


def _given(op: Op, inputs) -> list:
    """Operands, None for those at the end that are absent."""
    variadic = op.inputs and op.inputs[-1].variadic
    return [*inputs, *([] if variadic else [None] * (len(op.inputs) - len(inputs)))]


def _reference(op: Op, inputs, sample: Sample) -> list:
    with np.errstate(all="ignore"):
        results = op.ref(*_given(op, inputs), **op.bind(sample.attrs, op.name))
    return list(results) if isinstance(results, tuple) else [results]


def _emit(b: Builder, op: Op, inputs, sample: Sample) -> tuple[list, tuple]:
    """(operands, results) of the op in a graph."""
    operands = [
        None if x is None else b.input(f"x{i}", tensor_type_of(x)) for i, x in enumerate(inputs)
    ]
    results = b.emit(op.name, *operands, **sample.attrs)
    return operands, results if isinstance(results, tuple) else (results,)


def _graph(op: Op, sample: Sample):
    b = Builder(name=op.name)
    for i, y in enumerate(_emit(b, op, sample.inputs, sample)[1]):
        b.output(f"y{i}", y)
    return b.graph


def _agree_types(op: Op, sample: Sample) -> None:
    expected = _reference(op, sample.inputs, sample)
    outputs = _graph(op, sample).outputs
    assert len(outputs) == len(expected), f"{len(outputs)} results, and {len(expected)} of ref"
    for i, (value, y) in enumerate(zip(outputs, expected)):
        if isinstance(value.type, TensorType):
            got = tensor_type_of(np.asarray(y))
            assert got == value.type, f"result {i} is {value.type}, and {got} of ref"


def _agree(op: Op, sample: Sample, results) -> None:
    for i, (got, expected) in enumerate(zip(results, _reference(op, sample.inputs, sample))):
        if not isinstance(got, np.ndarray) or got.dtype == object:
            same = np.array_equal(got, expected)
            assert same, f"result {i} is {got!r} instead of {expected!r}"
            continue
        wide = [np.asarray(x) for x in (got, expected)]
        if dtype_of(got).is_float:
            wide = [x.astype(np.float64) for x in wide]
        message = f"result {i}"
        np.testing.assert_allclose(*wide, rtol=sample.rtol, atol=sample.atol, err_msg=message)


def _agree_gradients(op: Op, sample: Sample) -> None:
    inputs = [
        x.astype(np.float64) if x is not None and dtype_of(x).is_float else x for x in sample.inputs
    ]
    rng = np.random.default_rng(7)
    weights = [
        rng.uniform(0.5, 1.5, np.shape(y)) if dtype_of(y).is_float else None
        for y in _reference(op, inputs, sample)
    ]
    b = Builder()
    operands, ys = _emit(b, op, inputs, sample)
    pairs = [(y, b.constant(w)) for y, w in zip(ys, weights) if w is not None]
    places = [i for i, x in enumerate(inputs) if x is not None and dtype_of(x).is_float]
    wrt = [operands[i] for i in places]
    found = gradients(b, [y for y, _ in pairs], wrt, [w for _, w in pairs])
    for i, v in zip(places, found):
        b.output(f"d{i}", b.constant(np.zeros_like(inputs[i])) if v is None else v)
    given = [x for x in inputs if x is not None]
    for place, dx in zip(places, interpret(b.graph, given)):
        elements = rng.permutation(inputs[place].size)[:ELEMENTS]
        expected = _differences(op, sample, inputs, weights, place, elements)
        message = f"with respect to operand {place}"
        np.testing.assert_allclose(
            dx.flat[elements], expected, rtol=1e-5, atol=1e-6, err_msg=message
        )


def _differences(op: Op, sample: Sample, inputs, weights, place: int, elements) -> list[float]:
    def f(i, h):
        moved = list(inputs)
        moved[place] = inputs[place].copy()
        moved[place].flat[i] += h
        ys = _reference(op, moved, sample)
        return sum(np.sum(w * y) for w, y in zip(weights, ys) if w is not None)

    return [(f(i, STEP) - f(i, -STEP)) / (2 * STEP) for i in elements]
