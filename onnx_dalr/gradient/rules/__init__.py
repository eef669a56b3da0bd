"""The table of rules: how gradients go back through each operator."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from onnx_dalr.gradient.rules import (
    convolution,
    elementwise,
    indexing,
    matrix,
    movement,
    normalization,
    pooling,
    quantization,
    reduction,
    resizing,
)
from onnx_dalr.gradient.rules.elementwise import FLAT
from onnx_dalr.gradient.step import Rule

_PAGES = (
    elementwise,
    matrix,
    movement,
    indexing,
    reduction,
    normalization,
    convolution,
    pooling,
    resizing,
    quantization,
)

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        operator: found
        for page in _PAGES
        for found in vars(page).values()
        if isinstance(found, Rule)
        for operator in found.operators
    }
)

__all__ = ["FLAT", "RULES"]
