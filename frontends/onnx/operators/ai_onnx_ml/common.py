"""What the tables of ai.onnx.ml share: rows of features, class labels."""

import numpy as np

from .....compiler.ir.builder import Tensor
from ...read.call import Call


def rows(x: Tensor) -> Tensor:
    """A vector is one row."""
    return x.reshape(1, *x.shape) if x.rank == 1 else x


def columns(x: Tensor, count: int) -> Tensor:
    """Rows of `count` features; where the model leaves their number open, this is what it is."""
    is_dynamic = x.rank == 2 and not isinstance(x.shape[1], int)
    return x.reshape(x.shape[0], count) if is_dynamic else x


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
