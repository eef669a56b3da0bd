"""Pools: a mean spreads its gradient over its window, a maximum sends it to its arg max."""

from __future__ import annotations

import math
from dataclasses import replace

from onnx_dalr.gradient.emit import FLOAT, INT64, PathEndsError, Tensor
from onnx_dalr.gradient.rules.convolution import overlaid
from onnx_dalr.gradient.rules.indexing import ADDING
from onnx_dalr.gradient.rules.windows import Attributes, Windows, windows_of
from onnx_dalr.gradient.step import Found, Step, rule


@rule("AveragePool")
def average_pool(step: Step) -> Found:
    """Channels count as samples of one channel, and a kernel of ones lays each share over its window."""
    x, tape, windows = step.x, step.tape, windows_of(step, (), step.x)
    if step.attribute("ceil_mode", 0):  # room for a last window that the size leaves incomplete, perhaps unused
        more = tuple(after + by - 1 for after, by in zip(windows.after, windows.strides, strict=True))
        windows, x = replace(windows, after=more), replace(x, dims=None)
    share = step.g / members(step, windows)
    alone = [tape.constant([-1, 1]), *(share.length(2 + axis) for axis in range(len(windows.kernel)))]
    spread = overlaid(share.reshape(tape.concat(alone)), ones(step, windows), windows, 1, x)
    return [spread.reshape(x.shape)]


def members(step: Step, windows: Windows) -> Tensor | int:
    """How many elements each window's mean was taken of: all its taps, or those on the image."""
    ceil, space = step.attribute("ceil_mode", 0), range(len(windows.kernel))
    if step.attribute("count_include_pad", 0):
        if ceil:
            raise PathEndsError("no rule for ceil_mode with count_include_pad")
        return math.prod(windows.kernel)
    sizes = [step.tape.constant([1, 1]), *(step.x.length(2 + axis) for axis in space)]
    picture = step.tape.constant(1.0, step.g.kind).expand(step.tape.concat(sizes))
    options = {"strides": windows.strides, "dilations": windows.dilations, "pads": windows.pads}
    count = picture.op("Conv", ones(step, windows), **options)
    if ceil:
        for axis in space:
            count = count.slice([0], step.g.length(2 + axis), [2 + axis])
    return count


def ones(step: Step, windows: Windows) -> Tensor:
    """A kernel of them, from one channel to one."""
    return step.tape.constant(1.0, step.g.kind).expand([1, 1, *windows.kernel])


@rule("MaxPool")
def max_pool(step: Step) -> Found:
    """The operator itself tells the arg max of each window; a maximum of maxima, it goes axis by axis if need be."""
    if tiles(step):
        return [to_maxima(step, list(step.attribute("kernel_shape")))]
    stages: list[tuple[Attributes, int, int]] = []
    if step.opset >= ADDING:
        names = ("kernel_shape", "strides", "pads", "dilations", "auto_pad", "ceil_mode")
        stages = [({name: step.attribute(name) for name in names}, 0, 1)]
    else:
        windows = windows_of(step, (), step.x)
        for axis, (span, stride) in enumerate(zip(windows.spans, windows.strides, strict=True)):
            options = windows.along(axis) | {"ceil_mode": step.attribute("ceil_mode")}
            stages.append((options, 2 + axis, -(-span // stride)))
    images, found = [step.x], []
    for options, _, _ in stages:
        image, index = step.tape.ops("MaxPool", images[-1], kinds=[step.x.kind, INT64], **options)
        images.append(image)
        found.append(index)
    g = step.g
    for image, index, (_, axis, apart) in reversed(list(zip(images[:-1], found, stages, strict=True))):
        g = to_arg_max(image, index, g, axis, apart)
    return [g]


def tiles(step: Step) -> bool:
    """Whether its windows lie side by side and cover the image, as far as that is known."""
    kernel = list(step.attribute("kernel_shape"))
    sizes = [None] * len(kernel) if step.x.dims is None else step.x.dims[2:]
    return (
        step.opset >= _RESIZE_BY_SCALES_ALONE
        and step.x.kind == FLOAT
        and step.attribute("strides", [1] * len(kernel)) == kernel
        and not any(step.attribute("pads", []))
        and set(step.attribute("dilations", [1])) == {1}
        and all(size is not None and size % taps == 0 for size, taps in zip(sizes, kernel, strict=True))
    )


_RESIZE_BY_SCALES_ALONE = 13  # the opset since which


def to_maxima(step: Step, kernel: list[int]) -> Tensor:
    """G where x is what its window's maximum is, in equal parts where several are.

    Of tiles this takes a quarter of the time: ONNX Runtime is slow to tell where a maximum was.
    """
    scales = step.tape.constant([1, 1, *kernel], FLOAT)

    def laid(tensor: Tensor) -> Tensor:
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return tensor.op("Resize", None, scales, mode="nearest", **how)

    hits = step.x.equals(laid(step.y)).to(FLOAT)
    share = step.g / (hits.op("AveragePool", kernel_shape=kernel, strides=kernel) * math.prod(kernel))
    return hits * laid(share)


def to_arg_max(image: Tensor, index: Tensor, g: Tensor, axis: int, apart: int) -> Tensor:
    """Sums g over the windows at their arg max, an index into all of the image.

    Before scatters could add up, every `apart`-th window along the axis goes back by itself: these do not overlap.
    """
    nothing = g.tape.constant(0.0, g.kind).expand(image.size.reshape([1]))
    op = "ScatterElements" if g.tape.opset >= 11 else "Scatter"
    reduction = "add" if g.tape.opset >= ADDING else None
    total = None
    for first in range(apart):
        hits, values = (
            tensor.slice([first], [2**62], [axis], [apart]) if apart > 1 else tensor for tensor in (index, g)
        )
        part = nothing.op(op, hits.reshape([-1]), values.reshape([-1]), axis=0, reduction=reduction)
        total = part if total is None else total + part
    assert total is not None
    return total.reshape(image.shape)
