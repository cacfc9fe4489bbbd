"""What paths may name, what texts may nest, and what becomes of files that change."""

import os
import socket
import stat
import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest
import tessel
from onnx import helper, numpy_helper, parser
from tessel.compiler.errors import GraphError, ModelError, PackageError, UsageError
from tessel.compiler.ir.parse import parse_graph
from tessel.compiler.system.files import replacing
from tessel.compiler.system.mapped import files_behind
from tessel.compiler.system.nesting import DEPTH, depth_of, read_json
from tessel.runtime.package import container
from tessel.runtime.package.container import Container, SectionHash
from tessel.runtime.training.checkpoint import load_checkpoint, save_checkpoint
from tessel.tools.common.feeds import read_signature
from tessel.tools.common.given import load_npz
from tessel.tools.common.models import open_graph

X = np.ones((2, 64), np.float32)
HEAD = '<ir_version: 9, opset_import: ["": 21]> g '


def model():
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    m = parser.parse_model(HEAD + "(float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }")
    m.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return m


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that is mapped, as large ones are."""
    path = tmp_path / "m.tsl"
    tessel.compile(model(), threads=1).save(path)
    monkeypatch.setattr(container, "LARGE", 1000)
    return path


# -- what is no regular file ------------------------------------------------------------------


def _fifo(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))


def _links(path):
    path.symlink_to(path.name)


def _device(path):
    path.symlink_to("/dev/zero")


SPECIAL = {
    "a FIFO": _fifo,
    "a socket": _socket,
    "a directory": os.mkdir,
    "a device": _device,
    "symbolic links form a circle": _links,
    "no such file": lambda path: None,
}
READERS = {
    "compile": (tessel.compile, ".onnx", ModelError),
    "compile text": (tessel.compile, ".onnxtxt", ModelError),
    "load": (tessel.load, ".tsl", PackageError),
    "checkpoint": (lambda path: load_checkpoint(path, {}), ".safetensors", ModelError),
    "npz": (load_npz, ".npz", UsageError),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_refused_and_never_opened(kind, reader, tmp_path):
    read, suffix, error = READERS[reader]
    path = tmp_path / f"m{suffix}"
    SPECIAL[kind](path)
    with pytest.raises(error, match=f"cannot be read: .*{kind}"):
        read(path)


@pytest.mark.parametrize("read", [open_graph, read_signature])
@pytest.mark.parametrize("kind", SPECIAL)
def test_the_command_line_s_own_readers(kind, read, tmp_path):
    path = tmp_path / "m.graph"
    SPECIAL[kind](path)
    with pytest.raises(tessel.TesselError, match=r"no file|no such file"):
        read(path)


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000, "a/b\0", "\udcff\0"])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_name_of_a_file(name, reader, tmp_path):
    read, _, error = READERS[reader]
    with pytest.raises(error, match=r"no name of a file|name is too long"):
        read(f"{tmp_path}/{name}")


@pytest.mark.parametrize("kind", SPECIAL)
def test_external_data_are_in_regular_files(kind, tmp_path):
    onnx.save(
        model(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    (tmp_path / "w.bin").unlink()
    SPECIAL[kind](tmp_path / "w.bin")
    with pytest.raises(ModelError, match=r"cannot be read|is missing|in a circle|model's folder"):
        tessel.compile(tmp_path / "m.onnx")


def test_what_is_no_model():
    with pytest.raises(UsageError, match="no model") as caught:
        tessel.compile(lambda x: x)
    assert caught.value.received.startswith("function test_what_is_no_model.")


def test_a_large_file_of_zeros_is_no_model(tmp_path):
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(8 << 30)
    with pytest.raises(ModelError, match="not an ONNX file"):
        tessel.compile(path)


# -- texts that nest --------------------------------------------------------------------------


def test_depth_counts_what_is_open_outside_of_strings_and_comments():
    assert depth_of("([{}])()", 100) == 3
    assert depth_of('("((((" # ((((\n [', 100) == 2
    assert depth_of(rb'"\"((" (', 100) == 1
    assert depth_of('"never closed ((', 100) == 0
    assert depth_of(")))(", 100) == 1
    assert depth_of("(" * 1000, 7) == 7


DEEP = {
    "seq": HEAD + "(" + "seq(" * 200_000,
    "If": HEAD
    + "(float[2] x, bool c) => (float[2] y) { "
    + "y = If(c)<then_branch = b () = > (float[2] y) { " * 50_000,
    "protobuf": "graph {" + " node { attribute { g {" * 50_000,
    "JSON": '{"graph": {"node": ' + "[" * 100_000,
}


@pytest.mark.parametrize("form", DEEP)
def test_a_text_that_nests_too_deep_reaches_no_parser(form):
    with pytest.raises(ModelError, match="nests too deep"):
        tessel.compile(DEEP[form].encode())


def test_the_deepest_text_is_parsed_on_a_small_stack():
    """As many levels as are let through: threads have less stack than a process."""
    text = HEAD + "(float[2] x, bool c) => (float[2] y) { "
    text += "y = If(c)<then_branch = b () => (float[2] y) { " * (DEPTH - 2)
    code = f"""if True:
        import threading, tessel
        def attempt():
            try: tessel.compile({text!r}.encode())
            except tessel.TesselError as error: print(error.message)
        threading.stack_size(1 << 20)
        thread = threading.Thread(target=attempt); thread.start(); thread.join()"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("the ONNX text does not parse"), done.stderr


