"""Outputs of models as their makers leave them, what they are taken for, and what is lost where they change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from onnx_dalr.graph.answers import OutputFacts
from onnx_dalr.quality.detect import find_task
from onnx_dalr.quality.figures import Quality
from onnx_dalr.quality.measures import Measure
from onnx_dalr.quality.seen import Seen
from onnx_dalr.quality.side_by_side import SideBySide
from onnx_dalr.quality.task import Measured, Task, TaskName

Array = NDArray[Any]
BACKGROUND = 0.85  # share of the tokens that are no name


def normals(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def logits(*shape: int, size: float = 8.0, common: float | None = None, seed: int = 0) -> Array:
    """Class scores as training leaves them, the classes last: one stands out, and rows as a whole hardly move.

    Args:
        shape: The classes last.
        size: By how much the answer stands out, where the others have a standard deviation of 1.5.
        common: Share of class 0 among the answers; None for as many of each.
        seed: Of the random numbers.
    """
    random = np.random.default_rng(seed)
    count, width = int(np.prod(shape[:-1])), shape[-1]
    shares = None if common is None else np.append(common, np.full(width - 1, (1 - common) / (width - 1)))
    rows = 1.5 * random.standard_normal((count, width))
    rows[np.arange(count), random.choice(width, count, p=shares)] += size
    rows -= rows.mean(axis=1, keepdims=True)
    return (rows + 0.2 * random.standard_normal((count, width))).reshape(shape)


def softmax(y: Array, axis: int = -1) -> Array:
    return np.asarray(special.softmax(y, axis=axis))


def sigmoid(*shape: int, yes: float = 0.5, seed: int = 0) -> Array:
    """Decided probabilities, this share of them of yes."""
    random = np.random.default_rng(seed)
    return np.asarray(special.expit(np.where(random.random(shape) < yes, 4.0, -5.0) + random.standard_normal(shape)))


def units(*shape: int, seed: int = 0) -> Array:
    rows = normals(*shape, seed=seed)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def mask_of(lengths: Sequence[int], length: int) -> NDArray[np.bool_]:
    """Which of `length` positions are real, the first ones of each sample."""
    return np.arange(length)[None] < np.array(lengths)[:, None]


def seen_of(
    *batches: Any,
    name: str = "y",
    makers: Iterable[str] = (),
    dims: tuple[int | str | None, ...] | None = None,
    counts: Sequence[int] | None = None,
    kept: Any = None,
    any_length: bool = False,
) -> Seen:
    """What a model says in its one output, batch by batch; as many samples as a batch has rows if not said."""
    masks = [kept] * len(batches) if isinstance(kept, np.ndarray) or kept is None else kept
    facts = OutputFacts(name, frozenset(makers), dims)
    return Seen(facts, batches, counts or [len(y) for y in batches], masks, any_length)


def task_of(*batches: Any, task: TaskName = "auto", classes: int = 0, labels: Any = None, **about: Any) -> Task:
    """What a model of one output is taken for."""
    return find_task(task, [seen_of(*batches, **about)], classes, labels=labels)


def taken(*batches: Any, **about: Any) -> Measured:
    return task_of(*batches, **about).measured[0]


def measure(*batches: Any, **about: Any) -> Measure:
    return taken(*batches, **about).measure


def said(*batches: Any, **about: Any) -> str:
    """The same in words."""
    return measure(*batches, **about).describes


def compared(
    task: Task, before: Any, after: Any, labels: Any = None, kept: Any = None, *, samples: int | None = None
) -> Quality:
    """Two models that say this on all samples in one batch."""
    together = SideBySide(task, None if labels is None else np.asarray(labels))
    together.add(list(range(len(before) if samples is None else samples)), [before], [after], kept)
    return together.quality(["y"])


def loss(task: Task, before: Any, after: Any, **how: Any) -> float:
    return compared(task, before, after, **how).drop.value


def nudged(y: Array, by: float, seed: int = 1) -> Array:
    """Every value moved by this share of what it varies by over the samples."""
    return y + by * y.std(axis=0) * np.random.default_rng(seed).standard_normal(y.shape)
