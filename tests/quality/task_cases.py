"""Tasks: of measures that are named, and found out from what a model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_dalr.graph.answers import OutputFacts, output_facts
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.quality.detect import find_task
from onnx_dalr.quality.measures import Classes, Dense, Embedding, Measure, Numbers, Values
from onnx_dalr.quality.score import UserScore
from onnx_dalr.quality.seen import Seen
from onnx_dalr.quality.task import Measured, Task, TaskName
from onnx_dalr.session.session import open_session

NAMES = "yzuvw"


def task(*measures: Measure, score: UserScore | None = None, names: Sequence[str] = NAMES) -> Task:
    """Outputs y, z, … measured like this, all of which count; labels are of the first that says classes."""
    measured = tuple(
        Measured(name, at, measure) for at, (name, measure) in enumerate(zip(names, measures, strict=False))
    )
    answers = (one.position for one in measured if isinstance(one.measure, Classes | Dense | Values))
    return Task(measured, next(answers, None), score)


CLASSIFY, REGRESS, EMBED = task(Classes()), task(Numbers()), task(Embedding())


def seen(*outputs: Any, samples: int | None = None, kept: Any = None, names: Sequence[str] = NAMES) -> list[Seen]:
    """Outputs y, z, … of a model on one batch; as many samples as the first has rows where nothing else is said."""
    if samples is None:
        samples = next((len(y) for y in outputs if np.ndim(y)), 1)
    return [Seen(OutputFacts(name), [y], [samples], [kept]) for name, y in zip(names, outputs, strict=False)]


def found(name: TaskName, *outputs: Any, samples: int | None = None, kept: Any = None, **how: Any) -> Task:
    """What these outputs are taken for."""
    return find_task(name, seen(*outputs, samples=samples, kept=kept), **how)


def classify(*outputs: Any, **how: Any) -> Task:
    """The first is classes, as asked; by position where it is a map of them."""
    return found("classify", *outputs, **how)


def regress(*outputs: Any, **how: Any) -> Task:
    """All are quantities, relative to what these values are."""
    return found("regress", *outputs, **how)


def embed(*outputs: Any, **how: Any) -> Task:
    """The first is directions, as asked."""
    return found("embed", *outputs, **how)


def of_model(made: Model, name: TaskName, *feeds: Mapping[str, Any], **how: Any) -> Task:
    """What the outputs of a model are taken for, from what it says on feeds of samples."""
    session = open_session(made.source(), "cpu")
    runs = [session.run(dict(feed)) for feed in feeds]
    counts = [len(next(iter(feed.values()))) for feed in feeds]
    facts = output_facts(made.proto)
    return find_task(name, [Seen(fact, [run[at] for run in runs], counts) for at, fact in enumerate(facts)], **how)
