"""Which measure an output gets: found out from what the original says on a few samples, and from its graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.graph.answers import OutputFacts
from onnx_dalr.quality.looks import (
    look_like_dense_logits,
    look_like_logits,
    map_channels,
    normal_encoding,
    sway,
    unit_rows,
)
from onnx_dalr.quality.measures import Classes, Dense, Embedding, Measure, Numbers, Values, as_rows
from onnx_dalr.quality.measures.base import Float64
from onnx_dalr.quality.measures.classes import Encoding
from onnx_dalr.quality.measures.dense import MOST_FOLLOWED
from onnx_dalr.quality.scales import channel_axis, learned_scales
from onnx_dalr.quality.score import UserScore
from onnx_dalr.quality.seen import Seen
from onnx_dalr.quality.task import Measured, Task, TaskName, nothing_to_compare, output_array

_NO_LOGITS = {"Tanh", "Sigmoid", "HardSigmoid", "Relu", "Clip", "Softplus", "Exp", "LayerNormalization", "Sqrt", "Abs"}
_MOST_DISTINCT = 256  # values of a map of class numbers
_LEAST_APART = 0.25  # of the variance of yes and no
_NEXT_TO = 0.03  # of 0 or 1, on average
_UNDECIDED = 0.15  # mean distance to the nearer of 0 and 1, up to which probabilities are yes or no


def find_task(
    name: TaskName,
    seen: Sequence[Seen],
    classes: int = 0,
    *,
    declared: Sequence[str] = (),
    labels: NDArray[np.int64] | None = None,
    score: UserScore | None = None,
    complete: bool = False,
    hidden: int = 0,
) -> Task:
    """The measures of a model's outputs.

    Args:
        name: What the user says of the main output, "auto" for nothing.
        seen: Every output of the original on a few samples, in order; hidden tensors last.
        classes: Number of classes the samples come in, 0 where unknown.
        declared: Names of the outputs that count; empty for all that are the model's answer.
        labels: Of the samples, to know their layout.
        score: The user's own.
        complete: The samples are complete feeds.
        hidden: How many of `seen` are tensors inside the model.

    Raises:
        InputError: classify or embed is asked for and no output fits; a declared output does not exist; nothing can
            be compared.
    """
    own = seen[: len(seen) - hidden]
    _check_declared(declared, [one.facts.name for one in own])
    if not any(output_array(one.arrays[0]) is not None for one in own):
        raise nothing_to_compare()
    asked = _asked_for(name, own, declared)
    measured = [
        found
        for position, one in enumerate(seen)
        if (found := _measured(name if position == asked else "auto", position, one, classes, labels)) is not None
    ]
    if name == "regress":
        measured = [_as_numbers(one, seen[one.position]) for one in measured]
    measured = [_counted(one, seen[one.position].facts, declared, len(own)) for one in measured]
    if not any(one.counts for one in measured):
        measured = [replace(one, counts=True) for one in measured]
    return Task(tuple(measured), _labelled(measured, seen, classes, labels), score, complete)


def _check_declared(declared: Sequence[str], names: Sequence[str]) -> None:
    for output in declared:
        if output not in names:
            raise InputError(f"--output {output!r} is no output of the model", f"its outputs: {', '.join(names)}")


def _asked_for(name: TaskName, seen: Sequence[Seen], declared: Sequence[str]) -> int | None:
    """The output that `--task` speaks of: the first that fits, of the declared ones where there are any."""
    if name in ("auto", "regress"):
        return None
    among = [at for at, one in enumerate(seen) if not declared or one.facts.name in declared]
    for position in among:
        one = seen[position]
        if one.floats is None:
            continue
        y = one.by_sample[0]
        wide = y.ndim >= 2 and (name == "classify" or y.shape[-1] >= 2 or y.ndim == 2)
        if wide and not (name == "classify" and y.shape[-1] < 2 and not _is_share(y) and _class_axis(one) is None):
            return position
    what = "has classes on its last axis" if name == "classify" else "has rows of numbers"
    raise InputError(f"--task {name}: no output {what}", "use --task regress")


def _is_share(y: Float64) -> bool:
    return bool((y >= 0).all() and (y <= 1).all())


def _measured(
    name: TaskName, position: int, seen: Seen, classes: int, labels: NDArray[np.int64] | None
) -> Measured | None:
    """One output and its measure; None where it cannot be compared."""
    if all(output_array(y) is None for y in seen.arrays):
        return None
    if seen.floats is None:
        measure, why = _values(seen)
    elif name == "classify":
        measure, why = _asked_classes(seen)
    elif name == "embed":
        measure, why = Embedding(), "as asked"
    else:
        measure, why = _found(seen, classes, labels)
    tensor = all(isinstance(y, np.ndarray) for y in seen.arrays)
    padded = seen.is_padded(None if seen.floats is None else measure.channels)
    return Measured(seen.facts.name, position, measure, why=why, tensor=tensor, padded=padded, whole=seen.whole)


def _values(seen: Seen) -> tuple[Measure, str]:
    """Integers, booleans, text: class numbers where there is one a sample, or a map of few different ones."""
    if not seen.parts or seen.parts[0][0].dtype.kind == "f":
        return Values(), "no values on these samples"
    each = all(y.size == count for y, count, _ in seen.parts)
    every = np.concatenate([y.reshape(-1) for y, _, _ in seen.parts])
    values, counts = np.unique(every.astype(str) if every.dtype.kind == "O" else every, return_counts=True)
    few = len(values) <= _MOST_DISTINCT and every.dtype.kind in "iub" and (every.dtype.kind == "b" or every.min() >= 0)
    picked = seen.facts.scores is not None or bool(seen.facts.makers & {"ArgMax", "TopK"})
    answers = each or (few and (picked or every.dtype.kind == "b"))
    why = "one a sample" if each else "the largest of class scores" if picked else "no floats"
    return Values(answers=answers, common=float(counts.max() / counts.sum())), why


def _asked_classes(seen: Seen) -> tuple[Measure, str]:
    floats = seen.floats
    assert floats is not None
    axis = _class_axis(seen)
    if axis is None and floats[0].shape[-1] < 2 and all(map(_is_share, floats)):
        return _yes_or_no(seen, None), "as asked"
    if axis is None:
        axis, encoding = _normal_axis(seen) or (next(iter(_fixed_axes(seen)), None), "logits")
        if axis is None:
            raise InputError(
                f"--task classify: output {seen.facts.name!r} has no axis of classes", "use --task regress"
            )
        return _dense(seen, axis, encoding), "as asked"
    return _one_answer(seen, axis, normal_encoding(seen.rows(axis)) or "logits"), "as asked"


def _found(seen: Seen, classes: int, labels: NDArray[np.int64] | None) -> tuple[Measure, str]:
    """The first that fits, else quantities."""
    y = seen.by_sample[0]
    axis = _class_axis(seen)
    if axis is not None:
        return _one_answer_found(seen, axis, classes) or (_numbers(seen), "quantities")
    if _is_sigmoid(seen, binary=classes == 2 and _is_one_each(seen)):
        return _yes_or_no(seen, _sigmoid_axis(seen)), "each is a probability"
    normal = _normal_axis(seen)
    if normal is not None:
        why = "probabilities" if normal[1] == "probabilities" else "logarithms of probabilities"
        return _dense(seen, *normal), f"rows are {why}"
    found = _logit_axis(seen, labels)
    if found is not None:
        return _dense(seen, found, "logits"), "class scores by position"
    if y.ndim >= 3 and y.shape[-1] >= 16 and -1 in _fixed_axes(seen) and unit_rows(seen.rows(-1)):
        return Embedding(), "rows of unit length"
    return _numbers(seen), "quantities"


def _one_answer_found(seen: Seen, axis: int, classes: int) -> tuple[Measure, str] | None:
    """Of one row of values a sample; None for quantities."""
    rows = seen.rows(axis)
    encoding = normal_encoding(rows)
    if classes >= 2 and rows.shape[-1] == classes:
        return _one_answer(seen, axis, encoding or "logits"), "as many outputs as classes"
    if encoding is not None:
        why = "probabilities" if encoding == "probabilities" else "logarithms of probabilities"
        return _one_answer(seen, axis, encoding), f"rows are {why}"
    if _is_sigmoid(seen):
        by_position = axis in seen.positions or len({y.shape[axis] for y in seen.floats or []}) > 1
        return _yes_or_no(seen, None if by_position else axis), "each is a probability"
    if seen.by_sample[0].ndim == 2 and unit_rows(rows):
        return Embedding(), "rows of unit length"
    why = _why_logits(seen, rows)
    return (_one_answer(seen, axis, "logits"), why) if why else None


def _class_axis(seen: Seen) -> int | None:
    """The one axis beside the samples' that is longer than 1: [N, C], [N, C, 1, 1]; None without, or with several."""
    y = seen.by_sample[0]
    wide = [axis for axis in range(1, y.ndim) if y.shape[axis] > 1]
    return seen.own_axis(wide[0]) if len(wide) == 1 else None


