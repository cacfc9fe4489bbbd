"""Sizes of 0 where dynamic dims are otherwise taken to be at least 1: the model is read anew."""

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import InputError
from tessel.compiler.ir.nonempty import nonempty

from ..support.onnx_models import model

CONSTANTS = {"zero": 0, "one": 1, "rest": -1, "far": 999}
SIZES = " ".join(f"{n} = Constant <value_ints=[{i}]> ()" for n, i in CONSTANTS.items())
SIZES += " s = Shape (x) n = Gather <axis=0> (s, zero) m = Gather <axis=0> (s, one) "


def proto(body: str, inputs="float[N,M] x"):
    return model(SIZES + body, inputs=inputs, outputs="y")


def x_of(*shape) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


CASES = {  # body: the shape (or value) of y for x of (2, 0) and (0, 3)
    "t = Concat <axis=0> (m, rest) y = Reshape (x, t)": [(2, 0), (3, 0)],  # 0 keeps the axis
    "t = Max (m, one) y = ConstantOfShape (t)": [(1,), (3,)],
    "e = Equal (m, zero) t = Where (e, one, m) y = ConstantOfShape (t)": [(1,), (3,)],
    "y = Slice (x, one, far, one)": [(2, 0), (0, 2)],
    "y = Slice (x, one, far, zero)": [(1, 0), (0, 3)],
    "y = Slice (x, rest, far, zero)": [(1, 0), (0, 3)],
    "e = Neg (m) y = Slice (s, e, far)": [(2,), (2,)],  # from -0 on is from 0 on
    "y = Split <axis=1, num_outputs=1> (x)": [(2, 0), (0, 3)],
}


@pytest.mark.parametrize("body", CASES)
def test_sizes_of_0(body):
    exe = tessel.compile(proto(body), cache=False)
    for shape, wanted in zip([(2, 0), (0, 3)], CASES[body]):
        assert exe(x_of(*shape)).shape == wanted
    assert exe(x_of(2, 3)).size > 0


def test_the_shape_of_a_slice_of_nothing_is_not_negative():
    exe = tessel.compile(proto("t = Slice (x, one, far, zero) y = Shape (t)"), cache=False)
    assert exe(x_of(0, 3)).tolist() == [0, 3] and exe(x_of(4, 3)).tolist() == [3, 3]


def test_a_branch_is_chosen_by_a_size_of_0():
    then, other = (
        f"b{i} () => (int64 r{i}) {{r{i} = Constant <value_int={i}> ()}}" for i in (1, 2)
    )
    body = "g = Less (m, one) c = Squeeze (g) "
    body += f"y = If (c) <then_branch = {then}, else_branch = {other}>"
    exe = tessel.compile(proto(body), cache=False)
    assert exe(x_of(2, 0)) == 1 and exe(x_of(2, 1)) == 2


def test_concat_leaves_out_what_is_empty():
    body = "y = Concat <axis=0> (x, z)"
    exe = tessel.compile(proto(body, "float[N,M] x, float[K,L] z"), cache=False)
    assert exe(x_of(0, 2), x_of(1, 3)).tolist() == [[0, 1, 2]]
    assert exe(x_of(2, 3), x_of(1, 3)).shape == (3, 3)
    with pytest.raises(InputError):
        exe(x_of(1, 2), x_of(1, 3))


EMPTY = {  # axis, two shapes: the shape of the result, or None where nothing says what is in it
    (0, (0, 3), (0, 2)): (0, 3),
    (0, (3, 0), (0, 2)): (3, 0),
    (1, (3, 0), (2, 0)): (3, 0),
    (1, (0, 3), (3, 0)): (0, 3),
    (0, (0, 3), (3, 0)): None,
    (1, (3, 0), (0, 2)): None,
    (1, (0, 3), (2, 3)): None,
    (0, (2, 0), (2, 3)): None,
}


