"""Reading what the compiler did: which rewrites applied, what fused, what did not and why.

    python examples/read_explain.py

Two versions of one small network are compiled. The second has an intermediate result as an output,
and so a rewrite is refused. `tessel explain MODEL` prints the same for any model, and the kernels
with their schedules.
"""

import numpy as np
import tessel

F = tessel.native.functional
RNG = np.random.default_rng(0)
W1, W2 = (RNG.standard_normal(shape).astype(np.float32) for shape in ((64, 32), (32, 10)))
BIAS = RNG.standard_normal(32).astype(np.float32)


def one_output(x):
    """What is wanted: the probabilities."""
    return F.softmax(F.relu((x @ W1) * 0.125 + BIAS) @ W2, axis=-1)


def two_outputs(x):
    """The products before they are scaled are an output too: the scale cannot go into W1."""
    products = x @ W1
    return F.softmax(F.relu(products * 0.125 + BIAS) @ W2, axis=-1), products


def compiled(f) -> tessel.Executable:
    """The function for rows of 64 numbers, compiled anew, so that there is a report."""
    return tessel.compile(tessel.native.trace(f, "f32[N,64]"), reuse=False)


def describe(name: str, exe: tessel.Executable) -> None:
    print(f"{name}: {len(exe.outputs)} output(s)")
    for applied in exe.report.applied:
        print(f"  rewritten   {applied.rule}")
    for declined in exe.report.why_not():
        print(f"  declined    {declined.rule}: {declined.reason}")
    for note in exe.notes:
        print(f"  note        {note}")


def main() -> None:
    fast, slow = compiled(one_output), compiled(two_outputs)
    describe("one output", fast)
    describe("two outputs", slow)

    x = RNG.standard_normal((5, 64)).astype(np.float32)
    same = np.allclose(fast(x), slow(x)[0], atol=1e-6)
    print(f"the probabilities are the same: {same}")


if __name__ == "__main__":
    main()
