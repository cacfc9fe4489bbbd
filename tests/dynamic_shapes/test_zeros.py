"""Sizes of 0: one code for all combinations in which the same symbols are 0."""

import numpy as np
import onnx
import pytest
import tessel
from onnx import numpy_helper
from tessel.compiler.ir.bounds import DynamicSize, needs_sizes
from tessel.compiler.ir.dims import Sym
from tessel.runtime.execution.zeros import vanishing

from ..support.onnx_models import assert_equal, onnxruntime, rand
from .test_dynamic_exports import built, turns


def model(text: str, **weights) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 20]> g {text}')
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()
    )
    return proto


# A row is put before the others, which is kept where there are none.
ROWS = model(
    "(float[n,k] x, float[m,k] z) => (float[t,k] y) { c = Concat<axis=0>(x, z) y = Neg(c) }"
)
# As wide as z is long; where that is nothing, 0 stands for the size that is there.
ZERO_COPIES = model(
    """(float[n,k] x, float[m] z) => (float[a] y) {
        s = Shape(z)  t = Concat<axis=0>(s, rest)  r = Reshape(x, t)
        f = Flatten<axis=0>(r)  y = Squeeze(f, first) }""",
    rest=[-1],
    first=[0],
)


def test_first_turns_of_all_lengths_have_one_code():
    proto, _ = built("decoder")
    exe = tessel.compile(proto, threads=1)
    for inputs in turns((1, 5, 0), (1, 1, 0), (3, 4, 0), (2, 3, 1), (2, 7, 0)):
        got = exe.run(inputs)
        want = onnxruntime(proto, *inputs.values())
        assert_equal([got[p.name] for p in exe.outputs], want, rtol=1e-3, atol=1e-4)
        assert exe.specializations[-1].is_dynamic
    assert list(exe.zeros.codes) == [{"p"}]
    assert not exe.notes


def test_each_set_of_zeros_has_its_own():
    exe = tessel.compile(ROWS, threads=1)
    for n, m, k in [(0, 2, 3), (0, 5, 1), (2, 0, 3), (0, 0, 2), (3, 2, 0), (1, 2, 3)]:
        x, z = rand(n, k), rand(m, k, seed=1)
        assert_equal([exe(x, z)], [-np.concatenate([x, z])])
    assert list(map(set, exe.zeros.codes)) == [{"n"}, {"m"}, {"n", "m"}, {"k"}]


def test_the_oldest_goes(monkeypatch):
    monkeypatch.setattr("tessel.runtime.execution.zeros.KEPT", 1)
    exe = tessel.compile(ROWS, threads=1)
    for n, m in [(0, 2), (2, 0)]:
        exe(rand(n, 3), rand(m, 3))
    assert list(exe.zeros.codes) == [{"m"}]


def test_where_all_sizes_are_0_they_are_known():
    exe = tessel.compile(ROWS, threads=1)
    assert exe(np.empty((0, 0), "f4"), np.empty((0, 0), "f4")).shape == (0, 0)
    assert not exe.zeros.codes
    assert not exe.specializations[-1].is_dynamic


@pytest.mark.parametrize("shape", [(3, 2), (4, 3)])
def test_a_model_that_is_read_anew_keeps_other_sizes_open(shape):
    exe = tessel.compile(ZERO_COPIES, threads=1)
    x = rand(*shape)
    for m in (0, 2, 0):
        assert_equal([exe(x, rand(m))], [x.ravel()])
    assert list(exe.zeros.codes) == [{"m"}]


def test_packages_have_the_code(tmp_path):
    """Also where it gives shapes that are not those of other sizes, and after a second saving."""
    exe = tessel.compile(ZERO_COPIES, threads=1)
    x, none = rand(3, 2), rand(0)
    exe(x, none)
    for i in range(2):
        exe.save(tmp_path / f"{i}.tsl")
        exe = tessel.load(tmp_path / f"{i}.tsl", threads=1)
        assert_equal([exe(rand(4, 3), none)], [rand(4, 3).ravel()])
        assert exe.specializations[-1].is_dynamic