def _fixed_axes(seen: Seen) -> list[int]:
    """Axes that classes by position may lie on: the last, and the one after the samples', where they never vary."""
    arrays = seen.by_sample
    y = arrays[0]
    axes = (-1, 1) if y.ndim >= 3 else ()
    return [seen.own_axis(at) for at in axes if y.shape[at] >= 2 and len({each.shape[at] for each in arrays}) == 1]


def _is_one_each(seen: Seen) -> bool:
    return all(y.size == count for y, count, _ in seen.parts)


def _is_sigmoid(seen: Seen, *, binary: bool = False) -> bool:
    """Probabilities of yes: made by a Sigmoid and decided on most rows, or in 0…1 where labels say yes or no.

    A gain between 0 and 1, or a score to rank by, is a quantity; so is one of a range of its own, a disparity of 0.05
    say: answers vary nearly as much as yes and no of their mean do, unless all are next to 0 or 1.
    """
    rows = seen.rows(None)
    if not rows.size or not _is_share(rows):
        return False
    if binary:
        return True
    undecided, mean = float(np.mean(np.minimum(rows, 1 - rows))), float(rows.mean())
    apart = float(rows.var()) >= _LEAST_APART * mean * (1 - mean)
    decided = undecided < _UNDECIDED and (apart or undecided < _NEXT_TO)
    return decided and bool(seen.facts.makers & {"Sigmoid", "HardSigmoid"})


