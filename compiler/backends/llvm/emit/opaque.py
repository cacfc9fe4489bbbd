"""Values of which LLVM does not know where they come from."""

from collections.abc import Sequence

import llvmlite.ir as ir

from ..base.types import vector

# What GCC's manual calls a register for vectors, "Constraints for Particular Machines".
VECTOR = {"x86_64": "v", "i686": "v", "aarch64": "w", "arm64": "w", "riscv64": "vr"}


def hidden(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A pointer or a number in a register of which LLVM does not know where it comes from."""
    return b.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], False)


def opaque(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A vector of ints of which LLVM does not know where it comes from. It costs nothing.

    For masked stores with AVX-512: LLVM (22) makes the narrowing of ints a part of such a store,
    and where the mask is a constant with one lane, it stores that lane as wide as it was before:
    up to seven bytes past it (`tests/unit/llvm/test_llvm_guards.py`).
    """
    lanes, bits = value.type.count, value.type.element.width
    if bits == 64:
        return value  # nothing is wider
    if lanes * bits > 512:
        half = lanes // 2
        parts = [_lanes(b, value, range(i, i + half)) for i in (0, half)]
        return _lanes(b, opaque(b, parts[0]), range(lanes), opaque(b, parts[1]))
    full = max(lanes, 128 // bits)  # what registers there are
    wide = value if full == lanes else _lanes(b, value, range(full))
    empty = b.asm(ir.FunctionType(wide.type, [wide.type]), "", "=v,0", [wide], False)
    return empty if full == lanes else _lanes(b, empty, range(lanes))


def together(b: ir.IRBuilder, values: Sequence[ir.Value], arch: str) -> list[ir.Value]:
    """Vectors and pointers that are all known before any use of what this returns: what comes
    after is not moved before, however many registers the target's scheduler expects to have."""
    if arch not in VECTOR:
        return list(values)
    types = [v.type for v in values]
    letters = ["r" if isinstance(t, ir.PointerType) else VECTOR[arch] for t in types]
    marks = ",".join([*(f"={c}" for c in letters), *map(str, range(len(values)))])
    found = b.asm(ir.FunctionType(ir.LiteralStructType(types), types), "", marks, values, False)
    return [b.extract_value(found, i) for i in range(len(values))]


def _lanes(b: ir.IRBuilder, x: ir.Value, places, y: ir.Value | None = None) -> ir.Value:
    """These lanes of x and y one after the other; those of y are undefined if it is not given."""
    y = ir.Constant(x.type, ir.Undefined) if y is None else y
    places = [p if p < 2 * x.type.count else 0 for p in places]
    return b.shuffle_vector(x, y, ir.Constant(vector(ir.IntType(32), len(places)), places))
