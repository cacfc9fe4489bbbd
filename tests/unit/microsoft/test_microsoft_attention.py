"""com.microsoft's attention operators against ONNX Runtime."""

import numpy as np
import pytest

from ...support.microsoft import case, check, f, q, run, scale, zero

pytest.importorskip("onnxruntime", reason="the comparison needs ONNX Runtime")

I32 = np.int32
X, W, BIAS = f(2, 3, 8), f(8, 24, seed=1, scale=0.4), f(24, seed=2)
PAST = f(2, 2, 4, 5, 2, seed=3)  # keys and values of 2 sentences, 4 heads, 5 tokens, 2 numbers
NARROW = f(8, 24, seed=1, scale=0.4)[:, :20], f(20, seed=2)


def mask(*rows):
    return np.array(rows, I32)


def attention(*inputs, **options):
    return case("Attention", *inputs, num_heads=4, **options)


ATTENTION = [
    attention(X, W, BIAS, name="plain"),
    attention(X, W, None, name="no-bias"),
    attention(X, W, BIAS, scale=0.3),
    attention(X, W, BIAS, mask(3, 2), name="ends"),
    attention(X, W, BIAS, mask(3, 2, 1, 0), name="ends-and-starts"),
    attention(X, W, BIAS, mask([1, 1, 0], [1, 0, 1]), name="mask-BT"),
    attention(X, W, BIAS, mask([0, 0, 0], [1, 1, 1]), name="all-masked"),
    attention(X, W, BIAS, mask([1, 1, 0], [1, 0, 1]), mask_filter_value=-3.0),
    attention(X, W, BIAS, np.tri(3, dtype=I32)[None].repeat(2, 0), name="mask-BST"),
    attention(X, W, BIAS, unidirectional=1),
    attention(X, W, BIAS, mask([0, 1, 1], [1, 1, 0]), unidirectional=1, name="causal-mask"),
    attention(X, W, BIAS, np.ones((2, 3, 3), I32), unidirectional=1, name="causal-mask-BST"),
    attention(X, W, BIAS, None, None, f(2, 4, 3, 3, seed=5), name="bias-of-scores"),
    attention(X, W, BIAS, None, None, f(1, 1, 3, 3, seed=5), name="bias-of-scores-shared"),
    attention(X, W, BIAS, None, PAST, outputs=2, name="past"),
    attention(X, W, BIAS, None, PAST, outputs=2, unidirectional=1, name="past-causal"),
    attention(
        X,
        W,
        BIAS,
        mask([0] + [1] * 7, [1] * 7 + [0]),
        PAST,
        outputs=2,
        unidirectional=1,
        name="past-causal-mask",
    ),
    attention(X, W, BIAS, outputs=2, name="present"),
    attention(X, *NARROW, qkv_hidden_sizes=[8, 8, 4]),
]

Q, K, V = f(2, 3, 8), f(2, 5, 8, seed=1), f(2, 5, 12, seed=2)
CACHE = f(2, 4, 5, 2, seed=3), f(2, 4, 5, 2, seed=4)
SELF = f(2, 3, 8), f(2, 3, 8, seed=1), f(2, 3, 8, seed=2)


def heads(*inputs, **options):
    return case("MultiHeadAttention", *inputs, num_heads=4, **options)


MULTI_HEAD = [
    heads(Q, K, V, name="cross"),
    heads(Q, K, V, f(28), name="bias"),
    heads(Q, K, V, None, mask(4, 5), name="ends"),
    heads(Q, K, V, None, mask([1, 1, 0, 1, 1], [1, 1, 1, 1, 0]), name="mask-BT"),
    heads(Q, K, V, None, mask(np.ones((3, 5)), np.tri(3, 5, 2)), name="mask-BST"),
    heads(Q, K, V, None, None, f(1, 4, 3, 5), name="bias-of-scores"),
    heads(Q, *CACHE, name="finished-cache"),
    heads(Q, *CACHE, f(24), name="finished-cache-bias"),
    heads(*SELF, f(24), None, None, *CACHE, outputs=3, name="past"),
    heads(*SELF, None, mask([1] * 8, [0] + [1] * 7), None, *CACHE, outputs=3, unidirectional=1),
    heads(*SELF, outputs=3, scale=0.2),
    heads(*SELF, unidirectional=1),
    heads(Q, K, V, outputs=["y", "", "", "qk"], _types=[1, 0, 0, 1], name="scores"),
    heads(
        Q,
        K,
        V,
        None,
        mask(4, 5),
        outputs=["y", "", "", "qk"],
        _types=[1, 0, 0, 1],
        name="scores-masked",
    ),
]

