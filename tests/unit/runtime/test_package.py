"""`.tsl` packages: what is written comes back, mapped; what is damaged or foreign is refused."""

import dataclasses
import mmap

import numpy as np
import pytest
import tessel
from safetensors.numpy import load as load_safetensors
from tessel.compiler.errors import PackageError, UsageError
from tessel.compiler.ir.builder import Builder
from tessel.runtime.execution.package import Package
from tessel.runtime.package.container import Container

from ...support.packages import rewrite

X = np.random.default_rng(1).standard_normal((4, 32)).astype(np.float32)


def network(type="f32[N,32]"):
    """A product, a bias, a table of looked up rows: weights that are packed, and that are not."""
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.input("x", type)
    w = b.constant(rng.standard_normal((32, 48)).astype(np.float32))
    table = b.constant(rng.standard_normal((100, 48)).astype(np.float32))
    row = b.gather(table, b.input("i", "i64[]"), axis=0)
    b.output("y", b.relu(x @ w + row))
    return b.graph


FEEDS = {"x": X, "i": np.array(7)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tsl"


@pytest.fixture
def saved(path):
    """A package with code for all sizes, and the outputs of what was saved."""
    exe = tessel.compile(network(), threads=1)
    outputs = exe.run(FEEDS)
    exe.save(path)
    return path, outputs["y"]


def root(array: np.ndarray):
    while isinstance(array, np.ndarray):
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


# -- round trips ---------------------------------------------------------------------------


def test_code_weights_and_signature_come_back(saved):
    path, expected = saved
    exe = tessel.load(path, threads=1)
    assert exe.inputs == tessel.compile(network()).inputs
    assert exe.for_all_sizes is not None
    assert exe.notes == []
    np.testing.assert_array_equal(exe.run(FEEDS)["y"], expected)


def test_its_code_serves_other_sizes(saved):
    path, _ = saved
    exe = tessel.load(path)
    feeds = {"x": X[:3], "i": np.array(7)}
    np.testing.assert_array_equal(exe.run(feeds)["y"], tessel.compile(network()).run(feeds)["y"])


def test_weights_are_mapped_and_kept_once(saved):
    path, _ = saved
    exe = tessel.load(path)
    weights = exe.for_all_sizes.code.weights
    assert weights and all(isinstance(root(w), mmap.mmap) for w in weights if w.nbytes > 64)
    sections = Container(path).table
    table, product = 100 * 48 * 4, 32 * 48 * 4
    assert table <= sections["weights"]["size"] < table + 1000
    assert product <= sections["packed"]["size"] < product + 1000


def test_packed_weights_are_aligned(saved):
    package = Package(saved[0])
    assert all(offset % 64 == 0 for offset, *_ in package.manifest["packed"])
    assert all(
        e["offset"] % mmap.ALLOCATIONGRANULARITY == 0 for e in package.container.table.values()
    )


def test_any_safetensors_reader_opens_the_weights(saved):
    arrays = load_safetensors(bytes(Container(saved[0]).section("weights")))
    assert [a.shape for a in arrays.values()] == [(100, 48)]  # the others are packed


@pytest.mark.parametrize("target", ["numpy", "cpu:x86-64-v2"])
def test_the_target_is_kept(path, target):
    exe = tessel.compile(network("f32[4,32]"), target=target, threads=1)
    exe.save(path)
    again = tessel.load(path)
    assert again.target.name == target
    np.testing.assert_allclose(again.run(FEEDS)["y"], exe.run(FEEDS)["y"], rtol=1e-5)


def test_native_false_compiles_the_graph(saved):
    path, expected = saved
    exe = tessel.load(path, native=False)
    assert exe.specializations == [] and "ignored" in exe.notes[0]
    np.testing.assert_array_equal(exe.run(FEEDS)["y"], expected)


def test_updates_survive(path):
    b = Builder()
    total = b.input("total", "f32[2]")
    b.output("new", total + b.input("step", "f32[2]"))
    b.graph.updates = {0: 0}
    tessel.compile(b.graph).save(path)
    exe = tessel.load(path)
    total = exe.bind("total", np.zeros(2, np.float32))
    assert exe.run({"step": np.ones(2, np.float32)}) == {}
    assert total.tolist() == [1, 1]


def test_saving_over_a_package_that_is_in_use(saved):
    path, expected = saved
    exe = tessel.load(path)
    exe.save(path)
    np.testing.assert_array_equal(exe.run(FEEDS)["y"], expected)
    np.testing.assert_array_equal(tessel.load(path).run(FEEDS)["y"], expected)


def test_a_failed_save_leaves_nothing(path, monkeypatch):
    def fail(*args):
        raise MemoryError

    monkeypatch.setattr("tessel.runtime.package.arrays.safetensors_pieces", fail)
    exe = tessel.compile(network("f32[4,32]"))
    with pytest.raises(MemoryError):
        exe.save(path)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(PackageError, match="cannot be written: there is no such"):
        tessel.compile(network("f32[4,32]"), target="numpy").save(tmp_path / "no" / "m.tsl")


# -- other machines ------------------------------------------------------------------------


def test_code_for_another_cpu_is_compiled_anew(path):
    exe = tessel.compile(network("f32[4,32]"), target="cpu:aarch64", threads=1)
    with pytest.raises(UsageError, match="does not run on this machine"):
        exe.run(FEEDS)
    exe.save(path)
    again = tessel.load(path, threads=1)
    assert "aarch64" in again.notes[0] and "compiled anew" in again.notes[0]
    here = tessel.compile(network("f32[4,32]"), threads=1)
    np.testing.assert_array_equal(again.run(FEEDS)["y"], here.run(FEEDS)["y"])


def test_code_that_needs_more_than_this_cpu_has(saved):
    path, expected = saved
    rewrite(path, lambda m: m["machine"].update(features="+from-the-future", cpu="x86-64-v9"))
    exe = tessel.load(path)
    assert "this CPU lacks from-the-future" in exe.notes[0]
    np.testing.assert_allclose(exe.run(FEEDS)["y"], expected, rtol=1e-5)


@pytest.mark.parametrize("type", ["f32[M,32]", "f32[N,32]"])
def test_a_package_from_before_equations(tmp_path, type):
    """It runs as it did, and says what it takes for granted."""
    b = Builder()
    b.output("y", b.input("x", "f32[N,32]") + b.input("z", type))
    path = tmp_path / "old.tsl"
    tessel.compile(b.graph, cache=False).save(path)
    assert tessel.load(path).notes == []

    def change(manifest):
        del manifest["for_all_sizes"]["equations"], manifest["signature"]["apart"]

    rewrite(path, change)
    exe = tessel.load(path)
    assert [n for n in exe.notes if "to be equal" in n] == exe.notes
    assert len(exe.notes) == (type == "f32[M,32]")
    np.testing.assert_array_equal(exe.run({"x": X, "z": X})["y"], X + X)


# -- damage --------------------------------------------------------------------------------


def test_an_absent_file(tmp_path):
    with pytest.raises(PackageError, match="cannot be read"):
        tessel.load(tmp_path / "absent.tsl")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"x" * 5000])
