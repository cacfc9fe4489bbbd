# Generated from the op records: make docs.
# fmt: off
"""Every op as a function of arrays: `relu(x)`, `conv(x, w, b, strides=(2, 2), …)`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ...compiler.ir.builder import Tensor
from ...compiler.ir.dims import Dim
from ...compiler.ir.types import DTypeLike
from .tracing import Array

Operand: TypeAlias = Tensor | ArrayLike

def abs(x: Operand, /) -> Array:
    """|x|"""


def accumulate(
    x: Operand,
    /,
    *,
    axis: int,
    exclusive: bool = False,
    reverse: bool = False,
    combiner: str = 'sum',
) -> Array:
    """The running sum or product along an axis of any length, one element after the other."""


def acos(x: Operand, /) -> Array:
    """inverse cosine"""


def acosh(x: Operand, /) -> Array:
    """inverse hyperbolic cosine"""


def add(x: Operand, y: Operand, /) -> Array:
    """x + y"""


def apply(name: str, *inputs, **attrs) -> Any:
    """Append the op `name` to the trace that its inputs belong to."""


def arg_max(
    x: Operand,
    /,
    *,
    axis: int,
    keepdims: bool = True,
    select_last_index: bool = False,
) -> Array:
    """The index of the largest element along `axis`: of the first one if there are several, …"""


def arg_min(
    x: Operand,
    /,
    *,
    axis: int,
    keepdims: bool = True,
    select_last_index: bool = False,
) -> Array:
    """The index of the smallest element along `axis`: of the first one if there are several, …"""


def argsort(x: Operand, /, *, descending: bool = False) -> Array:
    """Indices that sort x along its last axis."""


def asin(x: Operand, /) -> Array:
    """inverse sine"""


def asinh(x: Operand, /) -> Array:
    """inverse hyperbolic sine"""


def atan(x: Operand, /) -> Array:
    """inverse tangent"""


def atanh(x: Operand, /) -> Array:
    """inverse hyperbolic tangent"""


def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
) -> Array:
    """softmax(q kᵀ * scale + mask) v over the last two axes: q [B,H,S,D], k [B,H,T,D], v …"""


def average_pool(
    x: Operand,
    /,
    *,
    kernel: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[Dim] = (),
    dilations: Sequence[int] = (),
    ceil_mode: bool = False,
    channels_last: bool = False,
    count_include_pad: bool = False,
) -> Array:
    """The mean of each window, over the elements inside."""


def batch_norm(
    x: Operand,
    scale: Operand,
    bias: Operand,
    mean: Operand,
    variance: Operand,
    /,
    *,
    epsilon: float = 1e-05,
    channels_last: bool = False,
) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, with given statistics per channel."""


def bit_cast(x: Operand, /, *, dtype: DTypeLike) -> Array:
    """The same bits, read as another dtype of as many. A bool is a byte, true if it is not zero."""


def bitwise_and(x: Operand, y: Operand, /) -> Array:
    """x & y, bit by bit"""


def bitwise_not(x: Operand, /) -> Array:
    """every bit flipped"""


def bitwise_or(x: Operand, y: Operand, /) -> Array:
    """x | y, bit by bit"""


def bitwise_xor(x: Operand, y: Operand, /) -> Array:
    """x ^ y, bit by bit"""


def cache_update(
    cache: Operand,
    update: Operand,
    start: Operand | None = None,
    /,
    *,
    axis: int = -2,
    circular: bool = False,
) -> Array:
    """The cache [B,…,T,…] with the update [B,…,S,…] written at start[b] (0 if absent) on `axis`."""


def cast(
    x: Operand,
    /,
    *,
    dtype: DTypeLike,
    saturate: bool = True,
    round_mode: str = 'up',
) -> Array:
    """Converted to another dtype: float to int truncates towards zero (to 2 and 4 bits it …"""


def cast_map(x: Operand, /, *, size: int, dtype: DTypeLike = ...) -> Any:
    """One row of `size`: the value of key i at place i, converted to `dtype`, else zero."""


def ceil(x: Operand, /) -> Array:
    """the smallest integer not below x"""


def celu(x: Operand, /, *, alpha: float = 1.0) -> Array:
    """x where x > 0, else alpha * (e^(x/alpha) - 1)"""


def clip(x: Operand, low: Operand | None = None, high: Operand | None = None, /) -> Array:
    """min(max(x, low), high); keeps NaN. Where low > high the result is high."""


