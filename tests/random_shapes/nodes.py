"""What models are drawn of: a function for each kind of node, with how often it is tried.

A function picks operands among the values that are there and appends nodes, which ONNX Runtime may
refuse. LookupError means that no value fits.
"""

import numpy as np
from onnx import TensorProto, helper

from .draw import Drawing, Value


def is_sizes(v: Value) -> bool:
    """Whether a vector could be sizes: as many of them everywhere, none large or negative."""
    arrays = [a for a in v.arrays if a is not None]
    small = all(not a.size or -1 <= a.min() <= a.max() <= 64 for a in arrays)
    return small and len({a.size for a in arrays}) == 1 and arrays[0].size <= 5


def has_elements(v: Value, least: int = 1) -> bool:
    """Whether the last axis has so many, and no axis is empty."""
    arrays = [a for a in v.arrays if a is not None]
    return all(a.size and (not a.ndim or a.shape[-1] >= least) for a in arrays)


def sizes_of(d: Drawing) -> Value:
    """A vector of sizes: one that is there, or the shape of a value."""
    found = [v for v in d.values if v.kind == "i" and v.rank == 1 and is_sizes(v)]
    return d.rng.choice(found) if found and d.rng.random() < 0.4 else shape(d)


def one_size(d: Drawing, rank=1) -> Value:
    """A size as a vector of one element, or as a scalar."""
    what = d.rng.random()
    if what < 0.25:
        v = count(d)
    else:
        vector = sizes_of(d)
        n = vector.one.size
        if not n:
            raise LookupError
        at = d.constant([d.rng.randrange(n)] if rank else d.rng.randrange(n))
        return must(d.node("Gather", [vector, at], axis=0))
    if rank == 0:
        return must(d.node("Squeeze", [v]))
    return v


def must(made):
    if made is None:
        raise LookupError
    return made[0]


def count(d: Drawing) -> Value:
    """How many elements of a value are not 0, or its largest, as i64[1]: data decides."""
    x = d.pick("fi", range(1, 5))
    if d.rng.random() < 0.6:
        found = must(d.node("NonZero", [x]))
        s = must(d.node("Shape", [found]))
        return must(d.node("Gather", [s, d.constant([1])], axis=0))
    x = must(d.node("Cast", [x], to=TensorProto.INT64))
    zero = d.constant([0])
    flat = must(d.node("Reshape", [x, d.constant([-1])]))
    both = must(d.node("Concat", [flat, zero], axis=0))
    if d.rng.random() < 0.5:
        return must(d.node("ReduceMax", [both, zero], keepdims=1))
    both = must(d.node("Clip", [both, d.constant(0), d.constant(2)]))
    return must(d.node("ReduceSum", [both, zero], keepdims=1))


def shape(d: Drawing) -> Value:
    return must(d.node("Shape", [d.pick()]))


def size(d: Drawing):
    d.node("Size", [d.pick()])


def size_arithmetic(d: Drawing):
    a = sizes_of(d)
    op = d.rng.choice(["Add", "Sub", "Mul", "Div", "Max", "Min", "Mod"])
    other = d.constant([d.rng.choice([0, 1, 2, 3])]) if d.rng.random() < 0.6 else one_size(d)
    pair = [a, other] if d.rng.random() < 0.8 else [other, a]
    if op in ("Div", "Mod"):
        pair[1] = d.constant([d.rng.choice([1, 2, 3])])
    d.node(op, pair)


def size_choice(d: Drawing):
    """Where(a == n, b, a): what exporters make of Expand and Reshape."""
    a, b = sizes_of(d), one_size(d)
    test = d.rng.choice(["Equal", "Less", "Greater"])
    c = must(d.node(test, [a, d.constant([d.rng.choice([0, 1, 2, -1])])]))
    d.node("Where", [c, b, a] if d.rng.random() < 0.7 else [c, d.constant([1]), a])


def gather_sizes(d: Drawing):
    v = sizes_of(d)
    n = v.one.size
    if not n:
        raise LookupError
    picked = [d.rng.randrange(-n, n) for _ in range(d.rng.choice([1, 1, 2, 3]))]
    d.node("Gather", [v, d.constant(picked)], axis=0)


