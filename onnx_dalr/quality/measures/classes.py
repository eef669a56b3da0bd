"""One answer a sample, as probabilities or logits of classes: agreement, accuracy, divergence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from onnx_dalr.errors import InputError
from onnx_dalr.quality.intervals import (
    Estimate,
    complement,
    is_near_chance,
    mean_estimate,
    paired_drop,
    weighted_estimate,
)
from onnx_dalr.quality.measures.base import (
    Answers,
    Figures,
    Float64,
    Labels,
    Measure,
    RowPairs,
    Sums,
    lost_by_sample,
    mean_over_rows,
    signs,
)
from onnx_dalr.samples.masks import Kept

Encoding = Literal["probabilities", "logits"]
SMALLEST = 1e-12
UNBALANCED = 0.9
"""Share of the samples from which one answer is so common that a constant would look good."""


@dataclass(frozen=True, eq=False)
class Classes(Measure):
    """A classifier's answer.

    Attributes:
        axis: Of the classes.
        encoding: What stands for a class.
        common: Share of the most common answer among the original's own, as far as it was looked at.
    """

    kind = "classes"
    axis: int | None = -1
    encoding: Encoding = "logits"
    common: float = 0.0

    @property
    def describes(self) -> str:
        """What it is taken for."""
        return f"classes, as {self.encoding}"

    @property
    def channels(self) -> int | None:
        """None: the classes may be positions, as of where an answer begins in a text."""
        return None

    @property
    def unbalanced(self) -> bool:
        """One answer is so common that agreement has to be balanced over the classes to say anything."""
        return UNBALANCED <= self.common < 1

    def sums(self) -> ClassSums:
        """Answers by sample."""
        return ClassSums(self)

    def importance(self, y: Float64, kept: Kept | None) -> Float64:
        """A mean over the rows."""
        return mean_over_rows(y, kept)

    def seed(self, y: Float64, kept: Kept | None, random: np.random.Generator) -> Float64:
        """KL is half a square, and a mean over the rows of a sample."""
        return np.asarray(class_seed(y, self.encoding, random) * np.sqrt(0.5 * self.importance(y, kept)))


def class_seed(y: Float64, encoding: Encoding, random: np.random.Generator) -> Float64:
    """With random signs s and class probabilities p: s/√p at the probabilities, (diag p − ppᵀ)·s/√p at the logits.

    The gradient of log p of a class drawn from p has the same E[vvᵀ] = diag p − ppᵀ, but that is zero nearly always
    and large now and then where the network is sure: many more probes would be needed.
    """
    drawn = signs(y.shape, random)
    if encoding == "probabilities":
        return np.asarray(np.where(y > SMALLEST, drawn / np.sqrt(np.maximum(y, SMALLEST)), 0.0))
    p = np.exp(y - y.max(axis=-1, keepdims=True))
    p = p / p.sum(axis=-1, keepdims=True)
    weighed = np.sqrt(p) * drawn
    return np.asarray(weighed - p * weighed.sum(axis=-1, keepdims=True))


def probabilities(y: Float64, encoding: Encoding) -> Float64:
    """Of the classes on the last axis."""
    return np.asarray(y if encoding == "probabilities" else special.softmax(y, axis=-1))


def divergence(y: Float64, new: Float64, encoding: Encoding) -> Float64:
    """KL(p‖p̂) by row in nats."""
    if encoding == "probabilities":
        p, log_ratio = y, np.log(np.maximum(y, SMALLEST)) - np.log(np.maximum(new, SMALLEST))
    else:
        log_p = special.log_softmax(y, axis=-1)
        p, log_ratio = np.exp(log_p), log_p - special.log_softmax(new, axis=-1)
    return np.asarray(np.sum(p * log_ratio, axis=-1))


class ClassSums(Sums):
    """Top answers of both models by sample, and what lies between their probabilities."""

    def __init__(self, measure: Classes) -> None:
        super().__init__()
        self._measure = measure
        self._indices: list[int] = []
        self._classes = 0
        self._several_rows = False

    def add(self, rows: RowPairs, indices: list[int]) -> None:
        """Takes one batch."""
        y, new, encoding = rows.before, rows.after, self._measure.encoding
        if not y.size:
            return
        self._classes = y.shape[-1]
        self._several_rows |= y.shape[1] != 1 or len(y) != len(indices)
        self._indices += indices
        top, top_new = y.argmax(axis=-1), new.argmax(axis=-1)
        p = probabilities(y, encoding)
        surer = np.take_along_axis(p, top[..., None], -1) - np.take_along_axis(p, top_new[..., None], -1)
        self.keep(
            same=(top == top_new).mean(axis=1),
            kl=divergence(y, new, encoding).mean(axis=1),
            expected=surer[..., 0].mean(axis=1),
            top=top[:, 0],
            top_new=top_new[:, 0],
            classes=np.full(len(y), self._classes),
        )
        self.keep_error(rows)

    def distortions(self) -> Float64:
        """KL."""
        return self.column("kl")

    def losses(self, labels: Labels | None) -> Float64:
        """Answers that changed, or that were right and no longer are."""
        before, after, _ = self._accuracies(labels)
        if labels is None or before is None or after is None:
            return 1 - self.column("same")
        return lost_by_sample(before, after, labels[self._indices] >= 0)

    def answers(self) -> Answers | None:
        """The top classes."""
        return None if self._several_rows else self.answers_in("top", "top_new")

    def figures(self, labels: Labels | None) -> Figures:
        """Accuracy where labels fit, else agreement, balanced where one answer is nearly all there is."""
        same, kl = self.column("same"), self.column("kl")
        if not len(same):
            nothing = Estimate(0.0, 0.0, 0.0, 0)
            return Figures("agreement", nothing, nothing, np.zeros(0))
        whole = Figures(
            "agreement",
            mean_estimate(same),
            complement(mean_estimate(same)),
            1 - same,
            error=self.error(),
            agreement=mean_estimate(same),
            kl=float(kl.mean()),
            expected=None if self._several_rows else mean_estimate(self.column("expected")),
        )
        before, after, notes = self._accuracies(labels)
        if before is not None and after is not None:
            one, two = mean_estimate(before), mean_estimate(after)
            drop, notes = paired_drop(before, after), (*notes, *self._common_note("be right on", labels))
            accuracy = replace(whole, score="accuracy", value=two, loss=drop, losses=before - after)
            return replace(accuracy, before=one, after=two, notes=notes)
        notes = (*notes, *self._common_note("agree on", None))
        if self._measure.unbalanced and not self._several_rows:
            balanced = balanced_agreement(self.column("top"), self.column("top_new"))
            loss, losses = complement(balanced), np.zeros(0)
            return replace(whole, score="balanced agreement", value=balanced, loss=loss, losses=losses, notes=notes)
        return replace(whole, notes=notes)

    def _accuracies(self, labels: Labels | None) -> tuple[Float64 | None, Float64 | None, tuple[str, ...]]:
        """(right or not by sample, of both models, notes); None without labels, or where they do not fit."""
        if labels is None or self._several_rows or labels.ndim != 1:
            return None, None, ()
        truth = labels[self._indices]
        known = truth >= 0
        if not known.any():
            return None, None, ()
        if truth.max(initial=0) >= self._classes:
            raise InputError(
                f"label {truth.max()} is no class of the model, which has {self._classes}", "classes count from 0"
            )
        before, after = ((self.column(name) == truth)[known].astype(float) for name in ("top", "top_new"))
        if not is_near_chance(before, self._classes):
            return before, after, ()
        note = (
            f"the original is right on {100 * before.mean():.1f} % of the labelled samples, about chance: labels "
            "do not fit this model, its accuracy is left out"
        )
        return None, None, (note,)

    def _common_note(self, what: str, labels: Labels | None) -> tuple[str, ...]:
        if self._several_rows:
            return ()
        if labels is None:
            return common_note(self.column("top"), "the original answers", what)
        return common_note(labels[self._indices], "the label is", what)


def common_note(answers: NDArray[Any], whose: str, what: str) -> tuple[str, ...]:
    """What a constant would do where one class is nearly all there is; negative numbers are no classes."""
    values, counts = np.unique(answers[answers >= 0], return_counts=True)
    share = counts.max(initial=0) / max(counts.sum(), 1)
    if share < UNBALANCED or counts.sum() < 2:
        return ()
    said = f"{whose} class {int(values[counts.argmax()])} on {100 * share:.0f} % of these samples"
    return (f"{said}: a model that always says so would {what} as many",)


def balanced_agreement(top: Float64, top_new: Float64) -> Estimate:
    """The mean over the classes that the original answers of the share of their samples that still get them.

    A model that always gives the most common answer has 1/classes.
    """
    values, inverse, counts = np.unique(top, return_inverse=True, return_counts=True)
    weights = 1.0 / (len(values) * counts[inverse])
    return weighted_estimate((top == top_new).astype(float), weights)
