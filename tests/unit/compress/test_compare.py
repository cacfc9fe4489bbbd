"""Which kernel of a quantized model errs: comparisons with the model of floats."""

import json
import sys

import numpy as np
import pytest
import tessel
from click.testing import CliRunner
from tessel.tools.compare import check_report, write_report
from tessel.tools.explain import explain
from tessel.tools.verify import verify

from .test_quantize import DATA, ROWS, mlp, small_net


def test_kernels_have_the_names_of_the_model_and_errors_add_up():
    q = tessel.quantize(small_net(), DATA)
    found = q.compare(DATA)
    assert [k.nodes[0] for k in found.kernels][:3] == ["first", "second", "third"]
    assert found.same
    quantized = [k for k in found.kernels if k.is_quantized]
    assert all(20 < k.own < 70 for k in quantized)
    assert found.kernels[-1].accumulated <= found.kernels[-1].own
    assert found.total["predicted ms"][1] > 0


def test_what_errs_is_found_where_it_is():
    graph = small_net()
    recipe = tessel.quantize(graph, DATA).recipe
    scales = dict(recipe.scales)
    name = next(n for n in scales if n != "x")  # of what the first convolution gives
    broken = scales | {name: scales[name]._replace(scale=scales[name].scale / 20)}
    found = tessel.quantize(graph, recipe=tessel.Recipe.of(recipe, scales=broken)).compare(DATA)
    first = found.first_below(15)
    assert first.nodes[0] == found.worst[0].nodes[0] == "first"
    assert first.cut > 0.1
    assert found.first_below(-100) is None
    after = [k for k in found.kernels if k.nodes[0] == "third"]
    assert after[0].own > 25 > after[0].accumulated


def test_what_stays_makes_no_error_of_its_own():
    found = tessel.quantize(small_net(), DATA, keep=["third", "head"]).compare(DATA)
    third = next(k for k in found.kernels if "third" in k.nodes)
    assert third.own > 35 > 0  # what reads its result makes bytes of it, perhaps
    assert found.kernels[-1].nodes[-1] == "head"
    assert found.kernels[-1].own == 999


@pytest.mark.parametrize("recipe", ["int8-dynamic", "int4"])
def test_products_without_scales_are_found_by_their_names(recipe):
    found = tessel.quantize(mlp(), recipe=recipe).compare({"x": ROWS})
    assert [k.nodes[0] for k in found.kernels if k.is_quantized] == ["layer0", "layer1", "layer2"]
    assert all(10 < k.own < 60 for k in found.kernels if k.is_quantized)


def test_a_report_says_it_as_text_json_and_a_page():
    q = tessel.quantize(small_net(), DATA)
    q.compare(DATA)
    assert "errs most by itself: " in str(q.report)
    said = json.loads(json.dumps(q.report.to_dict()))
    assert said["comparison"]["kernels"][0]["nodes"][0] == "first"
    page = q.report.html()
    assert "<svg viewBox" in page and "accumulated" in page


def test_a_report_is_a_picture_too(tmp_path):
    pytest.importorskip("matplotlib", reason="draws")
    q = tessel.quantize(small_net(), DATA)
    q.compare(DATA)
    write_report(q.report, str(tmp_path / "r.png"))
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(tessel.TesselError, match="no format for a report"):
        check_report("r.txt")


def test_a_picture_needs_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(tessel.TesselError, match=r"tessel\[bench\]"):
        check_report("r.png")


def test_models_of_others_are_refused():
    q = tessel.quantize(small_net(), DATA)
    with pytest.raises(tessel.TesselError, match="different inputs"):
        type(q)(q.graph, q.report, q.recipe, mlp()).compare(ROWS)


def test_commands_compare_files(tmp_path):
    graph = small_net()
    paths = [str(tmp_path / n) for n in ("m.onnx", "q.onnx", "x.npz")]
    tessel.to_onnx(graph, paths[0], opt_level=0)
    tessel.to_onnx(tessel.quantize(graph, DATA), paths[1])
    np.savez(paths[2], x=DATA)
    m, q, x = paths
    said = CliRunner().invoke(explain, [q, "--against", m, "--inputs", x])
    assert said.exit_code == 0 and "second" in said.output
    good = CliRunner().invoke(verify, [q, "--against", m, "--inputs", x])
    assert good.exit_code == 0 and "kernels are at 20 dB or above" in good.output
    bad = CliRunner().invoke(verify, [q, "--against", m, "--inputs", x, "--sqnr", "200"])
    assert "below 200 dB" in str(bad.exception) and "first" in str(bad.exception)
