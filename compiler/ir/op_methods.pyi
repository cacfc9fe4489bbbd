# Generated from the op records: make docs.
# fmt: off
"""The ops as methods of a `Builder`: `b.relu(x)` appends a node and gives its result."""

from collections.abc import Sequence
from typing import Any

from .builder import Operand, Tensor
from .dims import Dim
from .graph import Graph
from .types import DTypeLike

class OpMethods:
    def abs(self, x: Operand, /) -> Tensor:
        """|x|"""

    def accumulate(
        self,
        x: Operand,
        /,
        *,
        axis: int,
        exclusive: bool = False,
        reverse: bool = False,
        combiner: str = 'sum',
    ) -> Tensor:
        """The running sum or product along an axis of any length, one element after the other."""

    def acos(self, x: Operand, /) -> Tensor:
        """inverse cosine"""

    def acosh(self, x: Operand, /) -> Tensor:
        """inverse hyperbolic cosine"""

    def add(self, x: Operand, y: Operand, /) -> Tensor:
        """x + y"""

    def arg_max(
        self,
        x: Operand,
        /,
        *,
        axis: int,
        keepdims: bool = True,
        select_last_index: bool = False,
    ) -> Tensor:
        """The index of the largest element along `axis`: of the first one if there are …"""

    def arg_min(
        self,
        x: Operand,
        /,
        *,
        axis: int,
        keepdims: bool = True,
        select_last_index: bool = False,
    ) -> Tensor:
        """The index of the smallest element along `axis`: of the first one if there are …"""

    def argsort(self, x: Operand, /, *, descending: bool = False) -> Tensor:
        """Indices that sort x along its last axis."""

    def asin(self, x: Operand, /) -> Tensor:
        """inverse sine"""

    def asinh(self, x: Operand, /) -> Tensor:
        """inverse hyperbolic sine"""

    def atan(self, x: Operand, /) -> Tensor:
        """inverse tangent"""

    def atanh(self, x: Operand, /) -> Tensor:
        """inverse hyperbolic tangent"""

    def attention(
        self,
        q: Operand,
        k: Operand,
        v: Operand,
        mask: Operand | None = None,
        /,
        *,
        scale: float,
        is_causal: bool = False,
    ) -> Tensor:
        """softmax(q kᵀ * scale + mask) v over the last two axes: q [B,H,S,D], k [B,H,T,D], v …"""

    def average_pool(
        self,
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
    ) -> Tensor:
        """The mean of each window, over the elements inside."""

    def batch_norm(
        self,
        x: Operand,
        scale: Operand,
        bias: Operand,
        mean: Operand,
        variance: Operand,
        /,
        *,
        epsilon: float = 1e-05,
        channels_last: bool = False,
    ) -> Tensor:
        """(x - mean) / sqrt(variance + epsilon) * scale + bias, with given statistics per …"""

    def bit_cast(self, x: Operand, /, *, dtype: DTypeLike) -> Tensor:
        """The same bits, read as another dtype of as many. A bool is a byte, true if it is …"""

    def bitwise_and(self, x: Operand, y: Operand, /) -> Tensor:
        """x & y, bit by bit"""

    def bitwise_not(self, x: Operand, /) -> Tensor:
        """every bit flipped"""

    def bitwise_or(self, x: Operand, y: Operand, /) -> Tensor:
        """x | y, bit by bit"""

    def bitwise_xor(self, x: Operand, y: Operand, /) -> Tensor:
        """x ^ y, bit by bit"""

    def cache_update(
        self,
        cache: Operand,
        update: Operand,
        start: Operand | None = None,
        /,
        *,
        axis: int = -2,
        circular: bool = False,
    ) -> Tensor:
        """The cache [B,…,T,…] with the update [B,…,S,…] written at start[b] (0 if absent) on …"""

    def cast(
        self,
        x: Operand,
        /,
        *,
        dtype: DTypeLike,
        saturate: bool = True,
        round_mode: str = 'up',
    ) -> Tensor:
        """Converted to another dtype: float to int truncates towards zero (to 2 and 4 bits it …"""

    def cast_map(self, x: Operand, /, *, size: int, dtype: DTypeLike = ...) -> Any:
        """One row of `size`: the value of key i at place i, converted to `dtype`, else zero."""

    def ceil(self, x: Operand, /) -> Tensor:
        """the smallest integer not below x"""

    def celu(self, x: Operand, /, *, alpha: float = 1.0) -> Tensor:
        """x where x > 0, else alpha * (e^(x/alpha) - 1)"""

    def clip(
        self,
        x: Operand,
        low: Operand | None = None,
        high: Operand | None = None,
        /,
    ) -> Tensor:
        """min(max(x, low), high); keeps NaN. Where low > high the result is high."""

    def concat(self, *xs: Operand | None, axis: int) -> Tensor:
        """Operands one after the other on `axis`."""

    def conv(
        self,
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
    ) -> Tensor:
        """Convolution (cross-correlation) of any number of spatial axes, with groups."""

    def conv_integer(
        self,
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
    ) -> Tensor:
        """`conv` of (x - x_zero) and (w - w_zero) in i32, which wraps around; w_zero is a …"""

    def conv_transpose(
        self,
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
    ) -> Tensor:
        """Transposed convolution: the gradient of `conv` in its input. x [N,C,*S], w [C,O/g,*K]."""

    def cos(self, x: Operand, /) -> Tensor:
        """cosine"""

    def cosh(self, x: Operand, /) -> Tensor:
        """hyperbolic cosine"""

    def cumprod(
        self,
        x: Operand,
        /,
        *,
        axis: int,
        exclusive: bool = False,
        reverse: bool = False,
    ) -> Tensor:
        """The running product along `axis`."""

    def cumsum(
        self,
        x: Operand,
        /,
        *,
        axis: int,
        exclusive: bool = False,
        reverse: bool = False,
    ) -> Tensor:
        """The running sum along `axis`."""

    def custom_gradient(
        self,
        *operands: Operand | None,
        results: int,
        wrt: int,
        backward: Graph,
    ) -> Any:
        """The first `results` operands; gradients go through the graph `backward` instead."""

    def decode_image(
        self,
        data: Operand,
        /,
        *,
        pixel_format: str = 'RGB',
        height: Dim,
        width: Dim,
    ) -> Tensor:
        """The pixels [height, width, channels] of an image file, in the order that …"""

    def deform_conv(
        self,
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
    ) -> Tensor:
        """Deformable convolution: x [N,C,*S], w [O,C/g,*K], offset [N,G·K·r,*P], mask …"""

    def depth_to_space(self, x: Operand, /, *, block: int, mode: str = 'DCR') -> Tensor:
        """Channels into blocks of pixels: DCR takes depth first, CRD columns and rows first."""

    def dequantize_linear(
        self,
        x: Operand,
        scale: Operand,
        zero_point: Operand | None = None,
        /,
        *,
        axis: int = 1,
        dtype: DTypeLike = ...,
    ) -> Tensor:
        """(x - zero_point) * scale, in `dtype`."""

    def det(self, x: Operand, /) -> Tensor:
        """The determinants of matrices [..., n, n]."""

    def dft(
        self,
        x: Operand,
        /,
        *,
        axis: int = -2,
        length: Dim,
        inverse: bool = False,
        onesided: bool = False,
    ) -> Tensor:
        """The discrete Fourier transform of `length` numbers on `axis`, by fast transforms in …"""

    def dict_vectorizer(self, x: Operand, /, *, vocabulary: Any, dtype: DTypeLike = ...) -> Any:
        """One row: the value of each key of `vocabulary`, zero or "" where the map has none."""

    def dims(self, *, values: Sequence[Dim]) -> Tensor:
        """Dims, which may be symbolic, as an i64 vector."""

    def div(self, x: Operand, y: Operand, /) -> Tensor:
        """x / y; of ints, rounded towards zero, and 0 where y is 0"""

    def dropout(
        self,
        x: Operand,
        ratio: Operand,
        seed: Operand,
        /,
        *,
        stream: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """x / (1 - ratio) where a uniform number of [0, 1) is at least `ratio`, else 0; and …"""

    def dynamic_quantize_lstm(
        self,
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
    ) -> tuple[Tensor, Tensor, Tensor]:
        """lstm with w = w_scale * (w - w_zero), and r alike; its products are those of bytes."""

    def einsum(self, *xs: Operand | None, equation: str) -> Tensor:
        """Einstein summation of one or more operands."""

    def elu(self, x: Operand, /, *, alpha: float = 1.0) -> Tensor:
        """x where x > 0, else alpha * (e^x - 1)"""

    def equal(self, x: Operand, y: Operand, /) -> Tensor:
        """x == y"""

    def erf(self, x: Operand, /) -> Tensor:
        """the error function"""

    def exp(self, x: Operand, /) -> Tensor:
        """e to the power x"""

    def expand(self, x: Operand, /, *, shape: Sequence[Dim]) -> Tensor:
        """Numpy broadcast to `shape`: axes of size 1 are repeated, new ones appear in front."""

    def fake_quantize(
        self,
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
    ) -> Tensor:
        """x rounded to the numbers that an integer type stands for, as floats: …"""

    def find_sorted(self, x: Operand, table: Operand, /) -> Tensor:
        """Where each element of x stands in an ascending `table` without repetitions, or -1."""

    def find_string(self, x: Operand, /, *, vocabulary: Sequence[str]) -> Tensor:
        """The place of each element in a vocabulary (the last one, if it is there twice), or -1."""

    def floor(self, x: Operand, /) -> Tensor:
        """the largest integer not above x"""

    def fold(
        self,
        x: Operand,
        /,
        *,
        sizes: Sequence[Dim],
        kernel: Sequence[int],
        strides: Sequence[int] = (),
        pads: Sequence[Dim] = (),
        dilations: Sequence[int] = (),
    ) -> Tensor:
        """The columns [N, C·K, L] of windows summed into the image [N,C,*sizes] that they saw."""

    def gather(self, x: Operand, indices: Operand, /, *, axis: int = 0) -> Tensor:
        """Slices of x at `indices` on `axis`; negative indices count from the end."""

    def gather_elements(self, x: Operand, indices: Operand, /, *, axis: int = 0) -> Tensor:
        """out[i, j, …] = x[indices[i, j, …], j, …] for axis 0, and so on."""

    def gather_nd(self, x: Operand, indices: Operand, /, *, batch_dims: int = 0) -> Tensor:
        """The last axis of `indices` holds a place in x, after `batch_dims` shared axes."""

    def gather_points(
        self,
        x: Operand,
        /,
        *indices: Operand | None,
        axes: Sequence[int],
        lead: int = 0,
    ) -> Tensor:
        """x at the places that one index array per axis of `axes` names."""

    def gelu(self, x: Operand, /, *, approximate: str = 'none') -> Tensor:
        """x * P(normal < x), through erf or the tanh approximation"""

    def gemm(
        self,
        a: Operand,
        b: Operand,
        c: Operand | None = None,
        /,
        *,
        alpha: float = 1.0,
        beta: float = 1.0,
        trans_a: bool = False,
        trans_b: bool = False,
    ) -> Tensor:
        """alpha * a @ b + beta * c, with a or b transposed on request; c broadcasts."""

    def greater(self, x: Operand, y: Operand, /) -> Tensor:
        """x > y"""

    def greater_equal(self, x: Operand, y: Operand, /) -> Tensor:
        """x >= y"""

    def grid_sample(
        self,
        x: Operand,
        grid: Operand,
        /,
        *,
        mode: str = 'linear',
        padding: str = 'zeros',
        align_corners: bool = False,
    ) -> Tensor:
        """x [N,C,*S] read at the places of grid [N,*P,r]; the result is [N,C,*P]."""

    def group_norm(
        self,
        x: Operand,
        scale: Operand,
        bias: Operand,
        /,
        *,
        groups: int,
        epsilon: float = 1e-05,
    ) -> Tensor:
        """x [N,C,…] normalised over groups of channels, times scale plus bias per channel."""

    def gru(
        self,
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
    ) -> tuple[Tensor, Tensor]:
        """z, r = f(…); n = g(W x + R (r * h) + b); h' = (1 - z) * n + z * h over time; gives …"""

    def hard_sigmoid(self, x: Operand, /, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
        """alpha * x + beta, limited to [0, 1]"""

    def hard_swish(self, x: Operand, /) -> Tensor:
        """x * (x / 6 + 1/2 limited to [0, 1])"""

    def hardmax(self, x: Operand, /, *, axis: int = -1) -> Tensor:
        """1 at the first largest element along `axis`, 0 elsewhere."""

    def host_image(
        self,
        data: Operand,
        /,
        *,
        pixel_format: str = 'RGB',
        height: Dim,
        width: Dim,
        symbols: Sequence[Dim] = (),
    ) -> Tensor:
        """The pixels of an image file whose size is in its bytes; the host decodes it."""

    def identity(self, x: Operand, /) -> Tensor:
        """x itself"""

    def image_size(self, data: Operand, /, *, pixel_format: str = 'RGB') -> Tensor:
        """(height, width) of the image that a file's bytes hold; (0, 0) if they cannot be …"""

    def instance_norm(
        self,
        x: Operand,
        scale: Operand,
        bias: Operand,
        /,
        *,
        epsilon: float = 1e-05,
    ) -> Tensor:
        """x [N,C,…] normalised over its spatial axes, times scale plus bias per channel."""

    def iota(self, *, shape: Sequence[Dim], axis: int = 0, dtype: DTypeLike = ...) -> Tensor:
        """0, 1, 2, … along `axis`, repeated on the others."""

    def isinf(self, x: Operand, /) -> Tensor:
        """is x infinite, of either sign?"""

    def isnan(self, x: Operand, /) -> Tensor:
        """is x not a number?"""

    def layer_norm(
        self,
        x: Operand,
        scale: Operand | None = None,
        bias: Operand | None = None,
        /,
        *,
        axis: int = -1,
        epsilon: float = 1e-05,
    ) -> Tensor:
        """(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis` on."""

    def leaky_relu(self, x: Operand, /, *, alpha: float = 0.01) -> Tensor:
        """x where x >= 0, else alpha * x"""

    def less(self, x: Operand, y: Operand, /) -> Tensor:
        """x < y"""

    def less_equal(self, x: Operand, y: Operand, /) -> Tensor:
        """x <= y"""

    def linear_classifier(
        self,
        x: Operand,
        /,
        *,
        coefficients: Sequence[float],
        intercepts: Sequence[float] = (),
        post_transform: str = 'NONE',
        labels: Any,
    ) -> Any:
        """Labels of the highest linear score, and the scores after `post_transform`."""

    def log(self, x: Operand, /) -> Tensor:
        """natural logarithm"""

    def log_softmax(self, x: Operand, /, *, axis: int = -1) -> Tensor:
        """x - log(sum(e^x)) along `axis`"""

    def lookup(self, index: Operand, /, *, labels: Sequence[str]) -> Tensor:
        """The string at each index; negative ones count from the end."""

    def lp_pool(
        self,
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
    ) -> Tensor:
        """The p-norm of each window."""

    def lrn(
        self,
        x: Operand,
        /,
        *,
        size: int,
        alpha: float = 0.0001,
        beta: float = 0.75,
        bias: float = 1.0,
    ) -> Tensor:
        """x / (bias + alpha / size * sum of x² over `size` neighbouring channels)^beta"""

    def lstm(
        self,
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
    ) -> tuple[Tensor, Tensor, Tensor]:
        """i, o, f = sigmoid(W x + R h + p * c + b); c' = f * c + i * g(…); h' = o * h(c') …"""

    def matmul(self, a: Operand, b: Operand, /) -> Tensor:
        """Matrix product with numpy's rules: leading axes are batches and broadcast."""

    def matmul_blocks(
        self,
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
    ) -> Tensor:
        """x @ w.T, of weights in blocks along K: w = (code - zero) * scale, zero and scale …"""

    def matmul_integer(
        self,
        a: Operand,
        b: Operand,
        a_zero: Operand | None = None,
        b_zero: Operand | None = None,
        /,
    ) -> Tensor:
        """(a - a_zero) @ (b - b_zero) of 8-bit integers in i32, which wraps around. Factors …"""

    def max_pool(
        self,
        x: Operand,
        /,
        *,
        kernel: Sequence[int],
        strides: Sequence[int] = (),
        pads: Sequence[Dim] = (),
        dilations: Sequence[int] = (),
        ceil_mode: bool = False,
        channels_last: bool = False,
    ) -> Tensor:
        """The maximum of each window; padding never wins."""

    def max_pool_indices(
        self,
        x: Operand,
        /,
        *,
        kernel: Sequence[int],
        strides: Sequence[int] = (),
        pads: Sequence[Dim] = (),
        dilations: Sequence[int] = (),
        ceil_mode: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """`max_pool` and, for each output, the offset of its (first) maximum in the whole of x."""

    def max_unpool(
        self,
        y: Operand,
        indices: Operand,
        /,
        *,
        kernel: Sequence[int],
        strides: Sequence[int] = (),
        pads: Sequence[Dim] = (),
        dilations: Sequence[int] = (),
        sizes: Sequence[Dim],
    ) -> Tensor:
        """The adjoint of max_pool: y summed into the places that `max_pool_indices` chose."""

    def maximum(self, x: Operand, y: Operand, /) -> Tensor:
        """the larger one; NaN if either is"""

    def minimum(self, x: Operand, y: Operand, /) -> Tensor:
        """the smaller one; NaN if either is"""

    def mish(self, x: Operand, /) -> Tensor:
        """x * tanh(softplus(x))"""

    def mod(self, x: Operand, y: Operand, /, *, fmod: bool = False) -> Tensor:
        """the rest of x / y with the sign of y, or of x if fmod is set"""

    def mul(self, x: Operand, y: Operand, /) -> Tensor:
        """x * y"""

    def multinomial(
        self,
        x: Operand,
        seed: Operand,
        /,
        *,
        count: Dim,
        dtype: DTypeLike = ...,
        stream: int = 0,
    ) -> Tensor:
        """`count` classes drawn for each row of x [B,C], class c with a probability in …"""

    def neg(self, x: Operand, /) -> Tensor:
        """-x"""

    def ngram_counts(self, x: Operand, grams: Operand, /, *, skips: int = 0) -> Tensor:
        """How often each row of `grams`, an n-gram, occurs in x[…, C]."""

    def normalize_strings(
        self,
        x: Operand,
        /,
        *,
        stopwords: Sequence[str] = (),
        case: str = 'NONE',
        case_sensitive: bool = False,
        locale: str = 'en_US',
        size: Dim,
    ) -> Tensor:
        """The elements that are no stop word, in lower or upper case if `case` says so: …"""

    def normalized_size(
        self,
        x: Operand,
        /,
        *,
        stopwords: Sequence[str] = (),
        case: str = 'NONE',
        case_sensitive: bool = False,
        locale: str = 'en_US',
    ) -> Tensor:
        """How many elements normalize_strings gives: those that are no stop word, or 1."""

    def normalizer(self, x: Operand, /, *, norm: str = 'MAX') -> Tensor:
        """Rows divided by their maximum (MAX), sum of magnitudes (L1) or length (L2); zero …"""

    def not_equal(self, x: Operand, y: Operand, /) -> Tensor:
        """x != y"""

    def one_hot(
        self,
        indices: Operand,
        values: Operand,
        /,
        *,
        depth: Dim,
        axis: int = -1,
    ) -> Tensor:
        """values[1] where the new axis' index is `indices`, else values[0]."""

    def pad(
        self,
        x: Operand,
        value: Operand | None = None,
        /,
        *,
        pads: Sequence[Dim],
        mode: str = 'constant',
    ) -> Tensor:
        """`pads` = (begin…, end…) elements more on each axis; negative numbers crop."""

    def pow(self, x: Operand, y: Operand, /) -> Tensor:
        """x to the power y; of ints, the real power rounded towards zero"""

    def prelu(self, x: Operand, slope: Operand, /) -> Tensor:
        """x where x >= 0, else slope * x"""

    def qlinear_add(
        self,
        a: Operand,
        a_scale: Operand,
        a_zero: Operand | None,
        b: Operand,
        b_scale: Operand,
        b_zero: Operand | None,
        c_scale: Operand,
        c_zero: Operand | None = None,
        /,
    ) -> Tensor:
        """The sum of two quantized tensors, quantized (com.microsoft.QLinearAdd): rounded …"""

    def qlinear_conv(
        self,
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
    ) -> Tensor:
        """Quantized convolution; padding stands for zero (it is x_zero in x)."""

    def qlinear_matmul(
        self,
        a: Operand,
        a_scale: Operand,
        a_zero: Operand,
        b: Operand,
        b_scale: Operand,
        b_zero: Operand,
        y_scale: Operand,
        y_zero: Operand,
        /,
    ) -> Tensor:
        """Quantized matrix product; scales and zeros are scalars, per row of a or per column …"""

    def quantize_linear(
        self,
        x: Operand,
        scale: Operand,
        zero_point: Operand | None = None,
        /,
        *,
        axis: int = 1,
        dtype: DTypeLike = ...,
        saturate: bool = True,
        precision: DTypeLike | None = None,
    ) -> Tensor:
        """saturate(round_half_even(x / scale) + zero_point), in `dtype`; float8 need not …"""

    def random_bits(
        self,
        seed: Operand,
        /,
        *,
        shape: Sequence[Dim],
        stream: int = 0,
        word: int = 0,
    ) -> Tensor:
        """Word 0 … 3 of four random 32-bit words that each element has."""

    def random_normal(
        self,
        seed: Operand,
        /,
        *,
        shape: Sequence[Dim],
        stream: int = 0,
        dtype: DTypeLike = ...,
        mean: float = 0.0,
        scale: float = 1.0,
    ) -> Tensor:
        """Normal numbers of the given mean and standard deviation."""

    def random_uniform(
        self,
        seed: Operand,
        /,
        *,
        shape: Sequence[Dim],
        stream: int = 0,
        dtype: DTypeLike = ...,
        low: float = 0.0,
        high: float = 1.0,
    ) -> Tensor:
        """Uniform numbers of [low, high)."""

    def rank(self, x: Operand, /, *, axis: int = -1, largest: bool = True) -> Tensor:
        """How many elements on `axis` come before each one; of equals the first comes first."""

    def reciprocal(self, x: Operand, /) -> Tensor:
        """1 / x"""

    def reduce_l1(self, x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Tensor:
        """The sum of |x|, over `axes`."""

    def reduce_l2(self, x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Tensor:
        """The square root of the sum of x * x, over `axes`."""

    def reduce_log_sum(
        self,
        x: Operand,
        /,
        *,
        axes: Sequence[int],
        keepdims: bool = True,
    ) -> Tensor:
        """The log of the sum, over `axes`."""

    def reduce_log_sum_exp(
        self,
        x: Operand,
        /,
        *,
        axes: Sequence[int],
        keepdims: bool = True,
    ) -> Tensor:
        """The log of the sum of e^x, without overflow, over `axes`."""

    def reduce_max(self, x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Tensor:
        """The largest element; NaN if there is one, over `axes`."""

    def reduce_mean(self, x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Tensor:
        """The mean, of nothing NaN; of ints, rounded towards zero, of nothing 0, over `axes`."""

    def reduce_min(self, x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Tensor:
        """The smallest element; NaN if there is one, over `axes`."""

    def reduce_prod(self, x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Tensor:
        """The product, over `axes`."""

    def reduce_sum(self, x: Operand, /, *, axes: Sequence[int], keepdims: bool = True) -> Tensor:
        """The sum, over `axes`."""

    def reduce_sum_square(
        self,
        x: Operand,
        /,
        *,
        axes: Sequence[int],
        keepdims: bool = True,
    ) -> Tensor:
        """The sum of x * x, over `axes`."""

    def regex_full_match(self, x: Operand, /, *, pattern: str) -> Tensor:
        """Whether the whole of each element matches a regular expression in RE2's syntax."""

    def relu(self, x: Operand, /) -> Tensor:
        """x where x > 0, else 0; keeps NaN"""

    def reshape(self, x: Operand, /, *, shape: Sequence[Dim]) -> Tensor:
        """The same elements, in the same order, under another shape."""

    def resize(
        self,
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
    ) -> Tensor:
        """x interpolated to `sizes`."""

    def reverse(self, x: Operand, /, *, axes: Sequence[int]) -> Tensor:
        """The named axes in reverse order."""

    def rms_norm(
        self,
        x: Operand,
        scale: Operand | None = None,
        /,
        *,
        axis: int = -1,
        epsilon: float = 1e-05,
    ) -> Tensor:
        """x / sqrt(mean(x²) + epsilon) * scale over the axes from `axis` on."""

    def rnn(
        self,
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
    ) -> tuple[Tensor, Tensor]:
        """h' = f(W x + R h + b) over time; gives every h and the last one."""

    def roi_align(
        self,
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
    ) -> Tensor:
        """Regions [R,4] (x1, y1, x2, y2) of the images x [N,C,H,W] that `batch` [R] names, …"""

    def roi_max_pool(
        self,
        x: Operand,
        rois: Operand,
        /,
        *,
        size: Sequence[int],
        scale: float = 1.0,
    ) -> Tensor:
        """The maxima of the bins of regions [R,5] (image, x1, y1, x2, y2) of x [N,C,H,W]: …"""

    def round(self, x: Operand, /) -> Tensor:
        """the nearest integer; halves go to the even one"""

    def rsqrt(self, x: Operand, /) -> Tensor:
        """1 / sqrt(x)"""

    def running(
        self,
        x: Operand,
        /,
        *,
        axis: int,
        exclusive: bool = False,
        reverse: bool = False,
        combiner: str = 'sum',
    ) -> Tensor:
        """The running sum or product along a short axis: each element reads all before it."""

    def scan(
        self,
        *operands: Operand | None,
        body: Graph,
        states: int,
        scans: int,
        reverse: bool = False,
    ) -> Any:
        """A loop over axis 0 of arrays that carries states and stacks what each step puts out."""

    def scatter_elements(
        self,
        x: Operand,
        indices: Operand,
        updates: Operand,
        /,
        *,
        axis: int = 0,
        reduction: str = 'none',
    ) -> Tensor:
        """out[indices[i, j, …], j, …] = updates[i, j, …] for axis 0, and so on; else x."""

    def scatter_nd(
        self,
        x: Operand,
        indices: Operand,
        updates: Operand,
        /,
        *,
        reduction: str = 'none',
    ) -> Tensor:
        """out[indices[i]] = updates[i]: the last axis of `indices` holds a place in x."""

    def search(self, x: Operand, keys: Operand, /) -> Tensor:
        """Where each element is among `keys`, which are sorted and differ, or -1."""

    def search_strings(self, x: Operand, /, *, keys: Sequence[str]) -> Tensor:
        """Where each string is in `keys` (the last one of equal keys), or -1."""

    def selu(
        self,
        x: Operand,
        /,
        *,
        alpha: float = 1.6732631921768188,
        gamma: float = 1.0507010221481323,
    ) -> Tensor:
        """gamma * elu(x)"""

    def shift_left(self, x: Operand, y: Operand, /) -> Tensor:
        """x * 2^y without what leaves the type; y below its width"""

    def shift_right(self, x: Operand, y: Operand, /) -> Tensor:
        """floor(x / 2^y); y below the type's width"""

    def sigmoid(self, x: Operand, /) -> Tensor:
        """1 / (1 + e^-x)"""

    def sign(self, x: Operand, /) -> Tensor:
        """-1, 0 or 1"""

    def silu(self, x: Operand, /) -> Tensor:
        """x * sigmoid(x)"""

    def sin(self, x: Operand, /) -> Tensor:
        """sine"""

    def sinh(self, x: Operand, /) -> Tensor:
        """hyperbolic sine"""

    def slice(
        self,
        x: Operand,
        /,
        *,
        axes: Sequence[int],
        starts: Sequence[Dim],
        steps: Sequence[int],
        sizes: Sequence[Dim],
    ) -> Tensor:
        """Elements `start + step * (0 … size - 1)` of each named axis; steps may be negative."""

    def softmax(self, x: Operand, /, *, axis: int = -1) -> Tensor:
        """e^x / sum(e^x) along `axis`"""

    def softplus(self, x: Operand, /) -> Tensor:
        """log(1 + e^x)"""

    def softsign(self, x: Operand, /) -> Tensor:
        """x / (1 + |x|)"""

    def space_to_depth(self, x: Operand, /, *, block: int) -> Tensor:
        """Blocks of pixels into channels: the inverse of depth_to_space in DCR mode."""

    def split(self, x: Operand, /, *, axis: int, sizes: Sequence[Dim]) -> Any:
        """Consecutive parts of the given sizes on `axis`."""

    def sqrt(self, x: Operand, /) -> Tensor:
        """square root"""

    def stop_gradient(self, x: Operand, /) -> Tensor:
        """Its input, as a constant to gradients."""

    def string_concat(self, x: Operand, y: Operand, /) -> Tensor:
        """x[i] followed by y[i]; shapes broadcast."""

    def string_split(
        self,
        x: Operand,
        /,
        *,
        delimiter: str = '',
        maxsplit: int = -1,
        width: Dim,
    ) -> tuple[Tensor, Tensor]:
        """The parts of each element between delimiters, in `width` places of a new last axis, …"""

    def string_split_width(
        self,
        x: Operand,
        /,
        *,
        delimiter: str = '',
        maxsplit: int = -1,
    ) -> Tensor:
        """The largest number of parts that string_split makes of an element; 0 without elements."""

    def sub(self, x: Operand, y: Operand, /) -> Tensor:
        """x - y"""

    def sum_blocks(
        self,
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
    ) -> Tensor:
        """What matmul_blocks is made of: the sum over blocks of scale · (the block's …"""

    def suppress(
        self,
        boxes: Operand,
        scores: Operand,
        overlap: Operand,
        most: Operand | None = None,
        /,
        *,
        steps: Dim,
    ) -> Tensor:
        """Indices of the best boxes that do not overlap, i64[G,C,steps]; -1 where none is left."""

    def suppress_lazily(
        self,
        boxes: Operand,
        scores: Operand,
        overlap: Operand,
        most: Operand | None = None,
        /,
        *,
        steps: Dim,
    ) -> Tensor:
        """What `suppress` gives, with less work where there are many boxes, of each row in …"""

    def tan(self, x: Operand, /) -> Tensor:
        """tangent"""

    def tanh(self, x: Operand, /) -> Tensor:
        """hyperbolic tangent"""

    def thresholded_relu(self, x: Operand, /, *, alpha: float = 1.0) -> Tensor:
        """x where x > alpha, else 0"""

    def tile(self, x: Operand, /, *, repeats: Sequence[Dim]) -> Tensor:
        """x repeated `repeats[d]` times along each axis d."""

    def top_k(
        self,
        x: Operand,
        /,
        *,
        k: Dim,
        axis: int = -1,
        largest: bool = True,
        sorted: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """The k largest (or smallest) elements on `axis` in order, and their indices."""

    def transpose(self, x: Operand, /, *, perm: Sequence[int]) -> Tensor:
        """Axes in another order: `out.shape[i] == x.shape[perm[i]]`."""

    def tree_leaves(
        self,
        x: Operand,
        start: Operand,
        feature: Operand,
        threshold: Operand,
        child: Operand,
        missing: Operand | None = None,
        /,
        *,
        steps: int,
    ) -> Tensor:
        """The nodes that each row of x comes to in each tree, `steps` below `start`."""

    def trilu(self, x: Operand, /, *, k: int = 0, upper: bool = True) -> Tensor:
        """The upper (or lower) triangle of matrices, from diagonal k on; zero elsewhere (the …"""

    def unfold(
        self,
        x: Operand,
        /,
        *,
        kernel: Sequence[int],
        strides: Sequence[int] = (),
        pads: Sequence[Dim] = (),
        dilations: Sequence[int] = (),
    ) -> Tensor:
        """The windows of x [N,C,*S] as columns [N, C·K, L]; padding is 0."""

    def where(self, condition: Operand, x: Operand, y: Operand, /) -> Tensor:
        """x where the condition holds, else y; NaN in what is not chosen does no harm"""

    def xor(self, x: Operand, y: Operand, /) -> Tensor:
        """either x or y"""

    def zip_map(self, x: Operand, /, *, labels: Any) -> Any:
        """One {label: score} per row, scores as Python floats."""
