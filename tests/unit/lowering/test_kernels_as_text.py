"""Kernels as text: what lowering makes of a few graphs."""

import pytest
from tessel.compiler.lowering.lower import lower

from .test_lower import build

CENTRE = """\
kernel k(b0: f32[15], b1: f32[15]) {
  for i0<3, i1<5
    let t2 = (i0 * 5)
    b1[(t2 + i1)] = (b0[(t2 + i1)] - max:f32(i2<5; b0[(t2 + i2)]))
}"""

GEMM = """\
kernel k(b0: f32[15], b1: f32[20], b2: f32[12]) {
  for i0<3, i1<4
    b2[((i0 * 4) + i1)] = max(sum:f32(i2<5; (b0[((i0 * 5) + i2)] * b1[(i1 + (i2 * 4))])), 0.0:f32)
}"""

HALF = """\
kernel k(b0: f16[15], b1: f16[15]) {
  for i0<15
    b1[i0] = f16(exp((f32(b0[i0]) + 1.0:f32)))
}"""

SCATTER = """\
serial kernel k(b0: i64[2], b1: f32[2], b2: f32[5]) {
  for i0<2
    let t2 = b0[i0]
    b2[min(max(select((t2 < 0), (t2 + 5), t2), 0), 4)] add= b1[i0]
}"""


@pytest.mark.parametrize(
    ("f", "types", "text"),
    [
        (lambda b, x: x - b.reduce_max(x, axes=[1]), ["f32[3,5]"], CENTRE),
        (lambda b, x, w: b.relu(b.matmul(x, w)), ["f32[3,5]", "f32[5,4]"], GEMM),
        (lambda b, x: b.exp(x + b.scalar(1.0, "f16")), ["f16[3,5]"], HALF),
        (
            lambda b, x, i, u: b.scatter_elements(x, i, u, axis=0, reduction="add"),
            ["f32[5]", "i64[2]", "f32[2]"],
            SCATTER,
        ),
    ],
    ids=["centre", "gemm", "half", "scatter"],
)
def test_kernels_as_text(f, types, text):
    call = lower(build(f, *types)).steps[-1]
    assert call.kernel.text() == text


def test_equal_kernels_print_alike_whatever_their_values_are_called():
    f = lambda b, x, y: (b.exp(x), b.exp(y))
    first, second = lower(build(f, "f32[4]", "f32[4]")).steps
    assert first.kernel.text() == second.kernel.text()
    assert str(first.kernel).startswith("kernel exp(")
