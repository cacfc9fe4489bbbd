"""Sequences, optionals and tensors of unknown rank as inputs and outputs: lists and None, compiled
for each structure. Numbers are those of ONNX's own evaluator or of ONNX Runtime."""

import numpy as np
import pytest
import tessel
from onnx.reference import ReferenceEvaluator
from tessel.compiler.errors import InputError, ModelError, UsageError

from ...support.onnx_models import model, onnxruntime, rand

SEQ = "seq(float[?,3]) xs"


def assert_same(got, want) -> None:
    if isinstance(want, (list, tuple)):
        assert isinstance(got, list)
        assert len(got) == len(want)
        for g, w in zip(got, want):
            assert_same(g, w)
    elif want is None:
        assert got is None
    else:
        want = np.asarray(want)
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_allclose(got, want, 1e-5, 1e-6)


def check(proto, *inputs, oracle="reference") -> "tessel.Executable":
    """The compiled model gives what another implementation gives for these inputs."""
    exe = tessel.compile(proto)
    names = [i.name for i in proto.graph.input]
    feeds = dict(zip(names, inputs))
    if oracle == "reference":
        want = ReferenceEvaluator(proto).run(None, feeds)
    else:
        want = onnxruntime(proto, *inputs)
    assert_same(list(exe.run(feeds).values()), want)
    return exe


def seq_model(body: str, inputs: str = SEQ, outputs: str = "float[?,3] y", **options):
    """ONNX's text has `seq(…)` and `optional(…)` with dims `?`."""
    return model(body, inputs=inputs, outputs=outputs, **options)


def test_a_list_is_joined_whatever_its_length():
    proto = seq_model("j = ConcatFromSequence<axis=0>(xs) y = Neg(j)")
    exe = tessel.compile(proto)
    assert str(exe.inputs[0]) == "xs: seq(f32[xs_0,3])"
    assert exe.inputs[0].shape is None
    for rows in ([2], [1, 4], [3, 1, 2], [2, 2]):
        xs = [rand(n, 3, seed=n) for n in rows]
        np.testing.assert_array_equal(exe(xs), -np.concatenate(xs))


def test_lists_go_in_and_out():
    proto = seq_model(
        """
        one = Constant<value_int=1>()
        more = SequenceInsert(xs, a, one)
        ys = SequenceErase(more)
        n = SequenceLength(ys)
        last = SequenceAt(ys, one)
        """,
        inputs=f"{SEQ}, float[?,3] a",
        outputs="seq(float[?,3]) ys, int64 n, float[?,3] last",
    )
    check(proto, [rand(1, 3), rand(2, 3)], rand(4, 3))


def test_positions_may_be_inputs():
    proto = seq_model(
        "ys = SequenceInsert(xs, a, at)",
        inputs=f"{SEQ}, float[?,3] a, int64 at",
        outputs="seq(float[?,3]) ys",
    )
    exe = tessel.compile(proto)
    xs, a = [rand(1, 3), rand(2, 3)], rand(4, 3)
    for at in (0, 1, 2, -1, -2):
        want = list(xs)
        want.insert(at, a)
        assert_same(exe(xs, a, np.array(at)), want)
    with pytest.raises(InputError, match="a position outside of the sequence"):
        exe(xs, a, np.array(3))


def test_a_computed_position_takes_a_slice():
    proto = model(
        """
        xs = SequenceConstruct(a, b, c)
        flat = Flatten<axis=0>(a)
        i = ArgMax<axis=1, keepdims=0>(flat)
        z = Constant<value_ints=[0]>()
        three = Constant<value_int=3>()
        at = Mod(i, three)
        at0 = Squeeze(at)
        y = SequenceAt(xs, at0)
        """,
        inputs="float[2,2] a, float[2,2] b, float[2,2] c",
        outputs="float[2,2] y",
    )
    exe = tessel.compile(proto)
    b, c = rand(2, 2, seed=1), rand(2, 2, seed=2)
    for k in range(4):
        a = np.zeros((2, 2), np.float32)
        a.flat[k] = 1
        np.testing.assert_array_equal(exe(a, b, c), [a, b, c][k % 3])


SPLIT = "ys = SplitToSequence<axis=1>(x, split)"


@pytest.mark.parametrize("split", [np.array(2), np.array(4), np.array([1, 5]), np.array([2, 0, 4])])
def test_a_split_at_run_time(split):
    inputs = f"float[3,6] x, int64{'[k]' if split.ndim else ''} split"
    check(seq_model(SPLIT, inputs=inputs, outputs="seq(float[3,?]) ys"), rand(3, 6), split)


