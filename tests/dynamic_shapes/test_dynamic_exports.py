"""What exporters write for dynamic dims, by hand: sizes of other feature maps, computed pads,
caches.

Each model is compiled once, without a note: one code serves all sizes. Every combination is run by
ONNX Runtime too.
"""

import numpy as np
import onnx
import pytest
import tessel
from onnx import numpy_helper

from ..support.onnx_models import assert_equal, onnxruntime, rand


def ints(**values):
    return {k: np.asarray(v, np.int64) for k, v in values.items()}


# Feature maps of several strides meet at the size of the finest, and then at the image's.
SEGFORMER = """
  c1 = Conv <strides = [4, 4], pads = [3, 3, 3, 3]> (image, w1)
  s1 = Shape (c1)  front = Slice (s1, i0, i2)  hw = Slice (s1, i2, i4)
  flat = Concat <axis = 0> (front, minus1)  t1 = Reshape (c1, flat)
  t2 = Transpose <perm = [0, 2, 1]> (t1)  t3 = LayerNormalization (t2, g, b)
  t4 = MatMul (t3, wm)  t5 = Gelu (t4)  t6 = Transpose <perm = [0, 2, 1]> (t5)
  full = Concat <axis = 0> (front, hw)  f1 = Reshape (t6, full)
  f2 = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (f1, w2)
  s2 = Shape (f2)  front2 = Slice (s2, i0, i2)
  fine = Concat <axis = 0> (front2, hw)
  u2 = Resize <mode = "linear",
               coordinate_transformation_mode = "pytorch_half_pixel"> (f2, , , fine)
  cat = Concat <axis = 1> (u2, f1)
  head = Conv (cat, w3)
  si = Shape (image)  hwi = Slice (si, i2, i4)  n = Slice (si, i0, i1)
  size = Concat <axis = 0> (n, classes, hwi)
  y = Resize <mode = "linear"> (head, , , size)
"""

# Sizes that are no multiples of two: what is too small is padded, what is too large is cropped.
UNET = """
  d = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (image)
  m = Conv <pads = [1, 1, 1, 1]> (d, w1)  r = Relu (m)
  u = ConvTranspose <strides = [2, 2]> (r, w2)
  si = Shape (image)  su = Shape (u)
  hi = Slice (si, i2, i3)  hu = Slice (su, i2, i3)  dh = Sub (hi, hu)
  wi = Slice (si, i3, i4)  wu = Slice (su, i3, i4)  dw = Sub (wi, wu)
  top = Div (dh, two)  bottom = Sub (dh, top)
  left = Div (dw, two)  right = Sub (dw, left)
  pads = Concat <axis = 0> (i0, i0, top, left, i0, i0, bottom, right)
  p = Pad (u, pads)
  cat = Concat <axis = 1> (p, image)
  y = Conv <pads = [1, 1, 1, 1]> (cat, w3)
  hw = Slice (su, i2, i4)
  cropped = Slice (image, zeros, hw, axes)
  z = Add (cropped, u)
"""

# The rows of an image that is known to be one row high where its columns are taken for tokens.
LINE = """
  p1 = MaxPool <kernel_shape = [3, 2], strides = [2, 2]> (image)
  p2 = MaxPool <kernel_shape = [3, 2], strides = [2, 2]> (p1)
  flat = Reshape (p2, front)  t = Transpose <perm = [0, 2, 1]> (flat)
  sp = Shape (p2)  n = Slice (sp, i0, i1)  w = Slice (sp, i3, i4)
  tokens = Concat <axis = 0> (n, w, eight)
  x = Reshape (t, tokens)  y = MatMul (x, wm)
"""

# Patches of patches, counted by arithmetic that small images would make negative.
PATCHES = """
  c1 = Conv <strides = [4, 4]> (image, w1)
  c2 = Conv <strides = [8, 8]> (c1, w2)
  si = Shape (image)  n = Slice (si, i0, i1)
  h = Slice (si, i2, i3)  h1 = Sub (h, four1)  h2 = Div (h1, four1)
  h3 = Sub (h2, seven)  h4 = Div (h3, eight)  rows = Add (h4, i1)
  w = Slice (si, i3, i4)  w3 = Sub (w, four1)  w4 = Div (w3, four1)
  w5 = Sub (w4, seven)  w6 = Div (w5, eight)  columns = Add (w6, i1)
  count = Mul (rows, columns)
  flat = Concat <axis = 0> (n, minus1, count)  t1 = Reshape (c2, flat)
  t2 = Transpose <perm = [0, 2, 1]> (t1)
  again = Concat <axis = 0> (n, rows, columns, eight)  y = Reshape (t2, again)
"""

