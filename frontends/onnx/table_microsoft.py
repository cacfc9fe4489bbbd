"""The com.microsoft domain: what ONNX Runtime's tools leave in files."""

from . import (
    table_microsoft_attention,
    table_microsoft_cache,
    table_microsoft_matmul,
    table_microsoft_norm,
    table_microsoft_quant,
    table_microsoft_weights,
)

TABLE = {
    **table_microsoft_matmul.TABLE,
    **table_microsoft_norm.TABLE,
    **table_microsoft_attention.TABLE,
    **table_microsoft_cache.TABLE,
    **table_microsoft_quant.TABLE,
    **table_microsoft_weights.TABLE,
}
