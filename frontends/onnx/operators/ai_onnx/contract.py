"""Contractions: matrix products, Gemm, Einsum, and attention."""

import math

from .....compiler.ir.types import I32, U32
from ...read.call import Call
from ...read.functions import inline_standard


def matmul(c: Call):
    return c.b.emit("matmul", c.x(0), c.x(1))


def gemm(c: Call):
    """alpha · a' b' + beta · c; before opset 7 c broadcasts only if it says so."""
    c.ignore("broadcast")
    return c.b.emit(
        "gemm",
        c.x(0),
        c.x(1),
        c[2],
        alpha=c.attr("alpha", 1.0),
        beta=c.attr("beta", 1.0),
        trans_a=bool(c.attr("transA", 0)),
        trans_b=bool(c.attr("transB", 0)),
    )


def einsum(c: Call):
    """Sums of 8 and 16 bits are kept in 32 bits, and wrap at the end."""
    tensors, dtype = c.tensors, c.x(0).dtype
    if dtype.is_int and dtype.bits < 32:
        tensors = [t.cast(I32 if dtype.kind == "i" else U32) for t in tensors]
    return c.b.emit("einsum", *tensors, equation=c.attr("equation")).cast(dtype)


def attention(c: Call):
    """4-D attention of as many key as query heads is ours; else ONNX's own definition.

    So are masks: in ONNX a query that may see no key gives 0, in ours NaN.
    """
    import onnx

    plain = (
        all(c[i] is None for i in range(3, 7))
        and all(c.x(i).rank == 4 for i in range(3))
        and c.x(0).shape[1] == c.x(1).shape[1]
        and not any(c.wants(i) for i in (1, 2, 3))
        and not c.attr("softcap", 0.0)
        and not set(c.attrs) - {"scale", "is_causal", "kv_num_heads", "q_num_heads", "softcap"}
    )
    if not plain:
        if c[6] is not None:
            keys = c.x(1).shape[2 if c.x(1).rank == 4 else 1]
            c.inputs[6] = c.within(c.x(6), 0, keys + 1, "a number of keys")
        return inline_standard(c, onnx.defs.get_schema(c.op_type, c.version, c.domain))
    c.ignore("kv_num_heads", "q_num_heads")
    scale = c.attr("scale", 1 / math.sqrt(c.x(0).shape[-1]))
    return c.b.emit(
        "attention", *c.tensors[:3], scale=scale, is_causal=bool(c.attr("is_causal", 0))
    )


def rotary_embedding(c: Call):
    """As the standard defines it, of positions that the tables have."""
    import onnx

    if c[3] is not None:
        c.inputs[3] = c.within(c.x(3), 0, c.x(1).shape[0], "a position")
    return inline_standard(c, onnx.defs.get_schema(c.op_type, c.version, c.domain))


def det(c: Call):
    return c.b.emit("det", c.x(0))


TABLE = {
    "MatMul": matmul,
    "Gemm": gemm,
    "Einsum": einsum,
    "Attention": attention,
    "RotaryEmbedding": rotary_embedding,
    "Det": det,
}
