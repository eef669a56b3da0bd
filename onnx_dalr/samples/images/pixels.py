"""From an image file to pixels. With what draws them the only module that imports Pillow, when images are read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from onnx_dalr.errors import InputError, first_line, one_line
from onnx_dalr.samples.files import check_regular
from onnx_dalr.samples.images.image_input import MOST_PIXELS, ImageInput

# Formats that Pillow recognises by name but cannot decode by itself, and those that it has another program run:
# EPS is a PostScript program for Ghostscript, WMF a list of calls to Windows.
_REFUSED = frozenset({"BUFR", "GRIB", "HDF5", "MPEG", "EPS", "WMF"})
_EXIF_ORIENTATION = 0x0112
_QUARTER_TURNS = frozenset({5, 6, 7, 8})


def image_extensions() -> frozenset[str]:
    """File extensions of the formats that Pillow decodes, in lower case with the dot."""
    known = Image.registered_extensions()
    return frozenset(ext for ext, kind in known.items() if kind in Image.OPEN and kind not in _REFUSED)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) as the image is to be seen; from the file's header, unless it is turned.

    Raises:
        InputError: The file is not an image.
    """
    with _decoding(path), Image.open(path, formats=_formats()) as opened:
        width, height = opened.size
        turned = opened.getexif().get(_EXIF_ORIENTATION) in _QUARTER_TURNS
    if turned:
        # Whether the header's size is the turned one depends on the format and on Pillow's version.
        image = read_image(path)
        width, height = image.size
    return height, width


def read_image(path: Path) -> Image.Image:
    """Decodes the first frame of an image file, turned as its EXIF orientation says, in the mode the file has.

    Raises:
        InputError: The file cannot be decoded, or would have more pixels than Pillow deems safe (89 million).
    """
    with _decoding(path), Image.open(path, formats=_formats()) as opened:
        opened.load()
        return ImageOps.exif_transpose(opened)


def deep_peak(path: Path) -> int | None:
    """Returns the largest value, 0..65535, of an image with 16 bits per channel; None for other images.

    Of colours Pillow keeps the upper 8 bits: there it is the most that it can have been.

    Raises:
        InputError: The file cannot be decoded.
    """
    with _decoding(path), Image.open(path, formats=_formats()) as opened:
        # The raw mode of a tile, "RGB;16B" say, tells what the file holds; the image's mode what Pillow makes of it.
        deep_color = any(";16" in str(tile[3]) for tile in opened.tile)
        if not opened.mode.startswith("I") and not deep_color:
            return None
        opened.load()
        levels = np.asarray(opened)
        if opened.mode.startswith("I"):
            return int(levels.max())
        return 256 * int(levels[..., : 1 if opened.mode == "LA" else 3].max()) + 255


def read_pixels(path: Path, wanted: ImageInput) -> NDArray[np.uint8]:
    """Decodes an image and brings it to the colour and size that the model takes.

    Alpha is dropped, not composited (what `convert("RGB")` does, and with it most training code); palettes and CMYK
    become RGB; gray is the luma of ITU-R 601; 16-bit gray is brought to 8 bits by its full range, and Pillow keeps the
    upper 8 bits of 16-bit colour.

    Args:
        path: The file.
        wanted: Colour, size and crop; with a side left open the image keeps its size.

    Returns:
        uint8 [height, width, 1 or 3].

    Raises:
        InputError: The file cannot be decoded, or the image is too small for the crop.
    """
    color = wanted.color
    image = read_image(path)
    with _decoding(path):
        image = _eight_bits(image).convert("L" if color == "gray" else "RGB")
    image = _sized(image, wanted, path)
    pixels = np.asarray(image, dtype=np.uint8)
    if color == "gray":
        return pixels[:, :, None]
    return pixels[:, :, ::-1] if color == "bgr" else pixels


def _sized(image: Image.Image, wanted: ImageInput, path: Path) -> Image.Image:
    """Resizes and crops."""
    own = (image.height, image.width)
    if wanted.cut is not None:
        try:
            size = wanted.cut.resized(own)
        except InputError as error:
            raise InputError(f"{one_line(path)}: {error.message}", error.hint) from error
    else:
        size = own if wanted.height is None or wanted.width is None else (wanted.height, wanted.width)
    if size[0] * size[1] > MOST_PIXELS:
        raise InputError(
            f"{one_line(path)}: the image, {own[0]}x{own[1]}, would become {size[0]}x{size[1]} before the crop",
            "take it out of the folder, or give --resize HxW",
        )
    if size != own:
        resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[wanted.resample]
        image = image.resize((size[1], size[0]), resample)
    return image if wanted.cut is None else image.crop(wanted.cut.box(size))


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


def _formats() -> list[str]:
    Image.init()
    return [kind for kind in Image.OPEN if kind not in _REFUSED]


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turns everything that Pillow raises and warns about into one error that names the file.

    Raises:
        InputError: Whatever it was.
    """
    try:
        check_regular(path)
        with warnings.catch_warnings():
            # Notes on odd metadata mean nothing to the user; a warning of a bomb is as good as one.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except InputError:
        raise
    # Pillow's decoders raise nearly anything on a broken file, from SyntaxError to struct.error.
    except Exception as error:
        raise _undecodable(path, error) from error


def _undecodable(path: Path, error: Exception) -> InputError:
    name = one_line(path)
    if isinstance(error, FileNotFoundError | PermissionError):
        return InputError(f"{name}: the image cannot be read: {error.strerror}", "check that it is there and readable")
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return InputError(
            f"{name}: this image claims more than {Image.MAX_IMAGE_PIXELS:,} pixels, as a decompression bomb would",
            "if it is none, save it smaller",
        )
    if isinstance(error, UnidentifiedImageError):
        reason = "it is no image, whatever its name says"
    else:
        reason = first_line(error)
    return InputError(f"{name}: this image cannot be decoded: {reason}", "repair the file or take it out of the folder")
