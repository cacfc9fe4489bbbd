"""Nodes that move elements, or make them of sizes."""

import numpy as np
from onnx import TensorProto, helper

from .draw import Drawing, Value
from .sizes import count, must, one_size, sizes_of


def target(d: Drawing, x: Value) -> Value:
    """What to reshape `x` to."""
    rank = x.rank
    what = d.rng.random()
    if what < 0.2:
        return d.constant(
            d.rng.choice(
                [
                    [-1],
                    [0, -1],
                    [-1, 1],
                    [1, -1],
                    [0, 1, -1],
                    [-1, 2],
                    [0, 0, -1],
                    [1, 0, -1],
                    [-1, 3],
                ]
            )
        )
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
        attrs["value"] = helper.make_tensor(
            "v", TensorProto.FLOAT if value.dtype == np.float32 else TensorProto.INT64, [1], value
        )
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
    parts = [
        d.constant([d.rng.choice([0, 1, 1, 2])]) if d.rng.random() < 0.6 else one_size(d)
        for _ in range(x.rank)
    ]
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
