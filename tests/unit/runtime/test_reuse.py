"""A model that was compiled before is not compiled again, unless anything has changed."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
import tessel
from click.testing import CliRunner
from onnx import numpy_helper
from tessel.runtime.execution.package import Package
from tessel.runtime.reuse import folder as reuse_folder
from tessel.tools.cache import cache as command
from tessel.tools.cache import to_bytes

from ...support.reusing import W, X, counted, model, right


@pytest.fixture
def compiled(monkeypatch) -> list:
    """How many programs were compiled since the test began."""
    return counted(monkeypatch)


@pytest.fixture
def path(tmp_path):
    onnx.save(model(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_the_second_compilation_reads_a_package(path, tmp_path, compiled):
    for source in (path, path.read_bytes(), str(path)):
        exe = tessel.compile(source, cache=tmp_path, threads=1)
        assert right(exe)
    assert len(compiled) == 1
    assert [str(p) for p in exe.inputs] == ["x: f32[N,4]"]
    assert right(tessel.compile(path, cache=tmp_path, threads=2))
    assert len(compiled) == 1, "the number of threads is no part of the code"


@pytest.mark.parametrize(
    "options",
    [
        {"opt_level": 1},
        {"strict": True},
        {"unchecked": True},
        {"shapes": {"x": (3, 4)}},
        {"target": "cpu:x86-64-v2"},
        {"reuse": False},
        {"cache": False},
    ],
)
def test_other_options_are_another_compilation(path, tmp_path, compiled, options):
    tessel.compile(path, cache=tmp_path)
    tessel.compile(path, **{"cache": tmp_path} | options)
    assert len(compiled) == 2


def test_other_bytes_are_another_compilation(path, tmp_path, compiled):
    tessel.compile(path, cache=tmp_path)
    onnx.save(model(weight=2 * W), path)
    assert right(tessel.compile(path, cache=tmp_path), 2 * W)
    assert len(compiled) == 2


def test_weights_in_other_files_are_part_of_the_model(tmp_path, compiled):
    def save(weight):
        onnx.save(
            model(weight=weight),
            tmp_path / "m.onnx",
            save_as_external_data=True,
            location="w.bin",
            size_threshold=0,
        )

    save(W)
    for _ in range(2):
        assert right(tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache"))
        assert len(compiled) == 1
    os.remove(tmp_path / "w.bin")
    save(3 * W)
    os.utime(tmp_path / "w.bin", ns=(1, 1))
    assert right(tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache"), 3 * W)
    assert len(compiled) == 2


@pytest.mark.parametrize(
    "body",
    [
        "s = NonZero(x) t = Transpose(s) y = Cast<to=1>(t)",
        "v, i = TopK<axis=0>(x, one) y = MatMul(v, w)",
    ],
)
def test_sizes_that_are_compiled_by_themselves_are_added(tmp_path, compiled, body):
    made = model(body)
    made.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    onnx.save(made, tmp_path / "m.onnx")
    first = tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache")
    expected = first.run({"x": X})["y"]
    count = len(compiled)
    again = tessel.compile(tmp_path / "m.onnx", cache=tmp_path / "cache")
    np.testing.assert_array_equal(again.run({"x": X})["y"], expected)
    assert len(compiled) == count
    assert again.notes == first.notes


@pytest.mark.parametrize("harm", ["cut", "changed", "of another format", "empty"])
def test_a_damaged_entry_is_made_again(path, tmp_path, compiled, harm):
    tessel.compile(path, cache=tmp_path)
    (package,) = (tmp_path / "packages").glob("*.tsl")
    data = package.read_bytes()
    if harm == "cut":
        package.write_bytes(data[:-100])
    elif harm == "changed":
        package.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    elif harm == "of another format":
        tessel.load(package).save(package)  # a package that says nothing of its files
    else:
        package.write_bytes(b"")
    for _ in range(2):
        assert right(tessel.compile(path, cache=tmp_path))
    assert len(compiled) == 2


def test_a_folder_that_others_may_write_to_is_not_used(path, tmp_path, compiled):
    tessel.compile(path, cache=tmp_path)
    (tmp_path / "packages").chmod(0o777)
    tessel.compile(path, cache=tmp_path)
    assert len(compiled) == 2


def test_graphs_and_models_in_memory_are_not_kept(tmp_path, compiled):
    tessel.compile(model(), cache=tmp_path)
    tessel.compile(tessel.from_onnx(model()), cache=tmp_path)
    assert not list(tmp_path.glob("packages/*"))


def test_errors_are_those_of_the_model(tmp_path, compiled):
    for bad in (tmp_path / "absent.onnx", tmp_path, b"\x08"):
        with pytest.raises(tessel.TesselError) as told:
            tessel.compile(bad, cache=tmp_path)
        with pytest.raises(tessel.TesselError) as expected:
            tessel.compile(bad, cache=False)
        assert str(told.value) == str(expected.value)


def test_who_has_a_package_mapped_runs_on_when_others_use_it(tmp_path, compiled):
    """Weights of many bytes are not copied: each run asks whether their file has changed."""
    weight = np.full((4, 1 << 21), 0.5, np.float32)
    onnx.save(model(weight=weight), tmp_path / "large.onnx")
    made, first, second = (
        tessel.compile(tmp_path / "large.onnx", cache=tmp_path) for _ in range(3)
    )
    assert len(compiled) == 1
    for exe in (made, first, second, first):
        assert right(exe, weight)


def test_what_was_used_longest_ago_goes_first(tmp_path, compiled):
    paths = [tmp_path / f"m{i}.onnx" for i in range(3)]
    for i, p in enumerate(paths):
        onnx.save(model(weight=W + i), p)
        tessel.compile(p, cache=tmp_path / "cache")
    folder = tmp_path / "cache" / "packages"
    assert len(reuse_folder.entries(folder)) == 3
    tessel.compile(paths[0], cache=tmp_path / "cache")  # it is used again
    reuse_folder.set_limit(
        folder, 2 * max(stat.st_size for _, stat in reuse_folder.entries(folder))
    )
    for p, count in ((paths[0], 3), (paths[2], 3), (paths[1], 4)):
        tessel.compile(p, cache=tmp_path / "cache")
        assert len(compiled) == count
    reuse_folder.set_limit(folder, 0)
    assert not list(folder.glob("*.tsl"))


def test_a_second_process_imports_nothing_that_is_slow_and_not_needed(path, tmp_path):
    code = f"""import sys, numpy as np, tessel
