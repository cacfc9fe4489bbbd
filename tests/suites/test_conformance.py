"""The conformance suite of ONNX against the committed list of cases that do not pass.

Every case runs on one thread and on two, in worker processes; `make conformance` rewrites the list.
"""

import time
from statistics import median

import numpy as np
import onnx
import pytest

from ..conformance.cases import Case, load_cases
from ..conformance.compare import Wrong, compare
from ..conformance.engines import ENGINES, cases_of
from ..conformance.page import PAGE, page
from ..conformance.pool import run_cases
from ..conformance.reasons import first_finding, reason_of
from ..conformance.record import changes, load_record, save_record

REWRITE = "to rewrite the list and the page: make conformance"
SHARE = 40
MEDIAN_S, TOTAL_S = 0.120, 480.0  # of CPU time, from a model to its first result, of all cases


@pytest.mark.slow
@pytest.mark.sweep(1)
def test_cases_are_as_good_as_the_list_says(request):
    """Every second case, and all with --sweeps. One test, so that everything runs once however
    tests are shared between processes."""
    record = load_record("tessel")
    if record["onnx"] != onnx.__version__:
        pytest.skip(f"the list is of onnx {record['onnx']}, and {onnx.__version__} is installed")
    cases = load_cases()
    assert record["cases"] == len(cases), REWRITE
    chosen = cases if request.config.getoption("--sweeps") else cases[::2]
    results = run_cases(chosen)
    worse, better = changes(record, results)
    assert not worse, "\n".join([f"{len(worse)} cases got worse:", *worse])
    gone = sorted(set(record["failing"]) - {case.id for case in cases})
    assert not better and not gone, "\n".join(["progress!", *better, *gone, REWRITE])
    seconds = [r["seconds"] for r in results.values() if r["seconds"]]
    assert median(seconds) <= MEDIAN_S
    assert sum(seconds) <= TOTAL_S * len(chosen) / len(cases)


@pytest.mark.slow
def test_cases_with_dynamic_dims_are_as_good_as_the_list_says():
    """Every 40th case with each dim of its inputs open, which takes other sizes too; all of them:
    make conformance-dynamic."""
    record = load_record("tessel-dynamic")
    if record["onnx"] != onnx.__version__:
        pytest.skip(f"the list is of onnx {record['onnx']}, and {onnx.__version__} is installed")
    cases = cases_of("tessel-dynamic")[::SHARE]
    worse, better = changes(record, run_cases(cases, "tessel-dynamic"))
    assert not worse, "\n".join([f"{len(worse)} cases got worse:", *worse])
    assert not better, "\n".join(["progress!", *better, "to rewrite: make conformance-dynamic"])


def test_the_page_is_that_of_the_lists():
    records = [r for r in map(load_record, ENGINES) if r is not None]
    assert PAGE.read_text() == page(records), ".venv/bin/python -m tests.conformance --page"


# -- the runner itself ---------------------------------------------------------------------


def relu_case(expected) -> Case:
    """y = relu([-1, 2]), with what it shall be."""
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [info("x", onnx.TensorProto.FLOAT, [2])],
        [info("y", onnx.TensorProto.FLOAT, [2])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    values = [np.array(v, np.float32) for v in ([-1, 2], expected)]
    x, y = (onnx.numpy_helper.from_array(v).SerializeToString() for v in values)
    data = model.SerializeToString()
    return Case("node", f"relu_{expected}", "nn", data, (([x], [y]),), 1e-3, 1e-7)


def test_a_case_passes_or_is_wrong():
    right, off = relu_case([0, 2]), relu_case([0, 3])
    results = run_cases([right, off], jobs=1)
    assert results[right.id]["status"] == "pass" and results[right.id]["seconds"] > 0
    assert results[off.id]["status"] == "wrong"
    assert "first at [1]: 2.0 instead of 3.0" in results[off.id]["message"]


@pytest.mark.parametrize(
    ("engine", "status", "message"),
    [
        ("_raises", "error", "ValueError: no"),
        ("_refuses", "unsupported", "no such thing"),
        ("_dies", "crash", "SIGSEGV"),
        ("_hangs", "timeout", "longer than 2 s"),
        ("_eats", "error", "MemoryError"),
    ],
)
def test_what_a_case_does_stays_in_its_process(engine, status, message):
    start = time.monotonic()
    case = relu_case([0, 2])
    (result,) = run_cases([case], engine, jobs=1, timeout=2).values()
    assert (result["status"], message in result["message"]) == (status, True), result
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("expected", "got", "message"),
    [
        (np.zeros(2), np.zeros(3), "shape (3,) instead of (2,)"),
        (np.zeros(2), np.zeros(2, np.float32), "dtype float32 instead of float64"),
        (np.zeros(2), None, "expected an array, got NoneType"),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0]), "1 of 2 elements differ, first at [1]"),
        (np.array(["a"], object), np.array(["b"], object), "['b'] instead of ['a']"),
        ([np.zeros(2)], [], "expected a sequence of 1, got list of 0"),
        ([np.zeros(2)], [np.zeros(1)], "y[0]: shape"),
        ({"a": 1.0}, {"b": 1.0}, "expected a map of ['a']"),
        (None, np.zeros(2), "expected an empty optional"),
    ],
)
def test_values_that_differ(expected, got, message):
    with pytest.raises(Wrong) as caught:
        compare(expected, got, 1e-3, 1e-7, "y")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [np.array([1.0, np.nan, np.inf]), np.array(["a"], object), [np.ones(1)], {1: 2.0}, None],
)
def test_values_that_agree(value):
    compare(value, value, 1e-3, 1e-7, "y")


def test_changes_against_the_list():
    record = {"failing": {"a": {"status": "wrong"}, "b": {"status": "wrong"}}}
    result = {"message": "m", "status": "pass"}
    bad = {**result, "status": "wrong"}
    worse, better = changes(record, {"a": result, "b": {**bad, "status": "crash"}, "c": bad})
    assert worse == ["b: crash, was wrong", "c: wrong: m"]
    assert better == ["a: passes, was wrong"]


def test_reasons():
    message = (
        "the model cannot be read: 1 problem\n  - Cast (opset 9) of f32[2]: no\n      where: n"
    )
    assert reason_of("node/x", "unsupported", message) == "Cast: no"
    assert reason_of("node/test_bernoulli", "wrong", "y: differs").startswith("the expected output")
    assert first_finding("") == "" and len(first_finding("a" * 999)) < 200


def test_a_record_is_read_as_it_was_written(tmp_path, monkeypatch):
    from ..conformance import record as module

    monkeypatch.setattr(module, "FOLDER", tmp_path)
    record = {"engine": "e", "cases": 2, "groups": {"a": [1, 2]}, "failing": {}}
    save_record(record)
    assert load_record("e") == record and load_record("other") is None
