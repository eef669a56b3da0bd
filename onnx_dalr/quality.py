"""What two models say on the same samples, added up to figures with intervals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from onnx_dalr.errors import InputError
from onnx_dalr.estimates import (
    Estimate,
    complement,
    error_estimate,
    is_near_chance,
    mean_estimate,
    paired_drop,
    relative_error,
)
from onnx_dalr.score import Kept, Scored
from onnx_dalr.task import Task, are_probabilities, is_numeric

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class OutputError:
    """Drift of one output: √(Σ‖y−ŷ‖² / Σ‖y‖²), and the largest absolute difference."""

    name: str
    error: float
    max_abs: float


@dataclass(frozen=True)
class Quality:
    """What compressing did, on samples that no decision saw unless it says so.

    Attributes:
        task: What the score stands for.
        n: Samples.
        outputs: Drift by output.
        error: Of the worst output, √(Σ‖y−ŷ‖² / Σ‖y‖²) over the samples: what `--max-error` bounds. Only where `finite`.
        agreement: Share of rows with the same top-1 class (classify).
        accuracy_before: Top-1 of the original (classify, with usable labels).
        accuracy_after: Top-1 of the new model.
        kl: Mean KL divergence of the new class probabilities from the original's, in nats (classify).
        cosine: Mean cosine of the new output rows to the original's (embed).
        score: Name of the score: "accuracy", "agreement", "cosine" or "1 − error", or that of the user's function.
        drop: Original score − new score, as a fraction; of a user's score in its own unit, and infinite where the new
            outputs are not finite.
        distortion: How far the outputs moved: mean KL (classify), 1 − cosine (embed) or squared error (regress); of
            other floating outputs beside the scored one, their squared relative errors are added.
        finite: Wherever the original's outputs are finite, so are the new ones.
        notes: What a reader should know.
        score_before: The user's score of the original, in its own unit (with one).
        score_after: Of the new model; None also where its outputs are not finite.
        distortions: The distortion by sample, for paired comparisons; not in reports.
    """

    task: Task
    n: int
    outputs: tuple[OutputError, ...]
    error: Estimate
    agreement: Estimate | None
    accuracy_before: Estimate | None
    accuracy_after: Estimate | None
    kl: float | None
    cosine: Estimate | None
    score: str
    drop: Estimate
    distortion: float
    finite: bool
    notes: tuple[str, ...]
    score_before: Estimate | None = None
    score_after: Estimate | None = None
    distortions: tuple[float, ...] = field(default=(), repr=False, compare=False)


class Comparison:
    """What two models say on the same batches, added up.

    Two numbers per sample and figure: memory is that of the sample list, not of the outputs, unless they are kept.
    """

    def __init__(self, task: Task, labels: NDArray[np.int64] | None, *, keep: bool = False) -> None:
        """Starts empty.

        Args:
            task: Says what is scored.
            labels: Class by sample index; None without.
            keep: Keep all outputs for the user's score of the task; without, the drop is the task's own.
        """
        self.task, self.labels = task, labels
        self.kept = Kept(complete=task.complete) if keep and task.score is not None else None
        self.difference: dict[int, list[float]] = defaultdict(list)
        self.power: dict[int, list[float]] = defaultdict(list)
        self.max_abs: dict[int, float] = defaultdict(float)
        self.figures: dict[str, list[float]] = defaultdict(list)
        self.classes = 0
        self.finite = self.labels_fit = True
        self.reshaped: Counter[int] = Counter()
        self.floating: set[int] = set()
        self.n = 0

    def add(self, indices: list[int], before: Sequence[Any], after: Sequence[Any]) -> None:
        """Takes one batch: its samples' indices, and the outputs of the original and of the other."""
        self.n += len(indices)
        if self.kept is not None:
            self.kept.add(indices, before, after)
        for i, (y, y_new) in enumerate(zip(before, after, strict=True)):
            if not is_numeric(y):
                continue
            self.floating |= {i} if y.dtype.kind == "f" else set()
            self.reshaped[i] += y.shape != y_new.shape
            wide, delta = self._compare(*_same_shape(y, y_new))
            self.difference[i] += _per_sample(delta**2, len(indices)).sum(axis=1).tolist()
            self.power[i] += _per_sample(wide**2, len(indices)).sum(axis=1).tolist()
            self.max_abs[i] = max(self.max_abs[i], float(np.abs(delta).max(initial=0.0)))
            if i == self.task.output and wide.size:
                self._add_scored(indices, wide, wide + delta)

    def _compare(self, y: NDArray[Any], y_new: NDArray[Any]) -> tuple[Float64, Float64]:
        """(the original's values, their change); where the original is infinite on purpose, a mask, both count as 0."""
        wide, new = y.astype(np.float64), y_new.astype(np.float64)
        known = np.isfinite(wide)
        if np.isnan(wide).any() or (wide.size and not known.any()):
            raise InputError("the original model gives NaN or infinity on these samples", "check the preprocessing")
        if not np.isfinite(new[known]).all():
            self.finite = False
        new = np.where(known & np.isfinite(new), new, 0.0)
        wide = np.where(known, wide, 0.0)
        return wide, new - wide

    def _add_scored(self, indices: list[int], y: Float64, y_new: Float64) -> None:
        count = len(indices)
        if self.task.kind == "embed":
            lengths = np.linalg.norm(y, axis=-1) * np.linalg.norm(y_new, axis=-1)
            cosine = np.sum(y * y_new, axis=-1) / np.where(lengths > 0, lengths, 1)
            cosine = np.where((y == y_new).all(axis=-1), 1.0, cosine)
            self.figures["cosine"] += _per_sample(cosine, count).mean(axis=1).tolist()
            return
        self.classes = y.shape[-1]
        top, top_new = y.argmax(axis=-1), y_new.argmax(axis=-1)
        self.figures["agreement"] += _per_sample(top == top_new, count).mean(axis=1).tolist()
        self.figures["kl"] += _per_sample(_divergence(y, y_new), count).mean(axis=1).tolist()
        if self.labels is not None and top.size == count:
            truth = self.labels[indices]
            if truth.max(initial=0) >= self.classes:
                if self.task.score is not None:  # they are that function's, in classes of its own
                    self.labels_fit = False
                    return
                raise InputError(
                    f"label {truth.max()} is no class of the model, which has {self.classes}", "classes count from 0"
                )
            self.figures["before"] += (top.reshape(-1) == truth).astype(float).tolist()
            self.figures["after"] += (top_new.reshape(-1) == truth).astype(float).tolist()

    def distortion(self) -> float:
        """How far the outputs moved: mean KL or 1 − cosine of the scored one, squared relative errors of the others.

        A detector's boxes count beside its classes, though they are not scored. Where nothing but errors is looked
        at, it is that of the worst output.
        """
        return sum(float(np.mean(part)) for part in self._distortions())

    def distortions(self) -> tuple[float, ...]:
        """The same by sample: `distortion` is their mean. Empty where an output has no row per sample."""
        parts = self._distortions()
        if len({len(part) for part in parts}) != 1:
            return ()
        return tuple(np.sum(parts, axis=0).tolist())

    def _distortions(self) -> list[Float64]:
        """What adds up to the distortion, each by sample."""
        errors = {i: self._relative(i) for i in self.difference}
        if self.task.output is None:
            return [max(errors.values(), key=np.mean)]
        kl = self.task.kind == "classify"
        scored = np.array(self.figures["kl"]) if kl else 1 - np.array(self.figures["cosine"])
        return [scored, *(errors[i] for i in sorted(self.floating - {self.task.output}))]

    def _relative(self, i: int) -> Float64:
        """Σ(y−ŷ)² of output i by sample, over the mean of Σy²."""
        difference, power = np.array(self.difference[i]), np.array(self.power[i])
        whole = relative_error(difference.sum(), power.sum()) ** 2
        total = difference.sum()
        return difference * (whole * len(difference) / total) if total > 0 else np.zeros(len(difference))

    def quality(self, names: Sequence[str], *, intervals: bool = True) -> Quality:
        """All figures with their intervals, and by output.

        Args:
            names: Of the outputs.
            intervals: False where that of a user's score is not worth calling it 400 times.

        Raises:
            InputError: The user's score fails.
        """
        errors = {i: relative_error(np.sum(self.difference[i]), np.sum(self.power[i])) for i in self.difference}
        worst = max(errors, key=lambda i: errors[i])
        error = error_estimate(np.array(self.difference[worst]), np.array(self.power[worst]))
        figures = {name: np.array(values) for name, values in self.figures.items()}
        before, after, notes = self._accuracies(figures)
        notes += self._reshaped_notes(names)
        scored = self._user_score(names, intervals)
        if scored is None:
            score, drop = _score(self.task, figures, before, after, error)
        else:
            score, drop = str(self.task.score), scored.drop
            notes += scored.notes
        return Quality(
            task=self.task,
            n=self.n,
            outputs=tuple(OutputError(names[i], errors[i], self.max_abs[i]) for i in sorted(errors)),
            error=error,
            agreement=mean_estimate(figures["agreement"]) if "agreement" in figures else None,
            accuracy_before=mean_estimate(before) if before is not None else None,
            accuracy_after=mean_estimate(after) if after is not None else None,
            kl=float(figures["kl"].mean()) if "kl" in figures else None,
            cosine=mean_estimate(figures["cosine"]) if "cosine" in figures else None,
            score=score,
            drop=drop,
            distortion=self.distortion(),
            distortions=self.distortions(),
            finite=self.finite,
            notes=tuple(notes),
            score_before=scored.before if scored else None,
            score_after=scored.after if scored else None,
        )

    def _accuracies(self, figures: dict[str, Float64]) -> tuple[Float64 | None, Float64 | None, list[str]]:
        """(right or not by sample, of the original and of the new model, notes); None where labels do not fit."""
        before = figures.get("before")
        if before is None or not self.labels_fit:
            return None, None, []
        if not is_near_chance(before, self.classes):
            return before, figures["after"], []
        used = "" if self.kept is not None else ", agreement with the original is used instead"
        return (
            None,
            None,
            [
                f"the original is right on {100 * before.mean():.1f} % of the labelled samples, about chance: labels "
                f"do not fit this model{used}"
            ],
        )

    def _reshaped_notes(self, names: Sequence[str]) -> list[str]:
        return [
            f"output {names[i]!r} has another shape than the original's in {count} runs: as many values as the model "
            "finds; those that only one of the two has count as 0 in the other"
            for i, count in sorted(self.reshaped.items())
            if count
        ]

    def _user_score(self, names: Sequence[str], intervals: bool) -> Scored | None:
        if self.kept is None or self.task.score is None:
            return None
        labels = None if self.labels is None else self.labels[self.kept.indices]
        return self.task.score.measure(self.kept.joined(names), labels, finite=self.finite, intervals=intervals)