def _sigmoid_axis(seen: Seen) -> int | None:
    """The axis of the channels that answer each for itself; None for one."""
    y = seen.by_sample[0]
    if y.ndim < 3:
        return None
    axis = map_channels(y.shape) if y.ndim >= 4 else 1 if 4 * y.shape[1] <= y.shape[2] else 2
    return seen.own_axis(axis) if len({each.shape[axis] for each in seen.by_sample}) == 1 else None


def _normal_axis(seen: Seen) -> tuple[int, Encoding] | None:
    """The axis along which a softmax made the values, and what it made."""
    found = ((axis, normal_encoding(seen.rows(axis))) for axis in _fixed_axes(seen))
    return next(((axis, encoding) for axis, encoding in found if encoding is not None), None)


def _why_logits(seen: Seen, rows: Float64) -> str:
    """Why rows are class scores; empty where they are not, or nothing says so."""
    if "logit" in seen.facts.name.lower():
        return "it is called logits"
    plausible = not seen.facts.makers & _NO_LOGITS and look_like_logits(rows)
    return "a softmax makes plausible classes of them" if plausible else ""


def _logit_axis(seen: Seen, labels: NDArray[np.int64] | None) -> int | None:
    """The axis of class scores by position: where labels by position, a name or the values say so."""
    y, axes = seen.by_sample[0], _fixed_axes(seen)
    for axis in axes:
        positions = tuple(length for at, length in enumerate(y.shape) if at not in (0, axis % y.ndim))
        if labels is not None and labels.ndim >= 2 and labels.shape[1:] == positions:
            return axis
    if "logit" in seen.facts.name.lower() and axes:
        return axes[0] if y.ndim == 3 else min(axes, key=lambda axis: sway(seen.rows(axis)))
    if seen.facts.makers & _NO_LOGITS:
        return None
    return next((axis for axis in axes if look_like_dense_logits(seen.rows(axis))), None)


