"""Costs and an amount become ranks."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_dalr import allocate
from onnx_dalr.allocate import Size

often = settings(max_examples=150, deadline=None, derandomize=True)


def size(m: int, n: int, growth: int = 0) -> Size:
    return Size(m, n, growth, max(0, (m * n - growth - 1) // (m + n)))


def gains(m: int, n: int) -> bool:
    """A layer that some rank makes smaller without a new bias: what the search for layers lets through."""
    return (m * n - 1) // (m + n) >= 1


EXTENTS = st.one_of(st.integers(2, 200), st.integers(2, 5))
SHAPES = st.tuples(EXTENTS, EXTENTS).filter(lambda shape: gains(*shape))
SIZES = st.lists(st.builds(lambda shape, own: size(*shape, shape[0] * own), SHAPES, st.integers(0, 1)), max_size=6)
SOME_SIZES = SIZES.filter(bool)
GAINING = SOME_SIZES.map(lambda sizes: [one for one in sizes if one.largest_rank]).filter(bool)

# Of sizes that differ too little for any to count as small.
ALIKE = st.lists(st.builds(size, st.integers(20, 60), st.integers(20, 60)), min_size=1, max_size=6)


@often
@given(SOME_SIZES, st.floats(0, 2), st.booleans())
def test_a_rank_is_at_least_one_and_below_break_even(sizes: list[Size], ratio: float, small_too: bool) -> None:
    for one, rank in zip(sizes, allocate.at_ratio(sizes, ratio, small_too=small_too), strict=True):
        assert rank is None or rank >= 1
        assert rank is None or one.params(rank) < one.m * one.n


@often
@given(SIZES, st.floats(0, 1.1))
def test_a_budget_is_never_exceeded_and_every_rank_in_it_saves(sizes: list[Size], share: float) -> None:
    budget = int(share * sum(one.m * one.n for one in sizes))
    ranks = allocate.within(sizes, budget)
    if ranks is None:
        return
    assert allocate.total(sizes, ranks) <= budget
    for one, rank in zip(sizes, ranks, strict=True):
        assert rank is None or (rank >= 1 and one.params(rank) < one.m * one.n)


@often
@given(ALIKE, st.floats(0, 1.1))
def test_the_next_larger_ratio_would_exceed_the_budget(sizes: list[Size], share: float) -> None:
    budget = int(share * sum(one.m * one.n for one in sizes))
    ranks = allocate.within(sizes, budget)
    kept = 0 if ranks is None else allocate.total(sizes, ranks)
    for ratio in np.concatenate([one.ratios() for one in sizes]):
        other = allocate.total(sizes, allocate.at_ratio(sizes, float(ratio)))
        assert other <= kept or other > budget


@often
@given(GAINING)
def test_the_budget_of_rank_one_everywhere_can_be_met_and_one_parameter_less_cannot(sizes: list[Size]) -> None:
    least = allocate.total(sizes, allocate.smallest(sizes))
    assert allocate.smallest(sizes) == [1] * len(sizes)
    assert allocate.within(sizes, least) == [1] * len(sizes)
    assert allocate.within(sizes, least - 1) is None


def test_a_budget_that_is_met_already_changes_nothing() -> None:
    assert allocate.within([size(100, 100), size(50, 50)], 12_500) == [None, None]


def test_one_ratio_means_the_same_share_of_every_layer() -> None:
    sizes = [size(100, 300), size(200, 200)]
    assert allocate.at_ratio(sizes, 0.4) == [30, 40]
    assert [one.params(rank) / (one.m * one.n) for one, rank in zip(sizes, [30, 40], strict=True)] == [0.4, 0.4]


def test_the_steps_of_a_layer_are_the_ratios_its_ranks_keep() -> None:
    one = size(100, 300)
    assert [one.rank_at(float(ratio)) for ratio in one.ratios()] == list(range(1, one.largest_rank + 1))


def test_small_layers_stay_dense_while_the_others_can_pay() -> None:
    sizes = [size(400, 400), size(10, 100)]
    assert allocate.within(sizes, 40_000) == [48, None]


def test_small_layers_pay_too_where_the_budget_cannot_be_met_without() -> None:
    sizes = [size(400, 400), size(10, 100)]
    assert allocate.total(sizes, [1, None]) == 1800
    assert allocate.within(sizes, 1500) == [1, 1]


def test_a_new_bias_counts() -> None:
    assert size(10, 10).params(3) == 60
    assert size(10, 10, growth=10).params(3) == 70
    assert size(10, 10, growth=10).params(None) == 100


def test_a_layer_that_its_new_bias_makes_larger_at_any_rank_stays_dense() -> None:
    sizes = [size(100, 2, growth=100), size(50, 50)]
    assert sizes[0].largest_rank == 0
    assert allocate.at_ratio(sizes, 0.5, small_too=True) == [None, 12]
    assert allocate.smallest(sizes) == [None, 1]
    assert allocate.within(sizes, 300) == [None, 1]
    assert allocate.smallest_ratio(sizes) == pytest.approx(100 / 2500)


CURVES = st.integers(0, 999).map(lambda seed: np.sort(np.random.default_rng(seed).random(200))[::-1])


@often
@given(SOME_SIZES, CURVES, st.floats(0, 1), st.floats(0, 1))
def test_more_error_never_means_a_larger_layer(
    sizes: list[Size], curve: allocate.Curve, one: float, two: float
) -> None:
    curves = [curve[: each.largest_rank + 1] for each in sizes]
    strict, loose = (allocate.at_error(sizes, curves, error) for error in sorted((one, two)))
    for each, small, large in zip(sizes, loose, strict, strict=True):
        assert each.params(small) <= each.params(large)


@often
@given(SOME_SIZES, CURVES, st.floats(0, 1))
def test_every_layer_meets_the_error_at_the_smallest_rank_that_does(
    sizes: list[Size], curve: allocate.Curve, error: float
) -> None:
    curves = [curve[: each.largest_rank + 1] for each in sizes]
    for each, own, rank in zip(sizes, curves, allocate.at_error(sizes, curves, error), strict=True):
        if rank is None:
            assert (own[1:] > error).all()
        else:
            assert 1 <= rank <= each.largest_rank
            assert own[rank] <= error
            assert rank == 1 or own[rank - 1] > error


# The least distortion within a budget


def dense_cost(sizes: list[Size]) -> int:
    return allocate.total(sizes, [None] * len(sizes))


def distortion(curves: list[allocate.Curve], ranks: allocate.Ranks) -> float:
    """The sum over the layers; staying dense distorts nothing."""
    return float(sum(0.0 if rank is None else curve[rank] for curve, rank in zip(curves, ranks, strict=True)))


def options(one: Size) -> list[int | None]:
    """Everything a layer can be: the ranks that save, and dense."""
    return [*range(1, one.largest_rank + 1), None]


def exact_optimum(sizes: list[Size], curves: list[allocate.Curve], budget: int) -> float:
    """By trying everything; infinite where nothing fits."""
    tried = (list(ranks) for ranks in itertools.product(*map(options, sizes)))
    fitting = [distortion(curves, ranks) for ranks in tried if allocate.total(sizes, ranks) <= budget]
    return min(fitting, default=np.inf)


def step_costs(one: Size) -> list[int]:
    return [one.params(b) - one.params(a) for a, b in itertools.pairwise(options(one))]


def convex(one: Size, rng: np.random.Generator) -> allocate.Curve:
    """A curve that falls to 0 where the layer is dense, every parameter worth less than the one before."""
    gains = np.sort(rng.random(one.largest_rank))[::-1] * step_costs(one)
    curve = np.cumsum(gains[::-1])[::-1]
    return np.concatenate([[curve[0] + 1 if len(curve) else 1.0], curve])


def falling(one: Size, rng: np.random.Generator) -> allocate.Curve:
    """Any curve that does not rise: steps, plateaus, a last rank that is still far from dense."""
    drops = rng.random(one.largest_rank + 1) * (rng.random(one.largest_rank + 1) < 0.5)
    return np.cumsum(drops[::-1])[::-1] + rng.choice([0.0, 2.0])


def jumping(one: Size, rng: np.random.Generator) -> allocate.Curve:
    """Any numbers at all: measured sensitivities may rise with the rank."""
    return rng.random(one.largest_rank + 1)


FEW = st.lists(
    st.builds(lambda m, n, own: size(m, n, m * own), st.integers(3, 9), st.integers(3, 9), st.integers(0, 1)),
    min_size=1,
    max_size=3,
)
SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.floats(0, 1.05)


def lp_bound(sizes: list[Size], curves: list[allocate.Curve], budget: int) -> float:
    """The least distortion if the last step could be taken in part: below it nothing can be, for convex curves."""
    left, reached = budget - allocate.total(sizes, allocate.smallest(sizes)), 0.0
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
    ranks = allocate.best(sizes, curves, budget)
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
@given(st.sampled_from([4, 6, 8, 10]), st.integers(1, 4), SEEDS, SHARES)
def test_where_all_steps_cost_the_same_the_best_is_the_exact_optimum(
    extent: int, count: int, seed: int, share: float
) -> None:
    # An even square: each rank costs 2m, and so does the last step, to dense.
    sizes, rng = [size(extent, extent)] * count, np.random.default_rng(seed)
    assert set(step_costs(sizes[0])) == {2 * extent}
    curves, budget = [convex(one, rng) for one in sizes], int(share * dense_cost(sizes))
    ranks = allocate.best(sizes, curves, budget)
    if ranks is not None:
        assert distortion(curves, ranks) == pytest.approx(exact_optimum(sizes, curves, budget), abs=1e-9)


@often
@given(SOME_SIZES, st.sampled_from([convex, falling, jumping]), SEEDS, SHARES)
def test_whatever_the_curves_the_budget_holds_and_no_further_step_fits(
    sizes: list[Size], curve: Callable[..., allocate.Curve], seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    budget = int(share * dense_cost(sizes))
    ranks = allocate.best(sizes, [curve(one, rng) for one in sizes], budget)
    if ranks is None:
        assert budget < allocate.total(sizes, allocate.smallest(sizes))
        return
    left = budget - allocate.total(sizes, ranks)
    assert left >= 0
    for one, rank in zip(sizes, ranks, strict=True):
        assert rank is None or 1 <= rank <= one.largest_rank
        if rank is not None:
            above = rank + 1 if rank < one.largest_rank else None
            assert one.params(above) - one.params(rank) > left


@often
@given(FEW, st.sampled_from([convex, falling]), SEEDS)
def test_a_larger_budget_never_distorts_more(
    sizes: list[Size], curve: Callable[..., allocate.Curve], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    curves = [curve(one, rng) for one in sizes]
    before = np.inf
    for budget in range(allocate.total(sizes, allocate.smallest(sizes)), dense_cost(sizes) + 1):
        ranks = allocate.best(sizes, curves, budget)
        assert ranks is not None
        assert distortion(curves, ranks) <= before + 1e-12
        before = distortion(curves, ranks)


@often
@given(GAINING, SEEDS)
def test_the_best_within_the_least_budget_is_rank_one_everywhere_and_none_below(sizes: list[Size], seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves, least = [falling(one, rng) for one in sizes], allocate.total(sizes, allocate.smallest(sizes))
    assert allocate.best(sizes, curves, least - 1) is None
    ranks = allocate.best(sizes, curves, least)
    assert ranks is not None
    # Nothing but a step that costs nothing could be left over.
    assert allocate.total(sizes, ranks) == least


@often
@given(SOME_SIZES, st.sampled_from([convex, falling, jumping]), SEEDS)
def test_the_budget_of_the_whole_keeps_every_layer_dense(
    sizes: list[Size], curve: Callable[..., allocate.Curve], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    assert allocate.best(sizes, [curve(one, rng) for one in sizes], dense_cost(sizes)) == [None] * len(sizes)


def test_parameters_go_to_the_layer_the_output_feels() -> None:
    sizes = [size(10, 10), size(10, 10)]
    tail = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert allocate.best(sizes, [tail, tail / 1000], 100) == [4, 1]
    assert allocate.best(sizes, [tail / 1000, tail], 100) == [1, 4]


def test_a_layer_that_every_rank_distorts_stays_dense_and_the_others_pay_for_it() -> None:
    sizes = [size(10, 10), size(20, 20)]
    flat, tail = np.full(5, 50.0), np.linspace(10, 1, 10)
    ranks = allocate.best(sizes, [flat, tail], 100 + 40 * 4)
    assert ranks == [None, 4]


def test_where_its_dense_weight_does_not_fit_such_a_layer_gives_way() -> None:
    sizes = [size(10, 10), size(20, 20)]
    ranks = allocate.best(sizes, [np.full(5, 50.0), np.linspace(10, 1, 10)], 20 + 40 + 79)
    assert ranks is not None
    assert ranks[0] is not None


def test_a_layer_no_rank_makes_smaller_costs_its_dense_weight_and_is_left_alone() -> None:
    sizes = [size(100, 2, growth=100), size(10, 10)]
    curves = [np.array([1.0]), np.array([5.0, 4.0, 3.0, 2.0, 1.0])]
    assert allocate.best(sizes, curves, 200 + 60) == [None, 3]
    assert allocate.best(sizes, curves, 200 + 20) == [None, 1]
    assert allocate.best(sizes, curves, 200 + 19) is None
    assert allocate.best(sizes[:1], curves[:1], 200) == [None]
    assert allocate.best([], [], 0) == []


def test_a_new_bias_is_paid_from_the_budget() -> None:
    tail = np.linspace(5, 1, 5)
    assert allocate.best([size(10, 10)], [tail], 60) == [3]
    assert allocate.best([size(10, 10, growth=10)], [tail], 60) == [2]
    assert allocate.best([size(10, 10, growth=10)], [tail], 70) == [3]


def test_a_rank_that_is_exact_already_leaves_its_parameters_to_others() -> None:
    sizes = [size(20, 20), size(20, 20)]
    exact = np.array([9.0, 3.0, 0.0, *[0.0] * 7])
    assert allocate.best(sizes, [exact, np.linspace(9, 1, 10)], 40 * 8) == [2, 6]


def test_ties_go_to_the_first_layers_every_time() -> None:
    sizes, tail = [size(10, 10)] * 3, np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    found = [allocate.best(sizes, [tail] * 3, budget) for budget in (60, 80, 100, 120, 299) for _ in range(3)]
    assert found[0::3] == found[1::3] == found[2::3]
    for budget, ranks in zip((60, 80, 100, 120, 299), found[::3], strict=True):
        assert ranks is not None
        kept = [5 if rank is None else rank for rank in ranks]
        assert kept == sorted(kept, reverse=True), f"of equal layers the first get more, {budget}"
        assert allocate.total(sizes, ranks) > budget - 20


@often
@given(st.lists(st.builds(size, st.integers(5, 40), st.integers(5, 40)), min_size=2, max_size=3), SEEDS, SHARES)
def test_rounding_on_straight_curves_costs_nothing(sizes: list[Size], seed: int, share: float) -> None:
    # Every step is worth the same but for the last digit, which must not put a later step before an earlier one.
    rng = np.random.default_rng(seed)
    curves = [
        rng.random() * (1 - np.arange(one.largest_rank + 1) / ((one.m * one.n) / (one.m + one.n))) for one in sizes
    ]
    budget = int(share * dense_cost(sizes))
    ranks = allocate.best(sizes, curves, budget)
    if ranks is None:
        return
    left = budget - allocate.total(sizes, ranks)
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
            ranks = allocate.best(sizes, curves, budget)
            assert ranks is not None
            assert np.isfinite(distortion(curves, ranks)), f"{ranks} at {budget}"


def test_a_layer_that_breaks_the_model_at_every_rank_stays_dense_where_that_fits() -> None:
    sizes = [size(20, 20), size(20, 20)]
    tail, never = 1 / np.arange(1, 11), np.full(10, np.inf)
    assert allocate.best(sizes, [never, tail], 400 + 120) == [None, 3]
    assert allocate.best(sizes, [tail, never], 400 + 120) == [3, None]


def test_where_it_does_not_fit_dense_the_layer_that_breaks_takes_nothing_from_the_others() -> None:
    sizes = [size(20, 20), size(20, 20)]
    tail, never = 1 / np.arange(1, 11), np.full(10, np.inf)
    assert allocate.best(sizes, [never, tail], 240) == [1, 5]
    assert allocate.best(sizes, [tail, never], 240) == [5, 1]


def test_curves_that_are_unknown_at_some_ranks_still_meet_the_budget() -> None:
    sizes = [size(20, 20), size(20, 20)]
    unknown = np.array([np.inf, np.inf, np.nan, *[np.nan] * 7])
    ranks = allocate.best(sizes, [unknown, 1 / np.arange(1, 11)], 400 + 120)
    assert ranks == [None, 3]