def slice_sizes(d: Drawing):
    v = sizes_of(d)
    start, end = d.rng.randint(-2, 2), d.rng.choice([-1, 1, 2, 3, 99])
    d.node("Slice", [v, d.constant([start]), d.constant([end]), d.constant([0])])


def concat_sizes(d: Drawing):
    parts = []
    for _ in range(d.rng.choice([2, 2, 3])):
        what = d.rng.random()
        parts.append(d.constant([d.rng.choice([-1, 0, 1, 1, 2, 3])]) if what < 0.4 else one_size(d))
    d.node("Concat", parts, axis=0)


def reduce_sizes(d: Drawing):
    op = d.rng.choice(["ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin"])
    d.node(op, [sizes_of(d), d.constant([0])], keepdims=1)


def target(d: Drawing, x: Value) -> Value:
    """What to reshape `x` to."""
    rank = x.rank
    what = d.rng.random()
    if what < 0.2:
        return d.constant(d.rng.choice([[-1], [0, -1], [-1, 1], [1, -1], [0, 1, -1], [-1, 2],
                                        [0, 0, -1], [1, 0, -1], [-1, 3]]))  # fmt: skip
    if what < 0.3:
        return sizes_of(d)
    s = must(d.node("Shape", [x]))
    if what < 0.5 and rank >= 2:
        order = list(range(rank))
        d.rng.shuffle(order)
        return must(d.node("Gather", [s, d.constant(order)], axis=0))
    if what < 0.7 and rank >= 1:
        at = d.rng.randrange(rank)
        own = must(d.node("Gather", [s, d.constant([at])], axis=0))
        rest = d.constant([d.rng.choice([-1, -1, -1, 0, 1])])
        parts = [own, rest] if d.rng.random() < 0.5 else [rest, own]
        return must(d.node("Concat", parts, axis=0))
    a = one_size(d)
    parts = [a, d.constant([d.rng.choice([-1, -1, 0, 1])])]
    if d.rng.random() < 0.3:
        parts.append(one_size(d) if d.rng.random() < 0.5 else d.constant([1]))
    d.rng.shuffle(parts)
    return must(d.node("Concat", parts, axis=0))


def reshape(d: Drawing):
    """Where 0 is a size, -1 beside it means nothing; ONNX Runtime takes it."""
    x = d.pick()
    to = target(d, x)
    zeros = d.rng.random() < 0.15 and not any(a is not None and -1 in a for a in to.arrays)
    d.node("Reshape", [x, to], **({"allowzero": 1} if zeros else {}))


def expand(d: Drawing):
    x = d.pick()
    if d.rng.random() < 0.4:
        to = must(d.node("Shape", [d.pick()]))
    elif d.rng.random() < 0.5:
        to = sizes_of(d)
    else:
        parts = [one_size(d)] + [d.constant([1])] * d.rng.choice([0, 1, 1])
        to = must(d.node("Concat", parts, axis=0))
    d.node("Expand", [x, to])


def unsqueeze(d: Drawing):
    x = d.pick(ranks=range(4))
    d.node("Unsqueeze", [x, d.constant([d.rng.randint(-x.rank - 1, x.rank)])])


def squeeze(d: Drawing):
    x = d.pick(ranks=range(1, 6))
    ones = [i for i in range(x.rank) if x.one.shape[i] == 1]
    if ones and d.rng.random() < 0.9:
        d.node("Squeeze", [x, d.constant([d.rng.choice(ones)])])
    else:
        d.node("Squeeze", [x])


def transpose(d: Drawing):
    x = d.pick(ranks=range(2, 6))
    order = list(range(x.rank))
    d.rng.shuffle(order)
    d.node("Transpose", [x], perm=order)


def flatten(d: Drawing):
    x = d.pick("fi", range(1, 6))
    d.node("Flatten", [x], axis=d.rng.randint(0, x.rank))


