"""Whole numbers made floats again: y = (q − z)·s has no gradient at q, and Σ g·(q − z) at s."""

from __future__ import annotations

from onnx_dalr.gradient.emit import PathEndsError, Tensor
from onnx_dalr.gradient.step import Found, Step, rule


@rule("DequantizeLinear")
def dequantize(step: Step) -> Found:
    """Of the scale: y/s is q − z, without looking at either."""
    if step.attribute("block_size", 0):
        raise PathEndsError("no rule for scales by blocks")
    scale = step.input(1)
    if scale.dims is None:
        raise PathEndsError("how many scales there are is not known before the run")
    return [None, _of_scale(step, scale) if 1 in step.wanted else None]


def _of_scale(step: Step, scale: Tensor) -> Tensor:
    """One for all, or one for each place on an axis."""
    if not scale.rank or scale.dims == (1,):
        return (step.g * (step.y / scale)).sum(keep=False).reshape(scale.shape)
    axis = step.y.axis(step.attribute("axis", 1))
    others = [other for other in range(step.y.rank) if other != axis]
    laid = scale.reshape([-1 if other == axis else 1 for other in range(step.y.rank)])
    return (step.g * (step.y / laid)).sum(others, keep=False)
