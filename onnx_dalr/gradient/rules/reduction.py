"""Operators that reduce axes: the gradient is spread over what was reduced."""

from __future__ import annotations

from onnx_dalr.gradient.emit import PathEndsError, Tensor
from onnx_dalr.gradient.step import Found, Step, rule


def unreduced(step: Step) -> tuple[Tensor, Tensor]:
    """The output and its gradient, with axes of size 1 where they were reduced.

    Raises:
        PathEndsError: The operator may have left its input as it is.
    """
    axes = step.integers("axes", 1)
    if step.attribute("noop_with_empty_axes", 0) and not axes:
        raise PathEndsError("it may leave its input as it is")
    if step.attribute("keepdims", 1) or axes is None or (not isinstance(axes, Tensor) and not axes):
        return step.y, step.g  # a reduction to a scalar broadcasts as it is
    return step.y.unsqueeze(axes), step.g.unsqueeze(axes)


def share(step: Step) -> Tensor:
    """The number of elements that each element of the output was made of, in the gradient's type."""
    return (step.x.size / step.y.size).to(step.g.kind)


@rule("ReduceSum")
def reduce_sum(step: Step) -> Found:
    """To each element."""
    _, g = unreduced(step)
    return [g.expand(step.x.shape)]


@rule("ReduceMean", "GlobalAveragePool")
def reduce_mean(step: Step) -> Found:
    """An equal share to each element."""
    _, g = unreduced(step)
    return [(g / share(step)).expand(step.x.shape)]


@rule("ReduceSumSquare")
def reduce_sum_square(step: Step) -> Found:
    """Times 2x."""
    _, g = unreduced(step)
    return [2 * step.x * g]


@rule("ReduceL1")
def reduce_l1(step: Step) -> Found:
    """Times the sign of x."""
    _, g = unreduced(step)
    return [step.x.op("Sign") * g]


@rule("ReduceL2")
def reduce_l2(step: Step) -> Found:
    """Times x/y; nothing at the origin."""
    y, g = unreduced(step)
    return [y.equals(0.0).where(0.0, g / y) * step.x]


@rule("ReduceLogSum")
def reduce_log_sum(step: Step) -> Found:
    """Of y = log Σx: times exp(−y)."""
    y, g = unreduced(step)
    return [(g * (-y).op("Exp")).expand(step.x.shape)]


@rule("ReduceLogSumExp")
def reduce_log_sum_exp(step: Step) -> Found:
    """Of y = log Σeˣ: times exp(x − y)."""
    y, g = unreduced(step)
    return [g * (step.x - y).op("Exp")]


@rule("ReduceMax", "ReduceMin")
def reduce_extreme(step: Step) -> Found:
    """To the extreme element; in equal parts where several are."""
    y, g = unreduced(step)
    hits = step.x.equals(y).to(g.kind)
    axes = step.integers("axes", 1) or None
    if isinstance(axes, Tensor) and step.opset < 13:
        raise PathEndsError("its axes are known only at run time")
    return [hits * (g / hits.sum(axes))]


@rule("GlobalMaxPool")
def global_max(step: Step) -> Found:
    """To the largest elements of each channel, in equal parts where several are."""
    hits = step.x.equals(step.y).to(step.g.kind)
    return [hits * (step.g / hits.sum(range(2, step.x.rank)))]
