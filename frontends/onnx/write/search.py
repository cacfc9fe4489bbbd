"""Sorting, searching, counting, trees and random numbers in ONNX."""

import numpy as np

from ....compiler.ir.builder import Builder, Tensor
from ....compiler.ir.dims import ceil_div, prod
from ....compiler.ir.graph import Node
from ....compiler.ir.types import BOOL, DTYPES, I64, U32
from ....compiler.ops.random.philox import MASK, words
from ....compiler.ops.sorting.selection import key_type
from ..file.proto import ELEMENT_TYPE_OF
from .common import operands, results
from .writer import Writer

U64 = DTYPES["u64"]


# -- sorting ------------------------------------------------------------------------------


def argsort(w: Writer, node: Node):
    """TopK of all elements: of equal ones the first comes first."""
    x = node.inputs[0]
    inputs = [*operands(w, node), w.ints([x.shape[-1]])]
    values, largest = w.unique("sorted"), int(node.attrs["descending"])
    w.op("TopK", inputs, [values, *results(w, node)], axis=-1, largest=largest, sorted=1)


def radix_order(b: Builder, keys, order, shift):
    """The digits in the order given, sorted; a bit_cast and the highest bit turned make keys
    unsigned."""
    unsigned = DTYPES[f"u{keys.dtype.bits}"]
    bits = b.bit_cast(keys, dtype=unsigned)
    bits = b.bitwise_xor(bits, b.scalar(1 << unsigned.bits - 1, unsigned))
    digits = b.shift_right(bits, shift.cast(unsigned))
    digits = b.bitwise_and(digits, b.scalar(255, unsigned)).cast(I64)
    return b.gather_elements(order, b.argsort(b.gather_elements(digits, order, axis=1)), axis=1)


def _ranks(b: Builder, x, descending: bool):
    """[rows, n]: how many of a row come before each element."""
    rows, n = x.shape
    mine, other = x.reshape(rows, n, 1), x.reshape(rows, 1, n)
    i = b.iota(shape=(n, 1), axis=0, dtype=I64)
    j = b.iota(shape=(1, n), axis=1, dtype=I64)
    below, same = _order(b, mine, other) if descending else _order(b, other, mine)
    return b.reduce_sum((below | (same & (j < i))).cast(I64), axes=(2,), keepdims=False)


def _order(b: Builder, x, y):
    """(x < y, x = y), NaN being the largest number."""
    if x.dtype == BOOL:
        return ~x & y, ~(x ^ y)
    if not x.dtype.is_float:
        return x < y, b.equal(x, y)
    nan_x, nan_y = b.isnan(x), b.isnan(y)
    return (x < y) | (nan_y & ~nan_x), b.equal(x, y) | (nan_x & nan_y)


def rank(b: Builder, x, *, axis, largest):
    """How many elements on the axis come before each."""
    axis %= x.rank
    order = [i for i in range(x.rank) if i != axis] + [axis]
    y = x.transpose(order)
    n = x.shape[axis]
    rows = y.reshape(prod(y.shape[:-1]), n)
    found = _ranks(b, rows, largest).cast("i32")
    return found.reshape(y.shape).transpose([order.index(i) for i in range(x.rank)])


def order_keys(b: Builder, x, *, descending, block):
    """Floats are signs and magnitudes: those of negative ones are turned around."""
    (rows, n), d, dtype = x.shape, x.dtype, key_type(x.dtype)
    high = b.scalar((1 << dtype.bits - 1) - 1, dtype)
    zero = b.scalar(0, dtype)
    if d.is_float:
        wide = x.cast(d.compute)
        bits = b.bit_cast(wide, dtype=dtype)
        key = b.where(bits < zero, b.bitwise_xor(bits, high), bits)
        key = b.where(b.equal(wide, b.scalar(0, wide.dtype)), zero, key)
        key = b.where(b.isnan(wide), high, key)
    elif d.kind == "u" and d.bits == dtype.bits:
        key = b.bitwise_xor(b.bit_cast(x, dtype=dtype), b.bitwise_not(high))
    else:
        key = x.cast(dtype)
    key = b.bitwise_not(key) if descending else key
    blocks = ceil_div(n, block)
    key = b.pad(key, high, pads=(0, 0, 0, blocks * block - n))
    return key.reshape(rows, blocks, block)


def choose_places(b: Builder, keys, limit, *, k):
    """What is chosen counts the more the earlier it stands, the rest nothing: the k largest."""
    rows, blocks, width = keys.shape
    n = blocks * width
    flat, limit = keys.reshape(rows, n), limit.reshape(rows, 1)
    below, equal = flat < limit, b.equal(flat, limit)
    missing = b.scalar(k, I64) - b.reduce_sum(below.cast(I64), axes=(1,), keepdims=True)
    among = b.running_count(equal)
    chosen = below | (equal & (among <= missing))
    left = b.scalar(n, I64) - b.iota(shape=(1, n), axis=1, dtype=I64)
    worth, _ = b.top_k(b.where(chosen, left, b.scalar(0, I64)), k=k)
    return b.scalar(n, I64) - worth


