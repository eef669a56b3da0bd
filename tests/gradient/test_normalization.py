"""Rules of Softmax and of layers that normalize, against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.gradient.helpers import agrees, reasons, spread

VARIANCE = spread("variance", (3,), 0.4, 2.0)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_over_an_axis_or_before_opset_13_over_all_behind_it(op: str, axis: int, opset: int) -> None:
    agrees(f"y = {op} <axis = {axis}> (x)", opset, x=(2, 3, 4))


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [7, 17])
def test_softmax_over_the_axis_that_its_opset_has_by_default(op: str, opset: int) -> None:
    agrees(f"y = {op}(x)", opset, x=(2, 3, 4))


@pytest.mark.parametrize("axis", [-1, 1, -2])
@pytest.mark.parametrize("shift", ["", ", shift"])
def test_layer_normalization(axis: int, shift: str) -> None:
    shape = (4,) if axis == -1 else (3, 4)
    operands: dict[str, Any] = {"scale": shape} | ({"shift": shape} if shift else {})
    agrees(f"y = LayerNormalization <axis = {axis}, epsilon = 0.01> (x, scale{shift})", 17, x=(2, 3, 4), **operands)


def test_layer_normalization_by_its_default_epsilon() -> None:
    agrees("y = LayerNormalization(x, scale)", 17, x=spread("x", (2, 4)) / 100, scale=(4,))


@pytest.mark.parametrize(("op", "opset"), [("SimplifiedLayerNormalization", 17), ("RMSNormalization", 23)])
def test_normalization_by_the_root_mean_square(op: str, opset: int) -> None:
    agrees(f"y = {op} <epsilon = 0.01> (x, scale)", opset, x=(2, 3, 4), scale=(4,))


def test_skip_layer_normalization_with_all_its_operands() -> None:
    body = "y = com.microsoft.SkipLayerNormalization <epsilon = 0.01> (x, skip, scale, shift, bias)"
    agrees(body, x=(2, 3, 4), skip=(2, 3, 4), scale=(4,), shift=(4,), bias=(4,))


def test_skip_layer_normalization_hands_on_its_sum() -> None:
    body = """h, m, s, sum = com.microsoft.SkipLayerNormalization <epsilon = 0.01> (x, skip, scale)
              t = Tanh(sum)  y = Mul(h, t)"""
    agrees(body, x=(2, 3, 4), skip=(2, 3, 4), scale=(4,))


def test_simplified_skip_layer_normalization() -> None:
    body = "y = com.microsoft.SkipSimplifiedLayerNormalization <epsilon = 0.01> (x, skip, scale, bias)"
    agrees(body, x=(2, 3, 4), skip=(2, 3, 4), scale=(4,), bias=(4,))


@pytest.mark.parametrize("opset", [7, 9, 15])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (2, 3, 2, 2)], ids=str)
def test_batch_normalization_at_inference(shape: tuple[int, ...], opset: int) -> None:
    body = "y = BatchNormalization <epsilon = 0.01> (x, scale, shift, mean, variance)"
    agrees(body, opset, x=shape, scale=(3,), shift=(3,), mean=(3,), variance=VARIANCE)


def test_batch_normalization_in_training_ends_the_path() -> None:
    body = "y, m, v = BatchNormalization <training_mode = 1> (x, scale, shift, mean, variance)"
    ended = reasons(body, 15, x=(2, 3), scale=(3,), shift=(3,), mean=(3,), variance=(3,))
    assert ended == ["BatchNormalization: it is in training mode"]


def test_instance_normalization() -> None:
    agrees("y = InstanceNormalization <epsilon = 0.01> (x, scale, shift)", 13, x=(2, 3, 2, 3), scale=(3,), shift=(3,))


@pytest.mark.parametrize(("opset", "scales"), [(18, 2), (21, 4)])
def test_group_normalization(opset: int, scales: int) -> None:
    body = "y = GroupNormalization <num_groups = 2, epsilon = 0.01> (x, scale, shift)"
    agrees(body, opset, dtype=np.float32, x=(2, 4, 3, 2), scale=(scales,), shift=(scales,))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [-1, 1])
def test_lp_normalization(p: int, axis: int) -> None:
    agrees(f"y = LpNormalization <p = {p}, axis = {axis}> (x)", 17, x=(2, 3, 4))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_local_response_normalization(size: int) -> None:
    agrees(f"y = LRN <size = {size}, alpha = 0.5, beta = 0.6, bias = 1.5> (x)", 13, x=(2, 5, 2, 2))


def test_statistics_that_are_read_end_the_path() -> None:
    body = "h, m = LayerNormalization(x, scale)  y = Mul(h, m)"
    assert "LayerNormalization: no rule for outputs after the first" in reasons(body, x=(2, 3), scale=(3,))


def test_a_row_of_equal_values_is_finite() -> None:
    body = "y = LayerNormalization <epsilon = 0.01> (x, scale)"
    agrees(body, 17, wanted=["scale"], x=np.ones((2, 4)), scale=(4,))
