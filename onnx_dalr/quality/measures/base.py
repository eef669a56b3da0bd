"""What every measure of an output has: how its values become rows, what is added up, what it says in the end."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.quality.intervals import Estimate, error_estimate, relative_error
from onnx_dalr.samples.masks import Kept

Float64 = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class RowPairs:
    """One output of two models on a batch.

    Attributes:
        before: Of the original, [samples, rows, channels]; where the output has no row per sample, the batch counts as
            one sample.
        after: Of the other model, of the same shape.
        kept: Which rows are no padding, [samples, rows]; None where all are.
        real: Which values have a size, [samples, rows, channels], where some only stand in for padding or infinity.
    """

    before: NDArray[Any]
    after: NDArray[Any]
    kept: Kept | None = None
    real: NDArray[np.bool_] | None = None


def as_rows(y: NDArray[Any], axis: int | None, samples: int | None) -> NDArray[Any]:
    """An output as [samples, rows, channels]: the channels are on `axis`, or there is one where that is None.

    An output without a row per sample counts as one sample: [1, rows, channels]. Where `samples` is None, none has.
    """
    by_sample = y if y.ndim and y.shape[0] == samples else y[None]
    if axis is None or by_sample.ndim < 2:
        return by_sample.reshape(len(by_sample), math.prod(by_sample.shape[1:]), 1)
    moved = np.moveaxis(by_sample, axis + by_sample.ndim - y.ndim if axis >= 0 else axis, -1)
    return moved.reshape(len(moved), math.prod(moved.shape[1:-1]), moved.shape[-1])


@dataclass(frozen=True)
class Figures:
    """What a measure says of one output in the end.

    Attributes:
        score: Name of the score: "agreement", "accuracy", "balanced agreement", "cosine", "1 − error", "equal values".
        value: The new model's; of "1 − error" the error itself.
        loss: What is lost of it, as a fraction: 0.01 is one percentage point.
        losses: The loss by sample, [n], where `loss` is their mean; empty where it is none.
        error: √(Σ‖y−ŷ‖² / Σ‖y‖²), by channel where channels differ in scale; None for values that are no quantities.
        agreement: Share of answers that stayed, of answers that are classes.
        cosine: Of embeddings.
        kl: Mean divergence of class probabilities, in nats.
        before: Accuracy of the original, with labels.
        after: Accuracy of the new model.
        expected: What accuracy the original's own probabilities expect to be lost.
        notes: What a reader should know.
    """

    score: str
    value: Estimate
    loss: Estimate
    losses: Float64
    error: Estimate | None = None
    agreement: Estimate | None = None
    cosine: Estimate | None = None
    kl: float | None = None
    before: Estimate | None = None
    after: Estimate | None = None
    expected: Estimate | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Answers:
    """What both models answer, where that is one thing a sample.

    Attributes:
        before: Of the original, by sample, [n].
        after: Of the other.
        classes: They are numbers of classes.
    """

    before: Sequence[Any]
    after: Sequence[Any]
    classes: bool = True


class Sums(ABC):
    """What two models say in one output, added up batch by batch: some numbers per sample, not the outputs."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Float64]] = defaultdict(list)

    @abstractmethod
    def add(self, rows: RowPairs, indices: list[int]) -> None:
        """Takes one batch; `indices` are those of its samples."""

    @abstractmethod
    def distortions(self) -> Float64:
        """By sample, [n]: how far the output moved, in the unit of the measure's seeds."""

    @abstractmethod
    def figures(self, labels: Labels | None) -> Figures:
        """What it comes to; `labels` is the class by index of the source."""

    def losses(self, labels: Labels | None) -> Float64:
        """By sample, [n]: what is lost on it, as far as one sample tells; its distortion where it tells no more."""
        del labels
        return self.distortions()

    def answers(self) -> Answers | None:
        """What both models say, by sample; None where that is no single answer."""
        return None

    def keep(self, **values: Any) -> None:
        """Adds a batch's numbers, the samples on axis 0, to the columns of these names."""
        for name, value in values.items():
            self.columns[name].append(np.asarray(value, dtype=np.float64))

    def column(self, name: str) -> Float64:
        """All numbers of a name, [n, …]."""
        found = self.columns[name]
        return np.concatenate(found) if found else np.zeros(0)

    def keep_error(self, rows: RowPairs) -> None:
        """Adds ‖y−ŷ‖² and ‖y‖² by sample."""
        kept = np.ones(()) if rows.kept is None else rows.kept[..., None]
        kept = kept if rows.real is None else kept * rows.real
        delta, wide = (rows.after - rows.before) * kept, rows.before * kept
        self.keep(difference=np.sum(delta**2, axis=(1, 2)), power=np.sum(wide**2, axis=(1, 2)))

    def answers_in(self, before: str, after: str, *, classes: bool = True) -> Answers | None:
        """Answers that two columns hold, where they have one for every sample."""
        one, two = self.column(before), self.column(after)
        if not len(one) or len(one) != len(self.distortions()):
            return None
        kind = np.int64 if classes else np.float64
        return Answers(one.astype(kind).tolist(), two.astype(kind).tolist(), classes)

    def error(self) -> Estimate:
        """√(Σ‖y−ŷ‖² / Σ‖y‖²)."""
        return error_estimate(self.column("difference"), self.column("power"))

    def relative(self) -> Float64:
        """By sample: ‖y−ŷ‖² over the mean of ‖y‖²."""
        difference, power = self.column("difference"), self.column("power")
        total = difference.sum()
        if total <= 0:
            return np.zeros(len(difference))
        return np.asarray(difference * (relative_error(total, power.sum()) ** 2 * len(difference) / total))


