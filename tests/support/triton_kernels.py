"""Small graphs whose kernels have every shape that the Triton backend writes.

`GRAPHS[name]` = (a function from a Builder to its output Tensor(s), shapes of inputs drawn at
random). Sizes leave ragged tails; `program_of` lowers one.
"""

import ml_dtypes
import numpy as np
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import F32, U8, dtype_of
from tessel.compiler.lowering.lower import lower


def _affine_norm(b, x, scale, bias):
    return b.layer_norm(x, scale, bias, axis=-1)


def _linear(b, x, w, c):
    return b.relu(b.matmul(x, w) + c)


def _conv(b, x, w, c):
    return b.relu(b.conv(x, w, c, pads=(1, 1, 1, 1)))


def _logic(b, x, y):
    return b.where(
        b.emit("and", b.less(x, y), b.emit("not", b.equal(x, 0))), x * 3 - y, b.abs(y) % 7
    )


def _scatter(b, x, i, u):
    return b.scatter_elements(x, i, u, axis=0, reduction="add")


def _blocks(activations: str, bits: int = 4, block: int = 32):
    def build(b, x, w, scale, zero=None, codes=None):
        options = {"bits": bits, "block": block, "activations": activations}
        return b.matmul_blocks(x * 0.01, w, scale * 0.01, zero, codes, **options)

    return build


def _quantized(b, x, w, scale):
    """A convolution of bytes between floats."""
    q = b.quantize_linear(x, b.scalar(0.05, F32), b.scalar(7, U8), axis=0)
    return b.conv_integer(q, w, b.scalar(7, U8), pads=(1, 1, 1, 1)).cast(F32) * scale


