"""Reads whose place is data: gather, gather_elements, gather_nd."""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.bounds import assume_equal_shapes
from ...ir.limits import check_values, index_limit
from ...ir.op import Attr, Pull, register
from ...ir.types import I32, I64, normalize_axis
from ..common import array, case, floats, ints

INDICES = {I32, I64}


def wrapped(index: s.Expr, size: int) -> s.Expr:
    """An index read from data: negative ones count from the end; always inside memory."""
    index = s.cast(index, I64)
    index = s.select(index < 0, index + size, index)
    return s.minimum(s.maximum(index, 0), size - 1)


def read(x, *index):
    """x at an index read from data. Nothing is read where there is nothing, as in a branch that is
    not taken then."""
    return s.const(0, x.dtype) if 0 in x.shape else x[index]


def wrap(indices: np.ndarray, size: int) -> np.ndarray:
    """The same for numpy. Raises InputError for those out of range."""
    indices = np.asarray(indices).astype(np.int64)
    check_values(indices, -size, size)
    return np.where(indices < 0, indices + size, indices)


def add_rows(dy, indices, axis: int, size):
    """The adjoint of `gather`: out[…, indices[j], …] += dy[…, j, …].

    dy: [*pre, *indices.shape, *post]; result: [*pre, size, *post].
    """
    b, n = dy.b, indices.rank
    pre, post = dy.shape[:axis], dy.shape[axis + n :]
    order = (*range(axis, axis + n), *range(axis), *range(axis + n, dy.rank))
    updates = dy.transpose(order)
    zeros = b.constant(np.zeros((), dy.dtype.numpy)).expand((size, *pre, *post))
    total = b.scatter_nd(zeros, indices.reshape(*indices.shape, 1), updates, reduction="add")
    return total.transpose(*range(1, axis + 1), 0, *range(axis + 1, total.rank))


def column_limits(operand: int, sizes):
    """Limits of the places that the last axis of an operand holds, in axes of these sizes."""
    if len(sizes) == 1:
        return [index_limit(operand, sizes[0])]
    return [index_limit(operand, d, k) for k, d in enumerate(sizes)]


def _gather(out, x, indices, *, axis):
    axis, n = normalize_axis(axis, len(x.shape)), len(indices.shape)

    def at(*i):
        where = wrapped(indices[i[axis : axis + n]], x.shape[axis])
        return read(x, *i[:axis], where, *i[axis + n :])

    return at


