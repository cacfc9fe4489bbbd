"""Resize with sizes that are open: one code for all sizes, equal to the numpy reference."""

import numpy as np
import pytest
import tessel
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.op import get
from tessel.compiler.ops.vision.resize import resize_ref
from tessel.compiler.ops.vision.resize_taps import COORDINATES, ROUNDING

H, W, OUT = (Sym.named(n) for n in ("H", "W", "OUT"))
SIZES = [(1, 1, 1), (1, 7, 5), (5, 1, 1), (6, 9, 13), (9, 4, 2), (8, 8, 8), (17, 30, 31)]


def resized(sizes, **attrs):
    """An executable: x f32[2,H,W] to `sizes`; OUT is the length of a second input."""
    b = Builder()
    x, like = b.input("x", "f32[2,H,W]"), b.input("like", "f32[OUT]")
    b.output("y", b.emit("resize", x, sizes=sizes, **attrs))
    b.output("z", like + 1.0)
    return tessel.compile(b.graph, threads=1, cache=False)


def check(exe, shape, sizes, **attrs):
    """Runs at the sizes of `shape` (H, W, OUT) agree with the reference."""
    h, w, out = shape
    x = np.random.default_rng(0).random((2, h, w), np.float32)
    got = exe.run({"x": x, "like": np.zeros(out, np.float32)})["y"]
    bound = {name: attr.default for name, attr in get("resize").attrs.items()} | attrs
    wanted = resize_ref(x, **bound | {"sizes": sizes})
    assert exe.specializations[-1].is_dynamic
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.sweep(5, suite=9)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinate_mode", COORDINATES)
def test_to_a_size_that_is_open(mode, coordinate_mode):
    attrs = {"mode": mode, "coordinate_mode": coordinate_mode}
    if coordinate_mode == "tf_crop_and_resize":
        attrs |= {"roi": (0, 0.25, -0.5, 1, 0.75, 1.25), "extrapolation_value": 5.0}
    exe = resized((2, OUT, 2 * W), **attrs)
    assert not exe.notes
    for h, w, out in SIZES:
        check(exe, (h, w, out), (2, out, 2 * w), **attrs)


@pytest.mark.parametrize("coordinate_mode", COORDINATES[:5])
@pytest.mark.parametrize("scale", [0.5, 1.5, 3.0])
def test_by_a_scale_from_a_size_that_is_open(coordinate_mode, scale):
    p, q = scale.as_integer_ratio()
    attrs = {"mode": "linear", "coordinate_mode": coordinate_mode, "scales": (1, scale, 1)}
    exe = resized((2, H * p // q, W), **attrs)
    assert not exe.notes
    for h, w, out in [(2, 3, 1), (5, 1, 1), (8, 2, 3), (21, 4, 4)]:
        check(exe, (h, w, out), (2, h * p // q, w), **attrs)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scale", [0.25, 0.75, 1.5, 2.0, 7.0])
def test_lines_are_read_in_windows_where_a_run_finds_that_these_hold_them(mode, scale):
    p, q = scale.as_integer_ratio()
    attrs = {"mode": mode, "coordinate_mode": "half_pixel", "scales": (1, 1, scale)}
    exe = resized((2, H, W * p // q), **attrs)
    for h, w in [(1, 4), (6, 7), (5, 8), (4, 9), (3, 40), (2, 700), (1, 5000)]:
        check(exe, (h, w, 1), (2, h, w * p // q), **attrs)


@pytest.mark.parametrize("nearest_mode", ROUNDING)
def test_ties_round_as_for_one_size(nearest_mode):
    attrs = {"nearest_mode": nearest_mode, "coordinate_mode": "half_pixel"}
    exe = resized((2, OUT, W), **attrs)
    for h, out in [(2, 4), (4, 2), (3, 6), (6, 3), (8, 20), (20, 8)]:
        check(exe, (h, 3, out), (2, out, 3), **attrs)


def test_weights_outside_are_left_out():
    attrs = {"mode": "cubic", "exclude_outside": True}
    exe = resized((2, OUT, W), **attrs)
    for h, w, out in SIZES:
        check(exe, (h, w, out), (2, out, w), **attrs)


def test_a_filter_as_wide_as_sizes_say_is_made_for_each():
    exe = resized((2, OUT, W), mode="linear", antialias=True)
    (note,) = exe.notes
    assert "antialiasing" in note and "H" in note and "OUT" in note


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("sizes", [(2, 0, 5), (2, 3, 0), (2, 0, 0)])
def test_no_results_need_no_scale(mode, antialias, sizes):
    b = Builder()
    b.output("y", b.resize(b.input("x", "f32[2,4,4]"), sizes=sizes, mode=mode, antialias=antialias))
    exe = tessel.compile(b.graph, threads=1)
    assert exe.run({"x": np.ones((2, 4, 4), np.float32)})["y"].shape == sizes