def slice_(d: Drawing):
    x = d.pick(ranks=range(1, 6))
    axis = d.rng.randrange(x.rank)
    step = d.rng.choice([1, 1, 1, 2, -1, -2])
    start = d.rng.choice([0, 0, 1, -1, -2, 2, 99, -99])
    end = d.rng.choice([1, 2, 3, -1, 99, 99, -99])
    operands = [d.constant([start]), d.constant([end])]
    if d.rng.random() < 0.4:
        operands[d.rng.randrange(2)] = one_size(d)
    d.node("Slice", [x, *operands, d.constant([axis]), d.constant([step])])


def split(d: Drawing):
    x = d.pick(ranks=range(1, 6))
    axis = d.rng.randrange(x.rank)
    what = d.rng.random()
    if what < 0.3:
        n = d.rng.choice([1, 2, 3])
        d.node("Split", [x], n, axis=axis, num_outputs=n)
        return
    n = must(d.node("Gather", [must(d.node("Shape", [x])), d.constant([axis])], axis=0))
    if what < 0.7:
        first = must(d.node("Min", [one_size(d), n]))
    else:
        first = must(d.node("Div", [n, d.constant([2])]))
    rest = must(d.node("Sub", [n, first]))
    parts = [first, rest]
    if d.rng.random() < 0.3:
        parts.insert(d.rng.randrange(3), d.constant([0]))
    d.node("Split", [x, must(d.node("Concat", parts, axis=0))], len(parts), axis=axis)


def range_(d: Drawing):
    limit = one_size(d, 0)
    start = d.constant(d.rng.choice([0, 0, 1, 2])) if d.rng.random() < 0.7 else one_size(d, 0)
    d.node("Range", [start, limit, d.constant(d.rng.choice([1, 1, 1, 2, -1]))])


def constant_of_shape(d: Drawing):
    attrs = {}
    if d.rng.random() < 0.6:
        value = np.array([d.rng.choice([1, 2])], d.rng.choice([np.float32, np.int64]))
        attrs["value"] = helper.make_tensor("v", TensorProto.FLOAT if value.dtype == np.float32
                                            else TensorProto.INT64, [1], value)  # fmt: skip
    d.node("ConstantOfShape", [sizes_of(d)], **attrs)


def nonzero(d: Drawing):
    """ONNX Runtime takes a scalar for a vector; in ONNX its places have no rows."""
    x = d.pick(ranks=range(1, 5))
    i = must(d.node("NonZero", [x]))
    what = d.rng.random()
    if what < 0.6:
        t = must(d.node("Transpose", [i]))
        if what < 0.4:
            d.node("GatherND", [x, t])
    elif what < 0.8 and x.rank == 1:
        d.node("Gather", [d.pick(ranks=range(1, 4)), must(d.node("Squeeze", [i, d.constant([0])]))])


def compress(d: Drawing):
    x = d.pick(ranks=range(1, 5))
    axis = d.rng.randrange(x.rank)
    n = must(d.node("Gather", [must(d.node("Shape", [x])), d.constant(axis)], axis=0))
    zero, one = d.constant(0), d.constant(1)
    places = must(d.node("Range", [zero, n, one]))
    limit = one_size(d) if d.rng.random() < 0.5 else count(d)
    test = d.rng.choice(["Less", "Greater", "Equal"])
    d.node("Compress", [x, must(d.node(test, [places, limit]))], axis=axis)


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


def pad(d: Drawing):
    x = d.pick("fi", range(1, 5))
    mode = d.rng.choice(["constant", "constant", "edge", "reflect", "wrap"])
    if mode == "constant" and d.rng.random() < 0.4:
        zeros = d.constant([0] * (2 * x.rank - 1))
        p = must(d.node("Concat", [zeros, one_size(d)], axis=0))
    else:
        low = -1 if mode == "constant" and d.rng.random() < 0.3 else 0
        p = d.constant([d.rng.randint(low, 2) for _ in range(2 * x.rank)])
    d.node("Pad", [x, p], mode=mode)


