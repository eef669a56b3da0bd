"""The way of an image to its size when its middle is cut out: what it is resized to before."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnx_dalr.errors import InputError

Size = tuple[int, int]
"""(height, width)."""


@dataclass(frozen=True)
class Cut:
    """Resize, then cut the middle out.

    Attributes:
        size: What is cut out.
        resize: To what before: (height, width), N for the shorter side, or None for the image's own size.
        fraction: In place of `resize`: so far that the cut is this fraction of what it leaves over nothing of, the
            shorter side of a square (timm's crop_pct).
    """

    size: Size
    resize: Size | int | None = None
    fraction: float | None = None

    def resized(self, image: Size) -> Size:
        """The size to which an image of size `image` is resized.

        Raises:
            InputError: It would be smaller than what is to be cut out.
        """
        if self.fraction is not None:
            # Rounded down as timm and torchvision do it; 1e-9 for fractions that floats cannot hold.
            wanted = [math.floor(side / self.fraction + 1e-9) for side in self.size]
            axis = 0 if wanted[0] * image[1] >= wanted[1] * image[0] else 1
            size = _scaled(image, axis, wanted[axis])
        elif isinstance(self.resize, int):
            size = _scaled(image, 0 if image[0] <= image[1] else 1, self.resize)
        else:
            size = self.resize or image
        if size[0] < self.size[0] or size[1] < self.size[1]:
            what = f"the image, {text(image)}, is" if size == image else f"resized to {text(size)}, the image is"
            raise InputError(f"{what} smaller than the crop of {text(self.size)}", "give a larger --resize")
        return size

    def box(self, image: Size) -> tuple[int, int, int, int]:
        """(left, upper, right, lower) of the middle of an image of size `image`; odd pixels as torchvision has it."""
        top, left = (round((side - cut) / 2) for side, cut in zip(image, self.size, strict=True))
        return left, top, left + self.size[1], top + self.size[0]

    def facts(self) -> dict[str, str]:
        """For the report."""
        if self.fraction is not None:
            sides = [math.floor(side / self.fraction + 1e-9) for side in self.size]
            square = sides[0] == sides[1]
            before = f"shorter side to {sides[0]}" if square else f"to cover {sides[0]}x{sides[1]}"
        elif isinstance(self.resize, int):
            before = f"shorter side to {self.resize}"
        else:
            before = text(self.resize) if self.resize else "no"
        return {"resize": before, "crop": f"center {text(self.size)}"}


def text(size: Size) -> str:
    """A size as the options write it: 224x192."""
    return f"{size[0]}x{size[1]}"


def _scaled(image: Size, axis: int, side: int) -> Size:
    """An image's size when the side of one axis becomes `side`, the other rounded down."""
    other = max(image[1 - axis] * side // image[axis], 1)
    return (side, other) if axis == 0 else (other, side)
