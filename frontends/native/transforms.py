"""`jit`, `grad` and `value_and_grad`: functions of functions, as JAX users expect them.

step = jit(value_and_grad(loss))        # composes: one graph, compiled once per signature
value, d_params = step(params, x, y)
"""

import functools
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...compiler.arguments import require, require_function, require_places
from ...compiler.autodiff.gradients import gradients, zeros_like
from ...compiler.classes import dataclass
from ...compiler.errors import TypeMismatch, UsageError
from ...compiler.ir.builder import Tensor
from ...compiler.ir.graph import Graph
from ...compiler.system.concurrency import give_lock
from ...runtime.compile import compile_graph
from . import tree
from .tracing import Tracer, as_array, find_tracer, source_line, trace_arguments

MAX_COMPILED = 64
Compile = Callable[[Graph], Any]


@dataclass(frozen=True)
class _Compiled:
    exe: Any
    inputs: list[str]
    outputs: list[str]
    structure: tree.Structure


class Jitted:
    """A function that compiles itself for each signature of its arguments.

    The signature is the tree of dtypes and shapes, and the values of static arguments; defaults
    that are not given stay Python values. The last 64 are kept. `trace(*args)` shows the graph.
    """

    def __init__(
        self,
        f: Callable,
        compile: Compile | None = None,
        static_argnums=(),
        static_argnames=(),
        flags: bool = False,
    ):
        require_function("jit", f)
        functools.update_wrapper(self, f)
        self._flags = flags  # Python bools and strings are static by themselves
        self._f, self._compile = f, compile_graph if compile is None else compile
        self._signature = inspect.signature(f)
        names = list(self._signature.parameters)
        require_places("static_argnums", static_argnums)
        nums = (static_argnums,) if isinstance(static_argnums, int) else static_argnums
        words = (static_argnames,) if isinstance(static_argnames, str) else static_argnames
        require("static_argnames", words, Iterable, "the name of a parameter, or several")
        places = [i if -len(names) <= i < len(names) else None for i in nums]
        self._static = {*words, *(f"parameter {nums}" if i is None else names[i] for i in places)}
        if not self._static <= set(names):
            raise UsageError(
                "a static argument is not a parameter",
                where=source_line(f),
                expected=", ".join(names),
                received=", ".join(sorted(self._static - set(names))),
            )
        self._compiled: OrderedDict[tuple, _Compiled] = OrderedDict()
        give_lock(self, "_lock", make=threading.RLock)

    def __call__(self, *args, **kwargs):
        if find_tracer(args, kwargs) is not None:
            return self._f(*args, **kwargs)  # inside another trace: its nodes go there
        bound, static, arrays = self._bind(args, kwargs)
        key = self._key(static, arrays)
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = self._build(bound, static, arrays)
                while len(self._compiled) > MAX_COMPILED:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(key)
            compiled = self._compiled[key]
        results = compiled.exe.run(dict(zip(compiled.inputs, _leaves(arrays))))
        return tree.unflatten(compiled.structure, [results[n] for n in compiled.outputs])

    @property
    def compiled(self) -> int:
        """How many signatures have been compiled and are kept."""
        return len(self._compiled)

    def trace(self, *args, **kwargs) -> Graph:
        """The graph for arguments like these."""
        return self._trace(*self._bind(args, kwargs))[0]

    def _bind(self, args, kwargs):
        """The bound arguments, the static ones, and the trees of arrays by parameter."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise UsageError(str(error), where=source_line(self._f)) from None
        static = {n: v for n, v in bound.arguments.items() if self._is_static(n, v)}
        arrays = {}
        for n, v in bound.arguments.items():
            if n not in static:
                leaves, structure = tree.flatten(v)
                where = [f"argument {p} of {source_line(self._f)}" for p in tree.paths(v, n)]
                arrays[n] = tree.unflatten(structure, map(self._leaf, leaves, where))
        return bound, static, arrays

    def _is_static(self, name: str, value: Any) -> bool:
        return name in self._static or (self._flags and isinstance(value, (bool, str)))

    @staticmethod
    def _leaf(x, where: str) -> np.ndarray:
        if not isinstance(x, (bool, int, float, np.ndarray, np.generic)):
            raise TypeMismatch(
                "an argument is not an array",
                where=where,
                expected="arrays, numbers, or trees of them",
                received=repr(x),
                fix="name it in static_argnames if it is a setting",
            )
        return as_array(x, where)

    def _key(self, static, arrays) -> tuple:
        leaves, structure = tree.flatten(arrays)
        key = (
            structure,
            tuple((x.dtype, x.shape) for x in leaves),
            tuple(sorted((n, type(v).__name__, v) for n, v in static.items())),
        )
        try:
            hash(key)
        except TypeError:
            raise TypeMismatch(
                "a static argument must be hashable",
                where=source_line(self._f),
                received=", ".join(f"{k}={v!r}" for k, v in static.items()),
            ) from None
        return key

    def _trace(self, bound, static, arrays) -> tuple[Graph, tree.Structure]:
        def call(*trees):
            values = {**static, **dict(zip(arrays, trees))}
            again = inspect.BoundArguments(
                self._signature, OrderedDict((n, values[n]) for n in bound.arguments)
            )
            return self._f(*again.args, **again.kwargs)

        functools.update_wrapper(call, self._f)
        return trace_arguments(call, list(arrays), list(arrays.values()))

    def _build(self, bound, static, arrays) -> _Compiled:
        graph, structure = self._trace(bound, static, arrays)
        inputs = [v.name for v in graph.inputs]
        return _Compiled(self._compile(graph), inputs, list(graph.output_names), structure)


def _leaves(trees: Mapping[str, Any]) -> list:
    """The leaves of each argument in the order of the parameters: the graph's inputs."""
    return [leaf for t in trees.values() for leaf in tree.flatten(t)[0]]


