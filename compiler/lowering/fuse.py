"""Which values get memory, and which are computed inside their readers' kernels.

A value is inlined when everything that reads it ends up in one kernel and no reader would make it
be computed again and again. The reasons why a value was kept apart are reported: they answer "why
didn't it fuse?".

    map, move    inlined freely; not into several kernels unless it costs nothing
    reduce       inlined into an elementwise reader of the same shape (its epilogue), or of rows of
                 it (softmax-like: the reduction is done once per row)
    contract     inlined only as the core of its epilogue
    window       pooling: like contract
    blocks       Winograd's transforms: like contract, and only where indices stay as they are
    chains       what lies between two products, where one kernel can do both (`chains.py`)
    kernels, control, host callbacks: always have memory, on both sides

Which kind a node is, and whatever else is asked of it here, follows from its expression
(`kinds.py`, `reading.py`), not from its name.
"""

from collections.abc import Sequence
from dataclasses import field

from ..classes import dataclass
from ..ir.bounds import size_hint
from ..ir.dims import prod
from ..ir.graph import Graph, Node, Value
from ..ir.op import Expand, Pull
from ..ir.types import TensorType
from .chains import Chain, find_chains, is_one_kernel
from .inlining import expansion
from .kinds import Kinds
from .reading import AGAIN, Kind

ROW_LIMIT = 1 << 16  # elements of a row that a kernel may walk several times
DEPTH = 24  # nodes that an expression, which is walked recursively, may hold above each other
PLACES = 12  # operations that a value may take to follow from the places of its elements
FEW = 2  # operations that cost about as much as reading what they give
LINE = 16  # elements that lie beside each other: with fewer, their order matters little
PANELS = 32  # results for which a line is summed, above which it is worth its own memory
SUMS = "the kernel that reads it already sums products or rows"
SMALL = 4096  # elements below which computing a value in each of its readers is cheap enough


@dataclass
class Fusion:
    """`inlined` values have no memory; `reasons` says why others were kept apart."""

    inlined: set[Value] = field(default_factory=set)
    reasons: dict[Value, str] = field(default_factory=dict)


HEAVY = (Kind.REDUCE, Kind.ROW, *AGAIN)
PIECES = (Kind.KERNELS, Kind.OTHER)  # kinds that read each operand in a kernel of its own


def plan_fusion(graph: Graph, kinds: Kinds | None = None, chains: bool = False) -> Fusion:
    """Decide for every value of a graph. Where sizes are open, those to expect decide. `kinds` is
    what has been found of its nodes already; `chains`: whether products of products may be one
    kernel."""
    kinds = Kinds() if kinds is None else kinds
    found = find_chains(graph, kinds) if chains else []
    while True:
        planner = _Planner(graph, kinds, found)
        plan = planner.plan()
        fitting = [c for c in found if planner.is_one_kernel(c)]
        if len(fitting) == len(found):
            return plan
        found = fitting


