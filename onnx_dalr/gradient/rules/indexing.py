"""Operators that pick elements by index: gradients of all picks of an element are summed."""

from __future__ import annotations

from onnx_dalr.gradient.emit import INT64, PathEndsError, Tensor
from onnx_dalr.gradient.step import Found, Step, rule

ADDING = 16  # the opset from which on scatters can add up


@rule("Gather")
def gather(step: Step) -> Found:
    """With axes before and after the picked one in one: g [before, picks, after] adds up in [before, size, after]."""
    x, axis, tape = step.x, step.attribute("axis", 0), step.tape
    axis = x.axis(axis) if axis < 0 else axis
    index = step.input(1).to(INT64).reshape([-1])
    before = x.shape.slice([0], [axis], [0]).op("ReduceProd", keepdims=1) if axis else tape.constant([1])
    g = step.g.reshape(tape.concat([before, index.shape, tape.constant([-1])]))
    if step.opset < ADDING:
        hits = one_hot(index, x.length(axis)).to(g.kind)
        return [(hits.transpose([1, 0]) @ g).reshape(x.shape)]
    after = g.length(2)
    empty = tape.constant(0.0, g.kind).expand(tape.concat([before, x.length(axis), after]))
    return [added(empty, index.unsqueeze([0, 2]).expand(g.shape), g, 1).reshape(x.shape)]


def one_hot(index: Tensor, depth: Tensor) -> Tensor:
    """A 1 in each row of [picks, depth]."""
    values = index.tape.constant([0, 1]).to(1)
    return index.op("OneHot", depth, values, kind=values.kind)


def added(base: Tensor, index: Tensor, updates: Tensor, axis: int) -> Tensor:
    """Base with updates added at their indices along an axis.

    Raises:
        PathEndsError: The opset is too old.
    """
    if base.tape.opset < ADDING:
        raise PathEndsError(f"opset {base.tape.opset} cannot add up by index (opset {ADDING} can)")
    return base.op("ScatterElements", index, updates, axis=axis, reduction="add")


@rule("GatherElements")
def gather_elements(step: Step) -> Found:
    """Added up where they were picked."""
    return [added(step.x.zeros(), step.input(1), step.g, step.attribute("axis", 0))]


@rule("GatherND")
def gather_nd(step: Step) -> Found:
    """Added up where they were picked."""
    if step.attribute("batch_dims", 0) or step.opset < ADDING:
        raise PathEndsError(f"only without batch_dims, from opset {ADDING} on")
    return [step.x.zeros().op("ScatterND", step.input(1), step.g, reduction="add")]


@rule("TopK", all_outputs=True)
def top_k(step: Step) -> Found:
    """No element is picked twice."""
    index = step.outputs[1]
    if index is None:
        raise PathEndsError("its indices have no name")
    if step.opset < 11:
        raise PathEndsError(f"opset {step.opset} has no ScatterElements")
    return [step.x.zeros().op("ScatterElements", index, step.g, axis=step.attribute("axis", -1))]


@rule("ScatterElements", "ScatterND")
def scatter(step: Step) -> Found:
    """What was replaced gets nothing; the updates get what is read where they were put."""
    reduction, axis = step.attribute("reduction", "none"), step.attribute("axis", 0)
    if reduction not in ("none", "add"):
        raise PathEndsError(f"no rule for reduction {reduction}")
    g, index, updates = step.g, step.input(1), step.input(2)
    nd = step.node.op_type == "ScatterND"
    options = {} if nd else {"axis": axis}
    kept = g if reduction == "add" else g.op(step.node.op_type, index, updates.zeros(), **options)
    return [kept, None, g.op("GatherND" if nd else "GatherElements", index, **options)]
