"""Rewrites of normalizations, attention and convolutions, as those of `rewrite_cases.py`."""

from tessel.compiler.rewrite.rules.attention import ATTENTION
from tessel.compiler.rewrite.rules.einsum import EINSUMS

from .rewrite_cases import HALF, ONE, TWO, ZERO, X, number

EPS = number("eps", 1e-5)
PIECES = (
    EPS + TWO + "%m = reduce_mean(%x) {axes=[-1]}\n%d = sub(%x, %m)\n%s = pow(%d, %c)\n"
    "%v = reduce_mean(%s) {axes=[1]}\n%e = add(%v, %eps)\n%r = sqrt(%e)\n%y = div(%d, %r)"
)
P3 = number("p", "[1.0, 2.0, 3.0]", "f32[3]")
ERF = number("s", 1.4142135) + ONE + "%d = div(%x, %s)\n%e = erf(%d)\n%f = add(%e, %c)\n"
CUBE = number("three", 3.0) + "%q = pow(%x, %three)\n"
TANH = (
    CUBE + number("k", 0.044715) + number("r", 0.7978846) + ONE + "%a = mul(%q, %k)\n"
    "%b = add(%x, %a)\n%d = mul(%b, %r)\n%t = tanh(%d)\n%f = add(%t, %c)\n"
)
CLIP = (
    number("three", 3.0)
    + number("six", 6.0)
    + ZERO
    + ("%a = add(%x, %three)\n%b = clip(%a, %c, %six)\n")
)
NORM_CASES = [
    (
        "(x - mean(x)) / sqrt(mean((x - mean(x))²) + ε) => layer_norm(x)",
        X,
        PIECES,
        "%y = layer_norm(%x) {epsilon=9.999999747378752e-06}",
    ),
    (
        "(x - mean(x)) / sqrt(mean((x - mean(x))²) + ε) => layer_norm(x)",
        X,
        EPS + "%m = reduce_mean(%x) {axes=[1]}\n%d = sub(%x, %m)\n%s = mul(%d, %d)\n"
        "%v = reduce_mean(%s) {axes=[1]}\n%e = add(%eps, %v)\n%r = rsqrt(%e)\n%y = mul(%r, %d)",
        "%y = layer_norm(%x) {epsilon=9.999999747378752e-06}",
    ),
    (
        "layer_norm(x) * s => layer_norm(x, s)",
        X,
        P3 + "%a = layer_norm(%x)\n%y = mul(%p, %a)",
        P3 + "%y = layer_norm(%x, %p)",
    ),
    (
        "layer_norm(x, s) + t => layer_norm(x, s, t)",
        X,
        P3 + "%a = layer_norm(%x, %p)\n%y = add(%a, %p)",
        P3 + "%y = layer_norm(%x, %p, %p)",
    ),
    (
        "exp(x - max(x)) / sum(exp(x - max(x))) => softmax(x)",
        X,
        "%m = reduce_max(%x) {axes=[1]}\n"
        "%d = sub(%x, %m)\n%e = exp(%d)\n%s = reduce_sum(%e) {axes=[-1]}\n%y = div(%e, %s)",
        "%y = softmax(%x) {axis=1}",
    ),
    (
        "exp(x - max(x)) / sum(exp(x - max(x))) => softmax(x)",
        X,
        "%e = exp(%x)\n%s = reduce_sum(%e) {axes=[0]}\n%y = div(%e, %s)",
        "%y = softmax(%x) {axis=0}",
    ),
    (
        "log(softmax(x)) => log_softmax(x)",
        X,
        "%a = softmax(%x) {axis=1}\n%y = log(%a)",
        "%y = log_softmax(%x) {axis=1}",
    ),
    (
        "x * (1 + erf(x/√2)) / 2 => gelu(x)",
        X,
        ERF + HALF.replace("%c", "%h") + "%g = mul(%h, %f)\n%y = mul(%x, %g)",
        "%y = gelu(%x)",
    ),
    (
        "x * (1 + erf(x/√2)) / 2 => gelu(x)",
        X,
        ERF + HALF.replace("%c", "%h") + "%g = mul(%x, %f)\n%y = mul(%g, %h)",
        "%y = gelu(%x)",
    ),
    (
        "x * (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2 => gelu(x)",
        X,
        TANH + HALF.replace("%c", "%h") + "%g = mul(%x, %h)\n%y = mul(%g, %f)",
        '%y = gelu(%x) {approximate="tanh"}',
    ),
    ("x * sigmoid(x) => silu(x)", X, "%a = sigmoid(%x)\n%y = mul(%a, %x)", "%y = silu(%x)"),
    (
        "x * tanh(softplus(x)) => mish(x)",
        X,
        "%a = softplus(%x)\n%b = tanh(%a)\n%y = mul(%x, %b)",
        "%y = mish(%x)",
    ),
    (
        "x * clip(x + 3, 0, 6) / 6 => hard_swish(x)",
        X,
        CLIP + "%d = mul(%x, %b)\n%y = div(%d, %six)",
        "%y = hard_swish(%x)",
    ),
    (
        "x * hard_sigmoid(x, 1/6, 1/2) => hard_swish(x)",
        X,
        "%a = hard_sigmoid(%x) {alpha=0.16666667, beta=0.5}\n%y = mul(%x, %a)",
        "%y = hard_swish(%x)",
    ),
]

