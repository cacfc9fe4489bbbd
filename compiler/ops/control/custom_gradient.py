"""Ops that say what a gradient is: `stop_gradient` and `custom_gradient`.

`custom_gradient(y…, x…, captured…) {results, wrt, backward}` hands on `y…`, which was computed
before it by ordinary nodes, and cuts their gradient: what arrives, `dy…`, goes through the graph
`backward(captured…, dy…) -> dx…` to `x…` instead. The forward nodes stay in the open, where they
fuse as if nothing had happened; once gradients are taken, nothing of the op is left.
"""

import numpy as np

from ...ir.builder import Builder
from ...ir.op import Attr, Elementwise, Expand, NotDifferentiable, Sample, register

register(
    "stop_gradient",
    "x: T -> T",
    "Its input, as a constant to gradients.",
    T="any",
    shape=lambda x: x.shape,
    ref=lambda x: x,
    grad=NotDifferentiable("it stops gradients", zero=True),
    loops=Elementwise(lambda s, x: x),
    samples=lambda: [Sample((np.array([[1.5, -2.0]], np.float32),))],
    group="custom",
)


def _results(*operands, results, wrt, backward):
    return operands[:results] if results > 1 else operands[0]


def _expand(b, *operands, results, wrt, backward):
    return tuple(b.identity(y) for y in operands[:results])


def _grad(c, *dys):
    results, wrt = c.attrs["results"], c.attrs["wrt"]
    captured = c.inputs[results + wrt :]
    dxs = c.b.inline(c.attrs["backward"], [*captured, *dys])
    return [None] * results + dxs + [None] * len(captured)


def _samples():
    b = Builder(name="backward")
    x, dy = b.input("x", "f32[3]"), b.input("dy", "f32[3]")
    b.output("dx", b.mul(x, dy))
    x = np.array([1.0, -2.0, 3.0], np.float32)
    yield Sample((x * x, x, x), {"results": 1, "wrt": 1, "backward": b.graph}, grad=False)


register(
    "custom_gradient",
    "operands: ** -> *",
    "The first `results` operands; gradients go through the graph `backward` instead.",
    attrs={
        "results": Attr("int", doc="how many operands are handed on"),
        "wrt": Attr("int", doc="how many of the next operands receive gradients"),
        "backward": Attr("graph", doc="(captured…, d_results…) -> gradients of the next operands"),
    },
    infer=lambda *types, results, wrt, backward: types[:results],
    ref=_results,
    grad=_grad,
    loops=Expand(_expand),
    samples=_samples,
    group="custom",
)
