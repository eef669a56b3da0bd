"""What compressing did, as facts: one entry an output, and the model as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_dalr.quality.intervals import Estimate, upper_bound
from onnx_dalr.quality.task import TaskKind


@dataclass(frozen=True)
class OutputQuality:
    """What became of one output.

    Attributes:
        name: Its name.
        kind: "classes", "dense", "embedding", "numbers" or "values"; "none" where it cannot be compared.
        describes: What it was taken for, in a few words.
        counts: It is part of the model's loss.
        why: How its kind was found out, or why it does not count.
        score: Name of its score.
        value: The score of the new model; of "1 − error" the error itself. None where it cannot be compared.
        loss: What was lost of it, as a fraction.
        error: √(Σ‖y−ŷ‖² / Σ‖y‖²), by channel where channels differ in scale; None for values that are no quantities.
        max_abs: The largest absolute difference.
        kl: Mean divergence of class probabilities, in nats; of dense predictions each class counts alike.
    """

    name: str
    kind: str
    describes: str
    counts: bool
    why: str
    score: str
    value: Estimate | None
    loss: Estimate | None
    error: Estimate | None
    max_abs: float
    kl: float | None = None


@dataclass(frozen=True)
class Lost:
    """A loss that counts, and what a bound on it is made of.

    Attributes:
        estimate: Of the loss, as a fraction.
        by_sample: Where it is a mean over them, else empty.
        error: Of the output, where it has one.
    """

    estimate: Estimate
    by_sample: tuple[float, ...] = ()
    error: Estimate | None = None


@dataclass(frozen=True)
class SampleLoss:
    """What the new model loses on one sample.

    Attributes:
        index: Of the sample in its source.
        output: Name of the output that lost most on it.
        loss: In the score's unit, 1 for an answer that was right, or stayed, and no longer does; of numbers the error
            of this sample; of the user's function what it gives by sample.
        distortion: How far its outputs moved.
        answers: What both models say, where that is one thing a sample; None where it is not.
        classes: These are numbers of classes.
        finite: The new model gives no NaN or infinity on it.
    """

    index: int
    output: str
    loss: float
    distortion: float
    answers: tuple[Any, Any] | None
    classes: bool
    finite: bool


@dataclass(frozen=True)
class Quality:
    """What compressing did, on samples that no decision saw unless it says so.

    Attributes:
        task: "classify", "embed" or "regress": what the main output is.
        n: Samples.
        outputs: Every output by its own measure.
        error: Of the worst output that counts, √(Σ‖y−ŷ‖² / Σ‖y‖²) over the samples: what `--max-error` bounds. Only
            where `finite`.
        agreement: Share of answers that stayed, of the output that says classes.
        accuracy_before: Top-1 of the original (with usable labels).
        accuracy_after: Top-1 of the new model.
        expected_drop: Accuracy lost as the original's own probabilities see it, E[p(its answer) − p(new answer)]: finer
            than counting, and as good as the original's calibration (methods.md §11).
        kl: Mean KL divergence of the new class probabilities from the original's, in nats.
        cosine: Mean cosine of the new output rows to the original's, of embeddings.
        score: Name of the score that lost most, or that of the user's function.
        worst: Name of its output; None for a user's score.
        drop: Original score − new score, as a fraction; of a user's score in its own unit, and infinite where the new
            outputs are not finite.
        lost: What each output that counts has lost, or the user's score alone; not in reports.
        distortion: How far the outputs moved, in the units of the measures: KL, 1 − cosine, squared relative error;
            the sum over the outputs that count.
        finite: Wherever the original's outputs are finite, so are the new ones.
        notes: What a reader should know.
        score_before: The user's score of the original, in its own unit (with one).
        score_after: Of the new model; None also where its outputs are not finite.
        distortions: The distortion by sample, for paired comparisons; not in reports.
        worst_samples: Those that lost most, where they were asked for.
    """

    task: TaskKind
    n: int
    outputs: tuple[OutputQuality, ...]
    error: Estimate
    agreement: Estimate | None
    accuracy_before: Estimate | None
    accuracy_after: Estimate | None
    expected_drop: Estimate | None
    kl: float | None
    cosine: Estimate | None
    score: str
    worst: str | None
    drop: Estimate
    distortion: float
    finite: bool
    notes: tuple[str, ...]
    score_before: Estimate | None = None
    score_after: Estimate | None = None
    lost: tuple[Lost, ...] = field(default=(), repr=False, compare=False)
    distortions: tuple[float, ...] = field(default=(), repr=False, compare=False)
    worst_samples: tuple[SampleLoss, ...] = field(default=(), repr=False, compare=False)

    @property
    def drop_in_brief(self) -> str:
        """What was lost of which score, without n and interval: for the one line that a result is told by."""
        if not self.finite:
            return "gives NaN or infinity"
        drop, ones_own = self.drop.value, self.score_before is not None
        amount = f"{abs(drop):.4g}" if ones_own else f"{round(100 * abs(drop), 2):g} points"
        return f"{self.score} {'gained' if drop < 0 else 'lost'} {amount}"

    def drop_bound(self, level: float) -> float:
        """What every loss that counts is below, one-sided at a confidence of `level`.

        The output that lost most need not be the one that may have: a small loss of few rows can reach further.
        """
        return max(upper_bound(one.estimate, np.array(one.by_sample), level) for one in self.lost)

    def error_bound(self, level: float) -> float:
        """What the error of every output that counts is below, one-sided at a confidence of `level`."""
        errors = [one.error for one in self.lost if one.error is not None] or [self.error]
        return max(upper_bound(error, np.zeros(0), level) for error in errors)
