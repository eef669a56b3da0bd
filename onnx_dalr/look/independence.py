"""Whether samples may share a batch: found out once a run, on two of them, together and alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.errors import InputError
from onnx_dalr.samples import Batch, InputSpec, digest
from onnx_dalr.samples.sets import SampleSet, Sets
from onnx_dalr.session.session import Session

_LOOKED_AT = 16  # samples among which two are looked for that go together
_CLOSE = 3e-3  # of an output's size: kernels differ with the shape of a batch, by 1e-3 where they are of half precision
_CLOSE_IN_HALF = 1e-2  # outputs of half precision, and what GPUs compute with fewer digits
_NEAR_TIES = 0.01  # share of whole numbers, an argmax of pixels say, that may fall the other way
_TIME = re.compile(r"(?<![a-z])(time|step|seq|len|frame)|^[tls]$")  # what an axis may be called, in small letters
_BATCH = re.compile(r"(?<![a-z])(batch|bsz?(?![a-z]))|^[nb]$")


@dataclass(frozen=True)
class Independence:
    """Whether a sample's outputs are the same whatever it is run with.

    Attributes:
        independent: They are, or nothing is known against it.
        why: What was found, as a sentence without its end; empty where they are.
    """

    independent: bool = True
    why: str = ""

    @property
    def note(self) -> str:
        """The finding and what is done about it."""
        return "" if self.independent else f"{self.why}; samples are run one by one"


def without_influence(session: Session, sets: Sets) -> tuple[Sets, Independence]:
    """The sets as they are to be run, one by one where samples must not share a batch, and what was found.

    The fit samples are run only where no others are held out: statistics on disk may stand for them.
    """
    held_out = (each for each in (sets.select, sets.report) if len(each) > 1)
    found = check_independence(session, next(held_out, sets.fit))
    return (sets if found.independent else sets.one_by_one()), found


def check_independence(session: Session, samples: SampleSet) -> Independence:
    """Runs two samples together and each alone, and compares what the model says of them, row for row.

    A batch may be baked into a model, samples may be normalized by one another, or axis 0 may be another axis than
    that of samples: time, say, which names of axes tell too. There is nothing to find out where samples are complete
    feeds, the model fixes their number, no two go together, or they are run one by one as it is.

    Args:
        session: The model.
        samples: Some of which are run.

    Raises:
        InputError: A sample cannot be read.
    """
    source = samples.source
    if source.complete or source.fixed_batch is not None:
        return Independence()
    named = _time_first([spec for spec in source.specs if spec.name not in source.repeated])
    if named is not None:
        return Independence(False, named)
    pair = _pair(samples) if samples.batch_size > 1 else None
    if pair is None:
        return Independence()
    together, feeds = pair
    try:
        alone = [session.run(feed) for feed in feeds]
    except InputError:
        return Independence()  # what is wrong with the samples is said where they are run
    try:
        joined = session.run(together)
    except InputError:
        return Independence(False, "two samples together cannot be run: the model has a batch size baked in")
    why = _difference(session, joined, alone)
    if why is not None and _draws_random_numbers(session, feeds[0], alone[0]):
        why = None
    return Independence(why is None, why or "")


def _pair(samples: SampleSet) -> tuple[Batch, list[Batch]] | None:
    """Two samples in one batch, and each in its own: the first that differ in what they hold, if any do."""
    source, found = samples.source, None
    for indices, batch in source.batches(samples.indices[:_LOOKED_AT], 2):
        if len(indices) < 2:
            continue
        feeds = [source.read(index) for index in indices]
        found = found or (batch, feeds)
        if digest(feeds[0]) != digest(feeds[1]):
            return batch, feeds
    return found


def _difference(session: Session, joined: Sequence[Any], alone: Sequence[Sequence[Any]]) -> str | None:
    """The first output that says something else of two samples than of each, and in what; None for none.

    Whole numbers are looked at only where there is nothing finer: an argmax may fall either way.
    """
    outputs = zip(session.outputs, joined, *alone, strict=True)
    arrays = [(name, y, a, b) for name, y, a, b in outputs if all(isinstance(each, np.ndarray) for each in (y, a, b))]
    varying = [(name, y, a, b) for name, y, a, b in arrays if not (np.array_equal(y, a) and np.array_equal(y, b))]
    for name, y, a, b in varying:
        if not y.ndim or len(y) != 2 or any(_sizes(row) != _sizes(y[0]) for row in (a, b)):
            shapes = " and ".join(map(_shape, dict.fromkeys((a.shape, b.shape))))
            return f"output {name!r} is {_shape(y.shape)} for two samples and {shapes} for one: it has no row for each"
    exact = all(y.dtype.kind != "f" for _, y, *_ in varying)
    for name, y, a, b in varying:
        rows = np.stack([a.reshape(y.shape[1:]), b.reshape(y.shape[1:])])
        if (exact or y.dtype.kind == "f") and not _same(y, rows, session):
            return (
                f"samples influence each other: output {name!r} says something else where two are run together "
                "(normalized or quantized by what else is there, or axis 0 is not that of samples)"
            )
    return None


def _draws_random_numbers(session: Session, feed: Batch, outputs: Sequence[Any]) -> bool:
    """Whether the model gives other outputs for the same sample again."""
    pairs = zip(outputs, session.run(feed), strict=True)
    arrays = [(one, two) for one, two in pairs if isinstance(one, np.ndarray)]
    return not all(one.shape == two.shape and _same(one, two, session) for one, two in arrays)


def _same(one: NDArray[Any], two: NDArray[Any], session: Session) -> bool:
    """Whether two arrays of one shape agree as far as two runs of the same thing do."""
    if one.dtype.kind != "f":
        return bool(np.sum(one != two) <= _NEAR_TIES * one.size)
    if not np.array_equal(np.isfinite(one), np.isfinite(two)):
        return False
    finite = np.isfinite(one)
    a, b = (each[finite].astype(np.float64) for each in (one, two))
    exact = session.provider == "CPUExecutionProvider" and one.dtype.itemsize > 2
    size = np.abs(b).max(initial=0.0)
    return bool(np.abs(a - b).max(initial=0.0) <= (_CLOSE if exact else _CLOSE_IN_HALF) * size)


def _time_first(specs: Sequence[InputSpec]) -> str | None:
    """The input whose axes are called time first and batch later, as a sentence; None where there is none."""
    for spec in specs:
        first, *later = [(name or "").lower() for name in spec.axes] or [""]
        if _TIME.search(first) and not _BATCH.search(first) and any(map(_BATCH.search, later)):
            sizes = zip(spec.axes, spec.shape or (), strict=False)
            listed = ", ".join(name or str(length or "?") for name, length in sizes)
            return (
                f"axis 0 of input {spec.name!r} [{listed}] does not count samples (give complete feeds, arrays with "
                "one axis more than the inputs)"
            )
    return None


def _sizes(array: NDArray[Any]) -> list[int]:
    """The shape without axes of length one, which may come and go with an axis of samples."""
    return [length for length in array.shape if length != 1]


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
