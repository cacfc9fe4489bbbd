"""Images in models: the host decodes a file once in a run, whatever its size."""

import io
import sys

import numpy as np
import pytest
from tessel.compiler.errors import UnsupportedError
from tessel.compiler.ir.op import OPS
from tessel.compiler.ops.vision.image import png

from ...support.onnx_models import model
from .test_dtypes import model_of
from .test_strings import compiled

PIXELS = np.random.default_rng(2).integers(0, 256, (4, 6, 3)).astype(np.uint8)


def decoded(file, pixel_format="RGB"):
    attrs = {"pixel_format": pixel_format}
    height, width = OPS["image_size"].ref(file, **attrs)
    return OPS["decode_image"].ref(file, height=height, width=width, **attrs)


def file_of(kind, pixels=PIXELS, **options):
    image = pytest.importorskip("PIL.Image")
    out = io.BytesIO()
    image.fromarray(pixels).save(out, kind, **options)
    return np.frombuffer(out.getvalue(), np.uint8)


@pytest.mark.parametrize("kind", ["bmp", "png", "tiff", "ppm", "webp"])
def test_images_without_loss(kind):
    options = {"lossless": True} if kind == "webp" else {}
    file = file_of(kind, **options)
    np.testing.assert_array_equal(decoded(file), PIXELS)
    np.testing.assert_array_equal(decoded(file, "BGR"), PIXELS[:, :, ::-1])
    assert decoded(file, "Grayscale").shape == (4, 6, 1)


def test_grey_images_in_colour():
    file = file_of("png", PIXELS[:, :, 0])
    np.testing.assert_array_equal(decoded(file), np.repeat(PIXELS[:, :, :1], 3, 2))


def test_files_that_cannot_be_decoded():
    pytest.importorskip("PIL")
    file = png(PIXELS)
    np.testing.assert_array_equal(decoded(file), PIXELS)
    assert decoded(file[:70]).shape == (0, 0, 3)
    assert decoded(np.zeros(9, np.uint8), "Grayscale").shape == (0, 0, 1)


def test_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UnsupportedError, match=r"(?s)needs Pillow.*'tessel\[images\]'"):
        compiled(model_of("ImageDecoder", [png(PIXELS)]))


def test_images_of_any_size():
    pytest.importorskip("PIL")
    body = "p = ImageDecoder(d) f = Cast<to = 1>(p) y = ReduceMean<keepdims = 0>(f)"
    exe = compiled(model(body, inputs="uint8[N] d", outputs="float y", opset=20))
    for pixels in (PIXELS, PIXELS[:2, :3]):
        got = exe.run({"d": png(pixels)})["y"]
        np.testing.assert_allclose(got, pixels.astype(np.float64).mean(), rtol=1e-6)


def test_a_run_decodes_a_file_once(monkeypatch):
    image = pytest.importorskip("PIL.Image")
    opened, original = [], image.open
    body = "p = ImageDecoder(d) s = Shape(p)"
    exe = compiled(model(body, inputs="uint8[N] d", outputs="uint8[H,W,C] p, int64[3] s", opset=20))
    monkeypatch.setattr(image, "open", lambda file: opened.append(file) or original(file))
    for file, pixels in ((png(PIXELS), PIXELS), (png(PIXELS)[:70], PIXELS[:0, :0])):
        got = exe.run({"d": file})
        np.testing.assert_array_equal(got["p"], pixels)
        assert got["s"].tolist() == list(pixels.shape)
    assert len(opened) == 2


def test_strict_refuses_images():
    pytest.importorskip("PIL")
    with pytest.raises(UnsupportedError, match="host_image is run by the host"):
        compiled(
            model("p = ImageDecoder(d)", inputs="uint8[N] d", outputs="uint8[H,W,C] p", opset=20),
            strict=True,
        )
