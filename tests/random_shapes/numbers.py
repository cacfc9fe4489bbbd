"""Nodes that compute with elements, or choose among them."""

import numpy as np
from onnx import TensorProto

from .draw import Drawing
from .sizes import has_elements, must, one_size


def where(d: Drawing):
    x = d.pick("fi")
    y = d.pick(x.kind)
    c = must(d.node(d.rng.choice(["Less", "Greater", "Equal"]), [x, y]))
    d.node("Where", [c, x, y] if d.rng.random() < 0.6 else [c, y, x])


def where_mask(d: Drawing):
    x = d.pick("fi")
    d.node("Where", [d.pick("b"), x, d.pick(x.kind)])


def binary(d: Drawing):
    x = d.pick("fi")
    y = d.pick(x.kind, fits=lambda v: v is not x)
    op = d.rng.choice(["Add", "Mul", "Sub", "Max", "Min", "Equal", "Less"])
    d.node(op, [x, y])


def with_constant(d: Drawing):
    x = d.pick("fi")
    rank = d.rng.choice([0, 1, 1, 2])
    array = np.random.default_rng(d.rng.randrange(1 << 30)).integers(
        -1, 3, [d.rng.choice([1, 1, 2, 3]) for _ in range(rank)]
    )
    dtype = np.float32 if x.kind == "f" else np.int64
    d.node(d.rng.choice(["Add", "Mul", "Max"]), [x, d.constant(array, dtype)])


def unary(d: Drawing):
    d.node(d.rng.choice(["Relu", "Neg", "Abs", "Tanh", "Identity"]), [d.pick("f")])


def cast(d: Drawing):
    kind = d.rng.choice([TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL])
    d.node("Cast", [d.pick()], to=kind)


def matmul(d: Drawing):
    x = d.pick("f", range(1, 5))
    if d.rng.random() < 0.5:
        d.node("MatMul", [x, d.pick("f", range(1, 5))])
        return
    axes = list(range(x.rank))
    axes[-2:] = axes[-2:][::-1]
    y = must(d.node("Transpose", [x], perm=axes))
    d.node("MatMul", [x, y] if d.rng.random() < 0.5 else [y, x])


def gemm(d: Drawing):
    x = d.pick("f", [2])
    d.node("Gemm", [x, d.pick("f", [2])], transA=d.rng.randrange(2), transB=d.rng.randrange(2))


REDUCTIONS = ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp", "LogSum"]


def reduce(d: Drawing):
    """The mean of nothing is undefined in ONNX: ONNX Runtime says 0, tessel and numpy NaN."""
    op = d.rng.choice(REDUCTIONS[:5]) if d.rng.random() < 0.8 else d.rng.choice(REDUCTIONS)
    x = d.pick("f" if op in ("Mean", "L2", "LogSumExp", "LogSum") else "fi")
    if op == "Mean" and not has_elements(x):
        raise LookupError
    axes = [i for i in range(x.rank) if d.rng.random() < 0.6]
    operands = [x, d.constant(axes)] if axes else [x]
    d.node(f"Reduce{op}", operands, keepdims=d.rng.randrange(2))


def arg(d: Drawing):
    x = d.pick("f", range(1, 5))
    axis = d.rng.randrange(x.rank)
    d.node(d.rng.choice(["ArgMax", "ArgMin"]), [x], axis=axis, keepdims=d.rng.randrange(2))


def along(d: Drawing):
    x = d.pick("f", range(1, 5))
    axis = d.rng.randrange(-x.rank, x.rank)
    op = d.rng.choice(["Softmax", "LogSoftmax", "CumSum", "Softmax", "Hardmax"])
    if op == "CumSum":
        d.node(op, [x, d.constant(axis)], exclusive=d.rng.randrange(2), reverse=d.rng.randrange(2))
    else:
        d.node(op, [x], axis=axis)


def topk(d: Drawing):
    x = d.pick("fi", range(1, 4))
    axis = d.rng.randrange(x.rank)
    n = must(d.node("Gather", [must(d.node("Shape", [x])), d.constant([axis])], axis=0))
    k = must(d.node("Min", [n, one_size(d) if d.rng.random() < 0.6 else d.constant([2])]))
    d.node("TopK", [x, k], 2, axis=axis, largest=d.rng.randrange(2))


def unique(d: Drawing):
    """Of no elements, ONNX Runtime ends the process."""
    x = d.pick("fi", range(1, 4), has_elements)
    attrs = {"axis": d.rng.randrange(x.rank)} if d.rng.random() < 0.4 else {}
    d.node("Unique", [x], d.rng.choice([1, 4]), sorted=d.rng.randrange(2), **attrs)


def one_hot(d: Drawing):
    i = d.pick("i", range(3))
    values = d.constant([0, 1], np.float32)
    d.node("OneHot", [i, one_size(d, d.rng.randrange(2)), values], axis=d.rng.choice([-1, 0]))


def trilu(d: Drawing):
    d.node(
        "Trilu",
        [d.pick("fi", range(2, 5)), d.constant(d.rng.randint(-1, 1))],
        upper=d.rng.randrange(2),
    )


def eye_like(d: Drawing):
    d.node("EyeLike", [d.pick("fi", [2])], k=d.rng.randint(-1, 1))


def nms(d: Drawing):
    n = one_size(d)
    zero = d.constant(0, np.float32)
    one, four = d.constant([1]), d.constant([4])
    boxes = must(d.node("Expand", [zero, must(d.node("Concat", [one, n, four], axis=0))]))
    corner = d.constant([0, 0, 1, 1], np.float32)
    boxes = must(d.node("Add", [boxes, corner]))
    scores = must(
        d.node(
            "Expand", [d.constant(0.5, np.float32), must(d.node("Concat", [one, one, n], axis=0))]
        )
    )
    low = d.constant([d.rng.choice([0.1, 0.9])], np.float32)
    most = one_size(d) if d.rng.random() < 0.3 else d.constant([3])
    d.node("NonMaxSuppression", [boxes, scores, most, d.constant([0.5], np.float32), low])


def conv(d: Drawing):
    x = d.pick("f", [3])
    c = x.one.shape[1]
    w = d.constant(np.ones((d.rng.choice([1, 2]), c, d.rng.choice([1, 2, 3]))), np.float32)
    attrs = {"pads": [1, 1]} if d.rng.random() < 0.5 else {}
    d.node("Conv", [x, w], **attrs)


def pool(d: Drawing):
    """Of an axis shorter than its window, ONNX Runtime makes a value of no element."""
    x = d.pick("f", [3], lambda v: has_elements(v, 2))
    d.node(
        d.rng.choice(["MaxPool", "AveragePool"]),
        [x],
        kernel_shape=[2],
        strides=[d.rng.choice([1, 2])],
        pads=[0, d.rng.randrange(2)],
        ceil_mode=d.rng.randrange(2),
    )


def global_pool(d: Drawing):
    d.node(d.rng.choice(["GlobalAveragePool", "GlobalMaxPool"]), [d.pick("f", [3, 4])])


def layer_norm(d: Drawing):
    x = d.pick("f", range(1, 4))
    d.node("LayerNormalization", [x, d.constant([1], np.float32)])


def einsum(d: Drawing):
    x, y = d.pick("f", [2]), d.pick("f", [2])
    d.node(
        "Einsum",
        [x, y],
        equation=d.rng.choice(["ij,jk->ik", "ij,kj->ik", "ij,ij->i", "ij,ik->jk", "ij,kl->il"]),
    )
