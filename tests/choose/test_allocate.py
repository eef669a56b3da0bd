"""What a layer may become, one ratio and one error for all: costs and an amount become ranks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve
from onnx_dalr.factorize import UNTOUCHED, Form
from tests.choose.allocate_cases import (
    ALIKE,
    GAINING,
    SHAPES,
    SIZES,
    SOME_SIZES,
    Size,
    cost_of,
    curve,
    dense_cost,
    ladders,
    least_cost,
    menu,
    often,
    pair,
    pairs,
)

# What a layer may become


def keeping_to(multiple: int, least: int = 1) -> Callable[[Form], bool]:
    return lambda form: form.rank[0] % multiple == 0 and form.rank[0] >= least


@often
@given(SOME_SIZES, st.integers(1, 9), st.integers(1, 40))
def test_a_ladder_holds_every_form_that_saves_and_is_allowed_and_the_layer_as_it_is(
    sizes: list[Size], multiple: int, least: int
) -> None:
    for one in sizes:
        found = allocate.ladder(one.menu, one.params, allowed=keeping_to(multiple, least))
        whole = one.m * one.n
        ranks = [rank for rank in range(least, 201) if rank % multiple == 0 and one.params(pair(rank)) < whole]
        assert found.forms == menu(*ranks, None)
        assert found.costs.tolist() == [one.params(form) for form in found.forms]
        assert [one.menu[place] for place in found.places] == list(found.forms)
        assert found.whole == whole
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
    multiple: int, least: int, ranks: tuple[int | None, ...]
) -> None:
    one = Size(50, 50)
    assert allocate.ladder(one.menu, one.params, allowed=keeping_to(multiple, least)).forms == menu(*ranks)


def test_a_pinned_layer_has_one_choice_and_keeps_the_cost_it_has_as_it_is() -> None:
    found = Size(50, 50).pinned(7)
    assert (found.forms, found.costs.tolist(), found.whole) == (menu(7), [700.0], 2500.0)
    assert not found.gives
    assert not Size(50, 50).pinned(None).gives


def test_a_choice_distorts_what_the_curve_says_at_its_place_in_the_menu() -> None:
    one, lost = Size(9, 9), curve(9.0, 5.0, 2.0, 1.0)
    assert one.ladder().distortions(lost).tolist() == [9.0, 5.0, 2.0, 1.0, 0.0]
    assert allocate.ladder(one.menu, one.params, allowed=keeping_to(2)).distortions(lost).tolist() == [5.0, 1.0, 0.0]
    assert one.pinned(3).distortions(lost).tolist() == [2.0]


def test_the_total_is_what_the_layers_cost_in_their_forms() -> None:
    sizes = [Size(10, 20), Size(30, 30, growth=30), Size(5, 5)]
    assert allocate.total(ladders(sizes), pairs(2, None, 1)) == 60 + 900 + 10
    assert allocate.total(ladders(sizes), allocate.smallest(ladders(sizes))) == least_cost(sizes)
    assert allocate.total(ladders(sizes), allocate.largest(ladders(sizes))) == dense_cost(sizes)


# Costs that are no parameters


def test_a_form_that_costs_as_much_as_the_layer_as_it_is_is_no_choice_whatever_the_cost_is() -> None:
    one = Size(50, 50)

    def ranks(price: Callable[[Form], float]) -> allocate.Menu:
        return allocate.ladder(one.menu, price).forms

    assert ranks(lambda form: one.params(form) * 4 + 500 * (not form.untouched)) == menu(*range(1, 24), None)
    assert ranks(lambda form: 7.0 + sum(form.rank)) == menu(None)
    assert ranks(lambda form: 7.0 if form.untouched else 6.0 + form.rank[0] / 2) == menu(1, None)


def test_what_the_cost_is_decides_where_a_budget_goes() -> None:
    # The second layer runs nine times for each time the first does: its multiply-adds are worth nine times as much.
    sizes, tail = [Size(20, 20), Size(20, 20)], curve(*1.0 / np.arange(1, 10))
    by_work = [
        allocate.ladder(one.menu, lambda form, t=times: 40.0 * t * (10 if form.untouched else form.rank[0]))  # type: ignore[misc]
        for one, times in zip(sizes, (1, 9), strict=True)
    ]
    assert allocate.best(ladders(sizes), [tail, tail], 400) == pairs(5, 5)
    in_work = allocate.best(by_work, [tail, tail], 40.0 * 40)
    assert in_work is not None
    first, second = (10 if form.untouched else form.rank[0] for form in in_work)
    assert first > 2 * second
    assert 40 * (first + 9 * second) <= 1600


STAIRS = st.lists(st.floats(0, 3), min_size=12, max_size=12).map(lambda rises: np.cumsum([0.1, *rises]))


@often
@given(st.lists(STAIRS, min_size=1, max_size=4), st.integers(0, 2**32 - 1), st.floats(0, 1.05))
def test_costs_in_fractions_and_steps_that_are_free_keep_the_budget_too(
    stairs: list[Curve], seed: int, share: float
) -> None:
    rng, one = np.random.default_rng(seed), Size(30, 30)
    made = [
        allocate.ladder(one.menu, lambda form, s=stair: float(s[-1 if form.untouched else min(form.rank[0], 13) - 1]))  # type: ignore[misc]
        for stair in stairs
    ]
    curves = [curve(*np.sort(rng.random(one.largest_rank))[::-1]) for _ in made]
    budget = share * allocate.total(made, allocate.largest(made))
    best, within = allocate.best(made, curves, budget), allocate.within(made, budget)
    for forms in (best, within):
        if forms is None:
            assert budget < allocate.total(made, allocate.smallest(made)) + 1e-6
        else:
            assert allocate.total(made, forms) <= budget + 1e-6
    if best is not None:
        left = budget - allocate.total(made, best)
        assert all(cost > left - 1e-6 for cost, _, _ in allocate.steps_up(made, best))


# One ratio for all


@often
@given(SOME_SIZES, st.floats(0, 2), st.booleans())
def test_a_rank_is_at_least_one_and_below_break_even(sizes: list[Size], ratio: float, small_too: bool) -> None:
    for one, form in zip(sizes, allocate.at_ratio(ladders(sizes), ratio, small_too=small_too), strict=True):
        assert form in one.menu
        assert form.untouched or one.params(form) < one.m * one.n


@often
@given(SIZES, st.floats(0, 1.1))
def test_a_budget_is_never_exceeded_and_every_rank_in_it_saves(sizes: list[Size], share: float) -> None:
    budget = int(share * dense_cost(sizes))
    forms = allocate.within(ladders(sizes), budget)
    if forms is None:
        return
    assert cost_of(sizes, forms) <= budget
    for one, form in zip(sizes, forms, strict=True):
        assert form.untouched or one.params(form) < one.m * one.n


@often
@given(ALIKE, st.floats(0, 1.1))
def test_the_next_larger_ratio_would_exceed_the_budget(sizes: list[Size], share: float) -> None:
    budget = int(share * dense_cost(sizes))
    forms = allocate.within(ladders(sizes), budget)
    kept = 0 if forms is None else cost_of(sizes, forms)
    for ratio in np.concatenate([one.costs / one.whole for one in ladders(sizes)]):
        other = cost_of(sizes, allocate.at_ratio(ladders(sizes), float(ratio)))
        assert other <= kept or other > budget


@often
@given(GAINING)
def test_the_budget_of_rank_one_everywhere_can_be_met_and_one_parameter_less_cannot(sizes: list[Size]) -> None:
    least = least_cost(sizes)
    assert allocate.smallest(ladders(sizes)) == pairs(1) * len(sizes)
    assert allocate.within(ladders(sizes), least) == pairs(1) * len(sizes)
    assert allocate.within(ladders(sizes), least - 1) is None


def test_a_budget_that_is_met_already_changes_nothing() -> None:
    assert allocate.within(ladders([Size(100, 100), Size(50, 50)]), 12_500) == pairs(None, None)


def test_one_ratio_means_the_same_share_of_every_layer() -> None:
    sizes = [Size(100, 300), Size(200, 200)]
    assert allocate.at_ratio(ladders(sizes), 0.4) == pairs(30, 40)
    assert [one.params(form) / (one.m * one.n) for one, form in zip(sizes, pairs(30, 40), strict=True)] == [0.4, 0.4]


def test_every_choice_of_a_layer_is_the_dearest_within_its_own_cost() -> None:
    (one,) = ladders([Size(100, 300)])
    assert one.forms == menu(*range(1, 75), None)
    assert [one.below(float(cost)) for cost in one.costs] == list(range(75))
    assert [one.below(float(cost) - 1) for cost in one.costs] == [0, *range(74)]


@often
@given(SHAPES)
def test_the_share_a_choice_has_of_the_dense_cost_is_enough_to_buy_it(shape: tuple[int, int]) -> None:
    made = ladders([Size(*shape)])
    for form, cost in zip(made[0].forms, made[0].costs, strict=True):
        assert allocate.at_ratio(made, float(cost / made[0].whole)) == [form]


def test_small_layers_stay_dense_while_the_others_can_pay() -> None:
    sizes = [Size(400, 400), Size(10, 100)]
    assert allocate.within(ladders(sizes), 40_000) == pairs(48, None)


def test_small_layers_pay_too_where_the_budget_cannot_be_met_without() -> None:
    sizes = [Size(400, 400), Size(10, 100)]
    assert cost_of(sizes, pairs(1, None)) == 1800
    assert allocate.within(ladders(sizes), 1500) == pairs(1, 1)


def test_a_new_bias_counts() -> None:
    assert Size(10, 10).params(pair(3)) == 60
    assert Size(10, 10, growth=10).params(pair(3)) == 70
    assert Size(10, 10, growth=10).params(UNTOUCHED) == 100


def test_a_layer_that_its_new_bias_makes_larger_at_any_rank_stays_dense() -> None:
    sizes = [Size(100, 2, growth=100), Size(50, 50)]
    assert sizes[0].largest_rank == 0
    assert allocate.at_ratio(ladders(sizes), 0.5, small_too=True) == pairs(None, 12)
    assert allocate.smallest(ladders(sizes)) == pairs(None, 1)
    assert allocate.within(ladders(sizes), 300) == pairs(None, 1)


FALLING = st.integers(0, 999).map(lambda seed: np.sort(np.random.default_rng(seed).random(200))[::-1])


def along(sizes: list[Size], values: Curve) -> list[Curve]:
    """By layer: the first of the values, and nothing as it is."""
    return [curve(*values[: one.largest_rank]) for one in sizes]


@often
@given(SOME_SIZES, FALLING, st.floats(0, 1), st.floats(0, 1))
def test_more_error_never_means_a_larger_layer(sizes: list[Size], values: Curve, one: float, two: float) -> None:
    curves = along(sizes, values)
    strict, loose = (allocate.at_error(ladders(sizes), curves, error) for error in sorted((one, two)))
    for each, small, large in zip(sizes, loose, strict, strict=True):
        assert each.params(small) <= each.params(large)


@often
@given(SOME_SIZES, FALLING, st.floats(0, 1))
def test_every_layer_meets_the_error_in_the_cheapest_form_that_does(
    sizes: list[Size], values: Curve, error: float
) -> None:
    curves = along(sizes, values)
    for each, own, form in zip(sizes, curves, allocate.at_error(ladders(sizes), curves, error), strict=True):
        place = each.menu.index(form)
        assert own[place] <= error
        assert (own[:place] > error).all()
