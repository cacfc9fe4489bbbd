"""Which kernels are products with weights of few bits, and what their parts are.

    y[m, n] = f(sum_b r[m, b] · c[n, b] · sum_j a[m, b, j] · (code[n, b, j] - zero[n, b]))

The inner sum may be of integers, and both may be one: then blocks are the axes of k that `zero` or
`c` depend on. A code is whatever expression of constants gives integers of few values: how it is
stored, and which op it comes from, does not matter. It may be the index of a table, too.
"""

from collections.abc import Iterator
from math import prod

from .....classes import dataclass
from .....expr import expr as s
from .....expr.expr import Axis, Buffer, Expr
from .....ir.dims import Sym
from .....ir.types import F32, I32
from .....kernels.contraction import contiguous_axis
from .....kernels.tiling import int_bounds
from ..base import Given, Refusal

BITS = 8  # of a code at most
TABLE = 1 << BITS


@dataclass(frozen=True)
class BlockSum:
    """`total` is the whole sum and `inner` that of a block (the same where there is one sum).
    Codes are `least` … `least` + 2^`bits` - 1, the weights `table[code]` where there is a table.
    `a`, `rows` and `columns` are factors: of the products, and of each block's sum."""

    total: Expr
    inner: Expr
    a: tuple[Expr, ...]
    code: Expr
    least: int
    bits: int
    table: Expr | None
    zero: Expr | None
    rows: tuple[Expr, ...]
    columns: tuple[Expr, ...]
    m: tuple[Axis, ...]
    n: Axis
    blocks: tuple[Axis, ...]
    k: tuple[Axis, ...]
    outer: tuple[Axis, ...] = ()  # of columns, around n

    @property
    def count(self) -> int:
        """Columns."""
        return self.n.extent * prod(a.extent for a in self.outer)

    @property
    def is_integer(self) -> bool:
        return self.inner.dtype == I32

    @property
    def block(self) -> int:
        """Products of a block."""
        return prod(a.extent for a in self.k)

    @property
    def number(self) -> int:
        """Blocks of a sum."""
        return prod(a.extent for a in self.blocks)

    @property
    def row_count(self) -> int | Sym:
        return prod(a.extent for a in self.m)


def find_blocks(given: Given) -> BlockSum | Refusal:
    """The parts of a kernel, whose sizes may be open along m."""
    kernel = given.kernel
    store = kernel.stores[0]
    if given.in_place:
        return Refusal("it reads the memory that it writes")
    if kernel.serial or len(kernel.stores) != 1 or store.mode != "set" or store.where is not None:
        return Refusal("it is not one store")
    sums = [e for e in s.walk(store.value) if e.op == "reduce"]
    if not 1 <= len(sums) <= 2 or any(r.data[0] != "sum" for r in sums):
        return Refusal("it is no sum of products, nor a sum of such")
    n, inner, total = contiguous_axis(kernel), sums[0], sums[-1]
    if n is None or n not in inner.free or isinstance(n.extent, Sym):
        return Refusal("its weights have no axis along which the results lie")
    if total.dtype != F32 and total is not inner:
        return Refusal(f"there are no sums of blocks in {total.dtype}")
    if inner.dtype not in (F32, I32):
        return Refusal(f"there are no products of {inner.dtype}")
    return _Reader(given, n, total, inner).read()


