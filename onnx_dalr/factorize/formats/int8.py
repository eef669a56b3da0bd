"""A byte a number and a scale for every output (methods.md §9.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.formats.base import Decoding, Encoded
from onnx_dalr.factorize.formats.feedback import grid, rounded
from onnx_dalr.factorize.moment import Moment
from onnx_dalr.factorize.shape import Shape

_MOST = 127
_STEPS = (
    Decoding("Cast", attributes={"to": "float32"}),
    Decoding("Mul", operand="_scale"),
    Decoding("Cast", attributes={"to": None}),
)


@dataclass(frozen=True)
class Int8:
    """W ≈ s·q with whole q from −127 to 127 and a float32 s for every output."""

    name: str = "int8"
    reads_moment: bool = True

    def bytes(self, shape: Shape, dtype: np.dtype[Any]) -> int:
        """m·n + 4·m."""
        del dtype
        return shape.params + 4 * shape.m

    def encode(self, values: NDArray[Any], dtype: np.dtype[Any], moment: Moment | None = None) -> Encoded:
        """S = max |w| / 127; rounded to nearest, or by the moment."""
        del dtype
        rows = values.reshape(len(values), -1)
        scale = grid(np.abs(rows).max(axis=1, keepdims=True).astype(np.float64) / _MOST, _MOST)
        numbers = rounded(rows, scale, -_MOST, _MOST, None if moment is None else moment.feedback).reshape(values.shape)
        scale = scale.reshape(-1, *([1] * (values.ndim - 1)))
        read = (numbers * scale).astype(np.result_type(values.dtype, np.float32), copy=False)
        return Encoded({"": numbers, "_scale": scale}, read, _STEPS)
