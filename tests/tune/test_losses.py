"""Losses as nodes: value and gradient are those of the formula in NumPy, whatever the axes, opset and element type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

from onnx_dalr.gradient import differentiate
from onnx_dalr.tune.losses import Binary, Divergence, Loss, Squares, Turning
from tests.gradient.helpers import model as graph
from tests.gradient.helpers import session
from tests.tune.loss_cases import (
    Array,
    Reference,
    computed,
    kl_of_logits,
    kl_of_probabilities,
    kl_of_yes,
    normals,
    slopes,
    squares,
    turned_by,
)

OPSETS = [7, 8, 9, 11, 12, 13, 17, 18, 21]
SHAPES = [((4, 5), 1), ((4, 5), -1), ((3, 4, 5), -1), ((3, 4, 5), 1), ((2, 3, 2, 4), 1), ((5,), 0)]


def row_weights(shape: tuple[int, ...], axis: int) -> Array:
    """One for every row along an axis, none of them alike."""
    sizes = [1 if at == axis % len(shape) else size for at, size in enumerate(shape)]
    return np.linspace(0.2, 1.4, int(np.prod(sizes))).reshape(sizes)


def case(name: str, shape: tuple[int, ...], axis: int) -> tuple[Loss, Reference, Array, Array, Array]:
    """(loss, reference, y, t, w) of a kind of output."""
    y, t, by_row = 1.5 * normals(*shape), 1.5 * normals(*shape, seed=1), row_weights(shape, axis)
    by_value = np.abs(normals(*shape, seed=2)) + 0.1
    return {
        "logits": (Divergence(axis), kl_of_logits(axis), y, t, by_row),
        "warm logits": (Divergence(axis, temperature=5.0), kl_of_logits(axis, 5.0), y, t, by_row),
        "probabilities": (
            Divergence(axis, "probabilities"),
            kl_of_probabilities(axis),
            special.softmax(y, axis),
            special.softmax(t, axis),
            by_row,
        ),
        "sigmoid": (Binary(), kl_of_yes, special.expit(y), special.expit(t), by_value),
        "directions": (Turning(axis), turned_by(axis), y, t, by_row),
        "squares": (Squares(), squares, y, t, by_value),
    }[name]


KINDS = ["logits", "warm logits", "probabilities", "sigmoid", "directions", "squares"]


def assert_as_referred(
    loss: Loss, reference: Reference, y: Array, t: Array, w: Array, tolerance: float = 1e-4, **how: Any
) -> None:
    lost, seed = computed(loss, y, t, w, **how)
    assert lost == pytest.approx(reference(y, t, w), rel=tolerance, abs=tolerance)
    expected = slopes(reference, y, t, w)
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(seed, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_value_and_gradient_on_every_axis(name: str, shape: tuple[int, ...], axis: int) -> None:
    assert_as_referred(*case(name, shape, axis))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("opset", OPSETS)
def test_value_and_gradient_in_every_opset(name: str, opset: int) -> None:
    assert_as_referred(*case(name, (3, 4, 5), 1), opset=opset)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("opset", [9, 13])
def test_sizes_need_not_be_known_before_the_run(name: str, opset: int) -> None:
    assert_as_referred(*case(name, (3, 4, 5), -1), opset=opset, sized=False)


@pytest.mark.parametrize("name", KINDS)
def test_outputs_in_float64(name: str) -> None:
    assert_as_referred(*case(name, (3, 4, 5), -1), dtype=np.float64)


@pytest.mark.parametrize("name", KINDS)
def test_outputs_in_float16_are_compared_in_float32(name: str) -> None:
    loss, reference, y, t, w = case(name, (3, 4, 5), -1)
    y = y.astype(np.float16).astype(np.float64)
    lost, seed = computed(loss, y, t, w, dtype=np.float16)
    assert lost == pytest.approx(reference(y, t, w), rel=1e-4)  # though float16 itself has three digits
    expected = slopes(reference, y, t, w)
    np.testing.assert_allclose(seed, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5.0])
def test_temperatures(temperature: float) -> None:
    y, t, w = 3 * normals(4, 6), 3 * normals(4, 6, seed=1), np.full((4, 1), 0.25)
    assert_as_referred(Divergence(-1, temperature=temperature), kl_of_logits(-1, temperature), y, t, w)


def test_gradients_have_one_size_whatever_the_temperature() -> None:
    y, w = normals(4, 6), np.full((4, 1), 0.25)
    t = y + 1e-2 * normals(4, 6, seed=1)
    sizes = [np.abs(computed(Divergence(-1, temperature=by), y, t, w)[1]).mean() for by in (1.0, 4.0, 16.0)]
    assert max(sizes) < 2 * min(sizes)


@pytest.mark.parametrize("name", KINDS)
def test_one_weight_for_all(name: str) -> None:
    loss, reference, y, t, _ = case(name, (3, 4, 5), -1)
    rows = y.size if name in ("sigmoid", "squares") else 12
    lost, seed = computed(loss, y, t, np.full((1, 1, 1), 0.7))
    assert lost == pytest.approx(0.7 * reference(y, t, np.ones((1, 1, 1))), rel=1e-4)
    each, seed_of_each = computed(loss, y, t, np.full((3, 4, 5 if rows == y.size else 1), 0.7))
    assert each == pytest.approx(lost, rel=1e-5)
    np.testing.assert_allclose(seed, seed_of_each, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", KINDS)
def test_rows_that_do_not_count_add_nothing(name: str) -> None:
    loss, reference, y, t, w = case(name, (3, 4, 5), -1)
    w[1, 2:] = 0
    lost, seed = computed(loss, y, t, w)
    assert lost == pytest.approx(reference(y, t, w), rel=1e-4)
    assert not seed[1, 2:].any()
    assert seed[1, :2].all()
    elsewhere = np.where((w != 0) | np.zeros(y.shape, bool), y, y[::-1])
    again, same = computed(loss, elsewhere, t, w)
    assert again == pytest.approx(lost, rel=1e-5)
    np.testing.assert_allclose(same, seed, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", KINDS)
def test_a_student_that_says_the_same_is_left_alone(name: str) -> None:
    loss, _, y, _, w = case(name, (3, 4, 5), -1)
    lost, seed = computed(loss, y, y, w)
    assert lost == pytest.approx(0, abs=1e-5)
    if name == "probabilities":  # along the simplex, which a Softmax does not leave
        seed = seed + w
    np.testing.assert_allclose(seed, 0, atol=1e-5)


def test_logits_far_apart_are_finite() -> None:
    y, t = np.array([[80.0, -80.0, 0.0]]), np.array([[-90.0, 70.0, 3.0]])
    lost, seed = computed(Divergence(-1), y, t, np.ones((1, 1)))
    assert lost == pytest.approx(160.0, rel=1e-5)
    np.testing.assert_allclose(seed, [[1, -1, 0]], atol=1e-6)


def test_a_yes_that_is_sure_and_wrong_has_a_gradient_with_a_bound() -> None:
    y, t = np.array([[0.0, 1.0, 1e-9, 0.0]]), np.array([[1.0, 0.0, 0.5, 0.0]])
    lost, seed = computed(Binary(), y, t, np.ones((1, 4)))
    assert np.isfinite(lost)
    assert (np.sign(seed) == [[-1, 1, -1, 0]]).all()
    assert np.abs(seed).max() < 1.1e4


@pytest.mark.parametrize("opset", [9, 17])
def test_a_probability_that_is_lost_in_float32_leaves_the_gradient_at_the_logits_finite(opset: int) -> None:
    logits, t = np.array([[0.0, -60.0, -200.0, 1.0]], np.float32), np.array([[0.1, 0.3, 0.4, 0.2]], np.float32)
    made = graph("y = Softmax <axis = 1> (x)", opset, {"x": logits}, dynamic=False)
    found = differentiate(made, ["y"], ["x"])
    y = session(made).run(["y"], {"x": logits})[0]
    _, seed = computed(Divergence(1, "probabilities"), y, t, np.ones((1, 1)))
    found.proto.graph.output.add(name=found.names["x"])
    (gradient,) = session(found.proto).run([found.names["x"]], {"x": logits, found.seeds["y"]: seed})
    # q − p over what float32 still holds: the third class is too far away to be brought back
    np.testing.assert_allclose(gradient, np.where(y > 0, 0.6 * y - t, 0), atol=1e-5)


def test_a_row_of_zeros_has_no_direction_and_does_no_harm() -> None:
    y, t = normals(3, 4), normals(3, 4, seed=1)
    y[0], t[1] = 0, 0
    w = np.array([[0.0], [0.0], [1.0]])
    lost, seed = computed(Turning(-1), y, t, w)
    assert lost == pytest.approx(turned_by(-1)(y[2:], t[2:], w[2:]), rel=1e-4)
    assert np.isfinite(seed).all()
    assert not seed[:2].any()


def test_only_directions_count() -> None:
    y, t, w = normals(4, 6), normals(4, 6, seed=1), np.ones((4, 1))
    lost, seed = computed(Turning(-1), y, t, w)
    longer, shrunk = computed(Turning(-1), 8 * y, 3 * t, w)
    assert longer == pytest.approx(lost, rel=1e-5)
    np.testing.assert_allclose(8 * shrunk, seed, atol=1e-5)
    np.testing.assert_allclose(np.sum(seed * y, axis=1), 0, atol=1e-5)
