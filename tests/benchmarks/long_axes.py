"""Ops along long axes, beside numpy: the least CPU time of a run on one thread.

    python tests/benchmarks/long_axes.py [--rounds 20]

Set PYTHONPATH to another version's folder to see what it takes. Results are compared with numpy's.
Of each case there is code for the one size, and code for all sizes.
"""

import argparse
import time

import numpy as np
import tessel
from tessel.compiler.ir.builder import Builder


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


def sort_rows(n):
    def make(b, x):
        return b.sort_rows(x.reshape(x.shape[1], 1))

    return f"sort_rows of {n:,}", n, make, lambda x: np.lexsort(x)


def cumsum(n):
    def make(b, x):
        return b.cumsum(b.round(x), axis=1)

    return f"cumsum of {n:,}", n, make, lambda x: np.cumsum(np.round(x), 1)


CASES = [
    arg_max(49_152),
    arg_max(151_936),
    top_k(10, 1024),
    top_k(300, 8_400),
    top_k(50, 50_257),
    top_k(2000, 8_400),
    argsort(50_257),
    sort_rows(50_257),
    cumsum(50_257),
]


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
        x = np.random.default_rng(0).standard_normal((1, n)).astype(np.float32)
        own = []
        for size in (n, "N"):
            b = Builder()
            b.output("y", make(b, b.input("x", f"f32[1,{size}]")))
            exe = tessel.compile(b.graph, threads=1)
            np.testing.assert_array_equal(exe(x).reshape(-1), reference(x).reshape(-1))
            own.append(least(lambda: exe(x), options.rounds))  # noqa: B023
        other = least(lambda: reference(x), options.rounds)  # noqa: B023
        print(
            f"{name:20} {own[0]:9.1f} us   of any size {own[1]:9.1f} us   numpy {other:9.1f} us"
            f"   {own[0] / other:6.2f} {own[1] / other:6.2f}"
        )


if __name__ == "__main__":
    main()
