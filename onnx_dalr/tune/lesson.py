"""Student and teacher side by side: what the student loses on a batch, and which way its tensors should go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto

from onnx_dalr.graph.storage.model import Model
from onnx_dalr.quality.figures import Quality
from onnx_dalr.quality.side_by_side import SideBySide
from onnx_dalr.quality.task import Task
from onnx_dalr.samples.base import Batch
from onnx_dalr.session.session import Runtime, Session, open_session
from onnx_dalr.tune.adam import Tensors
from onnx_dalr.tune.cached import Cached, Minibatch
from onnx_dalr.tune.step import Stepper, step_graph
from onnx_dalr.tune.suffix import behind
from onnx_dalr.tune.terms import Term, targets

_PRUNED = 0.1  # share of zeros that no training leaves by chance


class Lesson:
    """The part of student and teacher behind what both compute alike, in two sessions."""

    def __init__(
        self,
        original: Model,
        home: Model,
        student: ModelProto,
        teacher: ModelProto,
        fed: Sequence[str],
        terms: Sequence[Term],
        outputs: Sequence[str],
        tuned: Mapping[str, NDArray[np.float32]],
        types: Mapping[str, np.dtype[Any]],
        runtime: Runtime,
    ) -> None:
        """Loads both.

        Args:
            original: The model whose external data the teacher refers to.
            home: And the student.
            student: What is tuned.
            teacher: What it learns from; tensors have the same names.
            fed: What enters both.
            terms: What is learned.
            outputs: Tensors that are looked at when the student is compared.
            tuned: The tensors to find gradients of.
            types: In which these are fed.
            runtime: How to run.
        """
        self._terms, self._types = terms, dict(types)
        self._said = list(dict.fromkeys([*(term.tensor for term in terms), *outputs]))
        self._outputs = list(outputs)

        def opened(of: Model, proto: ModelProto, *, prepack: bool = False) -> Session:
            made, folder = of.in_memory(proto)
            return open_session(made, runtime, folder, prepack=prepack)

        self._teacher = opened(original, behind(teacher, fed, self._said), prepack=True)
        typed = {name: values.astype(types[name]) for name, values in tuned.items()}
        self.graph = step_graph(behind(student, fed, self._said), terms, typed)
        self._pruned = {name: values != 0 for name, values in tuned.items() if _is_pruned(values)}
        step, says = (opened(home, proto) for proto in (self.graph.proto, self.graph.student(self._outputs)))
        self._student = Stepper(self.graph, step, says)

    @property
    def tuned(self) -> list[str]:
        """Tensors that a gradient reaches."""
        return list(self.graph.gradients)

    def taught(self, batch: Minibatch) -> dict[str, NDArray[Any]]:
        """What the teacher says on a batch, by tensor."""
        return dict(zip(self._said, self._teacher.run(batch.feed, self._said), strict=True))

    def feed(self, batch: Minibatch, said: Mapping[str, NDArray[Any]]) -> Batch:
        """What the student is fed beside its tensors."""
        return {**batch.feed, **targets(self._terms, said, len(batch), batch.kept)}

    def gradients(self, batch: Minibatch, tensors: Tensors) -> tuple[float, Tensors]:
        """(loss, gradient by tensor) on a batch."""
        loss, found = self._student.gradients(self.feed(batch, self.taught(batch)), self._typed(tensors))
        return loss, {name: g * self._pruned[name] if name in self._pruned else g for name, g in found.items()}

    def student_says(self, feed: Batch, tensors: Tensors) -> dict[str, NDArray[Any]]:
        """The outputs of the student on what `feed` made."""
        return dict(zip(self._outputs, self._student.says(self._outputs, feed, self._typed(tensors)), strict=True))

    def _typed(self, tensors: Tensors) -> dict[str, NDArray[Any]]:
        return {name: values.astype(self._types[name], copy=False) for name, values in tensors.items()}


def _is_pruned(values: NDArray[np.float32]) -> bool:
    """Whether its zeros are there on purpose, and have to stay."""
    return values.ndim > 1 and float(np.mean(values == 0)) > _PRUNED


class HeldOut:
    """Samples no step is made on, and what the teacher says on them, to hold any tensors against."""

    def __init__(
        self,
        lesson: Lesson,
        samples: Cached,
        task: Task,
        names: Sequence[str | None],
        size: int,
        labels: NDArray[np.int64] | None = None,
    ) -> None:
        """Runs the teacher once.

        Args:
            lesson: Student and teacher.
            samples: The samples.
            task: Says what is measured how.
            names: Of the outputs by position, None for those that are not compared.
            size: Samples at a time.
            labels: Class by index of the source, where there are any.
        """
        self._labels = labels
        self._lesson, self._task, self._names = lesson, task, names
        self._held = []
        for batch in samples.batches(size):
            said = lesson.taught(batch)
            self._held.append((batch, said, lesson.feed(batch, said)))

    def __len__(self) -> int:
        return sum(len(batch) for batch, _, _ in self._held)

    def quality(self, tensors: Tensors) -> Quality:
        """All figures, as the report has them."""
        return self._sums(tensors).quality([name or "" for name in self._names])

    def distortions(self, tensors: Tensors) -> NDArray[np.float64]:
        """By sample."""
        sums = self._sums(tensors)
        if not sums.finite:
            return np.full(max(sums.n, 1), np.inf)
        found = sums.distortions()
        return np.array(found or [sums.distortion()])

    def _sums(self, tensors: Tensors) -> SideBySide:
        sums = SideBySide(self._task, self._labels)
        for batch, said, feed in self._held:
            says = self._lesson.student_says(feed, tensors)
            before, after = ([found.get(name or "") for name in self._names] for found in (said, says))
            sums.add(list(batch.indices), before, after, batch.kept)
        return sums

    def lost(self, tensors: Tensors) -> float:
        """The mean of their roots: a sample whose answer is surely another says much, but not all there is to say."""
        return float(np.sqrt(np.maximum(self.distortions(tensors), 0.0)).mean())


def distances(distortions: ArrayLike) -> NDArray[np.float64]:
    """√(1 − e^−d) of distortions d: from 0, the same, to 1, nothing of the answer is left.

    Distortions are squares, and that of one sample whose answer is surely another says more than all others together.
    What is proven is proven by distances.
    """
    return np.asarray(np.sqrt(-np.expm1(-np.maximum(distortions, 0.0))))
