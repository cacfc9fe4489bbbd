"""Contractions whose sums are cut into blocks of k, and tiles whose rows lie at computed distances.

The caches are taken to be small, so that small products are cut.
"""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.kernel.codegen import kernel_module, schedule_kernel
from tessel.compiler.backends.llvm.schedules.contraction.k_blocks import cut
from tessel.compiler.backends.llvm.schedules.contraction.schedule import ContractSchedule
from tessel.compiler.backends.llvm.schedules.contraction.tile import rounds_of
from tessel.compiler.expr import expr as s
from tessel.compiler.kernels.tiling import Tile

from ....support.kernels import both, buffer_of, native, program_of, scheduled, store
from .test_llvm_contractions import product, whole
from .test_llvm_convolutions import convolution

HOST = host()
NARROW = replace(HOST, vector_bytes=min(32, HOST.vector_bytes), registers=16)
SMALL = replace(NARROW, l1=2 << 10)
LARGE = replace(NARROW, l1=1 << 20)


def check(kernel, arrays, constants=(), **chosen):
    """The machine code of a plan that is cut agrees with numpy to the bit."""
    plan = scheduled(program_of(kernel, arrays, constants), SMALL)
    assert isinstance(plan, ContractSchedule)
    assert plan.cut
    for name, value in chosen.items():
        assert getattr(plan, name) == value, (name, plan)
    received, expected = both(kernel, arrays, constants, SMALL)
    np.testing.assert_array_equal(received, expected)


# -- blocks ----------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(1, 60))
def test_blocks_are_all_of_k_once_and_in_order(extents, limit):
    strides = [prod(extents[i + 1 :]) for i in range(len(extents))]
    c = cut(list(zip(extents, strides)), limit)
    pieces = [c.piece] * c.whole + ([c.rest] if c.rest else [])
    assert sum(pieces) == extents[len(c.outer)]
    assert (*c.outer, (sum(pieces), c.stride), *c.inner) == tuple(zip(extents, strides))
    assert max(pieces) * c.inside <= max(limit, 1)


def test_blocks_are_even_where_they_can_be():
    assert cut([(3072, 1)], 213).piece == 192
    assert cut([(3072, 1)], 213).rest == 0
    assert cut([(3, 900), (192, 1)], 213).outer == ()
    assert cut([(3, 900), (768, 1)], 213).outer == ((3, 900),)


# -- machine code ----------------------------------------------------------------------------------


@given(m=st.integers(24, 50), n=st.integers(16, 120), k=st.integers(100, 400), packed=st.booleans())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_products_in_blocks(m, n, k, packed):
    x, w = whole((m, k)), whole((k, n))
    a, b = buffer_of("a", x), buffer_of("b", w)
    check(product(a, b), {a: x, b: w}, [b] if packed else ())


@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_blocks_give_the_bits_of_whole_sums(dtype):
    rng = np.random.default_rng(0)
    x, w = (
        rng.standard_normal(shape).astype(dtype.replace("f", "float"))
        for shape in ((40, 300), (300, 50))
    )
    a, b = buffer_of("a", x), buffer_of("b", w)
    program = program_of(product(a, b, dtype), {a: x, b: w}, [b])
    assert scheduled(program, SMALL).cut
    assert not scheduled(program, LARGE).cut
    small, large = (native(program, t)([x], 1)[0] for t in (SMALL, LARGE))
    assert small.tobytes() == large.tobytes()


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_that_share_blocks_give_the_same_bits(threads):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype("f4") for shape in ((90, 300), (300, 500)))
    a, b = buffer_of("a", x), buffer_of("b", w)
    module = native(program_of(product(a, b), {a: x, b: w}, [b]), SMALL)
    module.code.parallel = True
    assert module([x], threads)[0].tobytes() == module([x], 1)[0].tobytes()


