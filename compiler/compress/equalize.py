"""Equalization: channels of a value are divided by a vector that what reads it multiplies with.

    product(x, w)  =  product(x / s, s · w)         s f32[channels of x], above 0

The results are the same in floats, but x or w may be easier to round. Who divides is found in the
graph: a product, a norm, a factor or a bias above x changes its constants where everything between
commutes with factors above 0 (relu, pools, the other factor); else x is multiplied by 1 / s, in the
kernel that makes it. Vectors come from `rounding/smooth.py`, `rounding/awq.py` and `cross_layer`.
"""

from collections.abc import Callable, Sequence
from dataclasses import field

import numpy as np

from ..classes import dataclass
from ..ir.builder import Builder
from ..ir.editor import GraphEditor
from ..ir.graph import Graph, Node, Value, clone
from ..ir.types import F32, TensorType
from ..passes.base import Report as PassReport
from ..passes.cleanup import DeadCodeElimination
from .candidates import Candidates, Product
from .rounding.cross import cross_layer

# What commutes with a factor above 0 for each channel.
HOMOGENEOUS = frozenset(["relu", "leaky_relu", "prelu", "max_pool", "average_pool"])
NORMS = frozenset(["layer_norm", "rms_norm"])
ROUNDS = 8  # of cross-layer equalization

Place = tuple[Node, int]  # an operand that is a constant


@dataclass(eq=False)
class Reader:
    """What one vector is for: the products that read `x`, whose channels lie on `axis`.

    divided   operands that are divided by the vector in its place, or None: then x is; `product`
              is the one among them whose outputs are the channels, `vectors` the others
    """

    x: Value
    axis: int
    products: list[Product]
    product: Node | None = None
    vectors: list[Place] | None = None

    @property
    def size(self) -> int:
        return int(self.x.shape[self.axis])  # type: ignore[arg-type]

    @property
    def where(self) -> str:
        return ", ".join(p.where for p in self.products)


def readers(candidates: Candidates) -> list[Reader]:
    """The values that products read whose every reader is one of `candidates` to quantize, with
    what may be divided above them."""
    graph, found = candidates.graph, {}  # type: ignore[var-annotated]
    for p in candidates.products:
        axis = channels_of(p)
        if p.keep is None and axis is not None:
            found.setdefault((p.x, axis), Reader(p.x, axis, [])).products.append(p)
    walk = _Above(graph)
    for reader in found.values():
        walk.look(reader)
    return list(found.values())


def channels_of(p: Product) -> int | None:
    """The axis of what a product sums over in its data, None where a factor cannot go into w."""
    if p.axis is None or not isinstance(p.x.type, TensorType):
        return None
    axis = p.x.rank - 1 if p.node.op.name != "conv" or p.node.attrs["channels_last"] else 1
    return axis if isinstance(p.x.shape[axis], int) else None


