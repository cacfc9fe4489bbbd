"""Caches that a run updates in place: only the new rows are stored, and all others stay."""

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.program.entry import build_plan
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dim_parse import parse_dim
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.kernels.bind import bind
from tessel.compiler.lowering.lower import lower
from tessel.compiler.passes.base import run_pipeline
from tessel.compiler.pipelines import cpu_pipeline

from ...support.growth import executed

TARGET = NAMED["x86-64-v3"]
SIZES = (1 << 8, 1 << 12, 1 << 16)
B, H, D = 2, 3, 4


def decoder(dtype: str, size, *, circular: bool = False, rows=1):
    """A cache of `size` places, which is updated, and what attends to it."""
    b = Builder()
    cache = b.input("cache", f"{dtype}[{B},{H},{size},{D}]")
    new = b.input("new", f"{dtype}[{B},{H},{rows},{D}]")
    at = b.input("at", f"i64[{B}]")
    cache = b.cache_update(cache, new, at, circular=circular)
    b.output("present", cache)
    b.output("seen", b.reduce_sum(cache.cast("f32"), axes=(2,)))
    b.graph.updates = {0: 0}
    return b.graph


# name -> (the result of n elements, its type)
WRITES = {
    "cache_update": lambda b, n: b.cache_update(
        b.input("x", f"f32[1,2,{n},8]"), b.input("u", "f32[1,2,1,8]"), b.input("at", "i64[1]")
    ),
    "cache_update circular": lambda b, n: b.cache_update(
        b.input("x", f"f32[2,{n},8]"),
        b.input("u", "f32[2,3,8]"),
        b.input("at", "i64[2]"),
        circular=True,
    ),
    "cache_update f16": lambda b, n: b.cache_update(
        b.input("x", f"f16[1,2,{n},8]"), b.input("u", "f16[1,2,1,8]"), b.input("at", "i64[1]")
    ),
    "cache_update of the last axis": lambda b, n: b.cache_update(
        b.input("x", f"i8[2,{n}]"), b.input("u", "i8[2,3]"), axis=1
    ),
    "cache_update of a view": lambda b, n: b.cache_update(
        b.input("x", f"f32[{n},8]").reshape(1, n, 8),
        b.input("u", "f32[1,1,8]"),
        b.input("at", "i64[1]"),
    ).reshape(n, 8),
    "scatter_elements": lambda b, n: b.scatter_elements(
        b.input("x", f"f32[{n}]"), b.input("i", "i64[5]"), b.input("u", "f32[5]"), axis=0
    ),
    "scatter_nd": lambda b, n: b.scatter_nd(
        b.input("x", f"bf16[{n},3]"), b.input("i", "i64[5,1]"), b.input("u", "bf16[5,3]")
    ),
    "scatter_nd that adds": lambda b, n: b.scatter_nd(
        b.input("x", f"f32[{n},3]"),
        b.input("i", "i64[5,1]"),
        b.input("u", "f32[5,3]"),
        reduction="add",
    ),
}


def updating(name, n):
    b = Builder()
    b.output("y", WRITES[name](b, n))
    b.graph.updates = {0: 0}
    return run_pipeline(b.graph, cpu_pipeline())


@pytest.mark.parametrize("name", WRITES)
def test_the_work_of_an_update_does_not_grow_with_what_it_updates(name):
    graphs = [updating(name, n) for n in SIZES]
    counts = [executed(lower(g), TARGET, g.updates) for g in graphs]
    assert max(counts) <= counts[0] and counts[0] > 0


@pytest.mark.parametrize("name", WRITES)
def test_nor_where_sizes_are_open(name):
    graph = updating(name, parse_dim("N"))
    program = lower(graph, dynamic_shapes=True)
    counts = [executed(bind(program, {"N": n}), TARGET, graph.updates) for n in SIZES]
    assert max(counts) <= counts[0] and counts[0] > 0


def test_what_is_not_updated_in_place_is_copied():
    graph = updating("cache_update", 1 << 12)
    assert executed(lower(graph), TARGET) > (1 << 12)
    assert len(build_plan(lower(graph), TARGET, {}).steps) == 2