@pytest.mark.parametrize(
    "text",
    [
        'graph "g" (%x: ' + "seq(" * 5000,
        "graph g (%x: f32[2]) -> (%y) { %y = relu(%x) {a=" + "[" * 5000,
        "graph g (%x: f32[" + "(" * 5000,
    ],
)
def test_a_graph_s_text_may_not_nest_too_deep(text):
    with pytest.raises(GraphError, match="nests too deep"):
        parse_graph(text)


@pytest.mark.parametrize("data", [b"{{{", b"\xff", b"[" * 1000, b"9" * 5000, b'{"a": 1'])
def test_json_that_is_none(data):
    with pytest.raises(ModelError, match=r"cannot be read|nests too deep"):
        read_json(data, "it", ModelError, None)


# -- writing ----------------------------------------------------------------------------------


def _package(path):
    tessel.compile(model(), threads=1, target="numpy").save(path)


WRITERS = {
    "package": (_package, PackageError),
    "onnx": (lambda path: tessel.to_onnx(model(), path), UsageError),
    "checkpoint": (lambda path: save_checkpoint(path, {"w": X}), UsageError),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_s_mode_is_the_umask_s_or_that_of_the_file_before(writer, tmp_path):
    write, _ = WRITERS[writer]
    path, mask = tmp_path / "out", os.umask(0o027)
    try:
        write(path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a directory", "a device"])
@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_no_file_is_not_written_to(kind, writer, tmp_path):
    write, error = WRITERS[writer]
    SPECIAL[kind](tmp_path / "out")
    with pytest.raises(error, match=f"cannot be written: it is {kind}"):
        write(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000, "no/such/folder"])
@pytest.mark.parametrize("writer", WRITERS)
def test_names_that_cannot_be_written(name, writer, tmp_path):
    write, error = WRITERS[writer]
    with pytest.raises(error, match="cannot be written"):
        write(f"{tmp_path}/{name}")


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to("there")
    for text in (b"one", b"two"):
        with replacing(tmp_path / "link", UsageError) as file:
            file.write(text)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there").read_bytes() == b"two"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_fails_half_way_leaves_nothing(error, tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def write():
        with replacing(path, UsageError) as file:
            file.write(b"half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["out"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PackageError, match="cannot be written: No space left"):
        _package(tmp_path / "out")
    assert os.listdir(tmp_path) == []


# -- files that change ------------------------------------------------------------------------


def _flip(path, section):
    data = bytearray(path.read_bytes())
    entry = Container(path).table[section]
    data[entry["offset"] + entry["size"] - 1] ^= 1
    path.write_bytes(data)


CHANGES = {
    "cut": lambda path: os.truncate(path, 5000),
    "longer": lambda path: os.truncate(path, 1 << 20),
    "overwritten": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("target", ["cpu", "numpy"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_mapped_package_that_changes_is_noticed(change, target, tmp_path, monkeypatch):
    path = tmp_path / "m.tsl"
    tessel.compile(model(), threads=1, target=target).save(path)
    monkeypatch.setattr(container, "LARGE", 1000)
    exe = tessel.load(path, threads=1)
    exe(X)
    CHANGES[change](path)
    for run in (lambda: exe(X), lambda: exe.save(tmp_path / "other.tsl")):
        with pytest.raises(PackageError, match="has changed while it is in use"):
            run()


@pytest.mark.parametrize("change", CHANGES)
def test_mapped_external_data_that_change_are_noticed(change, tmp_path):
    onnx.save(
        model(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    graph = tessel.from_onnx(tmp_path / "m.onnx")
    exe = tessel.compile(graph, threads=1, target="numpy")
    exe(X)
    CHANGES[change](tmp_path / "w.bin")
    with pytest.raises(ModelError, match="has changed while it is in use"):
        exe(X)


def test_a_file_that_is_replaced_stays_what_it_was(package, tmp_path):
    exe = tessel.load(package, threads=1)
    before = exe(X)
    tessel.compile(model(), threads=1, opt_level=0).save(package)
    os.unlink(package)
    np.testing.assert_array_equal(exe(X), before)


def test_small_packages_are_read_and_may_change(tmp_path):
    tessel.compile(model(), threads=1).save(tmp_path / "m.tsl")
    exe = tessel.load(tmp_path / "m.tsl", threads=1)
    before = exe(X)
    os.truncate(tmp_path / "m.tsl", 10)
    np.testing.assert_array_equal(exe(X), before)
    assert not files_behind(exe.specializations[0].code.weights)


def test_the_tensors_of_one_file_are_one_mapping(tmp_path):
    m = model()
    m.graph.initializer.append(numpy_helper.from_array(np.ones(64, np.float32), "b"))
    m.graph.node.append(helper.make_node("Add", ["y", "b"], ["z"]))
    m.graph.output[0].name = "z"
    onnx.save(
        m, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    graph = tessel.from_onnx(tmp_path / "m.onnx")
    arrays = [n.attrs["value"] for n in graph.nodes if n.op.name == "constant"]
    assert len(arrays) == 2 and len(files_behind(arrays)) == 1


@pytest.mark.parametrize("section", ["weights", "packed"])
@pytest.mark.parametrize("native", [True, False])
def test_a_flipped_bit_of_a_large_section_is_noticed_by_the_first_use(package, section, native):
    _flip(package, section)
    with pytest.raises(PackageError, match=f"damaged: section {section}"):
        tessel.load(package, threads=1, native=native)(X)


@pytest.mark.parametrize("section", ["manifest", "graph", "code"])
def test_what_loading_reads_is_checked_then(package, section):
    _flip(package, section)
    with pytest.raises(PackageError, match=f"damaged: section {section}"):
        tessel.load(package)


def test_runs_at_once_verify_once(package, monkeypatch):
    exe, seen = tessel.load(package, threads=1), []
    verify = Container._hash
    monkeypatch.setattr(Container, "_hash", lambda *a: seen.append(1) or verify(*a))
    threads = [threading.Thread(target=exe, args=(X,)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(seen) == 1  # of what is packed: the weights are in it


def test_a_section_s_hash_is_that_of_its_pieces_however_they_come(monkeypatch, tmp_path):
    monkeypatch.setattr(container, "PIECE", 10)
    data, hashes = bytes(range(95)), set()
    for step in (1, 7, 10, 95):
        h = SectionHash()
        for i in range(0, len(data), step):
            h.update(memoryview(data[i : i + step]))
        hashes.add(h.hexdigest())
    with container.Writer(tmp_path / "c") as out:
        out.add("s", [data[:50], data[50:]])
        out.add("empty", [])
    hashes.add(Container(tmp_path / "c").table["s"]["hash"])
    assert len(hashes) == 1
