"""A first look at the original on a few samples, before any work: what its outputs are, and whether it is itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.graph.answers import OutputFacts, output_facts
from onnx_dalr.graph.storage.model import Model, input_specs
from onnx_dalr.look.independence import without_influence
from onnx_dalr.look.outlook import answers_of, outlook
from onnx_dalr.look.pace import Pace
from onnx_dalr.progress import LOOKING, Progress, Silent
from onnx_dalr.quality.detect import find_task
from onnx_dalr.quality.evaluate import Labelled
from onnx_dalr.quality.intervals import is_near_chance
from onnx_dalr.quality.measures import Dense
from onnx_dalr.quality.seen import Seen
from onnx_dalr.quality.side_by_side import SideBySide
from onnx_dalr.quality.task import Task, output_array
from onnx_dalr.request.options import Options
from onnx_dalr.samples import Batch, class_orders
from onnx_dalr.samples.masks import kept_in
from onnx_dalr.samples.sets import SampleSet, Sets
from onnx_dalr.session.installed import be_ready
from onnx_dalr.session.session import Session, open_session, reference_session
from onnx_dalr.session.values import not_numbers

_FEW = 128
_FEW_OF_LARGE = 32
_FEWEST = 8
_OUTPUTS = 100_000_000  # bytes of what they say, which are kept in double precision and by row
_LARGE = 300_000_000  # bytes of a model that is looked at on fewer samples
_SURE = 2.0  # standard errors by which another order of the classes has to be better


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What came of it.

    Attributes:
        task: What the outputs are; None where there is nothing to measure and nothing is going to be.
        sets: The samples, their classes numbered as the original numbers them; without labels where none fit, and one
            by one where they must not share a batch.
        provider: Execution provider that ran it.
        lines: What the original does on these samples, for the terminal.
        notes: What a reader of the report should know.
        pace: How long it took, by sample.
    """

    task: Task | None
    sets: Sets
    provider: str
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    pace: Pace


def look(model: Model, options: Options, sets: Sets, *, measured: bool, progress: Progress | None = None) -> FirstLook:
    """Runs the original on a few of the fit samples.

    Args:
        model: The original.
        options: Say what the user calls the task, and which outputs count.
        sets: The samples.
        measured: There are going to be figures of quality: a model that has nothing to compare is then refused.
        progress: Where to report to.

    Raises:
        InputError: The model cannot be run on them, a task that no output fits, labels that are no classes of it.
    """
    facts = output_facts(model.proto)
    with (progress or Silent()).stage(LOOKING, min(len(_shown(sets)), _FEW)) as advance:
        be_ready()
        started = time.perf_counter()
        session, hidden = _session(model, options, facts)
        loaded = time.perf_counter()
        sets, independence = without_influence(session, sets)
        few = _few(sets, model, session)
        ready = time.perf_counter()
        batches = list(few)
        reading = (time.perf_counter() - ready) / max(len(few), 1)
        runs, again, running = _runs(session, batches, advance)
        pace = Pace(load=loaded - started, read=reading, run=running)
    apart = [] if independence.independent else [f"note: {independence.note}"]
    notes = [] if independence.independent else [independence.note]
    notes += _not_finite(session, runs, measured=measured)
    notes += _repeats(runs[0], again)
    facts = (*facts, *(OutputFacts(name) for name in hidden))
    seen = _seen(model, facts, batches, runs, sets.mask_input)
    labels, names = few.labels, sets.class_names
    classes = max(few.classes, len(names))
    try:
        task = find_task(
            options.task,
            seen,
            classes,
            declared=options.outputs,
            labels=labels,
            score=options.score,
            complete=few.source.complete,
            hidden=len(hidden),
        )
    except InputError:
        if measured:
            raise
        return FirstLook(None, sets, session.provider, tuple(apart), tuple(notes), pace)
    indices = np.concatenate([np.array(indices, dtype=np.int64) for indices, _ in batches])
    top, width = answers_of(task, seen)
    lines = apart
    if labels is not None:
        unfit = _unfit_positions(task, batches, runs, labels, sets.mask_input) if labels.ndim > 1 else ""
        sets, said = (
            (sets.without_labels(), [f"labels are given and not used: {unfit}"])
            if unfit
            else _labels_fitted(sets, task, labels[indices], top, width)
        )
        lines += said
        notes += said
    known = _shown(sets).labels
    truth = None if known is None else known[indices]
    line, cautions = outlook(model, task, seen, [batch for _, batch in batches], truth, options.runtime)
    lines.insert(0, line)
    notes += cautions
    return FirstLook(task, sets, session.provider, (*lines, *cautions), tuple(notes), pace)


