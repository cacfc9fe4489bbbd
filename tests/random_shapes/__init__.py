"""Graphs of shape arithmetic that nobody planned, at sizes that nobody planned.

    python -m tests.random_shapes --count 2000 --seed 1     many graphs, in worker processes
    python -m tests.random_shapes 17                        one graph, in this process: its text,
                                                            and the smallest part of it that fails

A seed stands for a small ONNX model whose inputs have dynamic dims (`draw.py` makes it of the nodes
of `nodes.py`, each tried by ONNX Runtime at every combination of sizes) and for six combinations of
sizes: 0, 1, all equal, all different. tessel compiles it once and runs all of them (`check.py`).
What it gives must be what ONNX Runtime gives; what that takes, it must take.
"""
