"""A model whose dim of one name gets two sizes: refused, or warned of."""

import pytest
import tessel
from tessel.compiler.errors import InputError, UsageError

from ..support.onnx_models import assert_equal, onnxruntime, rand
from .test_dynamic_broadcast import TWO, check, executable, sizes_of


def two_sizes(body="y = Add (a, b)", a="float[N,3]", b="float[N,3]", **options):
    return executable(body, f"{a} a, {b} b", **options)


def test_one_name_for_two_sizes_is_refused():
    _, exe = two_sizes()
    with pytest.raises(InputError, match=r"wrong size(.|\n)*N = 2 \(a, axis 0\)"):
        exe.run({"a": rand(2, 3), "b": rand(1, 3)})


@pytest.mark.parametrize("name", ["expand", "matmul", "shape", "concat"])
def test_one_name_for_two_sizes_warns_if_asked(name, tmp_path):
    body, inputs = TWO[name]
    proto, made = executable(body, inputs.replace("[p", "[n").replace("[q", "[n"), dims="warn")
    made.save(tmp_path / "m.tsl")
    for exe in (made, tessel.load(tmp_path / "m.tsl")):
        for p, q in ((3, 3), (1, 4), (4, 1)):
            arrays = sizes_of(inputs, {"p": p, "q": q})
            if p == q:
                check(proto, exe, arrays)
                assert exe.specializations[-1].is_dynamic
                continue
            with pytest.warns(RuntimeWarning) as warned:
                got = exe.run(dict(zip("ab", arrays)))
            assert str(warned[0].message).startswith(
                f"the dim n has two sizes: {p} (input a, axis 0) and {q} (input b, axis 0)"
            )
            assert warned[0].filename == __file__
            assert_equal(list(got.values()), onnxruntime(proto, *arrays), 1e-4, 1e-5)


def test_two_sizes_that_do_not_fit_are_refused_all_the_same():
    _, exe = two_sizes(dims="warn")
    with (
        pytest.warns(RuntimeWarning, match="two sizes"),
        pytest.raises(InputError, match="N=2, N_b_0=4 do not fit"),
    ):
        exe.run({"a": rand(2, 3), "b": rand(4, 3)})


def test_sizes_of_their_own_have_names_that_are_free():
    _, exe = two_sizes("y = Add (a, b)", "float[N,N_b_0]", "float[N,N]", dims="warn")
    assert [str(p.type) for p in exe.inputs] == ["f32[N,N_b_0]", "f32[N_b_0_,N_b_1]"]


def test_dims_takes_two_words():
    proto = two_sizes()[0]
    with pytest.raises(UsageError, match="'check' or 'warn'"):
        tessel.compile(proto, dims="ignore")
    with pytest.raises(UsageError, match="leave out dims"):
        tessel.compile(tessel.from_onnx(proto), dims="warn")
