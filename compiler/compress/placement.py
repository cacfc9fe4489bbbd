"""Which products are worth being quantized: the others stay f32, with the reason.

Products of bytes save time where there are many of them, and bytes where there are many weights.
The smallest products of a model, which together are a small share of both, are often those that its
accuracy hangs on (the first convolution, the classifier, gates): they stay.
"""

from collections.abc import Mapping
from math import prod

from ..ir.bounds import size_hint
from ..ir.graph import Value
from .candidates import Candidates, Product

WEIGHTS = 0.02  # of all weights may belong to products that stay
SLOWER = 0.05  # of all weights may stay f32 for the sake of time
LOSS = 0.02  # of a product's time: what is less is no reason
SHARE = 1e-3  # of the model's time: the same
CACHE = 1 << 18  # bytes of a value that stays near the core between its producer and its readers


def multiplications(p: Product) -> int:
    """How many there are in one run, for sizes to expect where they are open."""
    out = prod(size_hint(d) for d in p.node.outputs[0].shape)
    shape = p.w.shape
    outputs = shape[-1] if p.axis is None else shape[p.axis]
    return out * prod(shape) // max(outputs, 1)


def keep_small(candidates: Candidates, share: float) -> None:
    """Let the smallest products stay, `share` of all multiplications at most."""
    sizes = {p: multiplications(p) for p in candidates.products}
    weights = {p: prod(p.w.shape) for p in candidates.products}
    total, most = max(sum(sizes.values()), 1), max(sum(weights.values()), 1)
    spent, held = 0, 0
    for p in sorted(candidates.products, key=sizes.__getitem__):
        more, further = spent + sizes[p], held + weights[p]
        if more > share * total:
            break
        if p.keep is not None or further > WEIGHTS * most:
            continue
        spent, held = more, further
        p.keep = (
            f"{100 * sizes[p] / total:.2g} % of the multiplications and "
            f"{100 * weights[p] / most:.2g} % of the weights: bytes would gain next to nothing"
        )


def losers(
    candidates: Candidates, ms: Mapping[Product, tuple[float, float]], total: float
) -> dict[Product, str]:
    """The products that take longer as bytes, with the reason, by `ms` of each (floats, bytes) and
    of the model of floats: those first that lose most, as long as they have few of the weights."""
    weights = {p: prod(p.w.shape) for p in candidates.products}
    room = SLOWER * sum(weights.values())
    room -= sum(weights[p] for p in candidates.products if p.keep is not None)
    found: dict[Product, str] = {}
    lost = {p: narrow - floats for p, (floats, narrow) in ms.items() if p.keep is None}
    for p in sorted(lost, key=lambda p: -lost[p]):
        floats, narrow = ms[p]
        if lost[p] < max(LOSS * floats, SHARE * total):
            break
        if weights[p] <= room:
            room -= weights[p]
            found[p] = f"bytes would take {narrow:.3g} ms here, floats {floats:.3g} (predicted)"
    return found


def is_large(value: Value) -> bool:
    """Whether reading a value takes time: it leaves the cache that is near the core. Dims that are
    open, of batches and sequences, count as 1."""
    return 4 * prod(d for d in value.shape if isinstance(d, int)) > CACHE