def tile(d: Drawing):
    x = d.pick("fi", range(1, 4))
    parts = [d.constant([d.rng.choice([0, 1, 1, 2])]) if d.rng.random() < 0.6 else one_size(d)
             for _ in range(x.rank)]  # fmt: skip
    d.node("Tile", [x, parts[0] if x.rank == 1 else must(d.node("Concat", parts, axis=0))])


def resize(d: Drawing):
    x = d.pick("f", range(1, 4))
    mode = d.rng.choice(["nearest", "nearest", "linear"])
    if d.rng.random() < 0.5:
        scales = d.constant([d.rng.choice([1, 1, 2, 0.5]) for _ in range(x.rank)], np.float32)
        d.node("Resize", [x, None, scales], mode=mode)
        return
    parts = [one_size(d) for _ in range(x.rank)]
    to = parts[0] if x.rank == 1 else must(d.node("Concat", parts, axis=0))
    d.node("Resize", [x, None, None, to], mode=mode)


def gather(d: Drawing):
    x = d.pick(ranks=range(1, 4))
    axis = d.rng.randrange(x.rank)
    s = must(d.node("Shape", [x]))
    n = must(d.node("Gather", [s, d.constant(axis)], axis=0))
    what = d.rng.random()
    if what < 0.4:
        places = must(d.node("Range", [d.constant(0), n, d.constant(d.rng.choice([1, 2]))]))
    elif what < 0.7:
        places = d.constant(d.rng.choice([[0], [-1], [0, 0], [0, -1], [], 0, -1, [[0], [-1]]]))
    else:
        y = d.pick("i", range(3))
        low = must(d.node("Sub", [n, d.constant(1)]))
        y = must(d.node("Max", [y, d.constant(0)]))
        places = must(d.node("Min", [y, low]))
    d.node("Gather", [x, places], axis=axis)


def gather_elements(d: Drawing):
    x = d.pick(ranks=range(1, 4))
    axis = d.rng.randrange(x.rank)
    i = d.constant(np.zeros((), np.int64))
    zeros = must(d.node("Expand", [i, must(d.node("Shape", [d.pick(ranks=[x.rank])]))]))
    d.node("GatherElements", [x, zeros], axis=axis)


def scatter(d: Drawing):
    x = d.pick("fi", range(1, 4))
    what = d.rng.random()
    if what < 0.5:
        i = must(d.node("Transpose", [must(d.node("NonZero", [x]))]))
        u = must(d.node("GatherND", [x, i]))
        u = must(d.node("Add", [u, u]))
        d.node("ScatterND", [x, i, u], reduction=d.rng.choice(["none", "add", "max"]))
        return
    axis = d.rng.randrange(x.rank)
    u = d.pick(x.kind, [x.rank])
    zero = d.constant(0)
    i = must(d.node("Expand", [zero, must(d.node("Shape", [u]))]))
    d.node("ScatterElements", [x, i, u], axis=axis, reduction=d.rng.choice(["none", "add"]))


def concat(d: Drawing):
    """Of operands without elements that do not fit, ONNX Runtime makes elements of no value."""
    x = d.pick(ranks=range(1, 5))
    more = [d.pick(x.kind, [x.rank]) for _ in range(d.rng.choice([1, 1, 2]))]
    axis = d.rng.randrange(x.rank)
    for arrays in zip(*(v.arrays for v in (x, *more))):
        if any(a is None for a in arrays):
            continue
        beside = {a.shape[:axis] + a.shape[axis + 1 :] for a in arrays}
        if len(beside) > 1 and any(not a.size and a.shape[axis] for a in arrays):
            raise LookupError
    d.node("Concat", [x, *more], axis=axis)


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
    d.node("Trilu", [d.pick("fi", range(2, 5)), d.constant(d.rng.randint(-1, 1))],
           upper=d.rng.randrange(2))  # fmt: skip


def eye_like(d: Drawing):
    d.node("EyeLike", [d.pick("fi", [2])], k=d.rng.randint(-1, 1))


