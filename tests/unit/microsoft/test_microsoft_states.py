"""com.microsoft's layers that carry a state, against ONNX Runtime."""

import numpy as np
import pytest

from ...support.microsoft import case, check, f

pytest.importorskip("onnxruntime", reason="the comparison needs ONNX Runtime")

X, TAPS, BIAS = f(2, 6, 5), f(6, 1, 4, seed=1), f(6, seed=2)


def conv(*inputs, **options):
    return case("CausalConvWithState", *inputs, outputs=2, **options)


CONVOLUTIONS = [
    conv(X, TAPS, name="no-past"),
    conv(X, TAPS, BIAS, f(2, 6, 3, seed=3), activation="silu"),
    conv(X[..., :1], TAPS, BIAS, f(2, 6, 3, seed=3), activation="swish", name="one-token"),
    conv(X, TAPS, None, f(2, 6, 6, seed=3), dilation=2),
    conv(f(2, 5, 6), TAPS, BIAS, f(2, 3, 6, seed=3), channels_last=1),
    conv(f(2, 5, 2, 3), TAPS, BIAS, f(2, 3, 2, 3, seed=3), channels_last=1, name="two-axes"),
]


def recurrence(rule, *, heads=2, groups=2, past=True, wide_decay=False, tokens=5, **options):
    """Keys of length 1, as the rule wants them; 4 numbers a key, 3 a value."""
    k = f(2, tokens, groups, 4, seed=1)
    k = (k / np.linalg.norm(k, axis=-1, keepdims=True)).reshape(2, tokens, -1)
    inputs = [f(2, tokens, heads * 4), k, f(2, tokens, groups * 3, seed=2)]
    inputs.append(f(2, groups, 4, 3, seed=3) if past else None)
    decay = -np.abs(f(2, tokens, groups * (4 if wide_decay else 1), seed=4))
    inputs.append(decay if "gated" in rule else None)
    inputs.append(np.abs(f(2, tokens, groups, seed=5)) % 1 if "delta" in rule else None)
    while inputs[-1] is None:
        inputs.pop()
    return case(
        "LinearAttention",
        *inputs,
        outputs=2,
        update_rule=rule,
        q_num_heads=heads,
        kv_num_heads=groups,
        **options,
    )


ATTENTION = [
    *(recurrence(rule) for rule in ("linear", "gated", "delta", "gated_delta")),
    recurrence("gated_delta", past=False, name="no-past"),
    recurrence("gated_delta", wide_decay=True, name="decay-per-number"),
    recurrence("gated_delta", heads=4, name="grouped"),
    recurrence("gated_delta", groups=4, name="more-groups-than-heads"),
    recurrence("gated_delta", tokens=1, scale=0.3),
]

NORMS = [
    case("GatedRMSNorm", f(2, 3, 8), f(4, seed=1), f(2, 3, 8, seed=2)),
    case(
        "GatedRMSNorm",
        f(2, 3, 8),
        f(8, seed=1),
        f(2, 3, 8, seed=2),
        activation="sigmoid",
        epsilon=0.1,
    ),
    case(
        "GatedRMSNorm",
        *(x.astype(np.float16) for x in (f(2, 3, 8), f(4, seed=1), f(2, 3, 8))),
        name="f16",
    ),
    case("BranchwiseRMSNorm", f(2, 3, 8), f(8, seed=1)),
    case("BranchwiseRMSNorm", f(2, 3, 8), f(3, 8, seed=1), epsilon=0.1),
    case("BranchwiseRMSNorm", f(2, 12), f(12, seed=1), num_branches=3),
    case("BranchwiseRMSNorm", f(2, 12), num_branches=3, name="no-scale"),
]


@pytest.mark.parametrize("row", CONVOLUTIONS + ATTENTION + NORMS)
def test_results_are_onnxruntimes(row):
    check(*row)