GRAPHS = {
    "softmax": (lambda b, x: b.softmax(x, axis=-1), ["f32[5,77]"]),
    "softmax_in_blocks": (lambda b, x: b.softmax(x, axis=-1), ["f32[2,5000]"]),
    "layer_norm": (_affine_norm, ["f32[5,77]", "f32[77]", "f32[77]"]),
    "gelu": (lambda b, x: b.gelu(x), ["f32[3,91]"]),
    "matmul": (_linear, ["f32[33,50]", "f32[50,37]", "f32[37]"]),
    "matmul_f16": (_linear, ["f16[33,50]", "f16[50,37]", "f16[37]"]),
    "matmul_bf16": (_linear, ["bf16[33,50]", "bf16[50,37]", "bf16[37]"]),
    "matmul_batched": (lambda b, x, y: b.matmul(x, y), ["f32[3,17,20]", "f32[3,20,19]"]),
    "matmul_f64": (lambda b, x, y: b.matmul(x, y), ["f64[9,20]", "f64[20,11]"]),
    "matvec": (lambda b, x, y: b.matmul(x, y), ["f32[1,90]", "f32[90,37]"]),
    "matmul_int8": (lambda b, x, y: b.matmul_integer(x, y), ["i8[17,40]", "i8[40,18]"]),
    "matmul_uint8": (
        lambda b, x, y, z: b.matmul_integer(x, y, z),
        ["u8[17,40]", "i8[40,18]", "u8[]"],
    ),
    "matmul_blocks": (_blocks("f32"), ["f32[33,64]", "u8[40,2,16]", "f32[40,2]", "u8[40,2]"]),
    "matmul_blocks_int8": (
        _blocks("int8"),
        ["f32[33,64]", "u8[40,2,16]", "f32[40,2]", "u8[40,2]"],
    ),
    "matmul_blocks_3_bits": (_blocks("int8", 3, 24), ["f32[17,40]", "u8[19,2,9]", "f32[19,2]"]),
    "matmul_blocks_of_a_row": (_blocks("f32", 2), ["f32[1,64]", "u8[40,2,8]", "f16[40,2]"]),
    "matmul_blocks_codes": (
        lambda b, x, w, s, c: _blocks("f32")(b, x, w, s, None, c),
        ["f32[33,64]", "u8[40,2,16]", "f32[40,2]", "f32[16]"],
    ),
    "conv_quantized": (_quantized, ["f32[2,3,9,10]", "i8[18,3,3,3]", "f32[]"]),
    "conv": (_conv, ["f32[2,3,9,10]", "f32[18,3,3,3]", "f32[18]"]),
    "conv_channels_last": (
        lambda b, x, w: b.conv(x, w, pads=(1, 1, 1, 1), channels_last=True),
        ["f32[1,9,10,8]", "f32[3,3,8,20]"],
    ),
    "conv_depthwise": (lambda b, x, w: b.conv(x, w, group=6), ["f32[1,6,5,6]", "f32[6,1,3,3]"]),
    "max_pool": (
        lambda b, x: b.max_pool(x, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
        ["f32[2,3,11,10]"],
    ),
    "max_pool_wide": (lambda b, x: b.max_pool(x, kernel=(2, 2)), ["f32[1,3,61,60]"]),
    "gather": (lambda b, x, i: b.gather(x, b.abs(i) % 8, axis=0), ["f32[8,33]", "i64[5]"]),
    "transpose": (lambda b, x: b.exp(x.transpose(2, 0, 1)), ["f32[5,7,9]"]),
    "concat": (lambda b, x, y: b.concat(x, y, axis=1), ["f32[5,7]", "f32[5,9]"]),
    "sum_rows": (lambda b, x: x.sum(axes=0), ["f32[70,33]"]),
    "sum_all": (lambda b, x: x.sum(), ["f32[70,93]"]),
    "mean_of_middle": (lambda b, x: x.mean(axes=1), ["f16[3,70,33]"]),
    "arg_max": (lambda b, x: b.arg_max(x, axis=1), ["f32[5,77]"]),
    "top_k": (lambda b, x: b.top_k(x, k=3, axis=1), ["f32[2,9]"]),
    "top_k_of_long": (lambda b, x: b.top_k(x, k=5, axis=1), ["f32[2,700]"]),
    "top_k_of_i64": (lambda b, x: b.top_k(x, k=3, axis=1, largest=False), ["i64[2,70]"]),
    "cumsum": (lambda b, x: b.cumsum(x, axis=1), ["f32[3,40]"]),
    "sort": (lambda b, x: b.top_k(x, k=600, axis=1), ["f32[2,600]"]),
    "cumprod": (lambda b, x: b.cumprod(x, axis=0), ["f32[7,5]"]),
    "grid_sample": (lambda b, x, g: b.grid_sample(x, g), ["f32[2,3,5,6]", "f32[2,4,3,2]"]),
    "random": (lambda b, seed: b.random_normal(seed, shape=(5, 9)), ["i64[]"]),
    "logic_i64": (_logic, ["i64[3,40]", "i64[3,40]"]),
    "scatter": (_scatter, ["f32[6,3]", "index[7,3]", "f32[7,3]"]),
    "bf16": (lambda b, x, y: b.tanh(x) * y, ["bf16[3,40]", "bf16[40]"]),
    "to_int8": (lambda b, x: (x * 100).cast("i8"), ["f32[3,40]"]),
    "running_count": (lambda b, x: b.running_count(b.less(x * 0, x)), ["f32[3,40]"]),
    "argsort": (lambda b, x: b.argsort(x), ["f32[2,70]"]),
    "argsort_by_digits": (lambda b, x: b.argsort(x), ["f32[2,140]"]),
    "scalar": (lambda b, x: b.exp(x), ["f32[]"]),
}


def program_of(name: str):
    """The lowered program of a graph."""
    build, types = GRAPHS[name]
    b = Builder(name=name)
    inputs = [b.input(f"x{i}", t.replace("index", "i64")) for i, t in enumerate(types)]
    results = build(b, *inputs)
    for i, r in enumerate(results if isinstance(results, tuple) else (results,)):
        b.output(f"y{i}", r)
    return lower(b.graph)


def feeds_of(name: str) -> list[np.ndarray]:
    """Inputs of a graph: the same at every call."""
    rng = np.random.default_rng(7)
    return [_array(rng, t) for t in GRAPHS[name][1]]


def _array(rng, text: str) -> np.ndarray:
    name, _, dims = text.rstrip("]").partition("[")
    shape = tuple(int(d) for d in dims.split(",") if d)
    if name == "index":
        return rng.integers(0, 6, shape).astype(np.int64)
    dtype = dtype_of(name).numpy
    if dtype.kind in "iu":
        low = 0 if dtype.kind == "u" else -100
        return rng.integers(low, 100, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def assert_close(got: np.ndarray, want: np.ndarray) -> None:
    """Equal; floats up to what the order of sums may change."""
    assert got.dtype == want.dtype and got.shape == want.shape
    if got.dtype.kind in "iub":
        np.testing.assert_array_equal(got, want)
        return
    half = got.dtype in (np.float16, ml_dtypes.bfloat16)
    tolerance = 2e-2 if half else 3e-5
    as_f64 = [x.astype(np.float64) for x in (got, want)]
    np.testing.assert_allclose(*as_f64, rtol=tolerance, atol=tolerance)