@dataclass(eq=False)
class _Above:
    """Looks for constants above a value that can be divided in its place."""

    graph: Graph
    uses: dict[Value, list[Place]] = field(default_factory=dict)

    def look(self, reader: Reader) -> None:
        self.uses = self.uses or self.graph.uses()
        places: list[Place] = []
        products: list[Node] = []
        nodes = {p.node for p in reader.products}
        if self._divides(reader.x, nodes, reader.axis, places, products):
            reader.vectors, reader.product = places, products[0] if products else None

    def _divides(
        self, v: Value, by: set[Node], axis: int, places: list[Place], products: list[Node]
    ) -> bool:
        """Whether constants above `v`, which only `by` reads, divide it: they are appended."""
        node = v.node
        if node is None or v in self.graph.outputs or any(n not in by for n, _ in self.uses[v]):
            return False
        name, above = node.op.name, node.inputs
        if name in HOMOGENEOUS and (name != "prelu" or _constant(above[1])):
            first = above[0]
            return first is not None and self._divides(first, {node}, axis, places, products)
        if name in NORMS and axis == v.rank - 1 and node.attrs["axis"] in (-1, v.rank - 1):
            return _take(places, [(node, i) for i in range(1, len(above)) if above[i] is not None])
        if name in ("conv", "matmul") and _constant(above[1]):
            if axis != (1 if name == "conv" and not node.attrs["channels_last"] else v.rank - 1):
                return False
            if (above[1].rank != 2 and name == "matmul") or products:  # type: ignore[union-attr]
                return False
            biases = [(node, i) for i in range(2, len(above)) if above[i] is not None]
            if not _take(places, biases):
                return False
            products.append(node)
            return True
        if name in ("add", "sub", "mul") and len(above) == 2:
            return self._operand(v, node, axis, places, products)
        return False

    def _operand(
        self, v: Value, node: Node, axis: int, places: list[Place], products: list[Node]
    ) -> bool:
        """A sum with a constant divides both, a product one of its factors."""
        name, above = node.op.name, node.inputs
        for i, other in ((0, above[1]), (1, above[0])):
            mine = above[i]
            if mine is None or other is None or mine.shape != v.shape:
                continue
            if name == "mul" and _constant(other):
                return _take(places, [(node, 1 - i)])
            if name != "mul" and not _constant(other):
                continue
            kept = len(places), len(products)
            if self._divides(mine, {node}, axis, places, products):
                return name == "mul" or _take(places, [(node, 1 - i)])
            del places[kept[0] :], products[kept[1] :]
        return False


def _constant(v: Value | None) -> bool:
    return v is not None and v.constant is not None and v.dtype == F32


def _take(places: list[Place], more: Sequence[Place]) -> bool:
    if not all(_constant(n.inputs[i]) for n, i in more):
        return False
    places.extend(more)
    return True


# -- rewriting ------------------------------------------------------------------------------------


@dataclass(eq=False)
class Rewrite:
    """Constants of a graph by their place, as vectors change them; `graph()` has them."""

    candidates: Candidates
    arrays: dict[Place, np.ndarray] = field(default_factory=dict)
    factors: dict[Value, np.ndarray] = field(default_factory=dict)  # of values that are multiplied

    def array(self, place: Place) -> np.ndarray:
        if place not in self.arrays:
            value = place[0].inputs[place[1]]
            assert value is not None and value.constant is not None
            self.arrays[place] = value.constant
        return self.arrays[place]

    def multiply(self, reader: Reader, s: np.ndarray) -> None:
        """Divide x by s, and multiply the weights of what reads it."""
        s = np.asarray(s, np.float32)
        for p in reader.products:
            place = (p.node, 1)
            self.arrays[place] = self.array(place) * along_inputs(p.node, s)
        if reader.vectors is None:
            self.factors[reader.x] = self.factors.get(reader.x, np.float32(1)) / s
            return
        if reader.product is not None:
            place = (reader.product, 1)
            self.arrays[place] = self.array(place) / along_outputs(reader.product, s)
        for place in reader.vectors:
            node = place[0]
            axes = 0
            if node.op.name in ("add", "sub", "mul", "prelu"):
                v = node.outputs[0]
                axes = v.rank - 1 - (reader.axis if v.rank == reader.x.rank else v.rank - 1)
            self.arrays[place] = self.array(place) / s.reshape(-1, *[1] * axes)

    def graph(self) -> Graph:
        graph, table = clone(self.candidates.graph)
        nodes = dict(zip(self.candidates.graph.nodes, graph.nodes))
        arrays: dict[Node, dict[int, np.ndarray]] = {}
        for (node, i), array in self.arrays.items():
            arrays.setdefault(nodes[node], {})[i] = array
        factors = {table[v]: s for v, s in self.factors.items()}
        readers = {nodes[p.node] for p in self.candidates.products}
        edit, divided = GraphEditor(graph), {}  # type: ignore[var-annotated]
        for node in edit:
            x = node.inputs[0] if node in readers else None
            if x is not None and x in factors:
                axis = _axis_of(node, x)
                if (x, axis) not in divided:
                    s = factors[x].reshape(-1, *[1] * (x.rank - 1 - axis))
                    divided[x, axis] = (edit.b.tensor(x) * np.ascontiguousarray(s)).value
                node.inputs[0] = divided[x, axis]
            for i, array in arrays.get(node, {}).items():
                node.inputs[i] = _constant_of(edit.b, array, node.inputs[i])
        DeadCodeElimination().run(graph, PassReport())
        return graph


