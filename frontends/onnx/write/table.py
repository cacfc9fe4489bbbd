"""op → how it is written in ONNX. Entries take the Writer and the node."""

import numpy as np

from ....compiler.ir.graph import Node
from ....compiler.ir.types import F64, I64
from ..file.proto import ELEMENT_TYPE_OF
from . import blocks, composite, hosted, move, rules, sample, search, text, window
from .common import operands, results, simple
from .writer import Writer

# -- elementwise --------------------------------------------------------------------------


def rsqrt(w: Writer, node: Node):
    w.op("Reciprocal", [w.op("Sqrt", operands(w, node))], results(w, node))


def silu(w: Writer, node: Node):
    (x,) = operands(w, node)
    if w.opset >= 24:
        w.op("Swish", [x], results(w, node))
        return
    w.op("Mul", [x, w.op("Sigmoid", [x])], results(w, node))


def not_equal(w: Writer, node: Node):
    w.op("Not", [w.op("Equal", operands(w, node))], results(w, node))


def shift(direction: str):
    """ONNX shifts unsigned ints only: to the left, signs do not matter."""

    def entry(w: Writer, node: Node):
        if direction == "RIGHT" and node.outputs[0].dtype.kind == "i":
            w.inline(node, rules.arithmetic_shift)
            return
        w.op("BitShift", operands(w, node), results(w, node), direction=direction)

    return entry


def relu(w: Writer, node: Node):
    """Of 64-bit ints as a maximum, which more readers of ONNX have."""
    dtype, x = node.outputs[0].dtype, operands(w, node)
    if dtype == I64:
        w.op("Max", [*x, w.constant(np.int64(0))], results(w, node))
        return
    w.op("Identity" if dtype.kind == "u" else "Relu", x, results(w, node))


def celu(w: Writer, node: Node):
    if node.outputs[0].dtype == F64:
        w.inline(node, rules.celu)
        return
    w.op("Celu", operands(w, node), results(w, node), alpha=node.attrs["alpha"])


def mod(w: Writer, node: Node):
    """ONNX has the sign of the divisor for ints only."""
    if node.attrs["fmod"] or not node.outputs[0].dtype.is_float:
        w.op("Mod", operands(w, node), results(w, node), fmod=int(node.attrs["fmod"]))
        return
    w.inline(node, rules.float_mod)


def cast(w: Writer, node: Node):
    a = node.attrs
    attrs = {} if a["saturate"] else {"saturate": 0}
    if a["dtype"].name == "f8e8m0":
        attrs["round_mode"] = a["round_mode"]
    w.op("Cast", operands(w, node), results(w, node), to=ELEMENT_TYPE_OF[a["dtype"]], **attrs)


# -- reductions ---------------------------------------------------------------------------


def reduce(op_type: str):
    def entry(w: Writer, node: Node):
        axes = list(node.attrs["axes"])
        keepdims = int(node.attrs["keepdims"])
        inputs = [*operands(w, node), w.constant(np.asarray(axes, np.int64))]
        noop = 0 if axes else 1
        w.op(op_type, inputs, results(w, node), keepdims=keepdims, noop_with_empty_axes=noop)

    return entry


def cumsum(w: Writer, node: Node):
    a = node.attrs
    w.op(
        "CumSum",
        [*operands(w, node), w.constant(np.int64(a["axis"]))],
        results(w, node),
        exclusive=int(a["exclusive"]),
        reverse=int(a["reverse"]),
    )


def top_k(w: Writer, node: Node):
    a = node.attrs
    w.op(
        "TopK",
        [*operands(w, node), w.ints([a["k"]])],
        results(w, node),
        axis=a["axis"],
        largest=int(a["largest"]),
        sorted=int(a["sorted"]),
    )


# -- the table -----------------------------------------------------------------------------

