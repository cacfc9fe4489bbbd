"""Derivatives beyond `grad`: products with Jacobians, whole Jacobians, and checkpoints.

    y, pull = vjp(f, x)             pull(dy) = dy · J
    y, dy = jvp(f, (x,), (dx,))     J · dx
    jacobian(f)(x), hessian(f)(x)   J itself, one row at a time
    checkpoint(f)(x)                f, computed again for its gradient, so that it needs no memory

A product J · dx is the gradient of the product u · J by u, which is linear in it: what depends on
u alone is never computed. So every op that has a gradient has both.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...compiler.arguments import require_function
from ...compiler.autodiff.gradients import gradients, zeros_like
from ...compiler.errors import TypeMismatch
from ...compiler.ir.builder import Builder, Tensor
from ...compiler.ir.graph import Graph, Value
from ...compiler.ir.types import TensorType
from . import tree
from .regions import close, cut
from .tracing import Tracer, find_tracer, source_line
from .transforms import Compile, Jitted, grad


def vjp(f: Callable, *args: Any, compile: Compile | None = None) -> tuple[Any, Callable]:
    """(f(*args), function from the gradient of the result to a tuple of the arguments').

    Gradients are trees like the result and the arguments; those of integers are zeros.
    """
    require_function("vjp", f)
    b = find_tracer(args)
    if b is None:
        value = Jitted(f, compile)(*args)
        pulled = Jitted(lambda args, dy: vjp(f, *args)[1](dy), compile)
        return value, lambda dy: pulled(args, dy)
    xs, structure = _fresh(b, args)
    y = f(*tree.unflatten(structure, xs))

    def pull(dy: Any) -> Any:
        return tree.unflatten(structure, _pulled(b, f, y, xs, dy))

    return y, pull


def jvp(
    f: Callable, primals: Sequence, tangents: Sequence, *, compile: Compile | None = None
) -> tuple[Any, Any]:
    """(f(*primals), the change of it where the arguments change by `tangents`): forward mode."""
    require_function("jvp", f)
    primals, tangents = tuple(primals), tuple(tangents)
    b = find_tracer(primals, tangents)
    if b is None:
        return Jitted(lambda p, t: jvp(f, p, t), compile)(primals, tangents)
    xs, structure = _fresh(b, primals)
    changes, given = tree.flatten(tangents)
    if given != structure:
        raise TypeMismatch(
            "tangents are trees like the arguments", expected=structure, received=given
        )
    y = f(*tree.unflatten(structure, xs))
    ys, result = _results(b, f, y)
    us = [b.emit("identity", b.array(zeros_like(b, v))) for v in ys]
    floats = [(x, b.like(t, x)) for x, t in zip(xs, changes) if x.dtype.is_float]
    ds = gradients(b, ys, [x for x, _ in floats], us)
    pairs = [(Tensor(b, d), t) for d, (_, t) in zip(ds, floats) if d is not None]
    found = gradients(b, [d for d, _ in pairs], us, [t for _, t in pairs]) if pairs else us
    out = [b.array(zeros_like(b, v) if d is None else d) for v, d in zip(ys, found)]
    return y, tree.unflatten(result, out)


def jacobian(
    f: Callable, argnums: int | Sequence[int] = 0, *, compile: Compile | None = None
) -> Callable:
    """A function that gives d f / d argument: for a result [M…] and an argument [N…], [M…,N…].

    A tree for a result that is one, of trees like the argument; a tuple of them for several
    `argnums`. The function runs once; its gradient runs for each element of the result.
    """
    require_function("jacobian", f)

    def rows(*args: Any, **kwargs: Any) -> Any:
        b = find_tracer(args, kwargs)
        if b is None:
            return compiled(*args, **kwargs)
        nums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        parts = [_fresh(b, args[i]) for i in nums]
        given = list(args)
        for i, (xs, structure) in zip(nums, parts):
            given[i] = tree.unflatten(structure, xs)
        ys, result = _results(b, f, f(*given, **kwargs))
        leaves = [x for xs, _ in parts for x in xs]
        trees = []
        for y in ys:
            found = iter(_jacobian(b, y, leaves))
            own = [tree.unflatten(s, [next(found) for _ in xs]) for xs, s in parts]
            trees.append(own[0] if isinstance(argnums, int) else tuple(own))
        return tree.unflatten(result, trees)

    functools.update_wrapper(rows, f)
    compiled = Jitted(rows, compile, flags=True)
    return rows


def hessian(f: Callable, argnums: int = 0, *, compile: Compile | None = None) -> Callable:
    """A function that gives the second derivatives of `f`, which returns a scalar: [N…,N…]."""
    return jacobian(grad(f, argnums), argnums, compile=compile)


def checkpoint(f: Callable) -> Callable:
    """`f`, whose intermediate values are not kept for the gradient, but computed again.

    Memory for time: what `f` computes on the way is needed only while its own gradient is made
    (Chen et al. 2016). In a traced function; keyword arguments are constants to gradients.
    """
    require_function("checkpoint", f)

    @functools.wraps(f)
    def recomputed(*args: Any, **options: Any) -> Any:
        b = find_tracer(args, options)
        if b is None:
            return f(*args, **options)
        leaves, structure = tree.flatten(args)
        xs = [b.array(x) for x in leaves]
        region = cut(b, "checkpoint", lambda *a: f(*a, **options), [x.type for x in xs], structure)
        operands = [*xs, *(Tensor(b, v) for v in region.captured)]
        ys = b.inline(region.graph, operands)
        backward = _again(region.graph)
        results = b.emit(
            "custom_gradient",
            *ys,
            *operands,
            *operands,
            results=len(ys),
            wrt=len(operands),
            backward=backward,
        )
        results = [results] if isinstance(results, Tensor) else results
        return tree.unflatten(region.structure, results)

    return recomputed


def _again(forward: Graph) -> Graph:
    """(operands…, dys…) -> gradients of the operands, from operands behind a barrier."""
    b = Builder(name="backward")
    xs = [b.input(f"x{i}", v.type) for i, v in enumerate(forward.inputs)]
    dys = [b.input(f"d{i}", v.type) for i, v in enumerate(forward.outputs)]
    again = [b.emit("barrier", x) for x in xs]
    ys = b.inline(forward, again)
    floats = [x for x in again if x.dtype.is_float]
    pairs = [(y, dy) for y, dy in zip(ys, dys) if y.dtype.is_float]
    found = gradients(b, [y for y, _ in pairs], floats, [d for _, d in pairs]) if floats else []
    table = {x.value: d for x, d in zip(floats, found)}
    for i, x in enumerate(again):
        d = table.get(x.value)
        b.output(f"dx{i}", zeros_like(b, x) if d is None else d)
    return b.graph


def _fresh(b: Tracer, args: Any) -> tuple[list, tree.Structure]:
    """The leaves as values of their own: what a function sees of them elsewhere is a constant."""
    leaves, structure = tree.flatten(args)
    return [b.emit("identity", b.array(x)) for x in leaves], structure


def _results(b: Tracer, f: Callable, y: Any) -> tuple[list, tree.Structure]:
    leaves, structure = tree.flatten(y)
    ys = [b.array(v) for v in leaves]
    for v in ys:
        if not v.dtype.is_float:
            raise TypeMismatch(
                "only float results have derivatives", where=source_line(f), received=v.type
            )
    return ys, structure


def _pulled(b: Tracer, f: Callable, y: Any, xs: list, dy: Any) -> list:
    ys, structure = _results(b, f, y)
    seeds, given = tree.flatten(dy)
    if given != structure:
        raise TypeMismatch(
            "the gradient is a tree like the result", expected=structure, received=given
        )
    seeds = [b.like(d, v) for d, v in zip(seeds, ys)]
    floats = [x for x in xs if x.dtype.is_float]
    found = iter(gradients(b, ys, floats, seeds))
    ds = [next(found) if x.dtype.is_float else None for x in xs]
    return [b.array(zeros_like(b, x) if d is None else d) for x, d in zip(xs, ds)]


def _jacobian(b: Tracer, y: Any, xs: list) -> list:
    """d y / d x for each x: a scan over the rows of the identity, whose body is the gradient."""
    if not all(isinstance(d, int) for d in y.shape):
        raise TypeMismatch("a Jacobian is of a result whose sizes are known", received=y.type)
    count = math.prod(y.shape)
    floats = [x for x in xs if x.dtype.is_float]
    seed = Value(b._unique("seed"), y.type)
    y = b.emit("identity", y)  # nodes behind it are the gradient's
    marker, constants = y.value.node, dict(b._constants)
    found = gradients(b, [y], floats, [seed])
    used = [x for x, d in zip(floats, found) if d is not None]
    at = b.graph.nodes.index(marker) + 1
    nodes, b.graph.nodes = b.graph.nodes[at:], b.graph.nodes[:at]
    b._constants = constants
    table = {}
    if used:
        outputs = [d for d in found if d is not None]
        body, captured = close("row", [seed], outputs, nodes)
        eye = b.constant(np.eye(count, dtype=y.dtype.numpy).reshape(count, *y.shape))
        rows = b.emit("scan", eye, *captured, body=body, states=0, scans=1)
        rows = [rows] if isinstance(rows, Tensor) else rows
        table = {x.value: r.reshape((*y.shape, *x.shape)) for x, r in zip(used, rows, strict=True)}
    nothing = lambda x: zeros_like(b, TensorType(x.dtype, (*y.shape, *x.shape)))
    return [b.array(table[x.value] if x.value in table else nothing(x)) for x in xs]


__all__ = ["checkpoint", "hessian", "jacobian", "jvp", "vjp"]