def _constant_of(b: Builder, array: np.ndarray, old: Value | None) -> Value:
    assert old is not None
    return b.constant(np.ascontiguousarray(array, np.float32), name=old.name).value


def _axis_of(node: Node, x: Value) -> int:
    return 1 if node.op.name == "conv" and not node.attrs["channels_last"] else x.rank - 1


def along_inputs(node: Node, s: np.ndarray) -> np.ndarray:
    """s of the channels of what a product reads, as it multiplies its weights."""
    w = node.inputs[1]
    assert w is not None
    if node.op.name != "conv":
        return s[:, None]
    group, last = node.attrs["group"], node.attrs["channels_last"]
    outputs = w.shape[-1 if last else 0]
    rows = np.repeat(s.reshape(group, -1), outputs // group, axis=0)  # [O, I / group]
    return rows.T if last else rows.reshape(*rows.shape, *[1] * (w.rank - 2))


def along_outputs(node: Node, s: np.ndarray) -> np.ndarray:
    """s of the channels of what a product gives, as it divides its weights."""
    w = node.inputs[1]
    assert w is not None
    if node.op.name != "conv" or node.attrs["channels_last"]:
        return s
    return s.reshape(-1, *[1] * (w.rank - 1))


def largest_by_input(node: Node, w: np.ndarray) -> np.ndarray:
    """max |w| of each channel of what a product reads: f32[channels]."""
    if node.op.name != "conv":
        return np.abs(w).max(axis=1)
    group = node.attrs["group"]
    if node.attrs["channels_last"]:
        w = np.moveaxis(w, (-1, -2), (0, 1))
    each = np.abs(w).reshape(w.shape[0], w.shape[1], -1).max(axis=2)  # [O, I / group]
    return each.reshape(group, -1, each.shape[1]).max(axis=1).reshape(-1)


def largest_by_output(node: Node, w: np.ndarray) -> np.ndarray:
    """max |w| of each channel of what a product gives: f32[channels]."""
    first = node.op.name == "conv" and not node.attrs["channels_last"]
    return (
        np.abs(w).reshape(len(w), -1).max(axis=1)
        if first
        else np.abs(w).reshape(-1, w.shape[-1]).max(axis=0)
    )


def equalized(
    candidates: Candidates, vector: Callable[[Reader], np.ndarray | None]
) -> tuple[Graph, list[Reader]]:
    """The graph in which each value that products read is divided by its `vector`, where that
    gives one, and the readers that were."""
    rewrite, done = Rewrite(candidates), []
    for reader in readers(candidates):
        s = vector(reader)
        if s is not None:
            rewrite.multiply(reader, s)
            done.append(reader)
    return rewrite.graph(), done


def equalize_layers(candidates: Candidates) -> tuple[Graph, list[Reader]]:
    """Cross-layer equalization of all pairs of products that nothing stands between but what
    commutes with factors. It needs no data."""
    rewrite = Rewrite(candidates)
    pairs = [r for r in readers(candidates) if r.product is not None]
    for _ in range(ROUNDS):
        for reader in pairs:
            node = reader.product
            assert node is not None
            first = largest_by_output(node, rewrite.array((node, 1)))
            each = [largest_by_input(p.node, rewrite.array((p.node, 1))) for p in reader.products]
            rewrite.multiply(reader, cross_layer(first, np.max(each, axis=0)))
    return rewrite.graph(), pairs
