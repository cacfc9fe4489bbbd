"""Attention as one kernel: what becomes one, and its machine code against numpy."""

from dataclasses import replace

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.backend import compile_program
from tessel.compiler.backends.llvm.base.target import NAMED, host
from tessel.compiler.backends.llvm.kernel.codegen import kernel_module
from tessel.compiler.backends.llvm.kernel.objects import object_code
from tessel.compiler.backends.llvm.schedules.online.schedule import OnlineSchedule
from tessel.compiler.backends.numpy import NumpyModule
from tessel.compiler.driver import Driver
from tessel.compiler.expr.expr import Axis
from tessel.compiler.ir.builder import Builder
from tessel.compiler.kernels.online import find_online
from tessel.compiler.kernels.work import flops_of
from tessel.compiler.lowering.lower import lower
from tessel.compiler.options import Options
from tessel.compiler.targets.table import open_target
from tessel.runtime.native.module import NativeModule

from ....support.kernels import NO_CACHE

RNG = np.random.default_rng(0)
LOW = -np.inf


def attention(rows, keys, depth=8, columns=None, *, mask=None, causal=False, dtype="f32", heads=3):
    """(graph, inputs, expected) of softmax(q @ kᵀ / 2 + mask) @ v. Sizes may be (name, size)."""
    columns = depth if columns is None else columns
    dim = lambda d: d[0] if isinstance(d, tuple) else d
    size = lambda d: d[1] if isinstance(d, tuple) else d
    b, arrays = Builder(), []

    def given(name, array, *shape):
        arrays.append(array)
        kind = "bool" if array.dtype == bool else dtype
        return b.input(name, f"{kind}[{','.join(str(dim(d)) for d in shape)}]")

    def tensor(name, *shape):
        array = RNG.standard_normal([size(d) for d in shape]).astype(np.dtype(dtype_name(dtype)))
        return given(name, array, *shape)

    q, k = tensor("q", 2, heads, rows, depth), tensor("k", 2, heads, keys, depth)
    v = tensor("v", 2, heads, keys, columns)
    shape, added = (2, 1, rows, keys), None
    if mask is not None:
        array = mask(*(size(d) for d in shape))
        shape = [d if n > 1 else 1 for d, n in zip(shape, array.shape)]
        added = given("mask", array, *shape)
    b.output("y", b.attention(q, k, v, added, scale=0.5, is_causal=causal))
    return b.graph, arrays, oracle(*arrays, causal=causal)


def dtype_name(dtype):
    return {"f32": "float32", "f64": "float64"}[dtype]


def oracle(q, k, v, mask=None, *, causal=False):
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * 0.5
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, LOW)
    if mask is not None:
        scores = np.where(mask, scores, LOW) if mask.dtype == bool else scores + mask
    with np.errstate(invalid="ignore"):
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
    return np.matmul(p, v)


def schedules(code) -> list:
    return [c.schedule for c in code.plan.codes.values()]


def compiled(graph, target=None):
    dynamic = any(not v.type.is_static for v in graph.inputs)
    program = lower_for_cpu(graph, dynamic)
    return program, compile_program(program, host() if target is None else target, cache=NO_CACHE)


def lower_for_cpu(graph, dynamic=False):
    return lower(graph, dynamic_shapes=dynamic, chains=True)


def check(graph, arrays, expected, rtol=1e-4, atol=1e-5):
    """One kernel, whose results are right, and the same bits on one thread and on two."""
    program, code = compiled(graph)
    (schedule,) = schedules(code)
    assert isinstance(schedule, OnlineSchedule)
    received = []
    for threads in (1, 2):
        outputs = [np.full(t.shape, 7, t.dtype.numpy) for t in program.outputs]
        received += NativeModule(code, program.outputs, {})(arrays, threads, outputs)
    np.testing.assert_array_equal(*received)
    np.testing.assert_allclose(received[0], expected, rtol=rtol, atol=atol)
    return schedule


# -- sizes ---------------------------------------------------------------------------------


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("rows", "keys"), [(12, 16), (13, 17), (24, 33), (31, 31), (97, 16), (12, 257), (193, 24)]
)
def test_rows_and_keys(rows, keys):
    check(*attention(rows, keys))


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("depth", "columns"), [(2, 4), (7, 9), (16, 15), (65, 33), (40, 72)])
def test_depth_and_columns(depth, columns):
    check(*attention(15, 49, depth, columns))


def test_many_keys_come_in_blocks():
    schedule = check(*attention(20, 700, 16, heads=1))
    assert not schedule.is_single and schedule.keys < 700


def test_f64():
    check(*attention(13, 300, 9, 11, dtype="f64"), rtol=1e-12, atol=1e-14)