def test_the_length_of_a_list_may_follow_from_a_size():
    proto = seq_model(
        "ys = SplitToSequence<axis=0, keepdims=0>(x)",
        inputs="float[N,3] x",
        outputs="seq(float[3]) ys",
    )
    exe = tessel.compile(proto)
    for n in (1, 3):
        x = rand(n, 3)
        assert_same(exe(x), list(x))


def test_sequence_map():
    proto = seq_model(
        """
        ys, shapes = SequenceMap<body = b (float[?,3] x, float[3] w)
            => (float[?,3] y, int64[2] shape) { y = Mul(x, w) shape = Shape(x) }>(xs, w)
        """,
        inputs=f"{SEQ}, float[3] w",
        outputs="seq(float[?,3]) ys, seq(int64[2]) shapes",
    )
    check(proto, [rand(1, 3), rand(5, 3)], rand(3))
    exe = tessel.compile(proto)
    assert exe([], rand(3)) == ([], [])


OPTIONAL = """
    here = OptionalHasElement(o)
    y = If(here) <
        then_branch = t () => (float[?] v) { v = OptionalGetElement(o) },
        else_branch = e () => (float[?] v) { v = Neg(x) }
    >
"""


def test_an_optional_is_there_or_not():
    proto = model(OPTIONAL, inputs="optional(float[2]) o, float[3] x", outputs="float[k] y")
    exe = tessel.compile(proto)
    o, x = rand(2), rand(3)
    np.testing.assert_array_equal(exe(o, x), o)
    np.testing.assert_array_equal(exe(None, x), -x)


def test_an_optional_sequence_as_output():
    proto = seq_model(
        """
        y = If(c) <
            then_branch = t () => (optional(seq(float[?,3])) v) { v = Optional(xs) },
            else_branch = e () => (optional(seq(float[?,3])) v) {
                v = Optional<type = seq(float[?,3])>() }
        >
        """,
        inputs=f"bool c, {SEQ}",
        outputs="optional(seq(float[?,3])) y",
    )
    exe = tessel.compile(proto)
    xs = [rand(1, 3), rand(2, 3)]
    assert_same(exe(np.array(True), xs), xs)
    assert exe(np.array(False), xs) is None


def test_branches_that_give_lists_of_equal_types_need_no_known_condition():
    proto = model(
        """
        s = ReduceSum<keepdims=0>(x)
        zero = Constant<value_float=0.0>()
        c = Greater(s, zero)
        ys = If(c) <
            then_branch = t () => (seq(float[2]) v) { n = Neg(x) v = SequenceConstruct(x, n) },
            else_branch = e () => (seq(float[2]) v) { n = Abs(x) v = SequenceConstruct(n, x) }
        >
        """,
        inputs="float[2] x",
        outputs="seq(float[2]) ys",
    )
    for x in (np.float32([1, 2]), np.float32([-1, -2])):
        exe = check(proto, x)
    assert "if" in [n.op.name for n in exe.graph.nodes]


def test_a_loop_collects_a_list():
    proto = model(
        """
        go = Constant<value = bool {1}>()
        none = SequenceEmpty<dtype=1>()
        all = Loop(m, go, none) <
            body = b (int64 i, bool c, seq(float[2]) s) => (bool c2, seq(float[2]) s2) {
                c2 = Identity(c)
                f = Cast<to=1>(i)
                v = Add(x, f)
                s2 = SequenceInsert(s, v)
            }
        >
        y = ConcatFromSequence<axis=0, new_axis=1>(all)
        """,
        inputs="int64 m, float[2] x",
        outputs="float[k,2] y",
    )
    exe = tessel.compile(proto)
    x = rand(2)
    for m in (1, 3):
        want = np.stack([x + np.float32(i) for i in range(m)])
        np.testing.assert_allclose(exe(np.array(m), x), want)


def test_an_input_of_unknown_rank():
    proto = model("y = Relu(x)")
    for info in (proto.graph.input[0], proto.graph.output[0]):
        info.type.tensor_type.ClearField("shape")
    exe = tessel.compile(proto)
    assert str(exe.inputs[0]) == "x: f32[…]"
    for shape in ((), (3,), (2, 3)):
        x = rand(*shape)
        np.testing.assert_array_equal(exe(x), np.maximum(x, 0))


def test_what_does_not_fit_is_said():
    proto = seq_model("y = ConcatFromSequence<axis=0>(xs)")
    exe = tessel.compile(proto)
    with pytest.raises(InputError, match="a sequence is a list"):
        exe(rand(2, 3))
    with pytest.raises(InputError, match=r"input xs\[1\][\s\S]*f64"):
        exe([rand(2, 3), rand(2, 3).astype(np.float64)])
    with pytest.raises(InputError, match="missing: xs"):
        exe.run({})
    with pytest.raises(InputError, match=r"xs: 0 items[\s\S]*an empty sequence"):
        exe([])


