"""Cases that reach every schedule: contractions, windows, Winograd, Strassen, bytes, rows.

    schedules/NAME/SEED

Each function makes a small ONNX model of odd sizes with inputs for it; weights are initializers or
inputs. Then `standard.perturbed` declares its shapes as numbers or symbols, and changes them.
"""

import random
from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from . import standard
from .subject import Subject

SIZES = (
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    13,
    15,
    16,
    17,
    23,
    24,
    25,
    31,
    32,
    33,
    47,
    48,
    49,
    63,
    64,
    65,
    97,
    100,
    129,
    255,
    257,
    511,
)
FLOATS = (np.float32, np.float32, np.float32, np.float64, np.float16)
OPSET = 21
STILL = 0.4  # share of shapes that are as they were made: odd enough


class Net:
    """Nodes, weights and inputs as they are added. Names are given by number."""

    def __init__(self, rng: random.Random):
        self.rng, self.numbers = rng, np.random.default_rng(rng.randrange(1 << 32))
        self.nodes, self.weights, self.ports, self.arrays = [], [], [], []

    def array(self, shape, dtype=np.float32, low=-1.0, high=1.0) -> np.ndarray:
        if np.dtype(dtype).kind in "iu":
            info = np.iinfo(dtype)
            return self.numbers.integers(info.min, info.max, shape, dtype, endpoint=True)
        return self.numbers.uniform(low, high, shape).astype(dtype)

    def input(self, shape, dtype=np.float32, array=None) -> str:
        x = self.array(shape, dtype) if array is None else array
        name = f"x{len(self.ports)}"
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        self.ports.append(helper.make_tensor_value_info(name, kind, list(x.shape)))
        self.arrays.append(x)
        return name

    def weight(self, shape, dtype=np.float32, array=None) -> str:
        x = self.array(shape, dtype) if array is None else np.asarray(array)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(x, name))
        return name

    def either(self, shape, dtype=np.float32) -> str:
        return (self.weight if self.rng.random() < 0.6 else self.input)(shape, dtype)

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attrs) -> str:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attrs))
        return names[0]

    def size(self, most: int = 520) -> int:
        return self.rng.choice([n for n in SIZES if n <= most])

    def epilogue(self, y: str, channels: int, dtype=np.float32) -> str:
        """What is fused behind a contraction."""
        match self.rng.choice(["none", "bias", "relu", "both", "gelu", "softmax", "sum"]):
            case "bias":
                return self.node("Add", y, self.either((channels,), dtype))
            case "relu":
                return self.node("Relu", y)
            case "both":
                return self.node("Relu", self.node("Add", y, self.either((channels,), dtype)))
            case "gelu":
                return self.node("Gelu", y)
            case "softmax":
                return self.node("Softmax", y, axis=-1)
            case "sum":
                return self.node("ReduceSum", y, self.weight((), array=np.array([-1])))
        return y

    def model(self, *outputs: str) -> tuple[onnx.ModelProto, list]:
        infos = [helper.make_empty_tensor_value_info(y) for y in outputs]
        graph = helper.make_graph(self.nodes, "g", self.ports, infos, self.weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10
        )
        types = onnx.shape_inference.infer_shapes(model).graph.output
        del model.graph.output[:]
        model.graph.output.extend(types)
        return model, self.arrays


def product(net: Net, rng: random.Random):
    """x @ w with rows, columns and depth that fill no tile."""
    dtype = rng.choice(FLOATS)
    m, k, n = net.size(130), net.size(), net.size(260)
    batch = rng.choice([(), (), (2,), (3,), (1, 3)])
    if rng.random() < 0.3:
        x = net.node("Transpose", net.input((k, m), dtype), perm=[1, 0])
    else:
        x = net.input((*batch, m, k), dtype)
    shared = rng.random() < 0.7
    y = net.node("MatMul", x, net.either((k, n) if shared else (*batch, k, n), dtype))
    return net.model(net.epilogue(y, n, dtype))


def gemm(net: Net, rng: random.Random):
    m, k, n = net.size(130), net.size(260), net.size(260)
    ta, tb = rng.random() < 0.5, rng.random() < 0.5
    x = net.input((k, m) if ta else (m, k))
    w = net.either((n, k) if tb else (k, n))
    c = net.either(rng.choice([(n,), (m, n), (m, 1), (1,)]))
    return net.model(net.node("Gemm", x, w, c, transA=int(ta), transB=int(tb), beta=0.5))