# -- masks ---------------------------------------------------------------------------------


def low_at_the_end(*shape):
    mask = RNG.standard_normal(shape).astype(np.float32)
    mask[..., shape[-1] // 2 :] = LOW
    return mask


def hidden_rows(*shape):
    mask = RNG.random(shape) < 0.6
    mask[..., 0, :] = mask[..., -1, :] = False
    return mask


def first_block_hidden(*shape):
    mask = np.zeros(shape, np.float32)
    mask[..., :300] = LOW
    mask[..., 3, :] = LOW
    return mask


@pytest.mark.sweep(2)
@pytest.mark.parametrize("keys", [17, 600])
@pytest.mark.parametrize("mask", [low_at_the_end, hidden_rows, first_block_hidden])
def test_masks_and_rows_that_see_nothing(mask, keys):
    check(*attention(19, keys, mask=mask, heads=2))


def test_a_mask_of_keys_only():
    check(*attention(19, 40, mask=lambda b, h, s, t: low_at_the_end(b, 1, 1, t)))


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("rows", "keys", "mask"),
    [(40, 40, None), (300, 300, None), (300, 40, hidden_rows), (20, 600, None)],
)
def test_causal(rows, keys, mask):
    schedule = check(*attention(rows, keys, causal=True, mask=mask, heads=1))
    assert schedule.online.limit is not None


def test_scores_that_are_not_finite():
    graph, arrays, _ = attention(13, 300, heads=1)
    q, k, v = arrays
    q[0, 0, 1, 0], q[0, 0, 2, 0], k[0, 0, 5, 0] = np.nan, np.inf, 1.0
    with np.errstate(invalid="ignore"):
        check(graph, arrays, oracle(q, k, v))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_weights_that_leave_the_normal_range(dtype):
    """Scores from 0 to far below the logarithm of the smallest number."""
    graph, (q, k, v), _ = attention(12, 1200, 2, 4, dtype=dtype, heads=1)
    q[:], k[:, :, :, 1] = 2.0, 0.0
    k[:, :, :, 0] = -np.linspace(0, 1200, 1200)
    check(graph, [q, k, v], oracle(q, k, v), rtol=1e-4 if dtype == "f32" else 1e-12)


def test_weights_that_are_nan_count_as_zeros():
    b = Builder()
    q, k, v = (b.input(n, "f32[2,20,8]") for n in "qkv")
    mask = b.input("mask", "f32[20,20]")
    p = b.softmax(b.matmul(q, b.transpose(k, perm=[0, 2, 1])) * 0.5 + mask, axis=-1)
    p = b.where(b.isnan(p), b.scalar(0, p.dtype), p)
    b.output("y", b.matmul(p, v))
    arrays = [RNG.standard_normal((2, 20, 8)).astype(np.float32) for _ in "qkv"]
    arrays.append(np.zeros((20, 20), np.float32))
    arrays[-1][4] = LOW
    expected = np.nan_to_num(oracle(*arrays))
    assert (expected[:, 4] == 0).all()
    check(b.graph, arrays, expected)


# -- dynamic sizes ----------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_open_sizes(causal):
    exe = None
    for rows, keys in [(1, 1), (1, 300), (5, 16), (128, 128), (257, 513)]:
        graph, arrays, expected = attention(("S", rows), ("T", keys), causal=causal, heads=1)
        if exe is None:
            (schedule,) = schedules(compiled(graph)[1])
            assert isinstance(schedule, OnlineSchedule)
            exe = tessel.compile(graph)
        np.testing.assert_allclose(exe(*arrays), expected, rtol=1e-4, atol=1e-5)


def test_an_axis_of_one_place_that_no_index_needs():
    """An open batch where one image is expected."""
    graph, *_ = attention(14, 20, heads=1)
    kernel = kernel_of(graph)
    once = replace(kernel, axes=(Axis("i", 1), *kernel.axes))
    assert find_online(once).outer == (once.axes[0], *find_online(kernel).outer)
    twice = replace(kernel, axes=(Axis("i", 2), *kernel.axes))
    assert find_online(twice) is None


# -- what is one kernel, and what is not ---------------------------------------------------------


def grouped_queries(b, q, k, v):
    """Six heads of queries share two of keys and values."""
    spread = lambda x: b.expand(x.reshape(1, 2, 1, 20, 8), shape=[1, 2, 3, 20, 8])
    k, v = (spread(x).reshape(1, 6, 20, 8) for x in (k, v))
    return b.attention(q, k, v, scale=0.5)


