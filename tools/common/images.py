"""Image files as inputs: resized to the input's height and width, in its order of axes.

    array, said = fitted("cat.png", "image", f32[1,3,224,224])
    said            image: cat.png, 640×480, resized to 224×224, RGB, NCHW, scaled to 0 … 1

Colours are RGB, floats are pixels / 255. Means and deviations, which some models want taken off,
are not known to a file: `--inputs` takes a .npy for those.
"""

import io
from pathlib import Path

import numpy as np

from ...compiler.errors import InputError, UsageError
from ...compiler.ir.types import TensorType, Type
from ...compiler.ops.vision.image import pillow
from ...compiler.system.files import reading, shown, size_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def fitted(path: str, name: str, type: Type) -> tuple[np.ndarray, str]:
    """The pixels as an array of this type, and what was done. Raises UsageError for what is no
    image, InputError for inputs that take none."""
    where = f"input {shown(name)}"
    if not isinstance(type, TensorType) or type.rank not in (3, 4):
        raise InputError(
            "this input takes no image",
            where=where,
            received=str(type),
            expected="[N,C,H,W], [N,H,W,C], [C,H,W] or [H,W,C]",
        )
    if not (type.dtype.is_float or type.dtype.name == "u8"):
        raise InputError(
            "this input takes no image",
            where=where,
            received=str(type),
            expected="floats, or bytes (u8)",
        )
    shape = type.shape[-3:]
    if type.rank == 4 and isinstance(type.shape[0], int) and type.shape[0] != 1:
        raise InputError(
            "one image is no batch",
            where=where,
            expected=str(type),
            received=shown(path),
            fix="give an array: NAME=FILE.npy",
        )
    last = _is_channels(shape[2]) and not _is_channels(shape[0])
    channels, height, width = (shape[2], *shape[:2]) if last else shape
    if isinstance(channels, int) and channels not in MODES:
        raise InputError("an image has 1, 3 or 4 channels", where=where, received=str(type))
    mode = MODES[channels if isinstance(channels, int) else 3]
    pixels, before = _pixels(path, mode, height, width)
    pixels = pixels if last else np.moveaxis(pixels, -1, 0)
    pixels = pixels[None] if type.rank == 4 else pixels
    order = ("HWC" if last else "CHW") if type.rank == 3 else ("NHWC" if last else "NCHW")
    after = pixels.shape[-3:-1] if last else pixels.shape[-2:]
    resized = "" if before == after else f", resized to {after[1]}×{after[0]}"
    said = f"{name}: {shown(path)}, {before[1]}×{before[0]}{resized}, {mode}, {order}"
    if not type.dtype.is_float:
        return np.ascontiguousarray(pixels), f"{said}, bytes"
    scaled = (pixels.astype(np.float32) / np.float32(255)).astype(type.dtype.numpy)
    return np.ascontiguousarray(scaled), f"{said}, scaled to 0 … 1"


def _is_channels(d) -> bool:
    return isinstance(d, int) and d in MODES


def _pixels(path: str, mode: str, height, width) -> tuple[np.ndarray, tuple[int, int]]:
    """[height, width, channels] of bytes; dynamic dims are the image's own, which come second."""
    library = pillow()
    with reading(path, UsageError) as file:
        data = file.read(size_of(file))
    try:
        with library.open(io.BytesIO(data)) as image:
            own = image.height, image.width
            image = image.convert(mode)
            size = [d if isinstance(d, int) else n for d, n in zip((height, width), own)]
            if (size[0], size[1]) != own:
                image = image.resize((size[1], size[0]), library.Resampling.BILINEAR)
            pixels = np.asarray(image, np.uint8)
    except (OSError, SyntaxError, ValueError, EOFError, Warning, library.DecompressionBombError):
        raise UsageError(
            "this is no image that can be read",
            where=shown(path),
            expected=", ".join(sorted({Path(f"x{s}").suffix[1:] for s in SUFFIXES})),
        ) from None
    return pixels.reshape(*pixels.shape[:2], -1), own
