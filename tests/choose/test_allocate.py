"""What a layer may become, one ratio and one error for all: costs and an amount become ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Rank, Size
from tests.choose.allocate_cases import (
    ALIKE,
    GAINING,
    SHAPES,
    SIZES,
    SOME_SIZES,
    cost_of,
    ladders,
    least_cost,
    often,
    size,
)

# What a layer may become


@often
@given(SOME_SIZES, st.integers(1, 9), st.integers(1, 40))
def test_a_ladder_holds_every_rank_that_saves_and_is_asked_for_and_dense(
    sizes: list[Size], multiple: int, least: int
) -> None:
    for one in sizes:
        found = allocate.ladder(one, one.params, multiple=multiple, least=least)
        ranks = [rank for rank in range(least, 201) if rank % multiple == 0 and one.params(rank) < one.m * one.n]
        assert found.ranks == (*ranks, None)
        assert found.costs.tolist() == [one.params(rank) for rank in found.ranks]
        assert found.dense == one.m * one.n
        assert found.gives == bool(ranks)


@pytest.mark.parametrize(
    ("multiple", "least", "ranks"),
    [
        (8, 1, (8, 16, 24, None)),
        (8, 9, (16, 24, None)),
        (8, 16, (16, 24, None)),
        (1, 23, (23, 24, None)),
        (1, 25, (None,)),
        (32, 1, (None,)),
    ],
)
def test_the_smallest_rank_is_the_first_multiple_that_is_large_enough(
    multiple: int, least: int, ranks: tuple[Rank, ...]
) -> None:
    one = size(50, 50)
    assert allocate.ladder(one, one.params, multiple=multiple, least=least).ranks == ranks


def test_a_pinned_layer_has_one_choice_and_keeps_its_dense_cost() -> None:
    one = size(50, 50)
    found = allocate.pinned((7,), one.params)
    assert (found.ranks, found.costs.tolist(), found.dense) == ((7,), [700.0], 2500.0)
    assert not found.gives
    assert not allocate.pinned((None,), one.params).gives


def test_dense_distorts_nothing_and_a_rank_what_its_curve_says() -> None:
    one = size(6, 6)
    assert allocate.ladder(one, one.params).distortions(np.array([9.0, 5.0, 2.0])).tolist() == [5.0, 2.0, 0.0]


def test_the_total_is_what_the_layers_cost_at_their_ranks() -> None:
    sizes = [size(10, 20), size(30, 30, growth=30), size(5, 5)]
    assert allocate.total(ladders(sizes), [2, None, 1]) == 60 + 900 + 10
    assert allocate.total(ladders(sizes), allocate.smallest(ladders(sizes))) == least_cost(sizes)
    assert allocate.total(ladders(sizes), allocate.largest(ladders(sizes))) == cost_of(sizes, [None] * 3)


# Costs that are no parameters


def test_a_rank_that_costs_as_much_as_dense_is_no_choice_whatever_the_cost_is() -> None:
    one = size(50, 50)
    bytes_of = lambda rank: one.params(rank) * 4 + (0 if rank is None else 500)  # noqa: E731
    assert allocate.ladder(one, bytes_of).ranks == (*range(1, 24), None)
    assert allocate.ladder(one, lambda rank: 7.0 if rank is None else 7.0 + rank).ranks == (None,)
    assert allocate.ladder(one, lambda rank: 7.0 if rank is None else 6.0 + rank / 2).ranks == (1, None)


def test_what_the_cost_is_decides_where_a_budget_goes() -> None:
    # The second layer runs nine times for each time the first does: its multiply-adds are worth nine times as much.
    sizes, tail = [size(20, 20), size(20, 20)], 1.0 / np.arange(1, 11)
    in_params = allocate.best(ladders(sizes), [tail, tail], 400)
    by_work = [
        allocate.ladder(one, lambda rank, t=times: 40.0 * t * (10 if rank is None else rank))  # type: ignore[misc]
        for one, times in zip(sizes, (1, 9), strict=True)
    ]
    in_work = allocate.best(by_work, [tail, tail], 40.0 * 40)
    assert in_params == [5, 5]
    assert in_work is not None
    first, second = (10 if rank is None else rank for rank in in_work)
    assert first > 2 * second
    assert 40 * (first + 9 * second) <= 1600


STAIRS = st.lists(st.floats(0, 3), min_size=12, max_size=12).map(lambda rises: np.cumsum([0.1, *rises]))


@often
@given(st.lists(STAIRS, min_size=1, max_size=4), st.integers(0, 2**32 - 1), st.floats(0, 1.05))
def test_costs_in_fractions_and_steps_that_are_free_keep_the_budget_too(
    stairs: list[Curve], seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    made = [
        allocate.ladder(size(30, 30), lambda rank, s=stair: float(s[-1 if rank is None else rank - 1]))  # type: ignore[misc]
        for stair in stairs
    ]
    curves = [np.sort(rng.random(15))[::-1] for _ in made]
    budget = share * allocate.total(made, allocate.largest(made))
    for ranks in (allocate.best(made, curves, budget), allocate.within(made, budget)):
        if ranks is None:
            assert budget < allocate.total(made, allocate.smallest(made)) + 1e-6
        else:
            assert allocate.total(made, ranks) <= budget + 1e-6
    ranks = allocate.best(made, curves, budget)
    if ranks is not None:
        left = budget - allocate.total(made, ranks)
        assert all(cost > left - 1e-6 for cost, _, _ in allocate.steps_up(made, ranks))


# One ratio for all


@often
@given(SOME_SIZES, st.floats(0, 2), st.booleans())
def test_a_rank_is_at_least_one_and_below_break_even(sizes: list[Size], ratio: float, small_too: bool) -> None:
    for one, rank in zip(sizes, allocate.at_ratio(ladders(sizes), ratio, small_too=small_too), strict=True):
        assert rank is None or rank >= 1
        assert rank is None or one.params(rank) < one.m * one.n


@often
@given(SIZES, st.floats(0, 1.1))
def test_a_budget_is_never_exceeded_and_every_rank_in_it_saves(sizes: list[Size], share: float) -> None:
    budget = int(share * sum(one.m * one.n for one in sizes))
    ranks = allocate.within(ladders(sizes), budget)
    if ranks is None:
        return
    assert cost_of(sizes, ranks) <= budget
    for one, rank in zip(sizes, ranks, strict=True):
        assert rank is None or (rank >= 1 and one.params(rank) < one.m * one.n)


@often
@given(ALIKE, st.floats(0, 1.1))
def test_the_next_larger_ratio_would_exceed_the_budget(sizes: list[Size], share: float) -> None:
    budget = int(share * sum(one.m * one.n for one in sizes))
    ranks = allocate.within(ladders(sizes), budget)
    kept = 0 if ranks is None else cost_of(sizes, ranks)
    for ratio in np.concatenate([one.costs / one.dense for one in ladders(sizes)]):
        other = cost_of(sizes, allocate.at_ratio(ladders(sizes), float(ratio)))
        assert other <= kept or other > budget


@often
@given(GAINING)
def test_the_budget_of_rank_one_everywhere_can_be_met_and_one_parameter_less_cannot(sizes: list[Size]) -> None:
    least = least_cost(sizes)
    assert allocate.smallest(ladders(sizes)) == [1] * len(sizes)
    assert allocate.within(ladders(sizes), least) == [1] * len(sizes)
    assert allocate.within(ladders(sizes), least - 1) is None


def test_a_budget_that_is_met_already_changes_nothing() -> None:
    assert allocate.within(ladders([size(100, 100), size(50, 50)]), 12_500) == [None, None]


def test_one_ratio_means_the_same_share_of_every_layer() -> None:
    sizes = [size(100, 300), size(200, 200)]
    assert allocate.at_ratio(ladders(sizes), 0.4) == [30, 40]
    assert [one.params(rank) / (one.m * one.n) for one, rank in zip(sizes, [30, 40], strict=True)] == [0.4, 0.4]


def test_every_choice_of_a_layer_is_the_dearest_within_its_own_cost() -> None:
    (one,) = ladders([size(100, 300)])
    assert one.ranks == (*range(1, 75), None)
    assert [one.below(float(cost)) for cost in one.costs] == list(range(75))
    assert [one.below(float(cost) - 1) for cost in one.costs] == [0, *range(74)]


@often
@given(SHAPES)
def test_the_share_a_choice_has_of_the_dense_cost_is_enough_to_buy_it(shape: tuple[int, int]) -> None:
    made = ladders([size(*shape)])
    for rank, cost in zip(made[0].ranks, made[0].costs, strict=True):
        assert allocate.at_ratio(made, float(cost / made[0].dense)) == [rank]


def test_small_layers_stay_dense_while_the_others_can_pay() -> None:
    sizes = [size(400, 400), size(10, 100)]
    assert allocate.within(ladders(sizes), 40_000) == [48, None]


def test_small_layers_pay_too_where_the_budget_cannot_be_met_without() -> None:
    sizes = [size(400, 400), size(10, 100)]
    assert cost_of(sizes, [1, None]) == 1800
    assert allocate.within(ladders(sizes), 1500) == [1, 1]


def test_a_new_bias_counts() -> None:
    assert size(10, 10).params(3) == 60
    assert size(10, 10, growth=10).params(3) == 70
    assert size(10, 10, growth=10).params(None) == 100


def test_a_layer_that_its_new_bias_makes_larger_at_any_rank_stays_dense() -> None:
    sizes = [size(100, 2, growth=100), size(50, 50)]
    assert sizes[0].largest_rank == 0
    assert allocate.at_ratio(ladders(sizes), 0.5, small_too=True) == [None, 12]
    assert allocate.smallest(ladders(sizes)) == [None, 1]
    assert allocate.within(ladders(sizes), 300) == [None, 1]


CURVES = st.integers(0, 999).map(lambda seed: np.sort(np.random.default_rng(seed).random(200))[::-1])


@often
@given(SOME_SIZES, CURVES, st.floats(0, 1), st.floats(0, 1))
def test_more_error_never_means_a_larger_layer(sizes: list[Size], curve: Curve, one: float, two: float) -> None:
    curves = [curve[: each.largest_rank + 1] for each in sizes]
    strict, loose = (allocate.at_error(ladders(sizes), curves, error) for error in sorted((one, two)))
    for each, small, large in zip(sizes, loose, strict, strict=True):
        assert each.params(small) <= each.params(large)


@often
@given(SOME_SIZES, CURVES, st.floats(0, 1))
def test_every_layer_meets_the_error_at_the_smallest_rank_that_does(
    sizes: list[Size], curve: Curve, error: float
) -> None:
    curves = [curve[: each.largest_rank + 1] for each in sizes]
    for each, own, rank in zip(sizes, curves, allocate.at_error(ladders(sizes), curves, error), strict=True):
        if rank is None:
            assert (own[1:] > error).all()
        else:
            assert 1 <= rank <= each.largest_rank
            assert own[rank] <= error
            assert rank == 1 or own[rank - 1] > error
