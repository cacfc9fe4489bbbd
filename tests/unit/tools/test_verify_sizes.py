"""`tessel verify` at further sizes of dynamic dims."""

import itertools

import onnx
import pytest
from tessel.compiler.analysis.equations import broadcasts
from tessel.compiler.errors import InputError
from tessel.compiler.ir import dims
from tessel.runtime.execution.executable import Executable
from tessel.tools.cli import main
from tessel.tools.verify_sizes import assignments

from ...support.onnx_models import model


@pytest.fixture
def verify(tmp_path, capsys):
    """The exit code and all that `tessel verify` prints for a model of two inputs, `p` and `q`."""

    def call(body: str, *options) -> tuple[int, str]:
        proto = model(body, inputs="float[p,3] a, float[q,3] b", outputs="float y")
        proto.graph.output[0].type.tensor_type.ClearField("shape")
        onnx.save(proto, tmp_path / "m.onnx")
        with pytest.raises(SystemExit) as end:
            main(["verify", str(tmp_path / "m.onnx"), *options])
        return end.value.code, "".join(capsys.readouterr())

    return call


EXPAND = "s = Shape (b) y = Expand (a, s)"


def test_sizes_are_1_and_not_equal_and_not():
    found = [tuple(s.values()) for s in assignments(["p", "q"])]
    assert len(set(found)) == len(found)
    assert {(1, 1), (7, 7), (1, 7), (7, 1)} <= set(found)
    assert any(1 < p < q for p, q in found) and any(1 < q < p for p, q in found)
    many = list(itertools.islice(assignments([f"n{i}" for i in range(20)]), 500))
    assert len(many) < 300 and all(len(s) == 20 for s in many)


def test_other_sizes_are_tried_and_counted(verify):
    code, out = verify(EXPAND)
    assert code == 0 and "all stages agree" in out
    assert "sizes p=1 q=7" in out and "sizes p=7 q=1" in out
    (line,) = [line for line in out.splitlines() if line.startswith("other sizes")]
    assert line == "other sizes: 8 of 8 assignments, of which the model refuses 4"


def test_no_time_for_other_sizes(verify):
    code, out = verify(EXPAND, "--other-sizes", "0")
    assert code == 0 and "other sizes: 0 of 0" in out and "p=7" not in out


@pytest.mark.parametrize("body", [EXPAND, "e = Add (a, b) s = Size (e) y = Cast <to=1> (s)"])
def test_a_broadcast_that_takes_the_first_symbol_is_found(verify, monkeypatch, body):
    """What stays unseen at equal sizes: a result is taken to have the size of one operand."""
    original = dims.dim_broadcast

    def first(a, b):
        exact = original(a, b)
        return a if broadcasts(exact) else exact

    monkeypatch.setattr(dims, "dim_broadcast", first)
    code, out = verify(body)
    assert code == 1 and "sizes p=5 q=7 are taken" in out and "all stages agree" not in out


def test_outputs_that_differ_are_found(verify, monkeypatch):
    original = Executable.run

    def careless(self, feeds):
        outputs = original(self, feeds)
        return {"y": outputs["y"] * 2} if len(feeds["a"]) == 1 < len(feeds["b"]) else outputs

    monkeypatch.setattr(Executable, "run", careless)
    code, out = verify(EXPAND)
    assert code == 1 and "sizes p=1 q=7: the outputs differ" in out
    assert "tessel verify --shapes a[1,3],b[7,3] looks for the stage" in out


def test_right_sizes_that_are_refused_are_found(verify, monkeypatch):
    original = Executable.specialization

    def picky(self, binding, inputs=None):
        if binding["p"] == 1:
            raise InputError("no ones")
        return original(self, binding, inputs)

    monkeypatch.setattr(Executable, "specialization", picky)
    code, out = verify(EXPAND)
    assert code == 1 and "sizes p=1 q=7 are refused" in out and "no ones" in out


def test_wrong_sizes_that_are_taken_are_found(verify, monkeypatch):
    original = Executable.run

    def careless(self, feeds):
        equal = feeds["a"].shape == feeds["b"].shape
        return original(self, feeds) if equal else {"y": feeds["a"]}

    monkeypatch.setattr(Executable, "run", careless)
    code, out = verify("y = Concat <axis=1> (a, b)")
    assert code == 1 and "sizes p=5 q=7 are taken" in out
    assert "received: outputs of [5, 3]" in out


@pytest.mark.parametrize("ends", ["python", "compiled code"])
def test_sizes_that_come_to_no_end_are_left(verify, monkeypatch, ends):
    original = Executable.run

    def long(self, feeds):
        while ends == "python" and len(feeds["a"]) == 1:
            pass
        return original(self, feeds)

    monkeypatch.setattr(Executable, "run", long)
    body = EXPAND
    if ends != "python":  # as many turns as there may be, where a has 13 rows
        body = """k = Constant <value_int=13> () n = Shape (a) m = Gather (n, z)
        z = Constant <value_int=0> () one = Equal (m, k)
        far = Constant <value_int=1000000000000> () t = Where (one, far, k)
        y = Loop (t, , b) <body = l (int64 i, bool c, float[q,3] v) => (bool d, float[q,3] w)
        {d = Identity (c) w = Sin (v)}>"""
    code, out = verify(body, "--other-sizes", "5")
    assert code == 0 and "no end" in out and "took too long" in out
