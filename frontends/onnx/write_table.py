"""op → how it is written in ONNX. Entries take the Writer and the node."""

import numpy as np

from ...compiler.dims import Sym, is_static
from ...compiler.errors import UnsupportedError
from ...compiler.ir import Node
from .proto import ELEMENT_TYPE_OF
from .writer import Writer


def simple(op_type: str, **renamed: str):
    """One ONNX node with the same operands; `renamed` maps ONNX attributes to ours."""

    def entry(w: Writer, node: Node):
        attrs = {onnx_name: _plain(node.attrs[ours]) for onnx_name, ours in renamed.items()}
        w.op(op_type, _in(w, node), _out(w, node), **attrs)

    return entry


def _in(w: Writer, node: Node) -> list[str]:
    return [w.name(v) for v in node.inputs]


def _out(w: Writer, node: Node) -> list[str]:
    return [w.name(v) for v in node.outputs]


def _plain(value):
    if isinstance(value, bool):
        return int(value)
    return list(value) if isinstance(value, tuple) else value


def _static(node: Node, *names: str) -> None:
    for name in names:
        if not is_static(node.attrs[name]):
            raise UnsupportedError(
                f"ONNX has no symbolic {name} of {node.op.name}",
                where=node.where,
                received=node.attrs[name],
            )


# -- elementwise --------------------------------------------------------------------------


def rsqrt(w: Writer, node: Node):
    w.op("Reciprocal", [w.op("Sqrt", _in(w, node))], _out(w, node))


def silu(w: Writer, node: Node):
    (x,) = _in(w, node)
    w.op("Mul", [x, w.op("Sigmoid", [x])], _out(w, node))


def not_equal(w: Writer, node: Node):
    w.op("Not", [w.op("Equal", _in(w, node))], _out(w, node))


def shift(direction: str):
    def entry(w: Writer, node: Node):
        w.op("BitShift", _in(w, node), _out(w, node), direction=direction)

    return entry


def mod(w: Writer, node: Node):
    """ONNX has the sign of the divisor for ints only: x - floor(x / y) * y for floats."""
    x, y = _in(w, node)
    if node.attrs["fmod"] or not node.outputs[0].dtype.is_float:
        w.op("Mod", [x, y], _out(w, node), fmod=int(node.attrs["fmod"]))
        return
    floor = w.op("Floor", [w.op("Div", [x, y])])
    w.op("Sub", [x, w.op("Mul", [floor, y])], _out(w, node))


def cast(w: Writer, node: Node):
    w.op("Cast", _in(w, node), _out(w, node), to=ELEMENT_TYPE_OF[node.attrs["dtype"]])


# -- reductions ---------------------------------------------------------------------------


def reduce(op_type: str):
    def entry(w: Writer, node: Node):
        axes = list(node.attrs["axes"])
        keepdims = int(node.attrs["keepdims"])
        operands = [*_in(w, node), w.constant(np.asarray(axes, np.int64))]
        noop = 0 if axes else 1
        w.op(op_type, operands, _out(w, node), keepdims=keepdims, noop_with_empty_axes=noop)

    return entry


def cumsum(w: Writer, node: Node):
    a = node.attrs
    w.op(
        "CumSum",
        [*_in(w, node), w.constant(np.int64(a["axis"]))],
        _out(w, node),
        exclusive=int(a["exclusive"]),
        reverse=int(a["reverse"]),
    )


def top_k(w: Writer, node: Node):
    a = node.attrs
    w.op(
        "TopK",
        [*_in(w, node), w.ints([a["k"]])],
        _out(w, node),
        axis=a["axis"],
        largest=int(a["largest"]),
        sorted=int(a["sorted"]),
    )


# -- contractions and windows -------------------------------------------------------------


def _around(w: Writer, node: Node, x: str, rank: int, emit) -> None:
    """`emit(x)` in channels-first layout between transposes."""
    first = [0, rank - 1, *range(1, rank - 1)]
    last = [0, *range(2, rank), 1]
    y = emit(w.op("Transpose", [x], perm=first))
    w.op("Transpose", [y], _out(w, node), perm=last)


