"""Rounding to a grid, to nearest or with error feedback by what the weight will see (methods.md §9.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.moment import Feedback

_PANEL = 128
_FLOATS = np.finfo(np.float32)

Int8 = NDArray[np.int8]
Float32 = NDArray[np.float32]


def grid(scale: Float64, most: int) -> Float32:
    """Scales as they are stored: none is denormal, and `most`·s still fits into float32."""
    size = np.clip(np.abs(scale), float(_FLOATS.tiny), float(_FLOATS.max) / (most + 1))
    return np.asarray(np.copysign(size, scale), np.float32)


def rounded(W: NDArray[Any], scale: Float32, low: int, high: int, feedback: Feedback | None = None) -> Int8:
    """Whole numbers q, [m, n], with s·q near W.

    Without feedback each is the nearest. With it, input after input is rounded, and what that leaves is spread over the
    inputs to come so that tr[ΔW C ΔWᵀ] stays small: input j is rounded at w_j + Σ_{i<j} (w_i − s_i q_i) R_ij / R_jj.

    Args:
        W: [m, n].
        scale: s, [m, 1] or [m, n].
        low: The smallest q.
        high: The largest.
        feedback: By the moment of the inputs.
    """
    with np.errstate(invalid="ignore"):
        if feedback is None:
            return np.clip(np.rint(W / scale), low, high).astype(np.int8)
        by_input, steps = W.T.astype(np.float64), np.broadcast_to(scale, W.shape).T.astype(np.float64)
        numbers = np.empty(by_input.shape)
        for block in feedback.blocks:
            numbers[block.inputs] = _fed_back(by_input[block.inputs], steps[block.inputs], low, high, block.R)
        return np.ascontiguousarray(numbers.T.astype(np.int8))


def _fed_back(W: Float64, scale: Float64, low: int, high: int, R: Float64) -> Float64:
    """q, [n, m], of Wᵀ in the order of R; errors reach later panels of inputs by one product a panel."""
    n = len(W)
    numbers, errors = np.empty_like(W), np.empty_like(W)
    shares = R / np.diag(R)
    for start in range(0, n, _PANEL):
        end = min(start + _PANEL, n)
        carried = shares[:start, start:end].T @ errors[:start]
        for j in range(start, end):
            number = np.rint((W[j] + carried[j - start]) / scale[j])
            np.clip(number, low, high, out=numbers[j])
            errors[j] = W[j] - scale[j] * numbers[j]
            carried[j + 1 - start :] += shares[j, j + 1 : end, None] * errors[j]
    return numbers
