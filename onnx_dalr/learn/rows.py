"""The rows of a tensor that enter a weight or leave it: which of them are real, and of which sample each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.samples.masks import Kept, entries_kept, mask_axes


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows.

    Attributes:
        values: [p, n].
        owners: Number of the sample in its batch that each is of, [p].
        masked: The mask could be applied, or there is none.
    """

    values: NDArray[Any]
    owners: NDArray[np.int32]
    masked: bool


class RowReader:
    """Takes the rows out of the tensors of one batch, in the order in which the model makes them.

    Samples and positions are found by how many there are. Where a tensor has them joined in one axis, that does not
    say which goes first: they are taken to lie as in the tensor with two axes before it, since what comes before a
    Gemm is reshaped and no more.
    """

    def __init__(self, samples: int, kept: Kept | None = None) -> None:
        """Starts a batch.

        Args:
            samples: How many it holds; a complete feed is one.
            kept: Which positions are real, [N, T], None for all.
        """
        self.samples, self.kept = samples, kept
        self._positions_first = False

    def read(self, tensor: NDArray[Any], n: int) -> Rows:
        """The rows of n values of a tensor, [..., n], without those of masked positions."""
        shape = tensor.shape[:-1]
        real, masked = self.real(shape)
        values, owners = tensor.reshape(-1, n), self.owners(shape)
        return Rows(values, owners, masked) if real is None else Rows(values[real], owners[real], masked)

    def real(self, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_] | None, bool]:
        """(which rows of these axes are no padding, None for all; whether the mask fits them, or there is none)."""
        self._learn_order(shape)
        if self.kept is None:
            return None, True
        real = entries_kept(self.kept, shape, positions_first=self._positions_first)
        return (None, False) if real is None else (np.broadcast_to(real, shape).reshape(-1), True)

    def _learn_order(self, shape: tuple[int, ...]) -> None:
        at = mask_axes(self.kept.shape, shape) if self.kept is not None else self._sample_axes(shape)
        if at is not None and len(shape) > 1:
            self._positions_first = at[0] > at[1]

    def _sample_axes(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """The axes of samples and of what else there is, where no mask says how many positions there are."""
        pairs = ((0, 1), (1, 0))
        return next((pair for pair in pairs if len(shape) > 1 and shape[pair[0]] == self.samples), None)

    def owners(self, shape: tuple[int, ...]) -> NDArray[np.int32]:
        """The sample of each row, [p]; evenly where its axis is not to be found."""
        count = int(np.prod(shape))
        if self.samples == 1:
            return np.zeros(count, np.int32)
        at = self._sample_axes(shape)
        if at is not None:
            numbers = np.arange(self.samples, dtype=np.int32)
            along = numbers.reshape([-1 if axis == at[0] else 1 for axis in range(len(shape))])
            return np.broadcast_to(along, shape).reshape(-1)
        if self._positions_first and count and shape[0] % self.samples == 0:
            return np.arange(shape[0], dtype=np.int32).repeat(count // shape[0]) % self.samples
        return (np.arange(count) * self.samples // max(count, 1)).astype(np.int32)
