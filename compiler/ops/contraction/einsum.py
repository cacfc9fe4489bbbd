"""einsum: products of operands summed over labelled axes.

    einsum("bij,bjk->bik", a, b)   ellipsis, repeated labels (diagonals), implicit output

An ellipsis becomes the labels `0`, `1`, … counted from the end, so the operands' extra axes
broadcast like numpy's.
"""

import string
from collections.abc import Sequence
from functools import reduce as fold

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.op import Attr, Pull, register
from ...ir.types import broadcast
from ..common import array, case, floats, ints, reference
from .matrix import MULTIPLIED
from .windows import accumulator


def parse(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The labels of each operand and of the output. Raises TypeMismatch."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise _wrong(equation, f"{len(terms)} operands", len(ranks))
    full, extra = [], 0
    for term, rank in zip(terms, ranks):
        named = term.replace("...", "")
        free = rank - len(named)
        if not all(label in string.ascii_letters for label in named):
            raise _wrong(equation, "letters, commas, ... and ->", equation)
        if free < 0 or (free > 0 and "..." not in term) or term.count("...") > 1:
            raise _wrong(equation, f"rank {len(named)} for {term!r}", rank)
        full.append(term.replace("...", _ellipsis(free)))
        extra = max(extra, free)
    if arrow:
        output = right.replace("...", _ellipsis(extra))
    else:
        once = sorted(c for c in set(left) - set(",.") if left.count(c) == 1)
        output = _ellipsis(extra) + "".join(once)
    if len(set(output)) != len(output) or set(output) - set("".join(full)):
        raise _wrong(equation, "output labels of the operands, each once", right)
    return full, output


def _ellipsis(n: int) -> str:
    if n > 10:
        raise TypeMismatch("einsum: an ellipsis stands for more than 10 axes", received=n)
    return string.digits[:n][::-1]


def _wrong(equation, expected, received) -> TypeMismatch:
    return TypeMismatch(f"einsum: {equation!r} does not fit", expected=expected, received=received)


def label_sizes(terms, shapes, equation) -> dict[str, object]:
    """The size of each label; an axis of size 1 broadcasts."""
    sizes: dict[str, object] = {}
    for term, shape in zip(terms, shapes):
        for label, d in zip(term, shape):
            try:
                (sizes[label],) = broadcast((sizes.get(label, 1),), (d,))
            except TypeMismatch:
                raise _wrong(equation, f"{sizes[label]} for {label!r}", d) from None
    return sizes


def einsum_shape(*xs, equation):
    terms, output = parse(equation, [x.rank for x in xs])
    sizes = label_sizes(terms, [x.shape for x in xs], equation)
    return tuple(sizes[label] for label in output)


def einsum_ref(*xs, equation):
    return np.einsum(equation, *xs)


def _einsum(out, *xs, equation):
    terms, output = parse(equation, [len(x.shape) for x in xs])
    sizes = label_sizes(terms, [x.shape for x in xs], equation)
    summed = [label for label in dict.fromkeys("".join(terms)) if label not in output]
    acc = accumulator(out.dtype)

    def at(*i):
        def product(*k):
            place = dict(zip(output, i)) | dict(zip(summed, k))
            factors = [
                s.cast(
                    x[
                        tuple(
                            s.const(0) if d == 1 else place[label]
                            for label, d in zip(term, x.shape)
                        )
                    ],
                    acc,
                )
                for term, x in zip(terms, xs)
            ]
            return fold(lambda a, b: a * b, factors)

        return s.reduce("sum", [sizes[label] for label in summed], product, acc)

    return at


def einsum_grad(c, dy):
    """The gradient of one operand: the einsum of dy with the others, to that operand's labels.

    A label that only this operand has was summed away: ones bring it back. A repeated label
    (a diagonal) gets a fresh name and a delta.
    """
    b, equation = c.b, c.attrs["equation"]
    terms, output = parse(equation, [x.rank for x in c.inputs])
    sizes = label_sizes(terms, [x.shape for x in c.inputs], equation)
    fresh = (x for x in string.ascii_letters if x not in equation)
    rename = {d: next(fresh) for d in sizes if d in string.digits}
    result = []
    for n, target in enumerate(terms):
        operands = [dy, *(x for m, x in enumerate(c.inputs) if m != n)]
        parts = [output, *(t for m, t in enumerate(terms) if m != n)]
        wanted = ""
        for label, d in zip(target, c.inputs[n].shape):
            name = label
            if label in wanted:
                name = next(fresh)
                here = b.iota(shape=(d, 1), axis=0), b.iota(shape=(1, d), axis=1)
                operands.append(b.equal(*here).cast(dy.dtype))
                parts.append(label + name)
            elif not any(label in p for p in parts):
                operands.append(b.scalar(1, dy.dtype).expand((d,)))
                parts.append(label)
            wanted += name
        text = ",".join(parts) + "->" + wanted
        text = "".join(rename.get(label, label) for label in text)
        result.append(b.einsum(*operands, equation=text))
    return result


register(
    "einsum",
    "xs: T* -> T",
    "Einstein summation of one or more operands.",
    attrs={"equation": Attr("str")},
    shape=einsum_shape,
    ref=reference(einsum_ref),
    grad=einsum_grad,
    loops=Pull(_einsum),
    samples=lambda: [
        case(floats((2, 3)), floats((3, 4), seed=1), equation="ij,jk->ik"),
        case(floats((2, 3, 4)), floats((2, 5, 4), seed=1), equation="b i d, b j d -> b i j"),
        case(floats((2, 3, 4)), floats((4, 2), seed=1), equation="...ij,jk->...ik"),
        case(floats((2, 1, 3)), floats((4, 3), seed=1), equation="...i,...i"),
        case(floats((3, 3)), equation="ii"),
        case(floats((3, 3)), equation="ii->i"),
        case(floats((2, 3)), equation="ij->ji"),
        case(floats((2, 3)), floats((4,), seed=1), equation="ij,k->k"),
        case(floats((3,)), floats((4,), seed=1), floats((3, 4), seed=2), equation="i,j,ij->"),
        case(floats((2, 2), dtype="f16"), floats((2,), dtype="f16"), equation="ij,j->i", atol=5e-3),
        case(ints((2, 3)), ints((3,), seed=1), equation="ij,j->i"),
        case(array(2.0), floats((3,)), equation=",i->i"),
    ],
    group="contract",
    T=MULTIPLIED,
)
