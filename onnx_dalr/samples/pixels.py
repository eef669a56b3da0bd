"""From an image file to pixels. The only module that imports Pillow; it is loaded when images are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from onnx_dalr.errors import InputError
from onnx_dalr.samples.image_settings import Color

# Formats that Pillow recognises by name but cannot decode by itself.
_STUBS = frozenset({"BUFR", "GRIB", "HDF5", "MPEG"})
_EXIF_ORIENTATION = 0x0112
_QUARTER_TURNS = frozenset({5, 6, 7, 8})


def image_extensions() -> frozenset[str]:
    """File extensions of the formats that Pillow decodes, in lower case with the dot."""
    known = Image.registered_extensions()
    return frozenset(ext for ext, kind in known.items() if kind in Image.OPEN and kind not in _STUBS)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) as the image is to be seen, from the file's header.

    Raises:
        InputError: The file is not an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION) in _QUARTER_TURNS
    except Exception as error:
        raise _undecodable(path, error) from error
    return (width, height) if turned else (height, width)


def read_pixels(path: Path, color: Color, size: tuple[int | None, int | None]) -> NDArray[np.uint8]:
    """Decodes the first frame of an image file, turned as its EXIF orientation says.

    Alpha is dropped, not composited (what `convert("RGB")` does, and with it most training code); palettes and CMYK
    become RGB; gray is the luma of ITU-R 601; 16-bit gray is brought to 8 bits by its full range.

    Args:
        path: The file.
        color: "rgb", "bgr" or "gray".
        size: (height, width) to resize the whole image to, bilinear; None for either keeps the image's size.

    Returns:
        uint8 [height, width, 1 or 3].

    Raises:
        InputError: The file cannot be decoded.
    """
    try:
        with Image.open(path) as opened:
            opened.load()
            image = _eight_bits(ImageOps.exif_transpose(opened))
            image = image.convert("L" if color == "gray" else "RGB")
    except InputError:
        raise
    # Pillow's decoders raise nearly anything on a broken file, from SyntaxError to struct.error.
    except Exception as error:
        raise _undecodable(path, error) from error
    height, width = size
    if height is not None and width is not None and image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    if color == "gray":
        return pixels[:, :, None]
    return pixels[:, :, ::-1] if color == "bgr" else pixels


def _eight_bits(image: Image.Image) -> Image.Image:
    """Brings gray images of more than 8 bits to 8; others as they are.

    Raises:
        ValueError: Levels beyond 16 bits, or floating: their range is not known.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    levels = np.asarray(image)
    if levels.dtype.kind == "f" or levels.min() < 0 or levels.max() > 65535:
        raise ValueError("its values are beyond 16 bits and their range is not known; save it with 8 or 16 bits")
    return Image.fromarray(np.rint(levels / 257).astype(np.uint8))


def _undecodable(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError | PermissionError):
        return InputError(f"{path}: the image cannot be read: {error.strerror}", "check that it is there and readable")
    if isinstance(error, UnidentifiedImageError):
        reason = "it is no image, whatever its name says"
    else:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{path}: this image cannot be decoded: {reason}", "repair the file or take it out of the folder")