def _score(
    task: Task, figures: dict[str, Float64], before: Float64 | None, after: Float64 | None, error: Estimate
) -> tuple[str, Estimate]:
    """(name of the score, its drop)."""
    if task.kind == "regress":
        return "1 − error", error
    if task.kind == "embed":
        return "cosine", complement(mean_estimate(figures["cosine"]))
    if before is not None and after is not None:
        return "accuracy", paired_drop(before, after)
    return "agreement", complement(mean_estimate(figures["agreement"]))


def _same_shape(y: NDArray[Any], y_new: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both, filled up with zeros to one shape: boxes after an NMS, say, are as many as the model finds."""
    if y.shape == y_new.shape:
        return y, y_new
    if y.ndim != y_new.ndim:
        y, y_new = y.reshape(-1), y_new.reshape(-1)
    shape = np.maximum(y.shape, y_new.shape)
    filled = [np.pad(part, [(0, int(gap)) for gap in shape - part.shape]) for part in (y, y_new)]
    return filled[0], filled[1]


def _per_sample(values: NDArray[Any], count: int) -> NDArray[Any]:
    """[count, rest] where axis 0 goes over the samples; else [1, all]: the batch counts as one."""
    if values.ndim and values.shape[0] == count:
        return values.reshape(count, -1)
    return values.reshape(1, -1)


def _divergence(y: Float64, y_new: Float64) -> Float64:
    """KL(p‖p̂) by row in nats; outputs that are no probabilities are taken as logits."""
    if are_probabilities(y):
        p, log_ratio = y, np.log(np.maximum(y, 1e-12)) - np.log(np.maximum(y_new, 1e-12))
    else:
        log_p = special.log_softmax(y, axis=-1)
        p, log_ratio = np.exp(log_p), log_p - special.log_softmax(y_new, axis=-1)
    return np.asarray(np.sum(p * log_ratio, axis=-1))
