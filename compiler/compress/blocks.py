"""Constant weights of products and tables as codes of few bits with scales by blocks.

    x @ w              => matmul_blocks(x, codes, scale, zero)          w[k, n], blocks along k
    gemm(x, w, c)      => matmul_blocks(…) · alpha + c · beta
    gather(w, i)       => (codes[i] - zero[i]) · scale[i]               rows of w, blocks along them

Weights are rounded to the nearest number of the grid of their block, unless `rounding` says how.
"""

import hashlib
from collections.abc import Callable, Mapping

import numpy as np

from ..classes import dataclass
from ..ir.builder import Builder, Tensor
from ..ir.editor import GraphEditor
from ..ir.graph import Graph, Node, Value
from ..ir.types import F32, I64, U8, TensorType
from ..ops.quantization.blocks import pack_codes
from .rounding.grid import Grid, Rounded, short_scales
from .rounding.nearest import nearest
from .tables import Table, entries

LEAST = 1 << 12  # weights, fewer than which stay as they are
Rounding = Callable[[np.ndarray, Grid], Rounded]


@dataclass(frozen=True, eq=False)
class Packed:
    """Weights w f32[rows, k] as operands of matmul_blocks: codes u8[rows, blocks, bytes], scale
    [rows, blocks] (`short_scales`), zero u8[rows, blocks] or u8[]; in place of zeros a `table`
    f32[2^bits] that codes are places of (`tables.py`)."""

    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None
    bits: int
    block: int
    table: np.ndarray | None = None

    @classmethod
    def of(cls, found: Rounded, bits: int) -> "Packed":
        """Rounded weights, in codes that begin with 0."""
        grid, (rows, k) = found.grid, found.q.shape
        block = grid.block or k
        blocks = grid.blocks(k)
        middle = 1 << bits - 1 if grid.symmetric else 0
        codes = np.full((rows, blocks * block), middle, np.uint8)
        codes[:, :k] = found.q + middle
        zero = np.uint8(middle) if grid.symmetric else found.zero.astype(np.uint8)
        packed = pack_codes(codes.reshape(rows, blocks, block), bits)
        scale = found.scale.astype(np.float32)
        scale = short_scales(scale) if grid.block else scale
        return cls(packed, scale, np.asarray(zero), bits, block)

    @classmethod
    def of_table(cls, rows: np.ndarray, table: Table, block: int) -> "Packed":
        """Weights as the entries that are nearest."""
        codes, scale = entries(rows, table, block)
        packed = pack_codes(codes, table.bits)
        return cls(packed, scale, None, table.bits, codes.shape[-1], table.values)


def weights_to_blocks(
    graph: Graph,
    bits: int = 4,
    block: int = 32,
    symmetric: bool = True,
    activations: str = "f32",
    *,
    keep: Callable[[Node], bool] = lambda node: False,
    rounding: Rounding = nearest,
    chosen: Mapping[Value, Rounded] | None = None,
    table: Table | None = None,
) -> list[Node]:
    """Rewrite the products and tables of `graph` in place; returns the nodes that were replaced.

    `block` 0 is a scale per row. `keep` says of nodes whether they stay. `chosen` are products'
    weights that are rounded already; a table that is a product's weights, too, has its codes. With
    a `table` weights are entries of this, whatever `bits`, `symmetric` and `rounding` say.
    """
    bits = bits if table is None else table.bits
    grid = Grid.of(bits, symmetric=symmetric, block=block)
    rewriter = _Rewriter(graph, grid, bits, activations, rounding, chosen, table)
    return rewriter.run(keep)


def tables_to_bytes(graph: Graph) -> list[Node]:
    """Rewrite the tables that rows are gathered from, in place, to 8 bits with a scale per row;
    returns the nodes that were replaced."""
    rewriter = _Rewriter(graph, Grid.of(8), 8, "f32", nearest)
    return rewriter.run(lambda node: node.op.name != "gather")


