"""What rows of values look like: probabilities, class scores, directions; and where the channels of a map are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_dalr.quality.measures.base import Float64
from onnx_dalr.quality.measures.classes import Encoding, probabilities

_FEWEST_ROWS = 8  # from which the spread of logits says something
_MOST_LOGIT = 100.0
_HELD = 0.5  # times what the mean of a row of independent values moves, up to which training has held it
_ALONE = 1.5  # standard deviations that the best of a row stands above the second, in the middle of the rows


def are_probabilities(rows: Float64) -> bool:
    """Whether rows are non-negative and sum to 1."""
    return len(rows) > 0 and bool((rows >= 0).all() and np.allclose(rows.sum(axis=-1), 1, atol=1e-3))


def are_log_probabilities(rows: Float64) -> bool:
    """Whether rows are what LogSoftmax makes."""
    return len(rows) > 0 and bool((rows <= 0).all() and np.allclose(np.exp(rows).sum(axis=-1), 1, atol=1e-3))


def normal_encoding(rows: Float64) -> Encoding | None:
    """What stands for classes, where a softmax made it."""
    return "probabilities" if are_probabilities(rows) else "logits" if are_log_probabilities(rows) else None


def unit_rows(rows: Float64) -> bool:
    """Whether rows are of length 1."""
    return len(rows) > 0 and bool(np.allclose(np.linalg.norm(rows, axis=-1), 1, atol=1e-3))


def look_like_logits(rows: Float64) -> bool:
    """Whether a softmax turns rows into what a trained classifier says: sure, but not of one and the same class.

    Quantities fail in one of these ways: their softmax is nearly even, or the same column is always the largest, or
    columns differ by more than rows do, or the rows move up and down as a whole, or nothing shows that a softmax was
    trained on them.
    """
    count, width = rows.shape
    if count < _FEWEST_ROWS or np.abs(rows).max(initial=0) > _MOST_LOGIT:
        return False
    p = probabilities(rows, "logits")
    top = np.bincount(p.argmax(axis=-1), minlength=width) / count
    within = rows - rows.mean(axis=-1, keepdims=True)
    spread = float(within.std())
    offsets = float(within.mean(axis=0).std())
    return (
        float(p.max(axis=-1).mean()) >= (0.6 if width == 2 else 0.4)
        and float(top.max()) < 0.9
        and sway(rows) < 0.4
        and offsets < 0.8 * spread
        and _were_trained(rows)
    )


def look_like_dense_logits(rows: Float64) -> bool:
    """As for one answer a sample, but background may be nearly all there is, and biases set classes apart."""
    if len(rows) < _FEWEST_ROWS or np.abs(rows).max(initial=0) > _MOST_LOGIT:
        return False
    p = probabilities(rows, "logits")
    top, sure = p.argmax(axis=-1), p.max(axis=-1)
    others = top != np.bincount(top).argmax()
    return (
        bool(others.any())
        and float(sure.mean()) >= 0.8
        and float(sure[others].mean()) >= 0.5  # an outlying channel of hidden states is the largest nearly always
        and sway(rows) < 0.25
        and _were_trained(rows)
    )


def sway(rows: Float64) -> float:
    """How much rows move as a whole, against what moves inside them."""
    within = float((rows - rows.mean(axis=-1, keepdims=True)).std()) if len(rows) else 0.0
    return float(rows.mean(axis=-1).std()) / within if within else np.inf


def _were_trained(rows: Float64) -> bool:
    """Whether rows show that a softmax was trained on them: features of no meaning to it may be as large.

    The gradient of its loss sums to zero over the classes, so that training leaves the mean of a row where it began,
    while the scores grow apart; the means of independent values go on moving by 1/√(classes − 1) of what they spread.
    Where scores were not held so, by a decay of weights that favours some say, the answer stands out of its row.
    """
    if sway(rows) * np.sqrt(rows.shape[-1] - 1) < _HELD:
        return True
    second, best = np.partition(rows, -2, axis=-1)[:, -2:].T
    return float(np.median(best - second)) >= _ALONE * float((rows - rows.mean(axis=-1, keepdims=True)).std())


def map_channels(shape: Sequence[int]) -> int:
    """The axis of the channels of maps, [samples, channels, height, width] or [samples, height, width, channels].

    Height and width are alike more often than not; else they are the longer axes.
    """
    last, middle = len(shape) - 1, shape[1:-1]
    if len(set(shape[2:])) == 1:
        return 1
    if len(set(middle)) == 1:
        return last
    return 1 if shape[1] <= min(shape[2:]) or shape[-1] >= min(middle) else last
