"""LLVM types of dtypes: in registers, and in memory.

Bools are i1 in registers and bytes in memory; types of 2, 4 and 6 bits are i2 to i6 in registers
and one per byte in memory. bf16 and narrower floats are integers that are only loaded, stored and
cast, and so is f16 on machines without its conversions (`soft_half`), where LLVM calls a library
for whatever it finds to do with a `half`; signedness lives in the instructions, not in the type.
"""

import functools

import llvmlite.ir as ir
import numpy as np
from llvmlite.ir._utils import NameScope

from ....errors import UnsupportedError
from ....ir.bounds import DynamicSize
from ....ir.dims import Sym
from ....ir.types import BOOL, F16, DType

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
PTR = ir.PointerType()
VOID = ir.VoidType()

_FLOATS = {"f64": ir.DoubleType(), "f32": ir.FloatType(), "f16": ir.HalfType()}


def register_type(dtype: DType, soft_half: bool = False) -> ir.Type:
    """The type of a value in a register."""
    if dtype == BOOL:
        return I1
    if dtype == F16 and soft_half:
        return I16
    if dtype.name in _FLOATS:
        return _FLOATS[dtype.name]
    if dtype.is_int or dtype.is_float:
        return ir.IntType(dtype.bits)
    raise UnsupportedError(
        "the CPU backend has no code for this dtype",
        received=dtype.name,
        expected="numbers or bools",
    )


def memory_type(dtype: DType, soft_half: bool = False) -> ir.Type:
    """The type of an element in memory."""
    return register_type(dtype, soft_half) if dtype.bits >= 8 else I8


def vector(type: ir.Type, lanes: int | None) -> ir.Type:
    """`<lanes x type>`, or the scalar where `lanes` is None; the same object each time, which knows
    its text."""
    return type if lanes is None else _vector(type, lanes)


@functools.cache
def _vector(type: ir.Type, lanes: int) -> ir.VectorType:
    return ir.VectorType(type, lanes)


def intrinsic(module: ir.Module, name: str, result: ir.Type, args: list[ir.Type]) -> ir.Function:
    """Declare an intrinsic once per module."""
    found = module.globals.get(name)
    return found or ir.Function(module, ir.FunctionType(result, args), name)


class Names(NameScope):
    """The names in a function. Most values have none of their own, and are numbered."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def register(self, name: str, deduplicate: bool = False) -> str:
        if name:
            return super().register(name, deduplicate)
        self.count += 1
        return f"_{self.count}"


def suffix(type: ir.Type) -> str:
    """How intrinsics spell a type: v16f32."""
    if isinstance(type, ir.VectorType):
        return f"v{type.count}{suffix(type.element)}"
    if isinstance(type, ir.PointerType):
        return "p0"
    return {"float": "f32", "double": "f64", "half": "f16"}.get(str(type), str(type))


def i64(value: int) -> ir.Constant:
    """A number. Raises DynamicSize for a size that is open: that is `Sizes.value`'s to say."""
    if isinstance(value, Sym):
        raise DynamicSize(f"code with the number {value}")
    return ir.Constant(I64, value)


class Splat(ir.Constant):
    """A vector constant with equal lanes; prints short."""

    def __init__(self, type: ir.VectorType, element: ir.Constant):
        self.type, self.constant = type, [element] * type.count
        self._text = f"splat ({element.type} {element.get_reference()})"

    def get_reference(self) -> str:
        return self._text


def no_mask(lanes: int) -> ir.Constant:
    """A mask that hides nothing."""
    return Splat(vector(I1, lanes), ir.Constant(I1, True))


def constant(value, dtype: DType, lanes: int | None = None, soft_half=False) -> ir.Constant:
    """A constant of a dtype, splat over the lanes."""
    type = register_type(dtype, soft_half)
    if dtype.is_float and isinstance(type, ir.IntType):
        value = int(np.asarray(value, dtype.numpy).view(f"u{dtype.bytes}"))
    scalar = ir.Constant(type, value)
    return scalar if lanes is None else Splat(vector(type, lanes), scalar)
