"""(domain, op_type) → what reads the node, for all opset versions.

An entry is a function of a `Call`; it appends ops with `c.b` and returns the results. Regular
operators are one line of a family's table, irregular ones short functions beneath it.
"""

from ..read.reader import Operators
from . import experimental, loop, scan
from . import if_ as control
from .ai_onnx import (
    contract,
    data,
    elementwise,
    move,
    ngram,
    norm,
    quant,
    random,
    recurrent,
    reduce,
    resize,
    sample,
    sequence,
    shape,
    signal,
    text,
    training,
    window,
)
from .ai_onnx_ml import ml
from .com_microsoft import table as table_microsoft

TABLE = {
    ("", name): entry
    for table in (
        elementwise.TABLE,
        reduce.TABLE,
        shape.TABLE,
        move.TABLE,
        contract.TABLE,
        window.TABLE,
        norm.TABLE,
        recurrent.TABLE,
        quant.TABLE,
        random.TABLE,
        resize.TABLE,
        data.TABLE,
        sample.TABLE,
        signal.TABLE,
        sequence.TABLE,
        {"If": control.if_, "Loop": loop.loop, "Scan": scan.scan},
        text.TABLE,
        ngram.TABLE,
    )
    for name, entry in table.items()
}
TABLE |= {("ai.onnx.ml", name): entry for name, entry in ml.TABLE.items()}
TABLE |= {("com.microsoft", name): entry for name, entry in table_microsoft.TABLE.items()}
TRAINING = "ai.onnx.preview.training"
TABLE |= {(TRAINING, name): entry for name, entry in training.TABLE.items()}
# ONNX's own domain, where the standard of the model's opset has no such operator.
BEYOND = experimental.TABLE
LAYOUTS = table_microsoft.LAYOUTS

OPERATORS = Operators(TABLE, BEYOND, LAYOUTS)
