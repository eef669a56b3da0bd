"""Quality figures and their 95 % intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_dalr.quality.intervals import (
    Estimate,
    complement,
    error_estimate,
    is_near_chance,
    mean_estimate,
    paired_difference,
    paired_drop,
    ratio_of_medians,
    relative_error,
    subsampled_estimate,
)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Wilson (1927) without continuity correction.
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
        (1, 1, 0.2065, 1),
    ],
)
def test_a_share_has_wilsons_interval(right: int, n: int, low: float, high: float) -> None:
    found = mean_estimate(np.repeat([1.0, 0.0], [right, n - right]))
    assert (found.value, found.n) == (right / n, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_a_mean_has_about_the_interval_of_the_normal_law() -> None:
    values = np.random.default_rng(0).standard_normal(400) + 3
    found = mean_estimate(values)
    half = 1.96 * values.std() / 20
    assert found.value == values.mean()
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_the_bootstrap_is_the_same_every_time() -> None:
    values = np.random.default_rng(0).random(50)
    assert mean_estimate(values) == mean_estimate(values.copy())
    assert error_estimate(values, values + 1) == error_estimate(values, values + 1)


@pytest.mark.parametrize("seed", range(5))
def test_the_error_lies_within_its_interval(seed: int) -> None:
    difference, power = np.random.default_rng(seed).random((2, 30))
    found = error_estimate(difference, 10 + power)
    assert found.value == pytest.approx(np.sqrt(difference.sum() / (10 + power).sum()))
    assert found.low < found.value < found.high
    assert found.n == 30


def test_more_samples_narrow_the_interval() -> None:
    values = np.random.default_rng(0).random(1000)
    few, many = mean_estimate(values[:30]), mean_estimate(values)
    assert many.high - many.low < (few.high - few.low) / 3


def test_no_difference_is_no_error_without_doubt() -> None:
    assert error_estimate(np.zeros(9), np.ones(9)) == Estimate(0.0, 0.0, 0.0, 9)
    assert error_estimate(np.zeros(9), np.zeros(9)) == Estimate(0.0, 0.0, 0.0, 9)


def test_one_sample_has_no_interval() -> None:
    assert error_estimate(np.array([1.0]), np.array([4.0])) == Estimate(0.5, 0.5, 0.5, 1)
    assert mean_estimate(np.array([0.3])) == Estimate(0.3, 0.3, 0.3, 1)


def test_an_error_relative_to_nothing_is_infinite() -> None:
    assert relative_error(1.0, 0.0) == np.inf
    assert relative_error(0.0, 0.0) == 0.0
    assert error_estimate(np.ones(3), np.zeros(3)) == Estimate(np.inf, np.inf, np.inf, 3)


ANSWERS = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(ANSWERS)
def test_a_drop_lies_within_its_interval(answers: list[tuple[float, float]]) -> None:
    before, after = np.array(answers).T
    found = paired_drop(before, after)
    assert found.value == pytest.approx(before.mean() - after.mean())
    assert found.low <= found.value <= found.high
    assert found.n == len(answers)


def test_the_interval_of_a_drop_is_that_of_agresti_and_min() -> None:
    # 7 lost, 2 won of 100: with half a sample in each cell, 7.5 and 2.5 of 102.
    before, after = np.ones(100), np.ones(100)
    after[:7], before[7:9] = 0, 0
    found = paired_drop(before, after)
    spread = 1.96 * np.sqrt((7.5 + 2.5) - (7.5 - 2.5) ** 2 / 102) / 102
    assert found.value == 0.05
    assert (found.low, found.high) == pytest.approx((5 / 102 - spread, 5 / 102 + spread))


def test_a_drop_and_a_gain_mirror_each_other() -> None:
    before, after = np.random.default_rng(0).integers(0, 2, (2, 40)).astype(float)
    drop, gain = paired_drop(before, after), paired_drop(after, before)
    assert (drop.value, drop.low, drop.high) == pytest.approx((-gain.value, -gain.high, -gain.low))


def test_no_change_on_few_samples_is_not_certainty() -> None:
    same = paired_drop(np.ones(20), np.ones(20))
    assert same.value == 0
    assert same.low < 0 < same.high


def test_what_is_lost_of_a_share() -> None:
    found = complement(Estimate(0.9, 0.8, 0.95, 20))
    assert (found.value, found.low, found.high, found.n) == pytest.approx((0.1, 0.05, 0.2, 20))


@pytest.mark.parametrize(
    ("right", "n", "classes", "chance"),
    [
        (10, 100, 10, True),
        (0, 100, 10, True),
        (15, 100, 10, True),
        (17, 100, 10, False),
        (90, 100, 10, False),
        (50, 100, 2, True),
        (65, 100, 2, False),
        (1, 2, 1000, False),
        (5, 10, 1, True),
    ],
)
def test_near_chance_is_within_two_standard_errors_of_guessing(right: int, n: int, classes: int, chance: bool) -> None:
    assert is_near_chance(np.repeat([1.0, 0.0], [right, n - right]), classes) is chance


def test_right_and_wrong_answers_differ_as_two_accuracies_do() -> None:
    before, after = np.array([1.0] * 8 + [0.0] * 4), np.array([1.0] * 6 + [0.0] * 6)
    assert paired_difference(before, after) == paired_drop(before, after)


def test_paired_differences_do_not_see_what_both_share() -> None:
    random = np.random.default_rng(0)
    shared, own = 100 * random.standard_normal(200), random.standard_normal(200)
    found = paired_difference(shared + own, shared)
    half = 1.96 * own.std() / np.sqrt(200)
    assert found.value == pytest.approx(own.mean())
    assert (found.low, found.high) == pytest.approx((own.mean() - half, own.mean() + half), abs=0.2 * half)


def test_one_difference_has_no_interval() -> None:
    assert paired_difference(np.array([2.5]), np.array([0.5])) == Estimate(2, 2, 2, 1)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_subsets_of_any_size_give_a_mean_its_interval(share: float) -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal(400)
    size = int(400 * share)
    found = np.array([random.permutation(values)[:size].mean() for _ in range(2000)])
    estimate = subsampled_estimate(float(values.mean()), found, size, 400)
    half = 1.96 * values.std() / 20
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_an_interval_lies_about_a_figure_that_grows_with_the_samples() -> None:
    estimate = subsampled_estimate(10.0, np.linspace(4, 6, 100), 50, 100)
    assert (estimate.low, estimate.high) == pytest.approx((9.05, 10.95))


def test_without_subsets_there_is_no_interval() -> None:
    assert subsampled_estimate(3.0, np.zeros(0), 1, 2) == Estimate(3, 3, 3, 2)


def noise(random: np.random.Generator, n: int = 150) -> np.ndarray:
    """Times of runs that bursts of other work slow down together."""
    bursts = np.repeat(random.exponential(0.3, size=n // 10 + 1), 10)[:n]
    return 1 + bursts + 0.02 * random.standard_normal(n)


def test_two_equal_models_are_equally_fast_within_the_interval_also_where_neighbours_are_slow_together() -> None:
    """Drawn one by one the pairs had it in half of the cases."""
    random, within = np.random.default_rng(0), 0
    for _ in range(60):
        found = ratio_of_medians(noise(random), noise(random))
        within += found.low <= 1 <= found.high
    assert within >= 46


def test_an_interval_of_speeds_is_never_narrower_than_two_sessions_of_one_model_differ() -> None:
    found = ratio_of_medians(np.full(200, 2.0), np.full(200, 1.0))
    assert (found.value, found.low, found.high) == (2.0, pytest.approx(1.96), pytest.approx(2.04))
    alone = ratio_of_medians(np.array([2.0]), np.array([1.0]))
    assert alone.low < alone.value < alone.high


def test_of_three_runs_an_interval_of_speeds_is_all_that_they_may_mean() -> None:
    found = ratio_of_medians(np.array([230.0, 244.0, 260.0]), np.array([225.0, 219.0, 245.0]))
    assert found.value == pytest.approx(244 / 225)
    assert found.low < 230 / 245 < 260 / 219 < found.high
