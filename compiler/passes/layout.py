"""Channels last: convolutions and pools read [N, *S, C], with the transposes at the borders.

    %y = conv(%x, %w)                      %a = transpose(%x) {perm=[0, 2, 3, 1]}
    %z = relu(%y)                     =>   %b = conv(%a, %w′) {channels_last=true}
                                           %c = relu(%b)
                                           %z = transpose(%c) {perm=[0, 3, 1, 2]}

One walk: every value has a channels-first version, a channels-last version, or both. A conv or
pool makes a channels-last one; ops that do not care (elementwise, concat, pad, reductions, …)
follow what they read; all others read channels first. A missing version is made by one
transpose. What is left, `rewrite/rules/reshapes.py` merges with the transposes of the model itself.

For CPUs a convolution stays as it is where that costs less, transposes counted (`conv_cost.py`):
among others that read and write channels first, or with few channels of each group.
"""

from collections.abc import Callable
from math import prod
from typing import ClassVar

from ..classes import dataclass
from ..ir.bounds import size_hint
from ..ir.builder import Tensor
from ..ir.editor import GraphEditor
from ..ir.graph import Graph, Node, Value
from ..ir.op import Elementwise
from ..ir.types import TensorType, normalize_axes, normalize_axis
from ..ops.contraction.windows import first_to_last, last_to_first
from .base import Pass, Report
from .conv_cost import MOVED, Convolution

# Which operand the weights are.
SEEDS = {"conv": 1, "conv_transpose": 1, "conv_integer": 1, "qlinear_conv": 3}
SURE = 0.96  # share of the time with channels last below which a convolution stays as it is
WINDOWS = ("max_pool", "average_pool", "lp_pool", "batch_norm")


@dataclass(frozen=True)
class ChannelsLast(Pass):
    """conv(x, w) => transpose(conv(transpose(x), w) {channels_last}); on a CPU with vectors of so
    many bytes where that is faster, and always where it is 0."""

    name: ClassVar[str] = "channels_last"
    vector_bytes: int = 0

    def run(self, graph: Graph, report: Report) -> bool:
        changed = False
        for node in graph.nodes:
            for _, region in node.regions():
                changed |= self.run(region, report)
        if not any(_is_seed(n) for n in graph.nodes):
            return changed
        walk = _Walk(graph, self.vector_bytes)
        walk.run()
        for n in walk.moved:
            report.apply(f"{n.op.name}(x, w) => {n.op.name}(x, w) {{channels_last}}", n.where)
        return changed or walk.edit.changed


def _is_seed(node: Node) -> bool:
    """A convolution whose weights can change their layout while compiling."""
    return (
        node.op.name in SEEDS
        and not node.attrs["channels_last"]
        and node.inputs[SEEDS[node.op.name]].constant is not None
    )


