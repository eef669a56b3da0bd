"""One line on what the original does on the samples, and what is implausible about it: wrong preprocessing shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.graph.answers import OutputFacts
from onnx_dalr.graph.first_layer import FirstLayer, first_layer
from onnx_dalr.graph.probe import probe
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.quality.measures import Classes, Dense, Embedding, Numbers, Values
from onnx_dalr.quality.measures.classes import probabilities
from onnx_dalr.quality.seen import Seen
from onnx_dalr.quality.task import Measured, Task, output_array
from onnx_dalr.samples.base import Batch
from onnx_dalr.session.session import Device, open_session

Float64 = NDArray[np.float64]
_ENOUGH = 8  # samples from which a spread says something
_SATURATED = 1 - 1e-6
_FAR = 50.0  # the size of logits, or the distance of probabilities' logarithms, that training does not reach
_LOW = 0.5  # accuracy below which an original is worth a second look
_BY_SCALE = 0.2  # accuracy that another scale of the inputs has to add
_ALIKE = 0.99  # mean cosine of embeddings of different samples
_CHECK = "check the preprocessing (--preset, --scale, --mean, --std, --color) and see --thumbnails"


def answers_of(task: Task, seen: Sequence[Seen]) -> tuple[NDArray[Any] | None, int]:
    """(the original's answer by sample, the number of its classes), of the output that labels are of, if any."""
    one = next((one for one in task.measured if one.position == task.labelled), None)
    if one is None:
        return None, 0
    source, measure = seen[one.position], one.measure
    if isinstance(measure, Values):
        arrays = [output_array(y) for y in source.arrays]
        if any(y is None or y.size != count for y, count in zip(arrays, source.counts, strict=True)):
            return None, 0
        return np.concatenate([y.reshape(-1) for y in arrays if y is not None]), 0
    if isinstance(measure, Classes):
        rows = source.rows(measure.axis, channels=False)
        return (rows.argmax(axis=-1), rows.shape[-1]) if len(rows) == sum(source.counts) else (None, 0)
    if isinstance(measure, Dense) and measure.encoding == "sigmoid" and len(measure.shares) == 2:
        rows = source.rows(measure.axis)
        return ((rows[:, 0] > 0.5).astype(np.int64), 2) if len(rows) == sum(source.counts) else (None, 0)
    return None, 0


def outlook(
    model: Model,
    task: Task,
    seen: Sequence[Seen],
    batches: Sequence[Batch],
    labels: NDArray[np.int64] | None,
    device: Device,
) -> tuple[str, list[str]]:
    """What the original does, in one line, and cautions where that is implausible.

    Args:
        model: The original.
        task: What its outputs are.
        seen: Its outputs on the samples.
        batches: The samples.
        labels: Class of each, None where unknown.
        device: Where to run what has to be run.
    """
    one = task.main
    source = seen[one.position]
    line, cautions = _of_output(one, source)
    top, _ = answers_of(task, seen)
    if top is not None and labels is not None and labels.ndim == 1 and (labels >= 0).any():
        known = labels >= 0
        right = float(np.mean(top[known] == labels[known]))
        whole = "" if known.all() else f" of the {int(known.sum())} labelled"
        line = f"right on {100 * right:.1f} %{whole}, {line}"
        if right < _LOW:
            better = _at_another_scale(model, task, batches, labels, right, device) if len(batches[0]) == 1 else ""
            said = f"the original is right on only {100 * right:.1f} % of the labelled samples"
            cautions.insert(0, f"{said}{better or ': is that what it should be? ' + _CHECK}")
    cautions += _first_layer_cautions(model, batches, device)
    return f"the original on {sum(source.counts)} samples: {line}", cautions


def _of_output(one: Measured, seen: Seen) -> tuple[str, list[str]]:
    """What one output says, and what is odd about it."""
    measure = one.measure
    if isinstance(measure, Classes):
        return _of_classes(seen.rows(measure.axis, channels=False), measure)
    if isinstance(measure, Dense):
        return _of_dense(seen, measure)
    if isinstance(measure, Embedding):
        return _of_embeddings(seen.rows(-1))
    if isinstance(measure, Numbers):
        return _of_numbers(seen)
    arrays = [y.reshape(-1) for y in map(output_array, seen.arrays) if y is not None and y.size]
    if not arrays:
        return "it gives no values", []
    every = np.concatenate(arrays)
    values, counts = np.unique(every.astype(str) if every.dtype.kind == "O" else every, return_counts=True)
    share = counts.max() / counts.sum()
    odd = (
        [f"the original gives one and the same answer on all samples: {_CHECK}"]
        if len(values) == 1 < len(every)
        else []
    )
    return f"{len(values)} different answers, the most common on {100 * share:.0f} %", odd


def _of_classes(rows: Float64, measure: Classes) -> tuple[str, list[str]]:
    p = probabilities(rows, measure.encoding)
    sure, top = p.max(axis=-1), p.argmax(axis=-1)
    width, count = p.shape[-1], len(p)
    counts = np.bincount(top, minlength=width)
    line = (
        f"mean confidence {sure.mean():.2f}, {int((counts > 0).sum())} of {width} classes answered, "
        f"the most common on {100 * counts.max() / count:.0f} %"
    )
    odd = []
    if count >= _ENOUGH and counts.max() == count:
        odd.append(f"the original answers class {counts.argmax()} on all {count} samples looked at: {_CHECK}")
    if count >= _ENOUGH and sure.mean() < min(1.2 / width, (1 + 1 / width) / 2):
        odd.append(f"the original hardly prefers any class (mean confidence {sure.mean():.2f}): {_CHECK}")
    far = f"up to {np.abs(rows).max():.3g}" if measure.encoding == "logits" else f"down to {rows.min():.3g}"
    is_far = np.abs(rows).max() > _FAR if measure.encoding == "logits" else rows.min() < np.exp(-_FAR)
    if count >= _ENOUGH and np.mean(sure > _SATURATED) > 0.95 and is_far:
        odd.append(f"the original's outputs are saturated ({far}): {_CHECK}")
    return line, odd


def _of_dense(seen: Seen, measure: Dense) -> tuple[str, list[str]]:
    shares = measure.shares
    if measure.encoding == "sigmoid":
        rows = seen.rows(measure.axis)
        yes = float((rows > 0.5).mean()) if rows.size else 0.0
        odd = (
            [] if 0 < yes < 1 else [f"the original says {'yes' if yes else 'no'} everywhere on these samples: {_CHECK}"]
        )
        return f"{100 * yes:.2g} % of its answers are yes", odd
    answered = int((shares > 0).sum())
    line = f"{answered} of {len(shares)} classes answered, the most common on {100 * shares.max():.1f} % of all rows"
    odd = [f"the original gives one and the same answer everywhere on these samples: {_CHECK}"] if answered == 1 else []
    return line, odd


def _of_embeddings(rows: Float64) -> tuple[str, list[str]]:
    unit = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    n = len(unit)
    mean = float((np.sum(unit.sum(axis=0) ** 2) - n) / max(n * (n - 1), 1))
    odd = (
        [f"the original gives nearly the same vector for all samples: {_CHECK}"]
        if n >= _ENOUGH and mean > _ALIKE
        else []
    )
    return f"mean cosine between samples {mean:.2f}", odd


def _of_numbers(seen: Seen) -> tuple[str, list[str]]:
    arrays = seen.by_sample
    every = np.concatenate([y.reshape(-1) for y in arrays])
    line = f"values from {every.min():.3g} to {every.max():.3g}, mean {every.mean():.3g}"
    same_shape = len({y.shape[1:] for y in arrays}) == 1 and all(y.ndim for y in arrays)
    by_sample = np.concatenate(arrays) if same_shape else None
    odd = []
    if by_sample is not None and len(by_sample) >= _ENOUGH:
        moving = float(np.sqrt(np.mean(by_sample.std(axis=0) ** 2)))
        size = float(np.sqrt(np.mean(by_sample**2)))
        line += f", standard deviation over samples {moving:.3g}"
        if moving < 1e-4 * size:
            odd.append(f"the original gives the same values for all samples: {_CHECK}")
        elif moving < 0.05 * size:
            odd.append(
                f"output {seen.facts.name!r} hardly differs between samples: a constant would have an error of "
                f"{moving / size:.2g}"
            )
    return line, odd


def _at_another_scale(
    model: Model, task: Task, batches: Sequence[Batch], labels: NDArray[np.int64], right: float, device: Device
) -> str:
    """A hint where inputs of another scale make the original right far more often; empty where none does."""
    (name,) = batches[0]
    if batches[0][name].dtype.kind != "f" or task.labelled is None:
        return ""
    session = open_session(model.source(), device)
    known, found = labels >= 0, dict[float, float]()
    for factor in (255.0, 1 / 255.0, 16.0):
        arrays = []
        try:
            arrays = [session.run({name: (batch[name] * factor).astype(batch[name].dtype)}) for batch in batches]
        except InputError:
            continue
        counts = [len(batch[name]) for batch in batches]
        again = [Seen(_facts_of(task, one), [run[one] for run in arrays], counts) for one in range(len(arrays[0]))]
        top, _ = answers_of(task, again)
        if top is not None:
            found[factor] = float(np.mean(top[known] == labels[known]))
    best = max(found, key=lambda factor: found[factor], default=None)
    if best is None or found[best] < right + _BY_SCALE:
        return ""
    times = f"{best:g} times" if best >= 1 else f"1/{1 / best:g} of"
    return f"; with inputs {times} these values, on {100 * found[best]:.1f} %: {_CHECK}"


def _facts_of(task: Task, position: int) -> OutputFacts:
    return OutputFacts(next((one.name for one in task.measured if one.position == position), ""))


def _first_layer_cautions(model: Model, batches: Sequence[Batch], device: Device) -> Iterator[str]:
    """Whether what enters the network is what its first layer was made for."""
    layer = first_layer(model)
    if layer is None:
        return
    try:
        made, folder = model.in_memory(probe(model.proto, [layer.tensor]))
        session = open_session(made, device, folder)
        values = [session.run(batch, [layer.tensor])[0] for batch in batches[:4]]
    except InputError:
        return
    off = layer.off_by(values)
    if off is not None:
        yield f"{off}: {_CHECK}"


__all__ = ["FirstLayer", "answers_of", "outlook"]
