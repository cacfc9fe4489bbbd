"""(domain, op_type) → what reads the node, for all opset versions.

An entry is a function of a `Call`; it appends ops with `c.b` and returns the results. Regular
operators are one line of a family's table, irregular ones short functions beneath it.
"""

from . import (
    control,
    loops,
    scans,
    table_contract,
    table_data,
    table_elementwise,
    table_experimental,
    table_microsoft,
    table_ml,
    table_move,
    table_ngram,
    table_norm,
    table_quant,
    table_random,
    table_recurrent,
    table_reduce,
    table_resize,
    table_sample,
    table_sequence,
    table_shape,
    table_signal,
    table_text,
    table_training,
    table_window,
)

TABLE = {
    ("", name): entry
    for table in (
        table_elementwise.TABLE,
        table_reduce.TABLE,
        table_shape.TABLE,
        table_move.TABLE,
        table_contract.TABLE,
        table_window.TABLE,
        table_norm.TABLE,
        table_recurrent.TABLE,
        table_quant.TABLE,
        table_random.TABLE,
        table_resize.TABLE,
        table_data.TABLE,
        table_sample.TABLE,
        table_signal.TABLE,
        table_sequence.TABLE,
        {"If": control.if_, "Loop": loops.loop, "Scan": scans.scan},
        table_text.TABLE,
        table_ngram.TABLE,
    )
    for name, entry in table.items()
}
TABLE |= {("ai.onnx.ml", name): entry for name, entry in table_ml.TABLE.items()}
TABLE |= {("com.microsoft", name): entry for name, entry in table_microsoft.TABLE.items()}
TRAINING = "ai.onnx.preview.training"
TABLE |= {(TRAINING, name): entry for name, entry in table_training.TABLE.items()}
# ONNX's own domain, where the standard of the model's opset has no such operator.
BEYOND = table_experimental.TABLE
LAYOUTS = table_microsoft.LAYOUTS