def nms(d: Drawing):
    n = one_size(d)
    zero = d.constant(0, np.float32)
    one, four = d.constant([1]), d.constant([4])
    boxes = must(d.node("Expand", [zero, must(d.node("Concat", [one, n, four], axis=0))]))
    corner = d.constant([0, 0, 1, 1], np.float32)
    boxes = must(d.node("Add", [boxes, corner]))
    scores = must(d.node("Expand", [d.constant(0.5, np.float32),
                                    must(d.node("Concat", [one, one, n], axis=0))]))  # fmt: skip
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
    d.node(d.rng.choice(["MaxPool", "AveragePool"]), [x], kernel_shape=[2],
           strides=[d.rng.choice([1, 2])], pads=[0, d.rng.randrange(2)],
           ceil_mode=d.rng.randrange(2))  # fmt: skip


def global_pool(d: Drawing):
    d.node(d.rng.choice(["GlobalAveragePool", "GlobalMaxPool"]), [d.pick("f", [3, 4])])


def layer_norm(d: Drawing):
    x = d.pick("f", range(1, 4))
    d.node("LayerNormalization", [x, d.constant([1], np.float32)])


def einsum(d: Drawing):
    x, y = d.pick("f", [2]), d.pick("f", [2])
    d.node("Einsum", [x, y], equation=d.rng.choice(["ij,jk->ik", "ij,kj->ik", "ij,ij->i",
                                                    "ij,ik->jk", "ij,kl->il"]))  # fmt: skip


# -- branches and loops -----------------------------------------------------------------------


def condition(d: Drawing) -> Value:
    v = one_size(d, 0)
    test = d.rng.choice(["Less", "Greater", "Equal"])
    return must(d.node(test, [v, d.constant(d.rng.choice([0, 1, 2]))]))


def if_(d: Drawing):
    """Two branches, each a node that reads a value from outside."""
    c, x = condition(d), d.pick("f", range(1, 4))
    graphs, captured = [], [x]
    for name in ("then", "else"):
        out = d.name("b")
        kind = d.rng.choice(["Relu", "Neg", "Slice", "Slice", "Concat", "Identity"])
        operands, attrs = [x], {}
        if kind == "Slice":
            begin, end = d.rng.choice([0, 1]), d.rng.choice([1, 2, 99])
            operands += [d.constant([begin]), d.constant([end]), d.constant([0])]
        elif kind == "Concat":
            operands, attrs = [x, x], {"axis": 0}
        captured += operands
        node = helper.make_node(kind, [v.name for v in operands], [out], **attrs)
        info = helper.make_tensor_value_info(out, TensorProto.FLOAT, [None] * x.rank)
        graphs.append(helper.make_graph([node], name, [], [info]))
    out = d.name()
    node = helper.make_node("If", [c.name], [out], then_branch=graphs[0], else_branch=graphs[1])
    d.append([node], [c, *captured], [out])


def loop(d: Drawing):
    """A state that is added to, grows or shrinks; rows of what it was."""
    m, x = one_size(d, 0), d.pick("f", range(1, 3))
    kind = d.rng.choice(["add", "grow", "shrink", "range"])
    i, going, state, out, again, row = (d.name(n) for n in ("i", "g", "s", "o", "a", "r"))
    f, captured = TensorProto.FLOAT, []
    nodes = [helper.make_node("Identity", [going], [again])]
    if kind == "add":
        nodes.append(helper.make_node("Add", [state, state], [out]))
    elif kind == "grow":
        captured = [x]
        nodes.append(helper.make_node("Concat", [state, x.name], [out], axis=0))
    elif kind == "shrink":
        captured = [d.constant([1]), d.constant([99]), d.constant([0])]
        nodes.append(helper.make_node("Slice", [state, *(v.name for v in captured)], [out]))
    else:
        t = d.name("t")
        nodes += [helper.make_node("Cast", [i], [t], to=f),
                  helper.make_node("Add", [state, t], [out])]  # fmt: skip
    rows = d.rng.random() < 0.5 and kind in ("add", "range")
    results = [helper.make_tensor_value_info(again, TensorProto.BOOL, []),
               helper.make_tensor_value_info(out, f, [None] * x.rank)]  # fmt: skip
    if rows:
        nodes.append(helper.make_node("ReduceSum", [out], [row], keepdims=0))
        results.append(helper.make_tensor_value_info(row, f, []))
    inputs = [helper.make_tensor_value_info(i, TensorProto.INT64, []),
              helper.make_tensor_value_info(going, TensorProto.BOOL, []),
              helper.make_tensor_value_info(state, f, [None] * x.rank)]  # fmt: skip
    m = must(d.node("Min", [m, d.constant(3)]))
    names = [d.name() for _ in range(1 + rows)]
    body = helper.make_graph(nodes, "body", inputs, results)
    node = helper.make_node("Loop", [m.name, "", x.name], names, body=body)
    d.append([node], [m, x, *captured], names)


