"""What a student of tools/lrdkt_transfer.py can learn from: each term of LRDKT, all of them, and ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.samples.masks import Kept
from onnx_dalr.tune.losses import Divergence
from onnx_dalr.tune.terms import HINT, Term, hints

ANSWERED = "labels/answered"
"""The tensor that says which class it is: of a teacher the label, one-hot, of a student its probabilities."""

WARMTH = 5.0
"""T of LRDKT's soft labels."""


@dataclass(frozen=True)
class Way:
    """One loss: its terms count alike.

    Attributes:
        name: Of the row.
        labels: Cross-entropy with the labels.
        temperature: T of the divergence from the teacher's classes; 0: none.
        hints: Squared error of two inner responses, over their variance.
        ours: Hints of our choice where convolutions changed, and ten times what they count in LRDKT's.
        mixed: Mixtures of samples, where the case says so.
    """

    name: str
    labels: bool = False
    temperature: float = 0.0
    hints: bool = False
    ours: bool = False
    mixed: bool = False


LABELS_ONLY, LABELS_MIXED, SOFT, HINTS_ONLY = "labels", "labels, mixed", "soft, T = 5", "hints"
RECIPE, UNLABELLED, PLAIN, OURS = "labels + soft + hints", "soft + hints", "soft, T = 1", "ours"

WAYS: dict[str, Way] = {
    way.name: way
    for way in (
        Way(LABELS_ONLY, labels=True),
        Way(LABELS_MIXED, labels=True, mixed=True),
        Way(SOFT, temperature=WARMTH),
        Way(HINTS_ONLY, hints=True),
        Way(RECIPE, labels=True, temperature=WARMTH, hints=True),
        Way(UNLABELLED, temperature=WARMTH, hints=True),
        Way(PLAIN, temperature=1.0),
        Way(OURS, temperature=1.0, ours=True, mixed=True),
    )
}


def terms(way: Way, logits: str, two: Sequence[str], own: Sequence[str]) -> list[Term]:
    """What is learned.

    Args:
        way: The loss.
        logits: The output, classes on its last axis.
        two: The inner responses of LRDKT's hints.
        own: Those of ours.
    """
    made = [Term(ANSWERED, Divergence(1, "probabilities"), of_answered)] if way.labels else []
    if way.temperature:
        made.append(Term(logits, Divergence(1, "logits", way.temperature), of_samples))
    if way.hints:
        made += hints(two, 1.0)
    if way.ours:
        made += hints(own, HINT)
    return made


def of_samples(t: NDArray[Any], samples: int, kept: Kept | None) -> NDArray[np.float32]:
    """Every sample counts alike."""
    del kept
    return np.full((len(t), 1), 1 / samples, np.float32)


def of_answered(t: NDArray[Any], samples: int, kept: Kept | None) -> NDArray[np.float32]:
    """Samples that have a label count, alike."""
    del kept
    return np.asarray((t.sum(axis=1, keepdims=True) > 0) / samples, np.float32)
