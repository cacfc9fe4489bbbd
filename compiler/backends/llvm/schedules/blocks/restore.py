"""How codes, scales and zero points are found in panels again, where a package has these alone."""

from collections.abc import Iterator
from dataclasses import replace

from .....expr import expr as s
from .....expr.expr import Axis, Buffer, Expr
from .....ir.types import U8
from .....kernels.restore import Blocks, Place, Recipe
from .....kernels.tiling import linear_load
from .form import BlockSum
from .planes import Layout


def recipes(layout: Layout) -> Iterator[tuple[Buffer, Recipe]]:
    """For each array that is read as it is: one load, or codes of an array of bytes."""
    form = layout.form
    codes = Blocks(
        "codes",
        layout.table_bytes,
        form.count,
        form.number,
        form.block,
        layout.block_bytes,
        form.bits,
        tuple((p.bits, p.shift, p.first, p.vectors) for p in layout.planes),
        layout.lanes,
        layout.vectors,
        layout.chunks,
        form.least,
        U8.name,
        0,
        None,
    )
    buffers = list(dict.fromkeys(e.data for e in s.walk(form.code) if e.op == "load"))
    found = _place(form, form.code, (*form.blocks, *form.k))
    if found is not None:
        yield found[0], replace(codes, place=found[1])
    elif len(buffers) == 1 and form.least == 0 and buffers[0].dtype == U8:
        yield buffers[0], codes
    if layout.scale_dtype is not None and len(form.columns) == 1:
        found = _place(form, form.columns[0], form.blocks)
        if found is not None:
            at, dtype = layout.scales_at, layout.scale_dtype.name
            own = replace(codes, part="numbers", at=at, dtype=dtype, least=0, place=found[1])
            yield found[0], own
    if layout.zero_dtype is not None:
        found = _place(form, form.zero, form.blocks)
        if found is not None:
            at, dtype = layout.zeros_at, layout.zero_dtype.name
            yield found[0], replace(codes, part="numbers", at=at, dtype=dtype, place=found[1])


def _place(form: BlockSum, e: Expr, axes: tuple[Axis, ...]) -> tuple[Buffer, Place] | None:
    """What is loaded for each column, and where from, if it is one load at a sum of axes."""
    while e.op == "cast":
        (e,) = e.args
    found, columns = linear_load(e), (*form.outer, form.n)
    if found is None or not set(found[0]) <= {*columns, *axes}:
        return None
    strides, offset = found
    step = strides.get(form.n, 0)
    for axis, number in zip(columns, s.strides_of([a.extent for a in columns])):
        if strides.get(axis, 0) != number * step:
            return None
    shape = (form.count, *(a.extent for a in axes))
    return e.data, Place(shape, (step, *(strides.get(a, 0) for a in axes)), offset)
