"""Allocations side by side: each model is scored once, the least distortion wins, and every point is kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from onnx_dalr.choose.allocate import Forms
from onnx_dalr.choose.trials import BY_ERROR, EQUAL, Judge, Trial, Trials, key_of, plan_of
from onnx_dalr.plan.plan import Plan
from tests.choose.allocate_cases import pairs
from tests.choose.search_cases import (
    SPECTRA,
    SVD_BC,
    THREE,
    Scored,
    layers_of,
    named,
    posed,
    ranks_of,
    spectra_of,
)

BOTH = {"default": SPECTRA, "svd-bc": spectra_of(THREE, SVD_BC)}


def by_rank(plan: Plan) -> float:
    """The first rank tells how far the output moved."""
    return float(ranks_of(plan)[0] or 0)


def judged(scored: Scored | None = None) -> tuple[Judge, Scored]:
    scored = scored or Scored(lambda ranks: 0.25, by_rank)
    return Judge(scored), scored


def test_a_plan_is_scored_once_whatever_it_is_called() -> None:
    (judge, scored), space = judged(), posed(THREE, BOTH, params="50%")
    trials = Trials(space, judge)
    first = trials.enter("one", pairs(5, 6, None))
    assert trials.enter("two", pairs(5, 6, None)) is first
    assert Trials(space, judge).enter("three", pairs(5, 6, None)) is first
    assert judge.trial(space, plan_of(space, pairs(5, 6, None), "four"), "four") is first
    assert len(scored.plans) == len(judge.trials) == 1
    trials.enter("other factors", pairs(5, 6, None), "svd-bc")
    trials.enter("other ranks", pairs(5, 7, None))
    assert len(scored.plans) == len(judge.trials) == 3


def test_what_makes_a_model_is_its_factors_and_ranks() -> None:
    space = posed(THREE, BOTH, params="50%")
    plan = plan_of(space, pairs(5, 6, None), "why")
    assert key_of(plan) == ("default", tuple(pairs(5, 6, None)))
    assert key_of(plan_of(space.with_factors("svd-bc"), pairs(5, 6, None), "")) == ("svd-bc", tuple(pairs(5, 6, None)))


def test_the_least_distortion_wins_and_the_reason_says_by_how_much() -> None:
    judge, _ = judged()
    trials = Trials(posed(params="50%"), judge)
    for name, rank in (("first", 9), ("second", 4), ("third", 7)):
        trials.enter(name, pairs(rank, None, None))
    assert trials.winner() == "second"
    assert trials.winner(["first", "third"]) == "third"
    assert trials.forms("third") == pairs(7, None, None)
    assert trials.trial("third") == Trial(0.25, 7.0, 0.25, 1000)
    assert trials.why("second") == "second, the least distortion of the select samples: 4 (first 9, third 7)"
    found = trials.result()
    assert ranks_of(found) == [4, None, None]
    assert found.choices[0].reason == trials.why("second")
    assert found.evaluations == 3


def test_one_alone_wins_without_naming_others() -> None:
    judge, _ = judged()
    trials = Trials(posed(params="50%"), judge)
    trials.enter("alone", pairs(2, 2, 2))
    assert trials.result().choices[0].reason == "alone, the least distortion of the select samples: 2"


def test_one_ratio_for_all_wins_where_it_does_as_well_as_any() -> None:
    judge, _ = judged(Scored(lambda ranks: 0.25))
    trials = Trials(posed(params="50%"), judge)
    trials.enter(BY_ERROR, pairs(3, 4, 5))
    trials.enter(EQUAL, pairs(4, 4, 4))
    assert trials.winner() == EQUAL
    assert ranks_of(trials.result()) == [4, 4, 4]


def test_the_curve_holds_every_scored_plan_once_the_smallest_first_and_the_chosen_one_marked() -> None:
    (judge, _), space = judged(), posed(THREE, BOTH, params="50%")
    trials = Trials(space, judge)
    trials.enter("large", pairs(9, 9, None))
    trials.enter("small", pairs(2, 2, 2))
    trials.enter("again", pairs(9, 9, None))
    trials.enter("small, other factors", pairs(2, 2, 2), "svd-bc")
    curve = trials.result().curve
    assert [point.allocation for point in curve] == ["small", "small, other factors", "large"]
    assert [point.chosen for point in curve] == [True, False, False]
    assert [point.params for point in curve] == [
        space.params_at(forms) for forms in (pairs(2, 2, 2), pairs(2, 2, 2), pairs(9, 9, None))
    ]
    assert [(point.drop, point.error, point.distortion, point.bytes) for point in curve] == [
        (0.25, 0.25, distortion, 1000) for distortion in (2.0, 2.0, 9.0)
    ]


def test_a_finished_plan_is_of_its_own_factors() -> None:
    (judge, _), space = (
        judged(Scored(lambda ranks: 0.25, lambda plan: float(plan.factors == "default"))),
        posed(THREE, BOTH),
    )
    trials = Trials(space, judge)
    trials.enter("one", pairs(6, 6, 6))
    trials.enter("other", pairs(6, 6, 6), "svd-bc")
    found = trials.result()
    assert found.factors == "svd-bc"
    assert [choice.expected_error for choice in found.choices] == [
        BOTH["svd-bc"][layer.name].expected_error(6) for layer in THREE
    ]
    assert [point.chosen for point in found.curve] == [False, True]


# The plan of some ranks


def test_a_plan_says_what_it_was_made_for_and_of() -> None:
    found = plan_of(posed(params="50%"), pairs(5, None, 3), "so it is")
    assert named(found) == {"fc0": 5, "fc1": None, "fc2": 3}
    assert (found.method, found.target, found.factors, found.evaluations) == ("dalr", "params 50%", "default", 0)
    assert [choice.largest_rank for choice in found.choices] == [23, 23, 14]
    assert [choice.expected_error for choice in found.choices] == [
        SPECTRA["fc0"].expected_error(5),
        None,
        SPECTRA["fc2"].expected_error(3),
    ]
    assert found.choices[0].reason == "so it is"


def test_before_the_samples_were_looked_at_no_error_is_expected() -> None:
    found = plan_of(posed(THREE, {}, params="50%"), pairs(5, None, 3), "why")
    assert [choice.expected_error for choice in found.choices] == [None] * 3


ONE, ALONE, NONE = pairs(5, None, None), pairs(20, None, None), pairs(None, None, None)


@pytest.mark.parametrize(
    ("target", "forms", "reason"),
    [
        ({"params": "50%"}, ONE, "dense: its parameters are worth more than what leaving them out would save"),
        ({"params": "50%"}, NONE, "dense: the target is met without it"),
        ({"energy": 0.9}, ONE, "dense: the largest rank that saves, 14, keeps too little of the variance"),
        (
            {"params": "50%", "min_rank": 20},
            ALONE,
            "dense: no rank that may be chosen makes it smaller (14 is the largest)",
        ),
        ({"params": "50%", "rank": "fc2=keep"}, ONE, "as asked"),
        ({"params": "50%", "rank": "fc2=15"}, ONE, "rank 15 would not make it smaller: 14 is the largest"),
        ({"rank": "fc0=5"}, ONE, "no --rank for it"),
    ],
)
def test_a_layer_that_stays_dense_says_why(target: dict[str, str], forms: Forms, reason: str) -> None:
    assert plan_of(posed(**target), forms, "why").choices[2].reason == reason


def test_a_layer_too_small_for_one_ratio_says_so() -> None:
    found = plan_of(posed(params="50%"), ONE, f"{EQUAL}, so it is")
    assert found.choices[2].reason == "dense: too small beside the largest layer for a ratio to gain much"


def test_a_layer_that_no_rank_makes_smaller_says_so() -> None:
    layers = layers_of((100, 2), (60, 60), biased=False)
    found = plan_of(posed(layers, params="50%"), pairs(None, 5), "why")
    assert found.choices[0].reason == "dense: no rank that may be chosen makes it smaller (0 is the largest)"


def trial(*distortions: float) -> Trial:
    return Trial(0.0, sum(distortions) / max(len(distortions), 1), distortions=distortions)


@pytest.mark.parametrize(
    ("one", "other", "beats"),
    [
        (trial(1, 1, 1, 1, 1), trial(2, 2, 2, 2, 2), True),
        (trial(2, 2, 2, 2, 2), trial(1, 1, 1, 1, 1), False),
        (trial(1, 1, 1, 1, 1), trial(1, 1, 1, 1, 1), False),
        (trial(1, 2, 1, 2, 1), trial(1.1, 2.1, 1.2, 2.1, 1.1), True),  # by little, on every sample
        (trial(2, 2, 2, 2, 2), trial(1, 1, 1, 1, 9), False),  # by much, on one of five
        (trial(1, 1, 1, 1, 1), Trial(0.0, float("inf")), True),  # the other gives NaN
        (Trial(0.0, 1.0), Trial(0.0, 1.1), True),  # by sample they are not known
        (trial(1, 1, 1, 1), trial(2, 2, 2, 2), False),  # four say nothing of others
        (trial(1), trial(9), False),
        (trial(1, 1, 1, 1), Trial(0.0, float("inf")), True),  # but NaN is NaN
    ],
)
def test_a_trial_clearly_beats_another_by_more_than_the_noise_of_the_samples(
    one: Trial, other: Trial, beats: bool
) -> None:
    assert one.clearly_beats(other) is beats


@pytest.mark.parametrize("n", [5, 30, 1000])
def test_fewer_samples_have_to_be_more_sure(n: int) -> None:
    """By Student's t a standard error of five samples is 1.14 of one of many."""
    noise = np.resize([1.0, -1.0], n) - np.resize([1.0, -1.0], n).mean()
    error = noise.std(ddof=1) / np.sqrt(n)
    needed = stats.t.ppf(stats.norm.cdf(1), n - 1) * error
    one = trial(*np.zeros(n))
    assert not one.clearly_beats(trial(*(noise + 0.98 * needed)))
    assert one.clearly_beats(trial(*(noise + 1.02 * needed)))
    assert needed > error


def test_the_first_stays_where_another_is_better_on_a_single_sample() -> None:
    scored = {3: trial(1, 1, 1, 1, 11), 2: trial(2, 2, 2, 2, 2)}
    trials = Trials(posed(THREE, BOTH, params="50%"), Judge(lambda plan: scored[ranks_of(plan)[0] or 0]))
    trials.enter("first", pairs(3, 6, None))
    trials.enter("second", pairs(2, 6, None))
    assert trials.winner() == "first"
    assert trials.result().choices[0].reason == (
        "first, no other has clearly less distortion of the select samples: 3 (second 2)"
    )