def _window(node: Node) -> dict:
    _static(node, "pads")
    a = node.attrs
    result = {n: list(a[n]) for n in ("strides", "pads", "dilations") if a[n]}
    if "group" in a:
        result["group"] = a["group"]
    return result


def einsum(w: Writer, node: Node):
    """ONNX wants ellipses of one length: missing axes become 1."""
    equation = node.attrs["equation"].replace(" ", "")
    terms = equation.split("->")[0].split(",")
    missing = [
        v.rank - len(t.replace("...", "")) if "..." in t else None
        for v, t in zip(node.inputs, terms)
    ]
    longest = max((m for m in missing if m is not None), default=0)
    inputs = _in(w, node)
    for i, (m, t) in enumerate(zip(missing, terms)):
        if m is not None and m < longest:
            at = t.index("...")
            axes = w.ints(range(at, at + longest - m))
            inputs[i] = w.op("Unsqueeze", [inputs[i], axes])
    w.op("Einsum", inputs, _out(w, node), equation=equation)


def conv(op_type: str, weights: int = 1):
    """x is operand 0; `weights` is the position of w."""

    def entry(w: Writer, node: Node):
        inputs, attrs = _in(w, node), _window(node)
        if not node.attrs["channels_last"]:
            w.op(op_type, inputs, _out(w, node), **attrs)
            return
        rank = node.inputs[0].rank
        order = [rank - 1, rank - 2, *range(rank - 2)]
        inputs[weights] = w.op("Transpose", [inputs[weights]], perm=order)
        x, *rest = inputs
        _around(w, node, x, rank, lambda t: w.op(op_type, [t, *rest], **attrs))

    return entry


def conv_transpose(w: Writer, node: Node):
    extra = {}
    if any(node.attrs["output_padding"]):
        _static(node, "output_padding")
        extra = {"output_padding": list(node.attrs["output_padding"])}
    w.op("ConvTranspose", _in(w, node), _out(w, node), **_window(node), **extra)


def pool(op_type: str, **renamed: str):
    def entry(w: Writer, node: Node):
        a = node.attrs
        attrs = _window(node) | {"kernel_shape": list(a["kernel"])}
        attrs |= {onnx_name: _plain(a[ours]) for onnx_name, ours in renamed.items()}
        if a["ceil_mode"] and is_static(node.inputs[0].shape):
            attrs["pads"] = _ceil_pads(node)
        elif a["ceil_mode"]:
            attrs["ceil_mode"] = 1

        def emit(x: str, outputs=1):
            if a["ceil_mode"] and attrs.get("count_include_pad"):
                # what ceil_mode adds does not count: pad first, and let no padding count
                rank, before = len(a["kernel"]), a["pads"] or (0,) * 2 * len(a["kernel"])
                both = [0, 0, *before[:rank], 0, 0, *before[rank:]]
                x = w.op("Pad", [x, w.ints(both)])
                attrs["pads"] = [0] * rank + [
                    p - q for p, q in zip(attrs.get("pads", before)[rank:], before[rank:])
                ]
                attrs["count_include_pad"] = 0
            return w.op(op_type, [x], outputs, **attrs)

        (x,) = _in(w, node)
        if a.get("channels_last"):
            _around(w, node, x, node.inputs[0].rank, emit)
        else:
            emit(x, _out(w, node))

    return entry


def _ceil_pads(node: Node) -> list[int]:
    """ceil_mode as pads at the end: readers of ONNX disagree about windows that start in them."""
    a, shape = node.attrs, node.inputs[0].shape
    rank = len(a["kernel"])
    first = 1 if a.get("channels_last") else 2
    strides, dilations = a["strides"] or (1,) * rank, a["dilations"] or (1,) * rank
    pads = list(a["pads"] or (0,) * 2 * rank)
    for i in range(rank):
        size, out = shape[first + i], node.outputs[0].shape[first + i]
        reach = (out - 1) * strides[i] + (a["kernel"][i] - 1) * dilations[i] + 1
        pads[rank + i] = max(pads[rank + i], reach - size - pads[i])
    return pads