# A spectrogram whose signal is mirrored at the ends.
SPECTROGRAM = """
  mirrored = Pad <mode = "reflect"> (signal, ends)
  frames = STFT (mirrored, step, window, length)
  re, im = Split <axis = 3, num_outputs = 2> (frames)
  re2 = Mul (re, re)  im2 = Mul (im, im)  sum = Add (re2, im2)
  power = Squeeze (sum, i3)
  mel = MatMul (power, filters)
  floored = Max (mel, least)  y = Log (floored)
"""

# Keys and values of earlier turns stand before those of this one.
DECODER = """
  x = Gather (table, ids)
  ss = Shape (ids)  b = Slice (ss, i0, i1)  s = Slice (ss, i1, i2)
  sp = Shape (past_k)  p = Slice (sp, i2, i3)  t = Add (p, s)
  heads = Concat <axis = 0> (b, s, two1, four1)
  q0 = MatMul (x, wq)  q1 = Reshape (q0, heads)  q = Transpose <perm = [0, 2, 1, 3]> (q1)
  k0 = MatMul (x, wk)  k1 = Reshape (k0, heads)  k2 = Transpose <perm = [0, 2, 1, 3]> (k1)
  v0 = MatMul (x, wv)  v1 = Reshape (v0, heads)  v2 = Transpose <perm = [0, 2, 1, 3]> (v1)
  p0 = Squeeze (p, i0)  t0 = Squeeze (t, i0)
  at = Range (p0, t0, one)  all = Range (zero, t0, one)
  angle = Gather (angles, at)  turn = Cos (angle)  qr = Mul (q, turn)  k3 = Mul (k2, turn)
  k = Concat <axis = 2> (past_k, k3)  v = Concat <axis = 2> (past_v, v2)
  kt = Transpose <perm = [0, 1, 3, 2]> (k)  scores = MatMul (qr, kt)
  rows = Unsqueeze (at, i1)  columns = Unsqueeze (all, i0)
  distance = Sub (rows, columns)  near = Min (distance, most)  bucket = Max (near, zero)
  bias0 = Gather (buckets, bucket)  bias = Transpose <perm = [2, 0, 1]> (bias0)
  biased = Add (scores, bias)
  seen = GreaterOrEqual (distance, zero)  masked = Where (seen, biased, low)
  weights = Softmax <axis = -1> (masked)
  o0 = MatMul (weights, v)  o1 = Transpose <perm = [0, 2, 1, 3]> (o0)
  wide = Concat <axis = 0> (b, s, minus1)  o2 = Reshape (o1, wide)
  y = MatMul (o2, wo)
"""

# The mask of a padded batch at the size of the features, masks of objects at the image's.
DETR = """
  f = Conv <strides = [8, 8]> (image, w1)
  sf = Shape (f)  hwf = Slice (sf, i2, i4)  n = Slice (sf, i0, i1)
  four = Unsqueeze (mask, i1)
  small = Concat <axis = 0> (n, i1, hwf)
  m = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
              nearest_mode = "floor"> (four, , , small)
  kept = Mul (f, m)
  objects = Conv (kept, w2)
  so = Shape (objects)  front = Slice (so, i0, i2)
  si = Shape (image)  hw = Slice (si, i2, i4)
  size = Concat <axis = 0> (front, hw)
  big = Resize <mode = "linear",
                coordinate_transformation_mode = "align_corners"> (objects, , , size)
  p = Sigmoid (big)
  y = ArgMax <axis = 1, keepdims = 0> (p)
"""

# Positions of one image size, interpolated to those of another.
VIT = """
  patches = Conv <strides = [4, 4]> (image, w1)
  s = Shape (patches)  hw = Slice (s, i2, i4)  n = Slice (s, i0, i1)
  size = Concat <axis = 0> (i1, six1, hw)
  at = Resize <mode = "cubic", cubic_coeff_a = -0.75> (positions, , , size)
  placed = Add (patches, at)
  flat = Concat <axis = 0> (n, six1, minus1)  t = Reshape (placed, flat)
  tokens = Transpose <perm = [0, 2, 1]> (t)
  one = Concat <axis = 0> (n, i1, i1)  cls = Tile (token, one)
  cat = Concat <axis = 1> (cls, tokens)
  y = MatMul (cat, wo)
"""

