"""What fusion has to know of a node follows from its expression."""

import numpy as np
import pytest
from tessel.compiler.ir.builder import Builder
from tessel.compiler.lowering.kinds import Kinds

CONV = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
POOL = {"kernel": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0), "dilations": (1, 1)}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("exp", "map"),
        ("transpose", "move"),
        ("reshape", "alias"),
        ("reduce_sum", "reduce"),
        ("softmax", "row"),
        ("layer_norm", "row"),
        ("gelu", "map"),
        ("matmul", "contract"),
        ("conv", "contract"),
        ("max_pool", "window"),
        ("concat", "kernels"),
        ("place", "kernels"),
        ("grid_sample", "move"),
        ("constant", "constant"),
        ("lstm", "other"),
        ("attention", "other"),
        ("zip_map", "other"),
    ],
)
def test_kinds(name, kind):
    assert Kinds()[EXAMPLES[name]()] == kind


def example(name, *types, **attrs):
    def make():
        b = Builder()
        result = b.emit(name, *[b.input(f"x{i}", t) for i, t in enumerate(types)], **attrs)
        return (result[0] if isinstance(result, tuple) else result).value.node

    return make


def constant_node():
    return Builder().constant(np.ones(3, np.float32)).value.node


EXAMPLES = {
    "exp": example("exp", "f32[4]"),
    "transpose": example("transpose", "f32[4,5]", perm=(1, 0)),
    "reshape": example("reshape", "f32[4,5]", shape=(20,)),
    "reduce_sum": example("reduce_sum", "f32[4,5]", axes=(1,)),
    "softmax": example("softmax", "f32[4,5]", axis=1),
    "layer_norm": example("layer_norm", "f32[4,5]"),
    "gelu": example("gelu", "f32[4]"),
    "matmul": example("matmul", "f32[4,5]", "f32[5,6]"),
    "conv": example("conv", "f32[1,2,5,5]", "f32[3,2,3,3]", **CONV),
    "max_pool": example("max_pool", "f32[1,2,6,6]", **POOL),
    "concat": example("concat", "f32[4]", "f32[5]", axis=0),
    "place": example("place", "f32[4]", "i32[4]", k=2, axis=0),
    "grid_sample": example("grid_sample", "f32[1,2,5,5]", "f32[1,3,3,2]"),
    "constant": constant_node,
    "lstm": example("lstm", "f32[5,2,3]", "f32[1,16,3]", "f32[1,16,4]", hidden_size=4),
    "attention": example("attention", *["f32[1,2,3,4]"] * 3, scale=1.0),
    "zip_map": example("zip_map", "f32[2,2]", labels=(0, 1)),
}
