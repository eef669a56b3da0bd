"""Adam: steps are those of the paper's formulas, in proportion to each tensor, under a rate that rises and falls."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnx_dalr.tune.adam import WARM_UP, Adam, Tensors, scheduled
from tests.tune.loss_cases import Array, normals


def by_formula(start: Array, gradients: list[Array], size: float, rates: list[float]) -> Array:
    """Algorithm 1 of Kingma & Ba (2015) with α = η·size, in float64."""
    m, v, found = np.zeros(start.shape), np.zeros(start.shape), start.astype(np.float64)
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        found = found - rate * size * (m / (1 - 0.9**t)) / np.sqrt(v / (1 - 0.999**t))
    return found


def test_steps_are_those_of_the_formulas() -> None:
    start: Tensors = {"A": normals(4, 3).astype(np.float32), "b": 5 * normals(3, seed=1).astype(np.float32)}
    gradients = [{name: normals(*start[name].shape, seed=at).astype(np.float32) for name in start} for at in range(6)]
    sizes, rates = {"A": 0.7, "b": 4.0}, [1e-2, 2e-2, 1e-2, 5e-3, 1e-3, 1e-2]
    tensors, adam = {name: values.copy() for name, values in start.items()}, Adam(sizes)
    for g, rate in zip(gradients, rates, strict=True):
        adam.step(tensors, g, rate)
    for name, values in tensors.items():
        expected = by_formula(start[name], [g[name] for g in gradients], sizes[name], rates)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


def test_the_first_step_is_the_rate_times_the_size_against_the_sign() -> None:
    g = np.array([3.0, -1e-6, 1e4, 0.0], np.float32)
    tensors: Tensors = {"A": np.zeros(4, np.float32)}
    Adam({"A": 2.0}).step(tensors, {"A": g}, 1e-3)
    np.testing.assert_allclose(tensors["A"], [-2e-3, 2e-3, -2e-3, 0], rtol=1e-4)


def test_tensors_of_other_sizes_move_by_the_same_share_of_themselves() -> None:
    values, g = normals(5).astype(np.float32), normals(5, seed=1).astype(np.float32)
    tensors: Tensors = {"small": values * np.float32(1e-3), "large": values * np.float32(1e3)}
    adam = Adam({"small": 1e-3, "large": 1e3})
    for _ in range(3):  # what a tensor is multiplied by, its gradient is divided by
        adam.step(tensors, {"small": g * np.float32(1e3), "large": g * np.float32(1e-3)}, 1e-2)
    np.testing.assert_allclose(tensors["small"] * 1e6, tensors["large"], rtol=1e-4)


def test_it_moves_tensors_in_place_and_only_those_that_have_a_size() -> None:
    a, b = np.ones(3, np.float32), np.ones(3, np.float32)
    g = np.ones(3, np.float32)
    Adam({"a": 1.0}).step({"a": a, "b": b}, {"a": g, "b": g}, 0.1)
    np.testing.assert_allclose(a, 0.9, rtol=1e-5)
    np.testing.assert_array_equal(b, 1)
    np.testing.assert_array_equal(g, 1)


def test_a_tensor_without_a_gradient_stays() -> None:
    tensors: Tensors = {"a": np.ones(3, np.float32)}
    adam = Adam({"a": 1.0})
    for _ in range(3):
        adam.step(tensors, {"a": np.zeros(3, np.float32)}, 0.1)
    np.testing.assert_array_equal(tensors["a"], 1)


def test_the_rate_rises_for_ten_steps_and_then_falls_to_nothing() -> None:
    rates = [scheduled(0.5, step, 200) for step in range(201)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[:WARM_UP] == sorted(rates[:WARM_UP])
    assert rates[WARM_UP - 1 :] == sorted(rates[WARM_UP - 1 :], reverse=True)
    assert max(rates) == pytest.approx(0.5, rel=0.01)
    assert rates[100] == pytest.approx(0.25)
    assert rates[150] == pytest.approx(0.25 * (1 + math.cos(0.75 * math.pi)))
    assert rates[200] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_few_steps_have_a_rate_too(steps: int) -> None:
    rates = [scheduled(1.0, step, steps) for step in range(max(steps, 1))]
    assert all(0 < rate <= 1 for rate in rates)


def test_it_goes_down_a_valley_that_is_steep_on_one_side() -> None:
    steep = np.array([100.0, 1.0], np.float32)
    tensors, adam = {"a": np.ones(2, np.float32)}, Adam({"a": 1.0})
    for step in range(300):
        adam.step(tensors, {"a": 2 * steep * tensors["a"]}, scheduled(0.05, step, 300))
    assert np.abs(tensors["a"]).max() < 1e-2
