"""Costs and an amount become ranks."""

from __future__ import annotations

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
