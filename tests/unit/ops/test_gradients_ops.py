"""Every gradient rule against central differences of the op's own numpy reference, in float64.

    d sum(w * y) / dx[i]  =  (f(x + h e_i) - f(x - h e_i)) / 2h,    f(x) = sum(w * ref(x))

with random weights w. Samples that say `grad=False` (kinks), and half types, which repeat what
f32 samples say, are left out.
"""

import numpy as np
import pytest
from tessel.compiler.autodiff.gradients import gradients
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.op import OPS, NotDifferentiable
from tessel.compiler.ir.types import F32, F64, dtype_of, tensor_type_of
from tessel.compiler.ops.common import through_expansion

STEP = 1e-6
ELEMENTS = 24  # of each operand, at most


def is_float(x):
    return x is not None and dtype_of(x).is_float


def in_float64(sample):
    return [x.astype(np.float64) if is_float(x) else x for x in sample.inputs]


def is_checkable(op, sample):
    given = [x for x in sample.inputs if is_float(x)]
    return sample.grad and given and all(dtype_of(x) in (F32, F64) for x in given)


# What custom_gradient's gradient is, its user says: it need not be the limit of differences.
DIFFERENTIABLE = [
    op
    for op in OPS.values()
    if not isinstance(op.grad, NotDifferentiable) and op.name != "custom_gradient"
]
CASES = [
    pytest.param(op, s, id=f"{op.name}-{i}")
    for op in DIFFERENTIABLE
    for i, s in enumerate(op.samples())
    if is_checkable(op, s)
]


def weights_of(arrays):
    rng = np.random.default_rng(7)
    return [rng.uniform(0.5, 1.5, x.shape) if is_float(x) else None for x in arrays]


def results_of(op, inputs, attrs):
    if not (op.inputs and op.inputs[-1].variadic):
        inputs = [*inputs, *[None] * (len(op.inputs) - len(inputs))]
    y = op.ref(*inputs, **attrs)
    return list(y) if isinstance(y, tuple) else [y]


def by_rule(op, inputs, attrs):
    """The gradients of every float input, None where the graph says there is none."""
    b = Builder()
    given = [
        None if x is None else b.input(f"x{i}", tensor_type_of(x)) for i, x in enumerate(inputs)
    ]
    ys = b.emit(op.name, *given, **attrs)
    ys = ys if isinstance(ys, tuple) else (ys,)
    ws = weights_of(results_of(op, inputs, attrs))
    pairs = [(y, b.constant(w)) for y, w in zip(ys, ws) if w is not None]
    wrt = [t for t, x in zip(given, inputs) if is_float(x)]
    found = gradients(b, [y for y, _ in pairs], wrt, [w for _, w in pairs])
    for i, v in enumerate(found):
        if v is not None:
            b.output(f"d{i}", v)
    arrays = iter(interpret(b.graph, [x for x in inputs if x is not None]))
    return [None if v is None else next(arrays) for v in found]


def by_differences(op, inputs, attrs, position, elements):
    x = inputs[position]
    ws = weights_of(results_of(op, inputs, attrs))

    def f(i, h):
        moved = x.copy()
        moved.flat[i] += h
        ys = results_of(op, [*inputs[:position], moved, *inputs[position + 1 :]], attrs)
        return sum(np.sum(w * y) for w, y in zip(ws, ys) if w is not None)

    return [(f(i, STEP) - f(i, -STEP)) / (2 * STEP) for i in elements]


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_a_gradient_is_the_limit_of_differences(op, sample):
    inputs, attrs = in_float64(sample), op.bind(sample.attrs, op.name)
    positions = [i for i, x in enumerate(inputs) if is_float(x)]
    for position, dx in zip(positions, by_rule(op, inputs, attrs), strict=True):
        x = inputs[position]
        dx = np.zeros_like(x) if dx is None else dx
        assert tensor_type_of(dx) == tensor_type_of(x)
        elements = np.random.default_rng(1).permutation(x.size)[:ELEMENTS]
        expected = by_differences(op, inputs, attrs, position, elements)
        np.testing.assert_allclose(
            dx.flat[elements], expected, rtol=1e-5, atol=1e-6, err_msg=op.inputs[0].name
        )


