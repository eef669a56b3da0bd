"""Convolutions: the image's gradient by the transposed operator, the kernel's by products of the image with g."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnx_dalr.gradient.emit import PathEndsError, Tensor
from onnx_dalr.gradient.rules.matrix import product
from onnx_dalr.gradient.rules.windows import Windows, windows_of
from onnx_dalr.gradient.step import Found, Step, rule


@rule("Conv")
def conv(step: Step) -> Found:
    """Of the image, the kernel and the shift."""
    x, kernel, g = step.x, step.input(1), step.g
    windows, groups = windows_of(step, (kernel.dims or ())[2:], x), step.attribute("group", 1)
    return step.each(
        lambda step: overlaid(g, kernel, windows, groups, x),
        lambda step: correlated(x, g, windows, groups, kernel, step.y),
        lambda step: per_channel(g),
    )


@rule("ConvTranspose")
def conv_transpose(step: Step) -> Found:
    """A Conv back: the roles of image and gradient are exchanged."""
    x, kernel, g, groups = step.x, step.input(1), step.g, step.attribute("group", 1)
    if step.attribute("output_shape") or step.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise PathEndsError("its padding depends on sizes not known before the run")
    windows = windows_of(step, (kernel.dims or ())[2:], x)
    if any(more >= by for more, by in zip(step.attribute("output_padding", []), windows.strides, strict=False)):
        raise PathEndsError("its output_padding is not below its stride")
    options = {"strides": windows.strides, "dilations": windows.dilations, "pads": windows.pads, "group": groups}
    return step.each(
        lambda step: g.op("Conv", kernel, **options),
        lambda step: correlated(g, x, windows, groups, kernel, x),
        lambda step: per_channel(g),
    )


def per_channel(g: Tensor) -> Tensor:
    """Summed over samples and positions."""
    return g.reshape([0, 0, -1]).sum([0, 2], keep=False)


def overlaid(g: Tensor, kernel: Tensor, windows: Windows, groups: int, like: Tensor) -> Tensor:
    """Kernels laid over each other at their windows, each times its element of g, in the shape of an image.

    Behind the last window a stride may leave up to stride − 1 elements, which `output_padding` brings back as zeros.
    Where the image's size is not known, it brings back all that there can be, and what is too much is cut off.
    """
    options = {"strides": windows.strides, "dilations": windows.dilations, "group": groups}
    sizes = like.dims[2:] if like.dims is not None else [None] * len(windows.kernel)
    rest, after, loose = [], list(windows.after), []
    for axis, (size, stride, span) in enumerate(zip(sizes, windows.strides, windows.spans, strict=True)):
        if size is not None:
            rest.append((size + windows.before[axis] + windows.after[axis] - span) % stride)
        else:
            rest.append(stride - 1)
        if size is None and stride > 1:
            loose.append(axis)
            after[axis] = 0
    image = g.op("ConvTranspose", kernel, pads=[*windows.before, *after], output_padding=rest, **options)
    for axis in loose:
        image = image.slice([0], like.length(2 + axis), [2 + axis])
    return image


def correlated(image: Tensor, g: Tensor, windows: Windows, groups: int, kernel: Tensor, positions: Tensor) -> Tensor:
    """Of each tap: Σ over samples and windows of g × the image under the tap. [out, in/groups, taps].

    Args:
        image: What the windows lie over.
        g: One value for each window.
        windows: Where they lie.
        groups: Of channels.
        kernel: Whose gradient it is.
        positions: A tensor of as many positions as there are windows, whose sizes may be known.
    """
    taps, channels = math.prod(windows.kernel), None if kernel.dims is None else kernel.dims[1]
    wide = channels is not None and taps <= min(2 * channels, _MOST_PRODUCTS)
    if groups == 1 and wide and g.tape.opset >= _SLICES_BY_TENSORS:
        return by_tap(image, g, windows, positions)
    return by_convolution(image, g, windows, groups)


_MOST_PRODUCTS = 64
_SLICES_BY_TENSORS = 10  # the opset since which


def by_tap(image: Tensor, g: Tensor, windows: Windows, positions: Tensor) -> Tensor:
    """One product of matrices a tap, [out, windows of all samples] × [in, what the tap sees of the image].

    A convolution with a kernel as large as an image is a product too, but one with as few columns as there are taps.
    """
    axes = [2 + axis for axis in range(len(windows.kernel))]
    x = image.transpose([1, 0, *axes])
    if any(windows.pads):
        x = x.pad([0, 0, *windows.before, 0, 0, *windows.after])
    G, covered = g.transpose([1, 0, *axes]).reshape([0, -1]), spanned(windows, positions)
    taps = []
    for tap in np.ndindex(windows.kernel):
        starts = [at * by for at, by in zip(tap, windows.dilations, strict=True)]
        ends = (
            g.tape.constant(starts) + covered
            if isinstance(covered, Tensor)
            else [start + span for start, span in zip(starts, covered, strict=True)]
        )
        strides = windows.strides if set(windows.strides) != {1} else None
        taps.append(product(G, x.slice(starts, ends, axes, strides).reshape([0, -1]), trans_b=1).unsqueeze([2]))
    joined = g.tape.concat(taps, axis=2)
    return joined.reshape([0, 0, *windows.kernel])


def spanned(windows: Windows, positions: Tensor) -> Sequence[int] | Tensor:
    """By spatial axis: from where one tap lies in the first window to where it lies in the last, both counted."""
    count = len(windows.kernel)
    sizes = [None] * count if positions.dims is None else positions.dims[2:]
    known = [size for size in sizes if size is not None]
    if len(known) == count:
        return [(size - 1) * stride + 1 for size, stride in zip(known, windows.strides, strict=True)]
    tape = positions.tape
    return (positions.shape.slice([2], [2 + count], [0]) - 1) * tape.constant(list(windows.strides)) + 1


def by_convolution(image: Tensor, g: Tensor, windows: Windows, groups: int) -> Tensor:
    """A convolution of the image with g: samples take the place of channels, strides and dilations exchange theirs."""
    tape, space = g.tape, range(len(windows.kernel))
    x = image.transpose([1, 0, *(2 + axis for axis in space)])
    if groups > 1:  # [samples, groups·in, …] becomes [in, groups·samples, …]
        positions = [image.length(2 + axis) for axis in space]
        apart = image.reshape(tape.concat([tape.constant([0, groups, -1]), *positions]))
        moved = apart.transpose([2, 1, 0, *(3 + axis for axis in space)])
        x = moved.reshape(tape.concat([moved.shape.slice([0], [1], [0]), tape.constant([-1]), *positions]))
    taps = x.op(
        "Conv",
        g.transpose([1, 0, *(2 + axis for axis in space)]),
        strides=windows.dilations,
        dilations=windows.strides,
        pads=windows.pads,
        group=groups,
    )
    axes = [2 + axis for axis in space]
    taps = taps.slice([0] * len(axes), list(windows.kernel), axes)  # a stride may leave room for more
    return taps.transpose([1, 0, *axes])
