"""Well-known architectures as PyTorch exports them, as ONNX Runtime computes them unoptimised.

The files are large and made by torch, so they are not in the repository:

    python ../shared/peers/export_models.py DIR
    pytest tests/models/test_exported_models.py --exported DIR
"""

import numpy as np
import pytest
import tessel

ort = pytest.importorskip("onnxruntime", reason="compares with ONNX Runtime")
NAMES = ("mlp", "lstm", "mobilenetv2", "resnet50", "convnext_tiny", "vit_b16", "bert_base", "gpt2")


@pytest.fixture(params=NAMES)
def path(request):
    folder = request.config.getoption("--exported")
    if folder is None:
        pytest.skip("needs --exported DIR, see this file")
    return folder / f"{request.param}.onnx"


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_an_exported_architecture(path, threads):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    rng = np.random.default_rng(0)
    tokens = port.type == "tensor(int64)"
    x = rng.integers(0, 1000, port.shape) if tokens else rng.standard_normal(port.shape, np.float32)
    (right,) = session.run(None, {port.name: x})
    del session

    given = tessel.compile(path, threads=threads)(x)

    assert np.abs(given - right).max() <= 1e-3 * np.abs(right).max()
