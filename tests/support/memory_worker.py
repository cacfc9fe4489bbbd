"""Compiles and runs many models in turn, and prints how much memory is taken after each round.

python memory_worker.py ROUNDS RUNS [uncached]
"""

import gc
import sys
from pathlib import Path

import numpy as np
import onnx.parser
import tessel
from onnx import helper, numpy_helper

HEAD = '<ir_version: 9, opset_import: ["": 21, "ai.onnx.ml": 3]> g '
F32 = np.float32
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 8, 8)).astype(F32)
V = RNG.standard_normal((4, 64)).astype(F32)

# name -> (arguments, results, nodes, weights, inputs)
TEXTS = {
    "convolution": (
        "float[N,3,H,W] x",
        "float[N,16] y",
        "a = Conv<pads=[1,1,1,1]>(x, w) r = Relu(a) p = GlobalAveragePool(r) y = Flatten(p)",
        {"w": (16, 3, 3, 3)},
        {"x": X},
    ),
    "convolution of one size": (
        "float[2,3,8,8] x",
        "float[2,16,8,8] y",
        "a = Conv<pads=[1,1,1,1]>(x, w) y = Sigmoid(a)",
        {"w": (16, 3, 3, 3)},
        {"x": X},
    ),
    "attention": (
        "float[N,64] x",
        "float[N,64] y",
        "q = MatMul(x, wq) k = MatMul(x, wk) t = Transpose(k) s = MatMul(q, t) p = Softmax(s) "
        "y = MatMul(p, x)",
        {"wq": (64, 64), "wk": (64, 64)},
        {"x": V},
    ),
    "large weights": (
        "float[N,64] x",
        "float[N,8192] y",
        "h = MatMul(x, w) y = Softmax(h)",
        {"w": (64, 8192)},
        {"x": V},
    ),
    "a loop": (
        "float[64] x, int64 n",
        "float[64] y",
        "y = Loop <body = b (int64 i, bool c, float[64] a) => (bool d, float[64] e) "
        "{ d = Identity(c) e = Sin(a) }> (n, , x)",
        {},
        {"x": V[0], "n": np.array(3)},
    ),
    "a branch": (
        "float[N] x, bool c",
        "float[N] y",
        "y = If (c) <then_branch = t () => (float[N] u) { u = Exp(x) }, "
        "else_branch = s () => (float[N] v) { v = Softmax(x) }>",
        {},
        {"x": V[0], "c": np.array(True)},
    ),
    "sizes from data": (
        "float[N] x",
        "float[M] y",
        "i = NonZero(x) f = Flatten<axis=0>(i) k = Squeeze(f) g = Gather(x, k) y = Relu(g)",
        {},
        {"x": np.maximum(V[0], 0)},
    ),
    "quantised": (
        "float[N,64] x",
        "float[N,64] y",
        "q, s, z = DynamicQuantizeLinear(x) r, t, u = DynamicQuantizeLinear(w) "
        "m = MatMulInteger(q, r, z, u) f = Cast<to=1>(m) g = Mul(f, s) y = Mul(g, t)",
        {"w": (64, 64)},
        {"x": V},
    ),
    "a recurrent layer": (
        "float[5,N,64] x",
        "float[5,1,N,8] y",
        "y = LSTM<hidden_size=8>(x, w, r)",
        {"w": (1, 32, 64), "r": (1, 32, 8)},
        {"x": np.stack([V] * 5)},
    ),
    "strings": ("float[N] x", "float[N] y", "t = Cast<to=8>(x) y = Cast<to=1>(t)", {}, {"x": V[0]}),
}


def models():
    """(model, inputs)."""
    for takes, gives, nodes, weights, inputs in TEXTS.values():
        model = onnx.parser.parse_model(f"{HEAD} ({takes}) => ({gives}) {{ {nodes} }}")
        for name, shape in weights.items():
            array = RNG.standard_normal(shape).astype(F32)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        yield model.SerializeToString(), inputs
    yield trees(), {"x": V}


def trees() -> bytes:
    """A regressor of one tree: x[0] <= 0 ? 1 : 2."""
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        nodes_treeids=[0] * 3,
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0] * 3,
        nodes_values=[0.0] * 3,
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[1.0, 2.0],
        n_targets=1,
    )
    x, y = (helper.make_tensor_value_info(n, 1, None) for n in "xy")
    x.type.tensor_type.shape.dim.add().dim_param = "N"
    x.type.tensor_type.shape.dim.add().dim_value = 64
    graph = helper.make_graph([node], "g", [x], [y])
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=domains, ir_version=9).SerializeToString()


def resident() -> float:
    """MiB of memory that this process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def main() -> None:
    rounds, runs = int(sys.argv[1]), int(sys.argv[2])
    cache = False if "uncached" in sys.argv else None
    given = list(models())
    for _ in range(rounds):
        for model, inputs in given:
            tessel.compile(model, cache=cache, threads=2).run(inputs)
        print(f"{resident():.2f}", flush=True)
    executables = [(tessel.compile(model, threads=2), inputs) for model, inputs in given]
    for _ in range(5):
        for exe, inputs in executables:
            for _ in range(runs // 5 // len(executables)):
                exe.run(inputs)
        print(f"runs {resident():.2f}", flush=True)


if __name__ == "__main__":
    main()