def _session(model: Model, options: Options, facts: Sequence[OutputFacts]) -> tuple[Session, tuple[str, ...]]:
    """The original with the scores behind its class numbers among the outputs, where ONNX Runtime can show them."""
    own = {fact.name for fact in facts}
    counted = [fact for fact in facts if not options.outputs or fact.name in options.outputs]
    hidden = tuple(dict.fromkeys(fact.scores for fact in counted if fact.scores and fact.scores not in own))
    try:
        session = reference_session(model, options.runtime, hidden)
    except InputError:
        if not hidden:
            raise
        return open_session(model.source(), options.runtime), ()
    return session, hidden


def _takes_any_length(model: Model, mask: str | None) -> bool:
    """Whether the model declares no number of positions: an axis of a declared length is then none of positions."""
    shapes = [spec.shape for spec in input_specs(model.proto) if spec.name == mask]
    return any(shape is None or not shape or shape[-1] is None for shape in shapes)


def _shown(sets: Sets) -> SampleSet:
    """The set that is looked at: fit, or what there is where statistics take its place."""
    return next((each for each in (sets.fit, sets.select, sets.report) if len(each)), sets.fit)


def _few(sets: Sets, model: Model, session: Session) -> SampleSet:
    """As many samples as are worth a look, and as their outputs may fill memory: maps are large."""
    source = _shown(sets)
    most = _FEW if model.size < _LARGE else _FEW_OF_LARGE
    count, feed = source.one()
    size = sum(y.nbytes for y in session.run(feed) if isinstance(y, np.ndarray)) / count
    return source.spread(max(_FEWEST, min(most, int(_OUTPUTS / max(size, 1)))))


def _runs(
    session: Session, batches: Sequence[Labelled], advance: Callable[[int], None]
) -> tuple[list[list[Any]], list[Any], float]:
    """The outputs on every batch, those on the first again, and the seconds a sample takes.

    What a session runs first takes longer, and does not count.
    """
    runs = []
    warm = time.perf_counter()
    for indices, batch in batches:
        runs.append(session.run(batch))
        advance(len(indices))
        warm = time.perf_counter() if len(runs) == 1 else warm
    again = session.run(batches[0][1])
    return runs, again, (time.perf_counter() - warm) / sum(len(indices) for indices, _ in batches)


def _seen(
    model: Model, facts: Sequence[OutputFacts], batches: Sequence[Labelled], runs: Sequence[list[Any]], mask: str | None
) -> list[Seen]:
    """Every output on all batches, in the order of `facts`."""
    return [
        Seen(
            fact,
            [run[position] for run in runs],
            [len(indices) for indices, _ in batches],
            [kept_in(batch, mask) for _, batch in batches],
            _takes_any_length(model, mask),
        )
        for position, fact in enumerate(facts)
    ]


def _not_finite(session: Session, runs: Iterable[Sequence[Any]], *, measured: bool) -> Iterable[str]:
    """What is no number among the outputs of the first batch that has any.

    Raises:
        InputError: There is, and quality is to be measured against them.
    """
    wrong = next(filter(None, (not_numbers(session.outputs, run) for run in runs)), None)
    if wrong is not None:
        found = f"the original model gives {wrong} on these samples"
        if measured:
            raise InputError(found, "check the preprocessing and the value range the model was trained on")
        yield found


def _repeats(outputs: Sequence[Any], again: Sequence[Any]) -> Iterable[str]:
    """Whether the original gives the same outputs again."""
    if not all(_same(one, two) for one, two in zip(outputs, again, strict=True)):
        yield (
            "the original gives other outputs each time it runs (it draws random numbers, perhaps): that much of the "
            "error is its own"
        )


