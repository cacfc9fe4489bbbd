"""com.microsoft's mixtures of experts against ONNX Runtime."""

import numpy as np
import pytest

from ...support.microsoft import case, check, f, q

pytest.importorskip("onnxruntime", reason="the comparison needs ONNX Runtime")

EXPERTS, HIDDEN, INNER = 4, 32, 64


def mixture(*, x=(5, HIDDEN), fused=1, third=False, bias=True, dtype=np.float32, **attrs):
    rows = int(np.prod(x[:-1]))
    wide, inner = (EXPERTS, fused * INNER), (EXPERTS, INNER)
    inputs = [
        f(*x, dtype=dtype),
        f(rows, EXPERTS, seed=1, dtype=dtype),
        f(*wide, HIDDEN, seed=2, scale=0.2, dtype=dtype),
        f(*wide, seed=3, dtype=dtype) if bias else None,
        f(EXPERTS, HIDDEN, INNER, seed=4, scale=0.2, dtype=dtype),
        f(EXPERTS, HIDDEN, seed=5, dtype=dtype) if bias else None,
        *([f(*inner, HIDDEN, seed=6, scale=0.2, dtype=dtype)] if third else []),
    ]
    return case("MoE", *inputs, _rtol=1e-3, _atol=1e-4, **attrs)


def integers(*, x=(5, HIDDEN), fused=1, bits=4, block=None, zeros=False, router=False, **attrs):
    rows, pack = int(np.prod(x[:-1])), 8 // bits
    n, inner = fused * INNER, INNER

    def parameters(width, depth, seed):
        blocks = () if block is None else (depth // block,)
        rng = np.random.default_rng(seed)
        scale = rng.uniform(0.01, 0.02, (EXPERTS, width, *blocks)).astype(np.float32)
        zero = None
        if zeros:
            size = (width // pack,) if block is None else (width, -(-blocks[0] // pack))
            zero = q(EXPERTS, *size, seed=seed)
        return q(EXPERTS, width, depth // pack, seed=seed), scale, zero

    w1, s1, z1 = parameters(n, HIDDEN, 2)
    w2, s2, z2 = parameters(HIDDEN, inner, 4)
    inputs = [
        f(*x),
        f(rows, EXPERTS, seed=1),
        w1,
        s1,
        f(EXPERTS, n, seed=3),
        w2,
        s2,
        f(EXPERTS, HIDDEN, seed=5),
    ]
    if zeros or router:
        inputs += [None, None, None, z1, z2, None]
    if router:
        inputs.append(np.abs(f(rows, EXPERTS, seed=7)))
    attrs |= {"expert_weight_bits": bits, "weights_prepacked": 0}
    attrs |= {} if block is None else {"block_size": block}
    weights = tuple(i for i in (2, 3, 5, 6, 11, 12) if i < len(inputs) and inputs[i] is not None)
    close = {"_rtol": 1e-3, "_atol": 1e-3}
    if block is not None:  # ONNX Runtime quantises rows to bytes; results reach 22
        close = {"_rtol": 5e-2, "_atol": 0.7 if bits == 8 else 0.03}
    return case("QMoE", *inputs, _weights=weights, **close, **attrs)


ROWS = [
    mixture(k=2, activation_type="relu"),
    mixture(k=1, activation_type="gelu"),
    mixture(k=2, activation_type="silu", normalize_routing_weights=1),
    mixture(k=2, activation_type="identity", bias=False),
    mixture(k=4, activation_type="relu", x=(2, 3, HIDDEN)),
    mixture(k=2, activation_type="swiglu", swiglu_fusion=1, fused=2),
    mixture(
        k=2,
        activation_type="swiglu",
        swiglu_fusion=1,
        fused=2,
        activation_alpha=1.702,
        activation_beta=1.0,
        swiglu_limit=0.5,
        normalize_routing_weights=1,
    ),
    integers(k=2, activation_type="relu"),
    integers(k=2, activation_type="silu", bits=8, normalize_routing_weights=1),
    integers(
        k=2,
        activation_type="swiglu",
        swiglu_fusion=1,
        fused=2,
        activation_alpha=1.702,
        activation_beta=1.0,
        swiglu_limit=7.0,
        normalize_routing_weights=1,
    ),
    integers(k=2, activation_type="relu", zeros=True),
    integers(k=2, activation_type="relu", block=16),
    integers(k=2, activation_type="relu", block=16, zeros=True),
    integers(k=2, activation_type="relu", bits=8, block=32),
    integers(k=2, activation_type="relu", router=True),
    integers(k=2, activation_type="relu", router=True, normalize_routing_weights=1),
]


@pytest.mark.parametrize("row", ROWS)
def test_results_are_onnxruntimes(row):
    check(*row)
