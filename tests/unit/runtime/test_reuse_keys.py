"""What an entry of the cache is known by: none is taken for a model that it was not made of."""

import os
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import tessel
from tessel.runtime.reuse import entries
from tessel.runtime.reuse.entries import canonical

from ...support.reusing import W, counted, model, right


@pytest.fixture
def compiled(monkeypatch) -> list:
    """How many programs were compiled since the test began."""
    return counted(monkeypatch)


@pytest.fixture
def path(tmp_path):
    onnx.save(model(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def save_apart(folder: Path, weight) -> Path:
    """A model whose weights are in another file, which was last changed at a time long ago."""
    folder.mkdir(exist_ok=True)
    (folder / "w.bin").unlink(missing_ok=True)
    onnx.save(
        model(weight=weight),
        folder / "m.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    os.utime(folder / "w.bin", ns=(1, 1))
    return folder / "m.onnx"


def test_weights_of_other_folders_are_others(tmp_path, compiled):
    one, other = save_apart(tmp_path / "a", W), save_apart(tmp_path / "b", 3 * W)
    assert one.read_bytes() == other.read_bytes()
    for _ in range(2):
        assert right(tessel.compile(one, cache=tmp_path / "cache"))
        assert right(tessel.compile(other, cache=tmp_path / "cache"), 3 * W)
    assert len(compiled) == 2


def test_a_link_to_a_folder_is_that_folder(tmp_path, compiled):
    save_apart(tmp_path / "a", W)
    (tmp_path / "link").symlink_to("a")
    for folder in ("a", "link"):
        assert right(tessel.compile(tmp_path / folder / "m.onnx", cache=tmp_path / "cache"))
    assert len(compiled) == 1


@pytest.mark.parametrize("how", ["replaced", "written over"])
def test_weights_of_the_same_size_and_time_are_others(tmp_path, compiled, how):
    source, weights = save_apart(tmp_path / "a", W), tmp_path / "a" / "w.bin"
    tessel.compile(source, cache=tmp_path / "cache")
    if how == "replaced":
        save_apart(tmp_path / "a", 3 * W)
    else:
        weights.write_bytes((3 * W).tobytes())
    os.utime(weights, ns=(1, 1))
    assert right(tessel.compile(source, cache=tmp_path / "cache"), 3 * W)
    assert len(compiled) == 2


@pytest.mark.parametrize("file", ["m.onnx", "w.bin"])
def test_what_changes_while_it_is_compiled_is_not_kept(tmp_path, compiled, monkeypatch, file):
    """The model is read after it was hashed: it must be what was hashed."""
    source, load = save_apart(tmp_path / "a", W), entries.Entry.load
    before = source.read_bytes()

    def changing(*arguments):
        if file == "m.onnx":
            onnx.save(model(weight=3 * W), source)
        return load(*arguments)

    monkeypatch.setattr(entries.Entry, "load", changing)
    spy = tessel.compiler.backends.llvm.backend.compile_program
    if file == "w.bin":
        monkeypatch.setattr(
            "tessel.compiler.backends.llvm.backend.compile_program",
            lambda *a, **k: (save_apart(tmp_path / "a", 3 * W), spy(*a, **k))[1],
        )
    tessel.compile(source, cache=tmp_path / "cache")
    monkeypatch.undo()
    monkeypatch.setenv("TESSEL_REUSE", "1")
    assert not list((tmp_path / "cache" / "packages").iterdir())
    source.write_bytes(before)
    expected = 3 * W if file == "w.bin" else W
    assert right(tessel.compile(source, cache=tmp_path / "cache"), expected)


def test_options_that_mean_the_same_are_one_key(path, tmp_path, compiled):
    for shape in ((3, 4), [3, 4], np.array([3, 4]).tolist(), (np.int64(3), np.int32(4))):
        tessel.compile(path, cache=tmp_path, shapes={"x": shape})
    assert len(compiled) == 1


class Size(int):
    """A user's own kind of number: what it does is in no key."""


@pytest.mark.parametrize("shape", [(Size(3), 4), Size(3), object(), {3: 4}])
def test_options_that_are_no_plain_values_have_no_key(shape):
    assert canonical({"shapes": {"x": shape}}) is None


def test_different_options_have_different_keys():
    values = [None, True, 1, 1.0, "1", b"1", (1,), ((1,),), (1, 1), {}, {"a": 1}, {"a": {}}, ()]
    keys = [canonical({"x": v}) for v in values]
    assert None not in keys
    assert len({repr(k) for k in keys}) == len(values)
    assert canonical({"a": 1, "b": 2}) == canonical({"b": 2, "a": 1})


def test_an_executable_of_the_cache_is_pickled_whole(path, tmp_path, compiled):
    tessel.compile(path, cache=tmp_path)
    data = pickle.dumps(tessel.compile(path, cache=tmp_path))
    for entry in (tmp_path / "packages").iterdir():
        entry.unlink()
    assert right(pickle.loads(data))
    assert len(compiled) == 1


@pytest.mark.parametrize("said", ["yes", "2", "off"])
def test_the_variable_is_0_or_1(path, tmp_path, monkeypatch, said):
    monkeypatch.setenv("TESSEL_REUSE", said)
    with pytest.raises(tessel.TesselError, match=r"TESSEL_REUSE is neither 0 nor 1[^$]*received"):
        tessel.compile(path, cache=tmp_path)
