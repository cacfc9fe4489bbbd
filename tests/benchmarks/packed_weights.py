"""Products with weights of few bits beside ONNX Runtime's MatMulNBits, in turns in one process.

    python tests/benchmarks/packed_weights.py [--size 4096] [--rows 1,16,128] [--blocks 32,128]
                                              [--bits 4] [--threads 1] [--rounds 8]

Accuracy level 0 multiplies floats, level 4 blocks of bytes. Each time is the best of all rounds.
"""

import argparse
import time

import numpy as np
import onnx
import onnxruntime
import tessel
from onnx import TensorProto, helper, numpy_helper


def model_of(size: int, block: int, bits: int, level: int) -> onnx.ModelProto:
    """x [M, size] @ w.T with random codes w [size, size] and scales in blocks."""
    rng, blocks = np.random.default_rng(0), size // block
    codes = rng.integers(0, 256, (size, blocks, block * bits // 8), dtype=np.uint8)
    scales = rng.uniform(0.01, 0.02, size * blocks).astype(np.float32)
    node = helper.make_node(
        "MatMulNBits",
        ["x", "w", "s"],
        ["y"],
        domain="com.microsoft",
        K=size,
        N=size,
        bits=bits,
        block_size=block,
        accuracy_level=level,
    )
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["M", size])
    weights = [numpy_helper.from_array(a, n) for n, a in (("w", codes), ("s", scales))]
    graph = helper.make_graph([node], "product", [value("x")], [value("y")], weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def best(run, times: int) -> float:
    found = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        run()
        found = min(found, time.perf_counter() - start)
    return found


def main() -> None:
    numbers = lambda text: [int(n) for n in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rows", type=numbers, default=[1, 16, 128])
    parser.add_argument("--blocks", type=numbers, default=[32, 128])
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    given = parser.parse_args()
    print("block  level  rows  tessel ms  ORT ms  ratio  difference")
    for block in given.blocks:
        for level in (0, 4):
            model = model_of(given.size, block, given.bits, level)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = given.threads
            session = onnxruntime.InferenceSession(model.SerializeToString(), options)
            exe = tessel.compile(model, threads=given.threads)
            for rows in given.rows:
                compare(exe, session, (block, level, rows), given)


def compare(exe, session, labels: tuple[int, int, int], given: argparse.Namespace) -> None:
    *_, rows = labels
    x = np.random.default_rng(1).normal(size=(rows, given.size)).astype(np.float32)
    ours, theirs = (lambda: exe(x)), (lambda: session.run(None, {"x": x})[0])
    difference = np.abs(ours() - theirs()).max() / np.abs(theirs()).max()
    times = max(2, 16 // rows)
    mine = other = float("inf")
    for _ in range(given.rounds):
        mine, other = min(mine, best(ours, times)), min(other, best(theirs, times))
    cells = (
        f"{labels[0]:5}",
        f"{labels[1]:5}",
        f"{rows:4}",
        f"{1e3 * mine:9.2f}",
        f"{1e3 * other:6.2f}",
        f"{mine / other:5.2f}",
        f"{difference:10.1e}",
    )
    print("  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
