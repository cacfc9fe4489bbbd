"""Which products are worth being quantized: the others stay f32, with the reason.

Products of bytes save time where there are many of them, and bytes where there are many weights.
The smallest products of a model, which together are a small share of both, are often those that its
accuracy hangs on (the first convolution, the classifier, gates): they stay.
"""

from math import prod

from ..ir.bounds import size_hint
from ..ir.graph import Value
from .candidates import Candidates, Product

WEIGHTS = 0.02  # of all weights may belong to products that stay
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


def is_large(value: Value) -> bool:
    """Whether reading a value takes time: it leaves the cache that is near the core. Dims that are
    open, of batches and sequences, count as 1."""
    return 4 * prod(d for d in value.shape if isinstance(d, int)) > CACHE
