"""Values that are no quantities: class numbers, and whatever else can only be the same or not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.quality.intervals import Estimate, complement, is_near_chance, mean_estimate, paired_drop
from onnx_dalr.quality.measures.base import (
    Answers,
    Figures,
    Float64,
    Labels,
    Measure,
    RowPairs,
    Sums,
    lost_by_sample,
)
from onnx_dalr.quality.measures.classes import UNBALANCED, balanced_agreement, common_note
from onnx_dalr.samples.masks import Kept


@dataclass(frozen=True, eq=False)
class Values(Measure):
    """Integers, booleans, text: compared as they are. They have no gradient, and so no seeds.

    Attributes:
        answers: They are class numbers: one a sample, or one a position.
        common: Share of the most common value among the original's own.
    """

    kind = "values"
    axis: int | None = None
    answers: bool = False
    common: float = 0.0

    @property
    def describes(self) -> str:
        """What it is taken for."""
        return "class numbers" if self.answers else "values: the same or not"

    def sums(self) -> ValueSums:
        """Equal or not, by sample."""
        return ValueSums(self)

    def importance(self, y: Float64, kept: Kept | None) -> Float64:
        """Nothing to learn from."""
        raise NotImplementedError

    def seed(self, y: Float64, kept: Kept | None, random: np.random.Generator) -> Float64:
        """Nothing to seed."""
        raise NotImplementedError


class ValueSums(Sums):
    """Share of equal values by sample, and by class where they are class numbers."""

    def __init__(self, measure: Values) -> None:
        super().__init__()
        self._measure = measure
        self._pairs: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._indices: list[int] = []
        self._one_each = True

    def add(self, rows: RowPairs, indices: list[int]) -> None:
        """Takes one batch."""
        y, new = rows.before, rows.after
        same = (y == new).all(axis=-1) if y.size else np.ones(y.shape[:2], bool)
        kept = np.ones(same.shape, bool) if rows.kept is None else rows.kept
        counted = np.maximum(kept.sum(axis=1), 1)
        self.keep(same=np.where(kept.any(axis=1), (same & kept).sum(axis=1) / counted, 1.0))
        self._one_each &= same.shape == (len(indices), 1)
        self._indices += indices
        if self._measure.answers:
            self._pairs += [(one[k].reshape(-1), two[k].reshape(-1)) for one, two, k in zip(y, new, kept, strict=True)]

    def distortions(self) -> Float64:
        """Share of values that changed."""
        return 1 - self.column("same")

    def losses(self, labels: Labels | None) -> Float64:
        """Values that changed, or that were right and no longer are."""
        right = self._right(labels)
        if labels is None or right is None:
            return self.distortions()
        return lost_by_sample(*right, labels[self._indices] >= 0)

    def answers(self) -> Answers | None:
        """The class numbers, where there is one a sample."""
        if not self._measure.answers or not self._one_each or not self._pairs:
            return None
        one, two = self._sides()
        return Answers(one.tolist(), two.tolist())

    def _sides(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """All class numbers of both models."""
        one, two = (np.concatenate([pair[side] for pair in self._pairs]) for side in (0, 1))
        return one, two

    def figures(self, labels: Labels | None) -> Figures:
        """Agreement of class numbers, balanced where one is nearly all there is; share of equal values of others."""
        same = self.column("same")
        equal = mean_estimate(same)
        if not self._measure.answers or not self._pairs:
            return Figures("equal values", equal, complement(equal), 1 - same)
        one, two = self._sides()
        if self._one_each:
            scored = self._accuracy(labels)
            if scored is not None:
                return scored
        _, counts = np.unique(one, return_counts=True)
        if self._one_each and counts.max(initial=0) < UNBALANCED * len(one):
            return Figures("agreement", equal, complement(equal), 1 - same, agreement=equal)
        balanced = balanced_agreement(one, two)
        note = f"the original gives one answer on {100 * counts.max(initial=0) / max(len(one), 1):.0f} % of all rows"
        alone = len(counts) == 1
        notes = (f"{note}: a constant would agree on as many",) if alone else ()
        loss = complement(balanced)
        return Figures("balanced agreement", balanced, loss, np.zeros(0), agreement=balanced, notes=notes)

    def _right(self, labels: Labels | None) -> tuple[Float64, Float64] | None:
        """Right or not by sample with a label, of both models; None without labels, or where they do not fit."""
        if labels is None or labels.ndim != 1 or not (self._measure.answers and self._one_each and self._pairs):
            return None
        one, two = self._sides()
        if one.dtype.kind not in "iub":
            return None
        truth = labels[self._indices]
        known = truth >= 0
        before, after = ((side == truth)[known].astype(float) for side in (one.astype(int), two.astype(int)))
        if not known.any() or is_near_chance(before, len(np.unique(truth[known]))):
            return None
        return before, after

    def _accuracy(self, labels: Labels | None) -> Figures | None:
        right = self._right(labels)
        if labels is None or right is None:
            return None
        before, after, truth = *right, labels[self._indices]
        ends: tuple[Estimate, Estimate] = (mean_estimate(before), mean_estimate(after))
        agreement = mean_estimate(self.column("same"))
        drop, notes = paired_drop(before, after), common_note(truth, "the label is", "be right on")
        scored = Figures("accuracy", ends[1], drop, before - after, agreement=agreement, notes=notes)
        return replace(scored, before=ends[0], after=ends[1])