@pytest.mark.parametrize("target", ["cpu", "numpy"])
@pytest.mark.parametrize("dtype", ["f32", "f16", "i8"])
@pytest.mark.parametrize(("circular", "size"), [(False, 9), (True, 9), (False, "T"), (True, "T")])
def test_a_bound_cache_over_many_steps(target, dtype, circular, size):
    graph = decoder(dtype, size, circular=circular)
    exe = tessel.compile(graph, target=target, threads=1, verify_bounds=True)
    random = np.random.default_rng(0)

    def values(*shape):
        return random.integers(-9, 9, shape).astype(exe.inputs[0].dtype)

    expected = values(B, H, 9, D)
    cache = exe.bind("cache", expected)
    for step in range(7):
        new, at = values(B, H, 1, D), np.array([step, 8 + step * 3 if circular else 8 - step])
        expected, seen = interpret(graph, [expected, new, at])
        found = exe.run({"new": new, "at": at})
        np.testing.assert_array_equal(cache, expected)
        np.testing.assert_allclose(found["seen"], seen, rtol=1e-6)
        assert list(found) == ["seen"]


@pytest.mark.parametrize("target", ["cpu", "numpy"])
@pytest.mark.parametrize("at", [-5, -1, 0, 7, 8, 9, 1 << 40, -(1 << 63), (1 << 63) - 1])
def test_what_lies_outside_is_left_out(target, at):
    graph = decoder("f32", 9, rows=3)
    exe = tessel.compile(graph, target=target, threads=1, unchecked=True)
    old, new = np.zeros((B, H, 9, D), np.float32), np.ones((B, H, 3, D), np.float32)
    cache = exe.bind("cache", old)
    exe.run({"new": new, "at": np.array([at, 0])})
    inside = [t for t in range(9) if at <= t < at + 3]
    assert np.flatnonzero(cache[0, 0, :, 0]).tolist() == inside
    assert np.flatnonzero(cache[1, 0, :, 0]).tolist() == [0, 1, 2]


# what still needs the old cache, so that the update is made elsewhere and copied
OLD = {
    "it is read later": lambda b, x, u, at: [
        y := b.cache_update(x, u, at),
        (y, b.reduce_sum(y, axes=(1,)) * x),
    ][1],
    "the new rows follow from it": lambda b, x, u, at: (
        b.cache_update(x, u + b.reduce_sum(x, axes=(1,)), at),
        u,
    ),
    "the place follows from it": lambda b, x, u, at: (
        b.cache_update(x, u, at + b.reduce_max(x, axes=(1, 2), keepdims=False).cast("i64")),
        u,
    ),
    "it is turned round": lambda b, x, u, at: (b.cache_update(b.reverse(x, axes=(1,)), u, at), u),
    "another is updated by it": lambda b, x, u, at: (
        b.cache_update(b.cache_update(x, u, at), u * 2.0, at + 1),
        x * 3.0,
    ),
}


@pytest.mark.parametrize("name", OLD)
@pytest.mark.parametrize("threads", [1, 2])
def test_an_update_that_still_needs_old_values(name, threads):
    b = Builder()
    x, u, at = b.input("x", "f32[2,6,3]"), b.input("u", "f32[2,1,3]"), b.input("at", "i64[2]")
    for i, y in enumerate(OLD[name](b, x, u, at)):
        b.output(f"y{i}", y)
    random = np.random.default_rng(1)
    arrays = [random.integers(0, 3, t.type.shape).astype(t.type.dtype.numpy) for t in (x, u, at)]
    expected = interpret(b.graph, arrays)
    b.graph.updates = {0: 0}
    exe = tessel.compile(b.graph, threads=threads, unchecked=True)
    cache = exe.bind("x", arrays[0])
    found = exe.run({"u": arrays[1], "at": arrays[2]})
    np.testing.assert_array_equal(cache, expected[0])
    np.testing.assert_array_equal(found["y1"], expected[1])
