"""`vmath` compiled and measured: errors within the stated ulp, special values, lane counts."""

import ctypes
import math
import re
from fractions import Fraction

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import dispose
from tessel.compiler.backends.llvm.vmath import formulas
from tessel.compiler.errors import TypeMismatch, UnsupportedError

INF, NAN = np.inf, np.nan
IR_TYPE = {np.float32: ir.FloatType(), np.float64: ir.DoubleType()}
MEASURED = [
    name for name, bound in formulas.FUNCTIONS.items() if bound.ulp_f32 > 0 and name != "fma"
]
EXACT = [name for name, bound in formulas.FUNCTIONS.items() if bound.ulp_f32 == 0]
both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])


# A kernel over arrays ---------------------------------------------------------------------------


def kernel_ir(name: str, element: ir.Type, lanes: int | None, shared: bool = False) -> ir.Module:
    """kernel(out, in0, ..., n): out[i] = name(in0[i], ...) in steps of `lanes` (None: scalar)."""
    shape = element if lanes is None else ir.VectorType(element, lanes)
    arity = formulas.FUNCTIONS[name].arity
    module, pointer, i64 = ir.Module("test"), ir.PointerType(), ir.IntType(64)
    signature = ir.FunctionType(ir.VoidType(), [pointer] * (arity + 1) + [i64])
    kernel = ir.Function(module, signature, "kernel")
    out, *inputs, n = kernel.args
    entry, loop, done = (kernel.append_basic_block(s) for s in ("entry", "loop", "done"))
    ir.IRBuilder(entry).branch(loop)
    b = ir.IRBuilder(loop)
    i = b.phi(i64)
    i.add_incoming(i64(0), entry)
    values = [b.load(b.gep(p, [i], source_etype=element), typ=shape, align=4) for p in inputs]
    if shared:
        result = b.call(formulas.declare_as_function(module, name, shape), values)
    else:
        result = formulas.emit(b, name, *values)
    b.store(result, b.gep(out, [i], source_etype=element), align=4)
    following = b.add(i, i64(lanes or 1))
    i.add_incoming(following, b.block)
    b.cbranch(b.icmp_signed("<", following, n), loop, done)
    ir.IRBuilder(done).ret_void()
    return module