class _Walk:
    """`first` and `last` map the old graph's values to their versions in the new one."""

    def __init__(self, graph: Graph, vector_bytes: int):
        self.graph, self.vector_bytes = graph, vector_bytes
        self.wanted = _wanted_last(graph) if vector_bytes else set()
        self.edit = GraphEditor(graph)
        self.b = self.edit.b
        self.first: dict[Value, Value] = {v: v for v in graph.inputs}
        self.last: dict[Value, Value] = {}
        self.moved: list[Node] = []
        self.shuffles: dict[Node, tuple[Value, int]] = {}
        self.inside: dict[Node, Value] = {}  # nodes of a shuffle before its last one
        for node, x, groups, parts in _shuffles(graph):
            self.shuffles[node] = x, groups
            self.inside |= dict.fromkeys(parts, x)

    def run(self) -> None:
        for node in self.edit:
            if self.follow(node):
                self.edit.remove(node)
            else:
                self.keep(node)
        self.graph.outputs = [self.read_first(v) for v in self.graph.outputs]

    # -- versions of values ---------------------------------------------------------------

    def read_first(self, v: Value) -> Value:
        if v not in self.first:
            perm = last_to_first(v.rank)
            self.first[v] = self.b.transpose(self.last[v], perm=perm).value
        return self.first[v]

    def read_last(self, v: Value) -> Value:
        if v not in self.last:
            self.last[v] = self.b.transpose(self.first[v], perm=first_to_last(v.rank)).value
        return self.last[v]

    def is_last(self, v: Value | None) -> bool:
        """Is the value there in channels-last form only?"""
        return v in self.last and v not in self.first

    # -- nodes ----------------------------------------------------------------------------

    def keep(self, node: Node) -> None:
        """The node as it is, reading channels first."""
        node.inputs = [None if v is None else self.read_first(v) for v in node.inputs]
        self.first |= {v: v for v in node.outputs}

    def follow(self, node: Node) -> bool:
        """Emit the node channels last, if it can and it pays."""
        if node in self.inside and self.inside[node] in self.last:
            return True  # its shuffle follows
        if node in self.shuffles:
            return self.shuffle(node)
        if node.op.name == "transpose":
            return self.transpose(node)
        if _is_seed(node):
            if self.vector_bytes and self.stays(node):
                return False
            self.conv(node)
            return True
        if not any(self.is_last(v) for v in node.inputs) or self.grows(node):
            return False
        if node.op.name in WINDOWS:
            return self.window(node)
        handler = AGNOSTIC.get(node.op.name)
        if handler is None and isinstance(node.op.loops, Elementwise) and not _has_axes(node):
            handler = _Walk.elementwise
        return handler is not None and handler(self, node)

    def stays(self, node: Node) -> bool:
        """Whether a convolution costs less with channels first."""
        sizes = Convolution.of(node) if node.op.name == "conv" else None
        if sizes is None or (sizes.channels == sizes.outputs == 1 and not sizes.is_window):
            return False
        if sizes.is_open and sizes.has_tiles(self.vector_bytes):
            return False  # windows that end anywhere are copied: tiles of channels are surely good
        x, out = node.inputs[0], node.output
        first, last = (f(self.vector_bytes) for f in (sizes.channels_first, sizes.channels_last))
        if x in self.last and x not in self.first:
            first += MOVED * size_hint(prod(x.shape))
        if x not in self.last:
            last += MOVED * size_hint(prod(x.shape))
        if out in self.wanted:
            first += MOVED * size_hint(prod(out.shape))
        else:
            last += MOVED * size_hint(prod(out.shape))
        return first < SURE * last

    def grows(self, node: Node) -> bool:
        """Whether it makes more (a resized image) than it reads with channels last, and nobody
        wants that so: then what it reads is transposed."""
        out = node.outputs[0]
        if not self.vector_bytes or len(node.outputs) != 1 or out in self.wanted:
            return False
        read = sum(size_hint(prod(v.shape)) for v in node.inputs if self.is_last(v))
        return size_hint(prod(out.shape)) > read

    def emit(self, node: Node, operands, attrs, last: bool = True) -> bool:
        names = [v.name + "_last" if last else v.name for v in node.outputs]
        results = self.b.emit(node.op.name, *operands, outputs=names, **attrs)
        results = results if isinstance(results, tuple) else (results,)
        table = self.last if last else self.first
        table |= {old: new.value for old, new in zip(node.outputs, results)}
        return True

    def transpose(self, node: Node) -> bool:
        (x,), perm = node.inputs, node.attrs["perm"]
        if len(perm) > 2 and perm == last_to_first(len(perm)) and x in self.first:
            # The model itself goes from channels last to channels first.
            self.last[node.outputs[0]] = self.first[x]
            return True
        if not self.is_last(x):
            return False
        base = last_to_first(len(perm))
        turned = Tensor(self.b, self.last[x]).transpose(tuple(base[p] for p in perm))
        self.first[node.outputs[0]] = turned.value
        return True

    def conv(self, node: Node) -> None:
        at = SEEDS[node.op.name]
        operands = [None if v is None else self.read_first(v) for v in node.inputs[1:]]
        operands.insert(0, self.read_last(node.inputs[0]))
        rank = operands[at].rank
        channels = (0, 1) if node.op.name == "conv_transpose" else (1, 0)
        operands[at] = self.b.transpose(operands[at], perm=(*range(2, rank), *channels))
        self.moved.append(node)
        self.emit(node, operands, {**node.attrs, "channels_last": True})

    def window(self, node: Node) -> bool:
        if node.attrs["channels_last"]:
            return False
        x, *rest = node.inputs
        operands = [self.read_last(x), *(self.read_first(v) for v in rest)]
        return self.emit(node, operands, {**node.attrs, "channels_last": True})

    def elementwise(self, node: Node) -> bool:
        rank = node.outputs[0].rank
        if any(v.rank != rank for v in node.outputs) or rank < 3:
            return False
        return self.emit(node, [self.broadcast(v, rank) for v in node.inputs], node.attrs)

    def broadcast(self, v: Value | None, rank: int) -> Value | None:
        """An operand of an elementwise op, so that it broadcasts with channels-last ones."""
        if v is None or v in self.last:
            return None if v is None else self.last[v]
        if v.rank == rank and v.constant is None:
            return self.read_last(v)
        x = Tensor(self.b, self.read_first(v))
        if all(isinstance(d, int) and d == 1 for d in v.shape) and v.rank <= rank:
            return x.value
        if v.rank == 1:  # along the last axis, a spatial one: [S] => [S, 1]
            return x.reshape(*v.shape, 1).value
        wide = x.reshape(*(1,) * (rank - v.rank), *v.shape)
        return wide.transpose(first_to_last(rank)).value

    def concat(self, node: Node) -> bool:
        rank = node.outputs[0].rank
        operands = [self.read_last(v) for v in node.inputs]
        return self.emit(node, operands, {**node.attrs, "axis": _moved(node.attrs["axis"], rank)})

    def along_axis(self, node: Node) -> bool:
        """softmax, split, cumsum, …: `axis` counts in the new order."""
        x = node.inputs[0]
        attrs = {**node.attrs, "axis": _moved(node.attrs["axis"], x.rank)}
        return self.emit(node, self.operands(node), attrs)

    def operands(self, node: Node) -> list[Value | None]:
        """The first operand channels last, the others (parameters) as they are."""
        x, *rest = node.inputs
        return [self.read_last(x), *(None if v is None else self.read_first(v) for v in rest)]

    def along_axes(self, node: Node) -> bool:
        """slice, reverse"""
        axes = [_moved(a, node.inputs[0].rank) for a in node.attrs["axes"]]
        return self.emit(node, self.operands(node), {**node.attrs, "axes": axes})

    def per_axis(self, node: Node) -> bool:
        """expand, tile, resize: one entry for each axis of the result."""
        x, out = node.inputs[0], node.outputs[0]
        if x.rank != out.rank:
            return False
        attrs = dict(node.attrs)
        for name, value in attrs.items():
            if isinstance(value, tuple) and node.op.attrs[name].kind in ("dims", "ints", "floats"):
                if len(value) not in (0, out.rank):
                    return False
                attrs[name] = tuple(value[p] for p in first_to_last(out.rank)) if value else value
        return self.emit(node, self.operands(node), attrs)

    def pad(self, node: Node) -> bool:
        rank, pads = node.outputs[0].rank, node.attrs["pads"]
        order = first_to_last(rank)
        pads = [pads[p] for p in order] + [pads[rank + p] for p in order]
        return self.emit(node, self.operands(node), {**node.attrs, "pads": pads})

    def shuffle(self, node: Node) -> bool:
        """[N, *S, g·c] => [N, *S, g, c] => [N, *S, c, g] => [N, *S, c·g]"""
        x, groups = self.shuffles[node]
        if x not in self.last:
            return False
        y = Tensor(self.b, self.last[x])
        n = y.rank
        y = y.reshape(*y.shape[:-1], groups, y.shape[-1] // groups)
        y = y.transpose(*range(n - 1), n, n - 1).reshape(self.last[x].shape)
        self.last[node.outputs[0]] = y.value
        return True

    def quantized_add(self, node: Node) -> bool:
        """Scales and zero points are scalars; the summands change their layout."""
        a, b = node.inputs[0], node.inputs[3]
        if a.rank != b.rank:
            return False
        operands = [
            v if v is None else self.read_last(v) if v in (a, b) else self.read_first(v)
            for v in node.inputs
        ]
        return self.emit(node, operands, node.attrs)

    def reduce(self, node: Node) -> bool:
        """With kept axes the result is channels last; without, if a spatial axis is left."""
        rank = node.inputs[0].rank
        axes = normalize_axes(node.attrs["axes"], rank)
        attrs = {**node.attrs, "axes": [_moved(a, rank) for a in axes]}
        if node.attrs["keepdims"]:
            return self.emit(node, self.operands(node), attrs)
        if 0 in axes and 1 not in axes and len(axes) < rank - 1:
            return False  # [C, *S]: no batch to put in front
        last = 1 not in axes and len(axes) < rank - 2
        return self.emit(node, self.operands(node), attrs, last=last)


def _wanted_last(graph: Graph) -> set[Value]:
    """Values that somebody reads with channels last: a convolution, a transpose that puts the last
    axis elsewhere; or what is made of them by ops that follow either layout."""
    wanted: set[Value] = set()
    for node in reversed(graph.nodes):
        name = node.op.name
        if name == "transpose":
            last = node.attrs["perm"][-1] != node.inputs[0].rank - 1
            if last or node.output in wanted:
                wanted.add(node.inputs[0])
        elif _is_seed(node):
            wanted.add(node.inputs[0])
        elif any(v in wanted for v in node.outputs) and (
            name in (*WINDOWS, *AGNOSTIC, "reshape") or isinstance(node.op.loops, Elementwise)
        ):
            wanted.update(v for v in node.inputs if v is not None)
    return wanted


def _moved(axis: int, rank: int) -> int:
    """Where an axis of [N, C, *S] lies in [N, *S, C]."""
    return first_to_last(rank).index(normalize_axis(axis, rank))


def _has_axes(node: Node) -> bool:
    """Elementwise, but with a parameter along an axis (quantize_linear)."""
    return "axis" in node.attrs


def _shuffles(graph: Graph):
    """ShuffleNet's mixing of channels: reshape to groups, exchange, reshape back.

    Yields the last node, what is shuffled into how many groups, and the nodes before the last.
    """
    uses = graph.uses()
    for node in graph.nodes:
        turn = node.inputs[0].node if node.op.name == "reshape" else None
        if turn is None or turn.op.name != "transpose":
            continue
        split = turn.inputs[0].node
        if split is None or split.op.name != "reshape":
            continue
        x, out, rank = split.inputs[0], node.outputs[0], split.inputs[0].rank
        shape = split.outputs[0].shape
        exchanged = (0, 2, 1, *range(3, rank + 1))
        if rank > 2 and len(shape) == rank + 1 and turn.attrs["perm"] == exchanged:
            same = shape[:1] + shape[3:] == x.shape[:1] + x.shape[2:]
            alone = all(
                len(uses[v]) == 1 and v not in graph.outputs
                for v in (split.outputs[0], turn.outputs[0])
            )
            if same and alone and isinstance(shape[1], int) and out.shape == x.shape:
                yield node, x, shape[1], (split, turn)


REDUCTIONS = "sum mean max min prod l1 l2 log_sum log_sum_exp sum_square"

AGNOSTIC: dict[str, Callable[[_Walk, Node], bool]] = {
    "concat": _Walk.concat,
    "pad": _Walk.pad,
    "qlinear_add": _Walk.quantized_add,
    **dict.fromkeys(
        ("softmax", "log_softmax", "hardmax", "split", "cumsum", "cumprod"), _Walk.along_axis
    ),
    **dict.fromkeys(("quantize_linear", "dequantize_linear"), _Walk.along_axis),
    **dict.fromkeys(("slice", "reverse"), _Walk.along_axes),
    **dict.fromkeys(("expand", "tile", "resize"), _Walk.per_axis),
    **dict.fromkeys((f"reduce_{r}" for r in REDUCTIONS.split()), _Walk.reduce),
    # Composites that are elementwise as a whole.
    **dict.fromkeys(("gelu", "silu", "hard_swish", "mish", "clip"), _Walk.elementwise),
}


def count_transposes(graph: Graph) -> int:
    """Transposes of values that are no constants: what moving data costs at run time."""
    return sum(
        n.op.name == "transpose"
        and n.inputs[0].constant is None
        and isinstance(n.inputs[0].type, TensorType)
        for n in graph.nodes
    )
