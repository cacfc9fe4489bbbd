"""Loops that read more weights than a cache holds read them forwards and backwards in turn."""

from dataclasses import replace

import llvmlite.ir as ir
import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.program.entry import build_plan, main_module
from tessel.compiler.ir.builder import Builder

from ....support.kernels import native

RNG = np.random.default_rng(0)
SMALL = replace(host(), l2=256 << 10)
X = RNG.standard_normal((7, 1, 40)).astype(np.float32)


def program(hidden: int):
    """Seven steps of an LSTM, whose weights are 16 * hidden² bytes."""
    b = Builder()
    w, r = (RNG.standard_normal((1, 4 * hidden, k)).astype("f4") * 0.1 for k in (40, hidden))
    x = b.input("x", "f32[7,1,40]")
    y, *_ = b.lstm(x, b.constant(w), b.constant(r), hidden_size=hidden)
    b.output("y", y)
    return tessel.compile(b.graph).specializations[0].program


def sweeps(program, target) -> bool:
    module: ir.Module = main_module(build_plan(program, target), target)
    return "sweep" in str(module)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_order_of_reading_changes_no_bit(threads):
    p = program(256)
    assert sweeps(p, SMALL)
    assert not sweeps(p, replace(host(), l2=8 << 20))
    (small,) = native(p, SMALL)([X], threads)
    (large,) = native(p, replace(host(), l2=8 << 20))([X], 1)
    assert small.tobytes() == large.tobytes()


def test_weights_that_stay_in_the_cache_are_read_in_one_piece():
    assert not sweeps(program(64), SMALL)