def max_unpool(w: Writer, node: Node):
    """ONNX counts indices in the size that follows from the window; other sizes it cannot say."""
    attrs = _window(node) | {"kernel_shape": list(node.attrs["kernel"])}
    rank = node.inputs[0].rank - 2
    strides, pads = node.attrs["strides"] or (1,) * rank, node.attrs["pads"] or (0,) * 2 * rank
    sizes = tuple(
        (d - 1) * s - low - high + k
        for d, s, low, high, k in zip(
            node.inputs[0].shape[2:], strides, pads, pads[rank:], node.attrs["kernel"]
        )
    )
    if sizes != tuple(node.attrs["sizes"]):
        raise UnsupportedError(
            "ONNX has no max_unpool of another size than its window gives",
            where=node.where,
            expected=sizes,
            received=node.attrs["sizes"],
        )
    attrs.pop("dilations", None)
    w.op("MaxUnpool", _in(w, node), _out(w, node), **attrs)


# -- moves --------------------------------------------------------------------------------


def reshape(w: Writer, node: Node):
    """At most one symbolic dim is -1; equal dims in place are 0; else it is computed."""
    old, new = node.inputs[0].shape, node.attrs["shape"]
    if any(not isinstance(d, Sym) and d == 0 for d in (*old, *new)):
        w.op("Reshape", [*_in(w, node), w.ints(new)], _out(w, node), allowzero=1)
        return
    sizes = [
        0 if isinstance(d, Sym) and i < len(old) and old[i] == d else d for i, d in enumerate(new)
    ]
    symbolic = [i for i, d in enumerate(sizes) if isinstance(d, Sym)]
    if len(symbolic) == 1:
        sizes[symbolic[0]] = -1
    w.op("Reshape", [*_in(w, node), w.ints(sizes)], _out(w, node))


def with_dims(op_type: str, attribute: str):
    def entry(w: Writer, node: Node):
        w.op(op_type, [*_in(w, node), w.ints(node.attrs[attribute])], _out(w, node))

    return entry


def slice_(w: Writer, node: Node):
    a = node.attrs
    ends = []
    for start, step, size in zip(a["starts"], a["steps"], a["sizes"]):
        end = start + size * step
        if step < 0 and (isinstance(end, Sym) or end < 0):
            if isinstance(end, Sym):
                raise UnsupportedError("a reversed slice of symbolic size", where=node.where)
            end = np.iinfo(np.int64).min
        ends.append(end)
    operands = [w.ints(a["starts"]), w.ints(ends), w.ints(a["axes"]), w.ints(a["steps"])]
    w.op("Slice", [*_in(w, node), *operands], _out(w, node))


def reverse(w: Writer, node: Node):
    axes = list(node.attrs["axes"])
    starts, ends = [-1] * len(axes), [np.iinfo(np.int64).min] * len(axes)
    operands = [w.ints(v) for v in (starts, ends, axes, starts)]
    w.op("Slice", [*_in(w, node), *operands], _out(w, node))


def split(w: Writer, node: Node):
    sizes = w.ints(node.attrs["sizes"])
    w.op("Split", [*_in(w, node), sizes], _out(w, node), axis=node.attrs["axis"])


def pad(w: Writer, node: Node):
    x, *value = _in(w, node)
    w.op("Pad", [x, w.ints(node.attrs["pads"]), *value], _out(w, node), mode=node.attrs["mode"])


def gather(op_type: str, *names: str):
    """Indices become i64 where ONNX wants nothing narrower."""

    def entry(w: Writer, node: Node):
        x, indices, *rest = _in(w, node)
        narrow = ("i64",) if op_type.endswith("ND") else ("i64", "i32")
        if node.inputs[1].dtype.name not in narrow:
            indices = w.op("Cast", [indices], to=ELEMENT_TYPE_OF[_I64])
        attrs = {n: node.attrs[n] for n in names}
        w.op(op_type, [x, indices, *rest], _out(w, node), **attrs)

    return entry


