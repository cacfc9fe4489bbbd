"""Executables as pickles: in processes started afresh, by copies, with state."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import onnx.parser
import pytest
import tessel
from tessel import TesselError

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8)


def model(nodes: str, takes="float[N,8] x", gives="float[N,8] y"):
    text = f'<ir_version: 9, opset_import: ["": 21]> g ({takes}) => ({gives}) {{ {nodes} }}'
    return onnx.parser.parse_model(text)


def compiled(**options) -> tessel.Executable:
    return tessel.compile(model("e = Softmax(x) y = Sin(e)"), threads=2, **options)


def again(exe):
    return pickle.loads(pickle.dumps(exe))


@pytest.mark.parametrize("target", ["cpu", "numpy"])
def test_a_pickle_computes_the_same_with_as_many_threads(target):
    exe = compiled(target=target)
    twin = again(exe)
    np.testing.assert_array_equal(twin(X), exe(X))
    assert twin.threads == exe.threads == 2
    assert twin.notes == exe.notes
    np.testing.assert_array_equal(again(twin)(X), exe(X))  # a pickle of what a pickle gave


def test_what_was_loaded_from_a_file_is_pickled_as_its_path(tmp_path):
    path = tmp_path / "m.tsl"
    weights = np.ones((8, 600_000), np.float32)
    big = model("y = MatMul(x, w)", gives="float[N,600000] y")
    big.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    tessel.compile(big, threads=1).save(path)
    exe = tessel.load(path, threads=1)
    data = pickle.dumps(exe)
    assert len(data) < 2000
    np.testing.assert_array_equal(pickle.loads(data)(X), exe(X))
    path.rename(tmp_path / "elsewhere.tsl")
    with pytest.raises(TesselError, match="is gone, or another one"):
        pickle.loads(data)
    assert len(pickle.dumps(exe)) > weights.nbytes  # by its bytes


def test_a_file_that_is_another_one_is_refused(tmp_path):
    path = tmp_path / "m.tsl"
    compiled().save(path)
    data = pickle.dumps(tessel.load(path))
    tessel.compile(model("y = Relu(x)")).save(path)
    with pytest.raises(TesselError, match="is gone, or another one"):
        pickle.loads(data)


def test_bound_inputs_come_along():
    exe = tessel.compile(model("y = Add(x, w)", takes="float[N,8] x, float[8] w"))
    bound = exe.bind("w", X[0])
    bound += 1
    twin = again(exe)
    np.testing.assert_array_equal(twin(X), exe(X))
    bound += 1
    np.testing.assert_array_equal(twin(X), X + (X[0] + 1))


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_copies_have_a_state_of_their_own(make):
    exe = tessel.compile(model("y = Add(x, w)", takes="float[N,8] x, float[8] w"))
    bound = exe.bind("w", X[0])
    twin = make(exe)
    bound[:] = 0
    np.testing.assert_array_equal(twin(X), X + X[0])


def test_what_no_package_can_hold_is_refused():
    exe = tessel.compile(
        model("y = Reshape(x, s)", takes="float[N,8] x, int64[2] s", gives="float[A,B] y")
    )
    with pytest.raises(TesselError, match="a package holds one"):
        pickle.dumps(exe)


def test_lists_are_pickled_for_their_form():
    exe = tessel.compile(
        model("y = ConcatFromSequence<axis=0>(x)", takes="seq(float[2]) x", gives="float[M] y")
    )
    given = {"x": [X[0, :2], X[1, :2]]}
    want = exe.run(given)["y"]
    np.testing.assert_array_equal(again(exe).run(given)["y"], want)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_processes_take_executables(method):
    exe = compiled()
    exe(X)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as team:
        np.testing.assert_array_equal(team.submit(exe, X).result(timeout=100), exe(X))


def test_joblib_takes_executables():
    joblib = pytest.importorskip("joblib")
    exe = compiled()
    jobs = [joblib.delayed(lambda e, x: e(x))(exe, X + i) for i in range(2)]
    for i, y in enumerate(joblib.Parallel(n_jobs=2)(jobs)):
        np.testing.assert_array_equal(y, exe(X + i))
