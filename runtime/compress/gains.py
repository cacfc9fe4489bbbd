"""What time bytes would save here, product by product, as the compiler predicts it.

    place(plan)      products that would take longer as bytes stay f32, with the figures

Both graphs, of floats and quantized, are lowered and scheduled for this machine, which needs no
code. A kernel's time belongs to the product whose node it computes, or else to the one that it
makes bytes for.
"""

from collections.abc import Iterable, Mapping, Sequence

from ...compiler.compress.candidates import Product
from ...compiler.compress.placement import losers
from ...compiler.compress.quantize import Plan
from ...compiler.driver import Driver
from ...compiler.ir.bounds import size_hint
from ...compiler.ir.graph import Graph
from ...compiler.ir.types import TensorType
from ...compiler.options import Options
from ...compiler.targets.table import open_target
from ..base.signature import fix_shapes

Times = list[tuple[tuple[str, ...], float]]  # (origins, ms) of kernels


def place(plan: Plan) -> None:
    """Let products stay that lose time, and say in the plan's notes if none is won."""
    products, shapes = [p for p in plan.candidates.products if p.keep is None], plan.sizes
    if not products or not all(
        isinstance(v.type, TensorType) for v in plan.candidates.graph.inputs
    ):
        return
    before = _predicted(plan.candidates.graph, shapes)
    after = None if before is None else _predicted(plan.quantized(), shapes)
    if before is None or after is None:
        return
    _set(plan, before, after)
    if plan.recipe.placement == "time":
        ms = {p: plan.ms[p.node] for p in products if p.node in plan.ms}
        slower = losers(plan.candidates, ms, _total(before))
        for p, reason in slower.items():
            p.keep = reason
        rest = _predicted(plan.quantized(), shapes) if slower else None
        if rest is not None and _total(rest) < _total(after):
            plan.slower = list(slower)
            plan.total_ms = _total(before), _total(rest)
        else:  # what they make stands between others: all gain, or all lose
            for p in slower:
                p.keep = None
    assert plan.total_ms is not None
    floats, narrow = plan.total_ms
    if narrow >= floats:
        plan.notes.append(
            f"bytes gain no time here: {floats:.3g} ms with floats, {narrow:.3g} ms with bytes, as "
            "predicted for one thread; what is gained is memory"
        )


def _set(plan: Plan, before: Times, after: Times) -> None:
    owners = _owners(plan.candidates.products)
    floats, narrow = _by_product(before, owners), _by_product(after, owners)
    plan.ms = {p.node: (floats[p], narrow[p]) for p in floats if p in narrow and floats[p]}
    plan.total_ms = _total(before), _total(after)


def _owners(products: Iterable[Product]) -> dict[str, Product]:
    """Products by the origins of their kernels: their own, or of what they read."""
    found: dict[str, Product] = {}
    products = list(products)
    for p in products:
        if p.node.origin is not None:
            found.setdefault(p.node.origin, p)
    for p in products:
        above = p.source.node
        if p.keep is None and above is not None and above.origin is not None:
            found.setdefault(above.origin, p)
    return found


def _by_product(times: Times, owners: Mapping[str, Product]) -> dict[Product, float]:
    total = dict.fromkeys(owners.values(), 0.0)
    for origins, ms in times:
        mine = [owners[n] for n in origins if n in owners]
        exact = [p for p in mine if p.node.origin in origins] or mine[:1]
        for p in dict.fromkeys(exact):
            total[p] += ms / len(dict.fromkeys(exact))
    return total


def _total(times: Times) -> float:
    return sum(ms for _, ms in times)


def _predicted(graph: Graph, shapes: Mapping[str, Sequence[int]] | None) -> Times | None:
    """Of one sample, where the model leaves their number open; of sizes to expect, where nothing is
    known."""
    sizes = {}
    for v in graph.inputs:
        known = (shapes or {}).get(v.name, (None,) * v.rank)
        pairs = enumerate(zip(v.shape, known))
        sizes[v.name] = [
            size_hint(d) if n is None or (i == 0 and not isinstance(d, int)) else n
            for i, (d, n) in pairs
        ]
    driver = Driver(open_target("cpu"), Options())
    found = driver.estimate(driver.optimize(fix_shapes(graph, sizes)))
    if found is None:
        return None
    return [(p.step.call.kernel.origins, p.ns * p.rounds / 1e6) for p in found]