def compile_ir(module: ir.Module) -> tuple[llvm.ExecutionEngine, int]:
    """The engine (keep it alive) and the address of `kernel`, for the host processor."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    builder = llvm.create_pass_builder(machine, options)
    passes = builder.getModulePassManager()
    try:
        passes.run(parsed, builder)
    finally:
        dispose(passes)
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine, engine.get_function_address("kernel")


def evaluate(name: str, *inputs: np.ndarray, lanes: int | None = 16, shared=False) -> np.ndarray:
    """The function on arrays of one dtype, padded to whole vectors."""
    size, dtype = inputs[0].size, inputs[0].dtype.type
    padding = -size % (lanes or 1)
    padded = [np.pad(x, (0, padding), constant_values=1) for x in inputs]
    out = np.empty_like(padded[0])
    engine, address = compile_ir(kernel_ir(name, IR_TYPE[dtype], lanes, shared))
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(padded) + 1), ctypes.c_int64)(address)
    run(out.ctypes.data, *(x.ctypes.data for x in padded), out.size)
    del engine
    return out[:size]


# References: in double for f32, in extended precision for f64 ------------------------------------


def erf_series(x: np.ndarray) -> np.ndarray:
    """erf(x) = 2/sqrt(pi) e^(-x^2) sum of (2 x^2)^k x / (2k+1)!!: no cancellation, |x| <= 7."""
    x = np.clip(x, -7, 7)
    term = total = x
    for k in range(1, 250):
        term = term * (2 * x * x) / (2 * k + 1)
        total = total + term
    return 2 / np.sqrt(4 * np.arctan(x.dtype.type(1))) * np.exp(-x * x) * total


REFERENCE = {
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": erf_series,
    "normal_area": lambda x: erf_series(x / np.sqrt(x.dtype.type(2))) / 2,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "pow": np.power,
    "round_even": np.rint,
}


def exact(name: str, *inputs: np.ndarray) -> np.ndarray:
    """The function in the next wider precision."""
    wider = np.float64 if inputs[0].dtype == np.float32 else np.longdouble
    function = REFERENCE[name] if name in REFERENCE else getattr(np, name)
    with np.errstate(all="ignore"):
        return function(*(x.astype(wider) for x in inputs))


def ulp_error(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """|got - want| in ulp of want; zero where both are the same inf or NaN."""
    info = np.finfo(got.dtype)
    wider = want.dtype.type
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
        exponent = np.frexp(np.where(np.isfinite(want), want, 1))[1] - 1
        exponent = np.clip(exponent, info.minexp, info.maxexp - 1)
        error = np.abs(got.astype(wider) - want) / np.ldexp(wider(1), exponent - info.nmant)
    same = (np.isnan(got) & np.isnan(want)) | (~np.isfinite(got) & (got == rounded))
    return np.where(same, 0, np.where(np.isnan(error), INF, error))


# Inputs -----------------------------------------------------------------------------------------


def spread(dtype, low: float, high: float, count: int, rng) -> np.ndarray:
    """Both signs, magnitudes even in the exponent, plus values even in the range."""
    magnitude = np.exp2(rng.uniform(np.log2(low), np.log2(high), count))
    signed = magnitude * rng.choice([-1, 1], count)
    return np.concatenate([signed, rng.uniform(-high, high, count)]).astype(dtype)


def inputs_of(name: str, dtype, count: int = 40_000) -> list[np.ndarray]:
    """Wide ranges: everything that gives a finite result, and past it on both sides."""
    rng = np.random.default_rng(7)
    double = dtype is np.float64
    tiny = float(np.finfo(dtype).tiny)
    largest = float(np.finfo(dtype).max) / 4
    if name in ("exp", "expm1", "sinh", "cosh", "sigmoid"):
        x = spread(dtype, tiny, 720 if double else 90, count, rng)
        return [np.concatenate([x, spread(dtype, tiny, 3, count, rng)])]
    if name == "exp2":
        return [spread(dtype, tiny, 1030 if double else 130, count, rng)]
    if name in ("tanh", "erf", "normal_area"):
        x = spread(dtype, tiny, 30, count, rng)
        return [np.concatenate([x, spread(dtype, tiny, 4, count, rng)])]
    if name in ("sin", "cos", "tan"):
        x = spread(dtype, tiny, 2.0**40, count, rng)
        x = np.concatenate([x, spread(dtype, 1, largest, count // 4, rng)])
        quarters = (np.arange(-count, count) * (np.pi / 4)).astype(dtype)
        return [np.concatenate([x, quarters, spread(dtype, tiny, 10, count, rng)])]
    if name in ("asin", "acos", "atanh"):
        return [spread(dtype, tiny, 1, count, rng)]
    if name in ("log", "log2", "log1p", "acosh", "sqrt", "rsqrt"):
        x = np.abs(spread(dtype, tiny, largest, count, rng))
        near_one = (1 + spread(dtype, 1e-7, 0.9, count, rng)).astype(dtype)
        subnormal = (np.abs(spread(np.float64, 1e-3, 1, 1000, rng)) * tiny).astype(dtype)
        below = spread(dtype, tiny, 0.99, count, rng) if name == "log1p" else near_one
        return [np.concatenate([x, near_one, subnormal, below])]
    if name == "pow":
        x = np.abs(spread(dtype, tiny, largest, count, rng))
        near_one = (1 + spread(dtype, 1e-7, 0.9, count, rng)).astype(dtype)
        x = np.concatenate([x, near_one])
        top = 1030 if double else 130
        target = rng.uniform(-top, top, x.size)
        with np.errstate(all="ignore"):
            y = np.where(x == 1, 1, target / np.log2(x.astype(np.float64)))
        y = np.clip(y, -largest, largest).astype(dtype)
        whole = rng.integers(-9, 9, x.size).astype(dtype)
        return [np.concatenate([x, -x]), np.concatenate([y, whole])]
    arity = formulas.FUNCTIONS[name].arity
    root = math.sqrt(largest) if arity == 3 else largest
    return [spread(dtype, tiny, root, count, rng) for _ in range(arity)]


# Tests ------------------------------------------------------------------------------------------


@both_precisions
@pytest.mark.parametrize("name", MEASURED)
def test_error_is_within_the_stated_bound(name, dtype):
    if dtype is np.float64 and np.finfo(np.longdouble).nmant < 63:
        pytest.skip("the reference needs a long double of 64 bits of precision")
    inputs = inputs_of(name, dtype)
    got, want = evaluate(name, *inputs), exact(name, *inputs)
    error = ulp_error(got, want)
    normal = ~(np.abs(want) < np.finfo(dtype).tiny)
    bound = formulas.FUNCTIONS[name]
    stated = bound.ulp_f32 if dtype is np.float32 else bound.ulp_f64
    worst = int(np.argmax(np.where(normal, error, 0)))
    at = [x[worst] for x in inputs]
    # The reference is rounded too: by 2^-11 ulp in extended precision.
    assert error[worst] <= stated + 2**-11, (name, at, got[worst], want[worst])
    assert error[worst] >= stated / 2, f"the stated bound of {name} is far too loose"
    flushed = (got == 0) & (name == "sigmoid")
    assert np.all(normal | flushed | (error <= stated)), "subnormal results"


@both_precisions
def test_fma_rounds_once(dtype):
    inputs = inputs_of("fma", dtype, count=1000)
    exact_sums = [
        Fraction(a) * Fraction(b) + Fraction(c) for a, b, c in zip(*(x.tolist() for x in inputs))
    ]
    error = [
        abs(Fraction(float(got)) - want) / Fraction(float(np.spacing(np.abs(got))))
        for got, want in zip(evaluate("fma", *inputs), exact_sums)
    ]
    assert max(error) <= formulas.FUNCTIONS["fma"].ulp_f64


@both_precisions
@pytest.mark.parametrize("name", EXACT)
def test_exact_functions_equal_numpy(name, dtype):
    ties = dtype([0.5, -0.5, 1.5, 2.5, -0.0, 0, INF, -INF, NAN])
    inputs = [np.concatenate([x, ties]) for x in inputs_of(name, dtype)]
    got = evaluate(name, *inputs)
    want = exact(name, *inputs).astype(dtype)
    np.testing.assert_array_equal(got, want)
    finite = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[finite]), np.signbit(want[finite]))


SPECIALS = [0.0, -0.0, 1.0, -1.0, INF, -INF, NAN]
PI = math.pi
# Results at SPECIALS; the sign of zero counts.
AT_SPECIALS = {
    "exp": [1, 1, math.e, 1 / math.e, INF, 0.0, NAN],
    "exp2": [1, 1, 2, 0.5, INF, 0.0, NAN],
    "expm1": [0.0, -0.0, math.expm1(1), math.expm1(-1), INF, -1, NAN],
    "log": [-INF, -INF, 0.0, NAN, INF, NAN, NAN],
    "log1p": [0.0, -0.0, math.log(2), -INF, INF, NAN, NAN],
    "log2": [-INF, -INF, 0.0, NAN, INF, NAN, NAN],
    "sqrt": [0.0, -0.0, 1, NAN, INF, NAN, NAN],
    "rsqrt": [INF, -INF, 1, NAN, 0.0, NAN, NAN],
    "sin": [0.0, -0.0, math.sin(1), -math.sin(1), NAN, NAN, NAN],
    "cos": [1, 1, math.cos(1), math.cos(1), NAN, NAN, NAN],
    "tan": [0.0, -0.0, math.tan(1), -math.tan(1), NAN, NAN, NAN],
    "asin": [0.0, -0.0, PI / 2, -PI / 2, NAN, NAN, NAN],
    "acos": [PI / 2, PI / 2, 0.0, PI, NAN, NAN, NAN],
    "atan": [0.0, -0.0, PI / 4, -PI / 4, PI / 2, -PI / 2, NAN],
    "sinh": [0.0, -0.0, math.sinh(1), -math.sinh(1), INF, -INF, NAN],
    "cosh": [1, 1, math.cosh(1), math.cosh(1), INF, INF, NAN],
    "tanh": [0.0, -0.0, math.tanh(1), -math.tanh(1), 1, -1, NAN],
    "asinh": [0.0, -0.0, math.asinh(1), -math.asinh(1), INF, -INF, NAN],
    "acosh": [NAN, NAN, 0.0, NAN, INF, NAN, NAN],
    "atanh": [0.0, -0.0, INF, -INF, NAN, NAN, NAN],
    "erf": [0.0, -0.0, math.erf(1), -math.erf(1), 1, -1, NAN],
    "normal_area": [0.0, -0.0, math.erf(0.5**0.5) / 2, -math.erf(0.5**0.5) / 2, 0.5, -0.5, NAN],
    "sigmoid": [0.5, 0.5, 1 / (1 + math.exp(-1)), 1 / (1 + math.e), 1, 0.0, NAN],
}


@both_precisions
@pytest.mark.parametrize("name", AT_SPECIALS)
def test_special_values(name, dtype):
    got, want = evaluate(name, dtype(SPECIALS)), dtype(AT_SPECIALS[name])
    np.testing.assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps, atol=0)
    finite = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[finite]), np.signbit(want[finite]))


@both_precisions
def test_pow_special_cases_are_those_of_ieee(dtype):
    values = dtype([0.0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 2.5, 1e30, -1e30, INF, -INF, NAN])
    x, y = (v.ravel() for v in np.meshgrid(values, values))
    got = evaluate("pow", x, y)
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
    np.testing.assert_allclose(got, want, rtol=2 * np.finfo(dtype).eps, atol=0)
    finite = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[finite]), np.signbit(want[finite]))


def test_pow_of_doubles_is_nearly_always_the_nearest_double():
    """So that roots of whole numbers, truncated, are what others have: 27^(1/3 in f32) is 3."""
    third = float(np.float32(1 / 3))
    for q, root in [(1 / 2, 2), (third, 3), (1 / 4, 4), (1 / 5, 5), (1 / 3, 3)]:
        base = np.arange(1, 1000, dtype=np.float64)
        x = base[base**root < 2**53] ** root
        got, want = evaluate("pow", x, np.full_like(x, q)), [math.pow(v, q) for v in x]
        np.testing.assert_array_equal(np.trunc(got), np.trunc(want))
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0.01, 100, 20_000), rng.uniform(-8, 8, 20_000)
    if np.finfo(np.longdouble).nmant >= 63:
        error = ulp_error(evaluate("pow", x, y), exact("pow", x, y))
        assert error.max() < 0.502


@both_precisions
@pytest.mark.parametrize("name", ["sinh", "tanh", "asin", "atan", "asinh", "atanh", "sin", "erf"])
def test_tiny_arguments_keep_their_size_and_sign(name, dtype):
    """f(x) = f'(0) x for tiny x, down to the smallest normal number."""
    tiny = np.finfo(dtype).tiny
    x = dtype([tiny, -tiny, tiny * 8, 1e-20, -1e-20])
    slope = 2 / math.sqrt(PI) if name == "erf" else 1
    np.testing.assert_allclose(evaluate(name, x), x * dtype(slope), rtol=3 * np.finfo(dtype).eps)


