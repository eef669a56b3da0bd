"""Steps on batches, and what is kept of them: the tensors that did best on samples that no step is made on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnx_dalr.plan.course import Course
from onnx_dalr.tune.adam import Adam, Tensors, scheduled
from onnx_dalr.tune.cached import Cached, Minibatch
from onnx_dalr.tune.lesson import Lesson

Watch = Callable[[Tensors], float]
"""What tensors lose on samples that no step is made on."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of it.

    Attributes:
        tensors: The best there were.
        best: What they lost on the samples that were watched.
        at: After how many steps they were reached; 0 for the start.
        last: Where the steps ended.
        curve: (steps, lost) each time it was looked.
        stopped: Not all steps were made.
    """

    tensors: Tensors
    best: float
    at: int
    last: Tensors = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)
    stopped: bool = False


def train(
    lesson: Lesson,
    start: Tensors,
    sizes: Mapping[str, float],
    samples: Cached,
    course: Course,
    watch: Watch,
    *,
    looks: int,
    goes_on: Callable[[], bool] = lambda: True,
    advance: Callable[[int], None] = lambda count: None,
) -> Trained:
    """Makes steps, and looks now and then how the tensors do. Ctrl-C ends it, and what was best by then is kept.

    Args:
        lesson: Loss and gradients on a batch.
        start: Left as they are.
        sizes: The rms of each tensor that is tuned.
        samples: On which steps are made.
        course: How.
        watch: What is to become little.
        looks: How often it is asked, evenly over the steps.
        goes_on: Asked before every step.
        advance: Told of every step.
    """
    tensors = {name: values.copy() for name, values in start.items()}
    random, adam = np.random.default_rng(course.seed), Adam(sizes)
    best, kept, at, stopped = watch(start), start, 0, False
    curve = [(0, best)]
    marks = {round(course.steps * (look + 1) / looks) for look in range(looks)}
    try:
        for number, batch in zip(range(course.steps), _endless(samples, course.batch, random), strict=False):
            if not goes_on():
                stopped = True
                break
            fed = mixture(batch, random) if course.mixed else batch
            _, gradients = lesson.gradients(fed, tensors)
            adam.step(tensors, gradients, scheduled(course.rate, number, course.steps))
            advance(1)
            if number + 1 in marks:
                lost = watch(tensors)
                curve.append((number + 1, lost))
                if not np.isfinite(lost):
                    break
                if lost < best:
                    best, at = lost, number + 1
                    kept = {name: values.copy() for name, values in tensors.items()}
    except KeyboardInterrupt:
        stopped = True
    return Trained(kept, best, at, tensors, curve, stopped)


def _endless(samples: Cached, size: int, random: np.random.Generator) -> Iterator[Minibatch]:
    while True:
        yield from samples.batches(size, random)


def mixture(batch: Minibatch, random: np.random.Generator) -> Minibatch:
    """Each sample mixed with another of the batch, λ of it and 1 − λ of the other, λ evenly from 0 to 1."""
    order = random.permutation(len(batch))
    share = random.random(len(batch)).astype(np.float32)
    feed = {}
    for name, array in batch.feed.items():
        weights = share.reshape(-1, *([1] * (array.ndim - 1)))
        feed[name] = (weights * array + (1 - weights) * array[order]).astype(array.dtype)
    return Minibatch(feed, batch.kept, batch.indices)


def between(start: Tensors, end: Tensors, share: float) -> Tensors:
    """Start + α·(end − start)."""
    return {name: start[name] + np.float32(share) * (end[name] - start[name]) for name in start}


SHARES = (1.0, 0.75, 0.5, 0.25)
"""α: how far to go from the start to where the steps led."""


def best_share(start: Tensors, end: Tensors, watch: Watch) -> tuple[float, float]:
    """(α, what is lost there): the whole way first, which only less loss beats."""
    found = [(watch(between(start, end, share)), order, share) for order, share in enumerate(SHARES)]
    lost, _, share = min(found)
    return share, lost
