"""Products with weights of few bits, which stay packed: machine code against numpy."""

import numpy as np
import pytest
import tessel
from tessel.compiler.ir.builder import Builder
from tessel.compiler.lowering.expand import expand_composites
from tessel.compiler.lowering.lower import lower
from tessel.compiler.ops.quantization.blocks import pack_codes
from tessel.runtime.native.module import NativeModule

from ....guards.memory import SIDES, GuardedMemory


def graph_of(m, n, k, *, bits=4, block=32, activations="f32", zero="each", codes=None, bias=False):
    """x @ w.T of random codes; `zero` is "each" (one per block), a number or None."""
    rng = np.random.default_rng(bits)
    blocks = -(-k // block)
    b = Builder()
    x = b.input("x", f"f32[{m},{k}]")
    packed = pack_codes(rng.integers(0, 1 << bits, (n, blocks, block)), bits)
    scale = rng.uniform(0.01, 0.02, (n, blocks)).astype(np.float32)
    if zero == "each":
        zero = rng.integers(0, 1 << bits, (n, blocks))
    zero = None if zero is None else b.constant(np.asarray(zero, np.uint8))
    codes = None if codes is None else b.constant(codes)
    y = b.matmul_blocks(
        x,
        b.constant(packed),
        b.constant(scale),
        zero,
        codes,
        bits=bits,
        block=block,
        activations=activations,
    )
    b.output("y", b.tanh(y + b.constant(scale[:, 0])) if bias else y)
    return b.graph


def run(graph, x, **options):
    return tessel.compile(graph, **options)(x)


def rows(m, k):
    return np.random.default_rng(m).normal(size=(m, k)).astype(np.float32)


def check(graph, x, **options):
    expected = run(graph, x, target="numpy")
    received = run(graph, x, **options)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activations", ["f32", "int8"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8])
def test_each_number_of_bits(bits, activations):
    check(graph_of(3, 33, 96, bits=bits, activations=activations), rows(3, 96))


@pytest.mark.parametrize("activations", ["f32", "int8"])
@pytest.mark.parametrize(
    ("m", "n", "k", "block"),
    [
        (1, 1, 32, 32),
        (1, 7, 64, 16),
        (1, 40, 128, 128),
        (2, 8, 64, 32),
        (5, 17, 96, 32),
        (13, 31, 40, 16),
        (7, 16, 20, 20),
        (4, 24, 256, 256),
        (1, 33, 24, 8),
    ],
)
def test_sizes(m, n, k, block, activations):
    check(graph_of(m, n, k, block=block, activations=activations), rows(m, k))


@pytest.mark.parametrize("activations", ["f32", "int8"])
@pytest.mark.parametrize("zero", [None, 8, 3])
def test_one_zero_point(zero, activations):
    check(graph_of(3, 20, 64, zero=zero, activations=activations), rows(3, 64))


def test_a_table_of_codes():
    table = np.sort(np.random.default_rng(0).normal(size=16)).astype(np.float32)
    check(graph_of(5, 20, 64, zero=None, codes=table), rows(5, 64))


def test_what_follows_runs_in_the_epilogue():
    graph = graph_of(5, 40, 64, bias=True)
    check(graph, rows(5, 64))
    assert len(list(lower(expand_composites(graph)).kernels())) == 1


def test_open_rows():
    exe = tessel.compile(graph_of("M", 40, 64))
    known = graph_of("M", 40, 64)
    for m in (0, 1, 2, 5, 6, 7, 19):
        x = rows(m, 64)
        np.testing.assert_allclose(exe(x), run(known, x, target="numpy"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activations", ["f32", "int8"])
def test_threads_do_not_change_a_bit(activations):
    graph, x = graph_of(9, 200, 128, activations=activations), rows(9, 128)
    one, two = (run(graph, x, threads=t) for t in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_infinite_and_not_a_number():
    x = rows(4, 64)
    x[0, 3], x[1, 5] = np.inf, np.nan
    received = run(graph_of(4, 20, 64, zero=None), x)
    assert not np.isfinite(received[:2]).any() and np.isfinite(received[2:]).all()


@pytest.mark.parametrize("m", [5, 6, 7, 13, 40])
@pytest.mark.parametrize(("k", "block"), [(512, 32), (768, 256), (96, 96), (1024, 1024), (40, 8)])
def test_many_rows_share_what_is_unpacked(m, k, block):
    check(graph_of(m, 35, k, block=block), rows(m, k))


def test_many_rows_of_a_table_and_of_three_bits():
    table = np.sort(np.random.default_rng(0).normal(size=16)).astype(np.float32)
    check(graph_of(9, 20, 320, zero=None, codes=table), rows(9, 320))
    check(graph_of(9, 20, 320, bits=3), rows(9, 320))


@pytest.mark.sweep(2, suite=7)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("activations", ["f32", "int8"])
@pytest.mark.parametrize("m", [1, 4, 5, 17])
def test_nothing_is_touched_beside_the_arrays(monkeypatch, m, activations, side):
    """Weights, scales and packed panels lie between guard pages as what is fed does."""
    memory = GuardedMemory(side)
    monkeypatch.setattr(NativeModule, "memory", memory)
    for n, k, bits, block in [(33, 96, 4, 32), (7, 40, 3, 16), (64, 130, 2, 64), (1, 31, 8, 31)]:
        graph = graph_of(m, n, k, bits=bits, block=block, activations=activations, bias=True)
        exe = tessel.compile(graph, threads=1, cache=False, reuse=False)
        for _ in range(2):
            exe(memory.input(rows(m, k)))
    assert memory.check() is None


@pytest.mark.parametrize(("heads", "dim", "packs"), [(6, 16, True), (4, 64, True), (4, 24, False)])
def test_columns_that_are_stored_in_groups(tmp_path, heads, dim, packs):
    """Heads of attention: results are stored transposed, and weights stay packed."""
    rng, b = np.random.default_rng(0), Builder()
    x, w = b.input("x", "f32[B,S,64]"), rng.standard_normal((64, heads * dim)).astype(np.float32)
    y = (x @ b.constant(w)).reshape(*x.shape[:2], heads, dim)
    b.output("y", y.transpose(0, 2, 1, 3) * 2.0)
    exe = tessel.compile(b.graph, threads=1, quantize="int4")
    codes = exe.for_all_sizes.code.plan.codes.values()
    assert any(code.schedule.name == "packed" for code in codes) == packs
    expected = tessel.compile(b.graph, target="numpy", quantize="int4")
    for rows in (1, 7):
        x = rng.standard_normal((2, rows, 64)).astype(np.float32)
        np.testing.assert_allclose(exe(x), expected(x), rtol=1e-4, atol=1e-4)
    exe.save(tmp_path / "m.tsl")
    anew = tessel.load(tmp_path / "m.tsl", native=False, threads=1)
    np.testing.assert_array_equal(anew(x), exe(x))
