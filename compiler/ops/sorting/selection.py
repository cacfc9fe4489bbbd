"""The first k of long rows: order_keys, choose_places, and a threshold found bit by bit.

    keys    integers that order as the elements do, in blocks
    limit   the k-th smallest key, from its highest bit to its lowest: in each turn the keys below a
            candidate are counted, which are fewer than k if the bit belongs to the limit
    places  of what is below the limit, and of what is equal to it as many as are missing, the
            first: the j-th lies in a block that counts of blocks say, and there in a half, …

Each turn walks all keys once: the work is linear in them, whatever they are. Where few of many are
wanted, the k best are in the k blocks whose best come first, of equal ones those of smaller places.
Where one is, it is the smallest key.
"""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.bounds import assume_above
from ...ir.builder import Builder
from ...ir.dims import Sym, ceil_div
from ...ir.op import Attr, Kernels, NotDifferentiable, register
from ...ir.types import DTYPES, I8, I32, I64, NUMERIC, DType, TensorType, dtype_of, view_bits
from ...kernels.kernel import Store
from ..common import array, case, floats, ints, scalar_of_dim

KEYS = {I8, DTYPES["i16"], I32, I64}
BLOCK = 32  # keys that are counted together, at least
BLOCKS = 256  # of a row, at most, where its length is known: counts of all before each are summed
LONG, FEWER = 4096, 16  # of more elements, in rows of so many times k, blocks are chosen first
PIECEWISE = NotDifferentiable("an order is piecewise constant", zero=True)


# -- keys ----------------------------------------------------------------------------------------


def key_type(dtype: DType) -> DType:
    """Signed integers, as wide as what the elements are computed in (at least a byte)."""
    return DTYPES[f"i{max(8, dtype.compute.bits)}"]


def _ends(dtype: DType) -> tuple[int, int]:
    return -(1 << dtype.bits - 1), (1 << dtype.bits - 1) - 1


def order_key(x: s.Expr, descending: bool) -> s.Expr:
    """Floats are signs and magnitudes, which order as integers do; 0 and -0 are one number, all NaN
    are one, the largest."""
    d, dtype = x.dtype, key_type(x.dtype)
    low, high = _ends(dtype)
    if d.is_float:
        wide = s.cast(x, d.compute)
        bits = s.bitcast(wide, dtype)
        key = s.select(bits < 0, s.apply("bitxor", bits, s.const(high, dtype)), bits)
        key = s.select(s.eq(wide, 0), s.const(0, dtype), key)
        key = s.select(s.isnan(wide), s.const(high, dtype), key)
    elif d.kind == "u" and d.bits == dtype.bits:
        key = s.apply("bitxor", s.cast(x, dtype), s.const(low, dtype))
    else:
        key = s.cast(x, dtype)
    return s.apply("bitnot", key) if descending else key


def _order_keys(k, out, x, *, descending, block):
    rows, n = x.shape
    dtype, whole = out.dtype, n // block

    def inside(row, b, j):
        return (row, b, j), order_key(x[row, b * block + j], descending)

    def last(row, j):
        b = out.shape[1] - 1
        at = s.const(b) * block + j
        key = order_key(x[row, s.minimum(at, n - 1)], descending)
        return (row, s.const(b), j), s.select(at < n, key, s.const(_ends(dtype)[1], dtype))

    k.store((rows, whole, block), inside)
    if isinstance(n, Sym) or n % block:
        k.store((rows, block), last)


def _keys_shape(x, *, descending, block):
    if x.rank != 2:
        raise TypeMismatch("keys are of the rows of a matrix", received=x)
    return TensorType(key_type(x.dtype), (x.shape[0], ceil_div(x.shape[1], block), block))


