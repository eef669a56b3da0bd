"""Two models on held-out batches: error, agreement, accuracy, cosine, KL, latency, each with n and an interval."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
from onnx_dalr.runtime import Session
from onnx_dalr.samples.base import Batch

TaskName = Literal["auto", "classify", "regress", "embed"]
Float64 = NDArray[np.float64]
Labelled = tuple[list[int], Batch]
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Task:
    """What the model is for, which says what its score is.

    Attributes:
        kind: "classify", "regress" or "embed".
        output: Position of the output that is scored; None where all are (regress).
        why: How it was found out.
    """

    kind: Literal["classify", "regress", "embed"]
    output: int | None
    why: str


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
        error: Of the worst output.
        agreement: Share of rows with the same top-1 class (classify).
        accuracy_before: Top-1 of the original (classify, with usable labels).
        accuracy_after: Top-1 of the new model.
        kl: Mean KL divergence of the new class probabilities from the original's, in nats (classify).
        cosine: Mean cosine of the new output rows to the original's (embed).
        score: Name of the score: "accuracy", "agreement", "cosine" or "1 − error".
        drop: Original score − new score, as a fraction.
        distortion: How far the outputs moved: mean KL (classify), 1 − cosine (embed) or squared error (regress).
        finite: Wherever the original's outputs are finite, so are the new ones.
        notes: What a reader should know.
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


@dataclass(frozen=True)
class Latency:
    """Interleaved medians of single runs, in milliseconds.

    Attributes:
        before: The original.
        after: The new model.
        batch: Samples in the batch they ran on.
        runs: Runs of each.
    """

    before: float
    after: float
    batch: int
    runs: int


def find_task(name: TaskName, outputs: Sequence[Any], classes: int) -> Task:
    """What the model is for, from its outputs on a few samples.

    auto says classify where the rows of an output are non-negative and sum to 1, or an output's last axis is as long
    as there are class folders or labels; embed where the rows of a 2-D output have unit length; else regress.

    Args:
        name: What the user says.
        outputs: Of the original, on one batch.
        classes: Number of classes the samples come in, 0 where unknown.

    Raises:
        InputError: classify or embed is asked for and no output fits; no output is numeric.
    """
    if not any(map(_is_numeric, outputs)):
        raise _nothing_to_compare()
    rows = {i: y.astype(np.float64) for i, y in enumerate(outputs) if _is_float(y) and y.ndim >= 2 and y.size}
    if name in ("auto", "classify"):
        found = _classification(name, rows, classes)
        if found is not None:
            return found
    if name in ("auto", "embed"):
        for i, y in rows.items():
            unit = y.ndim == 2 and y.shape[-1] >= 2 and np.allclose(np.linalg.norm(y, axis=-1), 1, atol=1e-3)
            if unit or name == "embed":
                return Task("embed", i, "as asked" if name == "embed" else "outputs have unit length")
        if name == "embed":
            raise InputError("--task embed: no output has rows of numbers", "use --task regress")
    if name == "regress":
        return Task("regress", None, "as asked")
    return Task(
        "regress", None, "outputs are neither classes nor unit vectors" + _could_be_classes(list(rows.values()))
    )


def _classification(name: TaskName, rows: dict[int, Float64], classes: int) -> Task | None:
    """The output with the classes on its last axis: as many as the samples have, or probabilities; else as asked."""
    wide = {i: y for i, y in rows.items() if y.shape[-1] >= 2}
    for i, y in wide.items():
        if classes >= 2 and y.shape[-1] == classes:
            return Task("classify", i, "as many outputs as classes")
    for i, y in wide.items():
        if _are_probabilities(y):
            return Task("classify", i, "outputs are probabilities")
    if name != "classify":
        return None
    if not wide:
        raise InputError("--task classify: no output has classes on its last axis", "use --task regress")
    return Task("classify", next(iter(wide)), "as asked")


def _could_be_classes(outputs: list[Float64]) -> str:
    """A hint where there is a single output of a classifier's shape."""
    if len(outputs) == 1 and outputs[0].ndim == 2 and 2 <= outputs[0].shape[-1] <= _MOST_CLASSES:
        return "; if they are class scores, say --task classify"
    return ""


def evaluate(
    original: Session,
    new: Session,
    batches: Iterable[Labelled],
    task: Task,
    labels: NDArray[np.int64] | None = None,
    each: Callable[[int], None] = lambda count: None,
) -> Quality:
    """Runs both models over the batches and compares what they say.

    Args:
        original: The model as it was.
        new: The compressed one.
        batches: (sample indices, feed) pairs.
        task: Says what is scored.
        labels: Class by sample index, int64; None without.
        each: Called with the number of samples after every batch.

    Raises:
        InputError: A label is no class of the model, or the original gives NaN or infinity.
    """
    sums = Comparison(task, labels)
    for indices, batch in batches:
        sums.add(indices, original.run(batch), new.run(batch))
        each(len(indices))
    if not sums.difference:
        raise _nothing_to_compare()
    return sums.quality(original.outputs)