# Text to sound: each token lasts as many frames as the model says.
DURATIONS = """
  x = Gather (table, ids)  f = Cast <to = 1> (mask)
  d0 = MatMul (x, wd)  d1 = Squeeze (d0, i2)  d2 = Exp (d1)  d3 = Ceil (d2)  d = Mul (d3, f)
  sums = ReduceSum <keepdims = 0> (d, i1)  most = ReduceMax <keepdims = 0> (sums)
  count = Cast <to = 7> (most)  frames = Range (zero, count, one)  at = Cast <to = 1> (frames)
  ends = CumSum (d, one)  e = Unsqueeze (ends, i2)  s = Sub (ends, d)  b = Unsqueeze (s, i2)
  before = Less (at, e)  after = GreaterOrEqual (at, b)  inside = And (before, after)
  path = Cast <to = 1> (inside)  turned = Transpose <perm = [0, 2, 1]> (path)
  y = MatMul (turned, x)
"""

# A table of positions, of which a text takes as many as it has tokens: it is not longer than that.
TABLE = """
  x = Gather (table, ids)  s = Shape (ids)  n = Slice (s, i1, i2)
  at = Slice (positions, i0, n, i1)  placed = Add (x, at)
  p = MatMul (placed, wq)
  heads = Concat <axis = 0> (s, minus1, i4)  h = Reshape (p, heads)
  q = Transpose <perm = [0, 2, 1, 3]> (h)  k = Transpose <perm = [0, 2, 3, 1]> (h)
  scores = MatMul (q, k)  weights = Softmax (scores)  o = MatMul (weights, q)
  t = Transpose <perm = [0, 2, 1, 3]> (o)
  wide = Concat <axis = 0> (s, minus1)  o1 = Reshape (t, wide)
  y = MatMul (o1, wo)
"""

PLACES = ints(i0=[0], i1=[1], i2=[2], i3=[3], i4=[4], minus1=[-1])