def gather_shape(x, indices, *, axis):
    axis = normalize_axis(axis, x.rank)
    return (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def gather_grad(c, dy):
    x, indices = c.inputs
    axis = normalize_axis(c.attrs["axis"], x.rank)
    return [add_rows(dy, indices, axis, x.shape[axis]), None]


register(
    "gather",
    "x: T, indices: I -> T",
    "Slices of x at `indices` on `axis`; negative indices count from the end.",
    attrs={"axis": Attr("int", 0)},
    shape=gather_shape,
    ref=lambda x, indices, *, axis: np.asarray(np.take(x, wrap(indices, x.shape[axis]), axis)),
    grad=gather_grad,
    loops=Pull(_gather),
    limits=lambda x, indices, *, axis: [index_limit(1, x.shape[axis])],
    samples=lambda: [
        case(floats((5, 3)), array([[0, 4], [-1, 2]], "i64"), axis=0),
        case(floats((2, 5, 3)), array([1, 1, -5], "i32"), axis=1),
        case(floats((2, 5)), array(3, "i64"), axis=-1),
        case(ints((4, 2)), array([[2]], "i64"), axis=0),
        case(floats((4, 2), dtype="f16"), np.zeros((0,), np.int64), axis=0),
    ],
    group="move",
    T="any",
    I=INDICES,
)


def gather_elements_shape(x, indices, *, axis):
    normalize_axis(axis, x.rank)
    if indices.rank != x.rank:
        raise TypeMismatch(
            "indices must have the rank of the data", expected=x.rank, received=indices
        )
    check_beside("gather_elements", x, indices, axis)
    return indices.shape


def check_beside(op: str, x, indices, axis: int) -> None:
    """Raise TypeMismatch where indices leave the data on an axis that they do not index."""
    axis = normalize_axis(axis, x.rank)
    for d, (n, size) in enumerate(zip(indices.shape, x.shape)):
        if d != axis and isinstance(n, int) and isinstance(size, int) and n > size:
            raise TypeMismatch(
                f"{op}: there are more indices than data on axis {d}",
                expected=f"at most {size}",
                received=f"indices {indices} of data {x}",
            )


def gather_elements_ref(x, indices, *, axis):
    axis = axis % x.ndim
    at = list(np.indices(indices.shape, sparse=True))
    at[axis] = wrap(indices, x.shape[axis])
    return x[tuple(at)]


def _gather_elements(out, x, indices, *, axis):
    axis = normalize_axis(axis, len(x.shape))
    size = x.shape[axis]
    return lambda *i: read(x, *i[:axis], wrapped(indices[i], size), *i[axis + 1 :])


def gather_elements_grad(c, dy):
    x, indices = c.inputs
    zeros = c.b.constant(np.zeros((), x.dtype.numpy)).expand(x.shape)
    return [
        c.b.scatter_elements(zeros, indices, dy, axis=c.attrs["axis"], reduction="add"),
        None,
    ]


register(
    "gather_elements",
    "x: T, indices: I -> T",
    "out[i, j, …] = x[indices[i, j, …], j, …] for axis 0, and so on.",
    attrs={"axis": Attr("int", 0)},
    shape=gather_elements_shape,
    ref=gather_elements_ref,
    grad=gather_elements_grad,
    loops=Pull(_gather_elements),
    limits=lambda x, indices, *, axis: [index_limit(1, x.shape[axis])],
    samples=lambda: [
        case(floats((3, 4)), array([[0, -1, 2, 1], [1, 1, 0, 2]], "i64"), axis=0),
        case(floats((2, 3)), array([[0, -1], [2, 2]], "i32"), axis=-1),
        case(ints((4,)), array([3, 3, 0], "i64"), axis=0),
    ],
    group="move",
    T="any",
    I=INDICES,
)


def gather_nd_shape(x, indices, *, batch_dims):
    depth = indices.shape[-1] if indices.rank else None
    if not isinstance(depth, int) or not 0 <= batch_dims < indices.rank:
        raise TypeMismatch(
            "gather_nd needs indices with a static last axis, longer than batch_dims",
            received=f"{indices}, batch_dims={batch_dims}",
        )
    if batch_dims + depth > x.rank:
        raise TypeMismatch(
            "gather_nd indexes more axes than there are",
            expected=f"at most {x.rank - batch_dims} indices",
            received=depth,
        )
    if not assume_equal_shapes(x.shape[:batch_dims], indices.shape[:batch_dims]):
        raise TypeMismatch(
            "the batches of gather_nd differ",
            expected=f"indices [{','.join(map(str, x.shape[:batch_dims]))},…]",
            received=indices,
        )
    return (*indices.shape[:-1], *x.shape[batch_dims + depth :])


def gather_nd_ref(x, indices, *, batch_dims):
    depth = indices.shape[-1]
    lead = np.indices(indices.shape[:-1], sparse=True)[:batch_dims]
    index = [wrap(indices[..., k], x.shape[batch_dims + k]) for k in range(depth)]
    return np.asarray(x[(*lead, *index)])


def _gather_nd(out, x, indices, *, batch_dims):
    n, depth = len(indices.shape) - 1, indices.shape[-1]

    def at(*i):
        index = [wrapped(indices[(*i[:n], k)], x.shape[batch_dims + k]) for k in range(depth)]
        return read(x, *i[:batch_dims], *index, *i[n:])

    return at


def gather_nd_limits(x, indices, *, batch_dims):
    return column_limits(1, x.shape[batch_dims : batch_dims + indices.shape[-1]])


def full_indices(b, indices, batch_dims: int):
    """`indices` with the batch's own positions in front, so that batch_dims becomes 0."""
    if batch_dims == 0:
        return indices
    shape = (*indices.shape[:-1], 1)
    batch = [b.iota(shape=shape, axis=d, dtype=indices.dtype) for d in range(batch_dims)]
    return b.concat(*batch, indices, axis=-1)


def gather_nd_grad(c, dy):
    x, indices = c.inputs
    zeros = c.b.constant(np.zeros((), x.dtype.numpy)).expand(x.shape)
    indices = full_indices(c.b, indices, c.attrs["batch_dims"])
    return [c.b.scatter_nd(zeros, indices, dy, reduction="add"), None]


register(
    "gather_nd",
    "x: T, indices: I -> T",
    "The last axis of `indices` holds a place in x, after `batch_dims` shared axes.",
    attrs={"batch_dims": Attr("int", 0)},
    shape=gather_nd_shape,
    ref=gather_nd_ref,
    grad=gather_nd_grad,
    loops=Pull(_gather_nd),
    limits=gather_nd_limits,
    samples=lambda: [
        case(floats((3, 4)), array([[0, 1], [2, -1]], "i64")),
        case(floats((3, 4)), array([[1], [-1], [1]], "i64")),
        case(floats((2, 3, 4)), array([[1], [-3]], "i64"), batch_dims=1),
        case(ints((2, 3, 2)), array([[[0], [2]], [[1], [1]]], "i32"), batch_dims=1),
    ],
    group="move",
    T="any",
    I=INDICES,
)
