"""Initializers that are inputs too: weights, until a run feeds them."""

import numpy as np
import onnx
import pytest
import tessel
from onnx import numpy_helper
from tessel.compiler.errors import InputError, UsageError
from tessel.tools import cli

from ...support.onnx_models import model, ops

ONE = np.ones(3, np.float32)
TWO = np.full(1, 2, np.float32)


def with_defaults(body, inputs, outputs, ir_version=8, **defaults) -> onnx.ModelProto:
    """A model whose inputs named in `defaults` have these as initializers."""
    proto = model(body, inputs=inputs, outputs=outputs)
    proto.ir_version = ir_version
    for name, array in defaults.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return proto


def scaling(**options):
    proto = with_defaults(
        "y = Mul(x, scale)", "float[3] x, float[1] scale", "float[3] y", scale=ONE[:1], **options
    )
    return proto


def compiled(proto, **options):
    return tessel.compile(proto, target="numpy", **options)


def test_a_default_is_a_weight_until_a_run_feeds_it():
    exe = compiled(scaling())
    assert ops(exe.graph) == []  # x * 1: the default has been folded
    assert exe(ONE).tolist() == [1, 1, 1]
    assert exe.run({"x": ONE, "scale": TWO})["y"].tolist() == [2, 2, 2]
    assert exe.run({"scale": 2 * TWO, "x": ONE})["y"].tolist() == [4, 4, 4]
    assert exe.run({"x": ONE})["y"].tolist() == [1, 1, 1]


def test_on_the_cpu_as_in_onnx_runtime():
    proto = with_defaults(
        "y = Gemm(x, w, b)",
        "float[2,3] x, float[3,4] w, float[4] b",
        "float[2,4] y",
        w=np.ones((3, 4), "f4"),
        b=np.ones(4, "f4"),
    )
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options)
    rng = np.random.default_rng(0)
    exe = tessel.compile(proto, cache=False)
    arrays = {p.name: rng.standard_normal(p.shape).astype("f4") for p in exe.inputs}
    for names in ("x", "xb", "xw", "xwb", "x"):
        feeds = {n: arrays[n] for n in names}
        np.testing.assert_allclose(exe.run(feeds)["y"], session.run(None, feeds)[0], rtol=1e-5)


def test_inputs_tell_what_is_optional_and_its_default():
    exe = compiled(scaling())
    assert [str(p) for p in exe.inputs] == ["x: f32[3]", "scale: f32[1] (optional)"]
    assert [p.optional for p in exe.inputs] == [False, True]
    assert exe.inputs[0].default is None
    assert exe.inputs[1].default.tolist() == [1]


def test_files_before_ir_version_4_list_weights_as_inputs():
    exe = compiled(scaling(ir_version=3))
    assert [p.name for p in exe.inputs] == ["x"]
    with pytest.raises(InputError, match="unexpected: scale"):
        exe.run({"x": ONE, "scale": TWO})


def test_what_is_fed_may_have_other_sizes_than_the_default():
    proto = with_defaults("y = Add(x, z)", "float[n] x, float[n] z", "float[n] y", z=ONE[:1])
    exe = compiled(proto, shapes={"z": (None,)})
    assert exe(ONE).tolist() == [2, 2, 2]
    assert exe.run({"x": ONE, "z": ONE * 4})["y"].tolist() == [5, 5, 5]
    with pytest.raises(InputError, match="z, axis 0"):
        exe.run({"x": ONE, "z": ONE[:2]})


def test_a_default_that_decides_shapes():
    proto = with_defaults(
        "y = Reshape(x, s)", "float[2,6] x, int64[2] s", "float[a,b] y", s=np.array([3, 4])
    )
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    exe = compiled(proto)
    assert exe(x).shape == (3, 4)
    for s in ([2, -1], [4, 3], [1, 12]):
        got = exe.run({"x": x, "s": np.array(s)})["y"]
        np.testing.assert_array_equal(got, x.reshape(s))
    with pytest.raises(InputError):
        exe.run({"x": x, "s": np.array([5, 5])})


def test_beside_sequences():
    proto = with_defaults(
        "y = ConcatFromSequence<axis=0>(xs) z = Mul(y, scale)",
        "seq(float[2]) xs, float[1] scale",
        "float[n] z",
        scale=ONE[:1],
    )
    exe = compiled(proto)
    xs = [ONE[:2], ONE[:2] * 3]
    assert exe.run({"xs": xs})["z"].tolist() == [1, 1, 3, 3]
    assert exe.run({"xs": xs, "scale": TWO})["z"].tolist() == [2, 2, 6, 6]


def test_the_callers_model_stays_as_it_is():
    proto = scaling()
    before = proto.SerializeToString(deterministic=True)
    compiled(proto).run({"x": ONE, "scale": TWO})
    assert proto.SerializeToString(deterministic=True) == before


def test_defaults_and_bound_inputs_exclude_each_other():
    exe = compiled(scaling())
    exe.bind("x", ONE)
    with pytest.raises(UsageError, match="while inputs are bound"):
        exe.run({"scale": TWO})
    assert exe.run({})["y"].tolist() == [1, 1, 1]


def test_packages_and_graphs_hold_the_default_and_say_so(tmp_path):
    tessel.compile(scaling(), cache=False).save(tmp_path / "m.tsl")
    for exe in (tessel.load(tmp_path / "m.tsl"), compiled(tessel.from_onnx(scaling()))):
        assert exe(ONE).tolist() == [1, 1, 1]
        with pytest.raises(InputError, match=r"has its default here(.|\n)*input scale"):
            exe.run({"x": ONE, "scale": TWO})
    again = tessel.to_onnx(scaling())
    assert [p.name for p in compiled(again).inputs] == ["x"]


def test_the_command_line_takes_what_replaces_a_default(tmp_path, capsys):
    def run_command(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([*arguments, "--target", "numpy"])
        assert end.value.code == 0
        return capsys.readouterr().out

    onnx.save(scaling(), tmp_path / "m.onnx")
    path = str(tmp_path / "m.onnx")
    np.savez(tmp_path / "in.npz", x=ONE, scale=TWO)
    given = ["--inputs", str(tmp_path / "in.npz")]
    assert "y: float32[3] = [2., 2., 2.]" in run_command("run", path, *given)
    assert "y: float32[3]" in run_command("run", path)  # at random: the default stays
    assert "all stages agree" in run_command("verify", path, *given)
