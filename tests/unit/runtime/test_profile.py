"""Profiles: every step's time from inside a run, with its nodes, its work and its prediction."""

import re

import numpy as np
import pytest
import tessel
from tessel.compiler.backends.llvm.program.timestamps import timestamped_code, timestamped_steps
from tessel.compiler.errors import UsageError
from tessel.compiler.ir.builder import Builder
from tessel.runtime.native.module import NativeModule
from tessel.runtime.profiling.profile import profile
from tessel.tools.common.profile_tables import (
    ROWS,
    equal_rows,
    kernel_rows,
    print_profile,
    profile_data,
)
from tessel.tools.common.tables import console

RNG = np.random.default_rng(0)
SHORT = 0.02  # seconds


class Peak:
    """Stands for the measured peak of two cores."""

    threads, gflops = 2, 200.0


def dense_graph():
    b = Builder(name="small")
    b.origin = "dense"
    h = b.input("x", "f32[64,256]") @ b.constant(RNG.standard_normal((256, 480), np.float32))
    b.origin = "probabilities"
    b.output("y", b.softmax(h, axis=-1))
    return b.graph


def scan_graph():
    """Five rounds of h = tanh(h @ x)."""
    body = Builder(name="body")
    body.origin = "step"
    state, piece = body.input("h", "f32[64,64]"), body.input("x", "f32[64,64]")
    body.output("next", body.tanh(body.matmul(state, piece)))
    b = Builder()
    h, xs = b.input("h", "f32[64,64]"), b.input("xs", "f32[5,64,64]")
    last = b.emit("scan", h, xs, body=body.graph, states=1, scans=1)
    b.output("y", last)
    return b.graph


def branch_graph():
    b, inside, other = Builder(), Builder(name="then"), Builder(name="else")
    c, x = b.input("c", "bool[]"), b.input("x", "f32[30,20]")
    inside.origin, other.origin = "taken", "left"
    inside.output("z", inside.exp(inside.input("a", "f32[30,20]")))
    other.output("z", other.tanh(other.input("a", "f32[30,20]")))
    b.output("y", b.emit("if", c, x, then_graph=inside.graph, else_graph=other.graph))
    return b.graph


def extern_graph():
    b = Builder()
    scores = b.softmax(b.input("x", "f32[4,3]"), axis=-1)
    b.origin = "maps"
    b.output("y", b.zip_map(scores, labels=(7, 8, 9)))
    return b.graph


def feeds_of(exe) -> dict:
    return {p.name: np.ones(p.shape, p.dtype) for p in exe.inputs}


def profiled(graph, threads=1):
    exe = tessel.compile(graph, threads=threads, cache=False)
    return profile(exe, feeds_of(exe), SHORT)


@pytest.mark.parametrize("threads", [1, 2])
def test_kernels_are_named_by_their_nodes(threads):
    found = profiled(dense_graph(), threads)
    assert found.threads == threads
    assert {o for k in found.kernels for o in k.origins} == {"dense", "probabilities"}
    assert all(k.ns > 0 and k.predicted > 0 and k.calls == 1 for k in found.kernels)
    assert found.ordinary > 0 and found.timestamped > 0


def test_the_parts_are_the_whole():
    found = profiled(dense_graph())
    parts = found.waiting + found.outside + found.rest
    assert found.total == pytest.approx(sum(k.ns for k in found.kernels) + parts)
    assert found.predicted == sum(k.predicted for k in found.kernels)


def test_rounds_of_a_loop_are_counted():
    # Its body may stand there more than once: states take turns.
    products = [k for k in profiled(scan_graph()).kernels if k.work.flops > 64**3]
    assert len({k.code for k in products}) == 1
    assert sum(k.calls for k in products) == 5
    assert sum(k.work.flops for k in products) == 5 * (2 * 64**3 + 64 * 64)


def test_steps_of_a_recurrent_layer_are_named_by_it():
    b = Builder()
    x, w, r = (
        b.input("x", "f32[5,2,16]"),
        b.input("w", "f32[1,16,16]"),
        b.input("r", "f32[1,16,16]"),
    )
    b.origin = "layer"
    b.output("y", b.rnn(x, w, r, hidden_size=16)[0])
    found = [k for k in profiled(b.graph).kernels if k.origins]
    assert found and all(k.origins == ("layer",) for k in found)


def test_a_branch_that_is_not_taken_has_no_rounds():
    calls = {o: k.calls for k in profiled(branch_graph()).kernels for o in k.origins}
    assert calls["taken"] == 1 and calls["left"] == 0


def test_what_runs_in_python_is_timed_and_has_no_work():
    (maps,) = [k for k in profiled(extern_graph()).kernels if k.code is None]
    assert maps.origins == ("maps",) and maps.ns > 0 and maps.work is None


def test_a_profile_leaves_the_executable_as_it_was():
    exe = tessel.compile(dense_graph(), threads=1, cache=False)
    (built,) = exe.specializations
    module, before = built.module, exe.run(feeds_of(exe))["y"]
    profile(exe, feeds_of(exe), SHORT)
    assert built.module is module
    np.testing.assert_array_equal(exe.run(feeds_of(exe))["y"], before)


@pytest.mark.parametrize("graph", [dense_graph, scan_graph, branch_graph])
@pytest.mark.parametrize("threads", [1, 3])
def test_stamped_code_computes_the_same(graph, threads):
    exe = tessel.compile(graph(), cache=False)
    (built,) = exe.specializations
    code, timestamps = timestamped_code(built.code, threads, {})
    inputs = list(feeds_of(exe).values())
    received = NativeModule(code, built.module.output_types, {})(inputs, threads)
    np.testing.assert_array_equal(received[0], built.module(inputs, 1)[0])
    assert timestamps.shape == (threads, len(list(timestamped_steps(built.code.plan.steps))) + 1, 2)
    assert (timestamps[0] >= 0).all() and timestamps[0, :, 0].sum() > 0


