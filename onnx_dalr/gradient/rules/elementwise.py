"""Operators that work element by element: g times the slope, summed where an operand was repeated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from onnx_dalr.gradient.emit import Operand, PathEndsError, Tensor
from onnx_dalr.gradient.step import Found, Step, rule

# Constant but for jumps, or independent of the values they read: nothing goes back.
FLAT = frozenset(
    {
        *("ArgMax", "ArgMin", "Ceil", "ConstantOfShape", "EyeLike", "Floor", "Hardmax", "NonZero", "Round", "Shape"),
        *("Sign", "Size", "Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike"),
    }
)

# One operand x, y = f(x): the slope f′(x), 0 where it is infinite. A mask counts as 0 and 1.
SLOPES: Mapping[str, Callable[[Tensor, Tensor], Operand]] = MappingProxyType(
    {
        "Neg": lambda x, y: -1,
        "Abs": lambda x, y: x.op("Sign"),
        "Reciprocal": lambda x, y: -y.squared(),
        "Sqrt": lambda x, y: (y > 0).where(0.5 / y, 0.0),
        "Exp": lambda x, y: y,
        "Log": lambda x, y: (x > 0).where(1 / x, 0.0),
        "Erf": lambda x, y: 2 / math.sqrt(math.pi) * (-x.squared()).op("Exp"),
        "Sin": lambda x, y: x.op("Cos"),
        "Cos": lambda x, y: -x.op("Sin"),
        "Tan": lambda x, y: 1 + y.squared(),
        "Asin": lambda x, y: 1 / (1 - x.squared()).op("Sqrt"),
        "Acos": lambda x, y: -1 / (1 - x.squared()).op("Sqrt"),
        "Atan": lambda x, y: 1 / (1 + x.squared()),
        "Sinh": lambda x, y: x.op("Cosh"),
        "Cosh": lambda x, y: x.op("Sinh"),
        "Tanh": lambda x, y: 1 - y.squared(),
        "Asinh": lambda x, y: 1 / (1 + x.squared()).op("Sqrt"),
        "Acosh": lambda x, y: 1 / (x.squared() - 1).op("Sqrt"),
        "Atanh": lambda x, y: 1 / (1 - x.squared()),
        "Relu": lambda x, y: x > 0,
        "Sigmoid": lambda x, y: y * (1 - y),
        "Softplus": lambda x, y: x.op("Sigmoid"),
        "Softsign": lambda x, y: 1 / (1 + x.op("Abs")).squared(),
        "HardSwish": lambda x, y: (x >= 3) + ((x > -3) & (x < 3)) * (x / 3 + 0.5),
    }
)


@rule(*SLOPES)
def by_slope(step: Step) -> Found:
    """Times the operator's slope in `SLOPES`."""
    return [step.g * SLOPES[step.node.op_type](step.x, step.y)]


@rule("Identity", "Cast", "CastLike")
def cast(step: Step) -> Found:
    """Handed on, in the type of the input."""
    return [step.g.to(step.x.kind)]


@rule("Dropout")
def dropout(step: Step) -> Found:
    """Handed on: at inference nothing is dropped."""
    training = step.value(2) if step.has(2) else False
    if training is None or bool(training):
        raise PathEndsError("it may be in training mode")
    return [step.g]


@rule("Clip")
def clip(step: Step) -> Found:
    """Handed on between the bounds."""
    g = step.g
    for position, name in ((1, "min"), (2, "max")):
        bound = step.input(position) if step.has(position) else step.attribute(name)
        if bound is not None:
            g = g * (step.x >= bound if name == "min" else step.x <= bound)
    return [g]


@rule("LeakyRelu")
def leaky_relu(step: Step) -> Found:
    """Slope α below zero."""
    return [(step.x < 0).where(step.g * step.attribute("alpha", 0.01), step.g)]


@rule("PRelu")
def p_relu(step: Step) -> Found:
    """Slope s below zero, an operand, whose gradient is g·x there."""
    x, slope, g = step.x, step.input(1), step.g
    return [(x < 0).where(g * slope, g), step.fit(g * x * (x < 0), slope)]


@rule("ThresholdedRelu")
def thresholded_relu(step: Step) -> Found:
    """Handed on above α."""
    return [step.g * (step.x > step.attribute("alpha", 1.0))]


@rule("Elu")
def elu(step: Step) -> Found:
    """Below zero y = α·(eˣ − 1), and the slope α·eˣ is y + α."""
    alpha = step.attribute("alpha", 1.0)
    return [step.g * (step.x < 0).where(step.y + alpha, 1.0)]


@rule("Selu")
def selu(step: Step) -> Found:
    """Below zero y = γ·α·(eˣ − 1), and the slope is y + γ·α; above, γ."""
    alpha, gamma = step.attribute("alpha", 1.6732632), step.attribute("gamma", 1.0507010)
    return [step.g * (step.x < 0).where(step.y + alpha * gamma, gamma)]


