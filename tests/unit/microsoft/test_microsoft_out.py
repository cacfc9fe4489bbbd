"""What was read from com.microsoft's operators is written in ONNX's own, and means the same."""

import pytest
from tessel.frontends.onnx.exporter import write
from tessel.frontends.onnx.importer import read

from ...support.microsoft import compare, feeds_of, model_of, onnxruntime_of
from . import test_microsoft_attention as attention
from . import test_microsoft_experts as experts
from . import test_microsoft_float as floats
from . import test_microsoft_quant as quant
from . import test_microsoft_states as states
from . import test_microsoft_tensor as tensors

pytest.importorskip("onnxruntime", reason="the comparison needs ONNX Runtime")

ROWS = [
    *floats.PRODUCTS,
    *floats.ACTIVATIONS,
    *floats.NORMS,
    *attention.ATTENTION,
    *attention.MULTI_HEAD,
    *attention.INTEGERS,
    *attention.ROTARY,
    *attention.GROUPED,
    *quant.ELEMENTWISE,
    *quant.WINDOWS,
    *quant.PRODUCTS,
    # ONNX Runtime cannot copy integers of 4 bits
    *(r for r in quant.FEW_BITS if "u4" not in r.id and "i4" not in r.id),
    *states.CONVOLUTIONS,
    *states.ATTENTION,
    *states.NORMS,
    *tensors.ROWS,
    *experts.ROWS[:7],
]


@pytest.mark.parametrize("row", ROWS)
def test_written_in_onnx_it_means_the_same(row):
    op, inputs, outputs, options = row
    options = dict(options)
    steps = max(options.pop("_steps", 0), 1)
    rtol, atol = (max(options.pop(k, 0), d) for k, d in [("_rtol", 2e-3), ("_atol", 2e-3)])
    model = model_of(op, inputs, outputs, **options)
    written = write(read(model))
    own = {"com.microsoft"} if op == "MatMulNBits" else set()  # weights stay packed
    assert {n.domain for n in written.graph.node} <= {"", *own}
    feeds = feeds_of(model, inputs)
    got, want = (onnxruntime_of(m, feeds) for m in (written, model))
    compare(got, want, steps, rtol, atol)
