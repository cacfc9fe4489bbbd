"""Images: files in memory become pixels [height, width, channels], by Pillow.

How large an image is only its bytes say, and whether they can be decoded to the end: `host_image`
decodes a file and binds the two sizes that came out, so that a file is decoded once.

    %y = host_image(%x) {height=_image0, width=_image1, symbols=[_image0,_image1]}

`decode_image` is for a size that is known, and `image_size` tells it; each decodes the file.
"""

import io
import zlib

import numpy as np

from ...errors import TypeMismatch, UnsupportedError
from ...ir.op import Attr, Extern, NotDifferentiable, Sample, register

REASON = "image files are decoded by Pillow"
NOT_NUMBERS = NotDifferentiable("a file's bytes have no gradient")
CHANNELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}
FORMAT = Attr("str", "RGB", "RGB, BGR or Grayscale")


def _check_file(data, pixel_format):
    if data.rank != 1:
        raise TypeMismatch("an image file is a vector of bytes", expected="u8[N]", received=data)
    if pixel_format not in CHANNELS:
        raise TypeMismatch(
            "unknown pixel_format", expected=", ".join(CHANNELS), received=pixel_format
        )


def pillow():
    """The module PIL.Image. Raises UnsupportedError where Pillow is not installed."""
    try:
        import PIL.Image
    except ImportError:
        raise UnsupportedError(
            "decoding images needs Pillow", fix="pip install 'tessel[images]'"
        ) from None
    return PIL.Image


def _decode(data: np.ndarray, pixel_format: str) -> np.ndarray:
    """The pixels; none, u8[0,0,C], where the file cannot be decoded."""
    library = pillow()
    mode = "L" if pixel_format == "Grayscale" else "RGB"
    try:
        with library.open(io.BytesIO(data.tobytes())) as image:
            pixels = np.asarray(image.convert(mode), np.uint8)
    except (OSError, SyntaxError, ValueError, EOFError, library.DecompressionBombError):
        return np.zeros((0, 0, CHANNELS[pixel_format]), np.uint8)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return np.ascontiguousarray(pixels[:, :, ::-1] if pixel_format == "BGR" else pixels)


def size_ref(data, *, pixel_format):
    return np.array(_decode(data, pixel_format).shape[:2], np.int64)


def decode_ref(data, *, pixel_format, height, width, symbols=()):
    pixels = _decode(data, pixel_format)
    if pixels.shape[:2] != (height, width):
        raise TypeMismatch(
            "the image has another size",
            expected=f"{height}×{width}",
            received="×".join(map(str, pixels.shape[:2])),
        )
    return pixels


def host_ref(data, *, pixel_format, height, width, symbols):
    """The pixels; sizes that are numbers must be theirs."""
    if isinstance(height, int) and isinstance(width, int):
        return decode_ref(data, pixel_format=pixel_format, height=height, width=width)
    return _decode(data, pixel_format)


def _size_shape(data, *, pixel_format):
    _check_file(data, pixel_format)
    return (2,)


def _decode_shape(data, *, pixel_format, height, width, symbols=()):
    _check_file(data, pixel_format)
    return (height, width, CHANNELS[pixel_format])


def png(pixels: np.ndarray) -> np.ndarray:
    """A PNG file of u8[H,W,3] (PNG specification, third edition): for samples and tests."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return len(body).to_bytes(4, "big") + kind + body + check.to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    file += chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return np.frombuffer(file, np.uint8)


def _files():
    """(file, size, pixel_format): whole files, one cut off, an empty one."""
    pixels = np.random.default_rng(1).integers(0, 256, (3, 5, 3)).astype(np.uint8)
    for pixel_format in CHANNELS:
        yield png(pixels), (3, 5), pixel_format
    yield png(pixels)[:60], (0, 0), "RGB"
    yield np.zeros(0, np.uint8), (0, 0), "Grayscale"


register(
    "image_size",
    "data: u8 -> i64",
    "(height, width) of the image that a file's bytes hold; (0, 0) if they cannot be decoded.",
    attrs={"pixel_format": FORMAT},
    shape=_size_shape,
    ref=size_ref,
    grad=NOT_NUMBERS,
    loops=Extern(size_ref, REASON),
    samples=lambda: [Sample((file,), {"pixel_format": f}) for file, _, f in _files()],
    group="image",
)

register(
    "decode_image",
    "data: u8 -> u8",
    "The pixels [height, width, channels] of an image file, in the order that pixel_format says.",
    attrs={"pixel_format": FORMAT, "height": Attr("dim"), "width": Attr("dim")},
    shape=_decode_shape,
    ref=decode_ref,
    grad=NOT_NUMBERS,
    loops=Extern(decode_ref, REASON),
    samples=lambda: [
        Sample((file,), {"pixel_format": f, "height": h, "width": w})
        for file, (h, w), f in _files()
    ],
    group="image",
)

register(
    "host_image",
    "data: u8 -> u8",
    "The pixels of an image file whose size is in its bytes; the host decodes it.",
    attrs={
        "pixel_format": FORMAT,
        "height": Attr("dim"),
        "width": Attr("dim"),
        "symbols": Attr("dims", (), "those of the two that it binds"),
    },
    shape=_decode_shape,
    ref=host_ref,
    grad=NOT_NUMBERS,
    loops=Extern(decode_ref, REASON),
    samples=lambda: [
        Sample((file,), {"pixel_format": f, "height": h, "width": w})
        for file, (h, w), f in _files()
    ],
    group="image",
    pure=False,
)
