"""What may happen to the cache of packages: a compilation works, and nothing wrong is ever run."""

import errno
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
import tessel
from tessel.compiler.errors import PackageError
from tessel.runtime.package.container import HEADER, Container
from tessel.runtime.reuse import entries, folder

from ...support.reusing import W, counted, model, right


@pytest.fixture
def compiled(monkeypatch) -> list:
    """How many programs were compiled since the test began."""
    return counted(monkeypatch)


@pytest.fixture
def path(tmp_path):
    onnx.save(model(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def names(cache) -> list[str]:
    return sorted(p.name for p in (cache / "packages").iterdir())


@pytest.mark.parametrize("call", ["open", "replace", "utime"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_folder_that_cannot_be_written_is_no_error(
    path, cache, compiled, monkeypatch, call, code
):
    real = getattr(os, call)

    def failing(file, *arguments, **options):
        writes = call != "open" or arguments[0] & os.O_CREAT
        if writes and str(cache) in os.fsdecode(file):
            raise OSError(code, os.strerror(code))
        return real(file, *arguments, **options)

    (cache / "packages").mkdir(0o700, parents=True)
    monkeypatch.setattr(os, call, failing)
    assert right(tessel.compile(path, cache=cache))
    assert right(tessel.compile(path, cache=cache))
    assert not [n for n in names(cache) if n.endswith(".tmp")]
    assert len(compiled) == (1 if call == "utime" else 2)


def test_a_disk_that_is_full_half_way_leaves_nothing(path, cache, compiled, monkeypatch):
    def full(self, name, pieces):
        self._file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tessel.runtime.package.container.Writer.add", full)
    assert right(tessel.compile(path, cache=cache))
    assert names(cache) == []


def test_every_byte_of_an_entry_counts(path, cache, tmp_path, compiled):
    """One that was changed is refused, or changes nothing."""
    tessel.compile(path, cache=cache)
    ((entry, _),) = folder.entries(cache / "packages")
    data = bytearray(entry.read_bytes())
    whole = Container(entry)
    sections = {n: bytes(whole.section(n)) for n in whole.table}
    last = max(e["offset"] + e["size"] for e in whole.table.values())
    places = [*range(HEADER.size), *range(HEADER.size, last, 97), *range(last, len(data))]
    flipped, refused = tmp_path / "flipped.tsl", 0
    for at in places:
        data[at] ^= 0x10
        flipped.write_bytes(data)
        data[at] ^= 0x10
        try:
            found = Container(flipped)
            assert {n: bytes(found.section(n)) for n in found.table} == sections, at
        except PackageError:
            refused += 1
    assert refused > len(data) - last


def test_a_large_entry_that_is_damaged_is_found_before_it_is_run(
    path, cache, compiled, monkeypatch
):
    monkeypatch.setattr(
        "tessel.runtime.package.container.LARGE", 64
    )  # it is mapped, and checked late
    tessel.compile(path, cache=cache)
    ((entry, _),) = folder.entries(cache / "packages")
    at = Container(entry).table["weights"]
    data = bytearray(entry.read_bytes())
    data[at["offset"] + at["size"] - 1] ^= 1
    entry.write_bytes(data)
    assert right(tessel.compile(path, cache=cache))
    assert len(compiled) == 2


@pytest.mark.parametrize("clear", ["entries", "folder", "cache"])
def test_the_cache_may_be_cleared_while_something_compiles(
    path, cache, compiled, monkeypatch, clear
):
    from tessel.compiler.backends.llvm import backend

    spy = backend.compile_program

    def clearing(*arguments, **options):
        if clear == "entries":
            for entry, _ in folder.entries(cache / "packages"):
                folder.remove(entry)
        else:
            shutil.rmtree(cache / "packages" if clear == "folder" else cache)
        return spy(*arguments, **options)

    monkeypatch.setattr(backend, "compile_program", clearing)
    assert right(tessel.compile(path, cache=cache))
    monkeypatch.setattr(backend, "compile_program", spy)
    exe = tessel.compile(path, cache=cache)
    shutil.rmtree(cache)
    assert right(exe), "what is mapped stays"
    assert right(tessel.compile(path, cache=cache))


def test_a_limit_below_an_entry_costs_the_others_nothing(path, cache, tmp_path, compiled):
    tessel.compile(path, cache=cache)
    ((first, stat),) = folder.entries(cache / "packages")
    folder.set_limit(cache / "packages", stat.st_size + 1)
    onnx.save(model(weight=2 * W), tmp_path / "other.onnx")
    assert right(tessel.compile(tmp_path / "other.onnx", cache=cache), 2 * W)
    assert names(cache) == [first.name, "limit"]


@pytest.mark.parametrize("said", ["", "much", "-5", "1e9"])
def test_a_limit_that_is_no_number_is_the_default(cache, said):
    cache.mkdir()
    (cache / "limit").write_text(said)
    assert folder.limit_of(cache) == (0 if said == "-5" else folder.LIMIT)


def test_what_was_just_written_stays_when_the_clock_goes_back(path, cache, tmp_path, compiled):
    onnx.save(model(weight=2 * W), tmp_path / "other.onnx")
    tessel.compile(tmp_path / "other.onnx", cache=cache)
    ((other, stat),) = folder.entries(cache / "packages")
    later = time.time() + 1e6
    os.utime(other, (later, later))
    folder.set_limit(cache / "packages", int(stat.st_size * folder.SHARE * 1.1))
    (cache / "packages" / "filler.tsl").write_bytes(bytes(stat.st_size * 7))
    os.utime(cache / "packages" / "filler.tsl", (later + 1, later + 1))
    tessel.compile(path, cache=cache)
    assert other.name not in names(cache), "what was there went, though it says that it is newer"
    tessel.compile(path, cache=cache)
    assert len(compiled) == 2


def test_what_a_killed_process_left_goes(path, cache, compiled):
    (cache / "packages").mkdir(0o700, parents=True)
    for name, age in ((".a.tsl.0.tmp", 7200), (".b.tsl.1.tmp", 0), (".c.tsl.2.tmp", -7200)):
        (cache / "packages" / name).write_bytes(b"half")
        os.utime(cache / "packages" / name, (time.time() - age,) * 2)
    assert len(folder.unfinished(cache / "packages")) == 3
    tessel.compile(path, cache=cache)
    assert [n for n in names(cache) if n.endswith(".tmp")] == [".b.tsl.1.tmp"]


def test_another_version_is_another_compilation(path, cache, compiled, monkeypatch):
    tessel.compile(path, cache=cache)
    for what in ("_compiler", "_processor"):
        monkeypatch.setattr(entries, what, lambda: ("another",))
        assert right(tessel.compile(path, cache=cache))
    assert len(compiled) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give files away")
@pytest.mark.parametrize("what", ["folder", "entry", "folder above"])
def test_what_belongs_to_somebody_else_is_not_run(path, cache, compiled, what):
    tessel.compile(path, cache=cache)
    ((entry, _),) = folder.entries(cache / "packages")
    place = {"entry": entry, "folder": cache / "packages", "folder above": cache}[what]
    os.chown(place, 12345, -1)
    exe = tessel.compile(path, cache=cache)
    assert right(exe)
    assert len(compiled) == 2
    assert any("another user" in n for n in exe.notes) == (what != "entry")


def test_a_folder_may_be_a_link(path, cache, tmp_path, compiled):
    (tmp_path / "real").mkdir(0o700)
    cache.symlink_to("real")
    for _ in range(2):
        assert right(tessel.compile(path, cache=cache))
    assert len(compiled) == 1


def test_processes_that_compile_the_same_at_once(path, cache):
    code = f"""import numpy as np, tessel
x = np.ones((2, 4), np.float32)
exe = tessel.compile({str(path)!r}, cache={str(cache)!r}, threads=1)
print(exe.run({{"x": x}})["y"].sum(), exe.run({{"x": x[:1]}})["y"].sum())"""
    environment = os.environ | {"TESSEL_REUSE": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    assert [p.communicate() for p in started] == [("20.0 10.0\n", "")] * 4
    (entry,) = names(cache)
    assert Container(cache / "packages" / entry).check() is None


def test_a_process_that_is_killed_leaves_no_half_entry(path, cache, compiled):
    """Killed where it has written all but the end: the name is not taken."""
    code = f"""import os, signal, tessel
from tessel.runtime.package.container import Writer
Writer._finish = lambda self: os.kill(os.getpid(), signal.SIGKILL)
tessel.compile({str(path)!r}, cache={str(cache)!r})"""
    environment = os.environ | {"TESSEL_REUSE": "1"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -9
    (left,) = names(cache)
    assert left.endswith(".tmp")
    assert right(tessel.compile(path, cache=cache))
    assert np.all([p.suffix == ".tsl" for p, _ in folder.entries(cache / "packages")])
