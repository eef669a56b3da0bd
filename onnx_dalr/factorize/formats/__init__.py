"""Formats: how the numbers of a weight are stored. One file each, gathered here by name."""

from __future__ import annotations

from onnx_dalr.factorize.formats.base import LEARNABLE, Decoding, Encoded, Format, rounding
from onnx_dalr.factorize.formats.float16 import Float16
from onnx_dalr.factorize.formats.int4 import Int4
from onnx_dalr.factorize.formats.int8 import Int8, Int8Blocks
from onnx_dalr.factorize.formats.keep import Keep

__all__ = ["FORMATS", "LEARNABLE", "Decoding", "Encoded", "Format", "rounding"]

FORMATS: dict[str, Format] = {
    format.name: format for format in (Keep(), Float16(), Int8(), Int8Blocks(64), Int4(32), Int4(64), Int4(128))
}
