"""Extents that follow from dynamic dims and may be 0 (`x[1:]`, N // 4): compiled, and right when
they are 0."""

import pytest
import tessel
from tessel.compiler.errors import InputError
from tessel.compiler.ir.bounds import DEFAULT_SIZE_HINT, hint_nonempty, size_hint, size_hints
from tessel.compiler.ir.dim_parse import parse_dim

from ..support.onnx_models import assert_equal, model, onnxruntime, rand

INTS = "{name} = Constant <value_ints={values}> () "


def ints(**values) -> str:
    return "".join(INTS.format(name=n, values=str(v).replace(" ", "")) for n, v in values.items())


END = 2**31
# Body, the type of x, what `n` is in turn: for the last ones the result (or a part) is empty.
CASES = {
    "x[1:]": (ints(s=[1], e=[END], a=[0]) + "y = Slice (x, s, e, a)", "float[n] x", (6, 2, 1)),
    "x[1:-1] of rows": (
        ints(s=[1], e=[-1], a=[0]) + "t = Slice (x, s, e, a) y = Relu (t)",
        "float[n,4] x",
        (6, 3, 2),
    ),
    "x[1:-1] of images": (
        ints(s=[1], e=[-1], a=[0]) + "y = Slice (x, s, e, a)",
        "float[n,8,16] x",
        (5, 2),
    ),
    "x[:,200:]": (
        ints(s=[200], e=[END], a=[1]) + "y = Slice (x, s, e, a)",
        "float[b,n,8] x",
        (210, 200),
    ),
    "x[1:] - x[:-1]": (
        ints(o=[1], z=[0], e=[END], m=[-1]) + "p = Slice (x, o, e) "
        "q = Slice (x, z, m) y = Sub (p, q)",
        "float[n] x",
        (99, 1),
    ),
    "products of x[1:]": (
        ints(s=[1], e=[END], a=[0]) + "t = Slice (x, s, e, a) u = Transpose (t) y = MatMul (t, u)",
        "float[n,40] x",
        (70, 2, 1),
    ),
    "sums of x[1:]": (
        ints(s=[1], e=[END], a=[0]) + "t = Slice (x, s, e, a) y = ReduceSum <keepdims=0> (t)",
        "float[n,4] x",
        (5, 1),
    ),
    "pad by -1": (ints(p=[-1, 0, 0, 0]) + "y = Pad (x, p)", "float[n,4] x", (6, 1)),
    "range": (
        "i = Constant <value=int64 {1}> () s = Shape (x) z = Constant <value=int64 {0}> () "
        "n = Gather (s, z) r = Range (i, n, i) y = Cast <to=1> (r)",
        "float[n] x",
        (5, 1),
    ),
    "halves": (
        ints(t=[2], z=[0]) + "s = Shape (x) h = Div (s, t) r = Sub (s, h) "
        "c = Concat <axis=0> (h, r) u, v = Split (x, c) y = Concat <axis=0> (v, u)",
        "float[n] x",
        (8, 5, 1),
    ),
    "fours": (
        ints(s=[-1, 4], a=[1]) + "t = Reshape (x, s) y = ReduceSum (t, a)",
        "float[n] x",
        (12, 4),
    ),
    "rows of 32": (ints(s=[-1, 32]) + "t = Reshape (x, s) y = Relu (t)", "float[n,8] x", (12, 4)),
    "pools": ("y = MaxPool <kernel_shape=[3], strides=[2]> (x)", "float[1,2,n] x", (9, 3)),
    "scanned": (
        ints(s=[1], e=[END], a=[0], z=[0]) + "t = Slice (x, s, e, a) y = CumSum (t, z)",
        "float[n,4] x",
        (5, 1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_extents_that_may_be_zero(name):
    body, inputs, sizes = CASES[name]
    proto = model(body, inputs=inputs, outputs="float y", opset=17)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    exe = tessel.compile(proto, cache=False)
    shape = inputs[inputs.index("[") + 1 : inputs.index("]")].split(",")
    for n in sizes:
        x = rand(*({"n": n, "b": 1}.get(d) or int(d) for d in shape))
        for threads in (1, 2):
            exe.threads = threads
            got = exe.run({"x": x})
            assert_equal(list(got.values()), onnxruntime(proto, x), 1e-4, 1e-5)


def test_what_is_not_divided_evenly_is_refused():
    body, inputs, _ = CASES["fours"]
    proto = model(body, inputs=inputs, outputs="float[?,1] y", opset=17)
    exe = tessel.compile(proto, cache=False)
    with pytest.raises(InputError, match="n=13 do not fit the model"):
        exe.run({"x": rand(13)})


def test_sizes_to_expect_leave_no_axis_empty():
    n, m = map(parse_dim, "nm")
    assert hint_nonempty([n, n * m], {"n": 1}) == {"n": 1}
    assert hint_nonempty([n - 1], {"n": 1}) == {"n": DEFAULT_SIZE_HINT}
    assert hint_nonempty([m - 200, n // 4], {"n": 1}) == {
        "n": DEFAULT_SIZE_HINT,
        "m": 2 * DEFAULT_SIZE_HINT,
    }
    assert hint_nonempty([m - n], {}) == {"m": 2 * DEFAULT_SIZE_HINT, "n": DEFAULT_SIZE_HINT}
    assert hint_nonempty([(n - 500) // 160], {}) == {"n": 32 * DEFAULT_SIZE_HINT}, "not one frame"
    assert hint_nonempty([1 - n], {"n": 1}) == {"n": 1}, "nothing helps"


def test_what_is_typical_can_be_divided_by():
    n, m = map(parse_dim, "nm")
    with size_hints({"n": 1}):
        assert [size_hint(d) for d in (n - 1, n // 4, n - 200, n)] == [1, 1, 1, 1]
        assert (
            size_hint(m // (n - 1)) == size_hint(parse_dim("broadcast(m,2*m)")) == DEFAULT_SIZE_HINT
        )