_SAME = (
    "exp log sqrt reciprocal sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf "
    "sigmoid softplus softsign floor ceil round neg abs sign not mish identity where add sub "
    "mul div pow equal less greater and or xor clip"
)
TABLE = {name: simple(name.capitalize()) for name in _SAME.split()} | {
    "einsum": window.einsum,
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
    "celu": celu,
    "relu": relu,
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
    "conv": window.conv("Conv"),
    "conv_transpose": window.conv_transpose,
    "max_pool": window.pool("MaxPool"),
    "max_pool_indices": window.pool("MaxPool"),
    "average_pool": window.pool("AveragePool", count_include_pad="count_include_pad"),
    "lp_pool": window.pool("LpPool", p="p"),
    "max_unpool": window.max_unpool,
    "reshape": move.reshape,
    "expand": move.with_dims("Expand", "shape"),
    "tile": move.with_dims("Tile", "repeats"),
    "transpose": simple("Transpose", perm="perm"),
    "slice": move.slice_,
    "reverse": move.reverse,
    "concat": simple("Concat", axis="axis"),
    "split": move.split,
    "pad": move.pad,
    "impossible": rules.by_rule(rules.nothing),
    "barrier": simple("Identity"),
    "within": simple("Identity"),  # what reads it insists on it in ONNX too
    "gather": move.gather("Gather", "axis"),
    "gather_elements": move.gather("GatherElements", "axis"),
    "gather_nd": move.gather("GatherND", "batch_dims"),
    "scatter_elements": move.gather("ScatterElements", "axis", "reduction"),
    "scatter_nd": move.gather("ScatterND", "reduction"),
    "iota": move.iota,
    "one_hot": move.one_hot,
    "trilu": move.trilu,
    "depth_to_space": simple("DepthToSpace", blocksize="block", mode="mode"),
    "space_to_depth": simple("SpaceToDepth", blocksize="block"),
    "dims": move.dims_,
    "constant": move.constant,
    "layer_norm": composite.layer_norm,
    "rms_norm": composite.rms_norm,
    "attention": composite.attention,
    "batch_norm": composite.batch_norm,
    "instance_norm": simple("InstanceNormalization", epsilon="epsilon"),
    "group_norm": simple("GroupNormalization", num_groups="groups", epsilon="epsilon"),
    "lrn": simple("LRN", size="size", alpha="alpha", beta="beta", bias="bias"),
    "rnn": composite.recurrent("RNN"),
    "gru": composite.recurrent("GRU", linear_before_reset="linear_before_reset"),
    "lstm": composite.recurrent("LSTM", input_forget="input_forget"),
    "quantize_linear": composite.quantize("QuantizeLinear"),
    "dequantize_linear": composite.quantize("DequantizeLinear"),
    "qlinear_conv": window.conv("QLinearConv", 3),
    "qlinear_matmul": simple("QLinearMatMul"),
    "qlinear_add": composite.qlinear_add,
    "matmul_integer": simple("MatMulInteger"),
    "matmul_blocks": blocks.matmul_blocks,
    "sum_blocks": rules.by_rule(blocks.sum_blocks),
    "conv_integer": window.conv("ConvInteger"),
    "resize": composite.resize,
    "linear_classifier": composite.linear_classifier,
    "normalizer": composite.normalizer,
    "zip_map": composite.zip_map,
    "dict_vectorizer": composite.dict_vectorizer,
    "cast_map": composite.cast_map,
    "if": composite.if_,
    "scan": composite.scan,
    "while": composite.while_,
    "host_if": hosted.host_if,
    "host_loop": hosted.host_loop,
    "lookup": composite.lookup,
    "grid_sample": sample.grid_sample,
    "gather_points": rules.by_rule(sample.gather_points),
    "deform_conv": sample.deform_conv,
    "roi_align": sample.roi_align,
    "roi_max_pool": sample.roi_max_pool,
    "dft": sample.dft,
    "det": simple("Det"),
    "unfold": rules.by_rule(sample.unfold),
    "fold": sample.fold,
    "cache_update": sample.cache_update,
    "running": search.running,
    "suppress_lazily": rules.by_rule(search.suppress_lazily),
    "cumprod": search.accumulate("CumProd"),
    "argsort": search.argsort,
    "top_k_counted": top_k,
    "accumulate": search.running,
    "radix_order": rules.by_rule(search.radix_order),
    "rank": rules.by_rule(search.rank),
    "order_keys": rules.by_rule(search.order_keys),
    "choose_places": rules.by_rule(search.choose_places),
    "place": rules.by_rule(search.place),
    "row_ranks": rules.by_rule(search.row_ranks),
    "search": rules.by_rule(search.search),
    "search_strings": text.found_in("keys"),
    "find_string": text.found_in("vocabulary"),
    "string_concat": simple("StringConcat"),
    "string_split": text.string_split,
    "string_split_width": text.string_split_width,
    "normalize_strings": text.normalize_strings,
    "normalized_size": text.normalized_size,
    "regex_full_match": text.regex_full_match,
    "decode_image": text.decode_image,
    "host_image": text.host_image,
    "image_size": text.image_size,
    "bit_cast": text.bit_cast,
    "ngram_counts": rules.by_rule(text.ngram_counts),
    "require_found": search.require_found,
    "running_count": search.running_count,
    "bind_dims": search.bind_dims,
    "tree_leaves": rules.by_rule(search.tree_leaves),
    "random_bits": rules.by_rule(search.random_bits),
    "mosaic": rules.by_rule(rules.mosaic),
    "strassen_input": rules.by_rule(rules.strassen_input),
    "strassen_product": rules.by_rule(rules.strassen_product),
    "strassen_output": rules.by_rule(rules.strassen_output),
    "winograd_input": rules.by_rule(rules.winograd_input),
    "winograd_output": rules.by_rule(rules.winograd_output),
}
