"""Keras' core functions of traced tensors: conversions, control flow, places written to."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ....compiler.errors import UnsupportedError
from ...native import regions
from ...native.tracing import Array, user_line
from ..functions import indexing, movement
from ..functions.traced import TracedArray, cast, emit, find, joined, lift
from .specs import compute_output_spec


def convert_to_tensor(x: Any, dtype: Any = None, sparse: Any = None, ragged: Any = None) -> Any:
    if dtype is not None:
        from keras.src.backend.common.variables import standardize_dtype

        dtype = standardize_dtype(dtype)
    elif isinstance(x, (list, tuple)):
        return movement.stack([lift(find(x), e) for e in joined(*x)])
    return lift(find(x), x, dtype)


def cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """Both branches are computed, and the variables that they assign: `pred` chooses.

    Where neither assigns any, they are regions, of which one runs.
    """
    from keras.src import tree
    from keras.src.backend.common.stateless_scope import get_stateless_scope

    pred = cast(lift(find(pred), pred), "bool").reshape(())
    scope = get_stateless_scope()
    before = dict(scope.state_mapping) if scope is not None else {}
    results, after = [], []
    for branch in (true_fn, false_fn):
        results.append(branch())
        if scope is not None:
            after.append(dict(scope.state_mapping))
            scope.state_mapping.clear()
            scope.state_mapping.update(before)
    if scope is not None:
        left, right = after
        for key in left.keys() | right.keys():
            a, b = left.get(key, before.get(key)), right.get(key, before.get(key))
            if a is None or b is None:
                raise UnsupportedError(
                    "a variable is assigned in one branch of cond, and unknown to the step",
                    where=user_line(),
                    fix="create it in build() or __init__",
                )
            scope.state_mapping[key] = a if a is b else _chosen(pred, a, b)
    return tree.map_structure(functools.partial(_chosen, pred), *results)


def _chosen(pred: TracedArray, a: Any, b: Any) -> Any:
    if a is None or a is b:
        return a
    return movement.where(pred, a, b)


def switch(index: Any, branches: Any, *operands: Any) -> Any:
    result = branches[-1](*operands)
    for i in reversed(range(len(branches) - 1)):
        here = lift(find(index), index) <= i
        result = cond(here, lambda i=i: branches[i](*operands), lambda r=result: r)
    return result


def _structured(like: TracedArray, values: Any) -> tuple[list[Array], Any]:
    from keras.src import tree

    return [lift(like, v).array for v in tree.flatten(values)], values


def _packed(structure: Any, leaves: Any) -> Any:
    from keras.src import tree

    return tree.pack_sequence_as(structure, [TracedArray(x) for x in leaves])


def scan(
    f: Callable,
    init: Any,
    xs: Any = None,
    length: Any = None,
    reverse: bool = False,
    unroll: Any = 1,
) -> Any:
    """jax.lax.scan's meaning: one region, which runs once for each element."""
    from keras.src import tree

    if not callable(f):
        raise TypeError(f"`f` should be a callable. Received: f={f}")
    if xs is None and length is None:
        raise ValueError("Got no `xs` to scan over and `length` not provided.")
    like = find(init, xs)
    states, _ = _structured(like, init)
    arrays = [lift(like, x) for x in tree.flatten(xs)] if xs is not None else []
    counted = not arrays
    arrays = arrays or [lift(like, np.arange(int(length)))]
    if reverse:
        arrays = [movement.flip(x, 0) for x in arrays]
    seen: list[Any] = []

    def body(carry: list, x: list) -> Any:
        packed = None if counted else _packed(xs, x)
        new, y = f(_packed(init, carry), packed)
        seen[:] = [y]
        leaves = [lift(like, v, s.dtype.numpy).array for v, s in zip(tree.flatten(new), states)]
        return leaves, [] if y is None else [lift(like, v).array for v in tree.flatten(y)]

    carry, ys = regions.scan(body, states, [x.array for x in arrays])
    y = _packed(seen[0], ys) if seen[0] is not None else None
    if reverse and y is not None:
        y = tree.map_structure(lambda v: movement.flip(v, 0), y)
    return _packed(init, carry), y


def map_(f: Callable, xs: Any) -> Any:
    return scan(lambda _, x: ((), f(x)), (), xs)[1]


def vectorized_map(function: Callable, elements: Any) -> Any:
    return map_(function, elements)


