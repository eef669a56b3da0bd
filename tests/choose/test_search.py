"""A Target becomes a Plan: as asked, by energy, or the best of several allocations of a budget."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_dalr.choose import allocate
from onnx_dalr.choose.search import most_trials
from onnx_dalr.choose.tolerance import EVALUATIONS
from onnx_dalr.choose.trials import BY_EFFECT, BY_ERROR, EQUAL, MIXED, Trial
from onnx_dalr.errors import TargetError
from onnx_dalr.factorize import Spectrum
from onnx_dalr.plan.plan import Plan
from tests.choose.allocate_cases import pair, pairs
from tests.choose.search_cases import (
    DENSE,
    LADDERS,
    PARAMS,
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
    ranks_of,
    spectra_of,
    spectrum_in,
    weighted,
)

often = settings(max_examples=60, deadline=None, derandomize=True)


def moving() -> Scored:
    """Scores by what the uneven curves say."""
    return Scored(moved)


# Ranks as asked


def test_one_rank_is_for_every_layer_without_scoring_anything() -> None:
    scored = Scored(lambda ranks: 0.0)
    found = decided(scored, rank=5)
    assert ranks_of(found) == [5, 5, 5]
    assert (found.method, found.evaluations, scored.plans) == ("dalr", 0, [])
    assert (found.target, found.factors) == ("rank 5", "default")
    assert {choice.reason for choice in found.choices} == {"as asked"}


def test_the_last_rank_rule_that_matches_counts() -> None:
    assert ranks_of(decided(rank=["fc*=7", "W1=3"])) == [7, 3, 7]
    assert ranks_of(decided(rank=["W1=3", "fc*=7"])) == [7, 7, 7]
    assert ranks_of(decided(rank=[7, "W1=keep"])) == [7, None, 7]
    assert ranks_of(decided(rank=["W1=keep", 7])) == [7, 7, 7]


def test_layers_no_rule_matches_stay_dense_and_say_so() -> None:
    found = decided(rank="fc1=3")
    assert ranks_of(found) == [None, 3, None]
    assert found.choices[0].reason == "no --rank for it"


def test_a_rank_at_or_above_break_even_keeps_the_layer_dense_and_says_so() -> None:
    # fc2 is 30 × 30: rank 15 would have as many parameters, 14 is the largest that saves some.
    assert ranks_of(decided(rank="fc2=14")) == [None, None, 14]
    for rank in (15, 999):
        found = decided(rank=f"fc2={rank}")
        assert ranks_of(found) == [None, None, None]
        assert found.choices[2].reason == f"rank {rank} would not make it smaller: 14 is the largest"


# One energy for all


@pytest.mark.parametrize("energy", [0.3, 0.7, 0.9, 0.95])
def test_the_energy_rule_takes_the_smallest_rank_that_keeps_it_in_every_layer(energy: float) -> None:
    scored = Scored(lambda ranks: 0.0)
    found = decided(scored, energy=energy)
    assert (scored.plans, found.evaluations) == ([], 0)
    for choice, one in zip(found.choices, LADDERS, strict=True):
        errors = SPECTRA[choice.layer].errors
        largest = len(one.forms) - 1
        reach = [rank for rank in range(1, largest + 1) if errors[rank] <= (1 - energy + 1e-12) * errors[0]]
        assert choice.form == pair(reach[0] if reach else None)
        assert choice.reason == (
            f"the smallest rank that keeps {energy:g} of the output's variance"
            if reach
            else f"dense: the largest rank that saves, {largest}, keeps too little of the variance"
        )
    assert found.compressed


def test_more_energy_never_takes_a_smaller_rank_and_too_much_keeps_everything() -> None:
    found = [ranks_of(decided(energy=float(energy))) for energy in np.linspace(0.05, 0.95, 30)]
    for one, more in pairwise(found):
        assert all((low or 99) <= (high or 99) for low, high in zip(one, more, strict=True))
    assert decided(energy=0.999999).compressed == ()


def test_the_energy_rule_keeps_to_multiples_and_to_pinned_ranks() -> None:
    plain = ranks_of(decided(energy=0.8))
    found = ranks_of(decided(energy=0.8, rank_multiple=4, rank="fc1=2"))
    assert plain[0] is not None
    assert found[0] == 4 * -(-plain[0] // 4)
    assert found[1] == 2


# Parameters


@often
@given(st.integers(500, PARAMS))
def test_parameters_are_met_by_one_keep_ratio(budget: int) -> None:
    found = decided(params=budget)
    assert PARAMS - DENSE + cost(found) <= budget


def test_a_share_is_of_the_whole_models_parameters() -> None:
    assert ranks_of(decided(params="50%")) == ranks_of(decided(params=PARAMS // 2))


def test_more_parameters_than_there_are_keep_everything_dense() -> None:
    found = decided(params=PARAMS)
    assert found.compressed == ()
    assert {choice.reason for choice in found.choices} == {"dense: the target is met without it"}


@pytest.mark.parametrize("target", [{"params": "60%"}, {"params": 2100}, {"max_drop": "1%"}, {"energy": 0.5}])
def test_a_layer_that_no_rank_makes_smaller_stays_dense(target: dict[str, Any]) -> None:
    layers = layers_of((100, 2), (60, 60), biased=False)
    found = decided(Scored(lambda ranks: 0.0), None, posed(layers, total=3800, **target))
    assert found.choices[0].form.untouched
    assert found.choices[0].reason.startswith("dense: no rank that may be chosen makes it smaller")
    assert not found.choices[1].form.untouched


# Several allocations of one budget


@often
@given(st.floats(0.1, 0.95))
def test_every_candidate_meets_the_same_parameters_and_leaves_none_a_step_could_take(share: float) -> None:
    scored, budget = moving(), int(share * DENSE)
    decided(scored, Fixed(UNEVEN), params=PARAMS - DENSE + budget)
    assert 1 <= len(scored.plans) <= 4
    for tried in scored.plans:
        left = budget - cost(tried)
        assert left >= 0
        if tried.compressed[0].reason != EQUAL:  # one ratio for all steps all layers at once
            assert all(step > left for step, _, _ in allocate.steps_up(LADDERS, list(tried.forms)))


NAMES = (BY_EFFECT, BY_ERROR, MIXED, EQUAL)


@pytest.mark.parametrize("winner", range(4))
def test_the_candidate_that_moves_the_outputs_least_wins_and_the_reason_names_the_others(winner: int) -> None:
    scored = Scored(lambda ranks: 0.125 if len(scored.plans) == winner + 1 else 0.5 + len(scored.plans))
    found = decided(scored, Fixed(weighted((1.0, 0.01, 5.0))), params="50%")
    assert found.evaluations == len(scored.plans) == 4
    assert ranks_of(found) == ranks_of(scored.plans[winner])
    others = ", ".join(f"{name} {1.5 + i:.3g}" for i, name in enumerate(NAMES) if i != winner)
    why = f"{NAMES[winner]}, the least distortion of the select samples: 0.125 ({others})"
    assert {choice.reason for choice in found.compressed} == {why}


def test_effects_win_where_they_tell_the_truth() -> None:
    found, equal = decided(moving(), Fixed(UNEVEN), params="60%"), decided(params="60%")
    assert found.choices[0].reason.startswith((BY_EFFECT, MIXED))
    assert moved(named(found)) < moved(named(equal)) / 2
    _, felt_least, felt_most = ranks_of(found)
    assert felt_least is not None
    assert felt_least < (ranks_of(equal)[1] or 0)
    assert felt_most is None


def test_where_all_do_equally_well_one_ratio_is_kept() -> None:
    found = decided(Scored(lambda ranks: 0.25), Fixed(UNEVEN), params="50%")
    assert ranks_of(found) == ranks_of(decided(params="50%"))


def test_a_candidate_that_gives_no_numbers_never_wins() -> None:
    scored = Scored(lambda ranks: float("inf") if len(scored.plans) != 2 else 5.0)
    found = decided(scored, Fixed(UNEVEN), params="50%")
    assert ranks_of(found) == ranks_of(scored.plans[1])
    assert found.choices[0].reason.startswith(BY_ERROR)


def test_effects_are_looked_at_near_the_proposed_ranks() -> None:
    fixed, equal = Fixed(UNEVEN), list(decided(params="50%").forms)
    decided(moving(), fixed, params="50%")
    assert len(fixed.looked) == 3, "at the equal ratio, at half of it, and where its own answer lies"
    assert fixed.looked[0] == equal
    assert fixed.looked[1] == [pair(form.rank[0] // 2) for form in equal]
    assert fixed.looked[2] == allocate.best(LADDERS, UNEVEN, int(0.5 * PARAMS) - PARAMS + DENSE)


def test_where_effects_are_looked_at_is_a_choice_of_the_ladder_too() -> None:
    fixed = Fixed(UNEVEN)
    decided(moving(), fixed, params="50%", rank_multiple=4, min_rank=8, rank="fc2=keep")
    for forms in fixed.looked:
        assert set(forms[:2]) <= set(pairs(8, 12, 16, 20, None))
        assert forms[2].untouched


@pytest.mark.parametrize(("least", "multiple"), [(1, 1), (3, 1), (1, 4), (5, 2)])
def test_half_of_it_is_half_the_rank_as_far_as_the_ladder_goes_down(least: int, multiple: int) -> None:
    fixed = Fixed(UNEVEN)
    decided(moving(), fixed, params="60%", min_rank=least, rank_multiple=multiple)
    for before, after, one in zip(*fixed.looked[:2], LADDERS, strict=True):
        rank = len(one.forms) - 1 if before.untouched else before.rank[0]
        allowed = [k for k in range(least, rank + 1) if k % multiple == 0]
        assert after == pair(max((k for k in allowed if k <= rank // 2), default=allowed[0]))


def test_without_select_samples_it_is_one_ratio_for_all_and_nothing_is_looked_at() -> None:
    fixed = Fixed(UNEVEN)
    found = decided(None, fixed, params="50%")
    assert found.choices[0].reason == f"{EQUAL}, so that the model meets its parameters"
    assert (fixed.looked, found.evaluations, found.curve) == ([], 0, ())


def test_one_layer_that_gives_has_nothing_to_weigh() -> None:
    fixed, scored = Fixed(UNEVEN), moving()
    found = decided(scored, fixed, params="60%", rank=["fc0=5", "fc2=keep"])
    assert ranks_of(found)[::2] == [5, None]
    assert not found.choices[1].form.untouched
    assert (fixed.looked, scored.plans) == ([], [])


def test_parameters_that_are_there_already_need_no_looking() -> None:
    scored, fixed = moving(), Fixed(UNEVEN)
    assert decided(scored, fixed, params=PARAMS).compressed == ()
    assert (scored.plans, fixed.looked) == ([], [])


@pytest.mark.parametrize(
    "target", [{"params": "1%"}, {"params": "20%", "min_rank": 10}, {"params": "50%", "rank": "fc*=keep"}]
)
def test_parameters_that_cannot_be_reached_are_refused_before_anything_is_looked_at(target: dict[str, Any]) -> None:
    scored, fixed = moving(), Fixed(UNEVEN)
    with pytest.raises(TargetError, match="cannot be reached"):
        decided(scored, fixed, **target)
    assert (scored.plans, fixed.looked) == ([], [])


def test_pinned_ranks_beside_a_budget_are_in_every_candidate_and_paid_from_it() -> None:
    scored = moving()
    found = decided(scored, Fixed(UNEVEN), params="60%", rank=["fc0=3", "fc1=keep", "fc1=9"])
    for tried in scored.plans:
        assert ranks_of(tried)[:2] == [3, 9]
    assert found.choices[0].reason == found.choices[1].reason == "as asked"
    assert PARAMS - DENSE + cost(found) <= int(0.6 * PARAMS)


def test_a_rank_pinned_at_or_above_break_even_is_dense_and_its_cost_is_counted() -> None:
    found = decided(params="50%", rank="fc2=15")
    assert found.choices[2].form.untouched
    assert found.choices[2].reason == "rank 15 would not make it smaller: 14 is the largest"
    assert PARAMS - DENSE + cost(found) <= PARAMS // 2


@pytest.mark.parametrize("target", [{"params": "55%"}, {"energy": 0.7}, {"max_drop": "50%"}, {"max_error": 0.5}])
def test_multiples_and_the_least_rank_hold_under_every_target(target: dict[str, Any]) -> None:
    found = decided(moving_little(), Fixed(UNEVEN), rank_multiple=3, min_rank=5, **target)
    ranks = [rank for rank in ranks_of(found) if rank is not None]
    assert ranks
    assert all(rank % 3 == 0 and rank >= 6 for rank in ranks)


def moving_little() -> Scored:
    return Scored(lambda ranks: moved(ranks) / 500)


# Several factors to choose from


def several() -> dict[str, dict[str, Spectrum]]:
    return {"default": SPECTRA, "svd-bc": spectra_of(THREE, SVD_BC)}


class ByFactors(Scored):
    """One kind of factors moves the outputs less than the others, at any ranks."""

    def __init__(self, good: str, drop: Callable[[Any], float] = lambda ranks: 0.0) -> None:
        super().__init__(drop, lambda plan: moved(named(plan)) * (0.5 if plan.factors == good else 1.0))


TARGETS: list[dict[str, Any]] = [{"params": "50%"}, {"rank": 6}, {"energy": 0.7}, {}, {"max_error": 0.1}]


@pytest.mark.parametrize("effects", [None, UNEVEN])
@pytest.mark.parametrize("good", ["default", "svd-bc"])
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_the_factors_that_move_the_outputs_less_are_chosen_under_every_target(
    target: dict[str, Any], good: str, effects: Any
) -> None:
    scored = ByFactors(good)
    space = posed(THREE, several(), **target)
    found = decided(scored, effects and Fixed(effects), space)
    assert found.factors == good
    most = most_trials(space.target.name, 2, len(THREE))
    assert found.evaluations == len(scored.plans) == len(found.curve) <= most <= EVALUATIONS + 2
    assert {tried.factors for tried in scored.plans} == {"default", "svd-bc"}
    assert (found.factors, ranks_of(found)) in [(tried.factors, ranks_of(tried)) for tried in scored.plans]
    assert sum(point.chosen for point in found.curve) == 1
    assert "factors" not in found.choices[0].reason


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_factors_that_do_equally_well_are_the_default(target: dict[str, Any]) -> None:
    assert decided(ByFactors("neither"), None, posed(THREE, several(), **target)).factors == "default"


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_the_expected_errors_are_those_of_the_chosen_factors(target: dict[str, Any]) -> None:
    found = decided(ByFactors("svd-bc"), None, posed(THREE, several(), **target))
    spectra = several()["svd-bc"]
    for choice in found.compressed:
        assert choice.expected_error == spectra[choice.layer].expected_error(choice.form.rank[0])


def test_ranks_that_were_asked_for_are_the_same_with_any_factors() -> None:
    found = decided(ByFactors("svd-bc"), None, posed(THREE, several(), rank="fc1=3"))
    assert ranks_of(found) == [None, 3, None]
    assert [choice.reason for choice in found.choices] == ["no --rank for it", "as asked", "no --rank for it"]


def test_without_select_samples_the_factors_are_the_default() -> None:
    assert decided(None, None, posed(THREE, several(), params="50%")).factors == "default"


def test_a_layer_that_has_only_the_default_factors_keeps_them_beside_others() -> None:
    spectra = several()
    del spectra["svd-bc"]["fc1"]
    space = posed(THREE, spectra, params="50%").with_factors("svd-bc")
    assert [spectrum_in(space, layer) for layer in THREE] == [
        spectra["svd-bc"]["fc0"],
        SPECTRA["fc1"],
        spectra["svd-bc"]["fc2"],
    ]


def test_where_the_factors_are_tried_for_a_tolerance_small_layers_stay_dense_unless_nothing_else_gives() -> None:
    layers = layers_of((60, 60), (8, 8))
    spectra = spectra_of(layers)
    scored = Scored(lambda ranks: 0.0)
    decided(scored, None, posed(layers, {"default": spectra, "svd-bc": spectra}, max_drop="1%"))
    assert [ranks_of(tried) for tried in scored.plans[:2]] == [[7, None]] * 2
    scored = Scored(lambda ranks: 0.0)
    decided(scored, None, posed(layers, {"default": spectra, "svd-bc": spectra}, max_drop="1%", rank="fc0=keep"))
    assert [ranks_of(tried) for tried in scored.plans[:2]] == [[None, 1]] * 2


def test_a_trial_of_factors_that_give_no_numbers_is_lost_to_any_that_do() -> None:
    def score(plan: Plan) -> Trial:
        broken = plan.factors == "default"
        return Trial(np.inf, np.inf, np.inf) if broken else Trial(0.0, 5.0)

    assert decided(score, None, posed(THREE, several(), rank=6)).factors == "svd-bc"
    assert decided(score, None, posed(THREE, several())).compressed


def test_a_plan_says_what_its_ranks_are_of() -> None:
    found = decided(params="50%", rank_multiple=2, min_rank=3)
    assert found.target == "params 50%, rank multiple 2, min rank 3"
    assert [choice.largest_rank for choice in found.choices] == [23, 23, 14]


@pytest.mark.parametrize(
    ("target", "factors", "layers", "most"),
    [
        ("max-drop", 1, 3, EVALUATIONS),
        ("max-error", 4, 1, EVALUATIONS + 2),
        ("size", 1, 3, 4),
        ("params", 4, 3, 8),
        ("params", 4, 1, 4),
        ("energy", 1, 3, 0),
        ("rank", 3, 3, 3),
    ],
)
def test_how_many_models_are_scored_at_most_is_known_before(target: Any, factors: int, layers: int, most: int) -> None:
    assert most_trials(target, factors, layers) == most