@pytest.mark.parametrize("axis", [0, 1])
def test_operands_without_elements_need_not_fit(axis):
    """As in ONNX Runtime, which also makes rows where no operand has them: those are refused."""
    exe = tessel.compile(
        proto(f"y = Concat <axis={axis}> (x, z)", "float[N,M] x, float[K,L] z"), cache=False
    )
    for (own, *shapes), wanted in EMPTY.items():
        if own == axis and wanted is not None:
            assert exe(*(x_of(*s) for s in shapes)).shape == wanted
        elif own == axis:
            with pytest.raises(InputError, match="do not fit the model"):
                exe(*(x_of(*s) for s in shapes))


REDUCED = {
    "Sum": 0,
    "Prod": 1,
    "Max": -np.inf,
    "Min": np.inf,
    "L1": 0,
    "L2": 0,
    "SumSquare": 0,
    "LogSum": -np.inf,
    "LogSumExp": -np.inf,
    "Mean": np.nan,
}


@pytest.mark.parametrize("name", REDUCED)
def test_reductions_of_nothing(name):
    """As ONNX says, and numpy where it says nothing: the mean (ONNX Runtime has 0 there)."""
    body = f"axes = Constant <value_ints=[0]> () y = Reduce{name} <keepdims=0> (x, axes)"
    exe = tessel.compile(proto(body), cache=False)
    np.testing.assert_array_equal(exe(x_of(0, 3)), np.float32([REDUCED[name]] * 3))
    assert exe(x_of(2, 0)).shape == (0,)


def test_a_package_refuses_what_its_graph_does_not_mean(tmp_path):
    exe = tessel.compile(proto("t = Max (m, one) y = ConstantOfShape (t)"), cache=False)
    assert list(map(str, nonempty(exe.graph))) == ["M"]
    exe.save(tmp_path / "m.tsl")
    loaded = tessel.load(tmp_path / "m.tsl")
    assert loaded(x_of(0, 3)).shape == (3,)
    with pytest.raises(InputError, match="the size M is 0"):
        loaded(x_of(2, 0))


def test_a_package_of_stages_refuses_what_its_graph_does_not_mean(tmp_path):
    body = "k = Sub (m, one) t = Concat <axis=0> (k, rest) v = Reshape (x, t) y = NonZero (v)"
    exe = tessel.compile(proto(body), cache=False)
    exe.save(tmp_path / "m.tsl")
    loaded = tessel.load(tmp_path / "m.tsl")
    np.testing.assert_array_equal(loaded(x_of(2, 3)), exe(x_of(2, 3)))
    assert exe(x_of(3, 1)).shape == (2, 2)
    with pytest.raises(InputError, match=r"the size M-1 is 0(.|\n)*compile the ONNX file itself"):
        loaded(x_of(3, 1))


def test_a_model_from_the_cache_is_read_anew_too(tmp_path):
    for _ in range(2):
        exe = tessel.compile(proto("t = Max (m, one) y = ConstantOfShape (t)"), cache=tmp_path)
        assert exe(x_of(2, 0)).shape == (1,)


def test_a_size_that_is_kept_needs_no_reading_anew():
    exe = tessel.compile(proto("t = Concat <axis=0> (n, rest) y = Reshape (x, t)"), cache=False)
    assert not nonempty(exe.graph)
    assert exe(x_of(0, 3)).shape == (0, 3)


def test_a_size_from_data_that_is_0_keeps_the_operands():
    """Reshape to [how many are not 0, -1]: with none it keeps the first axis."""
    body = "i = NonZero (x) j = Transpose (i) q = Shape (j) k = Gather <axis=0> (q, zero) "
    body += "t = Concat <axis=0> (k, rest) y = Reshape (x, t)"
    exe = tessel.compile(proto(body), cache=False)
    assert exe(np.zeros((2, 3), np.float32)).shape == (2, 3)
    assert exe(np.eye(3, dtype=np.float32)[:2]).shape == (2, 3)
    assert exe(np.ones((2, 3), np.float32)).shape == (6, 1)


