"""The smallest model within a tolerance: few evaluations, and who allows more never gets a larger model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_dalr.choose import allocate
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.choose.tolerance import EVALUATIONS
from onnx_dalr.choose.trials import BY_EFFECT, EQUAL
from onnx_dalr.errors import InputError, TargetError
from onnx_dalr.plan.plan import Plan
from onnx_dalr.units import parse_error, parse_points
from tests.choose.allocate_cases import curve, pairs
from tests.choose.search_cases import (
    DENSE,
    LADDERS,
    NAMED,
    SPECTRA,
    SVD_BC,
    THREE,
    UNEVEN,
    Fixed,
    Scored,
    cost,
    decided,
    layers_of,
    moved,
    named,
    posed,
    rank_of,
    ranks_of,
    spectra_of,
    weighted,
)

often = settings(max_examples=60, deadline=None, derandomize=True)


def kept(found: Plan | NAMED) -> float:
    """Share of the parameters of the three layers."""
    ranks = list((named(found) if isinstance(found, Plan) else found).values())
    return allocate.total(LADDERS, pairs(*ranks)) / DENSE


def jumping(seed: int, found: Plan | NAMED) -> float:
    """A number from 0 to 1 that has nothing to do with the ranks but depends on them alone."""
    ranks = named(found) if isinstance(found, Plan) else found
    return float(np.random.default_rng([seed, crc32(repr(list(ranks.values())).encode())]).random())


@pytest.mark.parametrize(
    ("target", "what"), [({"max_drop": "1%"}, "drop"), ({"max_error": 0.1}, "error"), ({}, "drop")]
)
def test_nothing_can_be_measured_without_held_out_samples(target: dict[str, str], what: str) -> None:
    with pytest.raises(InputError, match=f"no {what} can be measured") as error:
        decided(None, **target)
    assert "--params" in error.value.hint


@pytest.mark.parametrize("felt", [False, True])
@often
@given(needed=st.floats(0.1, 0.9))
def test_the_search_finds_nearly_the_smallest_model_within_the_drop(felt: bool, needed: float) -> None:
    scored = Scored(lambda ranks: 0.0 if kept(ranks) >= needed else 0.5)
    found = decided(scored, Fixed(UNEVEN) if felt else None)
    assert found.evaluations == len(scored.plans) <= EVALUATIONS == 10
    assert needed <= kept(found) < 1.1 * needed + 0.03


def test_an_error_is_a_tolerance_of_its_own_and_the_drop_has_no_say_in_it() -> None:
    scored = Scored(lambda ranks: 1.0, error=lambda ranks: 0.0 if kept(ranks) >= 0.4 else 0.05)
    found = decided(scored, Fixed(UNEVEN), max_error=0.02)
    assert 0.4 <= kept(found) < 0.5
    assert found.target == "max-error 0.02"
    assert found.compressed[0].reason.endswith("the smallest model that stays within the error")
    with pytest.raises(TargetError, match="within a drop of"):
        decided(scored, Fixed(UNEVEN), max_drop=0.02)


# However the score jumps


@pytest.mark.parametrize("felt", [False, True])
@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), max_drop=st.floats(0, 0.99))
def test_the_plan_is_one_that_was_scored_within_the_drop_in_at_most_ten_evaluations(
    felt: bool, seed: int, max_drop: float
) -> None:
    scored = Scored(lambda ranks: jumping(seed, ranks), lambda plan: jumping(seed + 1, plan))
    try:
        found = decided(scored, Fixed(UNEVEN) if felt else None, max_drop=max_drop)
    except TargetError:
        assert all(jumping(seed, tried) > max_drop for tried in scored.plans)
    else:
        assert found.evaluations == len(scored.plans)
        assert ranks_of(found) in [ranks_of(tried) for tried in scored.plans]
        assert jumping(seed, found) <= max_drop
        assert found.compressed
    assert 1 <= len(scored.plans) <= EVALUATIONS


FOUR = layers_of((90, 60), (60, 120), (70, 70), (80, 100))
OF_FOUR = spectra_of(FOUR)


@pytest.mark.parametrize("factors", [("default",), ("default", "other")])
@pytest.mark.parametrize("passing", range(1, 12))
def test_however_late_the_first_model_passes_the_evaluations_are_bounded(
    passing: int, factors: tuple[str, ...]
) -> None:
    space = posed(FOUR, dict.fromkeys(factors, OF_FOUR))
    scored = Scored(lambda ranks: 0.0 if len(scored.plans) >= passing else 0.5, lambda plan: float(len(scored.plans)))
    with suppress(TargetError):
        decided(scored, Fixed(weighted((1.0, 0.01, 5.0, 1.0), space)), space)
    most = EVALUATIONS if len(factors) == 1 else EVALUATIONS + 2
    assert passing - 3 < len(scored.plans) <= most, "two more where some went into the choice of the factors"


@contextmanager
def wasteful(seed: int) -> Iterator[None]:
    """Allocations that leave up to half of a budget unspent, so that a larger one may buy less."""
    best, within = allocate.best, allocate.within

    def spent(budget: float) -> float:
        return budget * (1 - np.random.default_rng([seed, crc32(repr(budget).encode())]).random() / 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(allocate, "best", lambda ladders, curves, budget: best(ladders, curves, spent(budget)))
        patch.setattr(allocate, "within", lambda ladders, budget: within(ladders, spent(budget)))
        yield


def cost_within(max_drop: float, seed: int, slope: float, *, felt: bool) -> float:
    """Parameters of the model found, infinite where none is; all else about the search is decided by the seed."""

    def lost(ranks: NAMED) -> float:
        return slope * (1 - kept(ranks)) + jumping(seed, ranks)

    curves = [np.random.default_rng([seed, i]).random(len(curve)) for i, curve in enumerate(UNEVEN)]
    scored = Scored(lost, lambda plan: jumping(seed + 1, plan))
    try:
        return cost(decided(scored, Fixed(curves) if felt else None, max_drop=max_drop, rank_multiple=1 + seed % 4))
    except TargetError:
        return np.inf


@pytest.mark.parametrize("felt", [False, True])
@pytest.mark.parametrize("wastes", [False, True])
@settings(max_examples=80, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), slope=st.sampled_from([0.0, 0.5, 2.0]))
def test_who_allows_more_never_gets_a_larger_model(felt: bool, wastes: bool, seed: int, slope: float) -> None:
    with wasteful(seed) if wastes else nullcontext():
        sizes = [cost_within(max_drop, seed, slope, felt=felt) for max_drop in (0.02, 0.2, 0.4, 0.6, 0.8, 0.95)]
    assert sizes == sorted(sizes, reverse=True)


def test_where_the_score_tells_the_truth_more_drop_is_a_smaller_model() -> None:
    sizes = []
    for max_drop in np.geomspace(1e-4, 0.9, 40):
        try:
            sizes.append(
                cost(decided(Scored(lambda ranks: moved(ranks) / 50), Fixed(UNEVEN), max_drop=float(max_drop)))
            )
        except TargetError:
            assert not sizes, "what a smaller drop reached a larger one reaches"
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 5


def test_the_search_comes_close_to_the_smallest_model_within_the_drop() -> None:
    budgets = np.arange(allocate.total(LADDERS, allocate.smallest(LADDERS)), DENSE, 10)
    allotted = [allocate.best(LADDERS, UNEVEN, float(budget)) for budget in budgets]
    lost = [moved(dict(zip("abc", map(rank_of, forms or []), strict=True))) / 50 for forms in allotted]
    for max_drop in (0.003, 0.01, 0.03, 0.1, 0.3):
        found = decided(Scored(lambda ranks: moved(ranks) / 50), Fixed(UNEVEN), max_drop=max_drop)
        within = [budget for budget, each in zip(budgets, lost, strict=True) if each <= max_drop]
        assert cost(found) <= 1.1 * min(within) + 0.01 * DENSE


# What is tried


@pytest.mark.parametrize("felt", [False, True])
def test_no_plan_is_scored_twice(felt: bool) -> None:
    for worth in 10.0 ** np.arange(-6, 2, 0.5):
        scored = Scored(lambda ranks, worth=worth: worth * moved(ranks))  # type: ignore[misc]
        with suppress(TargetError):
            decided(scored, Fixed(UNEVEN) if felt else None, max_drop=0.01)
        tried = [tuple(ranks_of(each)) for each in scored.plans]
        assert len(set(tried)) == len(tried)


@pytest.mark.parametrize("felt", [False, True])
def test_the_curve_holds_every_scored_plan_once_with_exactly_one_chosen(felt: bool) -> None:
    for worth in 10.0 ** np.arange(-6, 0.5, 0.5):
        scored = Scored(lambda ranks, worth=worth: worth * moved(ranks))  # type: ignore[misc]
        try:
            found = decided(scored, Fixed(UNEVEN) if felt else None, max_drop=0.05)
        except TargetError:
            continue
        space = posed()
        assert len(found.curve) == len(scored.plans) == found.evaluations
        assert sorted((point.params, point.drop) for point in found.curve) == sorted(
            (space.params_at(list(tried.forms)), scored.drop(named(tried))) for tried in scored.plans
        )
        assert [point.params for point in found.curve] == sorted(point.params for point in found.curve)
        (chosen,) = [point for point in found.curve if point.chosen]
        assert chosen.params == space.params_at(list(found.forms))


def test_where_nothing_is_lost_the_search_ends_near_the_smallest_ranks() -> None:
    found = decided(Scored(lambda ranks: 0.0))
    assert kept(found) < 0.1
    assert found.choices[0].reason == "one keep ratio for all layers, the smallest model that stays within the drop"
    assert kept(decided(Scored(lambda ranks: 0.0), Fixed(UNEVEN))) < 0.1


def test_effects_are_looked_at_at_two_ratios_and_again_where_the_search_has_got_to() -> None:
    fixed, scored = Fixed(UNEVEN), Scored(lambda ranks: moved(ranks) / 50)
    decided(scored, fixed, max_drop=0.03)
    assert fixed.looked[:2] == [allocate.at_ratio(LADDERS, ratio, small_too=True) for ratio in (0.5, 0.15)]
    assert len(fixed.looked) == 3
    assert fixed.looked[2] in [list(tried.forms) for tried in scored.plans]


def test_the_first_budget_within_the_tolerance_is_spent_in_every_way_and_the_best_goes_on() -> None:
    space = posed()

    def reached(plan: Plan) -> float:
        return 0.0 if plan.choices[0].reason.startswith(EQUAL) else 1.0

    scored = Scored(lambda ranks: 0.0 if kept(ranks) >= 0.1 else 0.5, reached)
    found = decided(scored, Fixed(UNEVEN), space)
    assert found.compressed[0].reason.startswith(EQUAL)
    names = [tried.compressed[0].reason for tried in scored.plans]
    first = names.index(EQUAL)
    assert len(set(names[: first + 1])) == 4, "all ways were tried"
    assert set(names[first:]) == {EQUAL}, "and one went on"


def test_an_allocation_that_loses_more_than_the_one_that_passed_does_not_go_on_whatever_the_tolerance() -> None:
    # By effect nothing is lost; the others move the output less but lose a little more.
    def lost(plan: Plan) -> float:
        return 0.0 if plan.choices[0].reason.startswith(BY_EFFECT) or not plan.compressed else 0.005

    class ByName(Scored):
        def __call__(self, plan: Plan) -> object:  # type: ignore[override]
            self.drop = lambda ranks: lost(plan)
            return super().__call__(plan)

    for max_drop in (0.001, 0.01, 0.5):
        scored = ByName(lambda ranks: 0.0, lambda plan: 1.0 - lost(plan))
        found = decided(scored, Fixed(UNEVEN), max_drop=max_drop)  # type: ignore[arg-type]
        assert found.choices[2].reason.startswith(BY_EFFECT)


def test_one_layer_has_nothing_to_weigh_and_is_searched_by_its_ratio() -> None:
    layers, fixed = layers_of((40, 60)), Fixed(UNEVEN[:1])
    scored = Scored(lambda ranks: 0.0 if (ranks["fc0"] or 24) >= 5 else 0.5)
    found = decided(scored, fixed, posed(layers))
    assert ranks_of(found) == [5]
    assert fixed.looked == []


# What cannot be met


@pytest.mark.parametrize("felt", [False, True])
def test_a_drop_that_nothing_stays_within_says_what_the_best_loses(felt: bool) -> None:
    scored = Scored(lambda ranks: 0.042)
    with pytest.raises(TargetError, match=r"within a drop of 1 %.* loses 4\.20 points") as error:
        decided(scored, Fixed(UNEVEN) if felt else None)
    assert error.value.exit_code == 3
    assert "--max-drop 4.2%" in error.value.hint
    assert f"the best of {len(scored.plans)} candidates" in str(error.value)


def test_an_error_that_nothing_stays_within_says_what_the_best_has() -> None:
    with pytest.raises(TargetError, match=r"within an error of 0\.02.* has an error of 0\.3") as error:
        decided(Scored(lambda ranks: 0.3), max_error="2%")
    proposed = re.findall(r"--max-error (\S+?)\)", error.value.hint)
    assert [parse_error(text, "--max-error") >= 0.3 for text in proposed] == [True]


def test_the_tolerance_the_hint_proposes_can_be_met() -> None:
    for lost in (0.0151, 0.029, 0.3333, 0.97):
        for option in ("max_drop", "max_error"):
            with pytest.raises(TargetError) as error:
                decided(Scored(lambda ranks, lost=lost: lost), **{option: 0.01})  # type: ignore[misc]
            (proposed,) = re.findall(r"allow more \(--\S+ (\S+)\)", error.value.hint)
            assert decided(Scored(lambda ranks, lost=lost: lost), **{option: proposed}).compressed  # type: ignore[misc]


@pytest.mark.parametrize("lost", [0.985, 0.995, 0.9995, 1.0, 1.7])
@pytest.mark.parametrize(("option", "parse"), [("max_drop", parse_points), ("max_error", parse_error)])
def test_the_hint_never_proposes_a_tolerance_that_would_be_refused(option: str, parse: object, lost: float) -> None:
    with pytest.raises(TargetError) as error:
        decided(Scored(lambda ranks: lost), **{option: 0.01})
    for proposed in re.findall(r"allow more \(--\S+ (\S+)\)", error.value.hint):
        assert parse(proposed, "--it") >= lost  # type: ignore[operator]
    assert "--params" in error.value.hint


def test_models_that_give_no_numbers_at_all_do_not_meet_the_target() -> None:
    for effects in (None, Fixed(UNEVEN)):
        with pytest.raises(TargetError, match=r"nothing that makes it smaller .* gives NaN or infinity"):
            decided(Scored(lambda ranks: float("inf")), effects)


def test_as_a_last_resort_the_largest_model_that_is_smaller_is_tried() -> None:
    one_step = {"fc0": None, "fc1": None, "fc2": 14}
    scored = Scored(lambda ranks: 0.0 if ranks == one_step else 0.5)
    found = decided(scored)
    assert named(found) == one_step
    assert named(scored.plans[-1]) == one_step
    with pytest.raises(TargetError):
        decided(Scored(lambda ranks: 0.0 if ranks == {**one_step, "fc2": 13} else 0.5))


# Layers that cannot be made smaller, and pinned ones


# No rank of the first saves anything, and all that the others can save is nothing beside it.
BESIDE = ((9000, 2), (6, 6), (6, 6))


def beside_a_large_one(count: int) -> SearchSpace:
    layers = layers_of(*BESIDE[: count + 1], biased=False)
    space = posed(layers, {"default": spectra_of(layers, SVD_BC)}, method=SVD_BC, total=18_072)
    assert [space.largest_rank(layer) for layer in layers] == [0, 2, 2][: count + 1]
    return space


@pytest.mark.parametrize("count", [1, 2])
def test_layers_that_are_tiny_beside_one_that_stays_dense_are_searched_all_the_same(count: int) -> None:
    scored, space = Scored(lambda ranks: 0.0), beside_a_large_one(count)
    found = decided(scored, Fixed(space.tails), space)
    assert len(found.compressed) == count
    assert found.evaluations == len(scored.plans) >= 1


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("drop", [0.042, float("inf")])
def test_where_such_layers_lose_too_much_that_is_said(count: int, drop: float) -> None:
    space = beside_a_large_one(count)
    with pytest.raises(TargetError, match="nothing that makes it smaller"):
        decided(Scored(lambda ranks: drop), Fixed(space.tails), space)


def test_such_layers_are_told_apart_as_finely_as_if_they_were_alone() -> None:
    def lost(ranks: NAMED) -> float:
        return 0.0 if sum(ranks[name] or 3 for name in ("fc1", "fc2")) >= 3 else 0.5

    space = beside_a_large_one(2)
    found = decided(Scored(lost), Fixed(space.tails), space)
    assert sorted(rank or 3 for rank in ranks_of(found)[1:]) == [1, 2]


def test_where_no_layer_can_be_made_smaller_all_stay_dense_and_nothing_is_scored() -> None:
    layers, scored = layers_of((100, 2), biased=False), Scored(lambda ranks: 0.0)
    spectra = spectra_of(layers)
    for several in ({"default": spectra}, {"default": spectra, "svd-bc": spectra}):
        found = decided(scored, None, posed(layers, several))
        assert found.compressed == ()
        assert scored.plans == []


def test_a_layer_that_cannot_give_anything_stays_dense_while_the_others_give() -> None:
    spectra = dict(SPECTRA)
    flat = np.ones_like(spectra["fc2"].tails) * spectra["fc2"].power
    spectra["fc2"] = replace(spectra["fc2"], tails=flat, errors=flat)
    space = posed(THREE, {"default": spectra})
    scored = Scored(lambda ranks: 0.0 if ranks["fc2"] is None else 0.5)
    effects = Fixed([0.01 * space.tails[0], 0.01 * space.tails[1], curve(*np.ones(14))])
    found = decided(scored, effects, space)
    assert not found.choices[0].form.untouched
    assert found.choices[2].form.untouched
    assert found.choices[2].reason == "dense: its parameters are worth more than what leaving them out would save"
    assert found.evaluations == len(scored.plans) <= EVALUATIONS


def test_pinned_layers_stay_where_they_are_pinned_through_the_whole_search() -> None:
    scored = Scored(lambda ranks: 0.0 if kept(ranks) >= 0.4 else 0.5)
    found = decided(scored, Fixed(UNEVEN), rank=["fc0=7", "fc2=keep"], max_drop="1%")
    assert {tuple(ranks_of(tried)[::2]) for tried in scored.plans} == {(7, None)}
    assert not found.choices[1].form.untouched
    assert 0.4 <= kept(found) < 0.45
    assert found.target == "max-drop 1%, rank fc0=7, fc2=keep"


def test_where_only_what_is_pinned_stays_within_the_drop_that_is_the_plan() -> None:
    scored = Scored(lambda ranks: 0.0 if ranks["fc1"] is None and ranks["fc2"] is None else 0.5)
    assert ranks_of(decided(scored, Fixed(UNEVEN), rank="fc0=7", max_drop="1%")) == [7, None, None]
    everything = ["fc0=7", "fc1=5", "fc2=keep"]
    assert ranks_of(decided(Scored(lambda ranks: 0.0), rank=everything, max_drop="1%")) == [7, 5, None]
    with pytest.raises(TargetError, match="the best of 1 candidates"):
        decided(Scored(lambda ranks: 0.5), rank=everything, max_drop="1%")


def test_every_rank_the_search_tries_is_a_multiple_and_no_smaller_than_asked() -> None:
    scored = Scored(lambda ranks: moved(ranks) / 50)
    decided(scored, Fixed(UNEVEN), max_drop=0.2, rank_multiple=4, min_rank=6)
    ranks = {rank for tried in scored.plans for rank in ranks_of(tried)} - {None}
    assert len(ranks) > 1
    assert ranks <= {8, 12, 16, 20}


@pytest.mark.parametrize(("total", "alone"), [(5, True), (1, False)])
def test_where_little_can_go_one_step_that_loses_too_much_ends_the_search(total: int, alone: bool) -> None:
    scored = Scored(lambda ranks: 0.5)
    with pytest.raises(TargetError, match=r"loses 50\.00 points"):
        decided(scored, space=posed(total=int(total * 1.1 * DENSE), max_drop="1%"))
    assert (len(scored.plans) == 1) is alone
