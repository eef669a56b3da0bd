"""Which samples lost most: by what the score loses on each, then by how far their outputs moved."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_dalr.quality.figures import SampleLoss
from onnx_dalr.quality.measures import Sums
from onnx_dalr.quality.measures.base import Float64
from onnx_dalr.quality.task import Measured

_LOST, _MOVED = 1e-5, 1e-10
"""A loss and a distortion that are more than the last digits of float32: a relative error of 1e-5."""


@dataclass(frozen=True, eq=False)
class LostOn:
    """What one output lost, by sample.

    Attributes:
        output: Which, and how it is measured.
        sums: What was added up of it.
        losses: What is lost on each sample, [n].
    """

    output: Measured
    sums: Sums
    losses: Float64


def worst_samples(
    indices: Sequence[int], lost: Sequence[LostOn], own: Float64 | None, broken: Collection[int], count: int
) -> tuple[SampleLoss, ...]:
    """The samples that lost most, the worst first; none of those that did not move.

    Args:
        indices: Of all samples, [n], in the order they were run in.
        lost: By output that counts; one without a row per sample says nothing of samples.
        own: What the user's score loses on each, [n], in place of what the outputs do; None without.
        broken: Samples on which the new model is not finite: these come first.
        count: So many at most.
    """
    apart = [(one, one.sums.distortions()) for one in lost]
    apart = [(one, moved) for one, moved in apart if len(moved) == len(one.losses) == len(indices)]
    if not apart:
        return ()
    losses = np.stack([one.losses for one, _ in apart])  # [outputs, n]
    moved = np.stack([distortions for _, distortions in apart])
    most = np.lexsort((moved, losses), axis=0)[-1]  # [n], of the outputs the one that lost most
    every = np.arange(len(indices))
    loss = losses[most, every] if own is None else own
    distortion = moved.sum(axis=0)
    finite = np.array([index not in broken for index in indices])
    order = np.lexsort((-every, distortion, loss, ~finite))[::-1]
    answers = [one.sums.answers() for one, _ in apart]
    found = []
    for at in order[: max(count, 0)].tolist():
        if finite[at] and loss[at] <= _LOST and distortion[at] <= _MOVED:
            break
        said = answers[most[at]]
        found.append(
            SampleLoss(
                index=indices[at],
                output=apart[most[at]][0].output.name,
                loss=float(loss[at]),
                distortion=float(distortion[at]),
                answers=None if said is None else (said.before[at], said.after[at]),
                classes=said is not None and said.classes,
                finite=bool(finite[at]),
            )
        )
    return tuple(found)
