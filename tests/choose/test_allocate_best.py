"""The least distortion within a budget, against everything that could be tried."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Forms, Ladder
from onnx_dalr.factorize import UNTOUCHED, Form
from tests.choose.allocate_cases import (
    FEW,
    GAINING,
    SEEDS,
    SHARES,
    SOME_SIZES,
    Size,
    cost_of,
    curve,
    dense_cost,
    ladders,
    least_cost,
    often,
    pair,
    pairs,
    steady,
)

# The least distortion within a budget


def distortion(sizes: list[Size], curves: list[Curve], forms: Forms) -> float:
    """The sum over the layers."""
    each = zip(sizes, curves, forms, strict=True)
    return float(sum(curve[one.menu.index(form)] for one, curve, form in each))


def exact_optimum(sizes: list[Size], curves: list[Curve], budget: int) -> float:
    """By trying everything; infinite where nothing fits."""
    tried = map(list, itertools.product(*(one.menu for one in sizes)))
    fitting = [distortion(sizes, curves, forms) for forms in tried if cost_of(sizes, forms) <= budget]
    return min(fitting, default=np.inf)


def step_costs(one: Size) -> list[int]:
    return [one.params(b) - one.params(a) for a, b in itertools.pairwise(one.menu)]


def step_after(one: Size, form: Form) -> int | None:
    """Cost of the next step up; None where there is none."""
    return None if form.untouched else step_costs(one)[one.menu.index(form)]


def convex(one: Size, rng: np.random.Generator) -> Curve:
    """A curve that falls to 0 where the layer is as it is, every parameter worth less than the one before."""
    gains = np.sort(rng.random(one.largest_rank))[::-1] * step_costs(one)
    return curve(*np.cumsum(gains[::-1])[::-1])


def falling(one: Size, rng: np.random.Generator) -> Curve:
    """Any curve that does not rise: steps, plateaus, a last rank that still loses much."""
    drops = rng.random(one.largest_rank) * (rng.random(one.largest_rank) < 0.5)
    return curve(*np.cumsum(drops[::-1])[::-1] + rng.choice([0.0, 2.0]))


def jumping(one: Size, rng: np.random.Generator) -> Curve:
    """Any numbers at all: measured effects may rise with the rank."""
    return curve(*rng.random(one.largest_rank))


def lp_bound(sizes: list[Size], curves: list[Curve], budget: int) -> float:
    """The least distortion if the last step could be taken in part: below it nothing can be, for convex curves."""
    left, reached = budget - least_cost(sizes), 0.0
    steps = []
    for one, values in zip(sizes, curves, strict=True):
        reached += float(values[0])
        steps += list(zip(-np.diff(values), step_costs(one), strict=True))
    for gain, cost in sorted(steps, key=lambda step: -step[0] / step[1]):
        taken = min(cost, left)
        reached, left = reached - gain * taken / cost, left - taken
    return float(reached)


@often
@given(FEW, SEEDS, SHARES)
def test_on_convex_curves_the_best_is_within_one_step_of_the_bound_nothing_can_pass(
    sizes: list[Size], seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    curves, budget = [convex(one, rng) for one in sizes], int(share * dense_cost(sizes))
    forms = allocate.best(ladders(sizes), curves, budget)
    if forms is None:
        return
    bound, found = lp_bound(sizes, curves, budget), distortion(sizes, curves, forms)
    each = zip(sizes, curves, forms, strict=True)
    gains = [-np.diff(values)[one.menu.index(form)] for one, values, form in each if not form.untouched]
    one_step = float(max(gains, default=0.0))
    assert bound - 1e-9 <= exact_optimum(sizes, curves, budget) <= found + 1e-9
    assert found <= bound + one_step + 1e-9


@often
@given(FEW, SEEDS)
def test_at_every_budget_that_is_a_corner_of_the_hull_the_best_is_the_exact_optimum(
    sizes: list[Size], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    curves, budget = [convex(one, rng) for one in sizes], least_cost(sizes)
    steps = [
        (gain / cost, cost)
        for one, values in zip(sizes, curves, strict=True)
        for gain, cost in zip(-np.diff(values), step_costs(one), strict=True)
    ]
    for _, cost in [(np.inf, 0), *sorted(steps, reverse=True)]:
        budget += cost
        forms = allocate.best(ladders(sizes), curves, budget)
        assert forms is not None
        assert cost_of(sizes, forms) == budget
        assert distortion(sizes, curves, forms) == pytest.approx(exact_optimum(sizes, curves, budget), abs=1e-9)


@often
@given(st.sampled_from([4, 6, 8, 10]), st.integers(1, 4), SEEDS, SHARES)
def test_where_all_steps_cost_the_same_the_best_is_the_exact_optimum(
    extent: int, count: int, seed: int, share: float
) -> None:
    # An even square: each rank costs 2m, and so does the last step, to dense.
    sizes, rng = [Size(extent, extent)] * count, np.random.default_rng(seed)
    assert set(step_costs(sizes[0])) == {2 * extent}
    curves, budget = [convex(one, rng) for one in sizes], int(share * dense_cost(sizes))
    forms = allocate.best(ladders(sizes), curves, budget)
    if forms is not None:
        assert distortion(sizes, curves, forms) == pytest.approx(exact_optimum(sizes, curves, budget), abs=1e-9)


@often
@given(SOME_SIZES, st.sampled_from([convex, falling, jumping]), SEEDS, SHARES)
def test_whatever_the_curves_the_budget_holds_and_no_further_step_that_loses_no_more_fits(
    sizes: list[Size], shape: Callable[..., Curve], seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    budget = int(share * dense_cost(sizes))
    curves = [shape(one, rng) for one in sizes]
    forms = allocate.best(ladders(sizes), curves, budget)
    if forms is None:
        assert budget < least_cost(sizes)
        return
    left = budget - cost_of(sizes, forms)
    assert left >= 0
    for one, lost, form in zip(ladders(sizes), curves, forms, strict=True):
        assert all(step > left for step in steps_worth_taking(one, lost, form))


def steps_worth_taking(one: Ladder, curve: Curve, form: Form) -> list[float]:
    """What it costs to get from a form to each dearer one that loses no more."""
    at, lost = one.forms.index(form), one.distortions(curve)
    return [float(one.costs[to] - one.costs[at]) for to in range(at + 1, len(one.forms)) if lost[to] <= lost[at]]


@often
@given(SOME_SIZES, st.sampled_from([convex, falling, jumping]), SEEDS, SHARES, st.floats(0, 1))
def test_filling_raises_ranks_until_no_step_of_any_layer_that_loses_no_more_fits(
    sizes: list[Size], shape: Callable[..., Curve], seed: int, share: float, start: float
) -> None:
    rng, made = np.random.default_rng(seed), ladders(sizes)
    before = allocate.within(made, start * share * dense_cost(sizes)) or allocate.smallest(made)
    budget = max(int(share * dense_cost(sizes)), cost_of(sizes, before))
    curves = [shape(one, rng) for one in sizes]
    forms = allocate.filled(made, curves, before, budget)
    left = budget - cost_of(sizes, forms)
    assert left >= 0
    for one, lost, low, high in zip(made, curves, before, forms, strict=True):
        assert one.forms.index(high) >= one.forms.index(low)
        assert all(step > left for step in steps_worth_taking(one, lost, high))


def test_filling_passes_over_what_loses_more() -> None:
    made, rising = ladders([Size(10, 10)]), curve(4.0, 9.0, 3.0, 2.0)
    assert allocate.filled(made, [rising], pairs(1), 59) == pairs(1)
    assert allocate.filled(made, [rising], pairs(1), 60) == pairs(3)


def test_filling_gives_to_the_layer_that_gains_most_for_its_cost() -> None:
    made, tail = ladders([Size(10, 10), Size(10, 10)]), steady(4, 1, 4)
    assert allocate.filled(made, [tail, 2 * tail], pairs(1, 1), 100) == pairs(1, 4)
    assert allocate.filled(made, [2 * tail, tail], pairs(1, 1), 100) == pairs(4, 1)
    assert allocate.filled(made, [tail, tail], pairs(2, 2), 80) == pairs(2, 2)


def test_the_next_steps_come_cheapest_first_and_none_is_left_out() -> None:
    made = [*ladders([Size(20, 20), Size(10, 10), Size(6, 6)]), Size(20, 20).pinned(3)]
    assert allocate.steps_up(made, pairs(4, 4, None, 3)) == [(20.0, 1, pair(None)), (40.0, 0, pair(5))]
    assert allocate.steps_up(made, pairs(9, 1, 2, 3)) == [
        (12.0, 2, pair(None)),
        (20.0, 1, pair(2)),
        (40.0, 0, pair(None)),
    ]
    assert allocate.steps_up(made, pairs(None, None, None, 3)) == []


def test_a_pinned_layer_takes_its_cost_from_the_budget_and_never_moves() -> None:
    made = [Size(20, 20).pinned(3), *ladders([Size(20, 20)])]
    tail = steady(9, 1, 9)
    assert allocate.best(made, [1000 * tail, tail], 120 + 80) == pairs(3, 2)
    assert allocate.within(made, 120 + 80) == pairs(3, 2)
    assert allocate.at_ratio(made, 0.5) == pairs(3, 5)
    assert allocate.at_error(made, [tail, tail], 0.0) == pairs(3, None)
    assert allocate.best(made, [tail, tail], 120 + 39) is None
    assert allocate.within(made, 120 + 39) is None


def test_rank_multiples_hold_in_every_allocation() -> None:
    one, tail = Size(64, 64), curve(*0.9 ** np.arange(1, 32))
    made = [allocate.ladder(one.menu, one.params, allowed=lambda form: form.rank[0] in (16, 24))] * 2
    assert allocate.smallest(made) == pairs(16, 16)
    assert allocate.at_ratio(made, 0.8) == pairs(24, 24)
    assert allocate.at_error(made, [tail, tail / 10], 0.9**17) == pairs(24, 16)
    assert allocate.within(made, 2 * 128 * 23) == pairs(16, 16)
    assert allocate.best(made, [tail, tail / 10], 128 * 40) == pairs(24, 16)
    assert allocate.best(made, [tail, tail], 128 * 31) is None


@often
@given(FEW, SEEDS)
def test_on_convex_curves_a_larger_budget_never_distorts_more(sizes: list[Size], seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = [convex(one, rng) for one in sizes]
    before = np.inf
    for budget in range(least_cost(sizes), dense_cost(sizes) + 1):
        forms = allocate.best(ladders(sizes), curves, budget)
        assert forms is not None
        assert distortion(sizes, curves, forms) <= before + 1e-12
        before = distortion(sizes, curves, forms)


@often
@given(GAINING, SEEDS)
def test_the_best_within_the_least_budget_is_rank_one_everywhere_and_none_below(sizes: list[Size], seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves, least = [falling(one, rng) for one in sizes], least_cost(sizes)
    assert allocate.best(ladders(sizes), curves, least - 1) is None
    forms = allocate.best(ladders(sizes), curves, least)
    assert forms is not None
    # Nothing but a step that costs nothing could be left over.
    assert cost_of(sizes, forms) == least


@often
@given(SOME_SIZES, st.sampled_from([convex, falling, jumping]), SEEDS)
def test_the_budget_of_the_whole_keeps_every_layer_dense(
    sizes: list[Size], shape: Callable[..., Curve], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    assert allocate.best(ladders(sizes), [shape(one, rng) for one in sizes], dense_cost(sizes)) == [UNTOUCHED] * len(
        sizes
    )


def test_parameters_go_to_the_layer_the_output_feels() -> None:
    sizes = [Size(10, 10), Size(10, 10)]
    tail = steady(4, 1, 4)
    assert allocate.best(ladders(sizes), [tail, tail / 1000], 100) == pairs(4, 1)
    assert allocate.best(ladders(sizes), [tail / 1000, tail], 100) == pairs(1, 4)


def test_a_layer_that_every_rank_distorts_stays_dense_and_the_others_pay_for_it() -> None:
    sizes = [Size(10, 10), Size(20, 20)]
    flat, tail = steady(50, 50, 4), steady(9, 1, 9)
    forms = allocate.best(ladders(sizes), [flat, tail], 100 + 40 * 4)
    assert forms == pairs(None, 4)


def test_where_its_dense_weight_does_not_fit_such_a_layer_gives_way() -> None:
    sizes = [Size(10, 10), Size(20, 20)]
    forms = allocate.best(ladders(sizes), [steady(50, 50, 4), steady(9, 1, 9)], 20 + 40 + 79)
    assert forms is not None
    assert not forms[0].untouched


def test_a_layer_no_rank_makes_smaller_costs_its_dense_weight_and_is_left_alone() -> None:
    sizes = [Size(100, 2, growth=100), Size(10, 10)]
    curves = [curve(), steady(4, 1, 4)]
    assert allocate.best(ladders(sizes), curves, 200 + 60) == pairs(None, 3)
    assert allocate.best(ladders(sizes), curves, 200 + 20) == pairs(None, 1)
    assert allocate.best(ladders(sizes), curves, 200 + 19) is None
    assert allocate.best(ladders(sizes[:1]), curves[:1], 200) == pairs(None)
    assert allocate.best([], [], 0) == []


def test_a_new_bias_is_paid_from_the_budget() -> None:
    tail = steady(4, 1, 4)
    assert allocate.best(ladders([Size(10, 10)]), [tail], 60) == pairs(3)
    assert allocate.best(ladders([Size(10, 10, growth=10)]), [tail], 60) == pairs(2)
    assert allocate.best(ladders([Size(10, 10, growth=10)]), [tail], 70) == pairs(3)


def test_a_rank_that_is_exact_already_leaves_its_parameters_to_others() -> None:
    sizes = [Size(20, 20), Size(20, 20)]
    exact = curve(3.0, *[0.0] * 8)
    assert allocate.best(ladders(sizes), [exact, steady(9, 1, 9)], 40 * 8) == pairs(2, 6)


def test_ties_go_to_the_first_layers_every_time() -> None:
    sizes, tail = [Size(10, 10)] * 3, steady(4, 1, 4)
    found = [allocate.best(ladders(sizes), [tail] * 3, budget) for budget in (60, 80, 100, 120, 299) for _ in range(3)]
    assert found[0::3] == found[1::3] == found[2::3]
    for budget, forms in zip((60, 80, 100, 120, 299), found[::3], strict=True):
        assert forms is not None
        kept = [one.menu.index(form) for one, form in zip(sizes, forms, strict=True)]
        assert kept == sorted(kept, reverse=True), f"of equal layers the first get more, {budget}"
        assert cost_of(sizes, forms) > budget - 20


@often
@given(st.lists(st.builds(Size, st.integers(5, 40), st.integers(5, 40)), min_size=2, max_size=3), SEEDS, SHARES)
def test_rounding_on_straight_curves_costs_nothing(sizes: list[Size], seed: int, share: float) -> None:
    # Every step is worth the same but for the last digit, which must not put a later step before an earlier one.
    rng = np.random.default_rng(seed)
    curves = [
        curve(*rng.random() * (1 - np.arange(1, one.largest_rank + 1) * (one.m + one.n) / (one.m * one.n)))
        for one in sizes
    ]
    budget = int(share * dense_cost(sizes))
    forms = allocate.best(ladders(sizes), curves, budget)
    if forms is None:
        return
    left = budget - cost_of(sizes, forms)
    for one, form in zip(sizes, forms, strict=True):
        step = step_after(one, form)
        assert step is None or step > left


# A rank at which the model gives NaN or infinity


def test_ranks_that_break_the_model_are_left_as_soon_as_the_budget_allows() -> None:
    sizes = [Size(20, 20), Size(20, 20)]
    tail = curve(*1 / np.arange(2, 11))
    breaks = np.array([np.inf, np.inf, *tail[2:]])
    for budget in range(40 * 4, 800, 40):
        for curves in ([breaks, tail], [tail, breaks]):
            forms = allocate.best(ladders(sizes), curves, budget)
            assert forms is not None
            assert np.isfinite(distortion(sizes, curves, forms)), f"{forms} at {budget}"


def test_a_layer_that_breaks_the_model_at_every_rank_stays_dense_where_that_fits() -> None:
    sizes = [Size(20, 20), Size(20, 20)]
    tail, never = curve(*1 / np.arange(2, 11)), curve(*[np.inf] * 9)
    assert allocate.best(ladders(sizes), [never, tail], 400 + 120) == pairs(None, 3)
    assert allocate.best(ladders(sizes), [tail, never], 400 + 120) == pairs(3, None)


def test_where_it_does_not_fit_dense_the_layer_that_breaks_takes_nothing_from_the_others() -> None:
    sizes = [Size(20, 20), Size(20, 20)]
    tail, never = curve(*1 / np.arange(2, 11)), curve(*[np.inf] * 9)
    assert allocate.best(ladders(sizes), [never, tail], 240) == pairs(1, 5)
    assert allocate.best(ladders(sizes), [tail, never], 240) == pairs(5, 1)


def test_curves_that_are_unknown_at_some_ranks_still_meet_the_budget() -> None:
    sizes = [Size(20, 20), Size(20, 20)]
    unknown = curve(np.inf, *[np.nan] * 8)
    forms = allocate.best(ladders(sizes), [unknown, curve(*1 / np.arange(2, 11))], 400 + 120)
    assert forms == pairs(None, 3)
