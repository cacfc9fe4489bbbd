"""The com.microsoft domain: what ONNX Runtime's tools leave in files, and what they put into them
that tessel refuses."""

from ...read.call import Call
from . import attention, blocks, cache, experts, matmul, norm, quant, states, tensor, weights


def refused(why: str, fix: str):
    def entry(c: Call):
        raise c.unsupported(f"{c.op_type} {why}", fix=fix)

    return entry


_SEARCH = refused(
    "runs whole models in a loop that chooses words",
    "export the decoder by itself and call it from your own loop",
)
_RAGGED = refused(
    "packs sequences of several lengths into one, by counts known at run time only",
    "export with padding, as Attention or MultiHeadAttention",
)
TABLE = {
    **matmul.TABLE,
    **norm.TABLE,
    **attention.TABLE,
    **cache.TABLE,
    **quant.TABLE,
    **weights.TABLE,
    **blocks.TABLE,
    **tensor.TABLE,
    **experts.TABLE,
    **states.TABLE,
    "BeamSearch": _SEARCH,
    "WhisperBeamSearch": _SEARCH,
    "GreedySearch": _SEARCH,
    "Sampling": _SEARCH,
    "PackedAttention": _RAGGED,
    "PackedMultiHeadAttention": _RAGGED,
    "RemovePadding": _RAGGED,
    "RestorePadding": _RAGGED,
    "PagedAttention": _RAGGED,
}

# Domains of one machine's layouts: what may be done instead.
LAYOUTS = {
    "com.microsoft.nchwc": "this file is for the kind of machine that wrote it: its weights lie in "
    "blocks as wide as that machine's vectors. Optimise the model with ORT_ENABLE_EXTENDED instead",
    "com.ms.internal.nhwc": "this file was written for one execution provider. Optimise the model "
    "for the CPUExecutionProvider instead",
}