class _Planner:
    """Walks from the outputs to the inputs: the readers of a value are decided before it.

    `roots[v]` are the kernels that read v; `claims[root]` the kinds of heavy values inside one;
    `again[v]` is the op that reads an inlined move more than once; `for_chains` are values that
    only products of chains read, which may be broadcast there: heads of queries share keys.
    """

    def __init__(self, graph: Graph, found: Kinds, chains: Sequence[Chain] = ()):
        self.graph, self.uses, self.outputs = graph, graph.uses(), set(graph.outputs)
        self.chained = {v for chain in chains for v in chain.values}
        self.for_chains = {v for chain in chains for v in chain.reads}
        self.found = found
        self.kinds = {node: found[node] for node in graph.nodes}
        for node in graph.nodes:
            if found.border(node) is not None and self._has_heavy_reader(node):
                self.kinds[node] = Kind.KERNELS
        self.fusion = Fusion()
        self.roots: dict[Value, set] = {}
        self.depths: dict[Value, int] = {}
        self.claims: dict[object, set[str]] = {}
        self.again: dict[Value, str] = {}

    def _has_heavy_reader(self, pad: Node) -> bool:
        """Whether the padded value would be read more than once, so that it gets memory."""
        readers = self.uses.get(pad.output, [])
        return any(self.kinds[r] in (*AGAIN, *PIECES) for r, _ in readers)

    def plan(self) -> Fusion:
        for node in reversed(self.graph.nodes):
            for value in node.outputs:
                self.roots[value] = self._roots(value)
                if value in self.chained:
                    self.fusion.inlined.add(value)
                    self.depths[value] = self._depth(value, node)
                    for root in self.roots[value]:
                        self.claims.setdefault(root, set()).add(Kind.CONTRACT)
                    continue
                why = self._keep(value, node)
                if why == SUMS and (narrow := self._narrower(value)) is not None:
                    self._cut(value, narrow)
                    why = self._keep(value, node)
                if why is None:
                    self.fusion.inlined.add(value)
                    self.depths[value] = self._depth(value, node)
                    again = [self._reads_again(*use) for use in self.uses.get(value, [])]
                    if any(again):
                        self.again[value] = next(filter(None, again))
                        if value in self.for_chains:  # so is what it is made of
                            self.for_chains.update(v for v in node.inputs if v is not None)
                    if self.kinds[node] in HEAVY:
                        for root in self.roots[value]:
                            self.claims.setdefault(root, set()).add(self.kinds[node])
                elif self.uses.get(value):
                    self.fusion.reasons[value] = why
        return self.fusion

    def _narrower(self, value: Value) -> Value | None:
        """What is made of a value element by element, by what alone reads it, and takes fewer
        bytes: a product's bytes in place of its sums. The first one that is narrowest."""
        best, here = value, value
        while (reader := self._only_reader(here)) and self.kinds[reader] == Kind.MAP:
            here, others = reader.outputs[0], [v for v in reader.inputs if v is not here]
            plain = here in self.fusion.inlined and here.shape == value.shape
            if not plain or any(v in self.fusion.inlined and v.constant is None for v in others):
                break
            if here.dtype.bits < best.dtype.bits:
                best = here
        return None if best is value else best

    def _cut(self, value: Value, narrow: Value) -> None:
        """Give memory to what is made of a value, so that this may be part of the same kernel."""
        self.fusion.inlined.remove(narrow)
        self.fusion.reasons[narrow] = SUMS
        self.depths.pop(narrow)
        chain = [value]
        while (reader := self.uses[chain[-1]][0][0]).outputs[0] is not narrow:
            chain.append(reader.outputs[0])
        for here in reversed(chain):
            self.roots[here] = {narrow}
            self.depths[here] = self._depth(here, here.node)

    def is_one_kernel(self, chain: Chain) -> bool:
        """Whether the kernel that a chain became part of needs no scores in memory."""
        root: object = chain.last.output
        if root in self.fusion.inlined:
            (root,) = self.roots[root] if len(self.roots[root]) == 1 else (None,)
        return isinstance(root, Value) and is_one_kernel(chain, root, self.fusion.inlined)

    def _reads_again(self, reader: Node, position: int) -> str | None:
        """The product or the pool that reads this operand of `reader` more than once, if any."""
        if self.found.again(reader, position):
            return reader.op.name
        return next((self.again[v] for v in reader.outputs if v in self.again), None)

    def _depth(self, value: Value, node: Node) -> int:
        """Nodes from the root down to this one; a composite counts with what is inside of it."""
        readers = (reader for reader, _ in self.uses.get(value, []))
        above = [self.depths.get(out, 0) for reader in readers for out in reader.outputs]
        own = len(expansion(node).nodes) if isinstance(node.op.loops, Expand) else 1
        return max(above, default=0) + own

    def _roots(self, value: Value) -> set:
        found = set()
        for reader, position in self.uses.get(value, []):
            for out in reader.outputs:
                if out in self.fusion.inlined:
                    found |= self.roots[out]
                else:
                    found.add((reader, position) if self.kinds[reader] in PIECES else out)
        return found

    def _keep(self, value: Value, node: Node) -> str | None:
        """Why the value needs memory, or None."""
        kind = self.kinds[node]
        is_output = value in self.outputs
        if kind == Kind.CONSTANT:
            array = node.attrs["value"]
            scalar = array.size == 1 and array.dtype != object and not is_output
            return None if scalar else "it is a constant"
        if is_output:
            return "it is an output of the model"
        if not isinstance(value.type, TensorType) or kind in PIECES:
            return f"{node.op.name} writes memory"
        readers = self.uses.get(value, [])
        if not readers:
            return "nothing reads it"
        if kind == Kind.ALIAS:
            inner = node.inputs[0].node
            if inner is None or self.kinds[inner] in (Kind.CONSTANT, *PIECES):
                return "it is a view of memory"
        for reader, position in readers:
            why = self._edge(value, node, reader, position)
            if why is not None:
                return why
        if kind == Kind.MOVE and self._is_stored_in_lines(node):
            return "the product that it permutes stores it, before its lines are scattered"
        if kind != Kind.ALIAS and self._depth(value, node) > DEPTH:
            return f"more than {DEPTH} nodes would be in one expression"
        if len(self.roots[value]) > 1:
            if kind in (Kind.MAP, Kind.MOVE) and self._is_cheap(node, value):
                return None
            return f"{len(self.roots[value])} kernels read it"
        return self._heavy(value, kind) if kind in HEAVY else None

    def _edge(self, value: Value, node: Node, reader: Node, position: int) -> str | None:
        """Why `value` cannot be computed inside `reader`, or None."""
        kind, target = self.kinds[node], self.kinds[reader]
        if target == Kind.OTHER:
            return f"{reader.op.name} reads memory"
        again = self._reads_again(reader, position)
        if again is not None:
            if kind == Kind.MOVE and self._is_summed_across(node, reader, position):
                return f"{again} would sum each of its lines from places far apart, again and again"
            if kind == Kind.ALIAS or self._reads_once(node) or _is_weight_side(node):
                return None
            if value in self.for_chains and kind == Kind.MOVE and self.found.reading(node).is_free:
                return None
            return f"{again} reads it more than once"
        if position in self.found.places(reader) and not self._is_fill(node):
            return f"{reader.op.name} reads it at computed places"
        if kind == Kind.MOVE and _growth(value, reader) > 1 and self._crosses_lines(node):
            return f"{reader.op.name} would read across its lines {_growth(value, reader)} times"
        if kind == Kind.MAP and _grows(value, reader) and self.found.reading(node).cost > FEW:
            if target in PIECES and self.found.stores_whole(reader):
                return None
            return f"{reader.op.name} would compute it {_growth(value, reader)} times"
        return None

    def _is_fill(self, node: Node) -> bool:
        """Whether all elements are one number, which no place decides about."""
        makers = [v.node for v in node.inputs if v is not None]
        return self.kinds[node] == Kind.MOVE and all(
            m is not None and self.kinds[m] == Kind.CONSTANT and self._keep(m.outputs[0], m) is None
            for m in makers
        )

    def _heavy(self, value: Value, kind: str) -> str | None:
        """Why a reduction cannot be part of the one kernel that reads it, or None."""
        (root,) = self.roots[value]
        claimed = self.claims.get(root, set())
        if not isinstance(root, Value) and not self.found.stores_whole(root[0]):
            return f"{root[0].op.name} stores it in pieces"
        if Kind.CONTRACT in claimed or (kind == Kind.CONTRACT and claimed):
            return SUMS
        return self._path(value, value, kind)

    def _path(self, value: Value, here: Value, kind: str) -> str | None:
        """Follow the readers to the root: each must need every element of `value` once, or once
        per row."""
        for reader, _ in self.uses.get(here, []):
            name, target = reader.op.name, self.kinds[reader]
            if target in PIECES:
                continue
            again = f"{name} would compute the {value.node.op.name} again"
            permutes = target == Kind.MOVE and self._permutes(reader)
            if target not in (Kind.MAP, Kind.ALIAS) and not permutes:
                return again
            out = reader.outputs[0]
            if permutes and kind != Kind.CONTRACT:
                return f"{name} would scatter the rows"
            if target == Kind.ALIAS and kind == Kind.BLOCKS:
                return f"{name} would cut the blocks"
            if permutes and not self._keeps_lines(reader):
                return f"{name} would scatter the lines of the {value.node.op.name}"
            if prod(out.shape) != prod(value.shape) and (
                kind in AGAIN or not _is_row(value.shape, out.shape)
            ):
                return again
            if out in self.fusion.inlined:
                why = self._path(value, out, kind)
                if why is not None:
                    return why
        return None

    def _is_summed_across(self, node: Node, reader: Node, position: int) -> bool:
        """Whether a product sums along lines that a transpose makes, for several panels of results:
        where the transpose reads them, each element lies in a line of memory of its own."""
        if not self._crosses_lines(node) or _is_weight_side(node):
            return False
        if size_hint(node.output.shape[-1]) < LINE:
            return False
        return size_hint(self.found.reading(reader).sums_lines(position)) > PANELS

    def _is_stored_in_lines(self, node: Node) -> bool:
        """Whether a product can store this permutation of its lines, and not the next one, which
        scatters them: a transpose of rows and columns is left then, whatever came before."""
        if not self._permutes(node) or not self._keeps_lines(node):
            return False
        below, above = node.inputs[0], node.output
        while below.node is not None and self.kinds[below.node] == Kind.ALIAS:
            below = below.node.inputs[0]
        while (reader := self._only_reader(above)) and self.kinds[reader] in (Kind.MAP, Kind.ALIAS):
            above = reader.outputs[0]
        if below.node is None or self.kinds[below.node] != Kind.CONTRACT or reader is None:
            return False
        return self._crosses_lines(reader)

    def _only_reader(self, value: Value) -> Node | None:
        readers = self.uses.get(value, [])
        return readers[0][0] if len(readers) == 1 and value not in self.outputs else None

    # -- what expressions say ----------------------------------------------------------------

    def _pulls(self, node: Node) -> bool:
        """Whether the node has a rule of its own for an element."""
        return isinstance(node.op.loops, Pull) and node.op.name != "constant"

    def _reads_once(self, node: Node) -> bool:
        return self._pulls(node) and self.found.reading(node).reads_once

    def _permutes(self, node: Node) -> bool:
        return self._pulls(node) and self.found.reading(node).is_permutation

    def _keeps_lines(self, node: Node) -> bool:
        """Whether the elements along the last axis, and enough of them, stay neighbours."""
        return self.found.reading(node).keeps_lines and size_hint(node.output.shape[-1]) >= LINE

    def _crosses_lines(self, node: Node) -> bool:
        return self._permutes(node) and not self._keeps_lines(node)

    def _is_cheap(self, node: Node, value: Value) -> bool:
        """Recomputing costs no more than loading: a broadcast or a small thing."""
        is_composite = isinstance(node.op.loops, Expand)
        if size_hint(prod(value.shape)) <= SMALL and not is_composite:
            return True
        if self._follows_from_places(node):
            return True
        return not is_composite and self.found.reading(node).is_free

    def _follows_from_places(self, node: Node) -> bool:
        """Whether a few cheap operations make the value of where its elements are: a causal
        mask."""
        below, stack = {node}, [node]
        while stack:
            n = stack.pop()
            if any(v is None or v.node is None for v in n.inputs) or len(below) > PLACES:
                return False
            stack += dict.fromkeys(v.node for v in n.inputs if v.node not in below)
            below.update(stack)
        return all(map(self._is_simple, below))

    def _is_simple(self, node: Node) -> bool:
        """Whether an element is made of numbers and of operands' elements by little work."""
        match self.kinds[node]:
            case Kind.CONSTANT:
                return node.attrs["value"].size == 1
            case Kind.ALIAS:
                return True
            case Kind.MAP | Kind.MOVE:
                return self.found.reading(node).cost <= PLACES and not self.found.places(node)
        return False


