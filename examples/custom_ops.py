"""Ops of your own: compiled ones, one in Python, one in C; from ONNX and from Python.

    python examples/custom_ops.py

`register_ops` adds four ops and `main` uses them. docs/custom-ops.md explains every part.
"""

import ctypes
import sys

import numpy as np
import onnx
import tessel
from onnx import TensorProto, helper
from tessel import ops

s = ops.expr  # the vocabulary of compiled meanings
DOMAIN = "my.domain"


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- elementwise: fuses with its neighbours ------------------------------------------------


def softcap_gradient(c, dy):
    y = c.outputs[0] * (1 / c.attrs["cap"])
    return (dy - dy * y * y,)


def register_softcap():
    ops.register(
        "softcap",
        "x: T -> T",
        "cap * tanh(x / cap): nearly x for small x, never beyond cap.",
        T="float",
        attrs={"cap": ops.Attr("float", 30.0, "the bound")},
        shape=ops.same_shape,
        ref=ops.reference(lambda x, *, cap: cap * np.tanh(x / cap)),
        grad=softcap_gradient,
        loops=ops.Elementwise(lambda s, x, *, cap: s.tanh(x / cap) * cap),
        samples=lambda: [ops.Sample((random(3, 5),), {"cap": 2.0}), ops.Sample((random(7),))],
        onnx=f"{DOMAIN}:SoftCap",
    )


# -- pulled: an element of the result as an expression -------------------------------------


def distances_shape(x, y):
    if x.rank != 2 or y.rank != 2 or x.shape[1] != y.shape[1]:
        raise ops.TypeMismatch("distances needs [N,D] and [M,D]", received=f"{x} and {y}")
    return (x.shape[0], y.shape[0])


def distances(out, x, y):
    """out[i, j] = sum over k of (x[i, k] - y[j, k])²"""

    def element(i, j):
        def term(k):
            d = x[i, k] - y[j, k]
            return d * d

        return s.reduce_sum([x.shape[1]], term)

    return element


def distances_gradient(c, dy):
    """dx[i] = 2 sum over j of dy[i, j] (x[i] - y[j]), and the same for y."""
    x, y = c.inputs
    dx = (x * dy.sum(1, keepdims=True) - dy @ y) * 2
    columns = dy.transpose(1, 0)
    return dx, (y * columns.sum(1, keepdims=True) - columns @ x) * 2


def register_distances():
    ops.register(
        "distances",
        "x: T, y: T -> T",
        "Squared distances of the rows of x from the rows of y.",
        T=("f32", "f64"),
        shape=distances_shape,
        ref=lambda x, y: ((x[:, None] - y[None]) ** 2).sum(-1),
        grad=distances_gradient,
        loops=ops.Pull(distances),
        samples=lambda: [ops.Sample((random(4, 3), random(5, 3, seed=1)))],
        onnx=f"{DOMAIN}:Distances",
    )


# -- a host callback -----------------------------------------------------------------------


def row_median(x):
    return np.asarray(np.median(x, axis=-1), x.dtype)


def row_median_gradient(c, dy):
    """To the elements that are the median, in equal parts."""
    (x,), (y,), b = c.inputs, c.outputs, c.b
    wide = (*y.shape, 1)
    chosen = b.equal(x, y.reshape(wide)).cast(x.dtype)
    return (dy.reshape(wide) * chosen / chosen.sum(-1, keepdims=True),)


def register_row_median():
    ops.register(
        "row_median",
        "x: T -> T",
        "The median along the last axis, whose size is odd.",
        T=("f32", "f64"),
        shape=lambda x: x.shape[:-1],
        ref=row_median,
        grad=row_median_gradient,
        loops=ops.Extern(row_median, "medians are partial sorts, which numpy does well"),
        samples=lambda: [ops.Sample((random(4, 5),))],
        onnx=f"{DOMAIN}:RowMedian",
    )


# -- a kernel in C -------------------------------------------------------------------------


def register_swap_bytes():
    """libc's `swab(from, to, bytes)`; a library of yours is `ctypes.CDLL("./mine.so")`."""
    swab = ctypes.CDLL(None).swab
    swab.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ssize_t]
    ops.register(
        "swap_bytes",
        "x: u16 -> u16",
        "Big-endian numbers as little-endian ones, and back.",
        shape=ops.same_shape,
        ref=lambda x: x.byteswap(),
        grad=ops.NotDifferentiable("integers have no gradient"),
        loops=ops.CFunction(swab, "x, out, x.nbytes"),
        samples=lambda: [ops.Sample((np.arange(300, dtype=np.uint16).reshape(3, 100),))],
        onnx=f"{DOMAIN}:SwapBytes",
    )


OPS = {
    "softcap": register_softcap,
    "distances": register_distances,
    "row_median": register_row_median,
    "swap_bytes": register_swap_bytes,
}


def register_ops() -> list[str]:
    """Register the ops of this file; on Windows, whose libc has no swab, three of them."""
    names = [n for n in OPS if n != "swap_bytes" or sys.platform != "win32"]
    for name in names:
        OPS[name]()
    return names


# -- how they are used ---------------------------------------------------------------------


def model() -> onnx.ModelProto:
    """median(softcap(distances(x, y))) in ONNX, by the operators of `my.domain`."""
    node = helper.make_node
    nodes = [
        node("Distances", ["x", "y"], ["d"], domain=DOMAIN),
        node("SoftCap", ["d"], ["c"], domain=DOMAIN, cap=4.0),
        node("RowMedian", ["c"], ["m"], domain=DOMAIN),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "custom",
        [info("x", TensorProto.FLOAT, ["N", 3]), info("y", TensorProto.FLOAT, [5, 3])],
        [info("m", TensorProto.FLOAT, ["N"])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets)


def main() -> None:
    for name in register_ops():
        print(f"{name}: {len(ops.check(name))} comparisons agree")

    x, y = random(4, 3), random(5, 3, seed=1)
    exe = tessel.compile(model())
    print("from ONNX:  ", exe(x, y))

    F = tessel.native.functional

    def loss(x, y):
        return F.row_median(F.softcap(F.distances(x, y), cap=4.0)).sum()

    value, gradient = tessel.jit(tessel.value_and_grad(loss))(x, y)
    print("from Python:", value, "with a gradient of", gradient.shape)


if __name__ == "__main__":
    main()