def test_a_package_holds_one_form(tmp_path):
    proto = seq_model("j = ConcatFromSequence<axis=0>(xs) y = Neg(j)")
    exe = tessel.compile(proto)
    with pytest.raises(UsageError, match="each structure of its inputs"):
        exe.save(tmp_path / "m.tsl")
    xs = [rand(1, 3), rand(2, 3)]
    exe.run({"xs": xs})
    exe.save(tmp_path / "m.tsl")
    loaded = tessel.load(tmp_path / "m.tsl")
    assert [str(p) for p in loaded.inputs] == [str(p) for p in exe.inputs]
    np.testing.assert_array_equal(loaded(xs), -np.concatenate(xs))
    with pytest.raises(InputError, match="another structure"):
        loaded(xs[:1])


def test_a_graph_with_lists_prints_and_parses():
    from tessel.compiler.ir.parse import parse_graph
    from tessel.frontends.onnx.importer import read

    proto = seq_model("ys = SequenceErase(xs)", outputs="seq(float[?,3]) ys")
    graph = read(proto, structures={"xs": (2, 2)})
    assert graph.output_names == ["ys[0]"]
    again = parse_graph(str(graph))
    exe = tessel.compile(again)
    xs = [rand(1, 3), rand(2, 3)]
    assert_same(exe(xs), xs[:1])


def test_an_empty_optional_has_no_element():
    proto = model("y = OptionalGetElement(o)", inputs="optional(float[2]) o", outputs="float[2] y")
    exe = tessel.compile(proto)
    with pytest.raises(ModelError, match="an empty optional has no element"):
        exe(None)


def test_maps_are_inputs():
    """A map goes as it is to the op that reads it, which runs in Python."""
    from tessel.compiler.ir import op
    from tessel.compiler.ir.builder import Builder
    from tessel.compiler.ir.types import F32, STR, MapType, TensorType

    name = "sum_of_map"
    if name not in op.OPS:
        op.register(
            name,
            "m: * -> f32",
            "The sum of a map's values.",
            infer=lambda m: (TensorType(F32, ()),),
            ref=lambda m: np.float32(sum(m.values())),
            grad=op.NotDifferentiable("a map has no gradient"),
            loops=op.Extern(lambda m: np.float32(sum(m.values())), "maps are Python's"),
            samples=lambda: [],
            group="extern",
        )
    try:
        b = Builder()
        m = b.input("m", MapType(STR, TensorType(F32, ())))
        b.output("y", b.emit(name, m) * 2)
        exe = tessel.compile(b.graph)
        assert exe({"a": 1.5, "b": np.float32(2)}) == 7
        assert exe({"a": 1.0}) == 2
        with pytest.raises(InputError, match="a map is a dict"):
            exe([1])
        with pytest.raises(InputError, match="a key has another type"):
            exe({1: 1.0})
        with pytest.raises(InputError, match="a value has another type"):
            exe({"a": "x"})
    finally:
        op.OPS.pop(name, None)


@pytest.fixture
def joined(tmp_path):
    """A model of lists and its inputs as a `.npz`."""
    proto = seq_model(
        """
        j = ConcatFromSequence<axis=0>(xs)
        there = OptionalHasElement(o)
        y = Neg(j)
        ys = SequenceErase(xs)
        """,
        inputs=f"{SEQ}, optional(float[2]) o",
        outputs="float[?,3] y, seq(float[?,3]) ys, bool there",
    )
    path, inputs = tmp_path / "m.onnx", tmp_path / "in.npz"
    path.write_bytes(proto.SerializeToString())
    np.savez(inputs, **{"xs[0]": rand(1, 3), "xs[1]": rand(2, 3)})
    return path, inputs


def test_the_command_line_takes_lists(joined, tmp_path, capsys):
    from tessel.tools import cli

    def call(*arguments) -> str:
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert end.value.code == 0, err
        return out

    path, inputs = joined
    out = tmp_path / "out.npz"
    printed = call("run", path, "--inputs", inputs, "-o", out)
    assert "ys[0]: float32[1, 3]" in printed and "there: bool[] = [False]" in printed
    found = np.load(out)
    assert sorted(found) == ["there", "y", "ys[0]"]
    assert "all stages agree" in call("verify", path, "--inputs", inputs, "--expect", out)
    assert "neg" in call("explain", path, "--inputs", inputs)
    package = tmp_path / "m.tsl"
    call("compile", path, "--inputs", inputs, "-o", package)
    assert "ys[0]: float32[1, 3]" in call("run", package, "--inputs", inputs)