def iota(w: Writer, node: Node):
    """Range(size of the axis), cast, reshaped and expanded."""
    a = node.attrs
    shape, dtype = a["shape"], a["dtype"]
    axis = a["axis"] % len(shape)
    operands = [w.constant(np.int64(0)), w.scalar(shape[axis]), w.constant(np.int64(1))]
    flat = w.op("Range", operands)
    flat = w.op("Cast", [flat], to=ELEMENT_TYPE_OF[dtype])
    column = w.op("Unsqueeze", [flat, w.ints([i for i in range(len(shape)) if i != axis])])
    w.op("Expand", [column, w.ints(shape)], _out(w, node))


def one_hot(w: Writer, node: Node):
    indices, values = _in(w, node)
    depth = w.scalar(node.attrs["depth"])
    w.op("OneHot", [indices, depth, values], _out(w, node), axis=node.attrs["axis"])


def trilu(w: Writer, node: Node):
    k = w.constant(np.int64(node.attrs["k"]))
    w.op("Trilu", [*_in(w, node), k], _out(w, node), upper=int(node.attrs["upper"]))


def dims_(w: Writer, node: Node):
    w.op("Identity", [w.ints(node.attrs["values"])], _out(w, node))


def constant(w: Writer, node: Node):
    value = node.outputs[0]
    w.names[value] = w.constant(node.attrs["value"], stem=value.name)


# -- composites ---------------------------------------------------------------------------


def layer_norm(w: Writer, node: Node):
    """ONNX needs the scale."""
    x, scale, bias = [*_in(w, node), "", ""][:3]
    axis = node.attrs["axis"]
    rest = node.inputs[0].shape[axis:]
    if not scale:
        if not is_static(rest):
            w.expand(node)
            return
        scale = w.constant(np.ones(rest, node.outputs[0].dtype.numpy))
    attrs = {"axis": axis, "epsilon": node.attrs["epsilon"]}
    w.op("LayerNormalization", [x, scale, bias], _out(w, node), **attrs)


def batch_norm(w: Writer, node: Node):
    x, *statistics = _in(w, node)
    epsilon = node.attrs["epsilon"]

    def emit(t, outputs=1):
        return w.op("BatchNormalization", [t, *statistics], outputs, epsilon=epsilon)

    if node.attrs["channels_last"]:
        _around(w, node, x, node.inputs[0].rank, emit)
    else:
        emit(x, _out(w, node))


def recurrent(op_type: str, **renamed: str):
    def entry(w: Writer, node: Node):
        a = node.attrs
        attrs = {onnx_name: _plain(a[ours]) for onnx_name, ours in renamed.items()}
        attrs |= {"direction": a["direction"], "hidden_size": a["hidden_size"]}
        for name in ("activations", "activation_alpha", "activation_beta"):
            attrs[name] = list(a[name]) or None
        w.op(op_type, _in(w, node), _out(w, node), clip=a.get("clip"), **attrs)

    return entry


def quantize(op_type: str):
    """Without a zero point the dtype is said by `output_dtype`."""

    def entry(w: Writer, node: Node):
        inputs = [*_in(w, node), ""][:3]
        attrs = {"axis": node.attrs["axis"]} if node.inputs[1].rank else {}
        if op_type == "QuantizeLinear" and inputs[2] == "":
            attrs["output_dtype"] = ELEMENT_TYPE_OF[node.attrs["dtype"]]
        w.op(op_type, inputs, _out(w, node), **attrs)

    return entry


def qlinear_add(w: Writer, node: Node):
    """quantize(dequantize(a) + dequantize(b)): standard ONNX has no QLinearAdd."""
    a, a_scale, a_zero, b, b_scale, b_zero, c_scale, c_zero = [*_in(w, node), ""][:8]
    x = w.op("DequantizeLinear", [a, a_scale, a_zero])
    y = w.op("DequantizeLinear", [b, b_scale, b_zero])
    kind = ELEMENT_TYPE_OF[node.outputs[0].dtype]
    total = w.op("Add", [x, y])
    w.op("QuantizeLinear", [total, c_scale, c_zero], _out(w, node), output_dtype=kind)


