"""op → how it is written in ONNX. Entries take the Writer and the node."""

import numpy as np

from ...compiler.ir import Node
from . import write_composite as composite
from . import write_move as move
from . import write_window as window
from .proto import ELEMENT_TYPE_OF
from .write_common import operands, results, simple
from .writer import Writer

# -- elementwise --------------------------------------------------------------------------


def rsqrt(w: Writer, node: Node):
    w.op("Reciprocal", [w.op("Sqrt", operands(w, node))], results(w, node))


def silu(w: Writer, node: Node):
    (x,) = operands(w, node)
    w.op("Mul", [x, w.op("Sigmoid", [x])], results(w, node))


def not_equal(w: Writer, node: Node):
    w.op("Not", [w.op("Equal", operands(w, node))], results(w, node))


def shift(direction: str):
    def entry(w: Writer, node: Node):
        w.op("BitShift", operands(w, node), results(w, node), direction=direction)

    return entry


def mod(w: Writer, node: Node):
    """ONNX has the sign of the divisor for ints only: x - floor(x / y) * y for floats."""
    x, y = operands(w, node)
    if node.attrs["fmod"] or not node.outputs[0].dtype.is_float:
        w.op("Mod", [x, y], results(w, node), fmod=int(node.attrs["fmod"]))
        return
    floor = w.op("Floor", [w.op("Div", [x, y])])
    w.op("Sub", [x, w.op("Mul", [floor, y])], results(w, node))


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
    "sigmoid softplus softsign floor ceil round neg abs sign relu not mish identity where add sub "
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
    "conv_integer": window.conv("ConvInteger"),
    "resize": composite.resize,
    "linear_classifier": composite.linear_classifier,
    "normalizer": composite.normalizer,
    "zip_map": composite.zip_map,
    "if": composite.if_,
    "scan": composite.scan,
}