def test_heads_share_keys():
    b = Builder()
    q = b.input("q", "f32[1,6,20,8]")
    k, v = (b.input(n, "f32[1,2,20,8]") for n in "kv")
    b.output("y", grouped_queries(b, q, k, v))
    arrays = [RNG.standard_normal((1, n, 20, 8)).astype(np.float32) for n in (6, 2, 2)]
    check(b.graph, arrays, oracle(arrays[0], *(np.repeat(x, 3, 1) for x in arrays[1:])))


def test_heads_are_stored_where_their_rows_are():
    graph, arrays, expected = attention(14, 20, 16)
    b = Builder()
    (y,) = b.inline(graph, [b.input(v.name, v.type).value for v in graph.inputs])
    b.output("y", y.transpose(0, 2, 1, 3).reshape(2, 14, 48))
    check(b.graph, arrays, expected.transpose(0, 2, 1, 3).reshape(2, 14, 48))


def kinds(build, *types) -> set[str]:
    b = Builder()
    b.output("y", build(b, *(b.input(f"x{i}", t) for i, t in enumerate(types))))
    return {s.name for s in schedules(compiled(b.graph)[1])}


SQUARE = ("f32[2,20,20]",) * 3


def weights(b, q, k):
    return b.softmax(b.matmul(q, b.transpose(k, perm=[0, 2, 1])), axis=-1)


def test_the_expression_decides_not_the_ops():
    def by_hand(b, q, k, v):
        z = b.tanh(b.matmul(q, b.transpose(k, perm=[0, 2, 1])))
        power = b.exp(z - b.reduce_max(z, axes=[2]))
        return b.matmul(power / b.reduce_sum(power, axes=[2]), v)

    assert kinds(by_hand, *SQUARE) == {"online"}


@pytest.mark.parametrize(
    ("build", "types"),
    [
        (lambda b, q, k, v: b.matmul(weights(b, q, k) * 2.0, v), SQUARE),
        (lambda b, q, k, v: b.matmul(b.softmax(b.matmul(q, k), axis=1), v), SQUARE),
        (lambda b, q, k, v: b.matmul(v, weights(b, q, k)), SQUARE),
        (lambda b, q, k, v: b.matmul(weights(b, q, k), v), ("f32[2,4,8]", *["f32[2,20,8]"] * 2)),
        (lambda b, q, k, v: b.matmul(weights(b, q, k), v), ("f32[2,20,8]", *["f32[2,9,8]"] * 2)),
    ],
    ids=["other weights", "other axis", "weights on the right", "few rows", "few keys"],
)
def test_others_have_scores_in_memory(build, types):
    assert "online" not in kinds(build, *types)


def test_weights_that_are_read_elsewhere_have_memory():
    def twice(b, q, k, v):
        p = weights(b, q, k)
        return b.matmul(p, v) + p

    assert "online" not in kinds(twice, *SQUARE)


def test_exact_levels_keep_the_order_of_sums():
    graph, arrays, expected = attention(20, 20)
    for options in (Options(strict=True), Options(1), Options(0)):
        code = Driver(open_target("cpu"), options).build(graph, {})
        assert "online" not in {s.name for s in schedules(code.record)}
        received = NativeModule(code.record, code.program.outputs, {})(arrays, 1)
        np.testing.assert_allclose(received[0], expected, rtol=1e-4, atol=1e-5)
    code = Driver(open_target("cpu"), Options()).build(graph, {})
    assert {s.name for s in schedules(code.record)} == {"online"}


# -- kernels -------------------------------------------------------------------------------------


def kernel_of(graph):
    (call,) = lower_for_cpu(graph).steps
    return call.kernel


def test_the_loops_mean_the_same():
    graph, arrays, expected = attention(14, 30, causal=True)
    received = NumpyModule(lower_for_cpu(graph))(arrays)
    np.testing.assert_allclose(received[0], expected, rtol=1e-4, atol=1e-5)


def test_scores_count_once():
    graph, *_ = attention(16, 32, 8)
    cells = 2 * 3 * 16 * 32
    per_cell = flops_of(kernel_of(graph)) / cells
    assert 4 * 8 < per_cell < 4 * 8 + 16


def test_what_a_causal_mask_hides():
    online = find_online(kernel_of(attention(20, 30, causal=True)[0]))
    assert online.limit is not None and online.limit.free == {online.row}
    assert find_online(kernel_of(attention(20, 30, mask=hidden_rows)[0])).limit is None


@pytest.mark.sweep(1)
@pytest.mark.parametrize("target", sorted(NAMED))
def test_every_target_has_code(target):
    _, code = compiled(attention(20, 300, causal=True, mask=hidden_rows)[0], NAMED[target])
    (kernel,) = code.plan.codes.values()
    assert object_code(kernel_module(kernel, NAMED[target]), NAMED[target])