QKV = "q: f32[1,2,3,4]; k: f32[1,2,4,3]; v: f32[1,2,3,4]"
TURN = "%t = transpose(%k) {perm=[0, 1, 3, 2]}\n"
ATTENTION_CASES = [
    (
        ATTENTION[0].equation,
        QKV,
        "%s = matmul(%q, %k)\n%p = softmax(%s) {axis=-1}\n%y = matmul(%p, %v)",
        TURN + "%y = attention(%q, %t, %v) {scale=1.0}",
    ),
    (
        ATTENTION[0].equation,
        QKV + "; m: f32[3,3]",
        TWO + "%s = matmul(%q, %k)\n"
        "%a = div(%s, %c)\n%b = add(%m, %a)\n%p = softmax(%b) {axis=3}\n%y = matmul(%p, %v)",
        TURN + "%y = attention(%q, %t, %v, %m) {scale=0.5}",
    ),
    (
        ATTENTION[0].equation,
        QKV + "; m: bool[3,3]",
        HALF
        + ZERO.replace("%c", "%z")
        + number("low", -3e38)
        + "%a = mul(%q, %c)\n%b = mul(%c, %k)\n%s = matmul(%a, %b)\n"
        "%w = where(%m, %z, %low)\n%d = add(%s, %w)\n%p = softmax(%d) {axis=-1}\n%n = isnan(%p)\n"
        "%g = where(%n, %z, %p)\n%y = matmul(%g, %v)",
        ZERO
        + number("low", -3e38)
        + "%w = where(%m, %c, %low)\n"
        + TURN
        + "%y = attention(%q, %t, %v, %w) {scale=0.25}",
    ),
    (
        ATTENTION[0].equation,
        "q: f32[1,1,2,4]; k: f32[1,1,4,2]; v: f32[1,1,2,4]",
        number("m", "[0.0, -3e38, 0.0, 0.0]", "f32[2,2]")
        + "%s = matmul(%q, %k)\n%b = add(%s, %m)\n"
        "%p = softmax(%b) {axis=-1}\n%y = matmul(%p, %v)",
        TURN + "%y = attention(%q, %t, %v) {scale=1.0, is_causal=true}",
    ),
]