def if_(w: Writer, node: Node):
    condition, *captured = node.inputs
    branches = {
        "then_branch": w.region(node.attrs["then_graph"], 0, captured),
        "else_branch": w.region(node.attrs["else_graph"], 0, captured),
    }
    w.op("If", [w.name(condition)], _out(w, node), **branches)


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
    w.op("Scan", [w.name(v) for v in node.inputs[:own]], _out(w, node), body=body, **attrs)


def resize(w: Writer, node: Node):
    """Scales where they are given; else sizes."""
    a = node.attrs
    f32 = {"dtype": np.float32}
    roi = w.constant(a["roi"], **f32) if a["roi"] else ""
    if a["scales"]:
        rest = [w.constant(a["scales"], **f32)]
    else:
        rest = ["", w.ints(a["sizes"])]
    w.op(
        "Resize",
        [*_in(w, node), roi, *rest],
        _out(w, node),
        mode=a["mode"],
        coordinate_transformation_mode=a["coordinate_mode"],
        nearest_mode=a["nearest_mode"],
        cubic_coeff_a=a["cubic_coeff"],
        exclude_outside=int(a["exclude_outside"]),
        extrapolation_value=a["extrapolation_value"],
    )


def linear_classifier(w: Writer, node: Node):
    a = node.attrs
    kind = "classlabels_strings" if isinstance(a["labels"][0], str) else "classlabels_ints"
    w.op(
        "LinearClassifier",
        _in(w, node),
        _out(w, node),
        domain=ML,
        coefficients=list(a["coefficients"]),
        intercepts=list(a["intercepts"]) or [0.0] * _columns(node),
        post_transform=a["post_transform"],
        **{kind: list(a["labels"])},
    )


def _columns(node: Node) -> int:
    return len(node.attrs["coefficients"]) // node.inputs[0].shape[-1]


def normalizer(w: Writer, node: Node):
    w.op("Normalizer", _in(w, node), _out(w, node), domain=ML, norm=node.attrs["norm"])


def zip_map(w: Writer, node: Node):
    labels = node.attrs["labels"]
    kind = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    w.op("ZipMap", _in(w, node), _out(w, node), domain=ML, **{kind: list(labels)})


