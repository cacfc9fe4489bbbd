"""The numpy backend: interprets a Program's loops. The oracle for the code generators.

Every expression is evaluated on the whole domain at once: an axis is an `arange` along its own
dimension and numpy broadcasts. Nothing here is fast; large domains are cut along their first axis
so that memory stays bounded.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ..analysis.run_checks import new_record, raise_noted
from ..expr import expr as s
from ..expr.expr import Axis, Expr
from ..ir.types import BOOL, DType, TensorType, dtype_of, view_bits
from ..kernels.kernel import Call, HostCallback, Kernel, Program, Ref, Slot, Store, run_order
from ..kernels.machine import has_bytes

LIMIT = 1 << 24  # elements that one evaluation may hold


# -- scalars -------------------------------------------------------------------------------


def _truncdiv(a, b):
    if a.dtype.kind == "u":
        return a // np.where(b == 0, 1, b)
    b = np.where(b == 0, 1, b)
    q = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -q, q).astype(a.dtype)


def _erf(x):
    return np.vectorize(_math_erf, otypes=[np.float64])(x).astype(x.dtype)


def _normal_area(x):
    return np.vectorize(lambda v: _math_erf(v * 0.5**0.5) / 2, otypes=[np.float64])(x).astype(
        x.dtype
    )


def _math_erf(x):
    import math

    return math.erf(x)


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


NUMPY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "truncdiv": _truncdiv, "floordiv": lambda a, b: a // np.where(b == 0, 1, b).astype(b.dtype),
    "mod": lambda a, b: np.mod(a, b if a.dtype.kind == "f" else np.where(b == 0, 1, b)),
    "rem": lambda a, b: np.fmod(a, b if a.dtype.kind == "f" else np.where(b == 0, 1, b)),
    "min": np.minimum, "max": np.maximum, "pow": np.power, "atan2": np.arctan2,
    "copysign": np.copysign, "shl": np.left_shift, "shr": np.right_shift,
    "bitand": np.bitwise_and, "bitor": np.bitwise_or, "bitxor": np.bitwise_xor,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal,
    "and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor, "not": np.logical_not,
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "exp": np.exp, "exp2": np.exp2,
    "expm1": np.expm1, "log": np.log, "log2": np.log2, "log1p": np.log1p, "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x), "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "erf": _erf, "normal_area": _normal_area, "sigmoid": _sigmoid,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc,
    "round": np.rint, "bitnot": np.invert, "isnan": np.isnan, "isinf": np.isinf,
    "select": np.where, "fma": lambda a, b, c: a * b + c,
}  # fmt: skip

_REDUCE = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
    "or": np.logical_or, "and": np.logical_and,
}  # fmt: skip


def cast_array(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Convert as generated code does: float to int truncates and saturates, NaN becomes 0."""
    if dtype_of(x) == dtype:
        return x
    if dtype == BOOL:
        return x != 0
    if dtype_of(x).bits < 8 and dtype_of(x).is_int:  # ml_dtypes converts them to bytes and floats
        x = x.astype(np.int8)
    if dtype_of(x).is_float and dtype.is_int:
        wide = np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
        low, high = _limits(dtype)
        inside = np.clip(np.trunc(wide), float(low), float(np.nextafter(float(high), 0)))
        result = inside.astype(dtype.numpy)
        return np.where(wide >= float(high), dtype.numpy.type(high), result)
    if dtype.is_float and dtype.bits <= 8 and dtype_of(x).bits < 32:
        x = x.astype(np.float32)  # ml_dtypes has few conversions between its narrow types
    if dtype.name == "f8e8m0":  # nor is it right below f32's normal numbers
        x = x.astype(np.float32)
        x = np.where((x > 0) & (x < np.float32(1.5 * 2.0**-127)), np.float32(2.0**-127), x)
    return x.astype(dtype.numpy)


# -- kernels -------------------------------------------------------------------------------