def texts(*sizes):
    """Tokens and masks of (batch, tokens); the last tokens of the last text are padding."""
    for b, s in sizes:
        mask = np.ones((b, s), np.int64)
        mask[-1, s - s // 3 :] = 0
        yield {"ids": np.arange(b * s).reshape(b, s) % 7, "mask": mask}


def turns(*sizes):
    """Inputs of the decoder: (batch, tokens, tokens before them)."""
    for b, s, p in sizes:
        yield {
            "ids": np.arange(b * s).reshape(b, s) % 7,
            "past_k": rand(b, 2, p, 4),
            "past_v": rand(b, 2, p, 4, seed=1),
        }


MODELS = {
    "segformer": (
        SEGFORMER,
        "float[n,3,h,w] image",
        "float[n,k,h,w] y",
        {
            "w1": rand(6, 3, 7, 7) / 9,
            "g": rand(6),
            "b": rand(6),
            "wm": rand(6, 6) / 2,
            "w2": rand(8, 6, 3, 3) / 5,
            "w3": rand(4, 14, 1, 1),
        }
        | ints(classes=[4]),
        [{"image": rand(n, 3, h, w)} for n, h, w in [(1, 32, 32), (2, 37, 50), (1, 64, 21)]],
    ),
    "unet": (
        UNET,
        "float[n,2,h,w] image",
        "float[n,3,a,b] y, float[n,2,c,d] z",
        {"w1": rand(4, 2, 3, 3) / 3, "w2": rand(4, 2, 2, 2), "w3": rand(3, 4, 3, 3) / 3}
        | ints(two=[2], zeros=[0, 0], axes=[2, 3]),
        [{"image": rand(n, 2, h, w)} for n, h, w in [(1, 8, 8), (2, 9, 12), (1, 7, 21)]],
    ),
    "line": (
        LINE,
        "float[n,8,h,w] image",
        "float[n,t,16] y",
        {"wm": rand(8, 16)} | ints(front=[0, 0, -1], eight=[8]),
        [{"image": rand(n, 8, h, w)} for n, h, w in [(1, 7, 8), (2, 9, 20), (3, 8, 124)]],
    ),
    "patches": (
        PATCHES,
        "float[n,3,h,w] image",
        "float[n,a,b,8] y",
        {"w1": rand(4, 3, 4, 4) / 5, "w2": rand(8, 4, 8, 8) / 9}
        | ints(four1=[4], seven=[7], eight=[8]),
        [{"image": rand(n, 3, h, w)} for n, h, w in [(1, 64, 32), (2, 37, 70), (1, 131, 35)]],
    ),
    "spectrogram": (
        SPECTROGRAM,
        "float[n,t,1] signal",
        "float[n,f,m] y",
        {
            "window": np.hanning(16).astype(np.float32),
            "filters": np.abs(rand(9, 5)),
            "least": np.float32(1e-6),
        }
        | ints(ends=[0, 8, 0, 0, 8, 0], step=4, length=16),
        [{"signal": rand(n, t, 1)} for n, t in [(1, 64), (3, 101), (1, 17)]],
    ),
    "decoder": (
        DECODER,
        "int64[b,s] ids, float[b,2,p,4] past_k, float[b,2,p,4] past_v",
        "float[b,s,8] y, float[b,2,t,4] k, float[b,2,t,4] v",
        {
            "table": rand(7, 8),
            **{f"w{i}": rand(8, 8, seed=j) / 3 for j, i in enumerate("qkvo")},
            "angles": rand(64, 4),
            "buckets": rand(5, 2),
            "low": np.float32(-1e9),
        }
        | ints(two1=[2], four1=[4], zero=0, one=1, most=4),
        list(turns((1, 5, 3), (2, 1, 9), (3, 4, 1))),
    ),
    "durations": (
        DURATIONS,
        "int64[b,s] ids, int64[b,s] mask",
        "float[b,t,8] y",
        {"table": rand(7, 8), "wd": rand(8, 1, seed=1)} | ints(zero=0, one=1),
        list(texts((2, 5), (1, 1), (3, 11), (1, 9))),
    ),
    "table": (
        TABLE,
        "int64[b,s] ids",
        "float[b,s,8] y",
        {"table": rand(7, 8), "positions": rand(1, 12, 8), "wq": rand(8, 8), "wo": rand(8, 8)},
        [{"ids": np.arange(b * s).reshape(b, s) % 7} for b, s in [(2, 5), (1, 1), (3, 12)]],
    ),
    "detr": (
        DETR,
        "float[n,3,h,w] image, float[n,h,w] mask",
        "int64[n,h,w] y",
        {"w1": rand(4, 3, 8, 8) / 9, "w2": rand(3, 4, 1, 1)},
        [
            {"image": rand(n, 3, h, w), "mask": (rand(n, h, w, seed=2) > 0).astype(np.float32)}
            for n, h, w in [(1, 32, 40), (2, 27, 64)]
        ],
    ),
    "vit": (
        VIT,
        "float[n,3,h,w] image",
        "float[n,t,5] y",
        {
            "w1": rand(6, 3, 4, 4) / 5,
            "positions": rand(1, 6, 4, 4),
            "token": rand(1, 1, 6),
            "wo": rand(6, 5),
        }
        | ints(six1=[6]),
        [{"image": rand(n, 3, h, w)} for n, h, w in [(1, 16, 16), (2, 24, 12), (1, 9, 33)]],
    ),
}


def built(name: str) -> tuple[onnx.ModelProto, list[dict]]:
    nodes, inputs, outputs, weights, feeds = MODELS[name]
    proto = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 20]> {name} ({inputs}) => ({outputs}) {{ {nodes} }}'
    )
    used = {i for n in proto.graph.node for i in n.input}
    weights = weights | {k: v for k, v in PLACES.items() if k in used}
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items())
    return proto, feeds


@pytest.mark.parametrize("name", MODELS)
def test_one_code_serves_all_sizes(name):
    proto, feeds = built(name)
    exe = tessel.compile(proto, threads=1)
    assert not exe.notes
    for inputs in (*feeds, feeds[0]):
        got = exe.run(inputs)
        want = onnxruntime(proto, *inputs.values())
        assert_equal([got[p.name] for p in exe.outputs], want, rtol=1e-3, atol=1e-4)
        assert exe.specializations[-1].is_dynamic


@pytest.mark.parametrize("name", MODELS)
def test_the_same_with_every_dim_named_apart(name):
    """As `dynamic_axes` on every axis: sizes that must be equal have names of their own."""
    proto, feeds = built(name)
    for info in proto.graph.input:
        for i, d in enumerate(info.type.tensor_type.shape.dim):
            d.dim_param = f"{info.name}_{i}"
    for info in proto.graph.output:
        info.type.tensor_type.ClearField("shape")
    exe = tessel.compile(proto, threads=1)
    for inputs in feeds:
        got = exe.run(inputs)
        want = onnxruntime(proto, *inputs.values())
        assert_equal([got[p.name] for p in exe.outputs], want, rtol=1e-3, atol=1e-4)


def test_a_text_that_is_longer_than_its_table_is_refused():
    proto, _ = built("table")
    exe = tessel.compile(proto, threads=1)
    with pytest.raises(tessel.TesselError, match="fit the model"):
        exe(np.zeros((1, 13), np.int64))