def while_loop(
    cond: Callable, body: Callable, loop_vars: Any, maximum_iterations: Any = None
) -> Any:
    from keras.src import tree

    several = isinstance(loop_vars, (tuple, list))
    state = tuple(loop_vars) if several else (loop_vars,)
    like = find(state)
    arrays, _ = _structured(like, state)
    count = lift(like, np.zeros((), np.int64)).array

    def test(s: list) -> Array:
        go = lift(like, cond(*_packed(state, s[1:]))).array
        if maximum_iterations is None:
            return go
        return like.b.emit("and", go, s[0] < int(maximum_iterations))

    def turn(s: list) -> list:
        new = body(*_packed(state, s[1:]))
        new = tuple(new) if isinstance(new, (tuple, list)) else (new,)
        leaves = [lift(like, v, a.dtype.numpy).array for v, a in zip(tree.flatten(new), arrays)]
        return [s[0] + 1, *leaves]

    result = _packed(state, regions.while_loop(test, turn, [count, *arrays])[1:])
    return result if several else result[0]


def fori_loop(lower: Any, upper: Any, body_fun: Callable, init_val: Any) -> Any:
    if find(lower, upper) is not None:
        return while_loop(
            lambda i, _: i < upper, lambda i, v: (i + 1, body_fun(i, v)), (lower, init_val)
        )[1]
    for i in range(int(lower), int(upper)):
        init_val = body_fun(i, init_val)
    return init_val


def stop_gradient(variable: Any) -> TracedArray:
    return emit("stop_gradient", lift(find(variable), variable))


def unstack(x: TracedArray, num: Any = None, axis: int = 0) -> list[TracedArray]:
    return list(movement.moveaxis(x, axis, 0))


def convert_to_numpy(x: Any) -> Any:
    return np.asarray(x)  # says that there are no numbers yet


def _is_tensor(original: Callable) -> Callable:
    return lambda x: isinstance(x, TracedArray) or original(x)


def _shape(original: Callable) -> Callable:
    return lambda x: tuple(x.shape)


def _compute_output_spec(original: Callable) -> Callable:
    return functools.partial(compute_output_spec, original)


class CustomGradient:
    """`@keras.ops.custom_gradient`: f returns (value, function from gradients to gradients)."""

    def __init__(self, fun: Callable):
        functools.update_wrapper(self, fun)
        self.fun = fun

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from keras.src import tree

        if find(args, kwargs) is None:
            return self.fun(*args, **kwargs)[0]
        like = find(args, kwargs)
        inside = [lift(like, a) if _is_array(a) else a for a in args]
        places = [i for i, a in enumerate(inside) if isinstance(a, TracedArray)]
        shown: list[Any] = []

        def native(*arrays: Array) -> Any:
            given = list(inside)
            for i, a in zip(places, arrays):
                given[i] = TracedArray(a)
            value, backward = self.fun(*given, **kwargs)
            shown[:] = [value]

            def gradients(ds: Any) -> tuple:
                upstream = tree.pack_sequence_as(value, [TracedArray(d) for d in ds])
                many = isinstance(upstream, (tuple, list))
                found = backward(*upstream) if many else backward(upstream)
                found = tuple(found) if isinstance(found, (tuple, list)) else (found,)
                by_place = found if len(found) == len(inside) else None
                chosen = [by_place[i] for i in places] if by_place else list(found)[: len(places)]
                return tuple(
                    None if d is None else lift(like, d, a.dtype.numpy).array
                    for d, a in zip(chosen, arrays)
                )

            return [lift(like, v).array for v in tree.flatten(value)], gradients

        results = regions.custom_gradient(native)(*(inside[i].array for i in places))
        return tree.pack_sequence_as(shown[0], [TracedArray(r) for r in results])


def _is_array(x: Any) -> bool:
    return isinstance(x, (TracedArray, np.ndarray, np.generic, float)) or hasattr(x, "assign_add")


def _custom_gradient(original: Any) -> Any:
    return CustomGradient


def _variable(original: Any) -> Any:
    """The class of variables, as numpy 2 wants `__array__`."""

    def array(self: Any, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.value, dtype=dtype)

    original.__array__ = array
    return original


def _remat(original: Callable) -> Callable:
    return lambda f: f


UNTOUCHED = {"device_scope", "random_seed_dtype", "is_tensor", "compute_output_spec", "remat"}
FUNCTIONS: dict[str, Callable] = {
    "convert_to_tensor": convert_to_tensor,
    "cast": convert_to_tensor,
    "cond": cond,
    "switch": switch,
    "scan": scan,
    "map": map_,
    "vectorized_map": vectorized_map,
    "while_loop": while_loop,
    "fori_loop": fori_loop,
    "stop_gradient": stop_gradient,
    "unstack": unstack,
    "scatter": indexing.scatter,
    "scatter_update": indexing.scatter_update,
    "slice": indexing.slice_,
    "slice_update": indexing.slice_update,
    "convert_to_numpy": convert_to_numpy,
}
REPLACED: dict[str, dict[str, Callable]] = {
    "core": {
        "is_tensor": _is_tensor,
        "shape": _shape,
        "compute_output_spec": _compute_output_spec,
        "custom_gradient": _custom_gradient,
        "remat": _remat,
        "Variable": _variable,
    }
}
