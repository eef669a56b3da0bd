"""Directions: the cosine of each row to the original's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_dalr.quality.intervals import complement, mean_estimate
from onnx_dalr.quality.measures.base import (
    Figures,
    Float64,
    Labels,
    Measure,
    RowPairs,
    Sums,
    counted_rows,
    mean_over_rows,
    signs,
)
from onnx_dalr.samples.masks import Kept

_SMALLEST = 1e-12


@dataclass(frozen=True, eq=False)
class Embedding(Measure):
    """Rows whose direction is what counts."""

    kind = "embedding"
    axis: int | None = -1

    @property
    def describes(self) -> str:
        """What it is taken for."""
        return "embedding: directions"

    def sums(self) -> EmbeddingSums:
        """Cosines by sample."""
        return EmbeddingSums()

    def importance(self, y: Float64, kept: Kept | None) -> Float64:
        """A mean over the rows; one of zeros has no direction."""
        length = np.linalg.norm(y, axis=-1, keepdims=True)
        return np.where(length > _SMALLEST, mean_over_rows(y, kept), 0.0)

    def seed(self, y: Float64, kept: Kept | None, random: np.random.Generator) -> Float64:
        """Signs without their part along y, over ‖y‖: what turns the vector. A row of zeros has no direction to turn.

        1 − cosine is half a square, and a mean over the rows of a sample.
        """
        length = np.sqrt(np.sum(y**2, axis=-1, keepdims=True))
        safe = np.maximum(length, _SMALLEST)
        drawn, unit = signs(y.shape, random), y / safe
        turning = (drawn - unit * np.sum(drawn * unit, axis=-1, keepdims=True)) / safe
        return np.asarray(turning * np.sqrt(0.5 * self.importance(y, kept)))


class EmbeddingSums(Sums):
    """Mean cosine by sample."""

    def add(self, rows: RowPairs, indices: list[int]) -> None:
        """Takes one batch."""
        del indices
        y, new = rows.before, rows.after
        lengths = np.linalg.norm(y, axis=-1) * np.linalg.norm(new, axis=-1)
        cosine = np.sum(y * new, axis=-1) / np.where(lengths > 0, lengths, 1)
        cosine = np.where((y == new).all(axis=-1), 1.0, cosine)
        counted = counted_rows(rows.kept, cosine.shape)
        rows_of_sample = counted.sum(axis=1)  # a sample that is all padding has not turned
        mean = (cosine * counted).sum(axis=1) / np.maximum(rows_of_sample, 1)
        self.keep(cosine=np.where(rows_of_sample > 0, mean, 1.0))
        self.keep_error(rows)

    def distortions(self) -> Float64:
        """1 − cosine."""
        return 1 - self.column("cosine")

    def figures(self, labels: Labels | None) -> Figures:
        """The mean cosine."""
        del labels
        values = self.column("cosine")
        cosine = mean_estimate(values)
        return Figures("cosine", cosine, complement(cosine), 1 - values, error=self.error(), cosine=cosine)
