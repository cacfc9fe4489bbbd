"""Quantized operators in the place of quantize and dequantize nodes, for readers who want those.

    q(conv(dq(x, s, z), dq(w, t, u), c), r, v) => qlinear_conv(x, s, z, w, t, u, r, v, c / (s·t))
    q(dq(x, s, z) @ dq(w, t, u), r, v)         => qlinear_matmul(x, s, z, w, t, u, r, v)
    q(dq(x, s, z) + dq(w, t, u), r, v)         => qlinear_add(x, s, z, w, t, u, r, v)
    q(relu(x), s, least)                       => q(x, s, least)

Only where a file is written on request: biases are rounded to i32, so that results may differ by a
step from those of the nodes. What no operator says stays as it is.
"""

import numpy as np

from ...ir.builder import Builder, Tensor
from ...ir.graph import Graph
from ...ir.types import normalize_axis
from ...passes.base import Report
from ...passes.cleanup import DeadCodeElimination
from ..engine import Rewrite, Rule, rule
from ..pattern import Match, OpPattern, constants, op, optional
from .quantized import (
    BYTES,
    DW,
    DX,
    INTEGERS,
    QUANTIZED,
    _is_one,
    _not_bytes,
    _one,
    _weights_by_column,
)

r, c = constants("r c")
v, c = optional(constants("v")[0]), optional(c)


def _quantized(product) -> OpPattern:
    return op.quantize_linear(product, r, v)


BODY = op.conv(DX, DW, c)
CONV = _quantized(BODY)
PRODUCT = _quantized(DX @ DW)
SUM = _quantized(DX + DW)


def _is_bytes(m: Match) -> str | None:
    if any(t.dtype not in BYTES for t in (m.x, m.w)) or m.attr("dtype") not in BYTES:
        return "operators compute with bytes"
    return None if _is_one(m.r) and _is_one(m.v) else "the result has a scale per channel"


def _fits_conv(m: Match) -> str | None:
    reason = _is_bytes(m) or _not_bytes(m)
    if reason is not None or _is_one(m.t):
        return reason
    axis = m.w.rank - 1 if m[BODY].attrs["channels_last"] else 0
    by_output = m.t.rank == 1 and normalize_axis(m[DW].attrs["axis"], m.w.rank) == axis
    return None if by_output else "the weights have scales along another axis than the outputs"


def _fits_product(m: Match) -> str | None:
    return _is_bytes(m) or _weights_by_column(m)


def _fits_sum(m: Match) -> str | None:
    if m.x.dtype != m.w.dtype or m.attr("dtype") != m.x.dtype:
        return "the operator's parts have one type"
    ones = all(map(_is_one, (m.s, m.z, m.t, m.u)))
    return _is_bytes(m) or (None if ones else "a part has a scale per channel")


def _zero(b: Builder, zero: Tensor | None, of: Tensor, like: Tensor | None = None) -> Tensor:
    """A zero point, 0 where there is none; as many as there are scales."""
    shape = () if like is None or _is_one(like) else like.shape
    if zero is None:
        return b.constant(np.zeros(shape, of.dtype.numpy))
    return zero.reshape(*shape) if _is_one(zero) and not shape else zero


def _operands(b: Builder, m: Match) -> list[Tensor]:
    t = _one(m.t) if _is_one(m.t) else m.t
    first = (m.x, _one(m.s), _zero(b, m.z, m.x), m.w, t, _zero(b, m.u, m.w, m.t))
    y = b.constant(np.zeros((), m.attr("dtype").numpy))
    return [*first, _one(m.r), y if m.v is None else _one(m.v)]


def _conv(b: Builder, m: Match) -> Tensor:
    bias, factor = None, m.s.constant.reshape(()) * m.t.constant
    if m.c is not None:
        steps = np.rint(m.c.constant.astype(np.float64) / factor.astype(np.float64))
        bias = b.constant(np.clip(steps, -(2**31), 2**31 - 1).astype(np.int32))
    return b.qlinear_conv(*_operands(b, m), bias, **m[BODY].attrs)


RULES: tuple[Rule, ...] = (
    *(r for r in INTEGERS if r.pattern is QUANTIZED),
    rule("q(conv(dq(x), dq(w), c)) => qlinear_conv(x, w, c)", CONV, _conv, _fits_conv, shared=True),
    rule(
        "q(dq(x) @ dq(w)) => qlinear_matmul(x, w)",
        PRODUCT,
        lambda b, m: b.qlinear_matmul(*_operands(b, m)),
        _fits_product,
        shared=True,
    ),
    rule(
        "q(dq(x) + dq(w)) => qlinear_add(x, w)",
        SUM,
        lambda b, m: b.qlinear_add(*_operands(b, m)),
        _fits_sum,
        shared=True,
    ),
)


def as_operators(graph: Graph) -> Graph:
    """A copy of a graph with operators in the place of nodes."""
    graph, report = graph.copy(), Report()
    Rewrite("qoperators", RULES).run(graph, report)
    DeadCodeElimination().run(graph, report)
    return graph