exe = tessel.compile({str(path)!r}, cache={str(tmp_path)!r})
print(exe.run({{"x": np.ones((2, 4), np.float32)}})["y"].tolist())
slow = "onnx", "llvmlite.binding", "ml_dtypes", "numpy.ma", "tempfile"
print(*[name for name in slow if name in sys.modules])"""
    environment = os.environ | {"TESSEL_REUSE": "1"}
    said = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert said[0][0] == said[1][0] == str([[2.0] * 5] * 2)
    assert "onnx llvmlite.binding" in said[0][1]
    assert said[1][1] == ""


# -- the command -----------------------------------------------------------------------------


def test_the_command_tells_and_clears(path, tmp_path, compiled, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tessel.compile(path)
    said = CliRunner().invoke(command, ["info"]).output
    assert f"folder    {tmp_path / 'tessel'}" in said.replace("\n", "")
    assert "packages  1," in said and "4.00 GiB" in said
    assert "2.00 GiB" in CliRunner().invoke(command, ["limit", "2G"]).output
    assert "removed 1 packages" in CliRunner().invoke(command, ["clear"]).output
    assert "packages  0," in CliRunner().invoke(command).output
    tessel.compile(path)
    assert len(compiled) == 2


def test_the_command_counts_and_clears_what_is_unfinished(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    left = [tmp_path / "tessel" / p for p in ("packages/.a.tsl.0.tmp", "objects/ab/.k.1.tmp")]
    for file in left:
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(1024))
    assert "unfinished 2, 2.0 KiB" in CliRunner().invoke(command, ["info"]).output
    assert "removed 0 packages and 0 kernels" in CliRunner().invoke(command, ["clear"]).output
    assert not any(file.exists() for file in left)


def test_a_limit_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "tessel").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(tessel.TesselError, match=r"the limit cannot be written[^$]*where"):
        CliRunner().invoke(command, ["limit", "2G"], catch_exceptions=False)


def test_sizes_of_the_command():
    assert [to_bytes(t) for t in ("0", "3K", "500M", "8GiB")] == [0, 3072, 500 << 20, 8 << 30]
    with pytest.raises(tessel.TesselError, match="no size"):
        to_bytes("many")


def test_an_entry_is_one_file_that_says_all(path, tmp_path, compiled):
    tessel.compile(path, cache=tmp_path)
    (entry,) = (tmp_path / "packages").iterdir()
    assert Package(entry).about == {"notes": [], "files": []}
