"""Where along an axis the extreme lies: arg_max, arg_min."""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.dims import Sym
from ...ir.op import Attr, NotDifferentiable, Pull, register
from ...ir.types import tensor_type_of
from ..common import array, case, floats, ints
from .reduce import kept_shape, reduced

# -- arg_max, arg_min --------------------------------------------------------------------------


def _arg(combiner):
    """The first (or last) k with x[k] equal to the extreme: two reductions. NaN is the extreme."""

    def rule(out, x, *, axis, keepdims, select_last_index):
        extents, index = reduced(out, x, (axis,), keepdims)
        (n,) = extents

        def at(*i):
            def read(k):
                return s.cast(x[index(i, (k,))], x.dtype.compute)

            extreme = s.reduce(combiner, extents, read)

            def place(k):
                here = s.eq(read(k), extreme)
                if x.dtype.is_float:
                    here = here | s.isnan(read(k))
                return s.select(here, k, -1 if select_last_index else n)

            return s.reduce("max" if select_last_index else "min", extents, place)

        return at

    return rule


def _arg_shape(x, axis, keepdims, select_last_index):
    """Raises TypeMismatch where there are results, and nothing that they could be the place of."""
    shape = kept_shape(x, (axis,), keepdims)
    others = (d for i, d in enumerate(x.shape) if i != axis % x.rank)
    if x.rank and x.shape[axis] == 0 and all(isinstance(d, Sym) or d != 0 for d in others):
        raise TypeMismatch(
            "of no elements none is the largest or smallest",
            expected=f"at least 1 element on axis {axis % x.rank}",
            received=x,
        )
    return shape


def _arg_ref(f):
    def ref(x, *, axis, keepdims, select_last_index):
        x = np.asarray(x)
        if not x.size:
            return np.zeros(_arg_shape(tensor_type_of(x), axis, keepdims, False), np.int64)
        if x.dtype.kind not in "iubf":
            x = x.astype(np.float32)
        if select_last_index:
            at = x.shape[axis] - 1 - f(np.flip(x, axis), axis=axis)
        else:
            at = f(x, axis=axis)
        at = np.asarray(at, np.int64)
        return np.expand_dims(at, axis) if keepdims else at

    return ref


def _arg_samples():
    for last in (False, True):
        for axis in (0, 1, -1):
            yield case(ints((3, 4, 5), 1, 0, 3, "f32"), axis=axis, select_last_index=last)
        yield case(floats((2, 17)), axis=1, keepdims=False, select_last_index=last)
        yield case(ints((3, 4), dtype="i64"), axis=0, select_last_index=last)
        yield case(ints((3, 4), dtype="u8"), axis=0, select_last_index=last)
        nan = array([[1.0, np.nan, 5.0, np.nan], [0.0, -0.0, 0.0, -1.0], [-np.inf] * 4])
        yield case(nan, axis=1, select_last_index=last)
    yield case(floats((3, 5), dtype="f16"), axis=1)
    yield case(floats((3, 5), dtype="bf16"), axis=1)
    yield case(floats((3, 1)), axis=1)
    yield case(floats((0, 3)), axis=1)


for _name, _doc, _ref, _combiner in [
    ("arg_max", "largest", np.argmax, "max"),
    ("arg_min", "smallest", np.argmin, "min"),
]:
    register(
        _name,
        "x: T -> i64",
        f"The index of the {_doc} element along `axis`: of the first one if there are several, "
        "or of the last one with `select_last_index`. NaN counts as it.",
        T="numeric",
        shape=_arg_shape,
        attrs={
            "axis": Attr("int"),
            "keepdims": Attr("bool", True),
            "select_last_index": Attr("bool", False),
        },
        ref=_arg_ref(_ref),
        grad=NotDifferentiable("an index is piecewise constant", zero=True),
        loops=Pull(_arg(_combiner)),
        samples=_arg_samples,
        group="reduce",
    )