ML = "ai.onnx.ml"
_I64 = next(d for d in ELEMENT_TYPE_OF if d.name == "i64")
_SAME = (
    "exp log sqrt reciprocal sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf "
    "sigmoid softplus softsign floor ceil round neg abs sign relu not mish identity where add sub "
    "mul div pow equal less greater and or xor clip"
)
TABLE = {name: simple(name.capitalize()) for name in _SAME.split()} | {
    "einsum": einsum,
    "matmul": simple("MatMul"),
    "gemm": simple("Gemm", alpha="alpha", beta="beta", transA="trans_a", transB="trans_b"),
    "stop_gradient": simple("Identity"),
    "less_equal": simple("LessOrEqual"),
    "greater_equal": simple("GreaterOrEqual"),
    "minimum": simple("Min"),
    "maximum": simple("Max"),
    "prelu": simple("PRelu"),
    "isnan": simple("IsNaN"),
    "isinf": simple("IsInf"),
    "elu": simple("Elu", alpha="alpha"),
    "selu": simple("Selu", alpha="alpha", gamma="gamma"),
    "celu": simple("Celu", alpha="alpha"),
    "leaky_relu": simple("LeakyRelu", alpha="alpha"),
    "thresholded_relu": simple("ThresholdedRelu", alpha="alpha"),
    "hard_sigmoid": simple("HardSigmoid", alpha="alpha", beta="beta"),
    "hard_swish": simple("HardSwish"),
    "gelu": simple("Gelu", approximate="approximate"),
    "bitwise_and": simple("BitwiseAnd"),
    "bitwise_or": simple("BitwiseOr"),
    "bitwise_xor": simple("BitwiseXor"),
    "bitwise_not": simple("BitwiseNot"),
    "shift_left": shift("LEFT"),
    "shift_right": shift("RIGHT"),
    "rsqrt": rsqrt,
    "silu": silu,
    "not_equal": not_equal,
    "mod": mod,
    "cast": cast,
    "reduce_sum": reduce("ReduceSum"),
    "reduce_mean": reduce("ReduceMean"),
    "reduce_max": reduce("ReduceMax"),
    "reduce_min": reduce("ReduceMin"),
    "reduce_prod": reduce("ReduceProd"),
    "reduce_l1": reduce("ReduceL1"),
    "reduce_l2": reduce("ReduceL2"),
    "reduce_log_sum": reduce("ReduceLogSum"),
    "reduce_log_sum_exp": reduce("ReduceLogSumExp"),
    "reduce_sum_square": reduce("ReduceSumSquare"),
    "arg_max": simple(
        "ArgMax", axis="axis", keepdims="keepdims", select_last_index="select_last_index"
    ),
    "arg_min": simple(
        "ArgMin", axis="axis", keepdims="keepdims", select_last_index="select_last_index"
    ),
    "cumsum": cumsum,
    "top_k": top_k,
    "softmax": simple("Softmax", axis="axis"),
    "log_softmax": simple("LogSoftmax", axis="axis"),
    "hardmax": simple("Hardmax", axis="axis"),
    "conv": conv("Conv"),
    "conv_transpose": conv_transpose,
    "max_pool": pool("MaxPool"),
    "max_pool_indices": pool("MaxPool"),
    "average_pool": pool("AveragePool", count_include_pad="count_include_pad"),
    "lp_pool": pool("LpPool", p="p"),
    "max_unpool": max_unpool,
    "reshape": reshape,
    "expand": with_dims("Expand", "shape"),
    "tile": with_dims("Tile", "repeats"),
    "transpose": simple("Transpose", perm="perm"),
    "slice": slice_,
    "reverse": reverse,
    "concat": simple("Concat", axis="axis"),
    "split": split,
    "pad": pad,
    "gather": gather("Gather", "axis"),
    "gather_elements": gather("GatherElements", "axis"),
    "gather_nd": gather("GatherND", "batch_dims"),
    "scatter_elements": gather("ScatterElements", "axis", "reduction"),
    "scatter_nd": gather("ScatterND", "reduction"),
    "iota": iota,
    "one_hot": one_hot,
    "trilu": trilu,
    "depth_to_space": simple("DepthToSpace", blocksize="block", mode="mode"),
    "space_to_depth": simple("SpaceToDepth", blocksize="block"),
    "dims": dims_,
    "constant": constant,
    "layer_norm": layer_norm,
    "batch_norm": batch_norm,
    "instance_norm": simple("InstanceNormalization", epsilon="epsilon"),
    "group_norm": simple("GroupNormalization", num_groups="groups", epsilon="epsilon"),
    "lrn": simple("LRN", size="size", alpha="alpha", beta="beta", bias="bias"),
    "rnn": recurrent("RNN"),
    "gru": recurrent("GRU", linear_before_reset="linear_before_reset"),
    "lstm": recurrent("LSTM", input_forget="input_forget"),
    "quantize_linear": quantize("QuantizeLinear"),
    "dequantize_linear": quantize("DequantizeLinear"),
    "qlinear_conv": conv("QLinearConv", 3),
    "qlinear_matmul": simple("QLinearMatMul"),
    "qlinear_add": qlinear_add,
    "matmul_integer": simple("MatMulInteger"),
    "conv_integer": conv("ConvInteger"),
    "resize": resize,
    "linear_classifier": linear_classifier,
    "normalizer": normalizer,
    "zip_map": zip_map,
    "if": if_,
    "scan": scan,
}
