"""A byte a number and a scale for every output (methods.md §9.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.formats.base import Decoding, Encoded
from onnx_dalr.factorize.formats.blocks import INPUTS, blocked, blocks_of, padding_bytes, unblocked
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


@dataclass(frozen=True)
class Int8Blocks:
    """The same with an s for every output and block of inputs: for rows whose numbers are of very different size.

    Attributes:
        block: Inputs that share a scale, at most.
    """

    block: int
    reads_moment: bool = True

    @property
    def name(self) -> str:
        """With the size of its blocks."""
        return f"int8/{self.block}"

    def bytes(self, shape: Shape, dtype: np.dtype[Any]) -> int:
        """About m·n + 4·m·n/block."""
        del dtype
        count, size = blocks_of(shape.m, shape.n, self.block)
        return shape.m * count * size + 4 * shape.m * count + padding_bytes(shape.n, count, size)

    def encode(self, values: NDArray[Any], dtype: np.dtype[Any], moment: Moment | None = None) -> Encoded:
        """S = max |w| / 127 of a block; rounded to nearest, or by the moment."""
        del dtype
        m, n = len(values), math.prod(values.shape[1:])
        rows, (count, size) = values.reshape(m, n), blocks_of(m, n, self.block)
        scale = grid(np.abs(blocked(rows, count, size)).max(axis=2).astype(np.float64) / _MOST, _MOST)
        by_input = np.repeat(scale, size, axis=1)[:, :n]
        numbers = rounded(rows, by_input, -_MOST, _MOST, None if moment is None else moment.feedback)
        stored = blocked(numbers, count, size)
        arrays = {
            "": stored.reshape(m, size) if count == 1 else stored,
            "_scale": scale if count == 1 else scale[:, :, None],
        }
        if count * size != n:
            arrays[INPUTS] = np.arange(n, dtype=np.int32)
        read = (numbers * by_input).astype(np.result_type(values.dtype, np.float32), copy=False)
        steps = (*_STEPS[:2], *unblocked(values.shape, count, size), _STEPS[2])
        return Encoded(arrays, read.reshape(values.shape), steps, canonical=True)