def test_a_start_of_open_sign_counts_from_the_end():
    body = "k = Sub (n, m) y = Slice (x, k, far, zero)"
    exe = tessel.compile(proto(body), cache=False)
    for shape in [(4, 2), (2, 3), (3, 3), (1, 4)]:
        start = shape[0] - shape[1]
        np.testing.assert_array_equal(exe(x_of(*shape)), x_of(*shape)[start:])


def test_of_nothing_there_is_no_largest():
    exe = tessel.compile(proto("y = ArgMax <axis=0, keepdims=0> (x)"), cache=False)
    assert exe(x_of(2, 0)).shape == (0,) and exe(x_of(0, 0)).shape == (0,)
    with pytest.raises(InputError, match="of no elements none is the largest"):
        exe(x_of(0, 3))
    with pytest.raises(InputError, match="of no elements"):
        tessel.compile(proto("t = ConstantOfShape (m) y = ArgMax (t)"), cache=False)(x_of(2, 0))
    hard = tessel.compile(proto("y = Hardmax (x)"), cache=False)
    assert hard(x_of(2, 0)).shape == (2, 0)


def test_an_empty_axis_is_not_squeezed():
    exe = tessel.compile(proto("y = Squeeze (x, zero)"), cache=False)
    assert exe(x_of(1, 0)).shape == (0,)
    for shape in [(0, 3), (2, 0)]:
        with pytest.raises(InputError, match="size 1"):
            exe(x_of(*shape))


def test_a_reshape_to_a_computed_size_of_0_keeps_the_axis():
    body = "k = Sub (m, one) t = Concat <axis=0> (k, rest) y = Reshape (x, t)"
    exe = tessel.compile(proto(body), cache=False)
    assert list(map(str, nonempty(exe.graph))) == ["M", "M-1"]
    assert exe(x_of(3, 1)).shape == (3, 1) and exe(x_of(2, 3)).shape == (2, 3)


def test_a_computed_size_of_0_in_a_model_of_stages():
    """The stages' code is for M - 1 above 0, too: with M = 1 the axis is kept."""
    body = "k = Sub (m, one) t = Concat <axis=0> (k, {}) v = Reshape (x, t) i = NonZero (x) "
    body += "c = ReduceSum <keepdims=0> (i) f = Cast <to=1> (c) y = Add (v, f)"
    for last in ("m", "rest", "one"):
        exe = tessel.compile(proto(body.format(last)), cache=False)
        assert [(str(a), b) for a, b in exe.for_all_sizes.code.conditions] == [("M-1", 0)]
        np.testing.assert_array_equal(exe(x_of(3, 1)), x_of(3, 1) + 3)
    assert exe(x_of(1, 1)).shape == (1, 1)


def test_sizes_that_the_reader_knows_are_not_data():
    """Places of what is not 0 in a shape: how many there are is known while it is read."""
    exe = tessel.compile(proto("y = NonZero (n)"), cache=False)
    assert exe(x_of(2, 3)).tolist() == [[0]] and exe(x_of(0, 3)).shape == (1, 0)
    exe = tessel.compile(proto("c = Constant <value_int=3> () y = NonZero (c)"), cache=False)
    assert exe(x_of(2, 3)).shape == (0, 1)


@pytest.mark.parametrize(
    "given",
    ["b = Identity (a)", "i = Cast <to=7> (x) q = ReduceMin <keepdims=0> (i) b = Add (a, q)"],
    ids=["a number", "data"],
)
def test_a_start_far_before_the_front_is_the_front(given):
    """Also backwards, where numpy begins before it."""
    body = f"a = Constant <value_ints=[-99]> () e = Constant <value_ints=[-99]> () {given} "
    exe = tessel.compile(proto(body + "y = Slice (x, b, e, zero, rest)"), cache=False)
    np.testing.assert_array_equal(exe(x_of(4, 2)), x_of(1, 2))
