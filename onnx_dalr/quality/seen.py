"""What the original says in one output on a few samples: what its measure is found from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_dalr.graph.answers import OutputFacts
from onnx_dalr.quality.measures import as_rows
from onnx_dalr.quality.measures.base import Float64, Kept
from onnx_dalr.samples.masks import rows_kept
from onnx_dalr.task import as_array


@dataclass(frozen=True, eq=False)
class Seen:
    """One output of the original on a few batches.

    Attributes:
        facts: What the graph says of it.
        arrays: Its values, batch by batch; anything ONNX Runtime gives.
        counts: Samples of each batch.
        kept: Of each batch, which positions of its samples are no padding; None where nothing is masked.
    """

    facts: OutputFacts
    arrays: Sequence[Any]
    counts: Sequence[int]
    kept: Sequence[Kept | None] = ()

    @property
    def floats(self) -> list[Float64] | None:
        """The values, infinite ones as 0; None where they are no floats, or none at all."""
        arrays = [as_array(y) for y in self.arrays]
        if any(y is None or y.dtype.kind != "f" for y in arrays):
            return None
        found = [np.where(np.isfinite(y), y, 0).astype(np.float64) for y in arrays if y is not None and y.size]
        return found or None

    def rows(self, axis: int | None) -> Float64:
        """All rows of all samples, [rows, channels], without padding; infinite values as the least, never an answer."""
        found = []
        arrays = [] if self.floats is None else [as_array(y) for y in self.arrays]
        padding = self.kept or [None] * len(arrays)
        for y, count, kept in zip(arrays, self.counts, padding, strict=True):
            if y is None or not y.size:
                continue
            known = np.isfinite(y)
            wide = np.where(known, y, y.min(initial=0, where=known)).astype(np.float64)
            made = as_rows(wide, axis, count)
            fits = kept is not None and made.shape[:2] == kept.shape
            found.append(made[kept] if fits else made.reshape(-1, made.shape[-1]))
        return np.concatenate(found)

    def real(self, axis: int | None) -> list[Kept | None]:
        """Which rows of `floats` are no padding, [samples, rows] of each batch; None where all are."""
        found: list[Kept | None] = []
        arrays = [as_array(y) for y in self.arrays]
        for y, count, kept in zip(arrays, self.counts, self.kept or [None] * len(arrays), strict=True):
            if y is None or not y.size:
                continue
            mask = None if kept is None else rows_kept(kept, y.shape)
            laid = None if mask is None else as_rows(np.broadcast_to(mask, y.shape), axis, count)
            found.append(None if laid is None else np.asarray(laid.all(axis=-1)))
        return found