RULES = [op for op in DIFFERENTIABLE if op.grad is not through_expansion]


@pytest.mark.parametrize("op", RULES, ids=lambda op: op.name)
def test_every_rule_is_checked(op):
    """Those that go through their expansion are made of ops that are checked."""
    assert any(is_checkable(op, s) for s in op.samples()), "no sample checks the gradient"


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_share_the_gradient(name):
    x = np.ones(3)
    dx, dy = by_rule(OPS[name], [x, x], {})
    np.testing.assert_array_equal(dx, dy)
    np.testing.assert_allclose(dx + dy, weights_of([x])[0])


def test_equal_extremes_share_the_gradient():
    (dx,) = by_rule(
        OPS["reduce_max"], [np.array([2.0, 5.0, 5.0])], {"axes": (0,), "keepdims": False}
    )
    np.testing.assert_allclose(dx[1], dx[2])
    assert dx[0] == 0


SCATTERS = {
    "scatter_elements": np.array([1, 1, 0, 1]),
    "scatter_nd": np.array([[1], [1], [0], [1]]),
}


def bound(name, reduction):
    return OPS[name].bind({"reduction": reduction}, name)


@pytest.mark.parametrize("name", SCATTERS)
@pytest.mark.parametrize("reduction", ["max", "min"])
def test_scattered_winners_share_the_gradient(name, reduction):
    """Place 0: x and an update tie; place 1: two of three updates."""
    sign = 1 if reduction == "max" else -1
    x, updates = sign * np.array([3.0, 1.0, 2.0]), sign * np.array([5.0, 5.0, 3.0, 2.0])
    dx, du = by_rule(OPS[name], [x, SCATTERS[name], updates], bound(name, reduction))
    w = weights_of([x])[0]
    np.testing.assert_allclose(dx, [w[0] / 2, 0, w[2]])
    np.testing.assert_allclose(du, [w[1] / 2, w[1] / 2, w[0] / 2, 0])


@pytest.mark.parametrize("name", SCATTERS)
@pytest.mark.parametrize("zeros", [(), (0,), (0, 1), (2,), (0, 1, 3)])
def test_scattered_factors_of_zero(name, zeros):
    x, updates = np.array([3.0, 1.5, 0.0]), np.array([0.5, 2.0, 3.0, -2.0])
    updates[list(zeros)] = 0
    inputs, attrs = [x, SCATTERS[name], updates], bound(name, "mul")
    for position, d in zip((0, 2), by_rule(OPS[name], inputs, attrs)):
        expected = by_differences(OPS[name], inputs, attrs, position, range(d.size))
        np.testing.assert_allclose(d, expected, atol=1e-6)


@pytest.mark.parametrize("name", SCATTERS)
def test_only_the_update_that_stayed_has_a_gradient(name):
    dx, du = by_rule(OPS[name], [np.ones(3), SCATTERS[name], np.arange(4.0)], bound(name, "none"))
    w = weights_of([dx])[0]
    np.testing.assert_allclose(dx, [0, 0, w[2]])
    np.testing.assert_allclose(du, [0, 0, w[0], w[1]])


def test_what_where_does_not_choose_does_no_harm():
    """The gradient of log at 0 is infinite; `where` keeps it out of what was chosen."""
    b = Builder()
    x = b.input("x", "f64[2]")
    positive = x > 0
    y = b.where(positive, b.log(b.where(positive, x, 1.0)), 0.0)
    (dx,) = gradients(b, [y.sum()], [x])
    b.output("dx", dx)
    np.testing.assert_allclose(interpret(b.graph, [np.array([0.0, 4.0])])[0], [0.0, 0.25])
