"""Which nodes run in Python, and why: what no machine code can do is said openly."""

from .graph import Node
from .op import Control, Expand, Extern
from .types import TensorType, Type

STRINGS = "strings are Python objects: no machine code reads them"


def host_callback_of(node: Node) -> Extern | None:
    """The Python kernel that runs a node, if one does: what its record names, or on strings its
    reference. (A composite that only makes strings is expanded instead.)"""
    loops = node.op.loops
    if isinstance(loops, Extern):
        return loops
    if isinstance(loops, Control) or node.op.name == "constant":
        return None
    values = node.inputs if isinstance(loops, Expand) else (*node.inputs, *node.outputs)
    if any(v is not None and is_text(v.type) for v in values):
        return Extern(node.op.ref, STRINGS)
    return None


def is_text(type: Type) -> bool:
    return isinstance(type, TensorType) and type.dtype.kind == "s"
