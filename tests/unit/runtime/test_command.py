"""`tessel-run`, the command of machines that only run packages."""

import numpy as np
import pytest
import tessel
from tessel.compiler.ir.builder import Builder
from tessel.runtime import command

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def call(capsys):
    """Run the command; (exit code, stdout, stderr)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            command.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return call


@pytest.fixture
def package(tmp_path):
    """y = 2·x for x: f32[N,3]."""
    b = Builder(name="double")
    b.output("y", b.input("x", "f32[N,3]") * 2.0)
    path = tmp_path / "double.tsl"
    tessel.compile(b.graph).save(path)
    return path


def test_it_says_what_a_package_takes_and_gives(call, package):
    assert call(package) == (0, "in   x: f32[N,3]\nout  y: f32[N,3]\n", "")


def test_a_run_reads_and_writes_npz(call, package, tmp_path):
    np.savez(tmp_path / "in.npz", x=X)
    code, out, err = call(package, "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    assert (code, out, err) == (0, "y: float32[2, 3]\n", "")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["y"], 2 * X)


def test_threads_are_those_that_are_given(call, package, tmp_path):
    np.savez(tmp_path / "in.npz", x=X)
    assert call(package, "--inputs", tmp_path / "in.npz", "--threads", 1)[0] == 0
    code, _, err = call(package, "--threads", 0)
    assert code == 2 and "threads" in err


@pytest.mark.parametrize("data", [b"", b"nothing", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_npz(call, package, tmp_path, data):
    (tmp_path / "in.npz").write_bytes(data)
    code, _, err = call(package, "--inputs", tmp_path / "in.npz")
    assert code == 2 and "this is no .npz of inputs" in err and "numpy.savez" in err


def test_a_single_array_has_no_name(call, package, tmp_path):
    np.save(tmp_path / "in.npy", X)
    code, _, err = call(package, "--inputs", tmp_path / "in.npy")
    assert code == 2 and "single array" in err


def test_inputs_that_do_not_fit(call, package, tmp_path):
    np.savez(tmp_path / "in.npz", x=X.astype(np.int32))
    code, _, err = call(package, "--inputs", tmp_path / "in.npz")
    assert code == 2 and "dtype" in err


def test_what_is_no_package(call, tmp_path):
    (tmp_path / "x.tsl").write_bytes(b"nothing")
    code, _, err = call(tmp_path / "x.tsl")
    assert code == 2 and "no .tsl package" in err


def test_outputs_that_a_npz_cannot_hold(tmp_path):
    with pytest.raises(tessel.TesselError, match="npz holds arrays only"):
        command.write_outputs(str(tmp_path / "out.npz"), {"y": [X]})
    command.write_outputs(str(tmp_path / "out.npz"), {"y": np.array(["a", "bc"], object)})
    assert np.load(tmp_path / "out.npz")["y"].tolist() == ["a", "bc"]