def _is_row(inner: tuple, outer: tuple) -> bool:
    """Whether `inner` broadcasts to `outer` along trailing dims only, of a modest size."""
    if len(inner) != len(outer):
        return False
    split = len(inner)
    while split and inner[split - 1] == 1:
        split -= 1
    if inner[:split] != outer[:split]:
        return False
    row, rows = size_hint(prod(outer[split:])), size_hint(prod(outer[:split]))
    return row <= ROW_LIMIT and (rows >= 4 or row <= SMALL)


def _is_weight_side(node: Node) -> bool:
    """Whether everything below is constant: evaluated while compiling."""
    stack, seen = [node], {node}
    while stack:
        n = stack.pop()
        if n.op.name == "constant":
            continue
        if not n.inputs or any(v is not None and v.node is None for v in n.inputs):
            return False
        below = [v.node for v in n.inputs if v is not None and v.node not in seen]
        seen.update(below)
        stack += below
    return True


def _grows(value: Value, reader: Node) -> bool:
    sizes = [prod(o.shape) for o in reader.outputs if isinstance(o.type, TensorType)]
    return any(size_hint(n) > size_hint(prod(value.shape)) for n in sizes)


def _growth(value: Value, reader: Node) -> int:
    return size_hint(prod(reader.outputs[0].shape)) // max(1, size_hint(prod(value.shape)))
