"""`Executable.run`: what it takes, what it refuses, what it gives back."""

import pickle
import threading

import ml_dtypes
import numpy as np
import pytest
import tessel
from tessel.compiler.errors import InputError, UsageError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.text import parse_graph

TARGETS = ["cpu", "numpy"]
SYMBOLIC = """
graph sums(%x: f32[N,3], %y: f32[N,3], %z: i64[2*N]) -> (%s, %t as "total") {
  %s = add(%x, %y)
  %w = cast(%z) {dtype=f32}
  %t = reduce_sum(%w) {axes=[0], keepdims=false}
}
"""


@pytest.fixture(params=TARGETS)
def sums(request):
    return tessel.compile(parse_graph(SYMBOLIC), target=request.param, threads=2)


def arrays(n: int) -> dict:
    x = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
    return {"x": x, "y": np.ones((n, 3), np.float32), "z": np.arange(2 * n)}


def unary(op: str, type: str, **attrs):
    b = Builder()
    b.output("y", getattr(b, op)(b.input("x", type), **attrs))
    return b.graph


# -- the signature -------------------------------------------------------------------------


def test_the_signature_names_dtypes_and_shapes(sums):
    x, _, z = sums.inputs
    assert (x.name, x.dtype, x.shape) == ("x", np.float32, ("N", 3))
    assert z.shape == ("2*N",)
    assert [(p.name, p.shape) for p in sums.outputs] == [("s", ("N", 3)), ("total", ())]
    assert "(x: f32[N,3], y: f32[N,3], z: i64[2*N])" in repr(sums)


# -- results -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 4, 7])
def test_each_size_is_compiled_when_it_comes(sums, n):
    outputs = sums.run(arrays(n))
    np.testing.assert_array_equal(outputs["s"], arrays(n)["x"] + 1)
    assert outputs["total"] == np.arange(2 * n).sum()


def test_positional_inputs_give_a_tuple_or_the_only_output(sums):
    s, total = sums(*arrays(2).values())
    assert s.shape == (2, 3) and total == 6
    one = tessel.compile(unary("exp", "f32[2]"))
    np.testing.assert_array_equal(one(np.zeros(2, np.float32)), [1, 1])


def test_outputs_belong_to_the_caller(sums):
    feeds = arrays(4)
    first = sums.run(feeds)
    first["s"][...] = -1
    assert not np.shares_memory(sums.run(feeds)["s"], first["s"])
    np.testing.assert_array_equal(feeds["x"], arrays(4)["x"])


def test_an_input_that_is_an_output_is_copied():
    b = Builder()
    b.output("y", b.input("x", "f32[3]"))
    x = np.ones(3, np.float32)
    y = tessel.compile(b.graph)(x)
    assert not np.shares_memory(x, y)
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("type", "x"), [("f32[]", 2.0), ("f32[0,3]", np.zeros((0, 3)))])
def test_scalars_and_empty_arrays(target, type, x):
    exe = tessel.compile(unary("neg", type), target=target)
    y = exe.run({"x": np.asarray(x, np.float32)})["y"]
    np.testing.assert_array_equal(y, -np.asarray(x, np.float32))
    assert isinstance(y, np.ndarray)


def test_an_empty_batch(sums):
    outputs = sums.run(arrays(0))
    assert outputs["s"].shape == (0, 3) and outputs["total"] == 0


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda x: x[::-1][::-1], id="contiguous"),
        pytest.param(lambda x: np.asfortranarray(x), id="column order"),
        pytest.param(lambda x: np.repeat(x, 2, axis=1)[:, ::2], id="strided"),
        pytest.param(lambda x: x.astype(x.dtype.newbyteorder()), id="other byte order"),
        pytest.param(
            lambda x: (
                np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
            ),
            id="unaligned",
        ),
        pytest.param(lambda x: _read_only(x), id="read only"),
        pytest.param(lambda x: x.view(np.recarray), id="a subclass"),
    ],
)
def test_any_layout_of_the_right_dtype(sums, view):
    feeds = arrays(4)
    expected = sums.run(feeds)["s"]
    for _ in range(2):  # the second run finds its specialization
        given = sums.run(feeds | {"x": view(feeds["x"])})["s"]
        np.testing.assert_array_equal(given, expected)


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def test_arrays_that_fit_are_not_checked_again(sums, monkeypatch):
    """Also those whose dtype is equal but another object, as unpickled arrays have it."""
    given = pickle.loads(pickle.dumps(arrays(2)))
    assert given["x"].dtype is not np.dtype(np.float32)
    right = sums.run(given)

    monkeypatch.setattr(type(sums.signature), "check", lambda *_: pytest.fail("checked again"))
    assert np.array_equal(sums.run(given)["s"], right["s"])


def test_a_list_of_the_right_dtype():
    exe = tessel.compile(unary("neg", "f64[2]"))
    np.testing.assert_array_equal(exe.run({"x": [1.0, 2.0]})["y"], [-1, -2])


def test_bfloat16():
    exe = tessel.compile(unary("neg", "bf16[2]"))
    y = exe.run({"x": np.array([1, 2], ml_dtypes.bfloat16)})["y"]
    assert y.dtype == ml_dtypes.bfloat16 and y.tolist() == [-1, -2]


# -- refusals ------------------------------------------------------------------------------


