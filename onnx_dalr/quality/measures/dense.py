"""Many answers a sample: segmentation, anchors, tokens, tags. Balanced over classes, since most rows are background.

Of a detector's rows 99 % say "nothing": plain agreement stays at 99 % when every object is lost. So each class counts
alike, by the Dice overlap of its rows, 2·|A∩B| / (|A|+|B|), and by the squared error of its probabilities relative to
their own size. Both are shares that grow in proportion to the answers that flip, and the loss is the larger of the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.quality.intervals import Estimate, complement, is_near_chance, mean_estimate, paired_drop, resampled
from onnx_dalr.quality.measures.base import (
    Answers,
    Figures,
    Float64,
    Labels,
    Measure,
    RowPairs,
    Sums,
    counted_rows,
    lost_by_sample,
    mean_over_rows,
    signs,
)
from onnx_dalr.quality.measures.classes import SMALLEST, class_seed, divergence, probabilities
from onnx_dalr.samples.masks import Kept

MOST_FOLLOWED = 256
"""Classes that are told apart; the rest, of a vocabulary say, count as one."""

MOST_WEIGHT = 100.0
_AT_ONCE = 2_000_000  # values; a batch of large maps goes sample by sample
_TABLES = ("ours", "theirs", "both", "wrong", "size")
_EDGE = 1e-4  # probabilities are taken as no surer than this, where divergence would be infinite


@dataclass(frozen=True, eq=False)
class Dense(Measure):
    """Answers by position: classes that exclude each other, or yes or no for each channel.

    Attributes:
        axis: Of the classes; None for one channel of yes and no.
        encoding: "probabilities" or "logits" of exclusive classes, "sigmoid" for probabilities of yes, by channel.
        shares: Share of the rows that the original gives each class, [classes]; of yes, each channel's, and the last
            entry is that of no.
        followed: Classes that are told apart, ascending; all others are one more.
    """

    kind = "dense"
    axis: int | None = -1
    encoding: Literal["probabilities", "logits", "sigmoid"] = "probabilities"
    shares: Float64 = field(default_factory=lambda: np.ones(1))
    followed: np.ndarray[tuple[int, ...], np.dtype[np.int64]] = field(default_factory=lambda: np.zeros(1, np.int64))

    @property
    def describes(self) -> str:
        """What it is taken for."""
        what = (
            "yes or no, as probabilities" if self.encoding == "sigmoid" else f"classes by position, as {self.encoding}"
        )
        return f"dense: {what}"

    @property
    def width(self) -> int | None:
        """The classes, or the channels that say yes or no."""
        return len(self.shares) - (self.encoding == "sigmoid")

    @property
    def weights(self) -> Float64:
        """By class: what a row of it counts, so that the classes answered count alike; bounded, and 1 on average."""
        answered = self.shares > 0
        raw = np.where(answered, 1 / np.maximum(self.shares * answered.sum(), SMALLEST), 1.0)
        bounded = np.minimum(raw, MOST_WEIGHT)
        return np.asarray(bounded / max(float(np.sum(bounded * self.shares)), SMALLEST))

    def row_weights(self, y: Float64) -> Float64:
        """By row, [..., rows]; of yes and no by entry, [..., rows, channels]."""
        weights = self.weights
        if self.encoding == "sigmoid":
            return np.asarray(np.where(y > 0.5, weights[:-1], weights[-1]))
        return np.asarray(weights[y.argmax(axis=-1)])

    def sums(self) -> DenseSums:
        """Overlaps by class and sample."""
        return DenseSums(self)

    def importance(self, y: Float64, kept: Kept | None) -> Float64:
        """A mean over the rows in which classes count alike; of yes and no by value."""
        if self.encoding == "sigmoid":
            return np.asarray(self.row_weights(y) * mean_over_rows(y, kept) / y.shape[-1])
        return np.asarray(self.row_weights(y)[:, None] * mean_over_rows(y, kept))

    def seed(self, y: Float64, kept: Kept | None, random: np.random.Generator) -> Float64:
        """Of the weighted mean divergence; half a square, so √(w/2n)."""
        if self.encoding == "sigmoid":
            p = np.clip(y, _EDGE, 1 - _EDGE)
            drawn = signs(y.shape, random) / np.sqrt(p * (1 - p))
        else:
            drawn = class_seed(y, self.encoding, random)
        return np.asarray(drawn * np.sqrt(0.5 * self.importance(y, kept)))


class DenseSums(Sums):
    """By sample and class: rows of the original, of the other model, of both; squared errors of probabilities."""

    def __init__(self, measure: Dense) -> None:
        super().__init__()
        self._measure = measure
        self._indices: list[int] = []
        self._answers: list[tuple[np.ndarray, np.ndarray, Kept]] = []  # of each sample, where labels may be asked for

    def add(self, rows: RowPairs, indices: list[int]) -> None:
        """Takes one batch."""
        y, new, measure = rows.before, rows.after, self._measure
        if not y.size:
            return
        if y.size > _AT_ONCE and len(y) > 1:
            for at in range(len(y)):
                self.add(_one_of(rows, at), indices[at : at + 1] if len(indices) == len(y) else [])
            return
        counted = counted_rows(rows.kept, y.shape[:2])
        real, n = counted > 0, np.maximum(counted.sum(axis=1), 1.0)
        if measure.encoding == "sigmoid":
            p, q = y, new
            yes, yes_new = p > 0.5, q > 0.5
            ours, theirs = _with_no(yes, ~yes, counted), _with_no(yes_new, ~yes_new, counted)
            both = _with_no(yes & yes_new, ~yes & ~yes_new, counted)
            same = (yes == yes_new).mean(axis=-1)
            if y.shape[1:] == (1, 1) and len(indices) == len(y):
                self.keep(yes=yes[:, 0, 0], yes_new=yes_new[:, 0, 0])
            bits = _binary_divergence(p, q) * measure.row_weights(y)
            moved = (bits.mean(axis=-1) * counted).sum(axis=1) / n
        else:
            p, q = probabilities(y, measure.encoding), probabilities(new, measure.encoding)
            top, top_new = y.argmax(axis=-1), new.argmax(axis=-1)
            same = (top == top_new).astype(np.float64)
            place, place_new = self._place(top), self._place(top_new)
            ours, theirs = self._tally(place, real), self._tally(place_new, real)
            both = self._tally(place, real & (place == place_new))
            moved = (divergence(y, new, measure.encoding) * measure.row_weights(y) * counted).sum(axis=1) / n
            p, q = self._pooled(p), self._pooled(q)
            small = np.min_scalar_type(y.shape[-1] - 1)
            self._answers += list(zip(top.astype(small), top_new.astype(small), real, strict=True))
        self._indices += indices if len(indices) == len(y) else []
        self.keep(moved=moved, same=(same * counted).sum(axis=1), rows=counted.sum(axis=1))
        self.keep(ours=ours, theirs=theirs, both=both)
        counted = counted[..., None]
        self.keep(wrong=((p - q) ** 2 * counted).sum(axis=1), size=(p**2 * counted).sum(axis=1))
        self.keep_error(rows)

    def _place(self, top: np.ndarray) -> np.ndarray:
        """Position of each class among those followed; the last for all others."""
        followed = self._measure.followed
        place = np.minimum(np.searchsorted(followed, top), len(followed) - 1)
        return np.asarray(np.where(followed[place] == top, place, len(followed)))

    def _tally(self, place: np.ndarray, counted: Kept) -> Float64:
        """How many of the rows counted are in each place, [samples, places]."""
        places = len(self._measure.followed) + 1
        found = [np.bincount(one[real], minlength=places) for one, real in zip(place, counted, strict=True)]
        return np.array(found, dtype=np.float64)

    def _pooled(self, p: Float64) -> Float64:
        followed = p[..., self._measure.followed]
        return np.concatenate([followed, np.maximum(1 - followed.sum(axis=-1, keepdims=True), 0)], axis=-1)

    def distortions(self) -> Float64:
        """Mean divergence by sample, each class counting alike."""
        return self.column("moved")

    def losses(self, labels: Labels | None) -> Float64:
        """The worse of overlap and squared error, of each alone; of one yes or no, whether it is no longer right."""
        before, after, _ = self._yes_or_no(labels)
        if labels is None or before is None or after is None:
            ours, theirs, both, wrong, size = (self.column(name) for name in _TABLES)
            return np.maximum(1 - _overlap(ours, theirs, both), _lost(ours, wrong, size))
        return lost_by_sample(before, after, labels[self._indices] >= 0)

    def answers(self) -> Answers | None:
        """Yes or no, as classes, where there is one a sample."""
        return self.answers_in("yes", "yes_new")

    def figures(self, labels: Labels | None) -> Figures:
        """The worse of overlap and squared error, both balanced over the classes that are answered."""
        if not self.columns["ours"]:
            nothing = Estimate(0.0, 0.0, 0.0, 0)
            return Figures("balanced agreement", nothing, nothing, np.zeros(0))
        tables = [self.column(name) for name in _TABLES]
        overlap = resampled(tables, lambda ours, theirs, both, wrong, size: _overlap(ours, theirs, both))
        spread = resampled(tables, lambda ours, theirs, both, wrong, size: _lost(ours, wrong, size))
        loss = max(complement(overlap), spread, key=lambda one: one.value)
        right, right_new, notes = self._yes_or_no(labels)
        before, after = None, None
        if right is None:
            before, after, more = self._accuracies(labels)
            notes = (*notes, *more)
        answered = tables[0].sum(axis=0) > 0
        if answered.sum() == 1:
            notes = (*notes, "the original gives one and the same answer everywhere: agreement says little here")
        found = Figures(
            "balanced agreement",
            overlap,
            loss,
            np.zeros(0),
            error=self.error(),
            agreement=resampled([self.column("same"), self.column("rows")], _share),
            kl=float(self.column("moved").mean()),
            before=before,
            after=after,
            notes=notes,
        )
        if right is None or right_new is None:
            return found
        before, after, drop = mean_estimate(right), mean_estimate(right_new), paired_drop(right, right_new)
        accuracy = replace(found, score="accuracy", value=after, loss=drop, losses=right - right_new)
        return replace(accuracy, before=before, after=after)

    def _yes_or_no(self, labels: Labels | None) -> tuple[Float64 | None, Float64 | None, tuple[str, ...]]:
        """(right or not by sample, of both models, notes); None unless each sample is one yes or no with a label."""
        yes, yes_new = self.column("yes"), self.column("yes_new")
        if labels is None or labels.ndim != 1 or not len(yes) or len(yes) != len(self._indices):
            return None, None, ()
        truth = labels[self._indices]
        known = truth >= 0
        if not known.any():
            return None, None, ()
        if truth.max() > 1:
            return None, None, ("labels of more than two classes do not fit an answer of yes or no: they are not used",)
        before, after = ((said == truth)[known].astype(np.float64) for said in (yes, yes_new))
        if not is_near_chance(before, 2):
            return before, after, ()
        note = (
            f"the original is right on {100 * before.mean():.1f} % of the labelled samples, about chance: labels do "
            "not fit this model, its accuracy is left out"
        )
        return None, None, (note,)

    def _accuracies(self, labels: Labels | None) -> tuple[Estimate | None, Estimate | None, tuple[str, ...]]:
        """Share of labelled positions that are right, by sample; None where labels have another layout."""
        if labels is None or labels.ndim < 2 or len(self._indices) != len(self._answers):
            return None, None, ()
        before, after = [], []
        for index, (one, two, real) in zip(self._indices, self._answers, strict=True):
            truth, n = labels[index].reshape(-1), len(one)
            if len(truth) < n or (truth[n:] >= 0).any():  # labels of shorter samples are filled up with −100
                return None, None, ("labels have another length than the answers: they are not used",)
            known = (truth[:n] >= 0) & real
            if known.any():
                before.append(float(np.mean(one[known] == truth[:n][known])))
                after.append(float(np.mean(two[known] == truth[:n][known])))
        if not before:
            return None, None, ()
        return mean_estimate(np.array(before)), mean_estimate(np.array(after)), ()


def _share(same: Float64, rows: Float64) -> Float64:
    return np.asarray(same / np.maximum(rows, SMALLEST))


def _one_of(rows: RowPairs, at: int) -> RowPairs:
    """One sample of a batch."""
    one = slice(at, at + 1)
    kept, real = (None if part is None else part[one] for part in (rows.kept, rows.real))
    return RowPairs(rows.before[one], rows.after[one], kept, real)


def _with_no(yes: NDArray[np.bool_], no: NDArray[np.bool_], counted: Float64) -> Float64:
    """By sample, [samples, channels + 1]: rows of yes by channel, and of no, of the channels that say it."""
    answers = np.concatenate([yes, no.mean(axis=-1, keepdims=True)], axis=-1)
    return np.asarray((answers * counted[..., None]).sum(axis=1))


def _binary_divergence(p: Float64, q: Float64) -> Float64:
    p, q = np.clip(p, _EDGE, 1 - _EDGE), np.clip(q, _EDGE, 1 - _EDGE)
    return np.asarray(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def _overlap(ours: Float64, theirs: Float64, both: Float64) -> Float64:
    """Mean Dice over the classes that the original answers, of sums [..., classes]."""
    answered = ours > 0
    dice = np.where(answered, 2 * both / np.maximum(ours + theirs, SMALLEST), 0.0)
    several = answered.sum(axis=-1)
    return np.where(several > 0, dice.sum(axis=-1) / np.maximum(several, 1), 1.0)  # nothing is lost of nothing


def _lost(ours: Float64, wrong: Float64, size: Float64) -> Float64:
    """Mean over the classes of Σ(p−q)² / Σp²; where only one is ever answered, all classes count."""
    width = wrong.shape[-1]
    answered = (ours > 0)[..., :width] & (size > 0)
    alone = answered.sum(axis=-1, keepdims=True) <= 1
    counted = np.where(alone, size > 0, answered)  # of an empty map too, what little there is
    share = np.where(counted, wrong / np.where(size > 0, size, 1.0), 0.0)
    return np.asarray(share.sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1))
