"""One sample as a small picture: an image as the model sees it, or an array that has the shape of one."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnx_dalr.errors import InputError
from onnx_dalr.samples.base import Array, Samples
from onnx_dalr.samples.images.folder import ImageFolder

_SMALLEST = 4
"""Pixels that the shorter side of an array has at least which is taken for a picture."""


def thumbnail(source: Samples, index: int, size: int = 128) -> bytes | None:
    """A sample as a PNG.

    Args:
        source: Where samples are read from.
        index: Of the sample.
        size: Pixels that the longer side has at most.

    Returns:
        The bytes of the file; None where the sample is no picture.

    Raises:
        InputError: It cannot be read.
    """
    pixels = picture_of(source, index)
    if pixels is None:
        return None
    written = BytesIO()
    fitted(pixels, size).save(written, format="PNG", optimize=True)
    return written.getvalue()


def picture_of(source: Samples, index: int) -> NDArray[np.uint8] | None:
    """A sample as pixels, [H, W, 1 or 3]; None where none of its arrays has the shape of a picture.

    Images are brought back to the pixels that they were. Of an array nobody knows what is black and what is white: its
    least value and its greatest are.

    Raises:
        InputError: It cannot be read.
    """
    if isinstance(source, ImageFolder):
        try:
            return source.picture(index)
        except InputError:  # a function of the user's made no picture of it
            return None
    pictures = (_as_picture(array) for array in source.read(index).values())
    return next((picture for picture in pictures if picture is not None), None)


def _as_picture(array: Array) -> NDArray[np.uint8] | None:
    """The one sample of [1, C, H, W] or [1, H, W, C] as pixels; None for any other array."""
    if array.dtype.kind not in "fiub" or array.ndim != 4 or len(array) != 1:
        return None
    values = array[0]
    if values.shape[-1] not in (1, 3) and values.shape[0] in (1, 3):
        values = values.transpose(1, 2, 0)
    if values.shape[-1] not in (1, 3) or min(values.shape[:2]) < _SMALLEST:
        return None
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        return None
    low, high = float(wide.min()), float(wide.max())
    return np.asarray(np.rint((wide - low) * (255 / max(high - low, 1e-12))), dtype=np.uint8)


def fitted(pixels: NDArray[np.uint8], size: int) -> Image.Image:
    """Pixels [H, W, 1 or 3] as an image that fits into a square.

    Small ones are enlarged by whole factors, so that every pixel is seen; large ones are reduced.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]))
    longest = max(image.size)
    if longest <= size:
        factor = size // longest
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    width, height = (max(side * size // longest, 1) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