def test_packages_have_what_was_compiled_for_numbers(tmp_path):
    exe = tessel.compile(ZERO_COPIES, threads=1)
    x, none = rand(3, 2), rand(0)
    exe.fixed({"n": 3, "k": 2, "m": 0}, [x, none])
    exe.zeros.codes.clear()
    exe.save(tmp_path / "m.tsl")
    loaded = tessel.load(tmp_path / "m.tsl", threads=1)
    assert_equal([loaded(x, none)], [x.ravel()])
    assert not loaded.specializations[-1].is_dynamic


def test_sizes_that_contradict_each_other_are_refused():
    exe = tessel.compile(ROWS, threads=1)
    exe(rand(0, 3), rand(2, 3))
    with pytest.raises(tessel.TesselError, match="fit the model"):
        exe(rand(0, 3), rand(2, 4))


N, M, K = map(Sym.named, "NMK")


@pytest.mark.parametrize(
    ("equation", "left"),
    [
        ((M * N, M), ((N, 1),)),
        ((M * M * N, 3 * M * M), ((N, 3),)),
        ((M + N, 7), ()),  # it still says something
        ((M * N, 3 * K), None),
        ((N, 7 // M), None),  # nor has a quotient by 0 a value
    ],
)
def test_equations_that_say_nothing_of_zeros(equation, left):
    assert vanishing([equation], frozenset({"M", "K"})) == left


def test_an_axis_that_must_be_1_must_be_so_beside_zeros(tmp_path):
    proto = model("(float[n,m] x) => (float[m] y) { y = Squeeze(x, zero) }", zero=0)
    exe = tessel.compile(proto, threads=1)
    assert exe(rand(1, 0)).shape == (0,)
    with pytest.raises(tessel.TesselError, match="size 1"):
        exe(rand(2, 0))
    exe.save(tmp_path / "m.tsl")
    with pytest.raises(tessel.TesselError):
        tessel.load(tmp_path / "m.tsl")(rand(2, 0))


def test_where_zeros_have_no_open_code_each_combination_is_compiled(monkeypatch):
    def refuse(*_):
        raise DynamicSize("a kernel is made for numbers")

    exe = tessel.compile(ROWS, threads=1)
    monkeypatch.setattr("tessel.runtime.execution.session.Session.build_dynamic", refuse)
    for m in (2, 3):
        assert_equal([exe(rand(0, 2), rand(m, 2))], [-rand(m, 2)])
        assert not exe.specializations[-1].is_dynamic
    assert not exe.zeros.codes


def test_a_fault_is_no_size_that_must_be_known(monkeypatch):
    """An error of Python's that names no size is said with its node, and not compiled around."""

    monkeypatch.setattr("tessel.compiler.driver.Driver._compile", None)
    with pytest.raises(tessel.TesselError, match="fault in tessel"):
        tessel.compile(ROWS, threads=1)


@pytest.mark.parametrize("arithmetic", [range, float, lambda n: [0] * n, lambda n: n / 2, int])
def test_arithmetic_that_wants_numbers_says_so(arithmetic):
    with pytest.raises(TypeError) as error:
        arithmetic(Sym({("N",): 1}))
    assert needs_sizes(error.value)
    assert not needs_sizes(TypeError("'NoneType' object is not callable"))


def test_what_was_compiled_for_zeros_is_reused(tmp_path, monkeypatch):
    """The cache's package grows by it, once."""
    monkeypatch.setenv("TESSEL_REUSE", "1")
    options = {"threads": 1, "cache": tmp_path}
    first = tessel.compile(ROWS.SerializeToString(), **options)
    first(rand(0, 2), rand(3, 2))
    [package] = tmp_path.glob("packages/*.tsl")
    written = package.stat().st_mtime_ns
    first(rand(0, 2), rand(4, 2))
    assert package.stat().st_mtime_ns == written

    again = tessel.compile(ROWS.SerializeToString(), **options)
    assert list(again.zeros.codes) == [{"n"}]
    assert_equal([again(rand(0, 5), rand(3, 5))], [-rand(3, 5)])
