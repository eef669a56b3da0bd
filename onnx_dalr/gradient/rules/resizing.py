"""Resized images: along each axis a resize is a matrix R, x R, and the gradient is g Rᵀ."""

from __future__ import annotations

import numpy as np

from onnx_dalr.gradient.emit import FLOAT, PathEndsError, Tensor
from onnx_dalr.gradient.step import Found, Step, rule

_LIKE_IT = ("mode", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "nearest_mode", "antialias")


@rule("Resize", "Upsample")
def resize(step: Step) -> Found:
    """R is what the operator makes of the identity: every mode that is linear and goes axis by axis is covered."""
    if step.attribute("axes") or step.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise PathEndsError("no rule for its axes or aspect ratio policy")
    if step.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise PathEndsError("no rule for tf_crop_and_resize")
    scales = step.value(scales_at(step)) if has_scales(step) else None
    if step.x.rank not in (3, 4) or (scales is not None and not np.allclose(scales[:2], 1)):
        raise PathEndsError("it does more than resize one or two axes after the second")
    g = step.g @ matrix(step, step.x.rank - 1).transpose([1, 0])
    return [matrix(step, 2) @ g if step.x.rank == 4 else g]


def scales_at(step: Step) -> int:
    """Which input holds scales; from opset 11 on it may be empty, and sizes follow."""
    return 1 if step.opset < 11 else 2


def has_scales(step: Step) -> bool:
    """Whether there are any."""
    return step.has(scales_at(step)) and step.input(scales_at(step)).dims != (0,)


def matrix(step: Step, axis: int) -> Tensor:
    """R of one axis, [in, out]: the operator applied along the last axis of [1, 1, in, in]."""
    tape, size = step.tape, step.x.length(axis)
    identity = tape.constant(0.0, step.g.kind).expand(tape.concat([size, size])).op("EyeLike").unsqueeze([0, 1])
    options = {name: step.attribute(name) for name in _LIKE_IT}
    inputs = list(step.inputs[1 : scales_at(step) + 1])  # a region that no mode here reads, and scales
    if has_scales(step):
        picked = step.input(scales_at(step)).op("Gather", tape.constant([axis]))
        inputs[-1] = tape.concat([tape.constant([1, 1, 1]).to(FLOAT), picked])
    else:
        inputs.append(tape.concat([tape.constant([1, 1]), size, step.y.length(axis)]))
    found = identity.op(step.node.op_type, *inputs, **options)
    return found.reshape(tape.concat([size, tape.constant([-1])]))
