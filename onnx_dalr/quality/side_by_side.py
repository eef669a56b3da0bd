"""What two models say on the same samples, added up to figures with intervals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.quality.figures import Lost, OutputQuality, Quality, SampleLoss
from onnx_dalr.quality.measures import Classes, Dense, Figures, RowPairs, Sums, Values, as_rows
from onnx_dalr.quality.measures.base import Float64
from onnx_dalr.quality.padding import rows_kept, values_kept
from onnx_dalr.quality.score import KeptOutputs, Scored
from onnx_dalr.quality.task import Measured, Task, output_array
from onnx_dalr.quality.worst import LostOn, worst_samples
from onnx_dalr.samples.masks import Kept

_ELSEWHERE = 0.1  # a loss outside the drop that is worth a note, where the drop is less than a third of it
_BELOW = 30.0  # what −∞ stands for beside the smallest logit


class SideBySide:
    """What two models say on the same batches, added up.

    A few numbers per sample and output: memory is that of the sample list, not of the outputs, unless they are kept.
    """

    def __init__(self, task: Task, labels: NDArray[np.int64] | None, *, keep: bool = False) -> None:
        """Starts empty.

        Args:
            task: Says what is measured how.
            labels: Class by sample index; None without.
            keep: Keep all outputs for the user's score of the task; without, the drop is the task's own.
        """
        self.task, self.labels = task, labels
        self.kept = KeptOutputs(complete=task.complete) if keep and task.score is not None else None
        self.sums: dict[int, Sums] = {one.position: one.measure.sums() for one in task.measured}
        self.max_abs: dict[int, float] = defaultdict(float)
        self.finite = True
        self.reshaped: Counter[int] = Counter()
        self.seen: set[int] = set()
        self.indices: list[int] = []
        self.broken: set[int] = set()  # samples on which the other model is not finite

    def add(self, indices: list[int], before: Sequence[Any], after: Sequence[Any], padding: Kept | None = None) -> None:
        """Takes one batch: its samples' indices, and the outputs of the original and of the other.

        Args:
            indices: Of the samples.
            before: Of the original.
            after: Of the other.
            padding: Which positions of the samples are real, [samples, length]; None where there is no mask.
        """
        self.indices += indices
        if self.kept is not None:
            self.kept.add(indices, before, after)
        for one in self.task.measured:
            if one.position >= len(before):
                continue  # a hidden tensor, and this is the file as it is
            y, y_new = output_array(before[one.position]), output_array(after[one.position])
            if y is not None and y_new is not None:
                self._add(one, indices, y, y_new, padding)

    def _add(
        self, one: Measured, indices: list[int], y: NDArray[Any], y_new: NDArray[Any], padding: Kept | None
    ) -> None:
        at, measure = one.position, one.measure
        self.seen.add(at)
        self.reshaped[at] += y.shape != y_new.shape
        y, y_new = _same_shape(y, y_new)
        mask = values_kept(y.shape, padding, measure.channels) if one.padded else None
        real = None
        if not isinstance(measure, Values):
            known = np.isfinite(y)
            real = None if known.all() else known
            y, y_new = self._numbers(indices, y, y_new, logits=isinstance(measure, Classes | Dense))
            if mask is not None and isinstance(measure, Classes):  # scores of positions, padding among them
                least = y.min(initial=0.0, where=mask) - (_BELOW if measure.encoding == "logits" else 0.0)
                y, y_new = (np.where(mask, part, least) for part in (y, y_new))
                mask, real = None, known & mask
        if y.dtype.kind in "fiub" and y_new.dtype.kind in "fiub" and y.size:
            apart = np.abs(y.astype(np.float64) - y_new.astype(np.float64))
            counted = np.ones((), bool) if mask is None else mask
            self.max_abs[at] = max(self.max_abs[at], float(apart.max(initial=0.0, where=counted)))
        count = one.samples(len(indices))
        rows = [measure.rows(part, count) for part in (y, y_new)]
        sized = None if real is None else as_rows(real, measure.axis, count)
        self.sums[at].add(RowPairs(rows[0], rows[1], rows_kept(mask, measure.axis, count), sized), indices)

    @property
    def n(self) -> int:
        """Samples so far."""
        return len(self.indices)

    def _numbers(
        self, indices: list[int], y: NDArray[Any], y_new: NDArray[Any], *, logits: bool
    ) -> tuple[Float64, Float64]:
        """Both in float64; where the original is infinite on purpose, a mask, both say the same."""
        wide, new = y.astype(np.float64), y_new.astype(np.float64)
        known = np.isfinite(wide)
        if np.isnan(wide).any() or (wide.size and not known.any()):
            raise InputError("the original model gives NaN or infinity on these samples", "check the preprocessing")
        broken = known & ~np.isfinite(new)
        if broken.any():
            self.finite = False
            apart = broken.ndim > 0 and len(broken) == len(indices)
            rows = np.flatnonzero(broken.reshape(len(broken), -1).any(axis=1)) if apart else range(len(indices))
            self.broken |= {indices[int(row)] for row in rows}
        if known.all() and np.isfinite(new).all():
            return wide, new
        stand_in = float(wide.min(initial=0.0, where=known)) - _BELOW if logits else 0.0
        filled = np.where(known, wide, stand_in)
        return filled, np.where(known & np.isfinite(new), new, np.where(known, 0.0, stand_in))

    def distortion(self) -> float:
        """How far the outputs that count moved: mean KL, 1 − cosine, squared relative errors, added up."""
        return sum(float(np.mean(part)) for part in self._distortions() if len(part))

    def distortions(self) -> tuple[float, ...]:
        """How far each sample's outputs moved, `distortion` being the mean; empty where one has no row per sample."""
        parts = self._distortions()
        if len({len(part) for part in parts}) != 1:
            return ()
        return tuple(np.sum(parts, axis=0).tolist())

    def _distortions(self) -> list[Float64]:
        """What adds up to the distortion, each by sample; class numbers are left to the scores they are made of."""
        counting = [one for one in self.task.measured if one.counts and one.position in self.seen]
        instead = any(one.hidden for one in counting)
        return [self.sums[one.position].distortions() for one in counting if not instead or one.has_gradients]

    def quality(self, names: Sequence[str], *, intervals: bool = True, worst: int = 0) -> Quality:
        """All figures with their intervals, and by output.

        Args:
            names: Of the outputs.
            intervals: False where that of a user's score is not worth calling it 400 times.
            worst: Name so many samples that lost most.

        Raises:
            InputError: The user's score fails.
        """
        found = {
            one.position: self.sums[one.position].figures(self._labels_of(one))
            for one in self.task.measured
            if one.position in self.seen
        }
        own = [one for one in self.task.measured if one.position in found and not one.hidden]
        counting = [one for one in own if one.counts] or own
        least = max(counting, key=lambda one: found[one.position].loss.value)
        scored = self._user_score(names, intervals)
        outputs = tuple(self._output(names, position, found) for position in range(len(names)))
        figures = [found[one.position] for one in counting]
        labelled = found.get(-1 if self.task.labelled is None else self.task.labelled)
        lost = found[least.position]
        notes = [note for one in own for note in found[one.position].notes] + self._reshaped_notes(names)
        drop = scored.drop if scored else lost.loss
        error = max((f.error for f in figures if f.error), key=lambda e: e.value, default=lost.loss)
        notes += self._elsewhere(own, found, drop.value, None if scored else least)
        notes += scored.notes if scored else ()
        return Quality(
            task=self.task.kind,
            n=self.n,
            outputs=outputs,
            error=error,
            agreement=_first(figures, "agreement"),
            accuracy_before=labelled.before if labelled else None,
            accuracy_after=labelled.after if labelled else None,
            expected_drop=_first(figures, "expected"),
            kl=_first(figures, "kl"),
            cosine=_first(figures, "cosine"),
            score=str(self.task.score) if scored else lost.score,
            worst=None if scored else least.name,
            drop=drop,
            lost=(Lost(drop, error=error),)
            if scored
            else tuple(Lost(f.loss, tuple(f.losses), f.error) for f in figures),
            distortion=self.distortion(),
            distortions=self.distortions(),
            finite=self.finite,
            notes=tuple(dict.fromkeys(notes)),
            score_before=scored.before if scored else None,
            score_after=scored.after if scored else None,
            worst_samples=self._worst_samples(counting, scored, worst),
        )

    def _worst_samples(self, counting: Sequence[Measured], scored: Scored | None, count: int) -> tuple[SampleLoss, ...]:
        if not count:
            return ()
        by_output = [
            LostOn(one, self.sums[one.position], self.sums[one.position].losses(self._labels_of(one)))
            for one in counting
        ]
        return worst_samples(self.indices, by_output, scored.losses if scored else None, self.broken, count)

    def _labels_of(self, one: Measured) -> NDArray[np.int64] | None:
        own = one.position == self.task.labelled
        if self.labels is None or not own:
            return None
        if self.kept is not None and self.task.score is not None and isinstance(one.measure, Classes):
            classes = self.sums[one.position].columns.get("classes")
            if classes and self.labels.max(initial=0) >= classes[0].max():
                return None  # they are that function's, in classes of its own
        return self.labels

    def _output(self, names: Sequence[str], position: int, found: dict[int, Figures]) -> OutputQuality:
        one = next((one for one in self.task.measured if one.position == position), None)
        if one is None or position not in found:
            why = "not compared: neither an array nor class probabilities"
            return OutputQuality(names[position], "none", "not compared", False, why, "", None, None, None, 0.0)
        f, measure = found[position], one.measure
        return OutputQuality(
            name=one.name,
            kind=measure.kind,
            describes=measure.describes,
            counts=one.counts,
            why=one.why,
            score=f.score,
            value=f.value,
            loss=f.loss,
            error=f.error,
            max_abs=self.max_abs[position],
            kl=f.kl,
        )

    def _elsewhere(
        self, own: Sequence[Measured], found: dict[int, Figures], drop: float, worst: Measured | None
    ) -> list[str]:
        """What the drop does not show: outputs outside it that lost a lot."""
        notes = []
        for one in own:
            loss = found[one.position].loss.value
            if one is not worst and loss > max(_ELSEWHERE, 3 * drop) and not (one.counts and worst is not None):
                part = f"loses {100 * loss:.3g} points of {found[one.position].score}"
                why = "the score does not look at it" if one.counts else one.why
                notes.append(f"output {one.name!r} {part}, which the drop does not show: {why}")
        return notes

    def _reshaped_notes(self, names: Sequence[str]) -> list[str]:
        return [
            f"output {names[i]!r} has another shape than the original's in {count} runs: as many values as the model "
            "finds; those that only one of the two has count as 0 in the other"
            for i, count in sorted(self.reshaped.items())
            if count and i < len(names)
        ]

    def _user_score(self, names: Sequence[str], intervals: bool) -> Scored | None:
        if self.kept is None or self.task.score is None:
            return None
        labels = None if self.labels is None else self.labels[self.kept.indices]
        return self.task.score.measure(self.kept.joined(names), labels, finite=self.finite, intervals=intervals)


def _first(figures: Sequence[Figures], name: str) -> Any:
    return next((value for one in figures if (value := getattr(one, name)) is not None), None)


def _same_shape(y: NDArray[Any], y_new: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two outputs filled up with zeros to one shape: boxes after an NMS, say, are as many as the model finds."""
    if y.shape == y_new.shape:
        return y, y_new
    if y.ndim != y_new.ndim:
        y, y_new = y.reshape(-1), y_new.reshape(-1)
    shape = np.maximum(y.shape, y_new.shape)
    if y.dtype.kind not in "fiub":
        return tuple(_filled_text(part, tuple(shape)) for part in (y, y_new))  # type: ignore[return-value]
    filled = [np.pad(part, [(0, int(gap)) for gap in shape - part.shape]) for part in (y, y_new)]
    return filled[0], filled[1]


def _filled_text(part: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    filled = np.full(shape, None, dtype=object)
    filled[tuple(slice(length) for length in part.shape)] = part
    return filled
