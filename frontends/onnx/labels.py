"""Class labels of ai.onnx.ml's classifiers: ints, or strings, which live in Python."""

import numpy as np

from .call import Call


def class_labels(c: Call, ints: str, strings: str = "classlabels_strings") -> tuple:
    """The labels of a classifier: ints or strings. Raises UnsupportedError without any."""
    labels = c.attr(ints, None) or c.attr(strings, None)
    c.ignore(ints, strings)
    if not labels:
        raise c.unsupported(f"a {c.op_type} without class labels", expected=f"{ints} or {strings}")
    return tuple(v.decode() if isinstance(v, bytes) else v for v in labels)


def labelled(b, chosen, labels: tuple):
    """The label of each class number of `chosen`."""
    if isinstance(labels[0], str):
        return b.lookup(chosen, labels=labels)
    if labels == tuple(range(len(labels))):
        return chosen
    return b.gather(b.constant(np.asarray(labels, np.int64)), chosen, axis=0)