def test_exp_ends_in_inf_and_in_gradual_underflow():
    x = np.float32([88.72283, 88.72284, 89, 1e30, -87.4, -95, -103.9, -104, -1e30])
    with np.errstate(all="ignore"):
        want = np.exp(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(evaluate("exp", x), want, atol=2**-149, rtol=2e-7)
    assert want[3] == INF
    assert 0 < want[6] < 1e-44
    assert want[8] == 0


@both_precisions
@pytest.mark.parametrize("name", ["tanh", "erf", "normal_area", "sigmoid", "sin", "cos"])
def test_bounded_functions_stay_within_one(name, dtype):
    x = spread(dtype, 1e-6, float(np.finfo(dtype).max) / 4, 50_000, np.random.default_rng(1))
    near = np.linspace(-12, 12, 50_000, dtype=dtype)
    assert np.abs(evaluate(name, np.concatenate([x, near]))).max() <= 1


@both_precisions
@pytest.mark.parametrize("name", formulas.FUNCTIONS)
def test_lane_counts_agree_bit_for_bit(name, dtype):
    inputs = [np.concatenate([x, dtype(SPECIALS)]) for x in inputs_of(name, dtype, count=500)]
    whole = evaluate(name, *inputs, lanes=16)
    integer = np.int32 if dtype is np.float32 else np.int64
    for other in (
        evaluate(name, *inputs, lanes=None),
        evaluate(name, *inputs, lanes=8),
        evaluate(name, *inputs, lanes=3),
        evaluate(name, *inputs, lanes=16, shared=True),
    ):
        # NaN has many patterns; which one the processor forms depends on the operand order.
        number = ~np.isnan(whole)
        np.testing.assert_array_equal(np.isnan(other), ~number)
        np.testing.assert_array_equal(
            other[number].view(integer), whole[number].view(integer), strict=True
        )


def test_only_intrinsics_are_called():
    for name in formulas.FUNCTIONS:
        for element in IR_TYPE.values():
            text = str(kernel_ir(name, element, 16))
            called = set(re.findall(r"call .*?@\"?([a-z]+\.[a-z_]*)", text))
            own = {c for c in called if c.startswith("tessel.")}
            assert all(c.startswith("llvm.") for c in called - own), name
            assert own <= {f"tessel.{name}_huge", "tessel.reduce_huge"}, name
            assert " fast " not in text


def test_shared_function_is_declared_once():
    module = kernel_ir("erf", ir.DoubleType(), 8, shared=True)
    shape = ir.VectorType(ir.DoubleType(), 8)
    first = formulas.declare_as_function(module, "erf", shape)
    assert first is formulas.declare_as_function(module, "erf", shape)
    assert first.name == "tessel.erf.v8f64"
    assert first.linkage == "internal"


def test_every_function_states_its_error_and_method():
    for name, bound in formulas.FUNCTIONS.items():
        assert bound.method, name
        assert 0 <= bound.ulp_f32 <= 6, name
        assert 0 <= bound.ulp_f64 <= 4, name


def builder() -> ir.IRBuilder:
    function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), []), "f")
    return ir.IRBuilder(function.append_basic_block())


def test_wrong_name_is_refused():
    with pytest.raises(UnsupportedError, match="no vector math function 'gamma'"):
        formulas.emit(builder(), "gamma", ir.Constant(ir.FloatType(), 1.0))


def test_wrong_element_type_is_refused():
    with pytest.raises(TypeMismatch, match=r"float and double(.|\n)*received: half"):
        formulas.emit(builder(), "exp", ir.Constant(ir.HalfType(), 1.0))


def test_wrong_operands_are_refused():
    one = ir.Constant(ir.FloatType(), 1.0)
    with pytest.raises(TypeMismatch, match="pow does not take these operands"):
        formulas.emit(builder(), "pow", one)
    with pytest.raises(TypeMismatch, match="received: float, double"):
        formulas.emit(builder(), "pow", one, ir.Constant(ir.DoubleType(), 1.0))
