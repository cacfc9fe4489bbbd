"""Triton's interpreter on numpy arrays: without torch, without a GPU, in this process.

    run(function, programs, *arrays)     arrays are written in place

Stock behaviour that is mended here: bf16 arithmetic computes on raw bits, accesses out of bounds
crash the process, comparisons of scalars turn into floats when they are spread over a block, and
reductions with a combiner of one's own are done element by element.
"""

from contextlib import contextmanager

import numpy as np
import pytest

NO_TRITON = "needs triton (pip install 'tessel[gpu]', Linux only)"
tl = pytest.importorskip("triton.language", reason=NO_TRITON)
interpreter = pytest.importorskip("triton.runtime.interpreter", reason=NO_TRITON)
JITFunction = pytest.importorskip("triton.runtime.jit", reason=NO_TRITON).JITFunction

BF16 = tl.bfloat16
Handle, Machine = interpreter.TensorHandle, interpreter.InterpreterBuilder
TYPES = {
    "float64": tl.float64,
    "float32": tl.float32,
    "float16": tl.float16,
    "bfloat16": BF16,
    "bool": tl.int8,
    "float8_e4m3fn": tl.float8e4nv,
    "float8_e5m2": tl.float8e5,
    "int4": tl.int8,
    "uint4": tl.uint8,
    "int2": tl.int8,
    "uint2": tl.uint8,
    **{
        f"{sign}int{bits}": getattr(tl, f"{sign}int{bits}")
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}
SIGNATURES = {
    "fp64": tl.float64,
    "fp32": tl.float32,
    "fp16": tl.float16,
    "bf16": BF16,
    "fp8e4nv": tl.float8e4nv,
    "fp8e5": tl.float8e5,
    **{
        f"{s}{bits}": getattr(tl, f"{'u' if s == 'u' else ''}int{bits}")
        for s in "iu"
        for bits in (8, 16, 32, 64)
    },
}
REDUCERS = {"_max": np.maximum.reduce, "_min": np.minimum.reduce, "_mul": np.multiply.reduce}

_functions: dict = {}


def run(function, programs: int, *arrays: np.ndarray) -> None:
    """Run `programs` programs over arrays."""
    for a in arrays:
        assert a.flags.c_contiguous
    pointers = [(a.ctypes.data, TYPES[a.dtype.name]) for a in arrays]
    ranges = [(a.ctypes.data, a.ctypes.data + a.nbytes) for a in arrays]
    run_at(function, programs, pointers, ranges)


def element(signature: str):
    """The element type of a pointer's signature, as `*fp32`."""
    return SIGNATURES[signature.removeprefix("*")]


def run_at(function, programs: int, pointers, ranges) -> None:
    """Run over (address, element type) pairs; memory outside `ranges` may not be touched."""
    args = []
    for address, element in pointers:
        type = tl.pointer_type(element)
        args.append(tl.tensor(Handle(np.array([address], np.uint64), type), type))
    with _mended(ranges), np.errstate(all="ignore"):
        executor = interpreter.GridExecutor(_interpreted(function), function.arg_names, (programs,))
        executor(*args)


def _interpreted(function):
    key = function.fn  # hashing a JITFunction walks its source
    if key not in _functions:
        _functions[key] = interpreter.InterpretedFunction(function.fn)
    return _functions[key].rewrite()


@contextmanager
def _mended(ranges):
    patches = _patches(ranges)
    saved = {name: getattr(Machine, name) for name in patches}
    call, reduce = JITFunction.__call__, interpreter.ReduceOps.apply_impl
    scope = interpreter._patch_lang(tl.standard.sum.fn)
    try:
        for name, patch in patches.items():
            setattr(Machine, name, patch)
        JITFunction.__call__ = lambda self, *a, **k: _interpreted(self)(*a, **k)
        interpreter.ReduceOps.apply_impl = _reduce(reduce)
        yield
    finally:
        JITFunction.__call__, interpreter.ReduceOps.apply_impl = call, reduce
        scope.restore()
        for name, original in saved.items():
            setattr(Machine, name, original)


def _reduce(original):
    def apply(self, values):
        fn = getattr(self.combine_fn, "fn", self.combine_fn)
        reducer = REDUCERS.get(getattr(fn, "__name__", ""))
        if reducer is None:
            return original(self, values)
        (x,) = values
        result = reducer(x.handle.data, axis=self.axis, keepdims=self.keep_dims)
        return self.to_tensor(result, x.dtype)

    return apply


def _widen(h: Handle) -> Handle:
    if h.dtype.scalar != BF16:
        return h
    bits = np.ascontiguousarray(h.data).astype(np.uint32) << 16
    return Handle(bits.view(np.float32), tl.float32)


def _narrow(x) -> Handle:
    """f32 to bf16 bits, to nearest even."""
    x = np.ascontiguousarray(x, np.float32)
    bits = x.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return Handle(np.where(np.isnan(x), np.uint16(0x7FC0), rounded.astype(np.uint16)), BF16)


def _patches(ranges) -> dict:
    dot, binary, unary = Machine.create_dot, Machine.binary_op, Machine.unary_op
    cast, load, store = (Machine.cast_impl, Machine.create_masked_load, Machine.create_masked_store)

    def again(result: Handle) -> Handle:
        return _narrow(result.data) if result.data.dtype.kind == "f" else result

    def binary_op(self, a, b, op):
        if a.dtype.scalar != BF16:
            return binary(self, a, b, op)
        return again(binary(self, _widen(a), _widen(b), op))

    def unary_op(self, a, op):
        return again(unary(self, _widen(a), op)) if a.dtype.scalar == BF16 else unary(self, a, op)

    def cast_impl(self, x, type):
        if type.scalar == BF16:
            return _narrow(_widen(x).data.astype(np.float32))
        return cast(self, _widen(x), type)

    def check(pointers, mask, what):
        shape = np.broadcast_shapes(pointers.data.shape, mask.data.shape)
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        places = np.broadcast_to(pointers.data, shape)[np.broadcast_to(mask.data, shape)]
        inside = np.zeros(places.shape, bool)
        for low, high in ranges:
            inside |= (places >= low) & (places + np.uint64(size) <= high)
        if not inside.all():
            count = int((~inside).sum())
            raise IndexError(f"{what} out of bounds: {count} of {places.size} lanes")

    def masked_load(self, pointers, mask, *rest, **options):
        check(pointers, mask, "load")
        return load(self, pointers, mask, *rest, **options)

    def masked_store(self, pointers, value, mask, *rest, **options):
        check(pointers, mask, "store")
        return store(self, pointers, value, mask, *rest, **options)

    def create_splat(self, type, x):
        return Handle(np.full(type.shape, x.data.reshape(-1)[0], x.data.dtype), x.dtype.scalar)

    return {
        "create_splat": create_splat,
        "create_dot": lambda self, a, b, d, *rest: dot(self, _widen(a), _widen(b), d, *rest),
        "binary_op": binary_op,
        "unary_op": unary_op,
        "cast_impl": cast_impl,
        "create_masked_load": masked_load,
        "create_masked_store": masked_store,
    }