def concat(*xs: Operand | Sequence[Operand] | None, axis: int) -> Array:
    """Operands one after the other on `axis`."""


def conv(
    x: Operand,
    w: Operand,
    b: Operand | None = None,
    /,
    *,
    strides: Sequence[int] = (),
    pads: Sequence[Dim] = (),
    dilations: Sequence[int] = (),
    group: int = 1,
    channels_last: bool = False,
) -> Array:
    """Convolution (cross-correlation) of any number of spatial axes, with groups."""


def conv_integer(
    x: Operand,
    w: Operand,
    x_zero: Operand | None = None,
    w_zero: Operand | None = None,
    /,
    *,
    strides: Sequence[int] = (),
    pads: Sequence[Dim] = (),
    dilations: Sequence[int] = (),
    group: int = 1,
    channels_last: bool = False,
) -> Array:
    """`conv` of (x - x_zero) and (w - w_zero) in i32, which wraps around; w_zero is a scalar …"""


def conv_transpose(
    x: Operand,
    w: Operand,
    b: Operand | None = None,
    /,
    *,
    strides: Sequence[int] = (),
    pads: Sequence[Dim] = (),
    dilations: Sequence[int] = (),
    group: int = 1,
    channels_last: bool = False,
    output_padding: Sequence[Dim] = (),
) -> Array:
    """Transposed convolution: the gradient of `conv` in its input. x [N,C,*S], w [C,O/g,*K]."""


def cos(x: Operand, /) -> Array:
    """cosine"""


def cosh(x: Operand, /) -> Array:
    """hyperbolic cosine"""


def cumprod(x: Operand, /, *, axis: int, exclusive: bool = False, reverse: bool = False) -> Array:
    """The running product along `axis`."""


def cumsum(x: Operand, /, *, axis: int, exclusive: bool = False, reverse: bool = False) -> Array:
    """The running sum along `axis`."""


def decode_image(data: Operand, /, *, pixel_format: str = 'RGB', height: Dim, width: Dim) -> Array:
    """The pixels [height, width, channels] of an image file, in the order that pixel_format …"""


def deform_conv(
    x: Operand,
    w: Operand,
    offset: Operand,
    b: Operand | None = None,
    mask: Operand | None = None,
    /,
    *,
    strides: Sequence[int] = (),
    pads: Sequence[Dim] = (),
    dilations: Sequence[int] = (),
    group: int = 1,
    offset_group: int = 1,
) -> Array:
    """Deformable convolution: x [N,C,*S], w [O,C/g,*K], offset [N,G·K·r,*P], mask [N,G·K,*P]."""


def depth_to_space(x: Operand, /, *, block: int, mode: str = 'DCR') -> Array:
    """Channels into blocks of pixels: DCR takes depth first, CRD columns and rows first."""


def dequantize_linear(
    x: Operand,
    scale: Operand,
    zero_point: Operand | None = None,
    /,
    *,
    axis: int = 1,
    dtype: DTypeLike = ...,
) -> Array:
    """(x - zero_point) * scale, in `dtype`."""


def det(x: Operand, /) -> Array:
    """The determinants of matrices [..., n, n]."""


def dft(
    x: Operand,
    /,
    *,
    axis: int = -2,
    length: Dim,
    inverse: bool = False,
    onesided: bool = False,
) -> Array:
    """The discrete Fourier transform of `length` numbers on `axis`, by fast transforms in f64."""


def dict_vectorizer(x: Operand, /, *, vocabulary: Any, dtype: DTypeLike = ...) -> Any:
    """One row: the value of each key of `vocabulary`, zero or "" where the map has none."""


def dims(*, values: Sequence[Dim]) -> np.ndarray:
    """Dims, which may be symbolic, as an i64 vector."""


def div(x: Operand, y: Operand, /) -> Array:
    """x / y; of ints, rounded towards zero, and 0 where y is 0"""


def dropout(
    x: Operand,
    ratio: Operand,
    seed: Operand,
    /,
    *,
    stream: int = 0,
) -> tuple[Array, Array]:
    """x / (1 - ratio) where a uniform number of [0, 1) is at least `ratio`, else 0; and where."""


