"""What a plan is made of: the decision for each layer, and the points of the search that led to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnx_dalr.errors import NothingToGainError
from onnx_dalr.factorize.form import Form

REFUSED = "would not make it smaller"
"""In the reason of a layer that stays as it is though a form was asked for."""


def refused(form: Form, largest: int) -> str:
    """Why a layer stays as it is though a form was asked for; `largest` is the largest rank it could have."""
    if form.is_rank:
        return f"rank {form.brief} {REFUSED}: {largest} is the largest"
    return f"{form} {REFUSED}"


@dataclass(frozen=True)
class Choice:
    """The decision for one Layer.

    Attributes:
        layer: Its name.
        form: What it becomes.
        reason: Why, in plain words.
        expected_error: √(Σ‖y−ŷ‖² / Σ‖y‖²) of the layer's output to expect in this form on unseen rows; None where it
            stays as it is or is not known.
        expected_distortion: What compressing this layer alone is expected to do to the network's output, in the task's
            unit (KL, 1 − cosine or squared error), by its output metric; None without one.
        largest_rank: The largest rank that makes the layer smaller; None where it is not known.
    """

    layer: str
    form: Form
    reason: str
    expected_error: float | None = None
    expected_distortion: float | None = None
    largest_rank: int | None = None


@dataclass(frozen=True)
class Point:
    """One whole model that was scored on the select samples: a point of the curve of size against quality.

    Attributes:
        allocation: How its forms were chosen.
        params: Numbers it computes with, in whatever format.
        bytes: Its size on disk.
        drop: Score lost against the original, as a fraction; infinite where outputs are not finite.
        error: Of the worst output.
        distortion: How far the outputs moved: KL, 1 − cosine or squared error, as the task is.
        chosen: It is the plan.
    """

    allocation: str
    params: int
    bytes: int
    drop: float
    error: float
    distortion: float
    chosen: bool = False


def compressed_of(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    """The choices that change their layer.

    Raises:
        NothingToGainError: All layers stay as they are.
    """
    given = tuple(choices)
    compressed = tuple(choice for choice in given if not choice.form.untouched)
    if not compressed:
        reasons = list(dict.fromkeys(choice.reason for choice in given))
        shown = "; ".join(reasons[:2]) + ("; …" if len(reasons) > 2 else "")
        raise NothingToGainError(f"nothing to gain: every layer stays dense ({shown})", "ask for a smaller model")
    return compressed
