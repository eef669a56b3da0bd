"""A picture of what the model sees: the images of the fit set, after all that is done to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from onnx_dalr.errors import InputError
from onnx_dalr.files import staged
from onnx_dalr.samples.base import Samples
from onnx_dalr.samples.images.folder import ImageFolder
from onnx_dalr.samples.images.thumbnail import fitted

MOST = 16

_COLUMNS = 4
_TILE = 208
_GAP = 20
_MARGIN = 32
_CAPTION = 26
_PAPER, _FRAME, _INK, _FAINT = "#ffffff", "#d6d9de", "#1c2128", "#636b76"


def write_thumbnails(
    samples: Samples, indices: Sequence[int] | NDArray[np.int64], path: Path, *, force: bool = False
) -> None:
    """Writes a contact sheet of up to 16 images, spread evenly over `indices`, as a PNG.

    Args:
        samples: The source; it has to be a folder of images.
        indices: The samples to choose from, in ascending order.
        path: The file to write, in one step.
        force: Replace it.

    Raises:
        InputError: Samples that are no images, an image that cannot be read, a file that exists or cannot be written.
    """
    if not isinstance(samples, ImageFolder):
        raise InputError(
            f"--thumbnails shows images, and there are none: {samples.description}", "leave --thumbnails out"
        )
    if path.suffix.lower() != ".png":
        raise InputError(f"--thumbnails {path}: the sheet is a PNG", "give it a name that ends in .png")
    chosen = np.asarray(indices)[np.linspace(0, len(indices) - 1, min(MOST, len(indices))).round().astype(int)]
    title = f"What the model sees: {len(chosen)} of {len(indices)} fit images"
    facts = [f"{name} {value}" for name, value in samples.settings.items()]
    sheet = draw_sheet([(samples.ids[i], samples.picture(i)) for i in map(int, chosen)], title, facts)
    with staged(path, force=force) as written:
        sheet.save(written, format="PNG", optimize=True)


def draw_sheet(pictures: Sequence[tuple[str, NDArray[np.uint8]]], title: str, facts: Sequence[str]) -> Image.Image:
    """Draws pictures in a grid under a title.

    Args:
        pictures: (caption, uint8 [H, W, 1 or 3]).
        title: The first line.
        facts: What is said below it, joined to lines.
    """
    large, small = _font(20), _font(13)
    columns = min(_COLUMNS, max(len(pictures), 2))
    tiles = [fitted(pixels, _TILE) for _, pixels in pictures]
    rows = [range(first, min(first + columns, len(tiles))) for first in range(0, len(tiles), columns)]
    heights = [max(tiles[number].height for number in row) for row in rows]
    width = 2 * _MARGIN + columns * (_TILE + _GAP) - _GAP
    lines = _wrapped(facts, small, width - 2 * _MARGIN)
    top = _MARGIN + 30 + 18 * len(lines) + _GAP
    height = top + sum(heights) + len(rows) * (_CAPTION + _GAP) - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), _shortened(title, large, width - 2 * _MARGIN), _INK, font=large)
    for number, line in enumerate(lines):
        draw.text((_MARGIN, _MARGIN + 26 + 18 * number), line, _FAINT, font=small)
    for row, row_height in zip(rows, heights, strict=True):
        for column, number in enumerate(row):
            tile, left = tiles[number], _MARGIN + column * (_TILE + _GAP)
            at = (left + (_TILE - tile.width) // 2, top + (row_height - tile.height) // 2)
            sheet.paste(tile, at)
            draw.rectangle((at[0] - 1, at[1] - 1, at[0] + tile.width, at[1] + tile.height), outline=_FRAME)
            text = _shortened(pictures[number][0], small, _TILE)
            below = (left + (_TILE - small.getlength(text)) / 2, top + row_height + 6)
            draw.text(below, text, _INK, font=small)
        top += row_height + _CAPTION + _GAP
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Without FreeType Pillow has one bitmap font in one size.
    return ImageFont.load_default(size)


def _wrapped(facts: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """Facts in lines of at most `width` pixels."""
    lines: list[str] = []
    for fact in facts:
        longer = f"{lines[-1]}  ·  {fact}" if lines else fact
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_shortened(fact, font, width))
    return lines


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Text with its middle left out where it is too wide: names differ at their ends."""
    shown = text
    for kept in range(len(text) - 1, 1, -1):
        if font.getlength(shown) <= width:
            break
        shown = f"{text[: kept // 2]}…{text[-(kept - kept // 2) :]}"
    return shown