class _Rewriter:
    """One walk; weights that several nodes read are rounded once."""

    def __init__(
        self,
        graph: Graph,
        grid: Grid,
        bits: int,
        activations: str,
        rounding: Rounding,
        chosen: Mapping[Value, Rounded] | None = None,
        table: Table | None = None,
    ):
        self.table = table
        self.edit = GraphEditor(graph)
        self.grid, self.bits, self.activations, self.rounding = grid, bits, activations, rounding
        self.chosen = chosen = {} if chosen is None else chosen
        self.tied = {
            _bytes_of(v.constant.T): r for v, r in chosen.items() if v.constant is not None
        }
        self.packed: dict[tuple[Value, bool], Packed] = {}

    def run(self, keep: Callable[[Node], bool]) -> list[Node]:
        done = []
        for node in self.edit:
            rule = RULES.get(node.op.name)
            value = None if rule is None or keep(node) else rule(self, node)
            if value is not None:
                value.value.name = node.outputs[0].name  # by which it is found again
                self.edit.replace(node, value)
                done.append(node)
        return done

    def weights(self, value: Value | None, transposed: bool) -> Packed | None:
        """A constant matrix by its rows, or by its columns where it is `transposed`."""
        w = None if value is None else value.constant
        if value is None or w is None or w.ndim != 2 or w.dtype != np.float32 or w.size < LEAST:
            return None
        key = (value, transposed)
        if key not in self.packed:
            rows = np.ascontiguousarray(w.T if transposed else w)
            if self.table is not None:
                self.packed[key] = Packed.of_table(rows, self.table, self.grid.block)
                return self.packed[key]
            known = self.chosen.get(value) if transposed else self._tied(rows)
            found = self.rounding(rows, self.grid) if known is None else known
            self.packed[key] = Packed.of(found, self.bits)
        return self.packed[key]

    def _tied(self, rows: np.ndarray) -> Rounded | None:
        return self.tied.get(_bytes_of(rows)) if self.tied else None

    def product(self, x: Tensor, w: Packed) -> Tensor:
        return multiplied(self.edit.b, x, w, self.activations)


def multiplied(b: Builder, x: Tensor, w: Packed, activations: str = "f32") -> Tensor:
    """x [..., k] @ w.T"""
    return b.matmul_blocks(
        x,
        b.constant(w.codes),
        b.constant(w.scale),
        None if w.zero is None else b.constant(w.zero),
        None if w.table is None else b.constant(w.table),
        bits=w.bits,
        block=w.block,
        activations=activations,
    )


def _bytes_of(rows: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(rows)).digest()


def _is_f32(value: Value | None) -> bool:
    return value is not None and isinstance(value.type, TensorType) and value.dtype == F32


def _matmul(r: _Rewriter, node: Node) -> Tensor | None:
    x, w = node.inputs
    packed = r.weights(w, True) if _is_f32(x) and x.constant is None else None
    return None if packed is None else r.product(r.edit.b.tensor(x), packed)


def _gemm(r: _Rewriter, node: Node) -> Tensor | None:
    x, w, c = (*node.inputs, None)[:3]
    if not _is_f32(x) or x.constant is not None or node.attrs["trans_a"]:
        return None
    packed = r.weights(w, not node.attrs["trans_b"])
    if packed is None:
        return None
    y, alpha, beta = r.product(r.edit.b.tensor(x), packed), *map(node.attrs.get, ("alpha", "beta"))
    y = y if alpha == 1 else y * alpha
    if c is None or beta == 0:
        return y
    added = r.edit.b.tensor(c)
    return y + (added if beta == 1 else added * beta)


def _gather(r: _Rewriter, node: Node) -> Tensor | None:
    """Rows of a table: codes are unpacked after they are gathered."""
    table, indices = node.inputs
    if 8 % r.bits or node.attrs["axis"] not in (0, -2):
        return None
    packed = r.weights(table, False)
    if packed is None:
        return None
    b = r.edit.b
    take = lambda t: b.gather(b.constant(t), indices, axis=0)
    codes = unpacked(take(packed.codes), r.bits)
    if packed.table is not None:
        numbers = b.gather(b.constant(packed.table), codes.cast(I64), axis=0)
    elif packed.zero is None or packed.zero.ndim == 0:
        numbers = codes.cast(F32) - b.scalar(float(packed.zero or 0), F32)
    else:
        numbers = codes.cast(F32) - _column(take(packed.zero).cast(F32))
    rows = numbers * _column(take(packed.scale).cast(F32))
    *lead, blocks, block = rows.shape
    rows = rows.reshape(*lead, blocks * block)
    k = node.outputs[0].shape[-1]
    if k == blocks * block:
        return rows
    return b.slice(rows, axes=(rows.rank - 1,), starts=(0,), steps=(1,), sizes=(k,))


def _column(t: Tensor) -> Tensor:
    return t.reshape(*t.shape, 1)


def unpacked(packed: Tensor, bits: int) -> Tensor:
    """Bytes [..., n] as codes [..., n · 8 / bits], the low ones first."""
    b, each = packed.b, 8 // bits
    if each == 1:
        return packed
    shifts = b.constant(np.arange(0, 8, bits, dtype=np.uint8))
    fields = b.bitwise_and(b.shift_right(_column(packed), shifts), b.scalar((1 << bits) - 1, U8))
    return fields.reshape(*packed.shape[:-1], packed.shape[-1] * each)


RULES: dict[str, Callable[[_Rewriter, Node], Tensor | None]] = {
    "matmul": _matmul,
    "gemm": _gemm,
    "gather": _gather,
}