def test_all_findings_come_at_once(sums):
    feeds = {
        "x": np.zeros((2, 3)),  # f64
        "y": np.zeros(3, np.float32),  # rank 1
        "extra": np.zeros(1),
    }
    with pytest.raises(InputError) as caught:
        sums.run(feeds)
    text = str(caught.value)
    assert "missing: z" in text
    assert "unexpected: extra" in text
    assert "wrong dtype" in text and "x.astype(np.float32)" in text
    assert "wrong rank" in text and "input y" in text
    assert len(caught.value.findings) == 4


def test_sizes_that_contradict_each_other(sums):
    with pytest.raises(InputError, match=r"4: N, where N = 4 \(x, axis 0\)") as caught:
        sums.run(arrays(4) | {"y": np.ones((5, 3), np.float32)})
    (finding,) = caught.value.findings
    assert finding.where == "input y, axis 0" and finding.received == 5


def test_a_fixed_size_and_an_expression_are_checked(sums):
    with pytest.raises(InputError) as caught:
        sums.run(arrays(4) | {"x": np.zeros((4, 2), np.float32), "z": np.arange(9)})
    assert [f.where for f in caught.value.findings] == ["input x, axis 1", "input z, axis 0"]


def test_refusals_do_not_depend_on_what_ran_before(sums):
    sums.run(arrays(4))
    with pytest.raises(InputError, match="unexpected: w"):
        sums.run(arrays(4) | {"w": 1})
    with pytest.raises(InputError, match="wrong dtype"):
        sums.run(arrays(4) | {"x": np.zeros((4, 3), np.int32)})


@pytest.mark.parametrize("feeds", [None, [1, 2], np.zeros(3)])
def test_run_takes_a_dict(sums, feeds):
    with pytest.raises(InputError, match="a dict of arrays"):
        sums.run(feeds)


def test_the_number_of_positional_inputs(sums):
    with pytest.raises(InputError, match="wrong number of inputs"):
        sums(np.zeros(3))


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_threads_are_at_least_one(threads):
    with pytest.raises(UsageError, match="needs a thread"):
        tessel.compile(unary("neg", "f32[1]"), threads=threads)


# -- specializations -----------------------------------------------------------------------


def test_static_models_are_compiled_at_once_and_others_when_run():
    assert len(tessel.compile(unary("neg", "f32[2]")).specializations) == 1
    exe = tessel.compile(unary("neg", "f32[N]"))
    assert exe.specializations == []
    for n in (1, 2, 2, 1):
        exe.run({"x": np.zeros(n, np.float32)})
    assert [b.binding for b in exe.specializations] == [{"N": 2}, {"N": 1}]


def test_the_specialization_used_longest_ago_goes():
    exe = tessel.compile(unary("neg", "f32[N]"), target="numpy")
    for n in range(1, 17):
        exe.run({"x": np.zeros(n, np.float32)})
    exe.run({"x": np.zeros(1, np.float32)})
    exe.run({"x": np.zeros(17, np.float32)})
    sizes = [b.binding["N"] for b in exe.specializations]
    assert len(sizes) == 16 and 1 in sizes and 2 not in sizes


def test_many_threads_at_once():
    b = Builder()
    x = b.input("x", "f32[N,64]")
    w = b.constant(np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32))
    b.output("y", b.softmax(b.tanh(x @ w) @ w, axis=-1))
    exe = tessel.compile(b.graph, threads=2)
    feeds = [np.full((n, 64), n / 7, np.float32) for n in (3, 40, 200)]
    expected = [exe(x) for x in feeds]
    wrong = []

    def work(i):
        for k in range(30):
            j = (i + k) % len(feeds)
            if not np.array_equal(exe(feeds[j]), expected[j]):
                wrong.append(j)

    team = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in team:
        t.start()
    for t in team:
        t.join()
    assert wrong == []


# -- updates -------------------------------------------------------------------------------


def counter(target: str):
    """total, step -> new total (over total), twice the total as it was."""
    b = Builder()
    total, step = b.input("total", "f32[4]"), b.input("step", "f32[4]")
    b.output("new", total + step)
    b.output("double", total * 2)
    b.graph.updates = {0: 0}
    return tessel.compile(b.graph, target=target, threads=1)


ONES = np.ones(4, np.float32)


@pytest.mark.parametrize("target", TARGETS)
def test_without_bind_the_callers_arrays_are_left_alone(target):
    total = np.zeros(4, np.float32)
    outputs = counter(target).run({"total": total, "step": ONES})
    assert total.tolist() == [0] * 4
    assert outputs["new"].tolist() == [1] * 4 and outputs["double"].tolist() == [0] * 4


@pytest.mark.parametrize("target", TARGETS)
def test_a_bound_input_is_updated_in_place(target):
    exe, start = counter(target), np.zeros(4, np.float32)
    total = exe.bind("total", start)
    for _ in range(3):
        outputs = exe.run({"step": ONES})
    assert list(outputs) == ["double"] and outputs["double"].tolist() == [4] * 4
    assert total.tolist() == [3] * 4 and start.tolist() == [0] * 4
    total[...] = 10  # seen by the next run
    assert exe(ONES).tolist() == [20] * 4


def test_bind_checks_what_it_is_given():
    exe = counter("numpy")
    with pytest.raises(UsageError, match="no such input"):
        exe.bind("other", ONES)
    with pytest.raises(InputError, match="wrong dtype"):
        exe.bind("total", np.zeros(4))
    exe.bind("total", ONES)
    with pytest.raises(InputError, match="belongs to the executable"):
        exe.run({"total": ONES, "step": ONES})
