"""The nodes of a graph in an order in which each one's operands are made before it.

The standard asks files for such an order; some tools append nodes at the end instead (ONNX
Runtime's conversion to f16 does), and ONNX Runtime reads what they write.
"""

import heapq
from collections.abc import Iterator, Sequence

import onnx


def in_order(nodes: Sequence[onnx.NodeProto]) -> Sequence[onnx.NodeProto]:
    """`nodes` themselves where they are in order; else sorted, the earlier ones of a file first.

    What lies on a cycle comes last, as it stands in the file.
    """
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    if all(maker.get(name, -1) < i for i, node in enumerate(nodes) for name in _needs(node)):
        return nodes
    needs = [{maker[n] for n in _needs(node) if n in maker} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for i, makers in enumerate(needs):
        for m in makers:
            readers[m].append(i)
    missing = [len(m) for m in needs]
    ready = [i for i, count in enumerate(missing) if count == 0]
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for reader in readers[i]:
            missing[reader] -= 1
            if missing[reader] == 0:
                heapq.heappush(ready, reader)
    done = set(order)
    order += [i for i in range(len(nodes)) if i not in done]
    return [nodes[i] for i in order]


def _needs(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, also from inside of its subgraphs."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs) if attribute.type in _GRAPHS else ():
            own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
            own |= {name for inner in graph.node for name in inner.output}
            used = [name for inner in graph.node for name in _needs(inner)]
            used += [o.name for o in graph.output]
            yield from (name for name in used if name not in own)


_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
