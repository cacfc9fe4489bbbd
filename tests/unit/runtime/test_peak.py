"""The machine's peak: the loops that measure it, `bench --peak`, and the roofline's picture."""

import json
import struct
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, save
from tessel import __version__
from tessel.compiler.backends.llvm.base.target import NAMED, host
from tessel.compiler.backends.llvm.kernel.objects import optimize
from tessel.compiler.backends.llvm.program import peak as loops
from tessel.compiler.errors import CheckFailed, UnsupportedError, UsageError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.system.cores import available_cores
from tessel.frontends.onnx.exporter import write
from tessel.runtime.profiling.peak import Peak, Rate, measure_peak
from tessel.tools.bench import bench
from tessel.tools.benchmark import roofline
from tessel.tools.common import pictures

SHORT = 0.01  # seconds
RATE = Rate(100.0, 90.0, 110.0, 9)
PEAK = Peak(1, "<8 x float>", 12, RATE, {"L2": RATE, "memory": Rate(10.0, 9.0, 11.0, 9)}, {})


# -- the loops -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "vectors", "type"),
    [
        ("x86-64-v4", 24, "<16 x float>"),
        ("x86-64-v3", 12, "<8 x float>"),
        ("aarch64", 24, "<4 x float>"),
    ],
)
def test_a_round_keeps_the_units_busy(target, vectors, type):
    target = NAMED[target]
    assert loops.accumulators(target) == vectors
    # No multiply-add may be lost, or made one with another.
    text = str(optimize(loops.peak_module(target), target))
    lines = [line for line in text.splitlines() if "@llvm.fma" in line and "call" in line]
    assert len(lines) == vectors * loops.UNROLL
    assert all(type in line for line in lines)
    assert loops.flops_per_round(target) == 2 * len(lines) * target.lanes(32)


def test_reading_loads_every_byte_of_a_step():
    target = NAMED["x86-64-v4"]
    text = str(optimize(loops.peak_module(target), target))
    loads = [line for line in text.splitlines() if "load <8 x i64>" in line]
    assert len(loads) * target.vector_bytes == loops.bytes_per_step(target)


two_cores = pytest.mark.skipif(available_cores() < 2, reason="needs two cores")


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=two_cores)])
def test_rates_of_this_machine(threads):
    found = measure_peak(threads, SHORT)
    assert found.threads == threads
    assert found.vector == f"<{host().lanes(32)} x float>"
    assert next(iter(found.reads)) == "L2" and list(found.reads)[-1] == "memory"
    for rate in (found.flops, *found.reads.values()):
        assert 0 < rate.low <= rate.median <= rate.high
        assert rate.slices >= 5
    assert found.gflops == found.flops.median


def test_arithmetic_alone():
    assert measure_peak(1, SHORT, reads=False).reads == {}


def test_a_rate_leaves_out_the_tenths_at_the_ends():
    rate = Rate.of([1000.0, *np.linspace(10, 20, 101), 0.001])
    assert rate.median == pytest.approx(15)
    assert 10 < rate.low < 12 < 18 < rate.high < 20
    assert rate.slices == 103


@pytest.mark.parametrize("threads", [0, 10**4])
def test_the_peak_of_cores_that_are_not_there(threads):
    with pytest.raises(UsageError, match="cores that this process may use"):
        measure_peak(threads, SHORT)


# -- the command ---------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path) -> str:
    b = Builder(name="small")
    b.origin = "dense"
    h = b.input("x", "f32[16,64]") @ b.constant(np.ones((64, 32), np.float32))
    b.origin = "probabilities"
    b.output("y", b.softmax(h, axis=-1))
    write(b.graph, tmp_path / "model.onnx")
    return str(tmp_path / "model.onnx")


def invoke(*arguments):
    return CliRunner().invoke(bench, [str(a) for a in arguments])


def test_peak_needs_no_model(tmp_path):
    done = invoke("--peak", "--duration", SHORT, "--json", tmp_path / "r.json")
    assert done.exit_code == 0, done.output
    for text in ("Peak of one core", "GFLOP/s", "read from L2", "read from memory"):
        assert text in done.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["models"] == {} and report["machine"]["packages"]["tessel"] == __version__
    (found,) = report["peak"]
    assert found["flops"]["median"] > 0 and found["reads"]["memory"]["median"] > 0


