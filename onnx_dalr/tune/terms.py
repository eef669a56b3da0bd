"""What is learned: terms of the loss, each a tensor of the student that is to say what the teacher's says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.quality.measures import Classes, Dense, Embedding, Measure, Numbers, as_output
from onnx_dalr.quality.padding import rows_kept, values_kept
from onnx_dalr.quality.task import Measured, Task
from onnx_dalr.samples.masks import Kept
from onnx_dalr.tune.losses import Binary, Divergence, Loss, Squares, Turning

HINT = 10.0
"""What a hint counts: the squared error of an inner response, relative to its variance (methods.md §10.2)."""

FAR_BELOW = 1e3
"""What does not count is said to be this far below all that does: of a class, no probability at any temperature."""


class Weigher(Protocol):
    """Says what each row of a tensor counts in a batch."""

    def __call__(self, t: NDArray[Any], samples: int, kept: Kept | None) -> NDArray[np.float32]:
        """Weights that broadcast to the tensor, so that the loss is a mean over the samples.

        Args:
            t: What the teacher says.
            samples: In the batch.
            kept: Which positions of the samples are real, [samples, length]; None where there is no mask.
        """
        ...


@dataclass(frozen=True, eq=False)
class Term:
    """One tensor, and what is lost where the student's differs from the teacher's.

    Attributes:
        tensor: Its name, the same in both.
        loss: How far they are apart.
        weigh: What its rows count.
    """

    tensor: str
    loss: Loss
    weigh: Weigher


def loss_of(measure: Measure, temperature: float = 1.0) -> Loss:
    """The loss that is the distortion of a measure; of class logits with a temperature."""
    if isinstance(measure, Dense) and measure.encoding == "sigmoid":
        return Binary()
    if isinstance(measure, Classes | Dense):
        assert measure.axis is not None
        if measure.encoding == "logits":
            return Divergence(measure.axis, "logits", temperature)
        return Divergence(measure.axis, "probabilities")
    if isinstance(measure, Embedding):
        assert measure.axis is not None
        return Turning(measure.axis)
    assert isinstance(measure, Numbers), measure
    return Squares()


def terms_of(task: Task) -> list[Term]:
    """The outputs that count and have gradients, by their measures: together the distortion that is reported."""
    return [Term(one.name, loss_of(one.measure), ByMeasure(one)) for one in task.seeded]


@dataclass(frozen=True)
class ByMeasure:
    """Rows of an output count as they do in the distortion of its measure.

    Attributes:
        one: The output.
    """

    one: Measured

    def __call__(self, t: NDArray[Any], samples: int, kept: Kept | None) -> NDArray[np.float32]:
        """See `Weigher`."""
        measure = self.one.measure
        count = self.one.samples(samples)
        if not t.ndim or len(t) != count:  # no row per sample: the batch counts as one
            samples, count = 1, None
        mask = values_kept(t.shape, kept, measure.channels) if self.one.padded and kept is not None else None
        counted = np.isfinite(t)  # a value that is infinite on purpose, a mask, has no size
        wide = stood_in(t.astype(np.float64), counted)
        if mask is not None and isinstance(measure, Classes):  # scores of positions: padding is never the answer
            counted, mask = counted & mask, None
        rows, real = measure.rows(wide, count), rows_kept(mask, measure.axis, count)
        each = [measure.importance(row, None if real is None else real[at]) for at, row in enumerate(rows)]
        weights = as_output(np.stack(each) / samples, measure.axis, t.shape)
        return np.asarray(weights if counted.all() else weights * counted, np.float32, order="C")


class ByVariance:
    """Values of an inner response count alike, relative to their variance over the first batch that is seen."""

    def __init__(self, share: float = HINT) -> None:
        """Takes what the term counts beside the others."""
        self._share, self._scale = share, 0.0

    def __call__(self, t: NDArray[Any], samples: int, kept: Kept | None) -> NDArray[np.float32]:
        """See `Weigher`."""
        del samples
        if self._scale == 0.0:
            self._scale = 1.0 / max(float(t.var(dtype=np.float64)), 1e-12)
        mask = values_kept(t.shape, kept, None) if kept is not None else None
        if mask is None:
            return np.full((1,) * t.ndim, self._share * self._scale / max(t.size, 1), np.float32)
        return np.asarray(mask * (self._share * self._scale / max(float(mask.sum()), 1.0)), np.float32)


def hints(tensors: Sequence[str], share: float = HINT) -> list[Term]:
    """Terms for inner responses."""
    return [Term(name, Squares(), ByVariance(share)) for name in tensors]


def targets(
    terms: Sequence[Term], said: Mapping[str, NDArray[Any]], samples: int, kept: Kept | None
) -> dict[str, NDArray[Any]]:
    """What is fed for the terms of one batch: what the teacher says and what its rows count, by name of the input."""
    fed: dict[str, NDArray[Any]] = {}
    for term in terms:
        t = np.asarray(said[term.tensor], np.float32, order="C")
        weights = term.weigh(t, samples, kept)
        fed[target_name(term.tensor)], fed[weight_name(term.tensor)] = stood_in(t, weights > 0), weights
    return fed


def stood_in(t: NDArray[Any], counted: NDArray[np.bool_]) -> NDArray[Any]:
    """What the teacher says, far below all of it where that does not count."""
    if counted.all():
        return t
    least = np.min(t, initial=0.0, where=np.isfinite(t) & counted) - FAR_BELOW
    return np.where(counted, t, np.asarray(least, t.dtype))


def target_name(tensor: str) -> str:
    """The input that takes what the teacher says of a tensor."""
    return f"{tensor}/target"


def weight_name(tensor: str) -> str:
    """The input that takes what rows of a tensor count."""
    return f"{tensor}/weight"
