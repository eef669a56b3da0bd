"""Gradient rows in the statistics: sums on the smaller side, what they are worth, and how they add up."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_dalr.factorize import Need, Statistics
from onnx_dalr.factorize.gram import symmetric
from tests.factorize.cases import Array, make

SHAPES = [(5, 8), (8, 5), (6, 6)]


def gradients(rows: int, m: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, m))


def of(g: Array, W: Array, probes: int) -> Statistics:
    found = Statistics(*W.shape, Need.METRIC)
    found.update_metric(g, W, probes)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_the_metric_is_kept_on_the_smaller_side(shape: tuple[int, int]) -> None:
    W, g = make(*shape, 1).W, gradients(30, shape[0])
    stats = of(g, W, 10)
    seen = g if shape[0] <= shape[1] else g @ W
    assert stats.metric is not None
    np.testing.assert_allclose(symmetric(stats.metric), seen.T @ seen)
    np.testing.assert_allclose(stats.output_metric, seen.T @ seen / 10)
    assert (stats.metric_rows, stats.metric_probes) == (30, 10)
    assert stats.metric_trace == pytest.approx(np.sum(g**2) / 10)


def test_thousands_of_rows_at_once_are_those_in_parts() -> None:
    W, g = make(3, 4, 1).W, gradients(9001, 3)
    whole, parts = of(g, W, 9001), of(g[:5000], W, 5000) + of(g[5000:], W, 4001)
    np.testing.assert_allclose(whole.output_metric, parts.output_metric)
    np.testing.assert_allclose(whole.output_metric, g.T @ g / 9001)
    assert whole.metric_power == pytest.approx(parts.metric_power)
    np.testing.assert_allclose(whole.metric_spread, parts.metric_spread)


def test_half_precision_gradients_are_summed_in_double_precision() -> None:
    g = np.full((300, 3), 6e4, np.float16)
    stats = of(g, np.ones((3, 2), np.float16), 300)
    assert stats.metric is not None
    assert symmetric(stats.metric)[0, 1] == pytest.approx(300 * (3 * float(g[0, 0])) ** 2)
    assert stats.metric_power == pytest.approx(900 * float(g[0, 0]) ** 2)


def test_probes_count_even_where_they_bring_no_rows() -> None:
    W = make(3, 4, 1).W
    stats = of(np.zeros((0, 3)), W, 4)
    assert (stats.metric_rows, stats.metric_probes, stats.metric_power) == (0, 4, 0)
    stats.update_metric(gradients(4, 3), W, 4)
    np.testing.assert_allclose(stats.output_metric, gradients(4, 3).T @ gradients(4, 3) / 8)


def test_more_rows_of_the_same_probes_do_not_count_as_probes() -> None:
    W, g = make(3, 4, 1).W, gradients(20, 3)
    stats = of(g[:12], W, 5)
    stats.update_metric(g[12:], W, 0)
    assert stats.metric_probes == 5
    np.testing.assert_allclose(stats.output_metric, g.T @ g / 5)


def test_statistics_without_a_metric_take_no_gradients() -> None:
    with pytest.raises(ValueError, match="keep no metric"):
        Statistics(2, 3, Need.OUTPUT).update_metric(np.zeros((1, 2)), np.zeros((2, 3)), 1)


def test_statistics_with_and_without_a_metric_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        Statistics(2, 3, Need.OUTPUT) + Statistics(2, 3, Need.OUTPUT | Need.METRIC)


def test_forgetting_takes_every_gradient_back() -> None:
    W = make(3, 4, 1).W
    stats = of(gradients(20, 3), W, 20)
    stats.forget_metric()
    assert {name: array.tolist() for name, array in stats.to_arrays().items()} == {
        name: array.tolist() for name, array in Statistics(3, 4, Need.METRIC).to_arrays().items()
    }


def test_equal_rows_of_one_probe_count_for_more_than_one_and_less_than_all() -> None:
    g = np.sign(gradients(64, 3))
    W = make(3, 4, 1).W
    assert [of(g, W, probes).metric_count for probes in (4, 16, 64)] == pytest.approx([16, 32, 64])


def test_gradients_that_are_nearly_zero_hardly_count() -> None:
    g = np.ones((100, 3))
    g[10:] *= 1e-4
    assert of(g, make(3, 4, 1).W, 100).metric_count == pytest.approx(10, rel=1e-3)


def test_rows_that_one_probe_holds_alone_count_as_that_probe_does() -> None:
    g = np.ones((100, 3))
    g[10:] = 0  # ten rows of the first of ten probes
    assert of(g, make(3, 4, 1).W, 10).metric_count == pytest.approx(np.sqrt(10 * 1))


@pytest.mark.parametrize("g", [np.zeros((5, 3)), np.full((5, 3), 1e-200)])
def test_gradients_too_small_to_be_told_from_zero_count_as_one(g: Array) -> None:
    assert of(g, make(3, 4, 1).W, 5).metric_count == 1


def test_rows_count_for_the_probe_they_are_of_however_many_it_has_and_in_any_order() -> None:
    W, g = make(3, 4, 1).W, gradients(9, 3)
    owners = np.array([2, 0, 0, 4, 2, 2, 0, 0, 0])  # 5 rows of the first probe, 3 of the third, 1 of the last of 5
    stats = Statistics(3, 4, Need.METRIC)
    stats.update_metric(g, W, 5, owners)
    power = np.sum(g**2, axis=1)
    by_probe = [power[owners == probe].sum() for probe in range(5)]
    np.testing.assert_allclose(stats.metric_spread, [power @ power, np.dot(by_probe, by_probe)])
    parts = [Statistics(3, 4, Need.METRIC) for _ in range(2)]
    for part, mine, first in ((parts[0], owners < 2, 0), (parts[1], owners >= 2, 2)):
        part.update_metric(g[mine], W, 2 if first == 0 else 3, owners[mine] - first)
    np.testing.assert_allclose((parts[0] + parts[1]).metric_spread, stats.metric_spread)
    assert (parts[0] + parts[1]).metric_probes == stats.metric_probes == 5
