"""From a graph and its scales to one with quantize and dequantize nodes, or integer products.

    static     x → q → dq → product(·, dq(w))     rewrite/rules/quantized.py makes integers of it
    dynamic    (q(x) @ w − z · Σw) · s·t          scales s and zero points z of each row of x
    weights    product(x, dq(w))

Biases stay f32: they are added in the product's epilogue.
"""

from collections.abc import Mapping
from typing import cast

import numpy as np

from ..ir.builder import Tensor
from ..ir.editor import GraphEditor
from ..ir.graph import Graph, Node, Value, clone
from ..ir.types import F32, I32, U8, dtype_of
from ..passes.base import Report as PassReport
from ..passes.cleanup import DeadCodeElimination
from ..rewrite.rules.quantized import WORKS_ON_BYTES
from .candidates import Candidates
from .observers import limits
from .placement import is_large
from .recipe import Recipe, Scale
from .weights import Narrow


def insert(
    candidates: Candidates,
    weights: Mapping[Node, Narrow],
    scales: Mapping[str, Scale],
    recipe: Recipe,
    shifts: Mapping[Node, np.ndarray] | None = None,
) -> Graph:
    """The quantized graph. `weights` are those of the products that are quantized, `scales` of
    their sources, by name; neither is looked at for products with a reason to stay. `shifts` are
    added to the outputs of products."""
    return Inserter(candidates, weights, scales, recipe, shifts).graph


class Inserter:
    """One walk over a copy of the graph."""

    def __init__(
        self,
        candidates: Candidates,
        weights: Mapping[Node, Narrow],
        scales: Mapping[str, Scale],
        recipe: Recipe,
        shifts: Mapping[Node, np.ndarray] | None = None,
    ):
        self.graph = clone(candidates.graph)[0]
        self.scales, self.recipe = scales, recipe
        copies = dict(zip(candidates.graph.nodes, self.graph.nodes))
        self.products = {copies[p.node] for p in candidates.products if p.keep is None}
        self.weights = {copies[n]: w for n, w in weights.items()}
        self.shifts = {copies[n]: t for n, t in (shifts or {}).items()}
        self.bytes: dict[Value, Value] = {}  # what stands for a value that is quantized
        self.narrow: dict[tuple[Value, int | None], Value] = {}
        self.edit = GraphEditor(self.graph)
        for node in self.edit:
            node.inputs = [v if v is None else self._read(node, v) for v in node.inputs]
            if node in self.products:
                self._product(node)
                if node in self.shifts:
                    self._shift(node)
        DeadCodeElimination().run(self.graph, PassReport())

    def _read(self, reader: Node, value: Value) -> Value:
        """What `reader` reads in the place of a value: its bytes, dequantized, if it has such."""
        scale = self.scales.get(value.name)
        if scale is None or (
            reader not in self.products and not self._reads_bytes(reader, value, scale)
        ):
            return value
        if value not in self.bytes:
            b, node = self.edit.b, value.node
            b.origin = reader.origin if node is None else node.origin
            self.bytes[value] = self._rounded(value, scale).value
            b.origin = reader.origin
        return self.bytes[value]

    def _rounded(self, value: Value, scale: Scale) -> Tensor:
        """The numbers that the bytes of a value stand for."""
        b, dtype = self.edit.b, dtype_of(self.recipe.activations)
        s, z = b.scalar(np.float32(scale.scale), F32), b.scalar(scale.zero, dtype)
        q = b.quantize_linear(value, s, z, axis=0, dtype=dtype)
        return b.dequantize_linear(q, s, z, axis=0)

    def _reads_bytes(self, reader: Node, value: Value, scale: Scale) -> bool:
        """Whether a reader that is no product takes the bytes that a product needs anyway."""
        if reader.op.name in WORKS_ON_BYTES or reader.op.name == "concat":
            return True
        if self.recipe.sums != "auto":
            return self.recipe.sums == "quantized"
        return is_large(value) and scale.zero == limits(self.recipe.activations)[0]

    def _product(self, node: Node) -> None:
        if self.recipe.activations == "dynamic":
            self._replace(node, self._dynamic(node))
            return
        w, narrow = node.inputs[1], self.weights[node]
        assert w is not None
        key = (w, narrow.axis)
        if key not in self.narrow:
            b = self.edit.b
            scale = b.constant(narrow.scale.astype(np.float32))
            q = b.constant(narrow.q, name=f"{w.name}_{self.recipe.dtype}")
            self.narrow[key] = b.dequantize_linear(q, scale, axis=narrow.axis or 0).value
        node.inputs[1] = self.narrow[key]

    def _shift(self, node: Node) -> None:
        """Add what takes back the mean error of a product's weights."""
        shift, b = self.shifts[node].astype(np.float32), self.edit.b
        reader, place = (node, 2) if node.op.name == "conv" else self._bias(node, len(shift))
        if reader is None:
            y = b.emit(node.op.name, *node.inputs, **node.attrs)
            self._replace(node, y + shift)
            return
        bias = reader.inputs[place] if place < len(reader.inputs) else None
        if bias is None:
            added = b.constant(shift)
        elif bias.constant is not None:
            added = b.constant(bias.constant + shift)
        else:
            added = b.tensor(bias) + shift
        reader.inputs = [*reader.inputs[:place], added.value, *reader.inputs[place + 1 :]]

    def _bias(self, node: Node, outputs: int) -> tuple[Node | None, int]:
        """The sum that adds a constant to each output of a product, and which operand that is."""
        uses = self.graph.uses().get(node.outputs[0], [])
        if node.outputs[0] in self.graph.outputs or len(uses) != 1 or uses[0][0].op.name != "add":
            return None, 0
        reader, place = uses[0][0], 1 - uses[0][1]
        other = reader.inputs[place]
        if other is None or other.constant is None or other.shape != (outputs,):
            return None, 0
        return reader, place

    def _replace(self, node: Node, y: Tensor) -> None:
        """What stands for a product has its name, by which it is found again."""
        y.value.name = node.outputs[0].name
        self.edit.replace(node, y)

    def _dynamic(self, node: Node) -> Tensor:
        b, narrow = self.edit.b, self.weights[node]
        q, scale, zero = quantize_rows(b.tensor(cast(Value, node.inputs[0])))
        sums = narrow.q.sum(axis=-2, dtype=np.int32)
        total = b.matmul_integer(q, b.constant(narrow.q)) - zero * b.constant(sums)
        return total.cast(F32) * (scale * b.constant(narrow.scale.astype(np.float32)))


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(q u8, scale f32[…, 1], zero i32[…, 1]) of each row of x, in the range that it has."""
    b, nothing = x.b, x.b.scalar(0, F32)
    axes = (x.rank - 1,)
    low = b.minimum(b.reduce_min(x, axes=axes, keepdims=True), nothing)
    high = b.maximum(b.reduce_max(x, axes=axes, keepdims=True), nothing)
    width = b.where(b.equal(high, low), b.scalar(1, F32), high - low)
    inverse = 255.0 / width
    zero = b.round((nothing - low) * inverse)
    q = b.clip(b.round(x * inverse) + zero, nothing, b.scalar(255, F32)).cast(U8)
    return q, width * np.float32(1 / 255), zero.cast(I32)
