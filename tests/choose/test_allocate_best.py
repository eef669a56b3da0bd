"""The least distortion within a budget, against everything that could be tried."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.choose import allocate
from onnx_dalr.choose.allocate import Curve, Rank, Size
from tests.choose.allocate_cases import (
    FEW,
    GAINING,
    SEEDS,
    SHARES,
    SOME_SIZES,
    cost_of,
    dense_cost,
    ladders,
    least_cost,
    often,
    size,
)

# The least distortion within a budget


def distortion(curves: list[Curve], ranks: allocate.Ranks) -> float:
    """The sum over the layers; staying dense distorts nothing."""
    return float(sum(0.0 if rank is None else curve[rank] for curve, rank in zip(curves, ranks, strict=True)))


def options(one: Size) -> list[Rank]:
    """Everything a layer can be: the ranks that save, and dense."""
    return [*range(1, one.largest_rank + 1), None]


def exact_optimum(sizes: list[Size], curves: list[Curve], budget: int) -> float:
    """By trying everything; infinite where nothing fits."""
    tried = (list(ranks) for ranks in itertools.product(*map(options, sizes)))
    fitting = [distortion(curves, ranks) for ranks in tried if cost_of(sizes, ranks) <= budget]
    return min(fitting, default=np.inf)


def step_costs(one: Size) -> list[int]:
    return [one.params(b) - one.params(a) for a, b in itertools.pairwise(options(one))]


def convex(one: Size, rng: np.random.Generator) -> Curve:
    """A curve that falls to 0 where the layer is dense, every parameter worth less than the one before."""
    gains = np.sort(rng.random(one.largest_rank))[::-1] * step_costs(one)
    curve = np.cumsum(gains[::-1])[::-1]
    return np.concatenate([[curve[0] + 1 if len(curve) else 1.0], curve])


def falling(one: Size, rng: np.random.Generator) -> Curve:
    """Any curve that does not rise: steps, plateaus, a last rank that is still far from dense."""
    drops = rng.random(one.largest_rank + 1) * (rng.random(one.largest_rank + 1) < 0.5)
    return np.cumsum(drops[::-1])[::-1] + rng.choice([0.0, 2.0])


def jumping(one: Size, rng: np.random.Generator) -> Curve:
    """Any numbers at all: measured sensitivities may rise with the rank."""
    return rng.random(one.largest_rank + 1)


def lp_bound(sizes: list[Size], curves: list[Curve], budget: int) -> float:
    """The least distortion if the last step could be taken in part: below it nothing can be, for convex curves."""
    left, reached = budget - least_cost(sizes), 0.0
    steps = []
    for one, curve in zip(sizes, curves, strict=True):
        values = [0.0 if rank is None else float(curve[rank]) for rank in options(one)]
        reached += values[0]
        steps += [(a - b, cost) for (a, b), cost in zip(itertools.pairwise(values), step_costs(one), strict=True)]
    for gain, cost in sorted(steps, key=lambda step: -step[0] / step[1]):
        taken = min(cost, left)
        reached, left = reached - gain * taken / cost, left - taken
    return reached


@often
@given(FEW, SEEDS, SHARES)
def test_on_convex_curves_the_best_is_within_one_step_of_the_bound_nothing_can_pass(
    sizes: list[Size], seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    curves, budget = [convex(one, rng) for one in sizes], int(share * dense_cost(sizes))
    ranks = allocate.best(ladders(sizes), curves, budget)
    if ranks is None:
        return
    bound, found = lp_bound(sizes, curves, budget), distortion(curves, ranks)
    one_step = max(
        (
            float(curve[rank]) - (0.0 if rank == one.largest_rank else float(curve[rank + 1]))
            for one, curve, rank in zip(sizes, curves, ranks, strict=True)
            if rank is not None
        ),
        default=0.0,
    )
    assert bound - 1e-9 <= exact_optimum(sizes, curves, budget) <= found + 1e-9
    assert found <= bound + one_step + 1e-9


@often
@given(FEW, SEEDS)
def test_at_every_budget_that_is_a_corner_of_the_hull_the_best_is_the_exact_optimum(
    sizes: list[Size], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    curves, budget = [convex(one, rng) for one in sizes], least_cost(sizes)
    values = [
        [0.0 if rank is None else float(curve[rank]) for rank in options(one)]
        for one, curve in zip(sizes, curves, strict=True)
    ]
    steps = [
        ((a - b) / cost, cost)
        for each, one in zip(values, sizes, strict=True)
        for (a, b), cost in zip(itertools.pairwise(each), step_costs(one), strict=True)
    ]
    for _, cost in [(np.inf, 0), *sorted(steps, reverse=True)]:
        budget += cost
        ranks = allocate.best(ladders(sizes), curves, budget)
        assert ranks is not None
        assert cost_of(sizes, ranks) == budget
        assert distortion(curves, ranks) == pytest.approx(exact_optimum(sizes, curves, budget), abs=1e-9)


@often
@given(st.sampled_from([4, 6, 8, 10]), st.integers(1, 4), SEEDS, SHARES)
def test_where_all_steps_cost_the_same_the_best_is_the_exact_optimum(
    extent: int, count: int, seed: int, share: float
) -> None:
    # An even square: each rank costs 2m, and so does the last step, to dense.
    sizes, rng = [size(extent, extent)] * count, np.random.default_rng(seed)
    assert set(step_costs(sizes[0])) == {2 * extent}
    curves, budget = [convex(one, rng) for one in sizes], int(share * dense_cost(sizes))
    ranks = allocate.best(ladders(sizes), curves, budget)
    if ranks is not None:
        assert distortion(curves, ranks) == pytest.approx(exact_optimum(sizes, curves, budget), abs=1e-9)


@often
@given(SOME_SIZES, st.sampled_from([convex, falling, jumping]), SEEDS, SHARES)
def test_whatever_the_curves_the_budget_holds_and_no_further_step_fits(
    sizes: list[Size], curve: Callable[..., Curve], seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    budget = int(share * dense_cost(sizes))
    ranks = allocate.best(ladders(sizes), [curve(one, rng) for one in sizes], budget)
    if ranks is None:
        assert budget < least_cost(sizes)
        return
    left = budget - cost_of(sizes, ranks)
    assert left >= 0
    for one, rank in zip(sizes, ranks, strict=True):
        assert rank is None or 1 <= rank <= one.largest_rank
        if rank is not None:
            above = rank + 1 if rank < one.largest_rank else None
            assert one.params(above) - one.params(rank) > left


@often
@given(SOME_SIZES, st.sampled_from([convex, falling, jumping]), SEEDS, SHARES, st.floats(0, 1))
def test_filling_raises_ranks_until_no_step_of_any_layer_fits(
    sizes: list[Size], curve: Callable[..., Curve], seed: int, share: float, start: float
) -> None:
    rng, made = np.random.default_rng(seed), ladders(sizes)
    before = allocate.within(made, start * share * dense_cost(sizes)) or allocate.smallest(made)
    budget = max(int(share * dense_cost(sizes)), cost_of(sizes, before))
    ranks = allocate.filled(made, [curve(one, rng) for one in sizes], before, budget)
    left = budget - cost_of(sizes, ranks)
    assert left >= 0
    for one, low, high in zip(made, before, ranks, strict=True):
        assert one.ranks.index(high) >= one.ranks.index(low)
    assert all(cost > left for cost, _, _ in allocate.steps_up(made, ranks))


def test_filling_gives_to_the_layer_that_gains_most_for_its_cost() -> None:
    made, tail = ladders([size(10, 10), size(10, 10)]), np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert allocate.filled(made, [tail, 2 * tail], [1, 1], 100) == [1, 4]
    assert allocate.filled(made, [2 * tail, tail], [1, 1], 100) == [4, 1]
    assert allocate.filled(made, [tail, tail], [2, 2], 80) == [2, 2]


def test_the_next_steps_come_cheapest_first_and_none_is_left_out() -> None:
    made = [*ladders([size(20, 20), size(10, 10), size(6, 6)]), allocate.pinned((3,), size(20, 20).params)]
    assert allocate.steps_up(made, [4, 4, None, 3]) == [(20.0, 1, None), (40.0, 0, 5)]
    assert allocate.steps_up(made, [9, 1, 2, 3]) == [(12.0, 2, None), (20.0, 1, 2), (40.0, 0, None)]
    assert allocate.steps_up(made, [None, None, None, 3]) == []


def test_a_pinned_layer_takes_its_cost_from_the_budget_and_never_moves() -> None:
    made = [allocate.pinned((3,), size(20, 20).params), *ladders([size(20, 20)])]
    tail = np.linspace(9, 1, 10)
    assert allocate.best(made, [1000 * tail, tail], 120 + 80) == [3, 2]
    assert allocate.within(made, 120 + 80) == [3, 2]
    assert allocate.at_ratio(made, 0.5) == [3, 5]
    assert allocate.at_error(made, [tail, tail], 0.0) == [3, None]
    assert allocate.best(made, [tail, tail], 120 + 39) is None
    assert allocate.within(made, 120 + 39) is None


def test_rank_multiples_hold_in_every_allocation() -> None:
    one, tail = size(64, 64), 0.9 ** np.arange(32)
    made = [allocate.ladder(one, one.params, multiple=8, least=10)] * 2
    assert allocate.smallest(made) == [16, 16]
    assert allocate.at_ratio(made, 0.8) == [24, 24]
    assert allocate.at_error(made, [tail, tail / 10], 0.9**17) == [24, 16]
    assert allocate.within(made, 2 * 128 * 23) == [16, 16]
    assert allocate.best(made, [tail, tail / 10], 128 * 40) == [24, 16]
    assert allocate.best(made, [tail, tail], 128 * 31) is None


@often
@given(FEW, st.sampled_from([convex, falling]), SEEDS)
def test_a_larger_budget_never_distorts_more(sizes: list[Size], curve: Callable[..., Curve], seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = [curve(one, rng) for one in sizes]
    before = np.inf
    for budget in range(least_cost(sizes), dense_cost(sizes) + 1):
        ranks = allocate.best(ladders(sizes), curves, budget)
        assert ranks is not None
        assert distortion(curves, ranks) <= before + 1e-12
        before = distortion(curves, ranks)


@often
@given(GAINING, SEEDS)
def test_the_best_within_the_least_budget_is_rank_one_everywhere_and_none_below(sizes: list[Size], seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves, least = (
        [falling(one, rng) for one in sizes],
        least_cost(sizes),
    )
    assert allocate.best(ladders(sizes), curves, least - 1) is None
    ranks = allocate.best(ladders(sizes), curves, least)
    assert ranks is not None
    # Nothing but a step that costs nothing could be left over.
    assert cost_of(sizes, ranks) == least


@often
@given(SOME_SIZES, st.sampled_from([convex, falling, jumping]), SEEDS)
def test_the_budget_of_the_whole_keeps_every_layer_dense(
    sizes: list[Size], curve: Callable[..., Curve], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    assert allocate.best(ladders(sizes), [curve(one, rng) for one in sizes], dense_cost(sizes)) == [None] * len(sizes)


def test_parameters_go_to_the_layer_the_output_feels() -> None:
    sizes = [size(10, 10), size(10, 10)]
    tail = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert allocate.best(ladders(sizes), [tail, tail / 1000], 100) == [4, 1]
    assert allocate.best(ladders(sizes), [tail / 1000, tail], 100) == [1, 4]


def test_a_layer_that_every_rank_distorts_stays_dense_and_the_others_pay_for_it() -> None:
    sizes = [size(10, 10), size(20, 20)]
    flat, tail = np.full(5, 50.0), np.linspace(10, 1, 10)
    ranks = allocate.best(ladders(sizes), [flat, tail], 100 + 40 * 4)
    assert ranks == [None, 4]


def test_where_its_dense_weight_does_not_fit_such_a_layer_gives_way() -> None:
    sizes = [size(10, 10), size(20, 20)]
    ranks = allocate.best(ladders(sizes), [np.full(5, 50.0), np.linspace(10, 1, 10)], 20 + 40 + 79)
    assert ranks is not None
    assert ranks[0] is not None


def test_a_layer_no_rank_makes_smaller_costs_its_dense_weight_and_is_left_alone() -> None:
    sizes = [size(100, 2, growth=100), size(10, 10)]
    curves = [np.array([1.0]), np.array([5.0, 4.0, 3.0, 2.0, 1.0])]
    assert allocate.best(ladders(sizes), curves, 200 + 60) == [None, 3]
    assert allocate.best(ladders(sizes), curves, 200 + 20) == [None, 1]
    assert allocate.best(ladders(sizes), curves, 200 + 19) is None
    assert allocate.best(ladders(sizes[:1]), curves[:1], 200) == [None]
    assert allocate.best([], [], 0) == []


def test_a_new_bias_is_paid_from_the_budget() -> None:
    tail = np.linspace(5, 1, 5)
    assert allocate.best(ladders([size(10, 10)]), [tail], 60) == [3]
    assert allocate.best(ladders([size(10, 10, growth=10)]), [tail], 60) == [2]
    assert allocate.best(ladders([size(10, 10, growth=10)]), [tail], 70) == [3]


def test_a_rank_that_is_exact_already_leaves_its_parameters_to_others() -> None:
    sizes = [size(20, 20), size(20, 20)]
    exact = np.array([9.0, 3.0, 0.0, *[0.0] * 7])
    assert allocate.best(ladders(sizes), [exact, np.linspace(9, 1, 10)], 40 * 8) == [2, 6]


def test_ties_go_to_the_first_layers_every_time() -> None:
    sizes, tail = [size(10, 10)] * 3, np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    found = [allocate.best(ladders(sizes), [tail] * 3, budget) for budget in (60, 80, 100, 120, 299) for _ in range(3)]
    assert found[0::3] == found[1::3] == found[2::3]
    for budget, ranks in zip((60, 80, 100, 120, 299), found[::3], strict=True):
        assert ranks is not None
        kept = [5 if rank is None else rank for rank in ranks]
        assert kept == sorted(kept, reverse=True), f"of equal layers the first get more, {budget}"
        assert cost_of(sizes, ranks) > budget - 20


@often
@given(st.lists(st.builds(size, st.integers(5, 40), st.integers(5, 40)), min_size=2, max_size=3), SEEDS, SHARES)
def test_rounding_on_straight_curves_costs_nothing(sizes: list[Size], seed: int, share: float) -> None:
    # Every step is worth the same but for the last digit, which must not put a later step before an earlier one.
    rng = np.random.default_rng(seed)
    curves = [
        rng.random() * (1 - np.arange(one.largest_rank + 1) / ((one.m * one.n) / (one.m + one.n))) for one in sizes
    ]
    budget = int(share * dense_cost(sizes))
    ranks = allocate.best(ladders(sizes), curves, budget)
    if ranks is None:
        return
    left = budget - cost_of(sizes, ranks)
    for one, rank in zip(sizes, ranks, strict=True):
        above = rank + 1 if rank is not None and rank < one.largest_rank else None
        assert rank is None or one.params(above) - one.params(rank) > left


# A rank at which the model gives NaN or infinity


def test_ranks_that_break_the_model_are_left_as_soon_as_the_budget_allows() -> None:
    sizes = [size(20, 20), size(20, 20)]
    tail = 1 / np.arange(1, 11)
    breaks = np.array([np.inf, np.inf, np.inf, *tail[3:]])
    for budget in range(40 * 4, 800, 40):
        for curves in ([breaks, tail], [tail, breaks]):
            ranks = allocate.best(ladders(sizes), curves, budget)
            assert ranks is not None
            assert np.isfinite(distortion(curves, ranks)), f"{ranks} at {budget}"


def test_a_layer_that_breaks_the_model_at_every_rank_stays_dense_where_that_fits() -> None:
    sizes = [size(20, 20), size(20, 20)]
    tail, never = 1 / np.arange(1, 11), np.full(10, np.inf)
    assert allocate.best(ladders(sizes), [never, tail], 400 + 120) == [None, 3]
    assert allocate.best(ladders(sizes), [tail, never], 400 + 120) == [3, None]


def test_where_it_does_not_fit_dense_the_layer_that_breaks_takes_nothing_from_the_others() -> None:
    sizes = [size(20, 20), size(20, 20)]
    tail, never = 1 / np.arange(1, 11), np.full(10, np.inf)
    assert allocate.best(ladders(sizes), [never, tail], 240) == [1, 5]
    assert allocate.best(ladders(sizes), [tail, never], 240) == [5, 1]


def test_curves_that_are_unknown_at_some_ranks_still_meet_the_budget() -> None:
    sizes = [size(20, 20), size(20, 20)]
    unknown = np.array([np.inf, np.inf, np.nan, *[np.nan] * 7])
    ranks = allocate.best(ladders(sizes), [unknown, 1 / np.arange(1, 11)], 400 + 120)
    assert ranks == [None, 3]
