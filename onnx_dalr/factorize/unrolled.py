"""Kernels one after the other as the matrices that they are on one patch of the first (methods.md §9.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64

Extent = tuple[int, ...]


def extent_of(kernels: Sequence[Extent]) -> Extent:
    """How far a patch reaches of which the last of these kernels, one after the other, makes one position."""
    axes = max(map(len, kernels))
    every = [_over(kernel, axes) for kernel in kernels]
    return tuple(1 + sum(size - 1 for size in sizes) for sizes in zip(*every, strict=True))


def unrolled(values: Float64, below: Float64 | None, grid: Extent) -> Float64:
    """What a kernel makes of a patch at every place that it slides to.

    Args:
        values: [out, in, *kernel].
        below: What the kernels before make of the patch, [in, *grid, n]; None for the patch itself.
        grid: Places at which it meets them.

    Returns:
        [out, *places, n], n the inputs of the patch, ordered as (channel, *kernel).
    """
    kernel = _over(values.shape[2:], len(grid))
    values = values.reshape(*values.shape[:2], *kernel)
    places = tuple(size - own + 1 for size, own in zip(grid, kernel, strict=True))
    if below is None and set(places) <= {1}:
        return values.reshape(len(values), *places, -1)
    if below is None:
        made = np.zeros((len(values), *places, values.shape[1], *grid))
        for place in np.ndindex(places):
            made[(slice(None), *place, slice(None), *_from(place, kernel))] = values
        return made.reshape(len(values), *places, -1)
    made = np.zeros((len(values), *places, below.shape[-1]))
    for tap in np.ndindex(kernel):
        made += np.tensordot(values[(..., *tap)], below[(slice(None), *_from(tap, places))], axes=(1, 0))
    return made


def windows(dims: Extent, grid: Extent) -> list[NDArray[np.intp]]:
    """Which of the numbers (channel, *grid) a kernel sees, place by place, in the order of its own inputs.

    Args:
        dims: Of the kernel, (out, in, *kernel).
        grid: Of what it sees.
    """
    kernel = _over(dims[2:], len(grid))
    every = np.arange(dims[1] * int(np.prod(grid, dtype=int))).reshape(dims[1], *grid)
    places = np.ndindex(tuple(size - own + 1 for size, own in zip(grid, kernel, strict=True)))
    return [every[(slice(None), *_from(place, kernel))].ravel() for place in places]


def _over(kernel: Extent, axes: int) -> Extent:
    """A kernel over as many axes; a matrix is one of a single point."""
    return kernel + (1,) * (axes - len(kernel))


def _from(place: Extent, sizes: Extent) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(place, sizes, strict=True))