def rows(net: Net, rng: random.Random):
    """One row, or few, by a weight that is larger than the caches' share: swept to and fro."""
    k, n = rng.choice([511, 512, 777, 1025]), rng.choice([257, 512, 1000, 1031])
    y = net.node("MatMul", net.input((rng.choice([1, 1, 2, 3]), k)), net.weight((k, n)))
    return net.model(net.epilogue(y, n))


def strassen(net: Net, rng: random.Random):
    """Large enough for seven products where vectors are narrow."""
    m, k, n = (rng.choice([255, 256, 257, 384, 510, 511, 513]) for _ in "mkn")
    x = net.input((m, k + k % 2))
    return net.model(net.epilogue(net.node("MatMul", x, net.weight((k + k % 2, n))), n))


def attention(net: Net, rng: random.Random):
    b, s, t, d = rng.choice([1, 2, 3]), net.size(70), net.size(70), net.size(65)
    if rng.random() < 0.3:
        t = rng.choice([255, 257, 511, 513])  # several blocks of keys
    q, v = net.input((b, s, d)), net.input((b, t, net.size(65)))
    scores = net.node("MatMul", q, net.node("Transpose", net.input((b, t, d)), perm=[0, 2, 1]))
    scores = net.node("Mul", scores, net.weight((), array=np.float32(0.3)))
    match rng.choice(["none", "row", "each", "hidden"]):
        case "row":
            scores = net.node("Add", scores, net.input((b, 1, t)))
        case "each":
            scores = net.node("Add", scores, net.input((s, t)))
        case "hidden":
            seen, low = net.numbers.random((s, t)) < 0.6, net.weight((), array=np.float32(-1e9))
            scores = net.node("Where", net.input((s, t), array=seen), scores, low)
    p = net.node("Softmax", scores, axis=-1)
    return net.model(net.node("MatMul", p, v))


def _window(net: Net, rng: random.Random, rank: int) -> dict:
    kernel = [rng.choice([1, 2, 3, 3, 5]) for _ in range(rank)]
    return {
        "kernel_shape": kernel,
        "strides": [rng.choice([1, 1, 2, 3]) for _ in range(rank)],
        "pads": [rng.randrange(0, max(1, k)) for k in kernel * 2],
        "dilations": [rng.choice([1, 1, 1, 2]) for _ in range(rank)],
    }


def _image(net: Net, rng: random.Random, rank: int, window: dict, least: int = 0) -> list[int]:
    reach = [(k - 1) * d + 1 for k, d in zip(window["kernel_shape"], window["dilations"])]
    most = {1: 260, 2: 33, 3: 9}[rank]
    return [max(r, net.size(most), least) for r in reach]


