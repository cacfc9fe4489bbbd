"""Products as kernels, and whether machine code of them agrees with numpy."""

import numpy as np
from tessel.compiler.backends.llvm.schedules.contraction.schedule import ContractSchedule
from tessel.compiler.expr import expr as s
from tessel.compiler.ir.types import DTYPES

from .kernels import both, program_of, scheduled, store

RNG = np.random.default_rng(0)


def whole(shape, dtype="f32"):
    low = 0 if dtype.startswith("u") else -4
    return RNG.integers(low, 5, shape).astype(DTYPES[dtype].numpy)


def product(a, b, dtype="f32", epilogue=lambda x, i, j: x, out=None):
    """out[i, j] = epilogue(sum over k of a[i, k] * b[k, j])."""
    (m, depth), (_, n) = a.shape, b.shape

    def body(i, j):
        term = lambda k: s.cast(a[i, k], dtype) * s.cast(b[k, j], dtype)
        return epilogue(s.reduce("sum", [depth], term, dtype), i, j)

    return store((m, n), body, dtype if out is None else out)


def check(kernel, arrays, constants=(), **chosen):
    """Machine code agrees with numpy to the bit; the schedule has the attributes `chosen`."""
    plan = scheduled(program_of(kernel, arrays, constants))
    assert isinstance(plan, ContractSchedule)
    for name, value in chosen.items():
        assert getattr(plan, name) == value, (name, plan)
    received, expected = both(kernel, arrays, constants)
    np.testing.assert_array_equal(received, expected)
    return received