def test_only_code_for_cpus_has_a_profile():
    exe = tessel.compile(dense_graph(), target="numpy")
    with pytest.raises(UsageError, match="can be profiled"):
        profile(exe, feeds_of(exe), SHORT)


def test_a_model_that_an_earlier_process_compiled_is_refused_with_the_option_that_helps(tmp_path):
    path = tmp_path / "dense.tsl"
    tessel.compile(dense_graph()).save(path)
    exe = tessel.load(path)
    with pytest.raises(UsageError, match="reuse=False"):
        profile(exe, feeds_of(exe), SHORT)


# -- as a table and as data ----------------------------------------------------------------


def test_rows_have_rates_and_shares():
    data = profile_data(profiled(dense_graph()), Peak)
    row = next(r for r in data["kernels"] if r["nodes"] == ["dense"])
    assert row["flops"] == 2 * 64 * 256 * 480
    assert row["bytes"] == 4 * (64 * 256 + 256 * 480 + 64 * 480)
    assert row["gflops"] == pytest.approx(row["flops"] / row["ms"] / 1e6)
    assert row["of_peak"] == pytest.approx(row["gflops"] / 100)
    assert row["intensity"] == pytest.approx(row["flops"] / row["bytes"])
    assert row["predicted_ms"] > 0
    shares = sum(r["share"] for r in data["kernels"])
    rest = (data["waiting_ms"] + data["outside_ms"]) / data["own_ms"]
    assert shares + rest == pytest.approx(1)


def test_equal_kernels_of_the_same_nodes_are_one_row():
    (step,) = profiled(scan_graph()).kernels[:1]
    (row,) = kernel_rows([step, step], 2 * step.ns, 100.0)
    assert row["calls"] == 2 * step.calls and row["share"] == pytest.approx(1)


def test_long_tables_end_with_what_is_left_out(capsys):
    data = profile_data(profiled(dense_graph()), Peak)
    row = data["kernels"][0]
    data["kernels"] = [row | {"code": f"k_{i}"} for i in range(ROWS + 3)]
    print_profile(data, console())
    out = capsys.readouterr().out
    assert "(3 more kernels)" in out and "an ordinary run" in out and "predicted" in out


@pytest.mark.parametrize(
    ("busy", "waiting", "said"), [(0.5, 0.0, True), (0.99, 0.0, False), (0.5, 0.5, False)]
)
def test_other_programs_on_the_core_are_told_of(capsys, busy, waiting, said):
    data = profile_data(profiled(dense_graph()), Peak)
    data |= {"busy": busy, "waiting_ms": waiting * data["sum_ms"]}
    print_profile(data, console())
    assert ("had the core for 50% of the time" in capsys.readouterr().out) == said


@pytest.mark.parametrize(
    ("threads", "waiting", "said"), [(2, 0.6, True), (2, 0.4, False), (1, 0.6, False)]
)
def test_threads_that_wait_for_each_other_are_told_of(capsys, threads, waiting, said):
    data = profile_data(profiled(dense_graph()), Peak)
    data |= {"threads": threads, "busy": 1.0, "waiting_ms": waiting * data["sum_ms"]}
    print_profile(data, console())
    printed = " ".join(capsys.readouterr().out.split())
    assert ("threads wait for each other 60% of the time" in printed) == said


@pytest.mark.parametrize(("share", "beyond"), [(1.04, False), (1.2, True)])
def test_no_share_beyond_the_peak_is_said(capsys, share, beyond):
    """Neither in what is printed nor in the data (`bench --json`)."""
    found = profiled(dense_graph())
    fastest = max(row["gflops"] for row in profile_data(found, Peak)["kernels"])

    class Low(Peak):
        gflops = fastest / share / found.threads * Peak.threads

    data = profile_data(found, Low)
    shares = [row["of_peak"] for row in data["kernels"]]
    assert (set(shares) == {None}) == data["beyond_peak"] == beyond
    print_profile(data, console())
    printed = " ".join(capsys.readouterr().out.split())
    assert ("its peak was measured: shares are left out" in printed) == beyond
    assert (f"{share:.0%}" in printed) != beyond


def test_a_kernel_in_python_is_a_row_without_rates(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    print_profile(profile_data(profiled(extern_graph()), Peak), console())
    out = capsys.readouterr().out
    assert re.search(r"\d (µs|ms) +[\d.]+% +zip_map +host callback +maps *\n", out)
    assert "host callback" in out.split("share  ")[-1]  # the legend says what that is


def test_kernels_with_the_same_code_are_one_printed_row(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    data = profile_data(profiled(dense_graph()), Peak)
    row = next(r for r in data["kernels"] if r["nodes"] == ["dense"])
    data["kernels"] = [row, row | {"nodes": ["other"], "ms": 3 * row["ms"]}]
    (together,) = equal_rows(data["kernels"], 200.0)
    assert together["ms"] == pytest.approx(4 * row["ms"])
    assert together["gflops"] == pytest.approx(2 * row["flops"] / together["ms"] / 1e6)
    assert together["of_peak"] == pytest.approx(together["gflops"] / 200)
    print_profile(data, console())
    assert "matmul × 2  contract  dense\n" in capsys.readouterr().out.replace(" \n", "\n")
