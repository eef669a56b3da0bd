"""Two models on held-out batches: error, agreement, accuracy, cosine, KL, latency, each with n and an interval."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.quality.figures import OutputQuality, Quality
from onnx_dalr.quality.intervals import Estimate, ratio_of_medians
from onnx_dalr.quality.side_by_side import SideBySide
from onnx_dalr.quality.task import Task, TaskName, nothing_to_compare
from onnx_dalr.samples.base import Batch
from onnx_dalr.samples.masks import Kept
from onnx_dalr.session.session import Session

__all__ = [
    "Labelled",
    "Latency",
    "OutputQuality",
    "Quality",
    "SideBySide",
    "Task",
    "TaskName",
    "evaluate",
    "measure_latency",
]

Labelled = tuple[list[int], Batch]
MOST_RECALLED = 1 << 28
"""Bytes of batches and outputs that are kept for the next candidate."""


@dataclass(frozen=True)
class Latency:
    """Interleaved medians of single runs, in milliseconds.

    Attributes:
        before: The original.
        after: The new model.
        batch: Samples in the batch they ran on.
        runs: Runs of each.
        speedup: before / after, with its 95 % interval.
    """

    before: float
    after: float
    batch: int
    runs: int
    speedup: Estimate

    @property
    def share(self) -> Estimate:
        """After / before, with its 95 % interval."""
        speedup = self.speedup
        value = 1 / speedup.value
        low, high = (1 / end if end > 0 else math.inf for end in (speedup.high, speedup.low))
        return Estimate(value, low, high, speedup.n)


class Runs(Protocol):
    """What runs a model."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        ...

    def run(self, batch: Batch, outputs: Sequence[str] | None = None) -> list[Any]:
        """The outputs on a batch."""
        ...


class Recalled:
    """Batches, and what the original says on them: read and run once for all candidates, where memory takes them.

    From then on the original is needed no more, and its session is let go: it holds all of its weights.
    """

    def __init__(
        self, session: Session, batches: Iterable[Labelled], most_bytes: int = MOST_RECALLED, beside: int = 0
    ) -> None:
        """Takes the original.

        Args:
            session: That it is loaded in.
            batches: In the order they are read in.
            most_bytes: Of batches and outputs that are kept.
            beside: How many of the last outputs are none of those that are compared, but kept for who asks with `said`.
        """
        self.provider = session.provider
        self._names = session.outputs
        self.outputs = self._names[: len(self._names) - beside]
        self._session: Session | None = session
        self._batches, self._most, self._fits = batches, most_bytes, True
        self._known: dict[int, tuple[Labelled, list[Any]]] = {}  # by identity of the batch, which is held with it

    def __iter__(self) -> Iterator[Labelled]:
        if self._session is None:
            yield from (labelled for labelled, _ in self._known.values())
            return
        self._known, size, self._fits = {}, 0, True
        for labelled in self._batches:
            said = self._session.run(labelled[1])
            size += sum(y.nbytes for y in (*labelled[1].values(), *said) if isinstance(y, np.ndarray))
            self._fits = self._fits and size <= self._most
            if not self._fits:
                self._known.clear()
            self._known[id(labelled[1])] = (labelled, said)
            yield labelled
        if self._fits:
            self._session = None

    def keeps_all(self, advance: Callable[[int], None] = lambda count: None) -> bool:
        """Reads the batches until memory takes no more; whether it takes all of them, and the session is gone."""
        for indices, _ in self:
            advance(len(indices))
            if not self._fits:
                break
        return self._session is None

    def run(self, batch: Batch, outputs: Sequence[str] | None = None) -> list[Any]:
        """What the original says on one of the batches."""
        del outputs
        return self._known[id(batch)][1][: len(self.outputs)]

    def said(self, batch: Batch) -> dict[str, Any]:
        """By name: what the original says on one of the batches, and what is kept beside."""
        return dict(zip(self._names, self._known[id(batch)][1], strict=True))


def evaluate(
    original: Runs,
    new: Runs,
    batches: Iterable[Labelled],
    task: Task,
    labels: NDArray[np.int64] | None = None,
    each: Callable[[int], None] = lambda count: None,
    *,
    intervals: bool = True,
    padding: Callable[[Batch], Kept | None] = lambda batch: None,
    worst: int = 0,
) -> Quality:
    """Runs both models over the batches and compares what they say.

    Args:
        original: The model as it was.
        new: The compressed one.
        batches: (sample indices, feed) pairs.
        task: Says what is scored.
        labels: Class by sample index, int64; None without.
        each: Called with the number of samples after every batch.
        intervals: False where nobody reads that of a user's score: it takes up to 400 calls of the function.
        padding: Which positions of a batch's samples are real, where a mask says so.
        worst: Name so many samples that lost most.

    Raises:
        InputError: A label is no class of the model, the original gives NaN or infinity, or the user's score fails.
    """
    sums = SideBySide(task, labels, keep=True)
    for indices, batch in batches:
        sums.add(indices, original.run(batch), new.run(batch, original.outputs), padding(batch))
        each(len(indices))
    if not sums.seen:
        raise nothing_to_compare()
    names = [name for name in original.outputs if name not in task.hidden]
    return sums.quality(names, intervals=intervals, worst=worst)


def measure_latency(original: Session, new: Session, batch: Batch, count: int, seconds: float = 1.0) -> Latency:
    """Runs both models in turn on one batch: medians of 3 to 200 runs each, in about so many seconds.

    Each is the first of the two as often as the other: what a run leaves in the caches is for both.
    """
    feeds = [session.fed(batch) for session in (original, new)]
    for session, feed in zip((original, new), feeds, strict=True):
        session.run(feed)
    times: tuple[list[float], list[float]] = ([], [])
    deadline = time.perf_counter() + seconds
    while len(times[0]) < 3 or (len(times[0]) < 200 and time.perf_counter() < deadline):
        pair = list(zip((original, new), feeds, times, strict=True))
        for session, feed, taken in pair if len(times[0]) % 2 else reversed(pair):
            start = time.perf_counter()
            session.run(feed)
            taken.append(1000 * (time.perf_counter() - start))
    before, after = (float(np.median(taken)) for taken in times)
    return Latency(before, after, count, len(times[0]), ratio_of_medians(np.array(times[0]), np.array(times[1])))
