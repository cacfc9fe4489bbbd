"""What a kernel is called: the ops that were fused into it, in the order of the graph.

    conv+add+relu        layer_norm        matmul+gelu        mul+add+reduce_mean+div+…

Names are for people: tables, profiles, errors. No code and no key of a cache follows from them.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby

from ..ir.graph import Node
from .fuse import HEAVY, PIECES
from .kinds import Kinds
from .reading import Kind

SHOWN = 4  # ops in a name
MOVEMENT = (Kind.CONSTANT, Kind.ALIAS, Kind.MOVE)


def kernel_name(
    nodes: Iterable[Node], order: Mapping[Node, int], kinds: Kinds, always: Node | None = None
) -> str:
    """The name of a kernel made of `nodes`; `order` is their place in the graph.

    Movement and casts are left out, unless there is nothing else, or it is the node that is
    `always` shown. Of many ops, those that decide what the kernel costs are shown first.
    """
    nodes = sorted(nodes, key=order.__getitem__)
    computing = [
        n for n in nodes if n is always or (kinds[n] not in MOVEMENT and n.op.name != "cast")
    ]
    chosen = computing or [n for n in nodes if kinds[n] != Kind.CONSTANT] or nodes
    runs = [list(run) for _, run in groupby(chosen, key=lambda n: n.op.name)]
    heavy = lambda run: any(kinds[n] in (*HEAVY, *PIECES) for n in run)
    first = sorted(range(len(runs)), key=lambda i: (not heavy(runs[i]), i))[:SHOWN]
    shown = [runs[i][0].op.name for i in sorted(first)]
    return "+".join(shown if len(runs) <= SHOWN else [*shown, "…"])


def joined(names: Iterable[str]) -> str:
    """The name of a kernel that several were made one of."""
    ops = dict.fromkeys(op for name in names for op in name.split("+") if op not in ("copy", "…"))
    shown = list(ops)[:SHOWN]
    return "+".join(shown if len(ops) <= SHOWN else [*shown, "…"])
