"""Normalisations, recurrent, quantised and classical ops, and regions in ONNX."""

import math

import numpy as np
from onnx import helper

from ....compiler.errors import UnsupportedError
from ....compiler.ir.dims import Sym, is_static
from ....compiler.ir.graph import Node
from ....compiler.ir.types import BOOL, I64, TensorType
from ..file.proto import ELEMENT_TYPE_OF
from .common import around, operands, plain, results
from .writer import Writer, type_proto

ML = "ai.onnx.ml"


def layer_norm(w: Writer, node: Node):
    """ONNX needs the scale."""
    x, scale, bias = [*operands(w, node), "", ""][:3]
    axis = node.attrs["axis"]
    rest = node.inputs[0].shape[axis:]
    if not scale:
        if not is_static(rest):
            w.expand(node)
            return
        scale = w.constant(np.ones(rest, node.outputs[0].dtype.numpy))
    attrs = {"axis": axis, "epsilon": node.attrs["epsilon"]}
    w.op("LayerNormalization", [x, scale, bias], results(w, node), **attrs)


def rms_norm(w: Writer, node: Node):
    """An operator since opset 23, which needs the scale."""
    rest = node.inputs[0].shape[node.attrs["axis"] :]
    if w.opset < 23 or not is_static(rest):
        w.expand(node)
        return
    x, *scale = operands(w, node)
    scale = scale or [w.constant(np.ones(rest, node.outputs[0].dtype.numpy))]
    attrs = {"axis": node.attrs["axis"], "epsilon": node.attrs["epsilon"]}
    w.op("RMSNormalization", [x, *scale], results(w, node), **attrs)


def attention(w: Writer, node: Node):
    """An operator since opset 23; with a mask it gives 0, not NaN, where no key counts."""
    masked = len(node.inputs) > 3
    if w.opset < 23 or masked or (node.attrs["is_causal"] and not _is_square(node)):
        w.expand(node)
        return
    attrs = {"scale": node.attrs["scale"], "is_causal": int(node.attrs["is_causal"])}
    w.op("Attention", operands(w, node), results(w, node), **attrs)


def _is_square(node: Node) -> bool:
    """As many queries as keys: readers align the causal mask of others in different ways."""
    return node.inputs[0].shape[2] == node.inputs[1].shape[2]


def batch_norm(w: Writer, node: Node):
    x, *statistics = operands(w, node)
    epsilon = node.attrs["epsilon"]

    def emit(t, outputs=1):
        return w.op("BatchNormalization", [t, *statistics], outputs, epsilon=epsilon)

    if node.attrs["channels_last"]:
        around(w, node, x, node.inputs[0].rank, emit)
    else:
        emit(x, results(w, node))


def recurrent(op_type: str, **renamed: str):
    def entry(w: Writer, node: Node):
        a = node.attrs
        attrs = {onnx_name: plain(a[ours]) for onnx_name, ours in renamed.items()}
        attrs |= {"direction": a["direction"], "hidden_size": a["hidden_size"]}
        for name in ("activations", "activation_alpha", "activation_beta"):
            attrs[name] = list(a[name]) or None
        w.op(op_type, operands(w, node), results(w, node), clip=a.get("clip"), **attrs)

    return entry


def quantize(op_type: str):
    """Without a zero point the dtype is said by `output_dtype`."""

    def entry(w: Writer, node: Node):
        plain = _plain_rule(op_type, node)
        if plain is not None:
            w.inline(node, plain)
            return
        inputs = [*operands(w, node), ""][:3]
        attrs = {"axis": node.attrs["axis"]} if node.inputs[1].rank else {}
        if node.inputs[1].rank > 1:
            attrs["block_size"] = 1
        if op_type == "QuantizeLinear" and inputs[2] == "":
            attrs["output_dtype"] = ELEMENT_TYPE_OF[node.attrs["dtype"]]
        if op_type == "QuantizeLinear" and not node.attrs["saturate"]:
            attrs["saturate"] = 0
        w.op(op_type, inputs, results(w, node), **attrs)

    return entry