@rule("Celu")
def celu(step: Step) -> Found:
    """Below zero y = α·(exp(x/α) − 1), and the slope is y/α + 1."""
    alpha = step.attribute("alpha", 1.0)
    return [step.g * (step.x < 0).where(step.y / alpha + 1, 1.0)]


@rule("HardSigmoid")
def hard_sigmoid(step: Step) -> Found:
    """Slope α between 0 and 1."""
    return [step.g * ((step.y > 0) & (step.y < 1)) * step.attribute("alpha", 0.2)]


@rule("Swish", "com.microsoft:QuickGelu")
def swish(step: Step) -> Found:
    """Of y = x·s, s = sigmoid(αx): s + αx·s·(1 − s)."""
    alpha = step.attribute("alpha", 1.0 if step.node.op_type == "Swish" else 1.702)
    s = (alpha * step.x).op("Sigmoid")
    return [step.g * (s + alpha * step.x * s * (1 - s))]


@rule("Mish")
def mish(step: Step) -> Found:
    """Of y = x·t, t = tanh(softplus(x)): t + x·(1 − t²)·sigmoid(x)."""
    x, t = step.x, step.x.op("Softplus").op("Tanh")
    return [step.g * (t + x * (1 - t.squared()) * x.op("Sigmoid"))]


@rule("Gelu", "com.microsoft:Gelu")
def gelu(step: Step) -> Found:
    """The slope of x·Φ(x), or of its approximation by tanh."""
    tanh = step.attribute("approximate", "none") == "tanh"
    return [step.g * (gelu_tanh_slope(step.x) if tanh else gelu_slope(step.x))]


@rule("com.microsoft:FastGelu", "com.microsoft:BiasGelu")
def gelu_of_sum(step: Step) -> Found:
    """The slope of Gelu at x + bias, for both operands."""
    inside = step.x + step.input(1) if step.has(1) else step.x
    g = step.g * (gelu_tanh_slope(inside) if step.node.op_type == "FastGelu" else gelu_slope(inside))
    return step.fit_each(*[g for _ in step.inputs])


def gelu_slope(x: Tensor) -> Tensor:
    """Of y = x·Φ(x): Φ(x) + x·φ(x), the normal distribution and its density."""
    density = (x.squared() * -0.5).op("Exp") / math.sqrt(2 * math.pi)
    return 0.5 + 0.5 * (x / math.sqrt(2)).op("Erf") + x * density


def gelu_tanh_slope(x: Tensor) -> Tensor:
    """Of y = x·(1 + t)/2, t = tanh(c·(x + 0.044715·x³)), c = √(2/π)."""
    c = math.sqrt(2 / math.pi)
    t = (c * x * (1 + 0.044715 * x.squared())).op("Tanh")
    return 0.5 * (1 + t) + 0.5 * x * (1 - t.squared()) * (c * (1 + 3 * 0.044715 * x.squared()))


# Several operands, each perhaps repeated.


@rule("Add", "Sum")
def add(step: Step) -> Found:
    """G for each."""
    return step.fit_each(*[step.g for _ in step.inputs])


@rule("Mean")
def mean(step: Step) -> Found:
    """An equal share for each."""
    share = step.g / len(step.inputs)
    return step.fit_each(*[share for _ in step.inputs])


@rule("Sub")
def sub(step: Step) -> Found:
    """Of a − b: g and −g."""
    return step.fit_each(step.g, -step.g)


@rule("Mul")
def mul(step: Step) -> Found:
    """Of ab: g·b and g·a."""
    a, b, g = step.x, step.input(1), step.g
    return step.fit_each(g * b, g * a)


@rule("Div")
def div(step: Step) -> Found:
    """Of y = a/b: g/b and −g·y/b."""
    b, g = step.input(1), step.g
    return step.fit_each(g / b, -g * step.y / b)


@rule("Pow")
def power(step: Step) -> Found:
    """Of y = xᵖ: g·p·xᵖ⁻¹, nothing at a zero where that is infinite, and, where x > 0, g·y·log x."""
    x, y, g, p = step.x, step.y, step.g, step.input(1).to(step.x.kind)
    base = (x.equals(0.0) & (p < 1)).where(0.0, g * p * x ** (p - 1))
    return step.fit_each(base, (x > 0).where(g * y * x.op("Log"), 0.0))


@rule("Max", "Min")
def extreme(step: Step) -> Found:
    """To the operand that is the extreme; in equal parts where several are."""
    hits = [step.y.equals(operand).to(step.g.kind) for operand in step.operands]
    ties = hits[0]
    for hit in hits[1:]:
        ties = ties + hit
    return step.fit_each(*[step.g / ties * hit for hit in hits])


@rule("Where")
def where(step: Step) -> Found:
    """To the side that was taken."""
    condition, g = step.x, step.g
    return step.fit_each(None, condition.where(g, 0.0), condition.where(0.0, g))
