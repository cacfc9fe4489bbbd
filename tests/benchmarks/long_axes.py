"""Ops along long axes, beside numpy: the least CPU time of a run on one thread.

    python tests/benchmarks/long_axes.py [--rounds 20]

Set PYTHONPATH to another version's folder to see what it takes. Results are compared with numpy's.
"""

import argparse
import time

import numpy as np
import tessel
from tessel.compiler.builder import Builder


def arg_max(n):
    def make(b, x):
        return b.arg_max(x, axis=1)

    return f"arg_max of {n:,}", n, make, lambda x: np.argmax(x, 1)


def top_k(k, n):
    def make(b, x):
        return b.top_k(x, k=k)[0]

    return f"top_k {k} of {n:,}", n, make, lambda x: -np.sort(np.partition(-x, k, 1)[:, :k], 1)


def argsort(n):
    def make(b, x):
        return b.argsort(x)

    return f"argsort of {n:,}", n, make, lambda x: np.argsort(x, 1, kind="stable")


CASES = [
    arg_max(49_152), arg_max(151_936), top_k(10, 1024), top_k(300, 8_400), top_k(50, 50_257),
    argsort(50_257),
]  # fmt: skip


def least(call, rounds: int) -> float:
    """CPU time in microseconds."""
    times = []
    for _ in range(rounds):
        start = time.process_time_ns()
        call()
        times.append(time.process_time_ns() - start)
    return min(times) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    for name, n, make, reference in CASES:
        b = Builder()
        b.output("y", make(b, b.input("x", f"f32[1,{n}]")))
        exe = tessel.compile(b.graph, threads=1)
        x = np.random.default_rng(0).standard_normal((1, n)).astype(np.float32)
        np.testing.assert_array_equal(exe(x).reshape(-1), reference(x).reshape(-1))
        own = least(lambda: exe(x), options.rounds)  # noqa: B023
        other = least(lambda: reference(x), options.rounds)  # noqa: B023
        print(f"{name:20} {own:9.1f} us   numpy {other:9.1f} us   {own / other:6.2f}")


if __name__ == "__main__":
    main()