def scan(d: Drawing):
    """The running sum of rows."""
    x = d.pick("f", [2])
    state, row, out, again = (d.name(n) for n in ("s", "w", "o", "a"))
    f = TensorProto.FLOAT
    nodes = [helper.make_node("Add", [state, row], [out]), helper.make_node("Neg", [out], [again])]
    start = must(d.node("ReduceMax", [x, d.constant([0])], keepdims=0))
    infos = [helper.make_tensor_value_info(n, f, [None]) for n in (state, row, out, again)]
    body = helper.make_graph(nodes, "body", infos[:2], infos[2:])
    names = [d.name(), d.name()]
    node = helper.make_node("Scan", [start.name, x.name], names, body=body, num_scan_inputs=1)
    d.append([node], [start, x], names)


def sequence(d: Drawing):
    """Pieces of a value, joined again; how many there are."""
    x = d.pick("f", range(1, 4))
    axis, pieces, out = d.rng.randrange(x.rank), d.name("q"), d.name()
    split = one_size(d, d.rng.randrange(2)) if d.rng.random() < 0.5 else d.constant(1)
    nodes = [helper.make_node("SplitToSequence", [x.name, split.name], [pieces], axis=axis)]
    if d.rng.random() < 0.7:
        nodes.append(helper.make_node("ConcatFromSequence", [pieces], [out], axis=axis))
    else:
        nodes.append(helper.make_node("SequenceLength", [pieces], [out]))
    d.append(nodes, [x, split], [out])


TEMPLATES = {
    "shape": (3, shape),
    "size": (1, size),
    "size_arithmetic": (3, size_arithmetic),
    "size_choice": (2, size_choice),
    "gather_sizes": (1, gather_sizes),
    "slice_sizes": (2, slice_sizes),
    "concat_sizes": (2, concat_sizes),
    "reduce_sizes": (1, reduce_sizes),
    "reshape": (7, reshape),
    "expand": (4, expand),
    "unsqueeze": (3, unsqueeze),
    "squeeze": (2, squeeze),
    "transpose": (3, transpose),
    "flatten": (1, flatten),
    "slice": (5, slice_),
    "split": (3, split),
    "range": (3, range_),
    "constant_of_shape": (3, constant_of_shape),
    "nonzero": (5, nonzero),
    "compress": (4, compress),
    "where": (3, where),
    "where_mask": (2, where_mask),
    "binary": (6, binary),
    "with_constant": (2, with_constant),
    "unary": (1, unary),
    "cast": (2, cast),
    "matmul": (4, matmul),
    "gemm": (1, gemm),
    "reduce": (6, reduce),
    "arg": (1, arg),
    "along": (3, along),
    "pad": (3, pad),
    "tile": (3, tile),
    "resize": (3, resize),
    "gather": (3, gather),
    "gather_elements": (1, gather_elements),
    "scatter": (3, scatter),
    "concat": (4, concat),
    "topk": (3, topk),
    "unique": (2, unique),
    "one_hot": (1, one_hot),
    "trilu": (1, trilu),
    "eye_like": (1, eye_like),
    "nms": (2, nms),
    "conv": (1, conv),
    "pool": (1, pool),
    "global_pool": (1, global_pool),
    "layer_norm": (1, layer_norm),
    "einsum": (1, einsum),
    "if": (2, if_),
    "loop": (2, loop),
    "scan": (1, scan),
    "sequence": (1, sequence),
}