EINSUM = EINSUMS[0].equation
FILLED = (
    number("low", -1e30) + "%s = matmul(%q, %k)\n%d = add(%s, %m)\n%f = where(WHERE)\n"
    "%p = softmax(%f) {axis=-1}\n%y = matmul(%p, %v)"
)
HEADS = "q: f32[N,4,S,3]; h: f32[N,2,1,T,3]; v: f32[N,2,1,T,5]; m: f32[N,1,S,T]"
REPEATED = (
    "%i = expand(%v) {shape=[N, 2, 2, T, 5]}\n%j = reshape(%i) {shape=[N, 4, T, 5]}\n"
    "%e = expand(%h) {shape=[N, 2, 2, T, 3]}\n"
)
ATTENTION_CASES += [
    (
        ATTENTION[1].equation,
        HEADS,
        REPEATED + "%a = reshape(%e) {shape=[4*N, T, 3]}\n%b = transpose(%a) {perm=[0, 2, 1]}\n"
        "%c = reshape(%b) {shape=[N, 4, 3, T]}\n%d = transpose(%c) {perm=[0, 1, 3, 2]}\n"
        "%y = attention(%q, %d, %j, %m) {scale=0.5}",
        "%n = reshape(%m) {shape=[N, 1, 1, S, T]}\n%p = reshape(%q) {shape=[N, 2, 2, S, 3]}\n"
        "%a = attention(%p, %h, %v, %n) {scale=0.5}\n%y = reshape(%a) {shape=[N, 4, S, 5]}",
    ),
    (
        ATTENTION[0].equation,
        QKV + "; h: bool[1,3]; m: f32[3,3]",
        FILLED.replace("WHERE", "%h, %low, %d"),
        number("low", -1e30)
        + "%w = where(%h, %low, %m)\n"
        + TURN
        + "%y = attention(%q, %t, %v, %w) {scale=1.0}",
    ),
    (
        ATTENTION[0].equation,
        QKV + "; h: bool[1,3]; m: f32[3,3]",
        FILLED.replace("WHERE", "%h, %d, %low"),
        number("low", -1e30)
        + "%w = where(%h, %m, %low)\n"
        + TURN
        + "%y = attention(%q, %t, %v, %w) {scale=1.0}",
    ),
    (
        EINSUM,
        "x: f32[2,3,4,5]; z: f32[2,3,6,5]",
        '%y = einsum(%x, %z) {equation="bhid,bhjd->bhij"}',
        "%t = transpose(%z) {perm=[0, 1, 3, 2]}\n%y = matmul(%x, %t)",
    ),
    (
        EINSUM,
        "x: f32[2,3]; z: f32[3,4]",
        '%y = einsum(%x, %z) {equation="i k, k j -> j i"}',
        "%p = matmul(%x, %z)\n%y = transpose(%p) {perm=[1, 0]}",
    ),
    (
        EINSUM,
        "x: f32[2,3,4]; z: f32[4,3]",
        '%y = einsum(%x, %z) {equation="bij,ji->b"}',
        "%a = reshape(%x) {shape=[2,12]}\n%t = transpose(%z) {perm=[1, 0]}\n"
        "%c = reshape(%t) {shape=[12,1]}\n%p = matmul(%a, %c)\n%y = reshape(%p) {shape=[2]}",
    ),
]

