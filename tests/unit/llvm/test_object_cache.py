"""The cache of object code: hits, damaged entries, folders that cannot be written."""

import os

import numpy as np
import pytest
from tessel.compiler.backends.llvm import backend
from tessel.compiler.backends.llvm.base import cache
from tessel.compiler.backends.llvm.base.cache import ObjectCache, cache_folder

from ...support.kernels import buffer_of, native, program_of, store

X = np.arange(20, dtype=np.float32)


@pytest.fixture
def compiled(monkeypatch):
    """How many modules were compiled since the test began."""
    calls = []
    original = backend.object_code
    parallel = pytest.importorskip("tessel.compiler.backends.llvm.parallel")
    for module in (backend, parallel):
        monkeypatch.setattr(
            module,
            "object_code",
            lambda *a, **k: (calls.append(1), original(*a, **k))[1],
            raising=False,
        )
    return calls


def run(folder):
    a = buffer_of("a", X)
    program = program_of(store((20,), lambda i: a[i] * 3.0), {a: X})
    (y,) = native(program, cache=ObjectCache(folder))([X], 1)
    np.testing.assert_array_equal(y, X * 3)


def entries(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_the_second_compilation_reads_the_first_ones_objects(tmp_path, compiled):
    run(tmp_path)
    assert len(compiled) == 2  # the kernel and the entry
    assert {p.name[:2] for p in entries(tmp_path)} == {"k_", "m_"}
    run(tmp_path)
    assert len(compiled) == 2


def test_what_was_written_longest_ago_goes_when_there_is_too_much(tmp_path, monkeypatch):
    """Each of the places holds its part; the others are not looked at."""
    monkeypatch.setattr(cache, "LIMIT", 1000 * cache.PLACES)
    objects = ObjectCache(tmp_path)
    for n in range(4):
        objects.put(f"k_{n}ab", bytes([n]) * 400)
        objects.put(f"k_{n}cd", bytes([n]) * 100)
        os.utime(tmp_path / "ab" / f"k_{n}ab", ns=(n, n))
    kept = [objects.get(f"k_{n}ab") for n in range(4)]
    assert kept == [None, None, b"\2" * 400, b"\3" * 400]
    assert all(objects.get(f"k_{n}cd") == bytes([n]) * 100 for n in range(4))


def test_one_object_may_be_larger_than_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 1000 * cache.PLACES)
    objects = ObjectCache(tmp_path)
    objects.put("k_1ab", b"1" * 10)
    objects.put("k_2ab", b"2" * 2000)
    assert objects.get("k_1ab") is None
    assert objects.get("k_2ab") == b"2" * 2000


DAMAGE = {
    "cut": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "changed": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    "of an older version": lambda data: data[32:],
    "something else": lambda data: b"not an object" * 100,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_compiled_again(tmp_path, compiled, damage):
    run(tmp_path)
    whole = {p: p.read_bytes() for p in entries(tmp_path)}
    for path, data in whole.items():
        path.write_bytes(DAMAGE[damage](data))
    run(tmp_path)
    assert len(compiled) == 4
    assert {p: p.read_bytes() for p in entries(tmp_path)} == whole


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path, compiled):
    file = tmp_path / "file"
    file.write_text("in the way")
    run(file / "objects")
    run(file / "objects")
    assert len(compiled) == 4


def test_an_entry_that_cannot_be_renamed_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    run(tmp_path)
    assert entries(tmp_path) == []


def test_no_folder_keeps_nothing(compiled):
    run(None)
    run(None)
    assert len(compiled) == 4


def test_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tessel"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "tessel"
