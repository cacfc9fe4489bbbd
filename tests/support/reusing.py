"""A model of one product for tests of what is reused, and how often programs were compiled."""

import numpy as np
import onnx
from onnx import numpy_helper, parser
from tessel.compiler.backends.llvm import backend

X = np.arange(12, dtype=np.float32).reshape(3, 4)
W = np.full((4, 5), 0.5, np.float32)


def model(body="y = MatMul(x, w)", weight=W) -> onnx.ModelProto:
    text = (
        f'<ir_version: 9, opset_import: ["": 21]> g (float[N,4] x) => (float[A,B] y) {{ {body} }}'
    )
    made = parser.parse_model(text)
    made.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return made


def counted(monkeypatch) -> list:
    """Packages are reused from now on; the list grows with every program that is compiled."""
    monkeypatch.setenv("TESSEL_REUSE", "1")
    calls, original = [], backend.compile_program
    spy = lambda *a, **k: (calls.append(1), original(*a, **k))[1]
    monkeypatch.setattr(backend, "compile_program", spy)
    return calls


def right(exe, weight=W) -> bool:
    return np.allclose(exe.run({"x": X})["y"], X @ weight)