def _plain_rule(op_type: str, node: Node):
    """The same by casts, where the scale's dtype is not that of the quotient or product: what
    says so in ONNX (`precision`, `output_dtype`) is newer than the operators."""
    if op_type == "QuantizeLinear":
        kind = node.attrs["precision"]
        return (
            None
            if kind is None
            else (
                lambda b, x, scale, zero, **attrs: b.quantize_linear(
                    x.cast(kind), scale.cast(kind), zero, **attrs | {"precision": None}
                )
            )
        )
    kind = node.attrs["dtype"]
    return (
        None
        if kind == node.inputs[1].dtype
        else (
            lambda b, x, scale, zero, **attrs: b.dequantize_linear(
                x, scale.cast("f32"), zero, **attrs | {"dtype": "f32"}
            ).cast(kind)
        )
    )


def qlinear_add(w: Writer, node: Node):
    """quantize(dequantize(a) + dequantize(b)): standard ONNX has no QLinearAdd."""
    a, a_scale, a_zero, b, b_scale, b_zero, c_scale, c_zero = [*operands(w, node), ""][:8]
    x = w.op("DequantizeLinear", [a, a_scale, a_zero])
    y = w.op("DequantizeLinear", [b, b_scale, b_zero])
    kind = ELEMENT_TYPE_OF[node.outputs[0].dtype]
    total = w.op("Add", [x, y])
    w.op("QuantizeLinear", [total, c_scale, c_zero], results(w, node), output_dtype=kind)


def if_(w: Writer, node: Node):
    condition, *captured = node.inputs
    branches = {
        "then_branch": w.region(node.attrs["then_graph"], 0, captured),
        "else_branch": w.region(node.attrs["else_graph"], 0, captured),
    }
    w.op("If", [w.name(condition)], results(w, node), **branches)


def scan(w: Writer, node: Node):
    a = node.attrs
    own = a["states"] + a["scans"]
    body = w.region(a["body"], own, node.inputs[own:])
    backwards = int(a["reverse"])
    stacked = len(node.outputs) - a["states"]
    attrs = {"num_scan_inputs": a["scans"]}
    if backwards:
        attrs["scan_input_directions"] = [1] * a["scans"]
        attrs["scan_output_directions"] = [1] * stacked
    w.op("Scan", [w.name(v) for v in node.inputs[:own]], results(w, node), body=body, **attrs)


def while_(w: Writer, node: Node):
    """A Loop. What we stack has a row for each turn that there may be, and ONNX's for those that
    came: the rows are states, into which each turn scatters its own."""
    n, trips = node.attrs["states"], node.attrs["trips"]
    go, *states = node.inputs[: 1 + n]
    stacked = node.outputs[n:]
    body = w.region(node.attrs["body"], n, node.inputs[1 + n :])
    turn, own_go = w.unique("turn"), w.unique("go")
    own = {turn: TensorType(I64, ()), own_go: TensorType(BOOL, ())}
    rows = {w.unique("rows"): v.type for v in stacked}
    inputs, found = list(body.input), list(body.output)
    for name, result in zip(rows, found[1 + n :]):
        at, row, after = w.unique("at"), w.unique("row"), w.unique("rows")
        body.node.extend(
            [
                helper.make_node("Reshape", [turn, w.ints([1, 1])], [at]),
                helper.make_node("Unsqueeze", [result.name, w.ints([0])], [row]),
                helper.make_node("ScatterND", [name, at, row], [after]),
            ]
        )
        result.CopyFrom(helper.make_value_info(after, type_proto(rows[name])))
    del body.input[:]
    for name, type in own.items():
        body.input.append(helper.make_value_info(name, type_proto(type)))
    body.input.extend(inputs)
    for name, type in rows.items():
        body.input.append(helper.make_value_info(name, type_proto(type)))
    zeros = [
        w.op("Expand", [w.constant(np.zeros((), v.dtype.numpy)), w.ints(v.shape)]) for v in stacked
    ]
    most = w.scalar(trips[0]) if trips else ""
    given = [most, w.name(go), *map(w.name, states), *zeros]
    w.op("Loop", given, results(w, node), body=body)


