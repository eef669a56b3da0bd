"""Softmax and its kin, and layers that normalize: closed forms."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_dalr.gradient.emit import DOUBLE, FLOAT, PathEndsError, Tensor
from onnx_dalr.gradient.step import Found, Step, rule


def along(step: Step) -> tuple[Tensor, Tensor, int]:
    """y, g and the axis; before opset 13 all axes from the given one on count as one."""
    if step.opset >= 13:
        return step.y, step.g, step.attribute("axis", -1)
    axis = step.attribute("axis", 1)
    return step.y.op("Flatten", axis=axis), step.g.op("Flatten", axis=axis), 1


@rule("Softmax")
def softmax(step: Step) -> Found:
    """Of y: y·(g − Σ g·y)."""
    y, g, axis = along(step)
    found = y * (g - (g * y).sum([axis]))
    return [found if step.opset >= 13 else found.reshape(step.x.shape)]


@rule("LogSoftmax")
def log_softmax(step: Step) -> Found:
    """Of y = log p: g − p·Σ g."""
    y, g, axis = along(step)
    found = g - y.op("Exp") * g.sum([axis])
    return [found if step.opset >= 13 else found.reshape(step.x.shape)]


def standardized(x: Tensor, h: Tensor, axes: Sequence[int], epsilon: float) -> tuple[Tensor, Tensor]:
    """x̂ = (x − mean)/σ with σ² = var + ε, and the gradient of x given that of x̂: (h − mean(h) − x̂·mean(h·x̂))/σ."""
    centred = x - x.mean(axes)
    sigma = (centred.squared().mean(axes) + epsilon).op("Sqrt")
    normal = centred / sigma
    return normal, (h - h.mean(axes) - normal * (h * normal).mean(axes)) / sigma


def rescaled(x: Tensor, h: Tensor, axes: Sequence[int], epsilon: float) -> tuple[Tensor, Tensor]:
    """x̂ = x/σ with σ² = mean(x²) + ε, and the gradient of x given that of x̂: (h − x̂·mean(h·x̂))/σ."""
    sigma = (x.squared().mean(axes) + epsilon).op("Sqrt")
    normal = x / sigma
    return normal, (h - normal * (h * normal).mean(axes)) / sigma


def wide(tensor: Tensor) -> Tensor:
    """In float32 at least, as these operators compute."""
    return tensor if tensor.kind == DOUBLE else tensor.to(FLOAT)


@rule("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalization(step: Step) -> Found:
    """Of y = x̂·scale + shift."""
    axis = step.attribute("axis", -1)
    axes = range(axis, 0) if axis < 0 else range(axis, step.x.rank)
    normalize = standardized if step.node.op_type == "LayerNormalization" else rescaled
    g, scale = wide(step.g), step.input(1)
    normal, back = normalize(wide(step.x), g * wide(scale), axes, step.attribute("epsilon", 1e-5))
    shift = [step.fit(step.g, step.input(2), beside=[step.y])] if step.has(2) else []
    return [back.to(step.x.kind), step.fit((g * normal).to(scale.kind), scale, beside=[step.y]), *shift]


@rule("com.microsoft:SkipLayerNormalization", "com.microsoft:SkipSimplifiedLayerNormalization", all_outputs=True)
def skip_layer_normalization(step: Step) -> Found:
    """Of the sum x + skip + bias, which its last output hands on."""
    simplified = "Simplified" in step.node.op_type
    shift_at, bias_at = (None, 3) if simplified else (3, 4)
    inside = step.x + step.input(1)
    if step.has(bias_at):
        inside = inside + step.input(bias_at)
    scale, sum_g = step.input(2), step.gradients[3] if len(step.gradients) > 3 else None
    g, normalize = wide(step.gradients[0] or step.y.zeros()), rescaled if simplified else standardized
    normal, back = normalize(wide(inside), g * wide(scale), [-1], step.attribute("epsilon", 1e-12))
    back = back.to(step.x.kind) if sum_g is None else back.to(step.x.kind) + sum_g
    found: list[Tensor | None] = [back, step.fit(back, step.input(1), beside=[step.y])]
    found += [step.fit((g * normal).to(scale.kind), scale, beside=[step.y])]
    if shift_at is not None:
        found += [step.fit(g.to(scale.kind), step.input(3), beside=[step.y]) if step.has(3) else None]
    return [*found, step.fit(back, step.input(bias_at), beside=[step.y])] if step.has(bias_at) else found


@rule("BatchNormalization")
def batch_normalization(step: Step) -> Found:
    """At inference a scale per channel: the operator itself, without its shift, does the same to g."""
    if step.attribute("training_mode", 0):
        raise PathEndsError("it is in training mode")
    x, scale, mean, variance = step.x, step.input(1), step.input(3), step.input(4)
    epsilon, nothing = step.attribute("epsilon", 1e-5), scale - scale

    def plain(tensor: Tensor, by: Tensor, centre: Tensor) -> Tensor:
        return tensor.op("BatchNormalization", by, nothing, centre, variance, epsilon=epsilon)

    return step.each(
        lambda step: plain(step.g, scale, nothing),
        lambda step: channels(step.g * plain(x, nothing + 1, mean)).sum([0, 2], keep=False),
        lambda step: channels(step.g).sum([0, 2], keep=False),
        lambda step: -channels(plain(step.g, scale, nothing)).sum([0, 2], keep=False),
        lambda step: channels(step.g * plain(x, scale, mean)).sum([0, 2], keep=False) * -0.5 / (variance + epsilon),
    )


def channels(x: Tensor) -> Tensor:
    """As [samples, channels, positions]."""
    return x.reshape([0, 0, -1])


@rule("InstanceNormalization")
def instance_normalization(step: Step) -> Found:
    """Of y = x̂·scale + shift, with one mean and σ for each sample and channel."""
    x, g, scale = channels(step.x), channels(step.g), step.input(1)
    normal, back = standardized(x, g * scale.reshape([-1, 1]), [2], step.attribute("epsilon", 1e-5))
    return [back.reshape(step.x.shape), (g * normal).sum([0, 2], keep=False), g.sum([0, 2], keep=False)]


@rule("GroupNormalization")
def group_normalization(step: Step) -> Found:
    """Scale and shift are by channel from opset 21 on, by group before."""
    x, g, scale, groups = step.x, step.g, step.input(1), step.attribute("num_groups")
    by = channels if step.opset >= 21 else lambda tensor: tensor.reshape([0, groups, -1])
    h = (by(g) * scale.reshape([-1, 1])).reshape([0, groups, -1] if step.opset < 21 else x.shape)
    normal, back = standardized(
        x.reshape([0, groups, -1]), h.reshape([0, groups, -1]), [2], step.attribute("epsilon", 1e-5)
    )
    normal = by(normal.reshape(x.shape))
    return [back.reshape(x.shape), (by(g) * normal).sum([0, 2], keep=False), by(g).sum([0, 2], keep=False)]


@rule("LpNormalization")
def lp_normalization(step: Step) -> Found:
    """Of y = x/n with the norm n: (g − n′·Σ g·y)/n, where n′ is y for p = 2 and sign(x) for p = 1."""
    x, axes, p = step.x, [step.attribute("axis", -1)], step.attribute("p", 2)
    norm = x.squared().sum(axes).op("Sqrt") if p == 2 else x.op("Abs").sum(axes)
    slope = step.y if p == 2 else x.op("Sign")
    return [(step.g - slope * (step.g * step.y).sum(axes)) / norm]


@rule("LRN")
def local_response_normalization(step: Step) -> Found:
    """Of y = x·s⁻ᵝ, s = bias + α/size·Σ x² over neighbouring channels: g·s⁻ᵝ − 2αβ/size·x·Σ g·x·s⁻ᵝ⁻¹."""
    x, g, size = step.x, step.g, step.attribute("size")
    alpha, beta = step.attribute("alpha", 1e-4), step.attribute("beta", 0.75)
    ahead, behind = (size - 1) // 2, size // 2
    s = step.attribute("bias", 1.0) + alpha * neighbours(x.squared(), size, [ahead, behind])
    back = neighbours(g * x * s ** (-beta - 1), size, [behind, ahead])
    return [g * s**-beta - 2 * alpha * beta * x * back]


def neighbours(x: Tensor, size: int, pads: Sequence[int]) -> Tensor:
    """The mean over a window of channels, zeros beyond the first and last."""
    flat = x.reshape([0, 0, -1]).unsqueeze([1])
    before, after = pads
    return flat.op("AveragePool", kernel_shape=[size, 1], pads=[before, 0, after, 0], count_include_pad=1).reshape(
        x.shape
    )
