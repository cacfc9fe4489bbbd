"""What is dropped gives its memory back."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import tessel
from onnx import helper, numpy_helper
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.kernel.objects import optimize

from ...support.memory_worker import resident

WORKER = Path(__file__).parents[2] / "support" / "memory_worker.py"
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@on_linux
@pytest.mark.slow
def test_memory_stays_flat_over_compilations_and_runs():
    """220 compilations of eleven kinds of models, then 10,000 runs."""
    command = [sys.executable, str(WORKER), "20", "10000"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    compiled = [float(x) for x in lines if x and not x.startswith("runs")]
    ran = [float(x.split()[1]) for x in lines if x.startswith("runs")]
    assert len(compiled) == 20
    assert max(compiled[2:]) - compiled[1] < 5  # MiB
    assert max(ran[1:]) - ran[0] < 1


@on_linux
def test_the_passes_of_a_kernel_are_freed():
    text = "define i64 @f(i64 %x) {\n  %y = add i64 %x, 1\n  ret i64 %y\n}"
    for _ in range(20):
        optimize(text, host())
    before = resident()
    for _ in range(150):  # they would take 48 KiB each
        optimize(text, host())
    assert resident() - before < 3


@pytest.mark.parametrize("op", ["MatMul", "Softmax", "LayerNormalization"])
def test_a_dropped_executable_drops_its_weights(op):
    weights = np.ones((64, 64), np.float32)
    second = {"MatMul": "w", "LayerNormalization": "scale"}.get(op)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node(op, ["h"] if second is None else ["h", second], ["y"]),
    ]
    arrays = [numpy_helper.from_array(a, n) for n, a in (("w", weights), ("scale", weights[0]))]
    x, y = (helper.make_tensor_value_info(n, 1, s) for n, s in (("x", ["N", 64]), ("y", None)))
    graph = helper.make_graph(nodes, "g", [x], [y], arrays)
    opset = [helper.make_opsetid("", 21)]
    exe = tessel.compile(helper.make_model(graph, opset_imports=opset, ir_version=9), threads=1)
    exe(np.ones((3, 64), np.float32))
    kept = [weakref.ref(a) for b in exe.specializations for a in b.code.weights]
    kept += [weakref.ref(exe)]
    del exe
    gc.collect()
    assert kept and not [r for r in kept if r() is not None]