def dynamic_quantize_lstm(
    x: Operand,
    w: Operand,
    r: Operand,
    w_scale: Operand,
    w_zero: Operand,
    r_scale: Operand,
    r_zero: Operand,
    b: Operand | None = None,
    sequence_lens: Operand | None = None,
    initial_h: Operand | None = None,
    initial_c: Operand | None = None,
    p: Operand | None = None,
    /,
    *,
    hidden_size: int,
    direction: str = 'forward',
    activations: Sequence[str] = (),
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    input_forget: bool = False,
) -> tuple[Array, Array, Array]:
    """lstm with w = w_scale * (w - w_zero), and r alike; its products are those of bytes."""


def einsum(*xs: Operand | Sequence[Operand] | None, equation: str) -> Array:
    """Einstein summation of one or more operands."""


def elu(x: Operand, /, *, alpha: float = 1.0) -> Array:
    """x where x > 0, else alpha * (e^x - 1)"""


def equal(x: Operand, y: Operand, /) -> Array:
    """x == y"""


def erf(x: Operand, /) -> Array:
    """the error function"""


def exp(x: Operand, /) -> Array:
    """e to the power x"""


def expand(x: Operand, /, *, shape: Sequence[Dim]) -> Array:
    """Numpy broadcast to `shape`: axes of size 1 are repeated, new ones appear in front."""


def fake_quantize(
    x: Operand,
    scale: Operand,
    zero_point: Operand | None = None,
    /,
    *,
    axis: int = 1,
    dtype: DTypeLike = ...,
    block: int = 0,
    bits: int | None = None,
    narrow: bool = False,
    gradient_scale: bool = False,
) -> Array:
    """x rounded to the numbers that an integer type stands for, as floats: …"""


def find_sorted(x: Operand, table: Operand, /) -> Array:
    """Where each element of x stands in an ascending `table` without repetitions, or -1."""


def find_string(x: Operand, /, *, vocabulary: Sequence[str]) -> Array:
    """The place of each element in a vocabulary (the last one, if it is there twice), or -1."""


def floor(x: Operand, /) -> Array:
    """the largest integer not above x"""


def fold(
    x: Operand,
    /,
    *,
    sizes: Sequence[Dim],
    kernel: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[Dim] = (),
    dilations: Sequence[int] = (),
) -> Array:
    """The columns [N, C·K, L] of windows summed into the image [N,C,*sizes] that they saw."""


def full_like(x: Array, value) -> Array:
    """`value` everywhere, in the type of `x`."""


def gather(x: Operand, indices: Operand, /, *, axis: int = 0) -> Array:
    """Slices of x at `indices` on `axis`; negative indices count from the end."""


def gather_elements(x: Operand, indices: Operand, /, *, axis: int = 0) -> Array:
    """out[i, j, …] = x[indices[i, j, …], j, …] for axis 0, and so on."""


def gather_nd(x: Operand, indices: Operand, /, *, batch_dims: int = 0) -> Array:
    """The last axis of `indices` holds a place in x, after `batch_dims` shared axes."""


def gather_points(
    x: Operand,
    /,
    *indices: Operand | None,
    axes: Sequence[int],
    lead: int = 0,
) -> Array:
    """x at the places that one index array per axis of `axes` names."""


def gelu(x: Operand, /, *, approximate: str = 'none') -> Array:
    """x * P(normal < x), through erf or the tanh approximation"""


def gemm(
    a: Operand,
    b: Operand,
    c: Operand | None = None,
    /,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    trans_a: bool = False,
    trans_b: bool = False,
) -> Array:
    """alpha * a @ b + beta * c, with a or b transposed on request; c broadcasts."""


def greater(x: Operand, y: Operand, /) -> Array:
    """x > y"""


def greater_equal(x: Operand, y: Operand, /) -> Array:
    """x >= y"""


def grid_sample(
    x: Operand,
    grid: Operand,
    /,
    *,
    mode: str = 'linear',
    padding: str = 'zeros',
    align_corners: bool = False,
) -> Array:
    """x [N,C,*S] read at the places of grid [N,*P,r]; the result is [N,C,*P]."""


def group_norm(
    x: Operand,
    scale: Operand,
    bias: Operand,
    /,
    *,
    groups: int,
    epsilon: float = 1e-05,
) -> Array:
    """x [N,C,…] normalised over groups of channels, times scale plus bias per channel."""


def gru(
    x: Operand,
    w: Operand,
    r: Operand,
    b: Operand | None = None,
    sequence_lens: Operand | None = None,
    initial_h: Operand | None = None,
    /,
    *,
    hidden_size: int,
    direction: str = 'forward',
    activations: Sequence[str] = (),
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    linear_before_reset: bool = False,
) -> tuple[Array, Array]:
    """z, r = f(…); n = g(W x + R (r * h) + b); h' = (1 - z) * n + z * h over time; gives …"""