INTEGERS = [
    case(
        "QAttention",
        q(2, 3, 8),
        q(8, 24, seed=1),
        f(24),
        scale(0.01),
        scale(0.02),
        *more,
        num_heads=4,
        name=name,
        **options,
    )
    for name, more, options in [
        ("plain", (None, zero(120), zero(130)), {}),
        ("mask", (mask(3, 2), zero(120), zero(130)), {}),
        ("past", (None, zero(120), zero(130), PAST), {"outputs": 2, "unidirectional": 1}),
    ]
] + [
    case(
        "QAttention",
        q(2, 3, 8),
        q(8, 24, seed=1, dtype=np.int8),
        f(24),
        scale(0.01),
        np.linspace(0.01, 0.02, 24, dtype=np.float32),
        None,
        zero(120),
        np.zeros(24, np.int8),
        num_heads=4,
        name="per-column",
    )
]

ANGLES = np.cos(f(16, 4)), np.sin(f(16, 4))
AT = np.array([[3, 4, 9], [0, 1, 15]])


def half(*arrays):
    return [x.astype(np.float16) if x.dtype == np.float32 else x for x in arrays]


ROTARY = [
    case("RotaryEmbedding", f(2, 3, 16), np.array([4]), *ANGLES, name="offset"),
    case("RotaryEmbedding", f(2, 3, 16), AT, *ANGLES, name="positions"),
    case("RotaryEmbedding", f(2, 3, 16), AT, *ANGLES, interleaved=1),
    case("RotaryEmbedding", f(2, 2, 3, 8), AT, *ANGLES, name="rank-4"),
    case("RotaryEmbedding", f(2, 2, 3, 8), AT, *ANGLES, interleaved=1, name="rank-4-interleaved"),
    case("RotaryEmbedding", f(2, 3, 24), AT, *ANGLES, num_heads=2, rotary_embedding_dim=8),
    case(
        "RotaryEmbedding",
        f(2, 3, 24),
        AT,
        *ANGLES,
        num_heads=2,
        rotary_embedding_dim=8,
        interleaved=1,
    ),
    case("RotaryEmbedding", *half(f(2, 3, 16), AT, *ANGLES), name="f16"),
]

THREE = np.random.default_rng(3).integers(0, 16, (3, 2, 3))
SECTIONS = {"mrope_section": [2, 1, 1]}
MULTIMODAL = [
    case("MRotaryEmbedding", f(2, 3, 16), THREE, *ANGLES, **SECTIONS, num_heads=2),
    case("MRotaryEmbedding", f(2, 3, 16), THREE, *ANGLES, **SECTIONS, num_heads=2, interleaved=1),
    case("MRotaryEmbedding", f(2, 2, 3, 8), THREE, *ANGLES, **SECTIONS, mrope_layout=1),
    case("MRotaryEmbedding", f(2, 2, 3, 8), THREE, *ANGLES, mrope_section=[4, 0, 0]),
    case(
        "MRotaryEmbedding",
        f(2, 3, 24),
        THREE,
        *ANGLES,
        **SECTIONS,
        num_heads=2,
        rotary_embedding_dim=8,
    ),
]

WIDE = np.cos(f(16, 8)), np.sin(f(16, 8))
TOKENS = f(2, 3, 64), f(2, 3, 32, seed=1), f(2, 3, 32, seed=2)  # 4 heads and 2 of 16 numbers
ONE = f(2, 1, 64), f(2, 1, 32, seed=1), f(2, 1, 32, seed=2)
LONG = f(1, 5, 64), f(1, 5, 32, seed=1), f(1, 5, 32, seed=2)
EMPTY = f(2, 2, 0, 16), f(2, 2, 0, 16)
GONE = f(2, 2, 5, 16, seed=3), f(2, 2, 5, 16, seed=4)


