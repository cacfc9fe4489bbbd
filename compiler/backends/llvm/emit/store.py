"""What is stored, by itself or combined with what is there."""

import llvmlite.ir as ir

from ....expr import expr as s
from ....kernels.kernel import Store
from .emitter import Emitter
from .scalar import PRIMITIVE, emit_cast


def emit_store(e: Emitter, st: Store, inside: ir.Value | None = None) -> None:
    """`inside`: the lanes that store, also where all of them store to one place."""
    value = e.emit(st.value)
    if e.vector_axis is not None and e.vector_axis in (st.index[0].free | st.value.free):
        value = e.vector(st.value)
    if st.mode != "set":
        old = e.emit(s.make("load", st.index, st.buffer, st.buffer.dtype))
        e.scopes[-1].clear()
        value = _combine(e, st, old, value)
    e.store(st.buffer, st.index[0], value, inside)


def _combine(e: Emitter, store: Store, old: ir.Value, value: ir.Value) -> ir.Value:
    dtype, wide = store.buffer.dtype, store.buffer.dtype.compute
    old, value = emit_cast(e.b, old, dtype, wide), emit_cast(e.b, value, dtype, wide)
    result = PRIMITIVE[store.mode](e.b, wide, old, value)
    return emit_cast(e.b, result, wide, dtype)
