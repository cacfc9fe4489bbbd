"""The pipelines on real models: what they recognise, and that the outputs stay."""

import time
from collections import Counter

import numpy as np
import pytest
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.text import parse_graph, print_graph
from tessel.compiler.passes.base import Report, run_pipeline
from tessel.compiler.passes.layout import count_transposes
from tessel.compiler.pipelines import default_pipeline
from tessel.frontends.onnx.importer import read


def optimized(model, **options):
    graph = read(model.path)
    return run_pipeline(graph, default_pipeline(2, **options), verify_between=True)


def outputs(graph, model):
    results = interpret(graph, [model.inputs[v.name] for v in graph.inputs])
    return dict(zip(graph.output_names, results, strict=True))


@pytest.mark.parametrize(
    ("name", "found", "gone"),
    [
        (
            "tinybert_untrained",
            {"layer_norm": 3, "attention": 1, "gelu": 1},
            {"softmax", "erf", "reduce_mean", "sqrt", "gemm"},
        ),
        ("ultraface_rfb320", {"conv": 52}, {"batch_norm"}),
        ("mnist_8", {"conv": 2, "matmul": 1}, {"pad"}),
    ],
)
def test_what_is_recognised(shared_models, name, found, gone):
    ops = Counter(n.op.name for n in optimized(shared_models(name)).nodes)
    assert {k: ops[k] for k in found} == found
    assert not gone & set(ops)


@pytest.mark.parametrize(
    ("name", "transposes"),
    [("ultraface_rfb320", 1), ("squeezenet_fp16", 1), ("mnist_8", 0)],
)
def test_channels_last_transposes_at_the_borders_only(shared_models, name, transposes):
    graph = optimized(shared_models(name), channels_last=True)
    assert count_transposes(graph) == transposes


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "name", ["tinybert_untrained", "ultraface_rfb320", "mnist_8", "squeezenet_fp16"]
)
def test_outputs_stay(shared_models, name, channels_last):
    model = shared_models(name)
    received = outputs(optimized(model, channels_last=channels_last), model)
    half = any(x.dtype == np.float16 for x in model.inputs.values())
    for key, expected in model.outputs.items():
        rtol, atol = (1e-2, 1e-3) if half else (1e-4, 1e-5)
        np.testing.assert_allclose(received[key], expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ["tinybert_untrained", "ultraface_rfb320", "squeezenet_fp16"])
def test_real_graphs_print_and_parse_back(shared_models, name):
    table = {}
    text = print_graph(read(shared_models(name).path), table)
    assert print_graph(parse_graph(text, table), dict(table)) == text


def test_the_pipeline_is_quick(shared_models):
    graph = read(shared_models("ultraface_rfb320").path)
    report, start = Report(), time.perf_counter()
    run_pipeline(graph, default_pipeline(2, channels_last=True), report=report)
    assert time.perf_counter() - start < 2, report.seconds