def hard_sigmoid(x: Operand, /, *, alpha: float = 0.2, beta: float = 0.5) -> Array:
    """alpha * x + beta, limited to [0, 1]"""


def hard_swish(x: Operand, /) -> Array:
    """x * (x / 6 + 1/2 limited to [0, 1])"""


def hardmax(x: Operand, /, *, axis: int = -1) -> Array:
    """1 at the first largest element along `axis`, 0 elsewhere."""


def host_image(
    data: Operand,
    /,
    *,
    pixel_format: str = 'RGB',
    height: Dim,
    width: Dim,
    symbols: Sequence[Dim] = (),
) -> Array:
    """The pixels of an image file whose size is in its bytes; the host decodes it."""


def identity(x: Operand, /) -> Array:
    """x itself"""


def image_size(data: Operand, /, *, pixel_format: str = 'RGB') -> Array:
    """(height, width) of the image that a file's bytes hold; (0, 0) if they cannot be decoded."""


def instance_norm(x: Operand, scale: Operand, bias: Operand, /, *, epsilon: float = 1e-05) -> Array:
    """x [N,C,…] normalised over its spatial axes, times scale plus bias per channel."""


def iota(*, shape: Sequence[Dim], axis: int = 0, dtype: DTypeLike = ...) -> np.ndarray:
    """0, 1, 2, … along `axis`, repeated on the others."""


def isinf(x: Operand, /) -> Array:
    """is x infinite, of either sign?"""


def isnan(x: Operand, /) -> Array:
    """is x not a number?"""


