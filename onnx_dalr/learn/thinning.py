"""Which rows are looked at of weights that see very many: of kernels, and of what is only rounded."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.graph.kinds.readings import everyone
from onnx_dalr.graph.layers import Layer
from onnx_dalr.learn.rows import RowReader
from onnx_dalr.samples.base import Batch

ROWS_AN_INPUT = 2
FEWEST, MOST = 2048, 8192
"""Rows of a layer that is only rounded, from all samples together."""

PATCHES_AN_INPUT = 16
FEWEST_PATCHES = 32768
"""Rows of a kernel that is taken apart: neighbours have most of their entries in common, and tell the same twice."""


def rows_wanted(layer: Layer) -> int:
    """How many rows of all samples its moment is made of, at most or hardly more."""
    if layer.in_one_piece:
        return int(np.clip(ROWS_AN_INPUT * layer.n, FEWEST, MOST))
    return max(PATCHES_AN_INPUT * layer.n, FEWEST_PATCHES)


class Thinner:
    """Takes as many rows of every sample, spread over all that it brings.

    Which depends on nothing but the number of the sample and how many rows it brings: not on the batches.
    """

    def __init__(self, samples: int, size_of: Callable[[Batch], int], first: int = 0) -> None:
        """Takes how many samples there will be, what says how many of them a feed holds, and the number of the first.

        Where somebody else runs the samples before it, that is how many these are.
        """
        self._all, self._size_of = max(samples, 1), size_of
        self._first, self._size = first, 0

    def start(self, batch: Batch) -> None:
        """Goes on to the next feed."""
        self._first += self._size
        self._size = self._size_of(batch)

    def of_each(self, layer: Layer) -> int:
        """Rows that a sample gives a layer by each of its uses."""
        return -(-rows_wanted(layer) // (self._all * len(layer.uses)))

    def picked(self, shape: tuple[int, ...], each: int, real: NDArray[np.bool_] | None) -> NDArray[np.intp]:
        """Numbers of the rows to take, ascending.

        Args:
            shape: How many rows the feed brings along each axis: of samples first, or of what is in them; else all are
                taken for those of one.
            each: How many a sample is to give.
            real: Which of them are no padding; None for all.
        """
        parts = self._size if shape and shape[0] % max(self._size, 1) == 0 else 1
        each = each * self._size // max(parts, 1)
        length = math.prod(shape) // max(parts, 1)
        found = []
        for part in range(parts):
            numbers = np.arange(part * length, (part + 1) * length)
            numbers = numbers if real is None else numbers[real[numbers]]
            if len(numbers) > each:
                # One of every stretch: as even as a grid, and in step with no row of an image.
                within = np.random.default_rng(self._first + part).random(each)
                numbers = numbers[((np.arange(each) + within) * len(numbers) / each).astype(np.intp)]
            found.append(numbers)
        return np.concatenate(found) if found else np.zeros(0, np.intp)


class Picking:
    """A Pick of the rows that one use of a layer gives: those that are no padding, thinned out.

    Attributes:
        masked: The mask could be applied, or there is none: known once it was asked.
        shape: How many rows there are along each axis, known then too.
    """

    def __init__(self, layer: Layer, reader: RowReader, thinner: Thinner | None) -> None:
        """Takes the layer, the reader of the batch, and what says which rows; all where that is None."""
        self._layer, self._reader, self._thinner = layer, reader, thinner
        self.masked, self.shape = True, tuple[int, ...]()

    def __call__(self, shape: tuple[int, ...]) -> NDArray[np.intp]:
        """Numbers of the rows, of how many there are along each axis."""
        self.shape = shape
        real, self.masked = self._reader.real(shape)
        if self._thinner is not None:
            return self._thinner.picked(shape, self._thinner.of_each(self._layer), real)
        return everyone(shape) if real is None else np.flatnonzero(real)
