"""What a plan is made of: the decision for each layer, and the points of the search that led to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnx_dalr.errors import NothingToGainError

REFUSED = "would not make it smaller"
"""In the reason of a layer that stays dense though a rank was asked for."""


@dataclass(frozen=True)
class Choice:
    """The decision for one Layer.

    Attributes:
        layer: Its name.
        rank: The rank, or None to keep it dense.
        reason: Why, in plain words.
        expected_error: √(Σ‖y−ŷ‖² / Σ‖y‖²) of the layer's output to expect at this rank on unseen rows; None where it
            stays dense or is not known.
        expected_distortion: What compressing this layer alone is expected to do to the network's output, in the task's
            unit (KL, 1 − cosine or squared error), by its output metric; None without one.
        largest_rank: The largest rank that makes the layer smaller; None where it is not known.
    """

    layer: str
    rank: int | None
    reason: str
    expected_error: float | None = None
    expected_distortion: float | None = None
    largest_rank: int | None = None


@dataclass(frozen=True)
class Point:
    """One whole model that was scored on the select samples: a point of the curve of size against quality.

    Attributes:
        allocation: How its ranks were chosen.
        params: Its floating constants.
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
    """The choices that get a rank.

    Raises:
        NothingToGainError: All layers stay dense.
    """
    given = tuple(choices)
    compressed = tuple(choice for choice in given if choice.rank is not None)
    if not compressed:
        reasons = list(dict.fromkeys(choice.reason for choice in given))
        shown = "; ".join(reasons[:2]) + ("; …" if len(reasons) > 2 else "")
        raise NothingToGainError(f"nothing to gain: every layer stays dense ({shown})", "ask for a smaller model")
    return compressed
