"""A language model with a cache: one token, a prompt, and how much of the memory's speed they use.

    python tests/benchmarks/decoding.py model.onnx --quantize int4-int8 --threads 2

The model's inputs are those of ../shared/peers/export_llm.py: input_ids [1,S], attention_mask
[1,P+S], position_ids [1,S] and past… [1,heads,P,d]. Weights per second are beside what a sum of
256 MiB reads, in turns: the share is the best of one by the best of the other. A gather reads a row
of a table, so a table that is nothing else makes the share of f32 too large.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import tessel
from tessel.compiler.ir.builder import Builder
from tessel.runtime.execution.executable import Executable

READ = 1 << 26  # floats, which no cache holds


def feeds_of(exe: Executable, new: int, past: int) -> dict[str, np.ndarray]:
    """Inputs for `new` tokens behind a cache of `past`."""
    rng = np.random.default_rng(0)
    feeds = {
        "input_ids": rng.integers(0, 1000, (1, new)),
        "attention_mask": np.ones((1, past + new), np.int64),
        "position_ids": np.arange(past, past + new)[None],
    }
    for p in exe.inputs:
        if p.name.startswith("past"):
            _, heads, _, width = p.shape
            feeds[p.name] = rng.standard_normal((1, heads, past, width)).astype(np.float32)
    return feeds


def seconds(run: Callable) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--quantize")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    exe = tessel.compile(args.model, threads=args.threads, quantize=args.quantize)
    x = np.ones((64, READ // 64), np.float32)
    b = Builder()
    b.output("sums", b.input("x", f"f32[64,{READ // 64}]").sum(1))
    read = tessel.compile(b.graph, threads=args.threads)
    token, prompt = feeds_of(exe, 1, args.context), feeds_of(exe, args.context, 1)
    runs = {
        "read": lambda: read(x),
        "token": lambda: exe.run(token),
        "prompt": lambda: exe.run(prompt),
    }
    best = {name: seconds(run) for name, run in runs.items()}
    for _ in range(args.rounds):
        for name, run in runs.items():
            best[name] = min(best[name], seconds(run))
    weights = sum(w.nbytes for w in exe.for_all_sizes.code.weights)
    reads, decodes = x.nbytes / best["read"] / 1e9, weights / best["token"] / 1e9
    print(f"{args.quantize or 'f32'}, {args.threads} threads, weights {weights / 2**20:.0f} MiB")
    print(f"{args.context} tokens at once {best['prompt'] * 1e3:9.2f} ms")
    print(f"one token behind {args.context}  {best['token'] * 1e3:9.2f} ms")
    print(f"weights {decodes:.1f} GB/s of {reads:.1f}: {decodes / reads:.0%}")


if __name__ == "__main__":
    main()
