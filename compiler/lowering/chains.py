"""Chains of nodes that one kernel computes although they end in a product: attention.

    softmax(q @ kᵀ * scale + mask) @ v

A product reads its factors again and again, so they have memory of their own. The weights of a
softmax of products need none: they are made anew for a block of rows and keys at a time, while that
block is near (`kernels/online.py` says of which expressions this is so). A chain is what lies
between the two products; whatever ops that is made of, the kernel's expression decides.
"""

from collections.abc import Iterable

from ..classes import dataclass
from ..expr import expr as s
from ..expr.blocks import blocked_stores
from ..expr.expr import Buffer
from ..ir.bounds import DynamicSize, assuming, size_hint, sizes_of
from ..ir.dims import Sym
from ..ir.graph import Graph, Node, Value
from ..kernels.kernel import Kernel, Store
from ..kernels.online import Online, find_online
from ..kernels.simplify import merge_axes, split_axes
from .inlining import Inliner
from .kinds import Kinds
from .reading import Kind

LONGEST = 24  # nodes between the products
ROWS = 12  # fewest rows that share the keys, which are copied for them
KEYS = 16  # fewest keys: less makes no scores to speak of
DEEPEST = 512  # of what is summed for a score, and columns
BETWEEN = (Kind.MAP, Kind.ROW, Kind.REDUCE, Kind.ALIAS, Kind.MOVE)


@dataclass(frozen=True, eq=False)
class Chain:
    """`values` are computed inside of the product `last`: those of the nodes between the products,
    and the first product's own. `reads` are the factors of both that nothing else reads."""

    last: Node
    values: frozenset[Value]
    reads: frozenset[Value]


def find_chains(graph: Graph, kinds: Kinds) -> list[Chain]:
    """The chains of a graph that are worth it for the sizes to expect, as far as the nodes say."""
    uses, outputs, found = graph.uses(), set(graph.outputs), []
    for node in graph.nodes:
        if kinds[node] != Kind.CONTRACT:
            continue
        for v in node.inputs:
            values = None if v is None else _between(v, kinds)
            if values is None or values & outputs or not _is_worth_it(values, kinds):
                continue
            readers = {r for v in values for r, _ in uses.get(v, [])}
            if all(r is node or set(r.outputs) <= values for r in readers):
                first = next(v.node for v in values if kinds[v.node] == Kind.CONTRACT)
                factors = {v for v in (*first.inputs, *node.inputs) if v is not None} - values
                alone = {v for v in factors if len(uses[v]) == 1}
                found.append(Chain(node, frozenset(values), frozenset(alone)))
                break
    return _apart(found)


def _apart(found: list[Chain]) -> list[Chain]:
    """Where chains begin with what others end with (products and norms in turn), those that are
    one kernel by themselves, and follow no such one: the expression of all would have no end."""
    ends = {chain.last.output for chain in found}
    if not any(chain.values & ends for chain in found):
        return found
    kept: list[Chain] = []
    for chain in found:
        follows = any(before.last.output in chain.values for before in kept)
        if not follows and is_one_kernel(chain, chain.last.output, set(chain.values)):
            kept.append(chain)
    return kept


def _between(value: Value, kinds: Kinds) -> set[Value] | None:
    """The values from a product up to this one, which a softmax is among; None if there is no such
    product, or several."""
    order: list[Node] = []
    products: set[Node] = set()
    seen, stack = {value}, [value]
    while stack:
        node = stack.pop().node
        if node is None or kinds[node] not in (*BETWEEN, Kind.CONTRACT):
            continue
        if kinds[node] == Kind.CONTRACT:
            products.add(node)
            continue
        order.append(node)
        if len(order) > LONGEST:
            return None
        below = [v for v in node.inputs if v is not None and v not in seen]
        seen.update(below)
        stack += below
    if len(products) != 1 or not {Kind.ROW, Kind.REDUCE} & {kinds[n] for n in order}:
        return None
    found = set(next(iter(products)).outputs)
    while True:
        more = {
            v for n in order if found.intersection(n.inputs) for v in n.outputs if v not in found
        }
        if not more:
            return found
        found |= more


def _is_worth_it(values: Iterable[Value], kinds: Kinds) -> bool:
    for v in values:
        if kinds[v.node] == Kind.CONTRACT:
            shape = v.shape
            if len(shape) < 2 or size_hint(shape[-1]) < KEYS or size_hint(shape[-2]) < ROWS:
                return False
    return True


def is_one_kernel(chain: Chain, root: Value, inlined: set[Value]) -> bool:
    """Whether the kernel of `root`, which computes a chain and all that is `inlined`, is one that
    needs no scores in memory."""
    online = None
    try:
        with assuming(), sizes_of(chain.last):
            online = find_online(_kernel(root, inlined))
    except (DynamicSize, TypeError):
        pass
    return online is not None and _has_fitting_sizes(online)


def _has_fitting_sizes(online: Online) -> bool:
    sizes = [a.extent for a in (*online.depth, online.column)]
    fits = len(online.depth) == 1 and not any(isinstance(d, Sym) or d > DEEPEST for d in sizes)
    many = size_hint(online.row.extent) >= ROWS and size_hint(online.key.extent) >= KEYS
    return fits and many and online.column.extent >= 4


def _kernel(root: Value, inlined: set[Value]) -> Kernel:
    """The kernel as lowering makes it."""
    buffers: dict[Value, Buffer] = {}

    class InMemory(dict):
        def __contains__(self, value: object) -> bool:
            return value not in inlined and value is not root

        def __getitem__(self, value: Value) -> Buffer:
            if value not in buffers:
                buffers[value] = Buffer(value.name, value.type)
            return buffers[value]

    inliner = Inliner(InMemory())
    out = Buffer(root.name, root.type)

    def make(*index: s.Expr) -> tuple:
        return index, inliner._inline(root, index)

    axes, made = blocked_stores(root.shape, make)
    stores = tuple(Store(out, index, e, inside) for (index, e), inside in made)
    return merge_axes(split_axes(Kernel("chain", axes, stores)))
