"""Operators that move elements: the gradient moves back, and repeats are summed."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_dalr.gradient.emit import Integers, PathEndsError, Tensor
from onnx_dalr.gradient.step import Found, Step, folded, rule


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def same_elements(step: Step) -> Found:
    """In the shape it had."""
    return [step.g.reshape(step.x.shape)]


@rule("Transpose")
def transpose(step: Step) -> Found:
    """In the order it had."""
    perm = step.attribute("perm")
    return [step.g.transpose(perm and [perm.index(axis) for axis in range(len(perm))])]


@rule("Expand")
def expand(step: Step) -> Found:
    """Summed over what was repeated."""
    return [step.fit(step.g, step.x, beside=[step.y])]


@rule("Tile")
def tile(step: Step) -> Found:
    """Summed over the copies."""
    return [folded(step.g, step.input(1), step.x.shape, step.x.rank).reshape(step.x.shape)]


@rule("Concat")
def concat(step: Step) -> Found:
    """Each input's part of g."""
    axis = step.attribute("axis", 1)
    if axis < 0 and step.opset < 11:
        axis = step.y.axis(axis)
    found: list[Tensor | None] = []
    start: int | Tensor = 0
    for position, part in enumerate(step.operands):
        end = start + part.dims[axis] if isinstance(start, int) and part.dims and part.dims[axis] else None
        if end is None:
            end = part.length(axis) + start
        found.append(step.g.slice(listed(start), listed(end), [axis]) if position in step.wanted else None)
        start = end
    return found


def listed(value: int | Tensor) -> Integers:
    """A number as a list of one."""
    return [value] if isinstance(value, int) else value


@rule("Split", all_outputs=True)
def split(step: Step) -> Found:
    """The parts together again, zeros for those that nobody read."""
    if not all(step.outputs):
        raise PathEndsError("one of its outputs has no name")
    parts = [g or y.zeros() for g, y in zip(step.gradients, step.outputs, strict=True) if y is not None]
    return [step.tape.concat(parts, step.attribute("axis", 0))]


@rule("Slice")
def slice_(step: Step) -> Found:
    """Zeros around g; first between its elements where some were left out, in reverse where they were taken so."""
    starts, axes, steps = (step.integers(name, at) for name, at in (("starts", 1), ("axes", 3), ("steps", 4)))
    assert starts is not None
    count = (starts.dims or (None,))[0] if isinstance(starts, Tensor) else len(starts)
    if isinstance(steps, Tensor) or count is None:
        raise PathEndsError("its steps are known only at run time")
    axes = list(range(count)) if axes is None else axes
    steps = steps or [1] * count
    if isinstance(axes, Tensor):
        raise PathEndsError("its axes are known only at run time")
    if set(steps) == {1} and (pads := known_pads(step.x, step.y, starts, axes)) is not None:
        return [step.g.pad(pads)]
    if step.opset < 11:
        raise PathEndsError(f"opset {step.opset} has no Pad of sizes known only at run time")
    before, spread = zeros_before(step, starts, axes, steps), spread_out(step, axes, steps)
    return [spread.pad(step.tape.concat([before, step.x.shape - before - spread.shape]))]


def zeros_before(step: Step, starts: Integers, axes: Sequence[int], steps: Sequence[int]) -> Tensor:
    """The first position that was taken, in the order of x, for every axis."""
    along = step.tape.constant(axes)
    start, sizes, taken = step.tape.vector(starts), step.x.shape.op("Gather", along), step.y.shape.op("Gather", along)
    last = sizes - step.tape.constant([int(by < 0) for by in steps])
    start = (start < 0).where(start + sizes, start)
    start = (start < 0).where(sizes * 0, (start > last).where(last, start))
    first = start + (taken - 1) * step.tape.constant([min(by, 0) for by in steps])
    return (step.x.shape * 0).op("ScatterElements", along, first, axis=0)


def known_pads(x: Tensor, y: Tensor, starts: Integers, axes: Sequence[int]) -> list[int] | None:
    """The zeros around a slice, where all is known."""
    if x.dims is None or y.dims is None or isinstance(starts, Tensor):
        return None
    before, after = [0] * x.rank, [0] * x.rank
    for start, axis in zip(starts, axes, strict=True):
        size, taken = x.dims[axis], y.dims[axis]
        if size is None or taken is None:
            return None
        before[axis] = min(max(start + size if start < 0 else start, 0), size)
        after[axis] = size - before[axis] - taken
    return before + after


def spread_out(step: Step, axes: Sequence[int], steps: Sequence[int]) -> Tensor:
    """G in the order of x, with zeros between its elements, and as many after the last."""
    g, shape = step.g, step.y.shape
    for axis, by in ((step.x.axis(axis), by) for axis, by in zip(axes, steps, strict=True) if by != 1):
        if by < 0:
            g = g.slice([-1], [-(2**62)], [axis], [-1])
        if by != -1:
            rank = step.x.rank
            pads = [0] * (2 * rank + 2)
            pads[rank + 1 + axis + 1] = abs(by) - 1
            shape = shape * step.tape.constant([abs(by) if other == axis else 1 for other in range(rank)])
            g = g.unsqueeze([axis + 1]).pad(pads).reshape(shape)
    return g


@rule("Pad")
def pad(step: Step) -> Found:
    """What was added is cut off, and what was cut off comes back as zeros."""
    if step.attribute("mode", "constant") != "constant":
        raise PathEndsError(f"no rule for mode {step.attribute('mode')}")
    pads = step.integers("pads", 1)
    assert pads is not None
    back = -pads if isinstance(pads, Tensor) else [-count for count in pads]
    if step.has(3):
        return [step.g.op("Pad", step.tape.vector(back), None, step.input(3))]
    return [step.g.pad(back)]


@rule("SpaceToDepth")
def space_to_depth(step: Step) -> Found:
    """DepthToSpace."""
    return [step.g.op("DepthToSpace", blocksize=step.attribute("blocksize"))]


@rule("DepthToSpace")
def depth_to_space(step: Step) -> Found:
    """SpaceToDepth puts the place in a block before the channel; mode CRD had it after."""
    block = step.attribute("blocksize")
    back = step.g.op("SpaceToDepth", blocksize=block)
    if step.attribute("mode", "DCR") == "CRD":
        height, width = step.x.length(2), step.x.length(3)
        apart = step.tape.concat([step.tape.constant([0, block * block, -1]), height, width])
        back = back.reshape(apart).transpose([0, 2, 1, 3, 4]).reshape(step.x.shape)
    return [back]


@rule("Trilu")
def trilu(step: Step) -> Found:
    """The triangle that the operator keeps, of g."""
    return [step.g.op("Trilu", *step.inputs[1:], upper=step.attribute("upper", 1))]


@rule("CumSum")
def cumulative_sum(step: Step) -> Found:
    """The sum of all that comes after, where it was of all before."""
    exclusive, reverse = step.attribute("exclusive", 0), step.attribute("reverse", 0)
    return [step.g.op("CumSum", step.input(1), exclusive=exclusive, reverse=1 - reverse)]