def jit(
    f: Callable | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    compile: Compile | None = None,
) -> Callable:
    """`f`, traced and compiled for each signature of its arguments; without it, a decorator.

    Static arguments stay Python values, and each of them is compiled for. `compile` makes what runs
    of a Graph; None: `tessel.compile`, with its defaults.
    """
    if f is None:
        return functools.partial(
            jit, static_argnums=static_argnums, static_argnames=static_argnames, compile=compile
        )
    return Jitted(f, compile, static_argnums, static_argnames)


def value_and_grad(
    f: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    compile: Compile | None = None,
) -> Callable:
    """A function that returns `f`'s value and its gradient with respect to `argnums`.

    The gradient is a tree like the argument, or a tuple of them where `argnums` is one. With
    `has_aux`, `f` returns (loss, anything) and the result is ((loss, anything), gradient).
    Inside a traced function its nodes join that trace; called on arrays it is compiled. Static
    arguments stay Python values then, as in `jit`; so do bools and strings: `training=True`.
    """

    require_function("value_and_grad", f)
    require_places("argnums", argnums)

    def differentiated(*args, **kwargs):
        b = find_tracer(args, kwargs)
        if b is None:
            return compiled(*args, **kwargs)
        return _differentiate(b, f, argnums, has_aux, args, kwargs)

    functools.update_wrapper(differentiated, f)
    compiled = Jitted(differentiated, compile, static_argnums, static_argnames, flags=True)
    return differentiated


def grad(
    f: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    compile: Compile | None = None,
) -> Callable:
    """A function that returns the gradient of `f`, which returns a scalar.

    With `has_aux`, `f` returns (loss, anything) and the result is (gradient, anything). See
    `value_and_grad`. Gradients of gradients: `grad(grad(f))`.
    """
    require_function("grad", f)
    both = value_and_grad(
        f,
        argnums,
        has_aux,
        static_argnums=static_argnums,
        static_argnames=static_argnames,
        compile=compile,
    )

    def gradient(*args, **kwargs):
        value, d = both(*args, **kwargs)
        return (d, value[1]) if has_aux else d

    return functools.update_wrapper(gradient, f)


def _differentiate(b: Tracer, f, argnums, has_aux, args, kwargs):
    args, wrt = list(args), []
    nums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in nums:
        if not -len(args) <= i < len(args):
            raise UsageError(
                f"argnums={argnums}, but there are {len(args)} positional arguments",
                where=source_line(f),
            )
        leaves, structure = tree.flatten(args[i])
        # A value of its own: what the function sees elsewhere of the argument is a constant.
        fresh = [b.emit("identity", _float(b, x, f, i)) for x in leaves]
        args[i] = tree.unflatten(structure, fresh)
        wrt.append((fresh, structure))
    result = f(*args, **kwargs)
    if has_aux and not (isinstance(result, tuple) and len(result) == 2):
        raise TypeMismatch(
            "with has_aux the function returns (loss, anything)",
            where=source_line(f),
            received=type(result).__name__,
        )
    loss = result[0] if has_aux else result
    if not isinstance(loss, (Tensor, bool, int, float, np.ndarray, np.generic)):
        raise TypeMismatch(
            "the differentiated function must return a scalar tensor",
            where=source_line(f),
            received=repr(loss),
            fix="has_aux=True, if it returns (loss, anything)",
        )
    loss = b.array(loss)
    if loss.shape != () or not loss.dtype.is_float:
        raise TypeMismatch(
            "the differentiated function must return a float scalar",
            where=source_line(f),
            expected="f32[]",
            received=loss.type,
            fix="reduce it: .mean() or .sum()",
        )
    leaves = [x for fresh, _ in wrt for x in fresh]
    found = [
        b.array(zeros_like(b, x) if d is None else d)
        for x, d in zip(leaves, gradients(b, [loss], leaves))
    ]
    trees, at = [], 0
    for fresh, structure in wrt:
        trees.append(tree.unflatten(structure, found[at : at + len(fresh)]))
        at += len(fresh)
    return result, trees[0] if isinstance(argnums, int) else tuple(trees)


def _float(b: Tracer, x, f, argnum: int):
    x = b.array(x)
    if not x.dtype.is_float:
        raise TypeMismatch(
            "only float arrays have gradients",
            where=f"argument {argnum} of {source_line(f)}",
            received=x.type,
            fix="cast it, or choose argnums without it",
        )
    return x