class _Reader:
    def __init__(self, given: Given, n: Axis, total: Expr, inner: Expr):
        self.given, self.n, self.total, self.inner = given, n, total, inner
        parts = list(_factors(inner.args[0]))
        rows = {a for f in parts if n not in f.free for a in f.free}
        columns = {a for f in parts if n in f.free for a in f.free} - rows
        self.m = tuple(a for a in given.kernel.axes if a is not n and a not in columns)
        self.outer = tuple(a for a in given.kernel.axes if a is not n and a in columns)
        self.k = tuple(inner.data[1])

    def read(self) -> BlockSum | Refusal:
        outer = () if self.total is self.inner else tuple(self.total.data[1])
        if any(isinstance(a.extent, Sym) for a in (*outer, *self.k, *self.outer)):
            return Refusal("its sums have no known length")
        factors = list(_factors(self.inner.args[0]))
        of_blocks: list[Expr] = []
        if outer:
            parts = list(_factors(self.total.args[0]))
            sums = [p for p in parts if _bare(p) is self.inner]
            if len(sums) != 1 or any(self.inner in s.walk(p) for p in parts if p is not sums[0]):
                return Refusal("what is summed is not a sum of products times factors")
            of_blocks = [p for p in parts if p is not sums[0]]
        weights = [f for f in factors if self.n in f.free]
        found = [f for f in weights if self._core(f) is not None]
        if len(found) != 1 or any(
            f.free & set(self.m) for f in (*weights, *of_blocks) if self.n in f.free
        ):
            return Refusal("neither factor is made of integers of few bits that are constants")
        core, zero, table = self._core(found[0])
        of_weights = [f for f in weights if f is not found[0]]
        a = tuple(f for f in factors if self.n not in f.free)
        least, bits = code_range(core)
        columns = [f for f in of_blocks if self.n in f.free] + of_weights
        rows = tuple(f for f in of_blocks if self.n not in f.free)
        blocks, k = self._blocks(outer, [*columns, *([] if zero is None else [zero])])
        if not a or not k or not set(k) <= core.free or not any(x in f.free for f in a for x in k):
            return Refusal("its factors share other axes than those of a product of matrices")
        if not all(map(self._is_constant, (*columns, *([] if zero is None else [zero])))):
            return Refusal("scales and zero points are no constants")
        if bits == BITS and not blocks and self.inner.dtype == I32:
            return Refusal("its weights are whole bytes without blocks")
        if self.inner.dtype == I32 and (table is not None or self._are_wide(a) or of_weights):
            return Refusal("its integers are no signed bytes times a few bits")
        return BlockSum(
            self.total,
            self.inner,
            a,
            core,
            least,
            bits,
            table,
            zero,
            rows,
            tuple(columns),
            self.m,
            self.n,
            blocks,
            k,
            self.outer,
        )

    def _core(self, e: Expr) -> tuple[Expr, Expr | None, Expr | None] | None:
        """(code, zero, the load from the table) of a factor that is made of codes."""
        e, zero = _bare(e), None
        k = set(self.k)
        if e.op == "sub" and not e.args[1].free & k:
            (e, zero) = _bare(e.args[0]), e.args[1]
        table = None
        if e.op == "load" and len(e.args) == 1 and any(x.op == "load" for x in s.walk(e.args[0])):
            table, e = e, _unlimited(e.args[0])
        if code_range(e) is None or not e.free & k or not self._is_constant(e):
            return None
        return None if table is not None and not self._is_table(table) else (e, zero, table)

    def _is_table(self, load: Expr) -> bool:
        known = load.data in self.given.constants and load.dtype.compute == F32
        return known and load.data.shape[0] <= TABLE

    def _is_constant(self, e: Expr) -> bool:
        return all(x.data in self.given.constants for x in s.walk(e) if x.op == "load")

    def _blocks(self, outer: tuple[Axis, ...], of_block: list[Expr]) -> tuple[tuple, tuple]:
        """The axes that number the blocks, and those along them."""
        used = {x for e in of_block for x in e.free}
        return (
            (*outer, *(x for x in self.k if x in used)),
            tuple(x for x in self.k if x not in used),
        )

    def _are_wide(self, a: tuple[Expr, ...]) -> bool:
        ranges = [int_bounds(f) for f in a]
        return len(a) != 1 or ranges[0] is None or ranges[0][0] < -128 or ranges[0][1] > 127


def code_range(e: Expr) -> tuple[int, int] | None:
    """(the least value, bits above it) of integers of few values."""
    found = _bounds(e)
    if found is None or e.op == "const":
        return None
    bits = (found[1] - found[0]).bit_length()
    return (found[0], bits) if 0 < bits <= BITS else None


def _bounds(e: Expr) -> tuple[int, int] | None:
    if e.op == "bitand" and e.args[1].op == "const" and e.args[1].data >= 0:
        return 0, e.args[1].data
    if e.op == "cast" and e.dtype.is_int and e.args[0].dtype.is_int:
        return _bounds(e.args[0])
    return int_bounds(e) if e.dtype.is_int else None


def _factors(e: Expr) -> Iterator[Expr]:
    if e.op == "mul":
        for x in e.args:
            yield from _factors(x)
    else:
        yield e


def _bare(e: Expr) -> Expr:
    """Without having been converted."""
    while e.op == "cast" and e.dtype.bits >= 32:
        (e,) = e.args
    return e


def _unlimited(index: Expr) -> Expr:
    """An index that is held within an array, before it was."""
    while index.op in ("min", "max") and index.args[1].op == "const":
        index = index.args[0]
    return _bare(index)


def read_at_run_time(form: BlockSum, roots: list[Expr]) -> set[Buffer]:
    """Buffers that the code still reads once the weights are packed."""
    without = s.make("reduce", (*form.a, *form.rows), form.total.data, form.total.dtype)
    kept = [s.transform(e, lambda x: without if x is form.total else None) for e in roots]
    return {e.data for e in s.walk(*kept) if e.op == "load"}
