"""Halves in com.microsoft's operators, as files for GPUs have them.

ONNX Runtime has no such kernels on CPUs: results are compared with our own in f32, which other
tests compare with it.
"""

import ml_dtypes
import numpy as np
import pytest

from ...support.microsoft import run
from . import test_microsoft_attention as attention
from . import test_microsoft_float as floats
from . import test_microsoft_quant as quant
from . import test_microsoft_states as states

pytest.importorskip("onnxruntime", reason="the tables of these operators need ONNX Runtime")

# Integers stay; of what is quantised, scales that ONNX wants in f32 stay too.
ROWS = (
    floats.PRODUCTS[:13]
    + floats.PRODUCTS[14:19]
    + floats.ACTIVATIONS
    + [r for r in floats.NORMS if "f16" not in r.id and "_domain" not in r.values[0][3]]
    + attention.ATTENTION
    + [r for r in attention.MULTI_HEAD if "scores" not in r.id]
    + [r for r in attention.ROTARY + attention.MULTIMODAL + attention.GROUPED if "f16" not in r.id]
    + [r for r in quant.FEW_BITS if "f16" not in r.id]
    + states.CONVOLUTIONS
    + states.ATTENTION
)


@pytest.mark.sweep(60, suite=60)
@pytest.mark.parametrize("row", ROWS)
def test_halves_are_near_floats(row):
    check(row, np.float16)


@pytest.mark.parametrize("row", ROWS[::5])
def test_short_floats_are_near_floats(row):
    check(row, ml_dtypes.bfloat16)


def check(row, dtype):
    op, inputs, outputs, options = row
    options = {k: v for k, v in options.items() if k not in ("_rtol", "_atol", "_steps")}
    narrow = [x.astype(dtype) if x is not None and x.dtype.kind == "f" else x for x in inputs]
    as_floats = [
        n.astype(x.dtype) if x is not None and x.dtype.kind == "f" else x
        for n, x in zip(narrow, inputs)
    ]
    got = run(op, *narrow, outputs=outputs, **options)
    want = run(op, *as_floats, outputs=outputs, **options)
    step = 2.0 ** (-10 if dtype == np.float16 else -7)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        if w.dtype.kind != "f":
            np.testing.assert_array_equal(g, w)
            continue
        assert g.dtype == dtype
        top = float(np.abs(w).max(initial=0))
        np.testing.assert_allclose(g.astype(w.dtype), w, rtol=4 * step, atol=4 * step * top)