def suppress_lazily(b: Builder, boxes, scores, overlap, most=None, *, steps):
    return b.suppress(boxes, scores, overlap, most, steps=steps)


def place(b: Builder, x, ranks, *, axis, k):
    """All of x where the ranks say, of which the first k stay."""
    y = b.scatter_elements(x, ranks, x, axis=axis)
    return b.slice(y, axes=(axis,), starts=(0,), steps=(1,), sizes=(k,))


def row_ranks(b: Builder, x):
    """How many rows come before each: columns decide from the first on, then the place."""
    n, m = x.shape
    i = b.iota(shape=(n, 1), axis=0, dtype=I64)
    j = b.iota(shape=(1, n), axis=1, dtype=I64)
    below, same = b.constant(False).expand((n, n)), b.constant(True).expand((n, n))
    for column in range(m):
        c = x[:, column]
        less, equal = _order(b, c.reshape(1, n), c.reshape(n, 1))
        below, same = below | (same & less), same & equal
    before = below | (same & (j < i))
    return b.reduce_sum(before.cast(I64), axes=(1,), keepdims=False)


# -- searching and counting ---------------------------------------------------------------


def search(b: Builder, x, keys):
    """The place of the key that is equal, or -1: the largest of all places."""
    _, same = _order(b, x.reshape(*x.shape, 1), keys)
    places = b.iota(shape=keys.shape, axis=0, dtype=I64)
    found = b.where(same, places, b.scalar(-1, I64))
    return b.reduce_max(found, axes=(x.rank,), keepdims=False)


def require_found(w: Writer, node: Node):
    """Adds [0] at 0, or far outside of it where nothing was found, which runtimes refuse."""
    (index,) = operands(w, node)
    lost = w.op("Less", [index, w.constant(np.int64(0))])
    at = w.op("Where", [lost, w.constant(np.int64(1 << 30)), w.constant(np.int64(0))])
    zero = w.op("Gather", [w.constant(np.zeros(1, np.int64)), at])
    w.op("Add", [index, zero], results(w, node))


def running_count(w: Writer, node: Node):
    numbers = w.op("Cast", operands(w, node), to=ELEMENT_TYPE_OF[I64])
    w.op("CumSum", [numbers, w.constant(np.int64(-1))], results(w, node))


def running(w: Writer, node: Node):
    a = node.attrs
    op_type = {"sum": "CumSum", "prod": "CumProd"}[a["combiner"]]
    accumulate(op_type)(w, node)


def accumulate(op_type: str):
    def entry(w: Writer, node: Node):
        axis = w.constant(np.int64(node.attrs["axis"]))
        flags = {n: int(node.attrs[n]) for n in ("exclusive", "reverse")}
        w.op(op_type, [*operands(w, node), axis], results(w, node), **flags)

    return entry


def bind_dims(w: Writer, node: Node):
    """From here on the symbols' sizes are elements of this vector."""
    (x,) = operands(w, node)
    w.op("Identity", [x], results(w, node))
    w.bind(node.attrs["symbols"], w.name(node.outputs[0]))


# -- trees --------------------------------------------------------------------------------


def tree_leaves(b: Builder, x, start, feature, threshold, child, missing=None, *, steps):
    """One step down at a time: node = child[node] + not(x[feature[node]] <= threshold[node])."""
    node = start.cast(I64).expand((x.shape[0], start.shape[1]))
    for _ in range(steps):
        value = b.gather_elements(x, b.gather(feature, node, axis=0).cast(I64), axis=1)
        yes = value <= b.gather(threshold, node, axis=0)
        if missing is not None:
            yes = yes | (b.isnan(value) & b.gather(missing, node, axis=0))
        node = b.gather(child, node, axis=0).cast(I64) + (~yes).cast(I64)
    return node.cast("i32")


# -- random numbers -------------------------------------------------------------------------


class _Words:
    """The operations of Philox on u64 tensors."""

    def __init__(self, b: Builder):
        self.b = b

    def number(self, v: int) -> Tensor:
        return self.b.constant(np.uint64(v))

    def xor(self, x, y):
        return self.b.bitwise_xor(x, y)

    def both(self, x, y):
        return self.b.bitwise_and(x, y)

    def high(self, x):
        return self.b.shift_right(x, self.number(32))


def random_bits(b: Builder, seed, *, shape, stream, word):
    h = _Words(b)
    at, key = b.iota(shape=(prod(shape),), axis=0, dtype=I64).cast(U64), seed.cast(U64)
    low, stream = h.number(MASK), stream % 2**64
    counter = (h.both(at, low), h.high(at), h.number(stream & MASK), h.number(stream >> 32))
    block = words(h, counter, (h.both(key, low), h.high(key)))
    return block[word].cast(U32).expand((prod(shape),)).reshape(tuple(shape))
