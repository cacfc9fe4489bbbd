"""Einsums of two operands that are matrix products: `bhid,bhjd->bhij` is q @ kᵀ.

Letters are batch (in both operands and the result), contracted (in both operands only), or free
(in one operand and the result). Each operand is turned to [batch, free, contracted] (the second
one to [batch, contracted, free]), free and contracted axes joined, multiplied, and split again.
"""

from ...ir import dims
from ..engine import Rule, rule
from ..pattern import Match, node


def _letters(m: Match) -> tuple[str, str, str] | str:
    """The axes of both operands and the result, or why it is no matrix product."""
    if len(m.root.inputs) != 2:
        return "it has not two operands"
    text = m.attr("equation").replace(" ", "")
    left, arrow, out = text.partition("->")
    a, b = left.split(",")
    if not arrow or "." in text:
        return "its result is implicit, or it has an ellipsis"
    if any(len(set(t)) != len(t) for t in (a, b, out)):
        return "it takes a diagonal"
    if any((letter in a) + (letter in b) + (letter in out) < 2 for letter in a + b):
        return "it sums over an axis of one operand"
    if not set(a) & set(b) - set(out):
        return "it contracts nothing"
    shapes = [v.shape for v in m.root.inputs]
    sizes = dict(zip(a, shapes[0]))
    if any(sizes.get(letter, d) != d for letter, d in zip(b, shapes[1])):
        return "an axis has two sizes"
    return a, b, out


def _turn(x, letters: str, groups: list[str], join: list[bool]):
    """`x` with its axes in the order of `groups`; those of a joined group become one."""
    size = dict(zip(letters, x.shape))
    x = x.transpose(tuple(letters.index(c) for g in groups for c in g))
    shape = []
    for group, joined in zip(groups, join):
        sizes = [size[c] for c in group]
        shape += [dims.prod(sizes)] if joined else sizes
    return x.reshape(tuple(shape))


def _product(builder, m: Match):
    found = _letters(m)
    assert not isinstance(found, str), found  # it was asked before
    a, b, out = found
    x, y = (builder.tensor(v) for v in m.root.inputs)
    batch = "".join(c for c in out if c in a and c in b)
    left = "".join(c for c in out if c in a and c not in b)
    right = "".join(c for c in out if c in b and c not in a)
    inner = "".join(c for c in a if c in b and c not in out)
    size = dict(zip(a + b, (*x.shape, *y.shape)))
    p = _turn(x, a, [batch, left, inner], [False, True, True])
    q = _turn(y, b, [batch, inner, right], [False, True, True])
    made = batch + left + right
    z = (p @ q).reshape(tuple(size[c] for c in made))
    return z.transpose(tuple(made.index(c) for c in out))


def _check(m: Match) -> str | None:
    found = _letters(m)
    return found if isinstance(found, str) else None


EINSUMS: tuple[Rule, ...] = (rule("einsum(a, b) => a @ b", node("einsum"), _product, _check),)
