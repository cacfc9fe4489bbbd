"""Small models of the make of real exports, of dynamic dims: read, compiled, and written again.

Each is run by ONNX Runtime as it is, by the compiled executable, and by ONNX Runtime after it was
optimised and written.
"""

import numpy as np
import onnx
import pytest
import tessel
from onnx import numpy_helper

from ...support.onnx_models import assert_equal, onnxruntime, rand

DETECTOR = """
  s1 = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (image, w1, b1)
  n1 = BatchNormalization (s1, scale, shift, mean, var)
  g1 = Sigmoid (n1)  a1 = Mul (n1, g1)
  s2 = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (a1, w2)
  a2 = LeakyRelu <alpha = 0.1> (s2)
  p1 = MaxPool <kernel_shape = [5, 5], pads = [2, 2, 2, 2], strides = [1, 1]> (a2)
  c1 = Concat <axis = 1> (a2, p1)
  shape = Shape (a1)  front = Slice (shape, zero1, two1)  back = Slice (shape, two1, four1)
  deep = Shape (c1)  deep2 = Slice (deep, zero1, two1)
  sizes = Concat <axis = 0> (deep2, back)
  up = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
               nearest_mode = "floor"> (c1, , , sizes)
  cat = Concat <axis = 1> (up, a1)
  head = Conv (cat, w3, b3)
  n = Gather <axis = 0> (shape, zero)  h = Gather <axis = 0> (shape, two)
  w = Gather <axis = 0> (shape, three)
  hw = Mul (h, w)  hw1 = Unsqueeze (hw, zero1)  n1d = Unsqueeze (n, zero1)
  flat = Concat <axis = 0> (n1d, anchors, seven1, hw1)
  r1 = Reshape (head, flat)  r2 = Transpose <perm = [0, 1, 3, 2]> (r1)
  last = Concat <axis = 0> (n1d, minus1, seven1)
  rows = Reshape (r2, last)
  xy, wh, rest = Split <axis = 2> (rows, parts)
  sxy = Sigmoid (xy)  ewh = Exp (wh)  half = Mul (ewh, point5)
  low = Sub (sxy, half)  high = Add (sxy, half)
  boxes = Concat <axis = 2> (low, high)
  scores = Sigmoid (rest)
"""
OCR = """
  c1 = Conv <pads = [1, 1, 1, 1]> (line, w1, b1)  a1 = Relu (c1)
  p1 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a1)
  c2 = Conv <pads = [1, 1, 1, 1]> (p1, w2)  a2 = HardSwish (c2)
  p2 = AveragePool <kernel_shape = [4, 1], strides = [4, 1]> (a2)
  q = Squeeze (p2, two1)  t = Transpose <perm = [2, 0, 1]> (q)
  y, yh, yc = LSTM <direction = "bidirectional", hidden_size = 4> (t, wl, rl, bl)
  z = Transpose <perm = [0, 2, 1, 3]> (y)
  zs = Shape (z)  tn = Slice (zs, zero1, two1)  to = Concat <axis = 0> (tn, minus1)
  f = Reshape (z, to)
  m = MatMul (f, wo)  l = Add (m, bo)
  probabilities = Softmax <axis = 2> (l)
  best = ArgMax <axis = 2, keepdims = 0> (probabilities)
"""
SPEECH = """
  x = Concat <axis = 1> (context, chunk)
  u = Unsqueeze (x, one1)
  f = Conv <strides = [4]> (u, basis)
  re, im = Split <axis = 1, num_outputs = 2> (f)
  re2 = Mul (re, re)  im2 = Mul (im, im)  e = Add (re2, im2)  mag = Sqrt (e)
  frames = Transpose <perm = [2, 0, 1]> (mag)
  h0, c0 = Split <axis = 0, num_outputs = 2> (state)
  y, h1, c1 = LSTM <hidden_size = 6> (frames, wl, rl, bl, , h0, c0)
  next = Concat <axis = 0> (h1, c1)
  s = Squeeze (y, one1)  r = Relu (s)
  g = MatMul (r, wo)  p = Sigmoid (g)
  mean = ReduceMean <keepdims = 0> (p, zero1)
"""