def total(n):
    return np.array([n], I32)


def grouped(*inputs, **options):
    return case(
        "GroupQueryAttention",
        *inputs,
        num_heads=4,
        kv_num_heads=2,
        outputs=3,
        _weights=(6,),
        **options,
    )


GROUPED = [
    grouped(*TOKENS, None, None, mask(2, 2), total(3), name="prompt"),
    grouped(*TOKENS, *EMPTY, mask(2, 2), total(3), name="prompt-empty-past"),
    grouped(f(2, 3, 128), None, None, None, None, mask(2, 2), total(3), name="packed"),
    grouped(*TOKENS, None, None, mask(2, 2), total(3), *WIDE, do_rotary=1),
    grouped(*TOKENS, None, None, mask(2, 2), total(3), *WIDE, do_rotary=1, rotary_interleaved=1),
    grouped(*ONE, *GONE, mask(5, 5), total(6), name="token"),
    grouped(*ONE, *GONE, mask(5, 3), total(6), name="token-padded"),
    grouped(*ONE, *GONE, mask(5, 3), total(6), *WIDE, do_rotary=1, name="token-rotary"),
    grouped(*ONE, *GONE, mask(4, 2), total(5), name="token-into-a-larger-cache"),
    grouped(*ONE, *GONE, mask(5, 5), total(6), local_window_size=3),
    grouped(*LONG, None, None, mask(4), total(5), local_window_size=2, name="prompt-window"),
    grouped(*TOKENS, None, None, mask(2, 2), total(3), softcap=2.0),
    grouped(*TOKENS, None, None, mask(2, 2), total(3), scale=0.1),
    grouped(*TOKENS, None, None, mask(2, 2), total(3), smooth_softmax=1),
    grouped(*ONE, *GONE, mask(5, 5), total(6), None, None, None, f(2, 4, 1, 6), name="bias"),
    grouped(*ONE, *GONE, mask(5, 5), total(6), None, None, None, f(1, 1, 1, 6), name="bias-1"),
    grouped(*ONE, *GONE, mask(3, 2), total(4), None, None, None, f(1, 4, 1, 4), name="bias-short"),
    grouped(*ONE, *GONE, mask(5, 5), total(6), None, None, None, None, f(4), name="sinks"),
    grouped(
        *LONG[:3],
        f(1, 2, 4, 16),
        f(1, 2, 4, 16, seed=1),
        mask(8),
        total(9),
        *WIDE,
        do_rotary=1,
        name="several-tokens",
    ),
    grouped(*half(*ONE, *GONE), mask(5, 5), total(6), *half(*WIDE), do_rotary=1, name="f16"),
]


@pytest.mark.sweep(40, suite=40)
@pytest.mark.saturates("QAttention")
@pytest.mark.parametrize("row", ATTENTION + MULTI_HEAD + INTEGERS + ROTARY + MULTIMODAL + GROUPED)
def test_results_are_onnxruntimes(row):
    check(*row)


def test_packed_projections_are_the_unpacked_ones():
    """[B,T,H,2,D] and [B,S,H,3,D], which ONNX Runtime has on GPUs only."""
    x, kv = f(2, 3, 4, 3, 2), f(2, 5, 4, 2, 2, seed=1)
    (all_packed,) = run("MultiHeadAttention", x, num_heads=4)
    apart = [x[:, :, :, i].reshape(2, 3, 8) for i in range(3)]
    np.testing.assert_array_equal(all_packed, run("MultiHeadAttention", *apart, num_heads=4)[0])
    (packed,) = run("MultiHeadAttention", apart[0], kv, num_heads=4)
    k, v = (kv[:, :, :, i].reshape(2, 5, 8) for i in range(2))
    want = run("MultiHeadAttention", apart[0], k, v, num_heads=4)[0]
    np.testing.assert_array_equal(packed, want)
