"""One kernel at a time: made from expressions, run as machine code and by the numpy backend."""

import numpy as np
from tessel.compiler.backends.llvm.backend import NativeCode, compile_program
from tessel.compiler.backends.llvm.base.cache import ObjectCache
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.backends.llvm.kernel.codegen import schedule_kernel
from tessel.compiler.backends.numpy import NumpyModule
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.expr import Axis, Buffer
from tessel.compiler.ir.types import TensorType, dtype_of, tensor_type_of
from tessel.compiler.kernels.kernel import Call, Kernel, Program, Ref, Slot, Store
from tessel.compiler.kernels.machine import Machine
from tessel.compiler.kernels.simplify import merge_axes, split_axes
from tessel.runtime.native.module import NativeModule

NO_CACHE = ObjectCache(None)


def buffer_of(name: str, array: np.ndarray) -> Buffer:
    return Buffer(name, tensor_type_of(array))


def store(shape, body, dtype="f32", index=None, where=None, mode="set", extents=None) -> Kernel:
    """out[index(i)] = body(i) for every i below `extents`; by default out has that shape."""
    axes = tuple(Axis("i", d) for d in (shape if extents is None else extents))
    i = [s.axis(a) for a in axes]
    out = Buffer("out", TensorType(dtype_of(dtype), shape))
    place = tuple(i) if index is None else tuple(s.lift(x, s.const(0)) for x in index(*i))
    place = tuple(s.const(0) if d == 1 else x for x, d in zip(place, shape))
    value = s.cast(body(*i), out.dtype)
    guard = None if where is None else where(*i)
    return Kernel("test", axes, (Store(out, place, value, guard, mode),))


def program_of(kernels, arrays: dict[Buffer, np.ndarray], constants=()) -> Program:
    """The program of a kernel (or several, that read the same inputs and know nothing of each
    other). `arrays` are its inputs; those in `constants` become weights."""
    kernels = [kernels] if isinstance(kernels, Kernel) else kernels
    kernels = [merge_axes(split_axes(k)) for k in kernels]
    inputs = [b for b in arrays if b not in constants]
    weights = [b for b in arrays if b in constants]
    outputs = [b for k in kernels for b in k.sources if b not in arrays]
    places = {b: Ref(Slot("input", i)) for i, b in enumerate(inputs)}
    places |= {b: Ref(Slot("weight", i)) for i, b in enumerate(weights)}
    places |= {b: Ref(Slot("output", i)) for i, b in enumerate(outputs)}
    calls = [Call(k, tuple(places[b] for b in k.sources)) for k in kernels]
    return Program(
        calls, [b.type for b in inputs], [b.type for b in outputs], [arrays[b] for b in weights], 0
    )


def native(program: Program, target: Machine | None = None, cache=NO_CACHE) -> NativeModule:
    code: NativeCode = compile_program(program, host() if target is None else target, cache=cache)
    return NativeModule(code, program.outputs, {})


def scheduled(program: Program, target: Machine | None = None):
    """The schedule that the program's one kernel gets."""
    (call,) = program.steps
    constants = frozenset(
        b for b, r in zip(call.kernel.params, call.refs) if r.slot.kind == "weight"
    )
    target = host() if target is None else target
    return schedule_kernel(call.kernel, target, constants, False).schedule


def both(kernels, arrays: dict[Buffer, np.ndarray], constants=(), target=None, threads=1):
    """(machine code's output, numpy's output), of each kernel if there are several; whatever is
    not stored is 0 in both."""
    program = program_of(kernels, arrays, constants)
    inputs = [x for b, x in arrays.items() if b not in constants]
    outputs = [np.zeros(t.shape, t.dtype.numpy) for t in program.outputs]
    with np.errstate(all="ignore"):
        received = native(program, target)(inputs, threads, outputs)
        expected = NumpyModule(program)(inputs)
    pairs = list(zip(received, expected, strict=True))
    return pairs[0] if isinstance(kernels, Kernel) else pairs


def close(received: np.ndarray, expected: np.ndarray, rtol=1e-5, atol=1e-6) -> None:
    """Equal, within a tolerance where they are floats."""
    assert received.dtype == expected.dtype
    assert received.shape == expected.shape
    if dtype_of(expected).is_float:
        if dtype_of(expected).bits < 32:
            received, expected = received.astype(np.float32), expected.astype(np.float32)
            rtol, atol = max(rtol, 8e-3), max(atol, 1e-3)
        np.testing.assert_allclose(received, expected, rtol=rtol, atol=atol)
    else:
        np.testing.assert_array_equal(received, expected)
