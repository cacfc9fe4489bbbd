"""ONNX's experimental operators of opsets 1 to 9 against ONNX Runtime, which still has them."""

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import UnsupportedError

from ...support.microsoft import case, check, f, model_of

pytest.importorskip("onnxruntime", reason="the comparison needs ONNX Runtime")

IMAGE = f(2, 3, 5, 6)


def old(op, *inputs, opset=7, **attrs):
    return case(op, *inputs, _domain="", _opset=opset, **attrs)


ROWS = [
    old("Affine", f(2, 3), alpha=2.0, beta=-0.5),
    old("Scale", f(2, 3), scale=0.25),
    old("ImageScaler", IMAGE, scale=0.5, bias=[1.0, 2.0, 3.0]),
    old("Crop", IMAGE, border=[1, 0, 2, 1]),
    old("Crop", IMAGE, border=[1, 2, 0, 0], scale=[2, 3]),
    old("ParametricSoftplus", f(2, 3), alpha=0.5, beta=2.0),
    old("ScaledTanh", f(2, 3), alpha=0.5, beta=2.0),
    old("ThresholdedRelu", f(2, 3), alpha=0.5),
    old("MeanVarianceNormalization", IMAGE, across_channels=0, normalize_variance=1),
    old("MeanVarianceNormalization", IMAGE, across_channels=1, normalize_variance=1),
    old("MeanVarianceNormalization", IMAGE, across_channels=1, normalize_variance=0),
    old("DynamicSlice", f(4, 5), np.array([1, 0]), np.array([3, -1]), _weights=(1, 2)),
    old("DynamicSlice", f(4, 5), np.array([-3]), np.array([9]), np.array([1]), _weights=(1, 2, 3)),
]


@pytest.mark.parametrize("row", ROWS)
def test_results_are_onnxruntimes(row):
    check(*row)


def test_a_call_of_another_library_is_refused_with_a_way_out():
    model = model_of("ATen", [f(2)], _domain="", _opset=7)
    with pytest.raises(UnsupportedError, match="a library that tessel does not contain"):
        tessel.compile(model)


def test_an_operator_that_never_was_is_still_refused():
    model = model_of("Gelu", [f(2)], _domain="", _opset=9)
    with pytest.raises(UnsupportedError, match="opset 9 of ONNX has no such operator"):
        tessel.compile(model)