def _limits(dtype: DType) -> tuple:
    """The smallest and the largest value: what max and min over nothing are."""
    if dtype.is_float:
        return -np.inf, np.inf
    if dtype.kind == "u":
        return 0, 2**dtype.bits - 1
    return -(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1


class _Evaluator:
    """Evaluates expressions over a tuple of axes: axis i runs along dimension i."""

    def __init__(
        self, arrays: dict, axes: Sequence[Axis], start: int = 0, stop: int | None = None,
        at: Mapping[Axis, int] = MappingProxyType({}),
    ):  # fmt: skip
        self.arrays, self.axes, self.at = arrays, list(axes), at
        self.range0 = (start, stop)
        self.memo: dict[Expr, np.ndarray] = {}

    def __call__(self, e: Expr) -> np.ndarray:
        if e not in self.memo:
            self.memo[e] = self._eval(e)
        return self.memo[e]

    def _eval(self, e: Expr) -> np.ndarray:
        match e.op:
            case "const":
                return np.asarray(e.data, e.dtype.numpy)
            case "axis" if e.data in self.at:
                return np.asarray(self.at[e.data])
            case "axis":
                position = self.axes.index(e.data)
                values = np.arange(e.data.extent, dtype=np.int64)
                if position == 0:
                    values = values[slice(*self.range0)]
                return values.reshape([-1] + [1] * (len(self.axes) - 1 - position))
            case "load":
                flat = self.arrays[e.data].reshape(-1)
                return flat[self._offset(e)]
            case "cast":
                return cast_array(self(e.args[0]), e.dtype)
            case "bitcast":
                return view_bits(self(e.args[0]), e.dtype)
            case "reduce":
                return self._reduce(e)
        values = [self(a) for a in e.args]
        result = np.asarray(NUMPY[e.op](*values))
        return result if result.dtype == e.dtype.numpy else result.astype(e.dtype.numpy)

    def _offset(self, e: Expr) -> np.ndarray:
        offset = s.flatten(e.args, e.data.shape) if len(e.args) != 1 else e.args[0]
        return self(offset)

    def _reduce(self, e: Expr) -> np.ndarray:
        combiner, axes = e.data
        contracted = self._contract(e)
        if contracted is not None:
            return contracted
        inner = _Evaluator(self.arrays, [*self.axes, *axes], *self.range0, self.at)
        n = len(axes)
        value = inner(e.args[0])
        sizes = [1] * (len(self.axes) + n - value.ndim) + list(value.shape)
        value = value.reshape(sizes)
        full = sizes[: len(self.axes)] + [a.extent for a in axes]
        value = np.broadcast_to(value, full)
        over = tuple(range(len(self.axes), len(self.axes) + n))
        if 0 in full[len(self.axes) :] and combiner in ("max", "min"):
            lowest, highest = _limits(e.dtype)
            value = lowest if combiner == "max" else highest
            return np.full(full[: len(self.axes)], value, e.dtype.numpy)
        result = _REDUCE[combiner].reduce(value, axis=over, dtype=e.dtype.numpy)
        return np.asarray(result)

    def _contract(self, e: Expr) -> np.ndarray | None:
        """sum of a product of two factors over disjoint parts of the axes, by einsum."""
        combiner, axes = e.data
        body = e.args[0]
        if combiner != "sum" or body.op != "mul":
            return None
        order = [*self.axes, *axes]
        inner = _Evaluator(self.arrays, order, *self.range0, self.at)
        letters = [chr(97 + i) if i < 26 else chr(39 + i) for i in range(len(order))]
        operands, subscripts = [], []
        for factor in body.args:
            value = inner(factor)
            value = value.reshape([1] * (len(order) - value.ndim) + list(value.shape))
            keep = [i for i, d in enumerate(value.shape) if d != 1]
            operands.append(value.reshape([value.shape[i] for i in keep]))
            subscripts.append("".join(letters[i] for i in keep))
        used = set("".join(subscripts))
        if any(letters[order.index(a)] not in used for a in axes):
            return None
        out = [letters[i] for i in range(len(self.axes)) if letters[i] in used]
        result = np.einsum(
            f"{','.join(subscripts)}->{''.join(out)}", *operands, optimize=True,
            dtype=e.dtype.numpy, casting="unsafe",
        )  # fmt: skip
        shape = iter(np.shape(result))
        return np.reshape(
            result, [next(shape) if letters[i] in used else 1 for i in range(len(self.axes))]
        )


def evaluate(e: Expr, axes: Sequence[Axis], arrays: dict) -> np.ndarray:
    """The value of an expression over axes, one dimension each (1 where it does not vary).

    `arrays` maps the buffers that it reads to their contents.
    """
    value = _Evaluator(arrays, axes)(e)
    return value.reshape([1] * (len(axes) - value.ndim) + list(value.shape))


def run_kernel(kernel: Kernel, arrays: Sequence[np.ndarray]) -> None:
    """Run a kernel over arrays for `kernel.params`; outputs are written in place."""
    named = dict(zip(kernel.params, arrays, strict=True))
    if kernel.serial and any(_reads(st, kernel.outputs) for st in kernel.stores):
        _run_in_order(kernel, named)
        return
    for store in kernel.stores:
        _run_store(kernel, store, named)


def _run_store(kernel: Kernel, store: Store, arrays: dict) -> None:
    axes = list(kernel.axes)
    extents = [a.extent for a in axes]
    inner = [
        np.prod([a.extent for a in e.data[1]], dtype=float)
        for e in s.walk(store.value)
        if e.op == "reduce" and not _is_product(e)
    ]
    weight = max(inner, default=1.0) * float(np.prod(extents[1:], dtype=float))
    step = max(1, int(LIMIT // max(1.0, weight))) if axes else 1
    first = extents[0] if axes else 1
    for start in range(0, first, step):
        stop = min(first, start + step)
        # Without parallel axes dimension 0 is a reduction's, which is not cut.
        evaluate = _Evaluator(arrays, axes, start, stop if axes else None)
        shape = [stop - start, *extents[1:]] if axes else []
        value = np.broadcast_to(evaluate(store.value), shape)
        index = np.broadcast_to(
            evaluate(s.flatten(store.index, store.buffer.shape)
                     if len(store.index) != 1 else store.index[0]), shape
        )  # fmt: skip
        out = arrays[store.buffer].reshape(-1)
        if store.where is not None:
            mask = np.broadcast_to(evaluate(store.where), shape)
            value, index = value[mask], index[mask]
        _store(out, index.reshape(-1), value.reshape(-1), store.mode)


def _reads(store: Store, buffers: Sequence) -> bool:
    """Whether a store's expressions load from any of `buffers`."""
    return any(e.op == "load" and e.data in buffers for e in s.walk(*store.exprs()))


def _run_in_order(kernel: Kernel, arrays: dict) -> None:
    """One element after the other: each may read what those before it stored."""
    for point in np.ndindex(*(a.extent for a in kernel.axes)):
        for store in kernel.stores:
            evaluate = _Evaluator(arrays, [], at=dict(zip(kernel.axes, point)))
            if store.where is not None and not evaluate(store.where):
                continue
            index = s.flatten(store.index, store.buffer.shape)
            out = arrays[store.buffer].reshape(-1)
            _store(out, evaluate(index).reshape(-1), evaluate(store.value).reshape(-1), store.mode)


def _is_product(e: Expr) -> bool:
    return e.data[0] == "sum" and e.args[0].op == "mul"


def _store(out, index, value, mode) -> None:
    match mode:
        case "set":
            out[index] = value
        case "add":
            np.add.at(out, index, value)
        case "mul":
            np.multiply.at(out, index, value)
        case "max":
            np.maximum.at(out, index, value)
        case "min":
            np.minimum.at(out, index, value)
        case _:
            raise AssertionError(mode)


# -- programs ------------------------------------------------------------------------------


class NumpyModule:
    """A Program that numpy runs: `module(inputs) -> outputs`, arrays in the program's order."""

    def __init__(self, program: Program):
        self.program = program

    def __call__(self, inputs: Sequence[np.ndarray]) -> list:
        memory = _Memory(self.program, inputs)
        with np.errstate(all="ignore"):
            try:
                _run(self.program, memory)
            finally:
                raise_noted(self.program.checks, memory.record.tolist(), {})
        return memory.results()


FLAG = TensorType(BOOL, ())


class _Memory:
    def __init__(self, program: Program, inputs):
        self.program = program
        self.inputs = [
            np.ascontiguousarray(x) if has_bytes(t) else x for x, t in zip(inputs, program.inputs)
        ]
        self.outputs = [
            np.zeros(t.shape, t.dtype.numpy) if has_bytes(t) else None for t in program.outputs
        ]
        self.arena, self.record = np.zeros(program.arena, np.uint8), new_record(program.checks)
        self.others = Objects(inputs, program.weights)

    def array(self, ref, type: TensorType, loops: dict) -> np.ndarray:
        base = {
            "input": lambda: self.inputs[ref.slot.index],
            "output": lambda: self.outputs[ref.slot.index],
            "weight": lambda: self.program.weights[ref.slot.index],
            "arena": lambda: self.arena,
            "record": lambda: self.record,
        }[ref.slot.kind]()
        offset = ref.offset + sum(loops[i] * step for i, step in ref.steps)
        raw = np.ascontiguousarray(base).reshape(-1).view(np.uint8)
        return raw[offset : offset + type.nbytes].view(type.dtype.numpy).reshape(type.shape)

    def results(self) -> list:
        return [self.others.output(i, x) for i, x in enumerate(self.outputs)]


def _run(program: Program, memory: _Memory) -> None:
    holds = lambda place, turns: bool(memory.array(place, FLAG, turns))
    for step, turns in run_order(program.steps, holds):
        array = lambda ref, type, turns=turns: memory.array(ref, type, turns)
        if isinstance(step, Call):
            run_kernel(
                step.kernel, [array(r, b.type) for r, b in zip(step.refs, step.kernel.params)]
            )
        else:
            run_host_callback(step, array, memory.others)


class Objects:
    """Values that have no bytes, by their places: what host callbacks hand to each other."""

    def __init__(self, inputs: Sequence, weights: Sequence):
        self.given = {"input": inputs, "weight": weights}
        self.made: dict[Ref, object] = {}

    def __getitem__(self, ref: Ref):
        if ref.slot.kind in self.given:
            return self.given[ref.slot.kind][ref.slot.index]
        return self.made[ref]

    def __setitem__(self, ref: Ref, value) -> None:
        self.made[ref] = value

    def output(self, index: int, array: np.ndarray | None):
        """The output of that number: `array` unless it has no bytes."""
        return self.made.get(Ref(Slot("output", index))) if array is None else array


def run_host_callback(step: HostCallback, array: Callable, objects: Objects) -> None:
    """Run a hand-written kernel. `array(ref, type)` is the memory of a value that has bytes."""
    inputs = [
        None if r is None else (array(r, t) if has_bytes(t) else objects[r])
        for r, t in zip(step.inputs, step.input_types)
    ]
    results = step.function(*inputs, **step.attrs)
    results = results if isinstance(results, tuple) else (results,)
    for ref, type, result in zip(step.outputs, step.output_types, results):
        if has_bytes(type):
            array(ref, type)[...] = result
        else:
            objects[ref] = result


__all__ = [
    "NUMPY", "NumpyModule", "Objects", "cast_array", "has_bytes", "run_host_callback", "run_kernel",
]  # fmt: skip