def conv(net: Net, rng: random.Random):
    """Convolutions of one to three axes, grouped or not, with windows of all kinds."""
    rank = rng.choice([1, 2, 2, 2, 2, 3])
    window, dtype = _window(net, rng, rank), rng.choice(FLOATS)
    group = rng.choice([1, 1, 1, 2, 3])
    c, f = group * net.size(33), group * net.size(49)
    x = net.input((rng.choice([1, 1, 2, 3]), c, *_image(net, rng, rank, window)), dtype)
    w = net.either((f, c // group, *window["kernel_shape"]), dtype)
    bias = [net.either((f,), dtype)] if rng.random() < 0.5 else []
    y = net.node("Conv", x, w, *bias, group=group, **window)
    return net.model(net.node("Relu", y) if rng.random() < 0.4 else y)


def depthwise(net: Net, rng: random.Random):
    """A small window per channel: neighbouring outputs share inputs."""
    window, c = _window(net, rng, 2), net.size(130)
    x = net.input((rng.choice([1, 2]), c, *_image(net, rng, 2, window)))
    w = net.either((c, 1, *window["kernel_shape"]))
    return net.model(net.node("Conv", x, w, net.either((c,)), group=c, **window))


def winograd(net: Net, rng: random.Random):
    """3×3 with many channels."""
    c, f = rng.choice([16, 17, 32, 48, 64]), rng.choice([16, 24, 31, 64, 65])
    size = [rng.choice([5, 8, 13, 14, 17, 28, 31]) for _ in range(2)]
    x = net.input((rng.choice([1, 1, 2]), c, *size))
    pads = [rng.choice([0, 1, 1, 2]) for _ in range(4)]
    y = net.node("Conv", x, net.weight((f, c, 3, 3)), net.weight((f,)), pads=pads)
    return net.model(net.node("Relu", y))


def conv_chain(net: Net, rng: random.Random):
    """Padding, concatenation and residuals between convolutions: steps that store into others."""
    c, size = net.size(33), [net.size(17) + 2, net.size(17) + 2]
    x = net.input((1, c, *size))
    a = net.node("Conv", x, net.weight((c, c, 3, 3)), pads=[1] * 4)
    b = net.node("Conv", x, net.weight((7, c, 1, 1)))
    y = net.node("Relu", net.node("Add", a, x))
    y = net.node("Concat", y, b, x, axis=1)
    return net.model(net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), y)


def conv_transpose(net: Net, rng: random.Random):
    rank = rng.choice([1, 2, 2])
    window, group = _window(net, rng, rank), rng.choice([1, 1, 2])
    window["pads"] = [0] * (2 * rank)
    c, f = group * net.size(17), net.size(17)
    x = net.input((1, c, *(net.size(17) for _ in range(rank))))
    w = net.either((c, f, *window["kernel_shape"]))
    bias = [net.either((f * group,))] if rng.random() < 0.5 else []
    return net.model(net.node("ConvTranspose", x, w, *bias, group=group, **window))


def pool(net: Net, rng: random.Random):
    rank = rng.choice([1, 2, 2, 3])
    window, kind = _window(net, rng, rank), rng.choice(["MaxPool", "AveragePool", "LpPool"])
    window["pads"] = [p // 2 for p in window["pads"]]
    x = net.input((rng.choice([1, 2]), net.size(33), *_image(net, rng, rank, window)))
    ceil = {} if rng.random() < 0.5 else {"ceil_mode": 1}
    return net.model(net.node(kind, x, **window, **ceil))


def bytes_product(net: Net, rng: random.Random):
    """Integers of a byte, packed in pairs."""
    m, k, n = net.size(65), net.size(260), net.size(130)
    a, b = rng.choice([np.uint8, np.int8]), rng.choice([np.uint8, np.int8])
    x, w = net.input((m, k), a), net.either((k, n), b)
    if rng.random() < 0.5:
        zeros = [net.weight((), a), net.either(rng.choice([(), (n,)]), b)]
        return net.model(net.node("MatMulInteger", x, w, *zeros))
    scale = [net.weight((), array=np.float32(s)) for s in (0.02, 0.03, 0.9)]
    zx, zw, zy = net.weight((), a), net.weight((), b), net.weight((), a)
    return net.model(net.node("QLinearMatMul", x, scale[0], zx, w, scale[1], zw, scale[2], zy))


def bytes_conv(net: Net, rng: random.Random):
    window, group = _window(net, rng, 2), rng.choice([1, 1, 2])
    c, f = group * net.size(33), group * net.size(33)
    x = net.input((1, c, *_image(net, rng, 2, window)), np.uint8)
    w = net.either((f, c // group, *window["kernel_shape"]), rng.choice([np.uint8, np.int8]))
    return net.model(net.node("ConvInteger", x, w, group=group, **window))


def norm(net: Net, rng: random.Random):
    """Rows: reductions whose elements are kept."""
    dtype = rng.choice(FLOATS)
    shape = (rng.choice([1, 2, 3]), net.size(33), net.size())
    x, n = net.input(shape, dtype), shape[-1]
    match rng.choice(["softmax", "layer", "rms", "reduce", "cumsum", "argmax", "topk"]):
        case "softmax":
            y = net.node("Softmax", x, axis=rng.choice([-1, 1, 0]))
        case "layer":
            y = net.node("LayerNormalization", x, net.either((n,), dtype), net.either((n,), dtype))
        case "rms":
            mean = net.node("ReduceMean", net.node("Mul", x, x), net.weight((), array=[-1]))
            y = net.node("Div", x, net.node("Sqrt", mean))
        case "reduce":
            kind = rng.choice(["ReduceSum", "ReduceMax", "ReduceL2", "ReduceLogSumExp"])
            axes = net.weight((), array=np.array(rng.choice([[0], [1], [-1], [0, 2], [1, 2]])))
            y = net.node(kind, x, axes, keepdims=rng.choice([0, 1]))
        case "cumsum":
            y = net.node("CumSum", x, net.weight((), array=np.int64(rng.choice([0, 1, 2]))))
        case "argmax":
            y = net.node("ArgMax", x, axis=rng.choice([0, 1, 2]))
        case "topk":
            y = net.node("TopK", x, net.weight((), array=np.array([1])), outputs=2)
    return net.model(y)


def moves(net: Net, rng: random.Random):
    """Transposes, slices, pads and concatenations in a row: short and interleaved inner axes."""
    dtype = rng.choice([*FLOATS, np.int8, np.int32, np.int64])
    shape = [net.size(17), net.size(33), net.size(33)]
    y = net.input(shape, dtype)
    for _ in range(rng.randrange(1, 4)):
        match rng.choice(["transpose", "pad", "concat", "slice", "expand", "tile"]):
            case "transpose":
                y = net.node("Transpose", y, perm=rng.sample(range(3), 3))
            case "pad":
                pads = np.array([rng.choice([0, 0, 1, 3]) for _ in range(6)])
                mode = rng.choice(["constant", "edge", "wrap"])
                y = net.node("Pad", y, net.weight((), array=pads), mode=mode)
            case "concat":
                y = net.node("Concat", y, y, axis=rng.choice([0, 1, 2]))
            case "slice":
                step, axis = rng.choice([1, 2, 3, -1, -2]), rng.choice([0, 1, 2])
                ends = (0, 1 << 40) if step > 0 else (-1, -(1 << 40))
                bounds = [net.weight((), array=np.array([v])) for v in (*ends, axis, step)]
                y = net.node("Slice", y, *bounds)
            case "expand":
                y = net.node("Add", y, net.input((1,), dtype))
            case "tile":
                y = net.node("Tile", y, net.weight((), array=np.array([1, 2, 1])))
    return net.model(y)


def recurrent(net: Net, rng: random.Random):
    kind, gates = rng.choice([("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    steps, batch, n, h = rng.choice([1, 3, 5]), net.size(7), net.size(33), net.size(33)
    w, r = net.either((1, gates * h, n)), net.either((1, gates * h, h))
    b = net.either((1, 2 * gates * h))
    return net.model(net.node(kind, net.input((steps, batch, n)), w, r, b, hidden_size=h))


def data_sized(net: Net, rng: random.Random):
    """Rows that data chooses, perhaps none, and what is computed from them."""
    n, c, f = net.size(33), net.size(65), net.size(65)
    share = rng.choice([0.0, 0.3, 1.0])
    kept = net.input((n,), array=net.numbers.random(n) < share)
    x = net.node("Compress", net.input((n, c)), kept, axis=0)
    match rng.choice(["product", "gram", "sum", "softmax", "conv"]):
        case "product":
            y = net.epilogue(net.node("MatMul", x, net.either((c, f))), f)
        case "gram":
            y = net.node("MatMul", net.node("Transpose", x, perm=[1, 0]), x)
        case "sum":
            kind = rng.choice(["ReduceSum", "ReduceMax", "ReduceMean"])
            y = net.node(kind, x, net.weight((), array=np.array([0])))
        case "softmax":
            y = net.node("Softmax", x, axis=rng.choice([0, 1]))
        case "conv":
            image = net.node("Unsqueeze", x, net.weight((), array=np.array([1])))
            y = net.node("Conv", image, net.weight((f, 1, 1)))
    return net.model(y, x)


MAKERS: dict[str, Callable] = {
    f.__name__: f
    for f in (
        product,
        gemm,
        rows,
        strassen,
        attention,
        conv,
        depthwise,
        winograd,
        conv_chain,
        conv_transpose,
        pool,
        bytes_product,
        bytes_conv,
        norm,
        moves,
        recurrent,
        data_sized,
    )
}


def names() -> list[str]:
    return [f"schedules/{name}" for name in MAKERS]


def subject(name: str, rng: random.Random) -> Subject:
    maker = name.removeprefix("schedules/")
    model, inputs = MAKERS[maker](Net(rng), rng)
    made = standard.perturbed(model, inputs, rng, 1e-3, STILL)
    made.about = f"{maker}, {made.about}"
    return made
