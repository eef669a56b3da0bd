"""Four bits a number and a scale for every block of inputs (methods.md §9.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.formats.base import Decoding, Encoded
from onnx_dalr.factorize.formats.blocks import INPUTS, blocked, blocked_shape, blocks_of, padding_bytes, unblocked
from onnx_dalr.factorize.formats.feedback import Float32, grid, rounded
from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.moment import Moment
from onnx_dalr.factorize.shape import Shape

_LOW, _HIGH = -8, 7
_SHARES = (8 / 7, 1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
# A byte b holds 16·hi + lo, each with 8 added: [b, ⌊b/16⌋] is one product away from [lo, hi].
_CONSTANTS = {
    "_parts": np.array([1, 16], np.float32),
    "_mix": np.array([[1, 0], [-16, 1]], np.float32),
    "_middle": np.array(-_LOW, np.float32),
}


@dataclass(frozen=True)
class Int4:
    """W ≈ s·q with whole q from −8 to 7, two to a byte, and a float32 s for every output and block of inputs.

    Attributes:
        block: Inputs that share a scale, at most: the blocks of a weight are all of one size.
    """

    block: int
    reads_moment: bool = True

    @property
    def name(self) -> str:
        """With the size of its blocks."""
        return f"int4/{self.block}"

    def bytes(self, shape: Shape, dtype: np.dtype[Any]) -> int:
        """About m·n/2 + 4·m·n/block, and what unpacks them."""
        del dtype
        count, size = self._blocks(shape.m, shape.n)
        own = shape.m * count * size // 2 + 4 * shape.m * count + padding_bytes(shape.n, count, size)
        return own + sum(constant.nbytes for constant in _CONSTANTS.values())

    def encode(self, values: NDArray[Any], dtype: np.dtype[Any], moment: Moment | None = None) -> Encoded:
        """The scale of a block is the one that leaves least; rounded to nearest, or by the moment."""
        del dtype
        m, n = len(values), math.prod(values.shape[1:])
        rows, feedback = values.reshape(m, n), None if moment is None else moment.feedback
        count, size = self._blocks(m, n)
        weights = np.ones(n) if feedback is None else feedback.weights
        scale = _scales(blocked(rows, count, size), blocked(weights[None], count, size))
        by_input = np.repeat(scale, size, axis=1)[:, :n]
        numbers = rounded(rows, by_input, _LOW, _HIGH, feedback)
        halves = (blocked(numbers, count, size) - _LOW).astype(np.uint8).reshape(-1, 2)
        arrays = {
            "": halves[:, :1] + 16 * halves[:, 1:],
            **_CONSTANTS,
            "_scale": scale if count == 1 else scale[:, :, None],
        }
        if count * size != n:
            arrays[INPUTS] = np.arange(n, dtype=np.int32)
        read = (numbers * by_input).astype(np.result_type(values.dtype, np.float32), copy=False)
        return Encoded(arrays, read.reshape(values.shape), self._steps(values.shape, count, size), canonical=True)

    def _blocks(self, m: int, n: int) -> tuple[int, int]:
        """How many blocks an output has, and of how many inputs each; numbers come in twos."""
        count, size = blocks_of(m, n, self.block)
        return count, size + m * count * size % 2

    def _steps(self, shape: tuple[int, ...], count: int, size: int) -> tuple[Decoding, ...]:
        steps = (
            Decoding("Cast", attributes={"to": "float32"}),
            Decoding("Div", operand="_parts"),
            Decoding("Floor"),
            Decoding("MatMul", operand="_mix"),
            Decoding("Sub", operand="_middle"),
            Decoding("Reshape", attributes={"shape": blocked_shape(shape[0], count, size)}),
            Decoding("Mul", operand="_scale"),
        )
        return (*steps, *unblocked(shape, count, size), Decoding("Cast", attributes={"to": None}))


def _scales(W: NDArray[Any], weights: Float64) -> Float32:
    """The s of every block, [m, blocks], that leaves least of it: the number farthest from 0 becomes −8 or beyond.

    Args:
        W: [m, blocks, size].
        weights: What a squared error counts, [1, blocks, size].
    """
    if not W.any():
        return grid(np.zeros(W.shape[:2]), -_LOW)
    farthest = np.take_along_axis(W, np.abs(W).argmax(axis=2, keepdims=True), axis=2).astype(np.float64)
    best, least = grid(farthest / _LOW, -_LOW), np.full(farthest.shape, np.inf)
    for share in _SHARES:
        scale = grid(farthest * (share / _LOW), -_LOW)
        with np.errstate(invalid="ignore", over="ignore"):
            left = W - scale * np.clip(np.rint(W / scale), _LOW, _HIGH)
            error = np.sum(weights * np.square(left, dtype=np.float64), axis=2, keepdims=True)
        better = error < least
        best[better], least[better] = scale[better], error[better]
    return best[:, :, 0]