class Measure(ABC):
    """How one output is measured. Frozen: what had to be learned of the output was learned from the original.

    Attributes:
        kind: One word for reports and JSON.
        axis: Where the channels, or classes, are; None where there is one.
    """

    kind: ClassVar[str]
    axis: int | None

    @property
    def channels(self) -> int | None:
        """The axis that is none of positions, whatever its length; None without one."""
        return self.axis

    @property
    def width(self) -> int | None:
        """How many channels there are; None for any number."""
        return None

    def rows(self, y: NDArray[Any], samples: int | None) -> NDArray[Any]:
        """An output as [samples, rows, channels]; see `as_rows`.

        Raises:
            InputError: It has another number of channels than it had when its kind was found out.
        """
        found = as_rows(y, self.axis, samples)
        if self.width not in (None, found.shape[-1]) and found.size:
            raise InputError(
                f"an output of the model has {self.width} channels on some samples and {found.shape[-1]} on others",
                "name the outputs that count with --output, or say --task regress",
            )
        return found

    @property
    @abstractmethod
    def describes(self) -> str:
        """What the output is taken for, in a few words."""

    @abstractmethod
    def sums(self) -> Sums:
        """An empty sum."""

    @abstractmethod
    def importance(self, y: Float64, kept: Kept | None) -> Float64:
        """What each row of one sample, or each of its values, counts in its distortion: [rows, 1] or [rows, channels].

        Args:
            y: What the original says, [rows, channels].
            kept: Which rows are no padding, [rows]; None for all.
        """

    @abstractmethod
    def seed(self, y: Float64, kept: Kept | None, random: np.random.Generator) -> Float64:
        """A random v at the output of one sample, [rows, channels], with E[(vᵀδ)²] = its distortion to second order.

        Args:
            y: What the original says, [rows, channels].
            kept: Which rows are no padding, [rows]; None for all.
            random: Where signs are drawn.
        """


def as_output(rows: NDArray[Any], axis: int | None, shape: Sequence[int]) -> NDArray[Any]:
    """[samples, rows, channels] back in the layout of an output of this shape: the inverse of `as_rows`.

    Args:
        rows: Of one channel, or of as many as the output has.
        axis: Of the channels.
        shape: Of the output; where it has no row per sample, there is one sample.
    """
    if axis is None or not shape:
        return rows.reshape(tuple(shape))
    by_sample = tuple(shape) if shape[0] == len(rows) else (1, *shape)
    if len(by_sample) < 2:
        return rows.reshape(by_sample)
    at = axis % len(shape) + len(by_sample) - len(shape)
    moved = [length for place, length in enumerate(by_sample) if place != at]
    laid = np.moveaxis(rows.reshape(*moved, rows.shape[-1]), -1, at)
    return laid if len(by_sample) == len(shape) else laid[0]


def lost_by_sample(before: Float64, after: Float64, known: NDArray[np.bool_]) -> Float64:
    """By sample, [n]: right before − right after, 0 where nobody knows what is right.

    Args:
        before: Right or not, of the samples that have a label.
        after: The same of the other model.
        known: Which of all samples have one, [n].
    """
    lost = np.zeros(len(known))
    lost[known] = before - after
    return lost


def signs(shape: tuple[int, ...], random: np.random.Generator) -> Float64:
    """Random signs."""
    return np.asarray(2.0 * random.integers(0, 2, size=shape) - 1, dtype=np.float64)


def counted_rows(kept: Kept | None, shape: tuple[int, ...]) -> Float64:
    """1 for rows that are no padding, 0 for the others, as [*shape]."""
    return np.ones(shape) if kept is None else kept.astype(np.float64).reshape(shape)


def mean_over_rows(y: Float64, kept: Kept | None) -> Float64:
    """[rows, 1]: 1/n for each of n rows that are no padding."""
    counted = counted_rows(kept, (len(y), 1))
    return np.asarray(counted / max(counted.sum(), 1.0))
