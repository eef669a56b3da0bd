"""Class scores before a softmax, told from quantities by what training does to them."""

from __future__ import annotations

import numpy as np

from onnx_dalr.graph.answers import OutputFacts
from onnx_dalr.quality.measures.base import Float64
from onnx_dalr.quality.measures.classes import probabilities

_FEWEST_ROWS = 8  # from which the spread of logits says something
_NO_LOGITS = {"Tanh", "Sigmoid", "HardSigmoid", "Relu", "Clip", "Softplus", "Exp", "LayerNormalization", "Sqrt", "Abs"}
_MOST_LOGIT = 100.0


def why_logits(facts: OutputFacts, rows: Float64) -> str:
    """Why rows are class scores; empty where they are not, or nothing says so."""
    if "logit" in facts.name.lower():
        return "it is called logits"
    return "a softmax makes plausible classes of them" if _look_like_logits(facts, rows) else ""


def _look_like_logits(facts: OutputFacts, rows: Float64) -> bool:
    """Whether a softmax turns rows into what a trained classifier says: sure, but not of one and the same class.

    Quantities fail in one of these ways: their softmax is nearly even, or the same column is always the largest, or
    columns differ by more than rows do, or the rows move up and down as a whole. (The gradient of a softmax's loss
    sums to zero over the classes, so that training leaves the mean of a row where it began.)
    """
    count, width = rows.shape
    if count < _FEWEST_ROWS or facts.makers & _NO_LOGITS or np.abs(rows).max(initial=0) > _MOST_LOGIT:
        return False
    p = probabilities(rows, "logits")
    top = np.bincount(p.argmax(axis=-1), minlength=width) / count
    within = rows - rows.mean(axis=-1, keepdims=True)
    spread = float(within.std())
    offsets = float(within.mean(axis=0).std())
    return (
        float(p.max(axis=-1).mean()) >= (0.6 if width == 2 else 0.4)
        and float(top.max()) < 0.9
        and float(rows.mean(axis=-1).std()) < 0.4 * spread
        and offsets < 0.8 * spread
    )


def look_like_dense_logits(facts: OutputFacts, rows: Float64) -> bool:
    """As for one answer a sample, but background may be nearly all there is, and biases set classes apart."""
    if len(rows) < _FEWEST_ROWS or facts.makers & _NO_LOGITS or np.abs(rows).max(initial=0) > _MOST_LOGIT:
        return False
    p = probabilities(rows, "logits")
    within = rows - rows.mean(axis=-1, keepdims=True)
    several = len(np.unique(p.argmax(axis=-1))) >= 2
    moving = float(rows.mean(axis=-1).std()) < 0.25 * float(within.std())
    return several and moving and float(p.max(axis=-1).mean()) >= 0.8
