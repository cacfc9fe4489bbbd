"""Kernels whose stores run in order, and see what was stored before them."""

from dataclasses import replace

import numpy as np
import pytest
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.core import Axis, Buffer
from tessel.compiler.ir.types import I64, TensorType
from tessel.compiler.kernels.kernel import Kernel, Store
from tessel.compiler.kernels.simplify import merge_axes

from ...support.kernels import both, buffer_of, close, program_of, scheduled, store

X = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
A = buffer_of("a", X)


def positive_places() -> Kernel:
    """Of each row, the places of positive elements, and how many they are."""
    rows, columns = X.shape
    r, i = Axis("r", rows), Axis("i", columns)
    row, place = s.axis(r), s.axis(i)
    found, count = (Buffer(n, TensorType(I64, d)) for n, d in (("y", X.shape), ("n", (rows,))))
    far = s.minimum(s.maximum(count[row], 0), columns - 1)
    stores = (
        Store(found, (row, far), place, A[row, place] > 0),
        Store(count, (row,), count[row] + 1, A[row, place] > 0),
    )
    return Kernel("test", (r, i), stores, serial=True, apart=1)


@pytest.mark.parametrize("threads", [1, 2])
def test_stores_see_what_was_stored_before_them(threads):
    pairs = both([positive_places()], {A: X}, threads=threads)
    for received, expected in pairs:
        close(received, expected)
    (found, _), (count, _) = pairs
    for row, places, n in zip(X, found, count, strict=True):
        assert places[:n].tolist() == np.flatnonzero(row > 0).tolist()


def test_a_condition_sees_what_was_stored_before_it():
    """Each element counts until two were counted."""
    i, count = Axis("i", 30), Buffer("n", TensorType(I64, (1,)))
    here = count[(s.const(0),)]
    stores = tuple(Store(count, (s.const(0),), here + 1, here < 2) for _ in range(2))
    kernel = Kernel("test", (i,), stores, serial=True)
    ((received, expected),) = both([kernel], {})
    assert received.tolist() == expected.tolist() == [2]


def test_threads_share_the_axes_that_are_apart():
    program = program_of([positive_places()], {A: X})
    plan = scheduled(program)
    assert (plan.units, [i.extent for i in plan.row]) == (40, [30])
    assert "for i0<40, i1<30, of which 1 apart" in program.steps[0].kernel.text()


def test_axes_that_are_apart_are_merged_among_themselves():
    x = X.reshape(5, 8, 6, 5)
    a = buffer_of("a", x)
    kernel = replace(store(x.shape, lambda *i: a[i] + 1.0), serial=True, apart=2)
    merged = merge_axes(kernel)
    assert ([i.extent for i in merged.axes], merged.apart) == ([40, 30], 1)
    close(*both(kernel, {a: x}))
