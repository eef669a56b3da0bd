"""Rules of operators that work element by element, against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_dalr.gradient import differentiate
from tests.gradient.helpers import agrees, model, pulled_back, reasons, spread

INSIDE = spread("inside", (2, 5), -0.9, 0.9)
ABOVE = spread("above", (2, 5), 1.2, 3.0)


@pytest.mark.parametrize(
    ("body", "opset", "x"),
    [
        *(
            (f"y = {op}(x)", 13, (2, 5))
            for op in ("Identity", "Neg", "Abs", "Relu", "Exp", "Erf", "Sin", "Cos", "Tanh")
        ),
        *((f"y = {op}(x)", 13, (2, 5)) for op in ("Sinh", "Cosh", "Asinh", "Atan", "Sigmoid", "Softplus", "Softsign")),
        *((f"y = {op}(x)", 7, (2, 5)) for op in ("Relu", "Sigmoid", "Tanh", "Softplus")),
        *((f"y = {op}(x)", 13, INSIDE) for op in ("Tan", "Asin", "Acos", "Atanh")),
        *((f"y = {op}(x)", 13, ABOVE) for op in ("Reciprocal", "Sqrt", "Log", "Acosh")),
        ("y = LeakyRelu <alpha = 0.2> (x)", 16, (2, 5)),
        ("y = LeakyRelu(x)", 9, (2, 5)),
        ("y = Elu <alpha = 1.7> (x)", 13, (2, 5)),
        ("y = Elu(x)", 13, (2, 5)),
        ("y = Selu(x)", 13, (2, 5)),
        ("y = Selu <alpha = 1.2, gamma = 0.7> (x)", 13, (2, 5)),
        ("y = Celu <alpha = 2.3> (x)", 13, (2, 5)),
        ("y = ThresholdedRelu <alpha = 0.6> (x)", 13, (2, 5)),
        ("y = HardSigmoid <alpha = 0.4, beta = 0.3> (x)", 13, (2, 5)),
        ("y = HardSigmoid(x)", 13, (2, 5)),
        ("y = HardSwish(x)", 14, 2 * spread("wide", (2, 5))),
        ("y = Mish(x)", 18, (2, 5)),
        ("y = Gelu(x)", 20, (2, 5)),
        ('y = Gelu <approximate = "tanh"> (x)', 20, (2, 5)),
        ("y = com.microsoft.Gelu(x)", 17, (2, 5)),
        ("y = com.microsoft.FastGelu(x)", 17, (2, 5)),
        ("y = com.microsoft.QuickGelu(x)", 17, (2, 5)),
        ("y = com.microsoft.QuickGelu <alpha = 0.8> (x)", 17, (2, 5)),
        ("y = Clip <min = -0.5, max = 1.1> (x)", 10, (2, 5)),
        ("y = Dropout(x)", 11, (2, 5)),
        ("y = Dropout(x)", 13, (2, 5)),
    ],
    ids=str,
)
def test_the_slope_of_one_operand(body: str, opset: int, x: Any) -> None:
    agrees(body, opset, x=x)


@pytest.mark.parametrize("bounds", ["low, high", "low", ", high"])
def test_clip_passes_what_lies_between_its_bounds(bounds: str) -> None:
    agrees(f"y = Clip(x, {bounds})", 13, constants={"low": np.array(-0.4), "high": np.array(0.9)}, x=(3, 4))


@pytest.mark.parametrize("opset", [7, 12, 13, 17])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4), (3, 4)), ((3, 4), (4,)), ((4,), (3, 4)), ((2, 1, 4), (3, 1)), ((3, 4), ()), ((), (2, 3)), ((1, 1), (3,))],
    ids=str,
)
def test_operands_that_are_repeated_get_a_sum(op: str, a: tuple[int, ...], b: tuple[int, ...], opset: int) -> None:
    agrees(f"y = {op}(a, b)", opset, a=a, b=spread("b", b, 0.5, 2.0))


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ("y = Sum(a, b, c)", 13),
        ("y = Mean(a, b, c)", 13),
        ("y = Max(a, b, c)", 13),
        ("y = Min(a, b, c)", 13),
        ("y = Max(a, b, c)", 8),
        ("y = Mul(a, a)", 13),
        ("y = Add(a, a)", 13),
        ("h = Add(a, b)  y = Sub(h, c)", 13),
    ],
)
def test_several_operands(body: str, opset: int) -> None:
    names = [name for name in "abc" if name in body.replace("Max", "").replace("Sub", "").replace("Add", "")]
    shapes = {"a": (3, 1), "b": (2, 3, 4), "c": (4,)}
    agrees(body, opset, **{name: shapes[name] for name in names})


@pytest.mark.parametrize("p", [(4,), (), (3, 4)], ids=str)
def test_powers_of_base_and_exponent(p: tuple[int, ...]) -> None:
    agrees("y = Pow(x, p)", 13, x=spread("x", (3, 4), 0.3, 2.0), p=p)


@pytest.mark.parametrize("exponent", [2.0, 3.0, 1.0, -1.0])
def test_powers_of_negative_numbers(exponent: float) -> None:
    agrees("y = Pow(x, p)", 13, constants={"p": np.array(exponent)}, x=(3, 4))


def test_an_exponent_may_be_an_integer() -> None:
    agrees("y = Pow(x, p)", 13, constants={"p": 3}, x=(3, 4))


def test_a_slope_that_is_an_operand() -> None:
    agrees("y = PRelu(x, slope)", 16, x=(2, 3, 4), slope=(3, 1))


def test_where_goes_to_the_side_that_was_taken() -> None:
    mask = np.array([[True], [False], [True]])
    agrees("y = Where(mask, a, b)", 16, constants={"mask": mask}, a=(3, 4), b=(4,))


def test_a_computed_mask_gets_no_gradient_and_ends_nothing() -> None:
    agrees("mask = Greater(a, b)  y = Where(mask, a, b)", 16, a=(3, 4), b=(4,))


@pytest.mark.parametrize("op", ["FastGelu", "BiasGelu"])
def test_an_activation_with_its_bias(op: str) -> None:
    agrees(f"y = com.microsoft.{op}(x, bias)", x=(2, 3, 4), bias=(4,))


@pytest.mark.parametrize("op", ["Floor", "Ceil", "Round", "Sign"])
def test_steps_have_no_slope_and_end_nothing(op: str) -> None:
    assert reasons(f"y = {op}(x)", x=(2, 3)) == []
    agrees(f"s = {op}(x)  y = Mul(s, x)", x=spread("x", (2, 3), 0.1, 3.7))


@pytest.mark.parametrize("body", ["y = Sqrt(x)", "y = Pow(x, half)", "y = ReduceL2(x)", "y = Log(x)"])
def test_an_infinite_slope_gives_nothing_rather_than_infinity(body: str) -> None:
    proto = model(body, 17, {"x": np.zeros((1, 2), np.float32)}, {"half": np.float32(0.5)}, dynamic=False)
    found = differentiate(proto, ["y"], ["x"])
    v = np.zeros((1, 1 if "L2" in body else 2), np.float32)
    x = np.zeros((1, 2), np.float32)
    assert pulled_back(found, {"x": x}, {"y": v})["x"].tolist() == [[0.0, 0.0]]
    assert np.isfinite(pulled_back(found, {"x": x}, {"y": v + 1})["x"]).all()


def test_casts_between_floats_keep_each_tensor_in_its_type() -> None:
    x = spread("x", (2, 3)).astype(np.float32)
    proto = model("h = Cast <to = 11> (x)  z = Mul(h, h)  y = Cast <to = 1> (z)", 13, {"x": x}, dynamic=True)
    found = differentiate(proto, ["y"], ["x", "h"])
    gradients = pulled_back(found, {"x": x}, {"y": np.ones_like(x)})
    assert (gradients["x"].dtype, gradients["h"].dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(gradients["x"], 2 * x, rtol=1e-5)


def test_half_precision_stays_half() -> None:
    x = spread("x", (2, 3)).astype(np.float16)
    proto = model("h = Tanh(x)  e = Erf(h)  y = Softmax(e)", 17, {"x": x}, dynamic=True)
    gradient = pulled_back(differentiate(proto, ["y"], ["x"]), {"x": x}, {"y": np.eye(2, 3, dtype=np.float16)})["x"]
    wide = model("h = Tanh(x)  e = Erf(h)  y = Softmax(e)", 17, {"x": x.astype(np.float32)}, dynamic=True)
    found = differentiate(wide, ["y"], ["x"])
    expected = pulled_back(found, {"x": x.astype(np.float32)}, {"y": np.eye(2, 3, dtype=np.float32)})["x"]
    assert gradient.dtype == np.float16
    np.testing.assert_allclose(gradient, expected, atol=2e-3)


def test_dropout_that_may_train_ends_the_path() -> None:
    body = "y = Dropout(x, ratio, training)"
    ended = reasons(body, 13, constants={"ratio": np.float32(0.5), "training": True}, x=(2, 3))
    assert ended == ["Dropout: it may be in training mode"]
