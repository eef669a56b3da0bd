"""What an image must become for one model: size, colour and layout."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnx_dalr.errors import InputError
from onnx_dalr.samples.base import InputSpec
from onnx_dalr.samples.images.cut import Cut, Size, text
from onnx_dalr.samples.images.presets import Resample
from onnx_dalr.samples.images.settings import Color, ImageSettings, Layout

MOST_PIXELS = 100_000_000
"""An image that has or would get more pixels is a mistake or an attack."""

_ARRAYS_HINT = "feed this model from .npy or .npz arrays"


@dataclass(frozen=True)
class ImageInput:
    """How the model takes an image.

    Attributes:
        height: Pixels, or None where model and options leave it open.
        width: Pixels, or None where model and options leave it open.
        color: "rgb", "bgr" or "gray".
        layout: Order of the axes, also before flattening.
        flat: The image becomes one row of values.
        cut: How the middle is cut out; None: the whole image is resized.
        resample: How images are resized.
    """

    height: int | None
    width: int | None
    color: Color
    layout: Layout
    flat: bool = False
    cut: Cut | None = None
    resample: Resample = "bilinear"

    @property
    def channels(self) -> int:
        """1 for gray, else 3."""
        return _channels(self.color)


def image_input(spec: InputSpec, settings: ImageSettings) -> ImageInput:
    """Settles what the model and the options say about images.

    Args:
        spec: The model's only input: rank 4, or rank 2 for flattened images.
        settings: The options, resolved.

    Raises:
        InputError: The input does not take images, or the options contradict it.
    """
    if spec.dtype.kind not in "fiu":
        raise InputError(f"the model's input {spec} does not take pixels", _ARRAYS_HINT)
    if spec.shape is None:
        wanted = _planar_input(InputSpec(spec.name, (None,) * 4, spec.dtype), settings)
    elif len(spec.shape) == 4:
        wanted = _planar_input(spec, settings)
    elif len(spec.shape) == 2:
        wanted = _flat_input(spec, settings)
    else:
        raise _not_for_images(spec)
    if (wanted.height or 1) * (wanted.width or 1) > MOST_PIXELS:
        raise InputError(
            f"images of {wanted.height}x{wanted.width} for the model's input {spec} have more than {MOST_PIXELS:,} "
            "pixels",
            "give a smaller --resize" if settings.resize or settings.crop else _ARRAYS_HINT,
        )
    return wanted


def _not_for_images(spec: InputSpec) -> InputError:
    return InputError(
        f"the model's input {spec} has {len(spec.shape or ())} axes; images need four (batch, channels, height and "
        "width in either layout) or two (flattened images)",
        _ARRAYS_HINT,
    )


def _planar_input(spec: InputSpec, settings: ImageSettings) -> ImageInput:
    """What a rank-4 input takes."""
    shape = spec.shape or ()
    layout = settings.layout or _layout_of(spec)
    count, height, width = shape[1:] if layout == "nchw" else (shape[3], shape[1], shape[2])
    if count not in (None, 1, 3):
        raise InputError(
            f"the model's input {spec} has {count} channels as {layout}; images have 1 or 3",
            _ARRAYS_HINT if settings.layout is None else f"try --layout {'nhwc' if layout == 'nchw' else 'nchw'}",
        )
    color = settings.color or ("gray" if count == 1 else "rgb")
    if count is not None and count != _channels(color):
        by_preset = settings.preset is not None and settings.preset_values.color == color
        option = f"--preset {settings.preset}" if by_preset else f"--color {color}"
        raise InputError(
            f"{option} gives {_channels(color)} channel(s), the model's input {spec} takes {count}",
            "choose --color gray" if count == 1 else "choose --color rgb or bgr",
        )
    resample = settings.preset_values.resample
    if settings.crop is not None:
        cut = _cut(spec, settings, (height, width))
        return ImageInput(*cut.size, color, layout, cut=cut, resample=resample)
    if settings.resize is not None:
        size = _pair(settings.resize)
        hint = "leave --resize out: images are resized to the model's size; --crop center cuts it out of a larger one"
        _check_sides("--resize", size, (height, width), spec, hint)
        height, width = size
    return ImageInput(height, width, color, layout, resample=resample)


def _cut(spec: InputSpec, settings: ImageSettings, model: tuple[int | None, int | None]) -> Cut:
    """The crop of a model whose input has this (height, width), each None where open.

    Raises:
        InputError: The model has another size, or nobody says what size; the image would be smaller than the crop.
    """
    resize = settings.resize
    if isinstance(settings.crop, tuple):
        height, width = settings.crop
        _check_sides("--crop", settings.crop, model, spec, "leave the size out: --crop center cuts out the model's")
    else:
        own = settings.preset_values.size
        otherwise = resize if isinstance(resize, tuple) else (own, own)
        sides = [side or other for side, other in zip(model, otherwise, strict=True)]
        if sides[0] is None or sides[1] is None:
            raise InputError(
                f"the model's input {spec} leaves the size of images open, and so the size of the crop",
                "give it: --crop HxW",
            )
        height, width = sides[0], sides[1]
    # The longer side of a wide image may be long enough for a wide crop; the shorter one has to be for its height.
    least = (height, width) if isinstance(resize, tuple) else (min(height, width),) * 2
    if resize is not None and any(given < side for given, side in zip(_pair(resize), least, strict=True)):
        raise InputError(
            f"--resize {resize if isinstance(resize, int) else text(resize)} is smaller than the crop of "
            f"{height}x{width}",
            "give a larger --resize",
        )
    return Cut((height, width), resize, settings.crop if isinstance(settings.crop, int | float) else None)


def _pair(resize: Size | int) -> Size:
    return (resize, resize) if isinstance(resize, int) else resize


def _check_sides(option: str, size: Size, model: tuple[int | None, int | None], spec: InputSpec, hint: str) -> None:
    """Raises InputError where the model fixes another side."""
    for name, side, wanted in zip(("height", "width"), model, size, strict=True):
        if side not in (None, wanted):
            raise InputError(f"{option} {text(size)} does not fit the model's input {spec} of {name} {side}", hint)


def _layout_of(spec: InputSpec) -> Layout:
    """Where the channels of a rank-4 input are."""
    _, first, _, last = spec.shape or (None,) * 4
    if first in (1, 3):
        return "nchw"
    if last in (1, 3):
        return "nhwc"
    if first is None:
        return "nchw"
    if last is None:
        return "nhwc"
    raise InputError(
        f"the model's input {spec} does not take images: neither axis 1 ({first}) nor the last axis ({last}) "
        "is 1 or 3 channels",
        _ARRAYS_HINT,
    )


def _flat_input(spec: InputSpec, settings: ImageSettings) -> ImageInput:
    """What a rank-2 input takes: flattened images."""
    values = (spec.shape or ())[1]
    cut = None if settings.crop is None else _cut(spec, settings, (None, None))
    if cut is None and settings.resize is None:
        count = "any number of" if values is None else str(values)
        raise InputError(
            f"the model's input {spec} takes {count} values per sample and does not say what size of image they are",
            _size_hint(values),
        )
    height, width = cut.size if cut else _pair(settings.resize or 0)
    color = settings.color or ("gray" if values == height * width else "rgb")
    given = height * width * _channels(color)
    if values not in (None, given):
        raise InputError(
            f"{'--crop' if cut else '--resize'} {height}x{width} in {color} gives {given} values, the model's input "
            f"{spec} takes {values}",
            _size_hint(values),
        )
    resample = settings.preset_values.resample
    return ImageInput(height, width, color, settings.layout or "nchw", flat=True, cut=cut, resample=resample)


def _size_hint(values: int | None) -> str:
    """Sizes of image that have this number of values."""
    if values is None:
        return "give the size: --resize HxW"
    fits = []
    for color, channels in (("gray", 1), ("rgb", 3)):
        side = math.isqrt(values // channels)
        if side * side * channels == values:
            fits.append(f"--resize {side}x{side} --color {color}")
    if fits:
        return f"for instance {' or '.join(fits)}"
    return f"give --resize HxW with H·W = {values} for gray images" + (
        f", or H·W = {values // 3} for rgb" if values % 3 == 0 else ""
    )


def _channels(color: Color) -> int:
    return 1 if color == "gray" else 3
