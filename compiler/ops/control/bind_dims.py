"""Sizes that data decides: bind_dims says what a symbol stands for, running_count finds places.

    %r = running_count(%keep)                           # 1, 1, 2, …
    %n = reduce_sum(…) : i64[1]
    %b = bind_dims(%n) {symbols=[_n0]} : i64[1]         # from here on _n0 is a size
    %p = slice(%places) {axes=[0], starts=[0], steps=[1], sizes=[_n0]} : i64[_n0]

No op has a result whose size is unknown when it starts: it fills as much as there can be, and a
slice cuts off the rest once `bind_dims` has said how much there is. `passes/stages.py` cuts a graph
where symbols become known; `runtime/execution/staged.py` runs the pieces.
"""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.op import Alias, Attr, Kernels, NotDifferentiable, register
from ...ir.types import I64
from ..common import STEP, array, bools, case


def _bind_shape(x, *, symbols):
    if x.shape != (len(symbols),):
        raise TypeMismatch(
            "bind_dims wants a size for each symbol", expected=f"i64[{len(symbols)}]", received=x
        )
    return x.shape


register(
    "bind_dims",
    "x: i64 -> i64",
    """x itself. Its elements are the sizes that `symbols` stand for in what follows.

    Sizes are at least 0. Where `symbols` are numbers already, those are the sizes.
    """,
    attrs={"symbols": Attr("dims")},
    shape=_bind_shape,
    ref=lambda x, *, symbols: np.array(x),
    grad=NotDifferentiable("sizes are integers", zero=True),
    loops=Alias(),
    samples=lambda: [case(array([3, 0], "i64"), symbols=(3, 0))],
    group="control",
    pure=False,
)


def _running_count(k, out, x):
    def count(*i):
        """One more than the place before: the kernel reads what it has stored."""
        before = out_buffer[(*i[:-1], s.maximum(i[-1] - 1, 0))]
        before = s.select(s.eq(i[-1], 0), s.const(0), before)
        return i, before + s.cast(x[i], I64)

    out_buffer = k.outs[0]
    k.store(out.shape, count, serial=True)


def _count_shape(x):
    if not x.rank:
        raise TypeMismatch("running_count needs an axis", received=x)
    return x.shape


register(
    "running_count",
    "x: bool -> i64",
    "How many elements are true up to each one, itself included, along the last axis.",
    shape=_count_shape,
    ref=lambda x: np.cumsum(x, axis=-1, dtype=np.int64),
    grad=STEP,
    loops=Kernels(_running_count),
    samples=lambda: [
        case(bools((17,), 1)),
        case(bools((3, 5), 2)),
        case(np.zeros((2, 0), bool)),
        case(np.ones((1,), bool)),
    ],
    group="scatter",
)
