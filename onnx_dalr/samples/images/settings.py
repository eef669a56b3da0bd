"""What the user may say about images: the options of the panel "Images"."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from onnx_dalr.errors import InputError
from onnx_dalr.samples.images.presets import PRESETS, Color, Preset

__all__ = ["Color", "Crop", "ImageSettings", "Layout"]

Layout = Literal["nchw", "nhwc"]
Crop = tuple[int, int] | float | Literal["center"]


@dataclass(frozen=True)
class ImageSettings:
    """How pixels become numbers; what is None is taken from the preset, then from the model, or has a default.

    The steps, in this order: decode, convert to the colour, resize, crop, multiply by `scale`, subtract `mean`,
    divide by `std`, arrange as the layout, cast to the model's element type. So mean and std are on the scale of the
    values *after* `scale`: 0.485 and 0.229 go with the default scale, 127 and 128 with `scale=1`.

    Attributes:
        resize: Without a crop, (height, width) to which the whole image is resized, N meaning (N, N); None: the
            model's size. With a crop, the size before it: (height, width), or N for the shorter side; None: the
            image's own.
        mean: One value, or one per channel in the order the model sees them (for "bgr": blue first); None: 0.
        std: What to divide by: one value, or one per channel in the order the model sees them; None: 1.
        scale: Factor of the pixels 0..255. None: 1/255 for floating inputs, 1 (raw pixels) for integer inputs.
        color: Channels and their order; None: "rgb" or "gray" by the model's channel count.
        layout: Order of the axes; None: by where the model's input has 1 or 3 channels, "nchw" if that is open.
        preset: Name of a row of PRESETS, which fills in what is None here.
        crop: What is cut out of the middle: (height, width), "center" for the model's size, or a fraction in (0, 1]:
            the image is resized so that the model's size is this fraction of its shorter side. None: nothing is cut.
        preprocess: A function from a Pillow image to an array, or "file.py:function"; replaces all of the above.
    """

    resize: tuple[int, int] | int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    color: Color | None = None
    layout: Layout | None = None
    preset: str | None = None
    crop: Crop | None = None
    preprocess: str | Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        sides = (self.resize,) if isinstance(self.resize, int) else self.resize
        if sides is not None and (len(sides) > 2 or any(side < 1 for side in sides)):
            raise InputError(f"--resize {self.resize} is not a size", "give height x width in pixels, as in 224x224")
        if self.color not in (None, "rgb", "bgr", "gray"):
            raise InputError(f"--color '{self.color}' is not known", "choose rgb, bgr or gray")
        if self.layout not in (None, "nchw", "nhwc"):
            raise InputError(f"--layout '{self.layout}' is not known", "choose nchw or nhwc")
        if self.preset is not None and self.preset not in PRESETS:
            raise InputError(f"--preset '{self.preset}' is not known", f"choose {', '.join(PRESETS)}")
        _check_crop(self.crop)
        if isinstance(self.crop, int | float) and self.resize is not None:
            raise InputError(
                f"--crop {self.crop} says how far images are resized, and so does --resize",
                "leave one out, or give the crop in pixels: --crop 224x224",
            )
        _check_numbers("--mean", self.mean or ())
        _check_numbers("--std", self.std or (), positive=True)
        _check_numbers("--scale", () if self.scale is None else (self.scale,), positive=True)
        if self.preprocess is not None and len(self.given()) > 1:
            others = [option for option in self.given() if option != "--preprocess"]
            raise InputError(
                f"--preprocess takes the place of all image settings, and {', '.join(others)} is given too",
                "leave one out; the function does all of it",
            )

    def given(self) -> list[str]:
        """The options that are not left to the model, as the command line writes them."""
        return [f"--{field.name}" for field in fields(self) if getattr(self, field.name) is not None]

    @property
    def preset_values(self) -> Preset:
        """The row of the preset; where none is given, one that says nothing."""
        return PRESETS[self.preset] if self.preset else Preset()

    def resolved(self) -> ImageSettings:
        """The settings with what the preset fills in; the preset stays named.

        A preset's mean and std belong to its colours: asking for the other order of channels turns them round. A
        fraction to crop says how far to resize: with a `resize` of the user's, the crop is the model's size.
        """
        if self.preset is None:
            return self
        preset = self.preset_values
        mean, std = preset.mean, preset.std
        if {self.color or preset.color or "rgb", preset.color or "rgb"} == {"rgb", "bgr"}:
            mean, std = mean and mean[::-1], std and std[::-1]
        crop: Crop | None = preset.crop if self.resize is None or preset.crop is None else "center"
        return replace(
            self,
            mean=mean if self.mean is None else self.mean,
            std=std if self.std is None else self.std,
            scale=preset.scale if self.scale is None else self.scale,
            color=self.color or preset.color,
            crop=crop if self.crop is None else self.crop,
        )

    def origin(self, option: str) -> str:
        """What an error calls the value of an option: the option, or the preset that gave it."""
        return f"--{option}" if getattr(self, option) is not None else f"the {option} of --preset {self.preset}"


def _check_crop(crop: tuple[int, int] | float | str | None) -> None:
    if isinstance(crop, str):
        fits = crop == "center"
    elif isinstance(crop, int | float):
        fits = 0 < crop <= 1
    else:
        fits = crop is None or (len(crop) == 2 and all(side >= 1 for side in crop))
    if not fits:
        raise InputError(
            f"--crop {crop} is no crop",
            "give height x width in pixels, as in 224x224, center for the model's size, or a fraction, as in 0.875",
        )


def _check_numbers(option: str, values: tuple[float, ...], *, positive: bool = False) -> None:
    for value in values:
        if not math.isfinite(value) or (positive and value <= 0):
            raise InputError(f"{option} {value} cannot be used", f"give {'positive' if positive else 'finite'} numbers")