def test_an_epilogue_follows_the_last_block():
    x, w = whole((30, 250)), whole((250, 70))
    c = whole((30, 70))
    a, b, d = buffer_of("a", x), buffer_of("b", w), buffer_of("d", c)
    kernel = product(a, b, epilogue=lambda v, i, j: s.maximum(v + d[i, j], 0.0))
    check(kernel, {a: x, b: w, d: c}, [b])


def test_operands_that_are_copied_first():
    """Halves are widened into scratch memory, beside the sums that wait there."""
    x, w = whole((30, 250), "f16"), whole((250, 70), "f16")
    a, b = buffer_of("a", x), buffer_of("b", w)
    check(product(a, b), {a: x, b: w}, [b], a="pack")
    check(product(a, b), {a: x, b: w}, a="pack", b="pack")


@pytest.mark.parametrize(("size", "channels"), [(9, 40), (7, 8), (14, 33)])
def test_convolutions_are_cut_between_and_within_their_lines(size, channels):
    x, w = whole((2, size, size, channels)), whole((3, 3, channels, 40))
    a, b = buffer_of("a", x), buffer_of("b", w)
    check(convolution(a, b), {a: x, b: w}, [b])


def test_batches_in_blocks():
    x, w = whole((3, 30, 250)), whole((3, 250, 40))
    a, b = buffer_of("a", x), buffer_of("b", w)
    body = lambda i, m, n: s.reduce("sum", [250], lambda k: a[i, m, k] * b[i, k, n])
    check(store((3, 30, 40), body), {a: x, b: w}, [b])
    check(store((3, 30, 40), body), {a: x, b: w})


@pytest.mark.skipif(not HOST.triple.startswith("x86_64"), reason="pairs are x86's")
@pytest.mark.parametrize("depth", [500, 501])
def test_pairs_of_bytes_in_blocks(depth):
    x, w = whole((30, depth), "u8"), whole((depth, 40), "u8")
    a, b = buffer_of("a", x), buffer_of("b", w)
    check(product(a, b, "i32"), {a: x, b: w}, [b], pairs=True)


@pytest.mark.parametrize(
    ("extents", "expected"), [([], 1), ([96], 24), ([7], 2), ([3, 96], 72), ([2, 3, 1], 6)]
)
def test_rounds_of_a_tile_are_counted(extents, expected):
    """Up to 64 multiply-adds are written out: 5 steps of k, or 4 where these leave none."""
    assert rounds_of([(n, 1) for n in extents], Tile(4, 3)) == expected


def test_tiles_fetch_what_follows_in_their_loops():
    """A line per round: many at once would hold up what a tile loads."""
    x, w = whole((30, 500)), whole((500, 40))
    a, b = buffer_of("a", x), buffer_of("b", w)
    (call,) = program_of(product(a, b), {a: x, b: w}, [b]).steps
    weights = frozenset([call.kernel.inputs[1]])
    code = schedule_kernel(call.kernel, SMALL, weights, False)
    assert code.schedule.cut
    function = kernel_module(code, SMALL).get_global(code.name)
    loops = [block for block in map(str, function.blocks) if "llvm.prefetch" in block]
    assert loops
    for block in loops:
        assert "llvm.fmuladd" in block
        assert block.count("llvm.prefetch") == 1


def test_few_rows_are_not_worth_blocks():
    x, w = whole((6, 500)), whole((500, 40))
    a, b = buffer_of("a", x), buffer_of("b", w)
    assert not scheduled(program_of(product(a, b), {a: x, b: w}, [b]), SMALL).cut


# -- rows at distances that are computed -----------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("width", [7, 14, 11])
def test_tiles_across_lines_are_read_in_place(width, stride):
    size = (width - 1) * stride + 3
    x, w = whole((1, size, size, 5)), whole((3, 3, 5, 48))
    a, b = buffer_of("a", x), buffer_of("b", w)
    kernel = convolution(a, b, stride=stride)
    plan = scheduled(program_of(kernel, {a: x, b: w}, [b]), NARROW)
    assert plan.tile.flat
    assert plan.a == "direct"
    received, expected = both(kernel, {a: x, b: w}, [b], NARROW)
    np.testing.assert_array_equal(received, expected)
