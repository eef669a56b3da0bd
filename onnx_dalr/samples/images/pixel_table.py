"""From pixels to the values of a model: the standard way, a table of 256 levels per channel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.samples.base import Array, InputSpec
from onnx_dalr.samples.images.image_input import ImageInput, image_input
from onnx_dalr.samples.images.settings import ImageSettings

KEPT = 1 << 26
"""Bytes of decoded pixels that are held: passes over the samples are many, and to decode an image takes long."""

_FEWEST_LEVELS = 16


class PixelTable:
    """Reads images as the image settings say.

    Attributes:
        settings: What is done, as facts for the report.
    """

    def __init__(
        self, spec: InputSpec, given: ImageSettings, sized: Callable[[ImageInput], ImageInput] = lambda wanted: wanted
    ) -> None:
        """Settles size, colour, layout and values.

        Args:
            spec: The model's input.
            given: The options as the user gave them.
            sized: Fills in the size where model and options leave it open.

        Raises:
            InputError: A model that does not take images, options that contradict it.
        """
        settings = given.resolved()
        wanted = image_input(spec, settings)
        self._table = value_table(spec, given, wanted.channels)
        self._kept: dict[Path, NDArray[np.uint8]] = {}
        self._room = KEPT
        self._wanted = sized(wanted)
        self.settings = _facts(spec, self._wanted, settings, self._table)

    def values(self, path: Path) -> Array:
        """Returns an image as [1, C, H, W], [1, H, W, C] or [1, H·W·C].

        Raises:
            InputError: The file cannot be decoded.
        """
        wanted = self._wanted
        values = self._table[self._pixels(path), np.arange(wanted.channels)]
        if wanted.layout == "nchw":
            values = values.transpose(2, 0, 1)
        shape = (1, -1) if wanted.flat else (1, *values.shape)
        return np.ascontiguousarray(values).reshape(shape)

    def _pixels(self, path: Path) -> NDArray[np.uint8]:
        """Of an image; held from then on, as long as there is room. Passes run in a circle: what came first stays."""
        from onnx_dalr.samples.images.pixels import read_pixels  # noqa: PLC0415 - Pillow is loaded when it is needed

        if path in self._kept:
            return self._kept[path]
        pixels = read_pixels(path, self._wanted)
        if pixels.nbytes <= self._room:
            self._kept[path] = np.ascontiguousarray(pixels)  # a view would hold on to more than it shows
            self._room -= pixels.nbytes
        return pixels

    def picture(self, values: Array) -> NDArray[np.uint8]:
        """Returns what `values` returned as pixels again, [H, W, 1 or 3], red first: the inverse of the table."""
        wanted = self._wanted
        channels, height, width = wanted.channels, wanted.height or -1, wanted.width or -1
        if wanted.layout == "nchw":
            pixels = values.reshape(channels, height, width).transpose(1, 2, 0)
        else:
            pixels = values.reshape(height, width, channels)
        levels = [np.searchsorted(self._table[:, channel], pixels[:, :, channel]) for channel in range(channels)]
        picture = np.stack(levels, axis=2).astype(np.uint8)
        return picture[:, :, ::-1] if wanted.color == "bgr" else picture


def scale_of(spec: InputSpec, settings: ImageSettings) -> float:
    """The factor of pixel levels: as given, else 1/255 for floating and 1 for integer inputs."""
    if settings.scale is not None:
        return settings.scale
    return 1 / 255 if spec.dtype.kind == "f" else 1.0


def value_table(spec: InputSpec, given: ImageSettings, channels: int) -> Array:
    """The value the model sees for every pixel level and channel: (level·scale − mean)/std.

    All steps after resizing work on single pixels of 256 levels, so this table is the whole of them, computed in
    float64 and cast once.

    Args:
        spec: The model's input.
        given: The options as the user gave them.
        channels: 1 or 3.

    Returns:
        [256, channels] in the model's element type, ascending; integers are rounded.

    Raises:
        InputError: mean or std of another length than channels, or values the model's type cannot hold.
    """
    settings = given.resolved()
    for option, numbers in (("mean", settings.mean), ("std", settings.std)):
        if numbers is not None and len(numbers) not in (1, channels):
            raise InputError(
                f"{given.origin(option)} has {len(numbers)} values and the images have {channels} channel(s)",
                "give one value, or one per channel",
            )
    mean = np.asarray(settings.mean or 0.0, dtype=np.float64)
    std = np.asarray(settings.std or 1.0, dtype=np.float64)
    scale = scale_of(spec, settings)
    levels = np.arange(256, dtype=np.float64)[:, None]
    # level/255 as everyone writes it: level·(1/255) is off in the last digit of float64.
    levels = levels / 255 if scale == 1 / 255 else levels * scale
    exact = np.broadcast_to((levels - mean) / std, (256, channels))
    low, high = exact.min(), exact.max()
    limits = np.finfo(spec.dtype) if spec.dtype.kind == "f" else np.iinfo(spec.dtype)
    if np.rint(low) < limits.min or np.rint(high) > limits.max:
        raise InputError(
            f"pixels would become {low:g} .. {high:g}, which the model's input {spec} cannot hold",
            "bring them into its range with --scale, --mean and --std (int8: --scale 1 --mean 128)",
        )
    if spec.dtype.kind == "f":
        return exact.astype(spec.dtype)
    table = np.rint(exact).astype(spec.dtype)
    if len(np.unique(table[:, 0])) < _FEWEST_LEVELS:
        raise InputError(
            f"pixels would become {low:g} .. {high:g}, of which the model's input {spec} keeps only whole numbers",
            "raw pixels are --scale 1 or --preset raw",
        )
    return table


def _facts(spec: InputSpec, wanted: ImageInput, settings: ImageSettings, table: Array) -> dict[str, str]:
    """The settings as facts for the report, with the range of values the model will see."""
    scale = scale_of(spec, settings)
    layout = f"{wanted.layout}, flattened" if wanted.flat else wanted.layout
    return {
        **({"preset": settings.preset} if settings.preset else {}),
        "input": str(spec),
        **(wanted.cut.facts() if wanted.cut else {}),
        "input size": f"{wanted.height}x{wanted.width}",
        **({"resampling": wanted.resample} if wanted.resample != "bilinear" else {}),
        "color": wanted.color,
        "layout": layout,
        "scale": "1/255" if scale == 1 / 255 else f"{scale:g}",
        "mean": ", ".join(f"{value:g}" for value in settings.mean or (0,)),
        "std": ", ".join(f"{value:g}" for value in settings.std or (1,)),
        "value range": f"{_short(float(table.min()))} .. {_short(float(table.max()))}",
    }


def _short(value: float) -> str:
    """Two decimals where they say enough: -2.43, 2.75, 255, 1, 0.0039."""
    return f"{round(value, 2):.10g}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
