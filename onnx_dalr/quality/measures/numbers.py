"""Quantities: the relative error, by channel where channels differ in scale, and on values that stand out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from onnx_dalr.quality.intervals import Estimate, error_estimate, relative_error
from onnx_dalr.quality.measures.base import (
    Answers,
    Figures,
    Float64,
    Labels,
    Measure,
    RowPairs,
    Sums,
    counted_rows,
    signs,
)
from onnx_dalr.samples.masks import Kept

FEWEST_RARE = 30


@dataclass(frozen=True, eq=False)
class Scales:
    """What the channels of an output are relative to, learned from the original.

    A field is a set of channels of one scale, boxes say, or class scores: the error of an output is that of its worst
    field, so that pixels cannot hide what happened to probabilities.

    Attributes:
        centre: Subtracted before anything is relative to the rest, [channels]; 0 unless the channel hardly varies about
            it (methods.md §11: a constant must not look good).
        scale: Each channel is divided by it, [channels].
        field: Which field each channel belongs to, [channels].
        mean: Mean of each channel, [channels].
        far: Values farther than this from the mean stand out, [channels]; infinite where such are not rare.
    """

    centre: Float64
    scale: Float64
    field: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    mean: Float64
    far: Float64

    @property
    def fields(self) -> int:
        """How many fields there are."""
        return int(self.field.max(initial=0)) + 1

    @staticmethod
    def plain() -> Scales:
        """One channel, relative to its own size."""
        zero = np.zeros(1)
        return Scales(zero, np.ones(1), np.zeros(1, np.int64), zero, np.full(1, np.inf))


@dataclass(frozen=True, eq=False)
class Numbers(Measure):
    """Quantities.

    Attributes:
        axis: Of the channels, None where they are all of one scale.
        scales: What they are relative to.
        power: Mean over the samples of Σ((y − centre)/scale)² by field, [fields].
    """

    kind = "numbers"
    axis: int | None = None
    scales: Scales = field(default_factory=Scales.plain)
    power: Float64 = field(default_factory=lambda: np.ones(1))

    @property
    def describes(self) -> str:
        """Numbers, and what they are relative to."""
        if self.axis is None and not self.scales.centre.any():
            return "numbers"
        fields = f", {self.scales.fields} groups of channels" if self.scales.fields > 1 else ""
        return f"numbers, each channel relative to its own scale{fields}"

    @property
    def width(self) -> int | None:
        """The channels that scales were learned of."""
        return len(self.scales.scale)

    def sums(self) -> NumberSums:
        """Σ by field."""
        return NumberSums(self.scales)

    def importance(self, y: Float64, kept: Kept | None) -> Float64:
        """One over scale² and power; fields count alike."""
        power = np.maximum(self.power, 1e-300)[self.scales.field]
        weight = np.where(self.power[self.scales.field] > 0, 1 / (self.scales.scale**2 * power), 0.0)
        return np.asarray(weight * counted_rows(kept, (len(y), 1)) / self.scales.fields)

    def seed(self, y: Float64, kept: Kept | None, random: np.random.Generator) -> Float64:
        """Signs over scale and √power, as they count in the distortion."""
        return np.asarray(signs(y.shape, random) * np.sqrt(self.importance(y, kept)))


class NumberSums(Sums):
    """Squared errors and powers by field, of all values and of those that stand out."""

    def __init__(self, scales: Scales) -> None:
        super().__init__()
        self._scales = scales
        self._membership = np.eye(scales.fields)[scales.field]  # [channels, fields]

    def add(self, rows: RowPairs, indices: list[int]) -> None:
        """Takes one batch."""
        del indices
        s = self._scales
        kept = 1.0 if rows.kept is None else rows.kept[..., None]
        delta = ((rows.after - rows.before) / s.scale * kept) ** 2
        power = ((rows.before - s.centre) / s.scale * kept) ** 2
        away = rows.before - s.mean
        if rows.before.shape[1:] == (1, 1):
            self.keep(said=rows.before[:, 0, 0], said_new=rows.after[:, 0, 0])
        rare = (np.abs(away) > s.far) & (np.asarray(kept) > 0)
        self.keep(
            difference=delta.sum(axis=1) @ self._membership,
            power=power.sum(axis=1) @ self._membership,
            rare_difference=np.where(rare, delta, 0).sum(axis=1) @ self._membership,
            rare_power=np.where(rare, (away / s.scale) ** 2, 0).sum(axis=1) @ self._membership,
            rare=rare.sum(axis=1) @ self._membership,
        )

    def relative(self) -> Float64:
        """By sample: squared relative errors, the mean over the fields."""
        difference, power = self.column("difference"), self.column("power")
        total = power.mean(axis=0)
        safe = np.where(total > 0, total, 1.0)
        missing = np.where((total <= 0) & (difference.sum(axis=0) > 0), np.inf, 1.0)
        return np.asarray((difference / safe * np.where(difference > 0, missing, 1.0)).mean(axis=1))

    def distortions(self) -> Float64:
        """Squared relative errors."""
        return self.relative()

    def losses(self, labels: Labels | None) -> Float64:
        """The error of each sample, relative to the size of all."""
        del labels
        return np.asarray(np.sqrt(self.relative()))

    def answers(self) -> Answers | None:
        """The number, where there is one a sample."""
        return self.answers_in("said", "said_new", classes=False)

    def error(self) -> Estimate:
        """Of the worst field."""
        return self._worst()[0]

    def _worst(self) -> tuple[Estimate, bool]:
        """(the worst relative error, whether it is of values that stand out)."""
        pairs = [(self.column("difference"), self.column("power"), False)]
        enough = self.column("rare").sum(axis=0) >= FEWEST_RARE
        pairs.append((self.column("rare_difference") * enough, self.column("rare_power") * enough, True))
        found = [
            (relative_error(difference[:, number].sum(), power[:, number].sum()), difference, power, number, rare)
            for difference, power, rare in pairs
            for number in range(self._scales.fields)
        ]
        _, difference, power, number, rare = max(found, key=lambda one: one[0])
        return error_estimate(difference[:, number], power[:, number]), rare

    def figures(self, labels: Labels | None) -> Figures:
        """The error of the worst field."""
        del labels
        error, rare = self._worst()
        notes = ("the error is that of the few values that stand out; that of all is smaller",) if rare else ()
        return Figures("1 − error", error, error, np.zeros(0), error=error, notes=notes)
