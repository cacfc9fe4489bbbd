"""Every op with dynamic dims: its record's samples, their dims made symbols, equal to the
reference.

Where an op has to know its sizes, the executable says so in a note, and compiles for each.
"""

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import TesselError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.op import OPS
from tessel.compiler.ir.types import TensorType, dtype_of


def opened(op, sample):
    """The graph of a sample whose sizes are symbols (equal ones the same), and its arrays; None
    where shapes do not follow without numbers, and where there is nothing to open."""
    arrays = [x for x in sample.inputs if x is not None]
    plain = all(isinstance(x, np.ndarray) and x.size for x in arrays)
    if not plain or not any(d > 1 for x in arrays for d in x.shape):
        return None
    b = Builder()
    operands = []
    for i, x in enumerate(sample.inputs):
        if x is None:
            operands.append(None)
            continue
        shape = [Sym.named(f"d{d}") if d > 1 else d for d in x.shape]
        operands.append(b.input(f"x{i}", TensorType(dtype_of(x), tuple(shape))))
    try:
        results = b.emit(op.name, *operands, **sample.attrs)
    except (TesselError, TypeError):
        return None
    for i, y in enumerate(results if isinstance(results, tuple) else (results,)):
        b.output(f"y{i}", y)
    return b.graph, arrays


@pytest.mark.slow
@pytest.mark.sweep(4, suite=70)
@pytest.mark.parametrize("name", sorted(OPS))
def test_samples_with_dynamic_dims(name):
    tried = 0
    for sample in OPS[name].samples():
        made = opened(OPS[name], sample)
        if made is None:
            continue
        graph, arrays = made
        exe = tessel.compile(graph, threads=1, cache=False)
        if exe.for_all_sizes is None:
            assert not graph.symbols() or any("each combination of sizes" in n for n in exe.notes)
            continue
        received = exe.run({v.name: x for v, x in zip(graph.inputs, arrays)}).values()
        tried += exe.specializations[-1].is_dynamic
        for y, wanted in zip(received, interpret(graph, arrays), strict=True):
            if isinstance(wanted, list):  # maps
                assert y == wanted
                continue
            assert (y.dtype, y.shape) == (wanted.dtype, wanted.shape)
            if y.dtype.kind in "fV":
                y, wanted = y.astype(np.float64), wanted.astype(np.float64)
            rtol, atol = max(sample.rtol, 1e-4), max(sample.atol, 1e-4)
            np.testing.assert_allclose(y, wanted, rtol=rtol, atol=atol)
    if not tried:
        pytest.skip("its sizes have to be known")
