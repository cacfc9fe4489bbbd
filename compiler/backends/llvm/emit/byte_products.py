"""Products of bytes, four of a lane at a time, as instructions."""

import llvmlite.ir as ir

from ....kernels.machine import Machine
from ..base.types import I8, I16, I32, vector
from .scalar import intrinsic

BYTES = 4  # of a lane
_X86_PAIRS = {
    32: ("llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd"),
    64: ("llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512"),
}


def way_of_dots(target: Machine, lanes: int, bits: int) -> str:
    """Which instructions sum products of codes of `bits` bits: "dots", "pairs" or "bytes"."""
    if target.vector_bytes != BYTES * lanes:
        return "bytes"
    features = set(target.features.split(","))
    if target.triple.startswith("x86_64"):
        if target.sums_pairs:
            return "dots"
        avx512 = target.vector_bytes == 64 and (
            "+avx512bw" in features or target.cpu.endswith("v4")
        )
        avx2 = target.vector_bytes == 32
        return "pairs" if avx2 or avx512 else "bytes"
    if target.triple.startswith(("aarch64", "arm64")):
        return "dots" if "+dotprod" in features and bits < 8 else "bytes"
    return "bytes"


def byte_pairs(b: ir.IRBuilder, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
    """Two products of bytes added in 16 bits (vpmaddubsw), of vectors of any type."""
    return _product(b, 0, I8, I16, unsigned, signed)


def short_pairs(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """Two products of 16 bits added in 32 (vpmaddwd), of vectors of any type."""
    return _product(b, 1, I16, I32, x, y)


def _product(b: ir.IRBuilder, which: int, one: ir.Type, wider: ir.Type, x, y) -> ir.Value:
    nbytes = x.type.count * x.type.element.width // 8
    factors = vector(one, nbytes * 8 // one.width)
    f = intrinsic(
        b.module,
        _X86_PAIRS[nbytes][which],
        vector(wider, factors.count // 2),
        [factors, factors],
    )
    return b.call(f, [b.bitcast(x, factors), b.bitcast(y, factors)])


def shuffled_bytes(b: ir.IRBuilder, x: ir.Value, order: ir.Value) -> ir.Value:
    """For each byte that one of `order`, of the same 16 bytes of x (vpshufb); as words."""
    nbytes = order.type.count * order.type.element.width // 8
    bytes_ = vector(I8, nbytes)
    name = {32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}[nbytes]
    f = intrinsic(b.module, name, bytes_, [bytes_, bytes_])
    found = b.call(f, [b.bitcast(x, bytes_), b.bitcast(order, bytes_)])
    return b.bitcast(found, vector(I32, nbytes // BYTES))


def dots(
    b: ir.IRBuilder, target: Machine, total: ir.Value, codes: ir.Value, row: ir.Value
) -> ir.Value:
    """`total` plus four products in each lane: `codes` are unsigned on x86 (vpdpbusd), signed
    elsewhere (sdot), `row` is signed."""
    count = total.type.count
    bytes_ = vector(I8, BYTES * count)
    name = (
        f"llvm.x86.avx512.vpdpbusd.{32 * count}"
        if target.triple.startswith("x86_64")
        else f"llvm.aarch64.neon.sdot.v{count}i32.v{BYTES * count}i8"
    )
    f = intrinsic(b.module, name, total.type, [total.type, bytes_, bytes_])
    return b.call(f, [total, b.bitcast(codes, bytes_), b.bitcast(row, bytes_)])
