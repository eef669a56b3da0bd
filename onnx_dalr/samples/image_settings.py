"""What the user may say about images: the options `--resize`, `--mean`, `--std`, `--scale`, `--color`, `--layout`."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from onnx_dalr.errors import InputError

Color = Literal["rgb", "bgr", "gray"]
Layout = Literal["nchw", "nhwc"]


@dataclass(frozen=True)
class ImageSettings:
    """How pixels become numbers; what is None is taken from the model or has a default.

    The steps, in this order: decode, convert to the colour, resize, multiply by `scale`, subtract `mean`,
    divide by `std`, arrange as the layout, cast to the model's element type. So mean and std are on the scale of the
    values *after* `scale`: 0.485 and 0.229 go with the default scale, 127 and 128 with `scale=1`.

    Attributes:
        resize: (height, width) to which the whole image is resized, bilinear; None: the model's size.
        mean: One value, or one per channel in the order the model sees them (for "bgr": blue first); None: 0.
        std: The same, to divide by; None: 1.
        scale: Factor of the pixels 0..255. None: 1/255 for floating inputs, 1 (raw pixels) for integer inputs.
        color: Channels and their order; None: "rgb" or "gray" by the model's channel count.
        layout: Order of the axes; None: by where the model's input has 1 or 3 channels, "nchw" if that is open.
    """

    resize: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    color: Color | None = None
    layout: Layout | None = None

    def __post_init__(self) -> None:
        if self.resize is not None and (len(self.resize) != 2 or any(side < 1 for side in self.resize)):
            raise InputError(f"--resize {self.resize} is not a size", "give height x width in pixels, as in 224x224")
        if self.color not in (None, "rgb", "bgr", "gray"):
            raise InputError(f"--color '{self.color}' is not known", "choose rgb, bgr or gray")
        if self.layout not in (None, "nchw", "nhwc"):
            raise InputError(f"--layout '{self.layout}' is not known", "choose nchw or nhwc")
        _check_numbers("--mean", self.mean or ())
        _check_numbers("--std", self.std or (), positive=True)
        _check_numbers("--scale", () if self.scale is None else (self.scale,), positive=True)

    def given(self) -> list[str]:
        """The options that are not left to the model, as the command line writes them."""
        return [f"--{field.name}" for field in fields(self) if getattr(self, field.name) is not None]


def _check_numbers(option: str, values: tuple[float, ...], *, positive: bool = False) -> None:
    for value in values:
        if not math.isfinite(value) or (positive and value <= 0):
            raise InputError(f"{option} {value} cannot be used", f"give {'positive' if positive else 'finite'} numbers")