W = number("w", "[1.0, 2.0]", "f32[2,1,1,1]")
IMAGE = "x: f32[1,1,2,2]"
S2 = number("s", "[3.0, 5.0]", "f32[2,1,1]")
STATS = "".join(
    number(n, v, "f32[2]")
    for n, v in {
        "a": "[2.0, 1.0]",
        "b": "[1.0, 0.0]",
        "m": "[1.0, 2.0]",
        "v": "[0.75, 0.0]",
    }.items()
)
BN = "{epsilon=0.25}"
LINEAR = number("w", "[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]", "f32[3,2]")
ROW = number("s", "[2.0, 4.0]", "f32[2]")
SCALED = number("w", "[2.0, 8.0, 6.0, 16.0, 10.0, 24.0]", "f32[3,2]")
CONV_CASES = [
    (
        "batch_norm(conv(x, w, b)) => conv(x, w·a, b·a + c)",
        IMAGE,
        W + STATS + f"%c = conv(%x, %w)\n%y = batch_norm(%c, %a, %b, %m, %v) {BN}",
        number("w", "[2.0, 4.0]", "f32[2,1,1,1]")
        + number("b", "[-1.0, -4.0]", "f32[2]")
        + "%y = conv(%x, %w, %b)",
    ),
    (
        "batch_norm(conv_transpose(x, w, b)) => conv_transpose(x, w·a, b·a + c)",
        "x: f32[1,2,2,2]",
        W + STATS + "%c = conv_transpose(%x, %w) {group=2}\n"
        f"%y = batch_norm(%c, %a, %b, %m, %v) {BN}",
        number("w", "[2.0, 4.0]", "f32[2,1,1,1]")
        + number("b", "[-1.0, -4.0]", "f32[2]")
        + "%y = conv_transpose(%x, %w, %b) {group=2}",
    ),
    (
        "conv(x, w, b) * s => conv(x, w·s, b·s)",
        IMAGE,
        W + S2 + "%c = conv(%x, %w)\n%y = mul(%s, %c)",
        number("w", "[3.0, 10.0]", "f32[2,1,1,1]") + "%y = conv(%x, %w)",
    ),
    (
        "conv(x, w, b) + t => conv(x, w, b + t)",
        IMAGE,
        W + S2 + "%c = conv(%x, %w)\n%y = add(%c, %s)",
        W + number("b", "[3.0, 5.0]", "f32[2]") + "%y = conv(%x, %w, %b)",
    ),
    (
        "conv_transpose(x, w, b) + t => conv_transpose(x, w, b + t)",
        "x: f32[1,2,2,2]",
        W + number("s", 3.0) + "%c = conv_transpose(%x, %w)\n%y = add(%c, %s)",
        W + number("b", "[3.0]", "f32[1]") + "%y = conv_transpose(%x, %w, %b)",
    ),
    (
        "conv(pad(x), w) => conv(x, w) {pads}",
        IMAGE,
        W + ZERO + "%p = pad(%x, %c) "
        "{pads=[0, 0, 1, 0, 0, 0, 0, 2]}\n%y = conv(%p, %w) {pads=[1, 1, 1, 1]}",
        W + "%y = conv(%x, %w) {pads=[2, 1, 1, 3]}",
    ),
    (
        "conv(x, w) => conv(x, w without taps that meet padding only)",
        "x: f32[1,1,4,4]",
        number("w", "[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]", "f32[1,1,2,3]")
        + "%y = conv(%x, %w) {pads=[3, 5, 0, 5], dilations=[3, 5]}",
        number("w", "[2.0, 5.0]", "f32[1,1,2,1]")
        + "%y = conv(%x, %w) {pads=[3, 0, 0, 0], dilations=[3, 5]}",
    ),
    (
        "batch_norm(x) => x·a + c",
        "x: f32[1,2,2]",
        STATS + f"%y = batch_norm(%x, %a, %b, %m, %v) {BN}",
        number("a", "[2.0, 2.0]", "f32[2,1]")
        + number("b", "[-1.0, -4.0]", "f32[2,1]")
        + "%p = mul(%x, %a)\n%y = add(%p, %b)",
    ),
    (
        "gemm(a, b, c) => α·(a @ b) + β·c",
        "x: f32[2,3]; w: f32[2,3]; b: f32[2]",
        "%y = gemm(%x, %w, %b) {trans_b=true, beta=2.0}",
        "%t = transpose(%w) {perm=[1, 0]}\n"
        "%p = matmul(%x, %t)\n" + TWO + "%d = mul(%b, %c)\n%y = add(%p, %d)",
    ),
    (
        "(x @ w) * s => x @ (w·s)",
        X,
        LINEAR + ROW + "%p = matmul(%x, %w)\n%y = mul(%p, %s)",
        SCALED + "%y = matmul(%x, %w)",
    ),
    (
        "(x @ w + b) * s => x @ (w·s) + b·s",
        X,
        LINEAR + ROW + "%p = matmul(%x, %w)\n%q = add(%p, %s)\n%y = mul(%q, %s)",
        SCALED + number("b", "[4.0, 16.0]", "f32[2]") + "%p = matmul(%x, %w)\n%y = add(%p, %b)",
    ),
]

COUNT = ", ".join(str(float(i)) for i in range(6))
ROWS = "[0.0, 2.0, 4.0, 1.0, 3.0, 5.0]"
CONV_CASES += [
    (
        "reshape(transpose(x)) @ w => reshape(x) @ w′",
        "x: f32[N,2,3]",
        number("w", f"[{COUNT}]", "f32[6,1]") + "%t = transpose(%x) {perm=[0, 2, 1]}\n"
        "%f = reshape(%t) {shape=[N,6]}\n%y = matmul(%f, %w)",
        number("w", ROWS, "f32[6,1]") + "%f = reshape(%x) {shape=[N,6]}\n%y = matmul(%f, %w)",
    )
]