def resize(w: Writer, node: Node):
    """Scales where they are given; else sizes."""
    a = node.attrs
    f32 = {"dtype": np.float32}
    roi = w.constant(a["roi"], **f32) if a["roi"] else ""
    attrs = {"antialias": 1} if a.get("antialias") else {}
    if not a["scales"]:
        rest = ["", w.ints(a["sizes"])]
    elif _is_scaled(node):
        rest = [w.constant(a["scales"], **f32)]
    else:
        axes, sizes = _one_scale(node)
        rest = ["", w.ints(sizes)]
        attrs |= {"axes": axes, "keep_aspect_ratio_policy": "not_smaller"}
    w.op(
        "Resize",
        [*operands(w, node), roi, *rest],
        results(w, node),
        mode=a["mode"],
        coordinate_transformation_mode=a["coordinate_mode"],
        nearest_mode=a["nearest_mode"],
        cubic_coeff_a=a["cubic_coeff"],
        exclude_outside=int(a["exclude_outside"]),
        extrapolation_value=a["extrapolation_value"],
        **attrs,
    )


def _is_scaled(node: Node) -> bool:
    """Whether the sizes are those that ONNX computes from the scales."""
    shape, sizes = node.inputs[0].shape, node.attrs["sizes"]
    return all(
        isinstance(d, Sym) or math.floor(d * np.float32(s)) == size
        for d, s, size in zip(shape, node.attrs["scales"], sizes)
    )


def _one_scale(node: Node) -> tuple[list[int], list[int]]:
    """Axes and sizes of which ONNX computes one scale for all axes, rounding what it gives."""
    shape, a = node.inputs[0].shape, node.attrs
    axes = [i for i, s in enumerate(a["scales"]) if s != 1]
    scales = {a["scales"][i] for i in axes}
    if len(scales) == 1 and all(isinstance(shape[i], int) for i in axes):
        (scale,) = scales
        for i in axes:
            size = round(shape[i] * scale)
            if size > 0 and abs(size / shape[i] - scale) < 1e-12:
                return axes, [size if j == i else 1 for j in axes]
    raise UnsupportedError(
        "ONNX has no resize of such sizes and scales",
        where=node.where,
        received=f"{list(shape)} to {list(a['sizes'])} by {list(a['scales'])}",
    )


def linear_classifier(w: Writer, node: Node):
    a = node.attrs
    kind = "classlabels_strings" if isinstance(a["labels"][0], str) else "classlabels_ints"
    w.op(
        "LinearClassifier",
        operands(w, node),
        results(w, node),
        domain=ML,
        coefficients=list(a["coefficients"]),
        intercepts=list(a["intercepts"]) or [0.0] * _columns(node),
        post_transform=a["post_transform"],
        **{kind: list(a["labels"])},
    )


def _columns(node: Node) -> int:
    return len(node.attrs["coefficients"]) // node.inputs[0].shape[-1]


def normalizer(w: Writer, node: Node):
    w.op("Normalizer", operands(w, node), results(w, node), domain=ML, norm=node.attrs["norm"])


def zip_map(w: Writer, node: Node):
    labels = node.attrs["labels"]
    kind = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    w.op("ZipMap", operands(w, node), results(w, node), domain=ML, **{kind: list(labels)})


def dict_vectorizer(w: Writer, node: Node):
    keys = list(node.attrs["vocabulary"])
    kind = "string_vocabulary" if isinstance(keys[0], str) else "int64_vocabulary"
    w.op("DictVectorizer", operands(w, node), results(w, node), domain=ML, **{kind: keys})


def cast_map(w: Writer, node: Node):
    to = {"f32": "TO_FLOAT", "i64": "TO_INT64", "str": "TO_STRING"}[node.attrs["dtype"].name]
    attrs = {"cast_to": to, "map_form": "SPARSE", "max_map": node.attrs["size"]}
    w.op("CastMap", operands(w, node), results(w, node), domain=ML, **attrs)


def lookup(w: Writer, node: Node):
    labels = w.constant(np.asarray(node.attrs["labels"], object), stem="labels")
    w.op("Gather", [labels, *operands(w, node)], results(w, node))