def test_something_else(path, data):
    path.write_bytes(data)
    with pytest.raises(PackageError, match=r"this is no \.tsl package"):
        tessel.load(path)


def test_a_file_that_is_cut_off(saved):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(PackageError, match="cut off"):
        tessel.load(path)


@pytest.mark.parametrize("section", ["manifest", "graph", "weights", "packed", "code"])
def test_a_flipped_bit_names_its_section(saved, section):
    path, _ = saved
    data = bytearray(path.read_bytes())
    data[Container(path).table[section]["offset"] + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(PackageError, match=f"damaged: section {section}"):
        tessel.load(path)


def test_large_sections_are_read_by_check_only(saved, monkeypatch):
    path, _ = saved
    data = bytearray(path.read_bytes())
    data[Container(path).table["packed"]["offset"] + 5] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr("tessel.runtime.package.container.LARGE", 1000)
    container = Container(path)
    with pytest.raises(PackageError, match="section packed"):
        container.check()


def test_another_version(saved):
    path, _ = saved
    data = bytearray(path.read_bytes())
    data[8] = 9
    path.write_bytes(data)
    with pytest.raises(PackageError, match="another version") as caught:
        tessel.load(path)
    assert (caught.value.expected, caught.value.received) == (2, 9)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: m.pop("signature"), id="no signature"),
        pytest.param(lambda m: m["signature"].update(inputs=[["x", "f32["]]), id="no type"),
        pytest.param(lambda m: m["for_all_sizes"].pop("arena"), id="no arena"),
        pytest.param(lambda m: m["for_all_sizes"].update(weights=[99]), id="no such weight"),
        pytest.param(lambda m: m.update(machine={"name": "x"}), id="no machine"),
        pytest.param(lambda m: m.update(target="abacus", machine=None), id="no target"),
    ],
)
def test_a_manifest_that_makes_no_sense(saved, change):
    rewrite(saved[0], change)
    with pytest.raises(PackageError):
        tessel.load(saved[0])


def test_a_signature_that_is_not_its_graphs(saved):
    def change(manifest):
        manifest["signature"]["inputs"][0][1] = "f32[N,2]"

    rewrite(saved[0], change)
    with pytest.raises(PackageError, match="not the one it describes"):
        tessel.load(saved[0], native=False)


def test_machines_are_dataclasses_that_packages_keep(saved):
    from tessel.compiler.backends.llvm.base.target import host

    assert Package(saved[0]).manifest["machine"] == dataclasses.asdict(host())
