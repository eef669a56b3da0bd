"""Student and teacher made ready: what enters both, which numbers are tuned, what is learned, and the lesson of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import ModelProto

from onnx_dalr.errors import InputError
from onnx_dalr.gradient.walk import Ended
from onnx_dalr.graph.answers import exposing
from onnx_dalr.graph.probe import probe
from onnx_dalr.graph.storage.model import Model, input_specs
from onnx_dalr.quality.padding import values_kept
from onnx_dalr.quality.task import Task
from onnx_dalr.samples.base import Batch
from onnx_dalr.samples.masks import Kept, kept_in
from onnx_dalr.samples.sets import SampleSet
from onnx_dalr.session.session import Runtime, open_session, reference_session
from onnx_dalr.tune.adam import Tensors
from onnx_dalr.tune.cached import Cached, Rows, cached, has_rows
from onnx_dalr.tune.lesson import HeldOut, Lesson
from onnx_dalr.tune.suffix import Shared, frontier, inlined, shared
from onnx_dalr.tune.tensors import fed_types, masters
from onnx_dalr.tune.terms import Term
from onnx_dalr.tune.trimming import cut, cuttable, lengths

MOST_BYTES = 1 << 30
"""Of what enters student and teacher, kept in memory."""

_ALIKE = 1e-3  # relative: padding that is cut off changes no answer by more


@dataclass(frozen=True, eq=False)
class Prepared:
    """Ready to learn.

    Attributes:
        lesson: Student and teacher behind what both compute alike.
        start: The tensors that a gradient reaches.
        task: Says what the outputs are.
        names: Of outputs by position, None for those that are not compared.
        enter: What of a feed enters.
        by_row: Every tensor that enters has a row per sample.
        cut: Inputs that are shortened by padding.
        mask_input: That marks padding.
        is_float: All that enters are floats.
    """

    lesson: Lesson
    start: Tensors
    task: Task
    names: tuple[str | None, ...]
    enter: Rows
    by_row: bool
    cut: frozenset[str]
    mask_input: str | None
    is_float: bool

    @property
    def ended(self) -> tuple[Ended, ...]:
        """Where gradients end."""
        return self.lesson.graph.ended

    def cached(self, samples: SampleSet, most_bytes: int = MOST_BYTES) -> Cached:
        """Samples as they enter."""
        return cached(self.enter, samples, self.mask_input, most_bytes, by_row=self.by_row, cut=self.cut)

    def held_out(self, samples: SampleSet, size: int) -> HeldOut:
        """Samples to be judged by."""
        return HeldOut(self.lesson, self.cached(samples), self.task, self.names, size, samples.labels)


def prepared(
    teacher: Model,
    student: ModelProto,
    home: Model,
    tuned: Collection[str],
    task: Task,
    terms: Sequence[Term],
    few: SampleSet,
    mask_input: str | None,
    runtime: Runtime,
) -> Prepared:
    """Finds out where student and teacher part, and loads both from there on.

    Args:
        teacher: The original.
        student: A model with the same inputs, and with the tensors of the terms.
        home: Where its external data lies.
        tuned: Names of its initializers that may be tuned.
        task: Says what the outputs are.
        terms: What is learned.
        few: Some samples, to find out what has a row for each.
        mask_input: That marks padding.
        runtime: How to run.
    """
    ours, theirs = (inlined(exposing(proto, task.hidden)) for proto in (student, teacher.proto))
    outputs = [one.name for one in task.measured if one.counts]
    known = shared(ours, theirs)
    wanted = list(dict.fromkeys([*(term.tensor for term in terms), *outputs]))
    differing = [name for name in wanted if name not in known.tensors]
    indices, batch = next(iter(replace(few, batch_size=min(few.batch_size, 8))))
    enter, fed, rows = _entering(teacher, ours, theirs, differing, known, batch, len(indices), few, runtime)
    by_row = set(fed) <= rows
    able = frozenset[str]()
    if by_row and not few.source.complete and few.source.fixed_batch is None:
        able = cuttable(input_specs(teacher.proto), batch, mask_input)
        if able and not _keeps_its_answers(teacher, able, batch, mask_input, runtime):
            able = frozenset()
    start = masters(ours, tuned)
    lesson = Lesson(
        teacher,
        home,
        ours,
        theirs,
        fed,
        [term for term in terms if term.tensor in differing],
        [name for name in outputs if name in differing],
        start,
        fed_types(ours, start),
        runtime,
    )
    entered = enter(batch)
    return Prepared(
        lesson=lesson,
        start={name: start[name] for name in lesson.tuned},
        task=task,
        names=_by_position(task, differing),
        enter=enter,
        by_row=by_row,
        cut=able,
        mask_input=mask_input,
        is_float=all(array.dtype.kind == "f" for array in entered.values()),
    )


def _by_position(task: Task, differing: Collection[str]) -> tuple[str | None, ...]:
    names: list[str | None] = [None] * (max(one.position for one in task.measured) + 1)
    for one in task.measured:
        if one.counts and one.name in differing:
            names[one.position] = one.name
    return tuple(names)


def _entering(
    teacher: Model,
    ours: ModelProto,
    theirs: ModelProto,
    wanted: Sequence[str],
    known: Shared,
    batch: Batch,
    count: int,
    few: SampleSet,
    runtime: Runtime,
) -> tuple[Rows, list[str], set[str]]:
    """(what of a feed enters, the names of it, those that have a row per sample).

    What has none, a shape say, is computed again of what comes before it.
    """
    inputs, held = {value.name for value in theirs.graph.input}, set[str]()
    while True:
        fed = frontier((ours, theirs), wanted, known, held)
        enter = _Enter(teacher, theirs, fed, inputs, runtime)
        rows = has_rows(enter, batch, count, few.source.repeated)
        without = set(fed) - rows - inputs
        if not without:
            return enter, fed, rows
        held |= without


class _Enter:
    """The part that both compute alike, in a session; nothing where they part at the inputs."""

    def __init__(
        self, teacher: Model, theirs: ModelProto, fed: Sequence[str], inputs: Collection[str], runtime: Runtime
    ) -> None:
        self._fed, self._computed = fed, [name for name in fed if name not in inputs]
        if self._computed:
            made, folder = teacher.in_memory(probe(theirs, self._computed))
            self._session = open_session(made, runtime, folder)

    def __call__(self, batch: Batch) -> Batch:
        found: Batch = {}
        if self._computed:
            found = dict(zip(self._computed, self._session.run(batch, self._computed), strict=True))
        return {name: found[name] if name in found else batch[name] for name in self._fed}


def _keeps_its_answers(
    teacher: Model, names: frozenset[str], batch: Batch, mask_input: str | None, runtime: Runtime
) -> bool:
    """Whether the teacher says the same of samples whose shared padding is cut off; told by trying."""
    kept = kept_in(batch, mask_input)
    counts = None if kept is None else lengths(kept)
    assert counts is not None
    shorter = cut(batch, names, max(int(counts.max(initial=1)), 1))
    session = reference_session(teacher, runtime)
    try:
        before, after = session.run(batch), session.run(shorter)
    except InputError:
        return False
    real = kept_in(shorter, mask_input)
    return all(_same_where_real(y, y_new, real) for y, y_new in zip(before, after, strict=True))


def _same_where_real(y: Any, y_new: Any, real: Kept | None) -> bool:
    if not isinstance(y, np.ndarray) or y.ndim != y_new.ndim or y.dtype.kind not in "fiub":
        return False
    y = y[tuple(slice(size) for size in y_new.shape)]
    mask = values_kept(y_new.shape, real)
    apart = np.abs(y.astype(np.float64) - y_new.astype(np.float64))
    most = _ALIKE * max(float(np.abs(y).max(initial=0.0)), 1e-6)
    return bool((apart <= most).all() if mask is None else (apart[mask] <= most).all())
