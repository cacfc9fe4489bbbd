"""Models that are read anew for sizes or values start at once, where those were there before."""

import pickle

import numpy as np
import onnx
import pytest
import tessel
from onnx import parser
from tessel.compiler.errors import InputError, ModelError
from tessel.runtime.reuse import folder as reuse_folder

from ...support.reusing import counted

# What it does depends on a dynamic dim; and on the values of an input.
MODELS = {
    "by_size": ("float[N,M] x, int64[K,L] i", "y = GatherND(x, i)"),
    "by_value": ("float[N,4] x, int64[2] s", "z = Add(x, x) y = Reshape(z, s)"),
}


def save(path, name):
    inputs, body = MODELS[name]
    text = f'<ir_version: 9, opset_import: ["": 21]> g ({inputs}) => (float[P,Q] y) {{ {body} }}'
    onnx.save(parser.parse_model(text), path)


def feeds(name, n, shape=None):
    x = np.arange(4 * n, dtype=np.float32).reshape(n, 4)
    if name == "by_size":
        return {"x": x, "i": np.arange(n)[::-1].reshape(n, 1)}
    return {"x": x, "s": np.array(shape or [4, n])}


def expected(name, given):
    x = given["x"]
    return x[::-1] if name == "by_size" else (2 * x).reshape(given["s"])


@pytest.fixture
def compiled(monkeypatch) -> list:
    """How many programs were compiled since the test began."""
    return counted(monkeypatch)


@pytest.fixture
def read(monkeypatch) -> list:
    """How often a model was read since the test began."""
    from tessel.frontends.onnx.file import proto

    calls, original = [], proto.load
    monkeypatch.setattr(proto, "load", lambda *a: (calls.append(1), original(*a))[1])
    return calls


@pytest.mark.parametrize("name", MODELS)
def test_what_was_compiled_before_is_not_read(tmp_path, compiled, read, name):
    save(tmp_path / "m.onnx", name)
    first = tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache", threads=1)
    assert first.specialize is not None
    for n in (2, 6, 2):
        given = feeds(name, n)
        np.testing.assert_array_equal(first.run(given)["y"], expected(name, given))
    compilations, read[:] = len(compiled), []
    again = tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache", threads=1)
    for n in (6, 2):
        given = feeds(name, n)
        np.testing.assert_array_equal(again.run(given)["y"], expected(name, given))
    assert (len(compiled), read) == (compilations, [])
    assert list(map(str, again.inputs)) == list(map(str, first.inputs))
    assert (again.notes, again.static) == (first.notes, first.static)
    given = feeds(name, 7)
    np.testing.assert_array_equal(again.run(given)["y"], expected(name, given))
    assert read and len(compiled) == compilations + 1
    third = tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache", threads=1)
    np.testing.assert_array_equal(third.run(given)["y"], expected(name, given))
    assert len(compiled) == compilations + 1


def test_other_values_are_other_code(tmp_path, compiled):
    save(tmp_path / "m.onnx", "by_value")
    for _ in range(2):
        exe = tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache", threads=1)
        for shape in ([2, 6], [3, 4], [12, 1]):
            given = feeds("by_value", 3, shape)
            np.testing.assert_array_equal(exe.run(given)["y"], expected("by_value", given))
    assert len(compiled) == 3


def test_what_is_recalled_can_be_saved_and_pickled(tmp_path, compiled):
    save(tmp_path / "m.onnx", "by_size")
    given = feeds("by_size", 2)
    tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache").run(given)
    exe = tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache")
    exe.run(given)
    exe.save(tmp_path / "saved.tsl")
    for other in (tessel.load(tmp_path / "saved.tsl"), pickle.loads(pickle.dumps(exe))):
        np.testing.assert_array_equal(other.run(given)["y"], expected("by_size", given))
    assert len(compiled) == 1


def test_inputs_are_checked_as_before(tmp_path, compiled):
    save(tmp_path / "m.onnx", "by_value")
    errors = []
    for _ in range(2):
        exe = tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache")
        exe.run(feeds("by_value", 2))
        for wrong in ({"x": np.zeros((2, 4))}, feeds("by_value", 2, [5, 7])):
            with pytest.raises(InputError) as caught:
                exe.run(wrong)
            errors.append(str(caught.value))
    assert errors[:2] == errors[2:]


@pytest.mark.parametrize("harm", ["cut", "changed", "another package"])
def test_a_damaged_specialization_is_made_again(tmp_path, compiled, harm):
    save(tmp_path / "m.onnx", "by_size")
    given = feeds("by_size", 2)
    tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache").run(given)
    (package,) = (
        p
        for p, _ in reuse_folder.entries(tmp_path / "cache" / "packages")
        if not p.name.endswith(".deferred.tsl")
    )
    data = package.read_bytes()
    if harm == "cut":
        package.write_bytes(data[:-9])
    elif harm == "changed":
        package.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    else:
        tessel.load(package).save(package)
    for _ in range(2):
        exe = tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache")
        np.testing.assert_array_equal(exe.run(given)["y"], expected("by_size", given))
    assert len(compiled) == 2


def test_a_model_that_changes_later_is_not_mixed_with_what_was_kept(tmp_path, compiled):
    """It is read anew in the middle of its life: what is another model by then is not kept."""
    path = tmp_path / "m.onnx"
    save(path, "by_size")
    before, given = path.read_bytes(), feeds("by_size", 6)
    exe = tessel.compile(path, cache=tmp_path / "cache")
    save(path, "by_value")
    with pytest.raises((InputError, ModelError)):
        exe.run(given)
    path.write_bytes(before)
    again = tessel.compile(path, cache=tmp_path / "cache")
    np.testing.assert_array_equal(again.run(given)["y"], expected("by_size", given))


def test_the_limit_holds_for_specializations(tmp_path, compiled):
    save(tmp_path / "m.onnx", "by_size")
    folder = tmp_path / "cache" / "packages"
    exe = tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache")
    exe.run(feeds("by_size", 2))
    largest = max(stat.st_size for _, stat in reuse_folder.entries(folder))
    reuse_folder.set_limit(folder, reuse_folder.SHARE * (largest + 500))
    for n in range(3, 13):
        exe.run(feeds("by_size", n))
    total = sum(stat.st_size for _, stat in reuse_folder.entries(folder))
    assert total <= reuse_folder.limit_of(folder)
