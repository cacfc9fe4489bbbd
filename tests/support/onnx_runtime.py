"""One node in ONNX Runtime, and in our numpy references."""

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from tessel.compiler.ir.op import OPS
from tessel.compiler.ir.types import dtype_of

ort = pytest.importorskip("onnxruntime", reason="the comparison needs ONNX Runtime")

OPSETS = [
    helper.make_opsetid("", 21),
    helper.make_opsetid("com.microsoft", 1),
    helper.make_opsetid("ai.onnx.ml", 3),
]


def onnx_results(op_type, inputs, count, domain="", reference=False, **attrs):
    """The node's outputs by ONNX Runtime, or by onnx's reference."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    outputs = [f"y{i}" for i in range(count)]
    node = helper.make_node(op_type, names, outputs, domain=domain, **attrs)
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, inputs)
        if x is not None
    ]
    results = [helper.make_empty_tensor_value_info(y) for y in outputs]
    graph = helper.make_graph([node], "one", given, results)
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=10)
    feeds = {n: x for n, x in zip(names, inputs) if x is not None}
    if reference:
        return ReferenceEvaluator(model).run(None, feeds)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def our_results(name, inputs, attrs):
    op = OPS[name]
    inputs = list(inputs)
    if not (op.inputs and op.inputs[-1].variadic):
        inputs += [None] * (len(op.inputs) - len(inputs))
    results = op.ref(*inputs, **op.bind(attrs, name))
    return list(results) if isinstance(results, tuple) else [results]


def compare(ours, theirs, steps=0):
    """Equal types and values; quantized ones may be `steps` apart."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        b = np.asarray(b)
        assert a.shape == b.shape
        assert dtype_of(a) == dtype_of(b)
        if a.dtype == object:
            assert a.tolist() == b.tolist()
        elif dtype_of(a).is_float:
            np.testing.assert_allclose(
                a.astype(np.float64), b.astype(np.float64), rtol=1e-4, atol=1e-5
            )
        else:
            assert np.abs(a.astype(np.int64) - b.astype(np.int64)).max(initial=0) <= steps


def case(op_type, name, inputs, ours=None, theirs=None, *, same=None, **options):
    """`same` holds attributes that both spell alike; `options` go to `onnx_results`."""
    same = same or {}
    return pytest.param(
        (op_type, inputs, (theirs or {}) | same, options),
        (name, (ours or {}) | same),
        id=f"{op_type} {same or ''}{theirs or ''}".replace(" ", ""),
    )


def check(theirs, ours, steps=0):
    (op_type, inputs, attrs, options), (name, our_attrs) = theirs, ours
    mine = our_results(name, inputs, our_attrs)
    compare(mine, onnx_results(op_type, inputs, len(mine), **options, **attrs), steps)