def order_keys_ref(x, *, descending, block):
    d = dtype_of(x)
    dtype = key_type(d)
    low, high = _ends(dtype)
    if d.is_float:
        bits = view_bits(x.astype(d.compute.numpy), dtype)
        key = np.where(bits < 0, bits ^ dtype.numpy.type(high), bits)
        key = np.where(x == 0, 0, key)
        key = np.where(np.isnan(x.astype(d.compute.numpy)), high, key).astype(dtype.numpy)
    elif d.kind == "u" and d.bits == dtype.bits:
        key = x.astype(dtype.numpy) ^ dtype.numpy.type(low)
    else:
        key = x.astype(dtype.numpy)
    key = ~key if descending else key
    more = -x.shape[1] % block
    key = np.pad(key, ((0, 0), (0, more)), constant_values=high)
    return key.reshape(x.shape[0], -(-x.shape[1] // block), block)


register(
    "order_keys",
    "x: T -> *",
    """Signed integers that order as the elements of each row [rows, n] do, in blocks of `block`.

    Equal elements have equal keys; 0 equals -0. NaN counts as larger than every number. What fills
    the last block comes last.
    """,
    attrs={"descending": Attr("bool", False), "block": Attr("int", 1, low=1)},
    infer=_keys_shape,
    ref=order_keys_ref,
    grad=PIECEWISE,
    loops=Kernels(_order_keys),
    samples=lambda: [
        *(
            case(array([[np.nan, 0.0, -0.0, np.inf, -np.inf, 1.5, -2.5]], d), descending=down)
            for d in ("f64", "f32", "f16", "bf16")
            for down in (False, True)
        ),
        case(floats((2, 13)), block=4),
        case(floats((2, 12)), block=4, descending=True),
        case(floats((3, 5), dtype="f8e4m3fn"), block=8),
        case(ints((2, 9), low=0, high=200, dtype="u8"), block=2),
        case(ints((2, 9), low=-9, high=9, dtype="i16"), block=2, descending=True),
        case(ints((1, 4), low=-8, high=7, dtype="i4")),
        case(ints((3, 0)), block=8),
    ],
    group="sort",
    T=NUMERIC,
)


# -- places --------------------------------------------------------------------------------------


def _choose_places(w, out, keys, limit, *, k):
    _, blocks, width = keys.shape
    if isinstance(blocks, Sym):
        assume_above((1 << 31) // width, blocks)
    before = _counts_before(w, keys, limit)

    def choose(row, b, i):
        """A block's own counts grow with its keys, from those of the blocks before it on."""
        counts, total = before[row, b], before[row, s.const(blocks)]
        key, last = keys[row, b, i], limit[row]
        missing = s.const(k) - _below(total)
        place = _below(counts) + s.minimum(_equal(counts), missing)
        place = s.minimum(s.maximum(place, 0), s.const(k) - 1)
        chosen = (key < last) | (s.eq(key, last) & (_equal(counts) < missing))
        return [
            Store(w.outs[0], (row, place), b * width + i, chosen),
            Store(before, (row, b), counts + _counted(key, last)),
        ]

    w.in_order(keys.shape, choose, apart=2)


def _counts_before(w, keys, limit):
    """[rows, blocks + 1]: what `_counted` counts in the blocks before each one."""
    rows, blocks, width = keys.shape
    each, table = w.temporary((rows, blocks), I64), w.temporary((rows, blocks + 1), I64)

    def of_block(row, b):
        return s.reduce("sum", [width], lambda i: _counted(keys[row, b, i], limit[row]))

    w.store((rows, blocks), lambda row, b: ((row, b), of_block(row, b)), to=each)
    if isinstance(blocks, Sym) or blocks > 2 * BLOCKS:
        w.store((rows,), lambda row: ((row, s.const(0)), s.const(0)), to=table)
        w.in_order(
            (rows, blocks),
            lambda row, b: [Store(table, (row, b + 1), table[row, b] + each[row, b])],
            apart=1,
        )
        return table

    def total(row, b):
        return s.reduce("sum", [blocks], lambda i: s.select(i < b, each[row, i], s.const(0)))

    w.store((rows, blocks + 1), lambda row, b: ((row, b), total(row, b)), to=table)
    return table


def _counted(key: s.Expr, limit: s.Expr) -> s.Expr:
    """1 for a key below the limit, and 1 in the upper half of the word for one that equals it."""
    equal = s.select(s.eq(key, limit), s.const(1 << 32), s.const(0))
    return s.select(key < limit, s.const(1), equal)


def _below(counts: s.Expr) -> s.Expr:
    return s.apply("bitand", counts, s.const((1 << 32) - 1))


def _equal(counts: s.Expr) -> s.Expr:
    return s.apply("shr", counts, s.const(32))


def choose_places_ref(keys, limit, *, k):
    rows = keys.reshape(len(keys), -1)
    places = np.empty((len(rows), k), np.int64)
    for row, (own, last) in enumerate(zip(rows, limit)):
        below, equal = np.flatnonzero(own < last), np.flatnonzero(own == last)
        places[row] = np.sort(np.concatenate([below, equal])[:k])
    return places


def _places_shape(keys, limit, *, k):
    width = keys.shape[2] if keys.rank == 3 else None
    if not isinstance(width, int) or width < 1 or width & (width - 1):
        raise TypeMismatch(
            "choose_places takes [rows, blocks, width], the width a power of two", received=keys
        )
    if limit.rank != 1:
        raise TypeMismatch("choose_places takes a limit for each row", received=limit)
    return (keys.shape[0], k)


def _chosen_case(rows, blocks, width, k, high):
    keys = ints((rows, blocks, width), rows + k, 0, high, "i32")
    return case(keys, np.sort(keys.reshape(rows, -1), 1)[:, k - 1], k=k)


register(
    "choose_places",
    "keys: T, limit: T -> i64",
    """The places of the k smallest keys of each row, which lies in blocks [rows, blocks, width].

    `limit` [rows] is the k-th smallest key. Places are in their order; of equal keys the first are
    taken.
    """,
    attrs={"k": Attr("dim")},
    shape=_places_shape,
    ref=choose_places_ref,
    grad=PIECEWISE,
    loops=Kernels(_choose_places, memory=(0, 1)),
    samples=lambda: [
        _chosen_case(2, 3, 4, 5, 9),
        _chosen_case(1, 1, 8, 3, 100),
        _chosen_case(3, 5, 1, 5, 3),
        _chosen_case(1, 600, 2, 30, 9),
        _chosen_case(2, 7, 64, 1, 1000),
    ],
    group="sort",
    T=KEYS,
)


# -- the first k ---------------------------------------------------------------------------------


def first_places(b, x, k, descending: bool = False):
    """The places of the first k elements of each row [rows, n], in their order, and their keys."""
    rows, n = x.shape
    if isinstance(k, int) and k == 1:
        keys = b.order_keys(x, descending=descending, block=1).reshape(rows, n)
        return b.arg_min(keys, axis=1), b.reduce_min(keys, axes=(1,), keepdims=True)
    known = isinstance(n, int) and isinstance(k, int)
    if known and n >= FEWER * k and (isinstance(rows, Sym) or rows * n >= LONG):
        return _of_blocks(b, x, k, descending)
    keys = b.order_keys(x, descending=descending, block=_width_of(n))
    limit = _limit(b, keys, k)
    places = b.choose_places(keys, limit, k=k)
    flat = keys.reshape(keys.shape[0], keys.shape[1] * keys.shape[2])
    return places, b.gather_elements(flat, places, axis=1)


def _width_of(n) -> int:
    """How many keys are counted together in a row of n."""
    if isinstance(n, Sym):
        return BLOCK
    return max(BLOCK, 1 << (ceil_div(n, BLOCKS) - 1).bit_length())


def _of_blocks(b, x, k: int, descending: bool):
    """Of the k blocks whose best come first: about the root of n k elements."""
    rows, n = x.shape
    width = max(8, 1 << round(np.log2(n / k) / 2))
    keys = b.order_keys(x, descending=descending, block=width)
    blocks, _ = first_places(b, b.reduce_min(keys, axes=(2,), keepdims=False), k)
    near = b.gather_nd(keys, blocks.reshape(rows, k, 1), batch_dims=1)
    within, found = first_places(b, near.reshape(rows, k * width), k)
    block = b.gather_elements(blocks, within / width, axis=1)
    return block * width + within % width, found


def _limit(b, keys, k):
    """The k-th smallest key of each row."""
    rows, blocks, width = keys.shape
    d, n = keys.dtype, blocks * width
    count = I32 if isinstance(n, Sym) or n < 1 << 31 else I64
    flat, wanted = keys.reshape(rows, n), scalar_of_dim(b, k, count)
    lowest = b.scalar(_ends(d)[0], d).expand((rows,))
    bits = np.left_shift(d.numpy.type(1), np.arange(d.bits, dtype=d.numpy)[::-1])
    inner = Builder(name="bit")
    limit, bit = inner.input("limit", lowest.type), inner.input("bit", TensorType(d, ()))
    own, most = inner.input("keys", flat.type), inner.input("k", wanted.type)
    next = limit + bit
    below = inner.less(own, next.reshape(rows, 1)).cast(count)
    below = inner.reduce_sum(below, axes=(1,), keepdims=False)
    inner.output("next", inner.where(inner.less(below, most), next, limit))
    return b.scan(lowest, b.constant(bits), flat, wanted, body=inner.graph, states=1, scans=1)
