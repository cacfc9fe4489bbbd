"""The com.microsoft domain: what ONNX Runtime's tools leave in files."""

from . import (
    table_microsoft_attention,
    table_microsoft_cache,
    table_microsoft_matmul,
    table_microsoft_norm,
)
from .call import Call


def qlinear_add(c: Call):
    return c.b.emit("qlinear_add", *[c[i] for i in range(8)])


TABLE = {
    "QLinearAdd": qlinear_add,
    **table_microsoft_matmul.TABLE,
    **table_microsoft_norm.TABLE,
    **table_microsoft_attention.TABLE,
    **table_microsoft_cache.TABLE,
}