def measure_latency(original: Session, new: Session, batch: Batch, count: int, budget: float = 1.0) -> Latency:
    """Runs both models in turn on one batch: medians of 3 to 200 runs each, in about `budget` seconds."""
    for session in (original, new):
        session.run(batch)
    times: tuple[list[float], list[float]] = ([], [])
    deadline = time.perf_counter() + budget
    while len(times[0]) < 3 or (len(times[0]) < 200 and time.perf_counter() < deadline):
        for session, taken in zip((original, new), times, strict=True):
            start = time.perf_counter()
            session.run(batch)
            taken.append(1000 * (time.perf_counter() - start))
    return Latency(float(np.median(times[0])), float(np.median(times[1])), count, len(times[0]))


class Comparison:
    """What two models say on the same batches, added up.

    Two numbers per sample and figure: memory is that of the sample list, not of the outputs.
    """

    def __init__(self, task: Task, labels: NDArray[np.int64] | None) -> None:
        self.task, self.labels = task, labels
        self.difference: dict[int, list[float]] = defaultdict(list)
        self.power: dict[int, list[float]] = defaultdict(list)
        self.max_abs: dict[int, float] = defaultdict(float)
        self.figures: dict[str, list[float]] = defaultdict(list)
        self.classes = 0
        self.finite = True
        self.reshaped: Counter[int] = Counter()
        self.n = 0

    def add(self, indices: list[int], before: Sequence[Any], after: Sequence[Any]) -> None:
        """Takes one batch: its samples' indices, and the outputs of the original and of the other."""
        self.n += len(indices)
        for i, (y, y_new) in enumerate(zip(before, after, strict=True)):
            if not _is_numeric(y):
                continue
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
                raise InputError(
                    f"label {truth.max()} is no class of the model, which has {self.classes}", "classes count from 0"
                )
            self.figures["before"] += (top.reshape(-1) == truth).astype(float).tolist()
            self.figures["after"] += (top_new.reshape(-1) == truth).astype(float).tolist()

    def distortion(self) -> float:
        """How far the outputs moved, in the task's own unit: mean KL, 1 − cosine, or squared relative error."""
        if self.task.kind == "classify":
            return float(np.mean(self.figures["kl"]))
        if self.task.kind == "embed":
            return 1 - float(np.mean(self.figures["cosine"]))
        return max(relative_error(np.sum(self.difference[i]), np.sum(self.power[i])) ** 2 for i in self.difference)

    def quality(self, names: Sequence[str]) -> Quality:
        """All figures with their intervals, and by output, given the outputs' names."""
        errors = {i: relative_error(np.sum(self.difference[i]), np.sum(self.power[i])) for i in self.difference}
        worst = max(errors, key=lambda i: errors[i])
        error = error_estimate(np.array(self.difference[worst]), np.array(self.power[worst]))
        figures = {name: np.array(values) for name, values in self.figures.items()}
        before, after, notes = figures.get("before"), figures.get("after"), []
        if before is not None and is_near_chance(before, self.classes):
            notes.append(
                f"the original is right on {100 * before.mean():.1f} % of the labelled samples, about chance: labels "
                "do not fit this model, agreement with the original is used instead"
            )
            before = after = None
        notes += [
            f"output {names[i]!r} has another shape than the original's in {count} runs: as many values as the model "
            "finds; those that only one of the two has count as 0 in the other"
            for i, count in sorted(self.reshaped.items())
            if count
        ]
        score, drop = _score(self.task, figures, before, after, error)
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
            finite=self.finite,
            notes=tuple(notes),
        )


def _nothing_to_compare() -> InputError:
    return InputError(
        "the model has no numeric output to compare on these samples",
        "--holdout 0 with --rank or --params compresses without measuring",
    )


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


def _is_numeric(y: Any) -> bool:
    return isinstance(y, np.ndarray) and y.dtype.kind in "fiub"


def _same_shape(y: NDArray[Any], y_new: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both, filled up with zeros to one shape: boxes after an NMS, say, are as many as the model finds."""
    if y.shape == y_new.shape:
        return y, y_new
    if y.ndim != y_new.ndim:
        y, y_new = y.reshape(-1), y_new.reshape(-1)
    shape = np.maximum(y.shape, y_new.shape)
    filled = [np.pad(part, [(0, int(gap)) for gap in shape - part.shape]) for part in (y, y_new)]
    return filled[0], filled[1]


def _is_float(y: Any) -> bool:
    return isinstance(y, np.ndarray) and y.dtype.kind == "f"


def _are_probabilities(y: Float64) -> bool:
    return bool((y >= 0).all() and np.allclose(y.sum(axis=-1), 1, atol=1e-3))


def _per_sample(values: NDArray[Any], count: int) -> NDArray[Any]:
    """[count, rest] where axis 0 goes over the samples; else [1, all]: the batch counts as one."""
    if values.ndim and values.shape[0] == count:
        return values.reshape(count, -1)
    return values.reshape(1, -1)


def _divergence(y: Float64, y_new: Float64) -> Float64:
    """KL(p‖p̂) by row in nats; outputs that are no probabilities are taken as logits."""
    if _are_probabilities(y):
        p, log_ratio = y, np.log(np.maximum(y, 1e-12)) - np.log(np.maximum(y_new, 1e-12))
    else:
        log_p = special.log_softmax(y, axis=-1)
        p, log_ratio = np.exp(log_p), log_p - special.log_softmax(y_new, axis=-1)
    return np.asarray(np.sum(p * log_ratio, axis=-1))
