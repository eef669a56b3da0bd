"""Images of 16 bits that hold fewer: a camera's or a scanner's 10, 12 or 14, which come out dark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnx_dalr.errors import InputError
from onnx_dalr.samples.base import InputSpec
from onnx_dalr.samples.images.pixel_table import scale_of
from onnx_dalr.samples.images.settings import ImageSettings

_LOOKED_AT = 16
_DEPTHS = (8, 10, 12, 14)


def depth_notes(paths: Sequence[Path], spec: InputSpec, given: ImageSettings) -> list[str]:
    """What to say of images of 16 bits that use only the lower ones of them; nothing where the user set a scale.

    Args:
        paths: The images; at most 16 of them, spread evenly, are looked at, and of these only deep ones decoded.
        spec: The model's input.
        given: The options as the user gave them.
    """
    if given.scale is not None or given.preprocess is not None:
        return []
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(_LOOKED_AT, len(paths))).round().astype(int))
    peaks = [peak for peak in (_peak(paths[i]) for i in chosen) if peak is not None]
    bits = next((bits for bits in _DEPTHS if peaks and 0 < max(peaks) < 1 << bits), None)
    if bits is None:
        return []
    most = (1 << bits) - 1
    levels = round(max(peaks) / 257) + 1
    if spec.dtype.kind == "f":
        scale = _factor(scale_of(spec, given.resolved()), most)
        way_out = f"--scale {scale} is probably meant; --preprocess with a function of your own keeps all levels"
    else:
        way_out = f"--preprocess with a function that multiplies by 255/{most} is probably meant"
    return [
        f"the images are 16 bits deep and hold at most {bits} (largest value {max(peaks)} in {len(peaks)} of them): "
        f"the model sees them dark, in {levels} of 256 levels. {way_out}"
    ]


def _factor(scale: float, most: int) -> str:
    """The factor of pixels 0..255 that makes of the value `most` what the scale makes of 65535."""
    return f"257/{most}" if scale == 1 / 255 else f"{scale * 65535 / most:g}"


def _peak(path: Path) -> int | None:
    from onnx_dalr.samples.images.pixels import deep_peak  # noqa: PLC0415 - Pillow is loaded when it is needed

    try:
        return deep_peak(path)
    except InputError:  # said where the image is read, if it is
        return None
