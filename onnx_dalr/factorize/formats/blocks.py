"""Inputs in blocks, each with a scale of its own: how many, how large, and the way back (methods.md §9.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.formats.base import Decoding

INPUTS = "_inputs"
"""Key of the array that picks the inputs out of padded blocks."""


def blocks_of(m: int, n: int, most: int) -> tuple[int, int]:
    """How many blocks an output has, and of how many inputs each.

    So few that none is larger than it may be. What does not fill them is padded, and picking the inputs out of that
    takes four bytes for each: a few blocks more may be cheaper, if they are filled.

    Args:
        m: Outputs.
        n: Inputs.
        most: Inputs that a block may have.
    """
    least = -(-n // most)
    exact = next((count for count in range(least, least * 5 // 4 + 1) if n % count == 0), None)
    count = exact if exact is not None and m * (exact - least) <= n else least
    return count, -(-n // count)


def blocked(rows: NDArray[Any], count: int, size: int) -> NDArray[Any]:
    """[m, n] as [m, count, size], zeros where there is nothing."""
    padded = np.pad(rows, ((0, 0), (0, count * size - rows.shape[1])))
    return padded.reshape(len(rows), count, size)


def blocked_shape(m: int, count: int, size: int) -> tuple[int, ...]:
    """Of the floats, where they meet their scales."""
    return (m, size) if count == 1 else (m, count, size)


def padding_bytes(n: int, count: int, size: int) -> int:
    """What picking the inputs takes."""
    return 4 * n if count * size != n else 0


def unblocked(shape: tuple[int, ...], count: int, size: int) -> Iterator[Decoding]:
    """The steps from floats in blocks to a weight of this shape, [out, in, *kernel]."""
    m, n = shape[0], math.prod(shape[1:])
    reached = blocked_shape(m, count, size)
    if count * size != n:
        if reached != (m, count * size):
            yield Decoding("Reshape", attributes={"shape": (m, count * size)})
        yield Decoding("Gather", operand=INPUTS, attributes={"axis": 1})
        reached = (m, n)
    if reached != shape:
        yield Decoding("Reshape", attributes={"shape": shape})
