"""From images to the values of a model: the user's own way, a function in Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError, one_line
from onnx_dalr.samples.arrays.alignment import as_text, check_axes
from onnx_dalr.samples.arrays.dtypes import to_model_dtype
from onnx_dalr.samples.arrays.stored import as_array
from onnx_dalr.samples.base import Array, InputSpec
from onnx_dalr.samples.functions import load_function, reason, spelling_hint

_OPTION = "--preprocess"


class UserFunction:
    """Reads images with a function of the user's: a Pillow image → an array without the batch axis.

    Attributes:
        settings: What is done, as facts for the report.
    """

    def __init__(self, spec: InputSpec, given: str | Callable[[Any], Any]) -> None:
        """Finds the function; it is called when images are read.

        Args:
            spec: The model's input.
            given: The function, or "file.py:function".

        Raises:
            InputError: No such file or function, or the file cannot be run.
        """
        self._spec = spec
        self._function = load_function(given, _OPTION) if isinstance(given, str) else given
        if not callable(self._function):
            raise InputError(f"--preprocess: a {type(given).__name__} is no function", spelling_hint(_OPTION))
        self._name = given if isinstance(given, str) else getattr(given, "__qualname__", type(given).__name__)
        self.settings = {"preprocess": self._name, "input": str(spec)}

    def values(self, path: Path) -> Array:
        """Returns what the function makes of an image, with the batch axis, in the model's element type.

        Raises:
            InputError: The image cannot be decoded; the function fails, or returns what does not fit the model.
        """
        from onnx_dalr.samples.images.pixels import read_image  # noqa: PLC0415 - Pillow is loaded when it is needed

        image = read_image(path)
        where = f"--preprocess {self._name} on {one_line(path.name)}"
        try:
            returned = self._function(image)
        except (Exception, SystemExit) as error:
            raise InputError(f"{where}: {reason(error)}", "the function is yours to repair") from error
        if returned is None:
            raise InputError(f"{where}: it returned nothing", "return the array that the model takes")
        array = as_array(returned, where)[None]
        check_axes(array.shape, self._spec, f"{where}, with the batch axis added", skip=1)
        if array.size == 0:
            raise InputError(f"{where}: it returned an empty array", "return the array that the model takes")
        return to_model_dtype(array, self._spec, where)

    def picture(self, values: Array) -> NDArray[np.uint8]:
        """Returns what `values` returned as pixels, [H, W, 1 or 3], its least value black and its greatest white.

        Raises:
            InputError: The array cannot be seen as an image.
        """
        planes = _planes(np.asarray(values[0], dtype=np.float64))
        low, high = planes.min(), planes.max()
        levels = np.rint((planes - low) * (255 / (high - low) if high > low else 0))
        return np.asarray(levels, dtype=np.uint8)


def _planes(array: Array) -> Array:
    """An array as [H, W, 1 or 3]: gray, channels first or last, or flattened from a square.

    Raises:
        InputError: It is none of these.
    """
    if array.ndim == 1:
        for channels in (1, 3):
            side = math.isqrt(array.size // channels)
            if side * side * channels == array.size:
                return array.reshape(channels, side, side).transpose(1, 2, 0)
    if array.ndim == 2:
        return array[:, :, None]
    if array.ndim == 3 and array.shape[0] in (1, 3):
        return array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] in (1, 3):
        return array
    raise InputError(
        f"--thumbnails: the arrays of --preprocess, {as_text(array.shape)}, cannot be shown as images",
        "leave --thumbnails out",
    )