def ints(**values):
    return {k: np.asarray(v, np.int64) for k, v in values.items()}


MODELS = {
    "detector": (
        DETECTOR,
        "float[n,3,h,w] image",
        "float[n,k,4] boxes, float[n,k,3] scores",
        {
            "w1": rand(8, 3, 3, 3),
            "b1": rand(8),
            "scale": rand(8),
            "shift": rand(8),
            "mean": rand(8),
            "var": np.abs(rand(8)) + 1,
            "w2": rand(8, 8, 3, 3) / 5,
            "w3": rand(14, 24, 1, 1) / 5,
            "b3": rand(14),
            "point5": np.float32(0.5),
        }
        | ints(
            zero1=[0],
            two1=[2],
            four1=[4],
            zero=0,
            two=2,
            three=3,
            anchors=[2],
            seven1=[7],
            minus1=[-1],
            parts=[2, 2, 3],
        ),
        [{"image": rand(1, 3, 16, 24)}, {"image": rand(2, 3, 20, 8, seed=1)}],
    ),
    "ocr": (
        OCR,
        "float[n,1,8,w] line",
        "float[t,n,5] probabilities, int64[t,n] best",
        {
            "w1": rand(4, 1, 3, 3),
            "b1": rand(4),
            "w2": rand(6, 4, 3, 3) / 3,
            "wl": rand(2, 16, 6) / 2,
            "rl": rand(2, 16, 4) / 2,
            "bl": rand(2, 32) / 2,
            "wo": rand(8, 5),
            "bo": rand(5),
        }
        | ints(two1=[2], zero1=[0], minus1=[-1]),
        [{"line": rand(1, 1, 8, 20)}, {"line": rand(3, 1, 8, 11, seed=1)}],
    ),
    "speech": (
        SPEECH,
        "float[n,8] context, float[n,32] chunk, float[2,n,6] state",
        "float[n,1] mean, float[2,n,6] next",
        {
            "basis": rand(10, 1, 8),
            "wl": rand(1, 24, 5) / 2,
            "rl": rand(1, 24, 6) / 2,
            "bl": rand(1, 48) / 2,
            "wo": rand(6, 1),
        }
        | ints(one1=[1], zero1=[0]),
        [
            {"context": rand(n, 8), "chunk": rand(n, 32, seed=1), "state": rand(2, n, 6, seed=2)}
            for n in (1, 3)
        ],
    ),
}


def built(name: str) -> tuple[onnx.ModelProto, list[dict]]:
    nodes, inputs, outputs, weights, feeds = MODELS[name]
    proto = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 20]> {name} ({inputs}) => ({outputs}) {{ {nodes} }}'
    )
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items())
    onnx.checker.check_model(proto, full_check=True)
    return proto, feeds


@pytest.mark.parametrize("name", MODELS)
def test_one_executable_for_all_sizes(name):
    proto, feeds = built(name)
    exe = tessel.compile(proto, threads=1)
    for inputs in feeds:
        got = exe.run(inputs)
        want = onnxruntime(proto, *inputs.values())
        assert_equal([got[p.name] for p in exe.outputs], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_written_with_dynamic_dims(name, tmp_path):
    proto, feeds = built(name)
    written = tessel.to_onnx(proto, tmp_path / "m.onnx")
    assert len(written.graph.node) <= len(proto.graph.node)
    assert [i.name for i in written.graph.input] == [i.name for i in proto.graph.input]
    for inputs in feeds:
        want = onnxruntime(proto, *inputs.values())
        assert_equal(onnxruntime(written, *inputs.values()), want, rtol=1e-4, atol=1e-5)
        again = tessel.compile(tmp_path / "m.onnx", threads=1).run(inputs)
        assert_equal([again[o.name] for o in proto.graph.output], want, rtol=1e-4, atol=1e-5)
