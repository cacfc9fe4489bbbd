"""One node of a contrib domain, run by ONNX Runtime and compiled by tessel."""

import numpy as np
import onnx
import pytest
import tessel
from onnx import helper, numpy_helper
from tessel.compiler.ir.types import dtype_of

MICROSOFT = "com.microsoft"


def f(*shape, seed=0, dtype=np.float32, scale=1.0) -> np.ndarray:
    """Normal numbers."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def q(*shape, seed=0, dtype=np.uint8) -> np.ndarray:
    """Uniform integers over the whole range of the type."""
    info = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def scale(*values) -> np.ndarray:
    return np.array(values[0] if len(values) == 1 else values, np.float32)


def zero(*values, dtype=np.uint8) -> np.ndarray:
    return np.array(values[0] if len(values) == 1 else values, dtype)


def case(op, *inputs, outputs=1, name="", **options):
    """A row of a table: the operator, its inputs (None: absent), how many outputs, attributes.

    `_domain`, `_opset`, `_weights` (indices of inputs that are initializers), `_types` (ONNX's
    element types of outputs, where ONNX Runtime does not infer them), `_rtol`, `_atol` and
    `_steps` (how far quantized results may be apart) are options of the comparison.
    """
    label = name or ",".join(
        f"{k}={v}" for k, v in options.items() if not k.startswith("_")
    ).replace(" ", "")
    return pytest.param((op, inputs, outputs, options), id=f"{op}-{label}" if label else op)


def model_of(
    op,
    inputs,
    outputs=1,
    *,
    _domain=MICROSOFT,
    _opset=21,
    _weights=(),
    _types=None,
    **attrs,
):
    """The model of one node; `outputs` is their number or their names ("": absent)."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
    node = helper.make_node(op, names, results, domain=_domain, name="node", **attrs)
    given, initializers = [], []
    for i, (n, x) in enumerate(zip(names, inputs)):
        if x is None:
            continue
        element = helper.np_dtype_to_tensor_dtype(x.dtype)
        if i in _weights:
            initializers.append(numpy_helper.from_array(x, n))
        else:
            given.append(helper.make_tensor_value_info(n, element, x.shape))
    types = _types or [None] * len(results)
    infos = [
        helper.make_tensor_value_info(r, t, None) if t else helper.make_empty_tensor_value_info(r)
        for r, t in zip(results, types)
        if r
    ]
    graph = helper.make_graph([node], "one", given, infos, initializers)
    opsets = [helper.make_opsetid("", _opset), helper.make_opsetid(MICROSOFT, 1)]
    if _domain not in ("", MICROSOFT):
        opsets.append(helper.make_opsetid(_domain, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def onnxruntime_of(model: onnx.ModelProto, feeds: dict) -> list[np.ndarray]:
    """What ONNX Runtime makes of it, as the file says: its optimiser is off."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def check(op, inputs, outputs, options):
    """The compiled node's results are ONNX Runtime's."""
    options = dict(options)
    steps, rtol, atol = (options.pop(k, 0) for k in ("_steps", "_rtol", "_atol"))
    keep = options.pop("_keep", None)
    model = model_of(op, inputs, outputs, **options)
    feeds = feeds_of(model, inputs)
    want = onnxruntime_of(model, feeds)
    got = tessel.compile(model, threads=1).run(feeds)
    compare(list(got.values()), want, steps, rtol, atol, keep)


def compare(got, want, steps=0, rtol=0.0, atol=0.0, keep=None):
    """Equal dtypes, shapes and numbers; `keep` picks what both are compared in."""
    assert len(got) == len(want)
    for g, w in zip(got, want):
        assert (g.dtype, g.shape) == (w.dtype, w.shape)
        if keep is not None:
            g, w = keep(g), keep(w)
        if dtype_of(w).is_float:
            narrow = w.dtype.itemsize < 4
            g, w = g.astype(np.float64), w.astype(np.float64)
            r = rtol or (4e-3 if narrow else 1e-4)
            np.testing.assert_allclose(g, w, rtol=r, atol=atol or (4e-3 if narrow else 1e-5))
        else:
            apart = np.abs(g.astype(np.int64) - w.astype(np.int64)).max(initial=0)
            assert apart <= steps, f"{apart} steps apart"


def run(op, *inputs, outputs=1, **options) -> list[np.ndarray]:
    """The compiled node's results."""
    model = model_of(op, inputs, outputs, **options)
    return list(tessel.compile(model, threads=1).run(feeds_of(model, inputs)).values())


def feeds_of(model: onnx.ModelProto, inputs) -> dict[str, np.ndarray]:
    """What of `inputs` is not a weight of the model, by name."""
    given = {v.name for v in model.graph.input}
    return {f"x{i}": x for i, x in enumerate(inputs) if f"x{i}" in given}