@two_cores
def test_peak_of_one_core_and_of_all():
    done = invoke("--peak", "--duration", SHORT, "--threads", 2)
    assert done.exit_code == 0, done.output
    assert "Peak of one core" in done.output and "Peak of 2 cores" in done.output


def test_without_peak_a_model_is_needed():
    done = invoke("--profile")
    assert done.exit_code == 2 and "Missing argument" in done.output


def test_peak_profile_and_picture_of_a_model(model, tmp_path):
    pytest.importorskip("matplotlib", reason="draws")
    done = invoke(
        *[model, "--backends", "tessel", "--duration", 0.05, "--rounds", 1, "--peak", "--profile"],
        *["--plot", tmp_path / "roof.png", "--json", tmp_path / "r.json"],
    )
    assert done.exit_code == 0, done.output
    for text in ("Peak of one core", "predicted", "of peak", "dense", "an ordinary run"):
        assert text in done.output
    found = json.loads((tmp_path / "r.json").read_text())["models"][model]["profile"]
    assert {n for row in found["kernels"] for n in row["nodes"]} == {"dense", "probabilities"}
    assert found["sum_ms"] > 0 and found["wall_ms"] > 0 and found["predicted_ms"] > 0
    assert png_size(tmp_path / "roof.png") > (800, 600)


def test_a_model_that_tessel_cannot_compile_has_no_profile(tmp_path):
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy")
    node = helper.make_node("Mystery", ["x"], ["y"], domain="far.away")
    graph = helper.make_graph([node], "g", [x], [y])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("far.away", 1)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "m.onnx")
    done = invoke(tmp_path / "m.onnx", "--backends", "tessel", "--profile", "--duration", SHORT)
    assert isinstance(done.exception, CheckFailed)
    assert "Mystery" in str(done.exception)


def test_two_models_do_not_fit_in_a_picture(model):
    done = invoke(model, model, "--plot", "roof.png")
    assert isinstance(done.exception, UsageError)
    assert "one model" in str(done.exception)


# -- the picture ---------------------------------------------------------------------------


def row(code, nodes, flops, nbytes, ms, share) -> dict:
    return {"code": code, "nodes": nodes, "flops": flops, "bytes": nbytes, "ms": ms, "share": share}


ROWS = [
    row("k_1", ["layer.0"], 2e9, 1e7, 20.0, 0.4),
    row("k_1", ["layer.1"], 2e9, 1e7, 20.0, 0.4),
    row("k_2", ["norm"], 1e6, 1e6, 5.0, 0.1),
    row("k_3", ["transpose"], 0, 1e6, 5.0, 0.1),
    row(None, ["maps"], 0, 0, 1.0, 0.02),
]


def png_size(path) -> tuple[int, int]:
    """(width, height) in pixels, from the file's header."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_equal_kernels_are_one_point_and_copies_none():
    layers, norm = roofline.points({"kernels": ROWS})
    assert layers["label"] == "2 × layer.0" and layers["share"] == pytest.approx(0.8)
    assert layers["x"] == pytest.approx(200) and layers["y"] == pytest.approx(100)
    assert norm["label"] == "norm" and norm["y"] == pytest.approx(0.2)


@pytest.mark.parametrize("count", [0, 1, 40])
def test_a_picture_of_so_many_points(tmp_path, count):
    pytest.importorskip("matplotlib", reason="draws")
    rows = [row(f"k_{i}", [f"node_{i}"], 10**8, 10**6 + i, 1.0, 1 / count) for i in range(count)]
    path = tmp_path / "roof.png"
    data = {"threads": 1, "kernels": [*rows, *ROWS[3:]]}
    assert roofline.draw(str(path), data, PEAK, "m.onnx", "some CPU") == count
    assert png_size(path)[0] > 800


def test_an_unknown_format():
    pytest.importorskip("matplotlib", reason="knows the formats")
    with pytest.raises(UsageError, match="no format for a picture"):
        pictures.check("roof.xyz")


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnsupportedError, match=r"tessel\[bench\]"):
        pictures.check("roof.png")
