"""What the original says in one output on a few samples: what its measure is found from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.graph.answers import OutputFacts
from onnx_dalr.quality.measures import as_rows
from onnx_dalr.quality.measures.base import Float64
from onnx_dalr.quality.padding import positions_axis, rows_kept, values_kept
from onnx_dalr.quality.task import output_array
from onnx_dalr.samples.masks import Kept


@dataclass(frozen=True, eq=False)
class Seen:
    """One output of the original on a few batches.

    Attributes:
        facts: What the graph says of it.
        arrays: Its values, batch by batch; anything ONNX Runtime gives.
        counts: Samples of each batch.
        kept: By batch, which positions of its samples are no padding, [samples, positions]; None where nothing is
            masked.
        any_length: The model takes samples of any length: an axis of a declared one is none of positions.
    """

    facts: OutputFacts
    arrays: Sequence[Any]
    counts: Sequence[int]
    kept: Sequence[Kept | None] = ()
    any_length: bool = False

    @cached_property
    def parts(self) -> list[tuple[NDArray[Any], int, Kept | None]]:
        """(values, samples, padding) of each batch in which there are any."""
        arrays = [output_array(y) for y in self.arrays]
        padding = self.kept or [None] * len(arrays)
        every = zip(arrays, self.counts, padding, strict=True)
        return [(y, count, kept) for y, count, kept in every if y is not None and y.size]

    @cached_property
    def floats(self) -> list[Float64] | None:
        """The values, infinite ones as 0; None where they are no floats, or none at all."""
        arrays = [output_array(y) for y in self.arrays]
        if any(y is None or y.dtype.kind != "f" for y in arrays):
            return None
        return [np.where(np.isfinite(y), y, 0).astype(np.float64) for y, _, _ in self.parts] or None

    @cached_property
    def whole(self) -> bool:
        """It has no row per sample: a batch counts as one sample."""
        return any(not y.ndim or len(y) != count for y, count, _ in self.parts)

    @property
    def samples(self) -> list[int | None]:
        """Samples of each batch of `floats`; None where a batch counts as one."""
        return [None if self.whole else count for _, count, _ in self.parts]

    @property
    def by_sample(self) -> list[Float64]:
        """The values of `floats` with samples on axis 0, also where a batch counts as one."""
        return [y[None] if self.whole else y for y in self.floats or []]

    def own_axis(self, axis: int) -> int:
        """An axis of `by_sample` as one of the output."""
        return axis - self.by_sample[0].ndim if self.whole and axis >= 0 else axis

    def rows(self, axis: int | None, *, channels: bool = True) -> Float64:
        """All rows of all samples, [rows, channels], without padding; infinite values as the least, never an answer.

        Args:
            axis: Of the channels.
            channels: It is none of positions. Where it is, padding and what a shorter sample lacks are the least.
        """
        found = []
        for (y, _, kept), count in zip(self.parts, self.samples, strict=True) if self.floats is not None else []:
            mask = self._mask(y, kept, axis if channels else None)
            known = np.isfinite(y) if mask is None or channels else np.isfinite(y) & mask
            wide = np.where(known, y, y.min(initial=0, where=known)).astype(np.float64)
            made, real = as_rows(wide, axis, count), rows_kept(mask, axis, count) if channels else None
            found.append(made.reshape(-1, made.shape[-1]) if real is None else made[real])
        width, least = max(len(rows.T) for rows in found), min(rows.min(initial=0) for rows in found)
        return np.concatenate(
            [np.pad(rows, ((0, 0), (0, width - len(rows.T))), constant_values=least) for rows in found]
        )

    def real(self, axis: int | None) -> list[Kept | None]:
        """Which rows of `floats` are no padding, [samples, rows] of each batch; None where all are."""
        masks = [self._mask(y, kept, axis) for y, _, kept in self.parts]
        return [rows_kept(mask, axis, count) for mask, count in zip(masks, self.samples, strict=True)]

    @property
    def positions(self) -> set[int]:
        """Axes of positions that a mask goes over."""
        found = {positions_axis(y.shape, kept) for y, _, kept in self.parts if self._mask(y, kept, None) is not None}
        return {axis for axis in found if axis is not None}

    def is_padded(self, channels: int | None) -> bool:
        """Whether a mask may go over this output; not where it fits an axis of another meaning by chance."""
        return not any(self._by_chance(y, kept, channels) for y, _, kept in self.parts)

    def _mask(self, y: NDArray[Any], kept: Kept | None, channels: int | None) -> NDArray[np.bool_] | None:
        return None if self._by_chance(y, kept, channels) else values_kept(y.shape, kept, channels)

    def _by_chance(self, y: NDArray[Any], kept: Kept | None, channels: int | None) -> bool:
        dims, axis = self.facts.dims, positions_axis(y.shape, kept, channels)
        known = self.any_length and dims is not None and len(dims) == y.ndim
        return axis is not None and known and dims is not None and isinstance(dims[axis], int)
