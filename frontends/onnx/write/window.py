"""Contractions, convolutions and pools in ONNX."""

from ....compiler.ir.dims import is_static
from ....compiler.ir.graph import Node
from ....compiler.ops.contraction.conv_transpose import weights_first
from . import rules
from .common import around, need_static, operands, plain, results
from .writer import Writer


def _window(node: Node) -> dict:
    need_static(node, "pads")
    a = node.attrs
    result = {n: list(a[n]) for n in ("strides", "pads", "dilations") if a[n]}
    if "group" in a:
        result["group"] = a["group"]
    return result


def einsum(w: Writer, node: Node):
    """ONNX wants ellipses of one length: missing axes become 1."""
    equation = node.attrs["equation"].replace(" ", "")
    terms = equation.split("->")[0].split(",")
    missing = [
        v.rank - len(t.replace("...", "")) if "..." in t else None
        for v, t in zip(node.inputs, terms)
    ]
    longest = max((m for m in missing if m is not None), default=0)
    inputs = operands(w, node)
    for i, (m, t) in enumerate(zip(missing, terms)):
        if m is not None and m < longest:
            at = t.index("...")
            axes = w.ints(range(at, at + longest - m))
            inputs[i] = w.op("Unsqueeze", [inputs[i], axes])
    w.op("Einsum", inputs, results(w, node), equation=equation)


def conv(op_type: str, weights: int = 1):
    """x is operand 0; `weights` is the position of w."""

    def entry(w: Writer, node: Node):
        if op_type == "Conv" and not node.outputs[0].dtype.is_float:
            w.inline(node, rules.conv_by_products)
            return
        inputs, attrs = operands(w, node), _window(node)
        if not node.attrs["channels_last"]:
            w.op(op_type, inputs, results(w, node), **attrs)
            return
        rank = node.inputs[0].rank
        order = [rank - 1, rank - 2, *range(rank - 2)]
        inputs[weights] = w.op("Transpose", [inputs[weights]], perm=order)
        x, *rest = inputs
        around(w, node, x, rank, lambda t: w.op(op_type, [t, *rest], **attrs))

    return entry


def conv_transpose(w: Writer, node: Node):
    if any(isinstance(p, int) and p < 0 for p in node.attrs["pads"]):
        w.inline(node, rules.conv_transpose_beyond)
        return
    extra = {}
    if any(node.attrs["output_padding"]):
        need_static(node, "output_padding")
        extra = {"output_padding": list(node.attrs["output_padding"])}
    attrs = _window(node) | extra
    if not node.attrs["channels_last"]:
        w.op("ConvTranspose", operands(w, node), results(w, node), **attrs)
        return
    x, weights, *rest = operands(w, node)
    rank = node.inputs[0].rank
    weights = w.op("Transpose", [weights], perm=list(weights_first(rank)))
    around(w, node, x, rank, lambda t: w.op("ConvTranspose", [t, weights, *rest], **attrs))


def pool(op_type: str, **renamed: str):
    def entry(w: Writer, node: Node):
        a = node.attrs
        attrs = _window(node) | {"kernel_shape": list(a["kernel"])}
        attrs |= {onnx_name: plain(a[ours]) for onnx_name, ours in renamed.items()}
        if a["ceil_mode"] and is_static(node.inputs[0].shape):
            attrs["pads"] = _ceil_pads(node)
        elif a["ceil_mode"]:
            attrs["ceil_mode"] = 1

        def emit(x: str, outputs=1):
            if a["ceil_mode"] and attrs.get("count_include_pad"):
                # what ceil_mode adds does not count: pad first, and let no padding count
                rank, before = len(a["kernel"]), a["pads"] or (0,) * 2 * len(a["kernel"])
                both = [0, 0, *before[:rank], 0, 0, *before[rank:]]
                x = w.op("Pad", [x, w.ints(both)])
                attrs["pads"] = [0] * rank + [
                    p - q for p, q in zip(attrs.get("pads", before)[rank:], before[rank:])
                ]
                attrs["count_include_pad"] = 0
            return w.op(op_type, [x], outputs, **attrs)

        (x,) = operands(w, node)
        if a.get("channels_last"):
            around(w, node, x, node.inputs[0].rank, emit)
        else:
            emit(x, results(w, node))

    return entry


def _ceil_pads(node: Node) -> list[int]:
    """ceil_mode as pads at the end: readers of ONNX disagree about windows that start in them."""
    a, shape = node.attrs, node.inputs[0].shape
    rank = len(a["kernel"])
    first = 1 if a.get("channels_last") else 2
    strides, dilations = a["strides"] or (1,) * rank, a["dilations"] or (1,) * rank
    pads = list(a["pads"] or (0,) * 2 * rank)
    for i in range(rank):
        size, out = shape[first + i], node.outputs[0].shape[first + i]
        reach = (out - 1) * strides[i] + (a["kernel"][i] - 1) * dilations[i] + 1
        pads[rank + i] = max(pads[rank + i], reach - size - pads[i])
    return pads


def max_unpool(w: Writer, node: Node):
    """ONNX counts indices in the size that follows from the window, and keeps the last of two."""
    if not rules.is_plain_unpool(node):
        w.inline(node, rules.unpool)
        return
    attrs = _window(node) | {"kernel_shape": list(node.attrs["kernel"])}
    attrs.pop("dilations", None)
    w.op("MaxUnpool", operands(w, node), results(w, node), **attrs)
