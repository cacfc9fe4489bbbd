"""Codes of few bits, one after the other in bytes, the low bits first."""

import numpy as np


def packed_bytes(block: int, bits: int) -> int:
    """Bytes of a block of codes."""
    return -(-block * bits // 8)


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes [N, blocks, block] as bytes [N, blocks, packed_bytes], the low bits first."""
    n, blocks, block = codes.shape
    codes, each = codes.astype(np.uint8, copy=False), 8 // bits
    if bits == 8:
        return codes
    if 8 % bits == 0 and block % each == 0:
        fields = codes.reshape(n, blocks, block // each, each)
        packed = fields[..., 0].copy()
        for i in range(1, each):
            packed |= fields[..., i] << np.uint8(i * bits)
        return packed
    digits = (codes[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(digits.reshape(n, blocks, block * bits), axis=-1, bitorder="little")


def unpack_codes(packed: np.ndarray, bits: int, block: int) -> np.ndarray:
    """Bytes [..., packed_bytes] as codes [..., block] of u8."""
    if bits == 8:
        return packed[..., :block]
    digits = np.unpackbits(packed, axis=-1, bitorder="little")[..., : block * bits]
    digits = digits.reshape(*packed.shape[:-1], block, bits)
    weights = (1 << np.arange(bits)).astype(np.uint8)
    return (digits * weights).sum(-1, dtype=np.uint8)