def layer_norm(
    x: Operand,
    scale: Operand | None = None,
    bias: Operand | None = None,
    /,
    *,
    axis: int = -1,
    epsilon: float = 1e-05,
) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis` on."""


def leaky_relu(x: Operand, /, *, alpha: float = 0.01) -> Array:
    """x where x >= 0, else alpha * x"""


def less(x: Operand, y: Operand, /) -> Array:
    """x < y"""


def less_equal(x: Operand, y: Operand, /) -> Array:
    """x <= y"""


def linear_classifier(
    x: Operand,
    /,
    *,
    coefficients: Sequence[float],
    intercepts: Sequence[float] = (),
    post_transform: str = 'NONE',
    labels: Any,
) -> Any:
    """Labels of the highest linear score, and the scores after `post_transform`."""


def log(x: Operand, /) -> Array:
    """natural logarithm"""


def log_softmax(x: Operand, /, *, axis: int = -1) -> Array:
    """x - log(sum(e^x)) along `axis`"""


def logical_and(x: Operand, y: Operand, /) -> Array:
    """x and y"""


def logical_not(x: Operand, /) -> Array:
    """not x"""


def logical_or(x: Operand, y: Operand, /) -> Array:
    """x or y"""


def logical_xor(x: Operand, y: Operand, /) -> Array:
    """either x or y"""


def logsumexp(x: Array, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
    """reduce_log_sum_exp as numpy's logsumexp: `axis` None means all."""


def lookup(index: Operand, /, *, labels: Sequence[str]) -> Array:
    """The string at each index; negative ones count from the end."""


def lp_pool(
    x: Operand,
    /,
    *,
    kernel: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[Dim] = (),
    dilations: Sequence[int] = (),
    ceil_mode: bool = False,
    channels_last: bool = False,
    p: int = 2,
) -> Array:
    """The p-norm of each window."""


def lrn(
    x: Operand,
    /,
    *,
    size: int,
    alpha: float = 0.0001,
    beta: float = 0.75,
    bias: float = 1.0,
) -> Array:
    """x / (bias + alpha / size * sum of x² over `size` neighbouring channels)^beta"""


def lstm(
    x: Operand,
    w: Operand,
    r: Operand,
    b: Operand | None = None,
    sequence_lens: Operand | None = None,
    initial_h: Operand | None = None,
    initial_c: Operand | None = None,
    p: Operand | None = None,
    /,
    *,
    hidden_size: int,
    direction: str = 'forward',
    activations: Sequence[str] = (),
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    input_forget: bool = False,
) -> tuple[Array, Array, Array]:
    """i, o, f = sigmoid(W x + R h + p * c + b); c' = f * c + i * g(…); h' = o * h(c') over …"""


def matmul(a: Operand, b: Operand, /) -> Array:
    """Matrix product with numpy's rules: leading axes are batches and broadcast."""


def matmul_blocks(
    x: Operand,
    w: Operand,
    scale: Operand,
    zero: Operand | None = None,
    codes: Operand | None = None,
    /,
    *,
    bits: int = 4,
    block: int = 32,
    activations: str = 'f32',
) -> Array:
    """x @ w.T, of weights in blocks along K: w = (code - zero) * scale, zero and scale per …"""


def matmul_integer(
    a: Operand,
    b: Operand,
    a_zero: Operand | None = None,
    b_zero: Operand | None = None,
    /,
) -> Array:
    """(a - a_zero) @ (b - b_zero) of 8-bit integers in i32, which wraps around. Factors of 16 …"""


def max(x: Array, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
    """reduce_max as numpy's max: `axis` None means all."""


def max_pool(
    x: Operand,
    /,
    *,
    kernel: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[Dim] = (),
    dilations: Sequence[int] = (),
    ceil_mode: bool = False,
    channels_last: bool = False,
) -> Array:
    """The maximum of each window; padding never wins."""


def max_pool_indices(
    x: Operand,
    /,
    *,
    kernel: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[Dim] = (),
    dilations: Sequence[int] = (),
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """`max_pool` and, for each output, the offset of its (first) maximum in the whole of x."""


def max_unpool(
    y: Operand,
    indices: Operand,
    /,
    *,
    kernel: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[Dim] = (),
    dilations: Sequence[int] = (),
    sizes: Sequence[Dim],
) -> Array:
    """The adjoint of max_pool: y summed into the places that `max_pool_indices` chose."""


def maximum(x: Operand, y: Operand, /) -> Array:
    """the larger one; NaN if either is"""


def mean(x: Array, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
    """reduce_mean as numpy's mean: `axis` None means all."""


def min(x: Array, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
    """reduce_min as numpy's min: `axis` None means all."""


def minimum(x: Operand, y: Operand, /) -> Array:
    """the smaller one; NaN if either is"""


def mish(x: Operand, /) -> Array:
    """x * tanh(softplus(x))"""


def mod(x: Operand, y: Operand, /, *, fmod: bool = False) -> Array:
    """the rest of x / y with the sign of y, or of x if fmod is set"""


def mul(x: Operand, y: Operand, /) -> Array:
    """x * y"""


def multinomial(
    x: Operand,
    seed: Operand,
    /,
    *,
    count: Dim,
    dtype: DTypeLike = ...,
    stream: int = 0,
) -> Array:
    """`count` classes drawn for each row of x [B,C], class c with a probability in proportion …"""


def neg(x: Operand, /) -> Array:
    """-x"""


def ngram_counts(x: Operand, grams: Operand, /, *, skips: int = 0) -> Array:
    """How often each row of `grams`, an n-gram, occurs in x[…, C]."""


def normalize_strings(
    x: Operand,
    /,
    *,
    stopwords: Sequence[str] = (),
    case: str = 'NONE',
    case_sensitive: bool = False,
    locale: str = 'en_US',
    size: Dim,
) -> Array:
    """The elements that are no stop word, in lower or upper case if `case` says so: `size` of …"""


def normalized_size(
    x: Operand,
    /,
    *,
    stopwords: Sequence[str] = (),
    case: str = 'NONE',
    case_sensitive: bool = False,
    locale: str = 'en_US',
) -> Array:
    """How many elements normalize_strings gives: those that are no stop word, or 1."""


def normalizer(x: Operand, /, *, norm: str = 'MAX') -> Array:
    """Rows divided by their maximum (MAX), sum of magnitudes (L1) or length (L2); zero rows …"""


def not_equal(x: Operand, y: Operand, /) -> Array:
    """x != y"""


def one_hot(indices: Array, depth: int, *, axis: int = -1, dtype = 'f32') -> Array:
    """1 at each index, 0 elsewhere, along a new axis of size `depth`."""


def ones_like(x: Array) -> Array:
    """Ones of the type of `x`."""


def pad(
    x: Operand,
    value: Operand | None = None,
    /,
    *,
    pads: Sequence[Dim],
    mode: str = 'constant',
) -> Array:
    """`pads` = (begin…, end…) elements more on each axis; negative numbers crop."""


def pow(x: Operand, y: Operand, /) -> Array:
    """x to the power y; of ints, the real power rounded towards zero"""


def prelu(x: Operand, slope: Operand, /) -> Array:
    """x where x >= 0, else slope * x"""


def prod(x: Array, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
    """reduce_prod as numpy's prod: `axis` None means all."""


def qlinear_add(
    a: Operand,
    a_scale: Operand,
    a_zero: Operand | None,
    b: Operand,
    b_scale: Operand,
    b_zero: Operand | None,
    c_scale: Operand,
    c_zero: Operand | None = None,
    /,
) -> Array:
    """The sum of two quantized tensors, quantized (com.microsoft.QLinearAdd): rounded after …"""


def qlinear_conv(
    x: Operand,
    x_scale: Operand,
    x_zero: Operand,
    w: Operand,
    w_scale: Operand,
    w_zero: Operand,
    y_scale: Operand,
    y_zero: Operand,
    b: Operand | None = None,
    /,
    *,
    strides: Sequence[int] = (),
    pads: Sequence[Dim] = (),
    dilations: Sequence[int] = (),
    group: int = 1,
    channels_last: bool = False,
) -> Array:
    """Quantized convolution; padding stands for zero (it is x_zero in x)."""


def qlinear_matmul(
    a: Operand,
    a_scale: Operand,
    a_zero: Operand,
    b: Operand,
    b_scale: Operand,
    b_zero: Operand,
    y_scale: Operand,
    y_zero: Operand,
    /,
) -> Array:
    """Quantized matrix product; scales and zeros are scalars, per row of a or per column of b."""


def quantize_linear(
    x: Operand,
    scale: Operand,
    zero_point: Operand | None = None,
    /,
    *,
    axis: int = 1,
    dtype: DTypeLike = ...,
    saturate: bool = True,
    precision: DTypeLike | None = None,
) -> Array:
    """saturate(round_half_even(x / scale) + zero_point), in `dtype`; float8 need not saturate."""


def random_bits(seed: Operand, /, *, shape: Sequence[Dim], stream: int = 0, word: int = 0) -> Array:
    """Word 0 … 3 of four random 32-bit words that each element has."""


def random_normal(
    seed: Operand,
    /,
    *,
    shape: Sequence[Dim],
    stream: int = 0,
    dtype: DTypeLike = ...,
    mean: float = 0.0,
    scale: float = 1.0,
) -> Array:
    """Normal numbers of the given mean and standard deviation."""


def random_uniform(
    seed: Operand,
    /,
    *,
    shape: Sequence[Dim],
    stream: int = 0,
    dtype: DTypeLike = ...,
    low: float = 0.0,
    high: float = 1.0,
) -> Array:
    """Uniform numbers of [low, high)."""


def rank(x: Operand, /, *, axis: int = -1, largest: bool = True) -> Array:
    """How many elements on `axis` come before each one; of equals the first comes first."""


def reciprocal(x: Operand, /) -> Array:
    """1 / x"""


def reduce_l1(x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Array:
    """The sum of |x|, over `axes`."""


def reduce_l2(x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Array:
    """The square root of the sum of x * x, over `axes`."""


def reduce_log_sum(x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Array:
    """The log of the sum, over `axes`."""


def reduce_log_sum_exp(x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Array:
    """The log of the sum of e^x, without overflow, over `axes`."""


def reduce_max(x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Array:
    """The largest element; NaN if there is one, over `axes`."""


def reduce_mean(x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Array:
    """The mean, of nothing NaN; of ints, rounded towards zero, of nothing 0, over `axes`."""


def reduce_min(x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Array:
    """The smallest element; NaN if there is one, over `axes`."""


def reduce_prod(x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Array:
    """The product, over `axes`."""


def reduce_sum(x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Array:
    """The sum, over `axes`."""


def reduce_sum_square(x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Array:
    """The sum of x * x, over `axes`."""


def regex_full_match(x: Operand, /, *, pattern: str) -> Array:
    """Whether the whole of each element matches a regular expression in RE2's syntax."""


def relu(x: Operand, /) -> Array:
    """x where x > 0, else 0; keeps NaN"""


def reshape(x: Array, shape: Sequence) -> Array:
    """The same elements under another shape; one dim may be -1."""


def resize(
    x: Operand,
    /,
    *,
    sizes: Sequence[Dim],
    mode: str = 'nearest',
    coordinate_mode: str = 'half_pixel',
    nearest_mode: str = 'round_prefer_floor',
    scales: Sequence[float] = (),
    roi: Sequence[float] = (),
    cubic_coeff: float = -0.75,
    exclude_outside: bool = False,
    extrapolation_value: float = 0.0,
    antialias: bool = False,
) -> Array:
    """x interpolated to `sizes`."""


def reverse(x: Operand, /, *, axes: Sequence[int]) -> Array:
    """The named axes in reverse order."""


def rms_norm(
    x: Operand,
    scale: Operand | None = None,
    /,
    *,
    axis: int = -1,
    epsilon: float = 1e-05,
) -> Array:
    """x / sqrt(mean(x²) + epsilon) * scale over the axes from `axis` on."""


def rnn(
    x: Operand,
    w: Operand,
    r: Operand,
    b: Operand | None = None,
    sequence_lens: Operand | None = None,
    initial_h: Operand | None = None,
    /,
    *,
    hidden_size: int,
    direction: str = 'forward',
    activations: Sequence[str] = (),
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
) -> tuple[Array, Array]:
    """h' = f(W x + R h + b) over time; gives every h and the last one."""


def roi_align(
    x: Operand,
    rois: Operand,
    batch: Operand,
    /,
    *,
    size: Sequence[int],
    scale: float = 1.0,
    sampling: int = 0,
    mode: str = 'avg',
    half_pixel: bool = True,
) -> Array:
    """Regions [R,4] (x1, y1, x2, y2) of the images x [N,C,H,W] that `batch` [R] names, …"""


def roi_max_pool(x: Operand, rois: Operand, /, *, size: Sequence[int], scale: float = 1.0) -> Array:
    """The maxima of the bins of regions [R,5] (image, x1, y1, x2, y2) of x [N,C,H,W]: …"""


def round(x: Operand, /) -> Array:
    """the nearest integer; halves go to the even one"""


def rsqrt(x: Operand, /) -> Array:
    """1 / sqrt(x)"""


def running(
    x: Operand,
    /,
    *,
    axis: int,
    exclusive: bool = False,
    reverse: bool = False,
    combiner: str = 'sum',
) -> Array:
    """The running sum or product along a short axis: each element reads all before it."""


def scatter_elements(
    x: Operand,
    indices: Operand,
    updates: Operand,
    /,
    *,
    axis: int = 0,
    reduction: str = 'none',
) -> Array:
    """out[indices[i, j, …], j, …] = updates[i, j, …] for axis 0, and so on; else x."""


def scatter_nd(
    x: Operand,
    indices: Operand,
    updates: Operand,
    /,
    *,
    reduction: str = 'none',
) -> Array:
    """out[indices[i]] = updates[i]: the last axis of `indices` holds a place in x."""


def search(x: Operand, keys: Operand, /) -> Array:
    """Where each element is among `keys`, which are sorted and differ, or -1."""


def search_strings(x: Operand, /, *, keys: Sequence[str]) -> Array:
    """Where each string is in `keys` (the last one of equal keys), or -1."""


def selu(
    x: Operand,
    /,
    *,
    alpha: float = 1.6732631921768188,
    gamma: float = 1.0507010221481323,
) -> Array:
    """gamma * elu(x)"""


def shift_left(x: Operand, y: Operand, /) -> Array:
    """x * 2^y without what leaves the type; y below its width"""


def shift_right(x: Operand, y: Operand, /) -> Array:
    """floor(x / 2^y); y below the type's width"""


def sigmoid(x: Operand, /) -> Array:
    """1 / (1 + e^-x)"""


def sign(x: Operand, /) -> Array:
    """-1, 0 or 1"""


def silu(x: Operand, /) -> Array:
    """x * sigmoid(x)"""


def sin(x: Operand, /) -> Array:
    """sine"""


def sinh(x: Operand, /) -> Array:
    """hyperbolic sine"""


def slice(
    x: Operand,
    /,
    *,
    axes: Sequence[int],
    starts: Sequence[Dim],
    steps: Sequence[int],
    sizes: Sequence[Dim],
) -> Array:
    """Elements `start + step * (0 … size - 1)` of each named axis; steps may be negative."""


def softmax(x: Operand, /, *, axis: int = -1) -> Array:
    """e^x / sum(e^x) along `axis`"""


def softplus(x: Operand, /) -> Array:
    """log(1 + e^x)"""


def softsign(x: Operand, /) -> Array:
    """x / (1 + |x|)"""


def space_to_depth(x: Operand, /, *, block: int) -> Array:
    """Blocks of pixels into channels: the inverse of depth_to_space in DCR mode."""


def split(x: Operand, /, *, axis: int, sizes: Sequence[Dim]) -> Any:
    """Consecutive parts of the given sizes on `axis`."""


def sqrt(x: Operand, /) -> Array:
    """square root"""


def square(x: Array) -> Array:
    """x * x"""


def stack(xs: Sequence[Array], *, axis: int = 0) -> Array:
    """Join equal shapes along a new axis."""


def stop_gradient(x: Operand, /) -> Array:
    """Its input, as a constant to gradients."""


def string_concat(x: Operand, y: Operand, /) -> Array:
    """x[i] followed by y[i]; shapes broadcast."""


def string_split(
    x: Operand,
    /,
    *,
    delimiter: str = '',
    maxsplit: int = -1,
    width: Dim,
) -> tuple[Array, Array]:
    """The parts of each element between delimiters, in `width` places of a new last axis, …"""


def string_split_width(x: Operand, /, *, delimiter: str = '', maxsplit: int = -1) -> Array:
    """The largest number of parts that string_split makes of an element; 0 without elements."""


def sub(x: Operand, y: Operand, /) -> Array:
    """x - y"""


def sum(x: Array, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
    """reduce_sum as numpy's sum: `axis` None means all."""


def sum_blocks(
    x: Operand,
    w: Operand,
    scale: Operand,
    zero: Operand | None = None,
    codes: Operand | None = None,
    x_scale: Operand | None = None,
    /,
    *,
    bits: int = 4,
    block: int = 32,
) -> Array:
    """What matmul_blocks is made of: the sum over blocks of scale · (the block's products, …"""


def suppress(
    boxes: Operand,
    scores: Operand,
    overlap: Operand,
    most: Operand | None = None,
    /,
    *,
    steps: Dim,
) -> Array:
    """Indices of the best boxes that do not overlap, i64[G,C,steps]; -1 where none is left."""


def suppress_lazily(
    boxes: Operand,
    scores: Operand,
    overlap: Operand,
    most: Operand | None = None,
    /,
    *,
    steps: Dim,
) -> Array:
    """What `suppress` gives, with less work where there are many boxes, of each row in order."""


def take(x: Array, indices, *, axis: int = 0) -> Array:
    """Slices of `x` at `indices` along `axis` (numpy's name for gather)."""


def tan(x: Operand, /) -> Array:
    """tangent"""


def tanh(x: Operand, /) -> Array:
    """hyperbolic tangent"""


def thresholded_relu(x: Operand, /, *, alpha: float = 1.0) -> Array:
    """x where x > alpha, else 0"""


def tile(x: Operand, /, *, repeats: Sequence[Dim]) -> Array:
    """x repeated `repeats[d]` times along each axis d."""


def top_k(
    x: Operand,
    /,
    *,
    k: Dim,
    axis: int = -1,
    largest: bool = True,
    sorted: bool = True,
) -> tuple[Array, Array]:
    """The k largest (or smallest) elements on `axis` in order, and their indices."""


def transpose(x: Array, perm: Sequence[int] | None = None) -> Array:
    """Axes in another order; reversed by default."""


def tree_leaves(
    x: Operand,
    start: Operand,
    feature: Operand,
    threshold: Operand,
    child: Operand,
    missing: Operand | None = None,
    /,
    *,
    steps: int,
) -> Array:
    """The nodes that each row of x comes to in each tree, `steps` below `start`."""


def trilu(x: Operand, /, *, k: int = 0, upper: bool = True) -> Array:
    """The upper (or lower) triangle of matrices, from diagonal k on; zero elsewhere (the …"""


def unfold(
    x: Operand,
    /,
    *,
    kernel: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[Dim] = (),
    dilations: Sequence[int] = (),
) -> Array:
    """The windows of x [N,C,*S] as columns [N, C·K, L]; padding is 0."""


def where(condition: Operand, x: Operand, y: Operand, /) -> Array:
    """x where the condition holds, else y; NaN in what is not chosen does no harm"""


def zeros_like(x: Array) -> Array:
    """Zeros of the type of `x`."""


def zip_map(x: Operand, /, *, labels: Any) -> Any:
    """One {label: score} per row, scores as Python floats."""


def __getattr__(name: str) -> Callable[..., Any]: ...