def _one_answer(seen: Seen, axis: int, encoding: Encoding) -> Measure:
    top = np.bincount(seen.rows(axis, channels=False).argmax(axis=-1))
    return Classes(axis=axis, encoding=encoding, common=float(top.max() / top.sum()))


def _dense(seen: Seen, axis: int, encoding: Encoding) -> Measure:
    rows = seen.rows(axis)
    counts = np.bincount(rows.argmax(axis=-1), minlength=rows.shape[-1]) if len(rows) else np.ones(rows.shape[-1])
    most = np.argsort(-counts, kind="stable")[:MOST_FOLLOWED]
    return Dense(axis=axis, encoding=encoding, shares=counts / counts.sum(), followed=np.sort(most).astype(np.int64))


def _yes_or_no(seen: Seen, axis: int | None) -> Measure:
    rows = seen.rows(axis)
    yes = (rows > 0.5).mean(axis=0) / rows.shape[-1] if len(rows) else np.zeros(rows.shape[-1])
    return Dense(axis=axis, encoding="sigmoid", shares=np.append(yes, 1 - yes.sum()))


def _numbers(seen: Seen) -> Numbers:
    floats = seen.floats
    assert floats is not None
    axis = channel_axis(seen)
    rows = [as_rows(y, axis, count) for y, count in zip(floats, seen.samples, strict=True)]
    found = learned_scales(rows, seen.real(axis))
    if axis is None and found.scales.far[0] == np.inf and not found.scales.centre.any():
        return Numbers(None, power=found.power)
    return Numbers(axis, found.scales, found.power)


def _as_numbers(one: Measured, seen: Seen) -> Measured:
    if seen.floats is None or one.hidden:
        return one
    measure = _numbers(seen)
    return replace(one, measure=measure, why="as asked", padded=seen.is_padded(measure.channels))


def _counted(one: Measured, facts: OutputFacts, declared: Sequence[str], own: int) -> Measured:
    """Whether an output is part of the model's loss."""
    if one.position >= own:
        return replace(one, why="what class numbers are made of", hidden=True)
    if declared:
        counts = one.name in declared
        return replace(one, counts=counts, why=one.why if counts else "not among --output")
    if facts.byproduct:
        return replace(one, counts=False, why=facts.byproduct)
    return replace(one, counts=not isinstance(one.measure, Values) or one.measure.answers)


def _labelled(
    measured: Sequence[Measured], seen: Sequence[Seen], classes: int, labels: NDArray[np.int64] | None
) -> int | None:
    """The output that labels are of: the first of exactly as many classes, else the first that has enough."""
    by_position = labels is not None and labels.ndim >= 2
    widths: dict[int, int] = {}
    for one in measured:
        measure = one.measure
        if one.hidden or not one.counts:
            continue
        if by_position and isinstance(measure, Dense) and measure.encoding != "sigmoid":
            return one.position
        if by_position:
            continue
        if isinstance(measure, Classes):
            widths[one.position] = seen[one.position].rows(measure.axis).shape[-1]
        single = isinstance(measure, Dense) and measure.encoding == "sigmoid" and len(measure.shares) == 2
        if single and classes <= 2:
            widths[one.position] = 2
        if isinstance(measure, Values) and measure.answers:
            widths[one.position] = 0  # not known
    exact = (position for position, width in widths.items() if width == classes > 0)
    enough = (position for position, width in widths.items() if not width or width >= classes)
    return next((position for found in (exact, enough, widths) for position in found), None)
