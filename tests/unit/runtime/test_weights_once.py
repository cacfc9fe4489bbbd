"""Packages hold weights once: packed where code reads them so, and as they were for who asks."""

import subprocess
import sys

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import PackageError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.kernels.restore import Panels, Place, read, restored, written
from tessel.runtime.execution.package import Package

from ...support.packages import rewrite

RNG = np.random.default_rng(0)
CODE = 48 << 10  # bytes of a small package besides its weights


def floats(*shape) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def product(w: np.ndarray, transposed=False):
    """x @ w, or x @ w.T, for any number of rows."""
    b = Builder()
    x, w = b.input("x", f"f32[N,{w.shape[transposed]}]"), b.constant(w)
    b.output("y", x @ (b.transpose(w, perm=(1, 0)) if transposed else w))
    return b.graph


def convolution(groups: int):
    b = Builder()
    x = b.input("x", "f32[1,32,9,9]")
    w = b.constant(floats(40, 32 // groups, 3, 3))
    b.output("y", b.conv(x, w, strides=(2, 2), group=groups))
    return b.graph


def gated(width: int):
    """tanh(a) * c of (a, c) = x @ w, which one tile sums."""
    b = Builder()
    both = b.input("x", "f32[5,65]") @ b.constant(floats(65, 2 * width))
    half = lambda i: b.slice(both, axes=[1], starts=[i * width], steps=[1], sizes=[width])
    b.output("y", b.tanh(half(0)) * half(1))
    return b.graph


def integers():
    """u8 @ i8, of which kernels read pairs of 16 bits."""
    b = Builder()
    w = b.constant(RNG.integers(-128, 128, (65, 70), dtype=np.int8))
    b.output("y", b.matmul_integer(b.input("x", "u8[5,65]"), w))
    return b.graph


def names(path) -> list[str]:
    """Of the arrays that the package has only packed."""
    return list(Package(path).manifest["restored"])


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(lambda: product(floats(128, 512)), id="whole panels"),
        pytest.param(lambda: product(floats(128, 509)), id="panels that overlap"),
        pytest.param(lambda: product(floats(65, 13)), id="less than a panel"),
        pytest.param(lambda: product(floats(509, 128), transposed=True), id="transposed"),
        pytest.param(lambda: gated(259), id="several sums"),
        pytest.param(lambda: convolution(1), id="convolution"),
        pytest.param(lambda: convolution(2), id="convolution in groups"),
        pytest.param(integers, id="pairs of integers"),
    ],
)
def test_weights_that_are_packed_are_there_once(tmp_path, graph):
    path, graph = tmp_path / "m.tsl", graph()
    exe = tessel.compile(graph, threads=1)
    exe.save(path)
    arrays = {n: a for n, a in Package(path).weights.items() if a.size > 64}
    assert list(arrays) == names(path)
    own = [v.constant for node in exe.graph.nodes for v in node.inputs if v is not None]
    for a in arrays.values():
        assert any(w is not None and a.dtype == w.dtype and np.array_equal(a, w) for w in own)


@pytest.mark.parametrize("quantize", ["int4", "int8-weights"])
@pytest.mark.parametrize("n", [512, 509, 7])
def test_codes_scales_and_zeros_are_there_once(tmp_path, quantize, n):
    path, x = tmp_path / "m.tsl", floats(3, 256)
    exe = tessel.compile(product(floats(256, n)), quantize=quantize, threads=1)
    exe.save(path)
    bits = 4.5 + 0.5 if quantize == "int4" else 8
    assert path.stat().st_size <= 1.05 * (max(n, 16) * 256 * bits / 8) + CODE
    np.testing.assert_array_equal(tessel.load(path, threads=1)(x), exe(x))
    anew = tessel.load(path, threads=1, native=False)
    np.testing.assert_array_equal(anew(x), exe(x))


def test_a_package_of_a_package_is_as_small(tmp_path):
    first, second = tmp_path / "a.tsl", tmp_path / "b.tsl"
    tessel.compile(product(floats(64, 80)), threads=1).save(first)
    tessel.load(first).save(second)
    assert names(second) == names(first) != []
    assert second.stat().st_size == first.stat().st_size


def test_what_something_else_reads_stays(tmp_path):
    path, b = tmp_path / "m.tsl", Builder()
    w = b.constant(floats(64, 80))
    b.output("y", b.input("x", "f32[N,64]") @ w)
    b.output("row", b.gather(w, b.input("i", "i64[]"), axis=0))
    tessel.compile(b.graph, threads=1).save(path)
    assert names(path) == []


def test_recipes_are_data():
    packed = floats(2, 3, 4, 1)
    recipe = Panels("f32", (), 4, 1, 8, 3, Place((8, 3), (1, 8), 0))
    assert read(written(recipe)) == recipe
    expected = packed[..., 0].transpose(1, 0, 2).reshape(3, 8)
    np.testing.assert_array_equal(restored([(packed, recipe)], packed.dtype, (3, 8)), expected)


@pytest.mark.parametrize("place", [Place((8, 3), (1, 8), 1), Place((8, 3), (1, -8), 0)])
def test_no_recipe_stores_outside_of_its_array(place):
    with pytest.raises(ValueError, match="outside"):
        restored([(floats(2, 3, 4, 1), Panels("f32", (), 4, 1, 8, 3, place))], np.float32, (3, 8))


def test_recipes_that_make_no_sense(tmp_path):
    path = tmp_path / "m.tsl"
    tessel.compile(product(floats(64, 80)), threads=1).save(path)

    def change(manifest):
        (entry,) = manifest["restored"].values()
        entry["from"][0][1]["width"] = 7

    rewrite(path, change)
    with pytest.raises(PackageError, match="weights cannot be read"):
        tessel.load(path, native=False).run({"x": floats(2, 64)})


RUN = """
import sys
import numpy as np, tessel
from tessel.tools.benchmark.worker import peak_rss_mib
def run(path):
    exe = tessel.load(path, threads=1)
    exe(np.ones((2, exe.inputs[0].shape[-1]), np.float32))
run(sys.argv[1])
before = peak_rss_mib()
run(sys.argv[2])
print(peak_rss_mib() - before)
"""


@pytest.mark.parametrize("quantize", [None, "int4"])
def test_loading_and_running_takes_the_file_once(tmp_path, quantize):
    small, large = tmp_path / "small.tsl", tmp_path / "large.tsl"
    options = {"quantize": quantize, "threads": 1}
    tessel.compile(product(floats(64, 96)), **options).save(small)
    tessel.compile(product(floats(2048, 2048 * (1 if quantize is None else 6))), **options).save(
        large
    )
    found = subprocess.run(
        [sys.executable, "-c", RUN, small, large], capture_output=True, text=True, check=True
    )
    assert float(found.stdout) <= large.stat().st_size / 2**20 + 4