def _same(one: Any, two: Any) -> bool:
    pair = output_array(one), output_array(two)
    if pair[0] is None or pair[1] is None:
        return True
    return bool(np.array_equal(pair[0], pair[1], equal_nan=pair[0].dtype.kind == "f"))


def _labels_fitted(
    sets: Sets, task: Task, labels: NDArray[np.int64], top: NDArray[Any] | None, width: int
) -> tuple[Sets, list[str]]:
    """The samples with labels as the original numbers its classes, and what to say of it: one decision for all sets.

    Args:
        sets: The samples.
        task: What the outputs are.
        labels: Of the samples looked at.
        top: The original's answers on them, None where it gives none that labels could be.
        width: Number of its classes, 0 where unknown.

    Raises:
        InputError: A label of --labels is no class of the model.
    """
    names, by_position = sets.class_names, labels.ndim > 1
    if not task.takes_labels or (task.score is None and top is None and not by_position):
        return sets.without_labels(), ["labels are given and not used: no output that counts gives classes they fit"]
    known = labels >= 0
    if top is None or by_position or not known.any():
        return sets, []
    if names:
        return _folders_fitted(sets, task, labels[known], top[known], width)
    if width and labels.max() >= width and task.score is None:
        said = f"label {labels.max()} is no class of the model, which has {width}"
        raise InputError(said, "classes count from 0")
    return _unless_chance(sets, top[known] == labels[known], width or int(labels.max()) + 1, "labels", task)


def _unfit_positions(
    task: Task,
    batches: Sequence[tuple[list[int], Batch]],
    runs: Sequence[Sequence[Any]],
    labels: NDArray[np.int64],
    mask: str | None,
) -> str:
    """Why labels of tokens or pixels do not fit the answers; empty where they do, or there are no such answers."""
    measure = next((one.measure for one in task.measured if one.position == task.labelled), None)
    if task.score is not None or not isinstance(measure, Dense) or task.labelled is None:
        return ""
    itself = SideBySide(task, labels)
    for (indices, batch), run in zip(batches, runs, strict=True):
        itself.add(indices, run, run, kept_in(batch, mask))
    found = itself.sums[task.labelled].figures(labels)
    right = found.before
    if right is None:
        return f"{labels[0].size} a sample are not as many as the model's answers" if found.notes else ""
    if right.value <= 1 / len(measure.shares):
        return f"the original is right on {100 * right.value:.1f} % of them, about chance"
    return ""


def _folders_fitted(
    sets: Sets, task: Task, labels: NDArray[np.int64], top: NDArray[Any], width: int
) -> tuple[Sets, list[str]]:
    """Class folders in the order in which the original is right most often."""
    names = sets.class_names
    if width and len(names) > width:
        what = f"there are {len(names)} class folders and the model has {width} classes: labels are not used"
        return sets.without_labels(), [what]
    orders = class_orders(names, width or None)
    right = [(order.labels[labels] == top).astype(float) for order in orders]
    best = max(range(len(orders)), key=lambda at: right[at].mean())
    if best and not _clearly_better(right[best], right[0]):
        best = 0
    said = []
    if best:
        sets = sets.relabelled(orders[best].labels)
        share, other = (100 * right[at].mean() for at in (best, 0))
        said.append(
            f"class folders are numbered in {orders[best]}: the original is right on {share:.1f} % of the samples "
            f"looked at, in {orders[0].name} on {other:.1f} %"
        )
    sets, more = _unless_chance(sets, right[best] > 0, width or len(names), "class folders", task)
    return sets, said + more


def _clearly_better(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    gain = one - other
    return float(gain.mean()) > _SURE * float(gain.std()) / np.sqrt(len(gain)) and float(gain.mean()) > 0


def _unless_chance(sets: Sets, right: NDArray[np.bool_], width: int, what: str, task: Task) -> tuple[Sets, list[str]]:
    share = right.astype(float)
    if task.score is not None or not is_near_chance(share, width):
        return sets, []
    said = (
        f"{what} do not fit this model: the original is right on {100 * share.mean():.1f} % of {len(share)} samples, "
        "about chance; agreement with the original is used instead"
    )
    return sets.without_labels(), [said]
