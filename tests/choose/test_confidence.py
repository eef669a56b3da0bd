"""A tolerance that holds with a confidence, not on the samples alone: bounds, the samples they take, the search."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import onnx_dalr
from onnx_dalr import InputError, TargetError
from onnx_dalr.choose.feasible import check_confidence
from onnx_dalr.choose.trials import Trial
from onnx_dalr.commands import learning
from onnx_dalr.quality.intervals import Estimate, mean_estimate, paired_drop, samples_for_bound, upper_bound
from onnx_dalr.quality.measures import Classes, Numbers, Values
from onnx_dalr.quality.score import UserScore
from onnx_dalr.quality.side_by_side import SideBySide
from onnx_dalr.quality.task import Measured, Task
from onnx_dalr.request.target import Target, make_target
from onnx_dalr.samples.options import SampleOptions
from onnx_dalr.samples.sets import Sets, opened
from tests.choose.search_cases import decided, named
from tests.choose.test_tolerance import kept
from tests.cli import tiny
from tests.quality.task_cases import CLASSIFY, REGRESS, task
from tests.samples.conftest import spec

often = settings(max_examples=60, deadline=None, derandomize=True)
NO_MEAN = np.zeros(0)


def bound(lost: int, won: int, n: int, level: float = 0.95) -> float:
    """Of n answers, so many of which were lost and won."""
    losses = np.repeat([1.0, -1.0, 0.0], [lost, won, n - lost - won])
    return upper_bound(mean_estimate(losses), losses, level)


# The bound


@pytest.mark.parametrize("n", [10, 30, 100, 300, 3000])
def test_with_no_answer_changed_in_n_it_is_three_over_n(n: int) -> None:
    assert bound(0, 0, n) == pytest.approx(1 - 0.05 ** (1 / n))
    assert 0.85 * 3 / n < bound(0, 0, n) < 3 / n


@pytest.mark.parametrize(("lost", "n"), [(1, 20), (3, 100), (10, 100)])
def test_of_answers_that_are_lost_it_is_clopper_and_pearsons(lost: int, n: int) -> None:
    found = bound(lost, 0, n)
    assert stats.binom.cdf(lost, n, found) == pytest.approx(0.05)


@often
@given(n=st.integers(5, 400), lost=st.floats(0, 1), level=st.floats(0.6, 0.999))
def test_more_lost_more_confidence_and_fewer_samples_make_it_larger(n: int, lost: float, level: float) -> None:
    count = int(lost * (n - 1))
    here = bound(count, 0, n, level)
    assert count / n < here <= 1
    assert bound(count + 1, 0, n, level) > here
    assert bound(count, 0, n, level + (1 - level) / 2) > here
    assert bound(count, 0, 2 * n, level) < here


@often
@given(n=st.integers(20, 400), lost=st.integers(0, 9), won=st.integers(1, 9))
def test_answers_that_are_won_lower_it_and_it_stays_above_the_drop(n: int, lost: int, won: int) -> None:
    assert (lost - won) / n < bound(lost, won, n) <= 1
    assert bound(lost + 1, won, n) > bound(lost, won, n)


def test_everything_lost_is_everything() -> None:
    assert bound(7, 0, 7) == 1


def test_it_holds_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    for share in (0.005, 0.02, 0.1):
        changed = random.random((2000, 150)) < share
        held = np.mean([bound(int(each.sum()), 0, 150) >= share for each in changed])
        assert held >= 0.94, share


def test_of_a_mean_it_is_students() -> None:
    losses = np.random.default_rng(0).standard_normal(25) + 1
    found = upper_bound(mean_estimate(losses), losses, 0.95)
    half = stats.t.ppf(0.95, 24) * losses.std(ddof=1) / 5
    assert found == pytest.approx(losses.mean() + half)
    assert upper_bound(mean_estimate(losses), losses, 0.99) > found


def test_of_one_sample_nothing_can_be_said() -> None:
    assert upper_bound(Estimate(0.3, 0.3, 0.3, 1), np.array([0.3]), 0.95) == np.inf


@pytest.mark.parametrize("level", [0.9, 0.975, 0.999])
def test_of_a_figure_that_is_no_mean_it_is_the_upper_end_of_its_interval_at_that_level(level: float) -> None:
    found = upper_bound(Estimate(0.10, 0.06, 0.14, 50), NO_MEAN, level)
    assert found == pytest.approx(0.10 + 0.04 * stats.norm.ppf(level) / stats.norm.ppf(0.975))


@pytest.mark.parametrize(("loss", "level"), [(0.01, 0.95), (0.05, 0.9), (0.001, 0.99), (0.5, 0.95)])
def test_so_many_samples_are_just_enough(loss: float, level: float) -> None:
    n = samples_for_bound(loss, level)
    assert bound(0, 0, n, level) <= loss < bound(0, 0, n - 1, level)


# What is asked for


@pytest.mark.parametrize("given", ["95%", "0.95", 0.95])
def test_it_is_a_share(given: Any) -> None:
    assert make_target(max_drop="1%", confidence=given) == Target("max-drop", value=0.01, confidence=0.95)
    assert make_target(max_error=0.02, confidence=given) == Target("max-error", value=0.02, confidence=0.95)


def test_alone_it_is_of_the_default_target() -> None:
    found = make_target(confidence=0.9)
    assert found == Target("max-drop", value=0.01, stated=False, confidence=0.9)
    assert str(found) == "max-drop 1% (default), confidence 90%"


def test_layers_may_be_pinned_beside_it() -> None:
    found = make_target(rank="a=keep", confidence=0.9)
    assert str(found) == "max-drop 1% (default), confidence 90%, rank a=keep"


def test_it_is_part_of_what_the_plan_was_made_for() -> None:
    assert str(make_target(max_error="2%", rank="fc*=keep", confidence=0.99)) == (
        "max-error 0.02, confidence 99%, rank fc*=keep"
    )


@pytest.mark.parametrize("given", [0, 1, "100%", "much", -0.5, 95])
def test_what_is_no_confidence_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match=f"--confidence {given!r} is not"):
        make_target(max_drop="1%", confidence=given)


@pytest.mark.parametrize("other", [{"rank": 8}, {"params": "50%"}, {"size": "50%"}, {"energy": 0.9}, {"rank": "a=3"}])
def test_beside_what_is_not_measured_it_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="--confidence means nothing to this target") as error:
        make_target(**other, confidence=0.95)
    assert "--max-drop and --max-error" in error.value.hint


# Too few samples are refused before the work


def sets_of(count: int, **options: Any) -> Sets:
    x = np.zeros((count, 2), np.float32)
    with opened(SampleOptions({"x": x}, **options), (spec(None, 2, name="x"),)) as sets:
        return sets


def refused(target: Target, sets: Sets, asked: Task = CLASSIFY) -> TargetError:
    with pytest.raises(TargetError) as error:
        check_confidence(target, asked, sets)
    return error.value


def test_the_refusal_says_what_the_samples_show_and_how_many_it_takes() -> None:
    error = refused(make_target(max_drop="1%", confidence="95%"), sets_of(100))
    assert error.message == (
        "30 select samples cannot show a drop of at most 1 % with a confidence of 95 %: with no answer changed, the "
        "bound is 9.5 points"
    )
    assert error.hint == "it takes 299 of them, 1994 samples at --holdout 0.3; or allow more (--max-drop 9.6%)"


@pytest.mark.parametrize("holdout", [0.1, 0.3, 0.5])
@pytest.mark.parametrize(("drop", "level"), [(0.01, 0.95), (0.02, 0.9), (0.05, 0.95), (0.01, 0.8)])
def test_what_the_refusal_advises_is_enough(drop: float, level: float, holdout: float) -> None:
    target = make_target(max_drop=drop, confidence=level)
    hint = refused(target, sets_of(50, holdout=holdout)).hint
    found = re.search(r"it takes \d+ of them, (\d+) samples at --holdout .*\(--max-drop ([\d.]+)%\)", hint)
    assert found
    count, more = int(found[1]), float(found[2]) / 100
    check_confidence(target, CLASSIFY, sets_of(count, holdout=holdout))
    refused(target, sets_of(int(0.9 * count), holdout=holdout))
    check_confidence(make_target(max_drop=more, confidence=level), CLASSIFY, sets_of(50, holdout=holdout))


def test_where_the_report_has_samples_of_its_own_all_that_is_held_out_counts() -> None:
    target, one = make_target(max_drop="1%", confidence="95%"), {"x": np.zeros((1, 2), np.float32)}
    assert "997 samples at --holdout 0.3" in refused(target, sets_of(100, eval=one)).hint
    check_confidence(target, CLASSIFY, sets_of(997, eval=one))


def test_no_number_of_samples_shows_that_nothing_is_lost() -> None:
    error = refused(make_target(max_drop=0, confidence="95%"), sets_of(3000))
    assert error.message == "no number of samples shows a drop of 0 % with a confidence of 95 %"


SCORE = UserScore("mine", lambda outputs, labels: 0.5)


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ({"max_drop": "1%"}, CLASSIFY),  # no confidence asked for
        ({"max_error": "1%", "confidence": "95%"}, CLASSIFY),
        ({"max_drop": "1%", "confidence": "95%"}, REGRESS),
        ({"max_drop": "1%", "confidence": "95%"}, task(Classes(), score=SCORE)),  # its losses are no counted answers
    ],
)
def test_what_is_not_counted_is_not_refused_early(target: dict[str, Any], asked: Task) -> None:
    check_confidence(make_target(**target), asked, sets_of(20))


def test_class_numbers_are_counted_too() -> None:
    refused(make_target(max_drop="1%", confidence="95%"), sets_of(100), task(Values(answers=True)))
    check_confidence(make_target(max_drop="1%", confidence="95%"), task(Numbers()), sets_of(100))


CLASSIFIER = """
<ir_version: 8, opset_import: ["" : 17]>
classes (float[N,16] x) => (float[N,4] y) {
  [first] h1 = Gemm<transB: int = 1>(x, W1, b1)
  r1 = Relu(h1)
  [second] h2 = Gemm<transB: int = 1>(r1, W2, b2)
  r2 = Relu(h2)
  [third] logits = Gemm<transB: int = 1>(r2, W3, b3)
  y = Softmax<axis: int = -1>(logits)
}
"""


def classifier() -> Any:
    return tiny.with_weights(CLASSIFIER, tiny.mlp_weights((16, 64, 64, 4)))


def test_nothing_is_learned_before_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: Any, **named: Any) -> Any:
        raise AssertionError((given, named))

    monkeypatch.setattr(learning, "learn", never)
    with pytest.raises(TargetError, match="30 select samples cannot show a drop of at most 1 %"):
        onnx_dalr.optimize(classifier(), calib=tiny.rows(100), confidence="95%", device="cpu")


def test_a_plan_from_an_analysis_is_refused_alike() -> None:
    with (
        onnx_dalr.analyze(classifier(), calib=tiny.rows(100), device="cpu") as made,
        pytest.raises(TargetError, match="30 select samples cannot show"),
    ):
        made.plan(max_drop="1%", confidence="95%")


# The search


def test_what_counts_against_the_tolerance_is_the_bound() -> None:
    sure, unsure = Trial(0.01, 1.0, 0.02, drop_bound=0.03, error_bound=0.04), Trial(0.01, 1.0, 0.02)
    assert (sure.certain_drop, sure.certain_error) == (0.03, 0.04)
    assert (unsure.certain_drop, unsure.certain_error) == (0.01, 0.02)


@pytest.mark.parametrize("kind", ["max_drop", "max_error"])
def test_the_smallest_model_whose_bound_is_within_the_tolerance_is_found(kind: str) -> None:
    def lost(plan: Any) -> Trial:
        gone = 1 - kept(plan)
        return Trial(gone, gone, gone, 1000, drop_bound=gone + 0.2, error_bound=gone + 0.2)

    found = decided(lost, **{kind: 0.5})
    assert 0.7 <= kept(found) < 0.8
    assert any(rank is not None for rank in named(found).values())


def test_a_model_that_holds_with_confidence_is_no_smaller_and_its_bound_is_within() -> None:
    x = tiny.rows(900)
    plain, sure = (
        onnx_dalr.optimize(classifier(), calib=x, max_drop="10%", confidence=level, device="cpu")
        for level in (None, "95%")
    )
    assert plain.params_after <= sure.params_after
    assert sure.target == "max-drop 10%, confidence 95%"
    (chosen,) = [point for point in sure.curve if point.chosen]
    n = len(sure.samples.select)
    assert bound(round(chosen.drop * n), 0, n) <= 0.1


def test_a_score_of_ones_own_is_held_by_its_interval() -> None:
    def spread(outputs: Any, labels: Any) -> float:
        del labels
        return float(outputs["y"].std())

    x = tiny.rows(300)
    model = classifier()
    found = onnx_dalr.optimize(model, calib=x, max_drop=0.05, confidence="95%", score=spread, device="cpu")
    loose = onnx_dalr.optimize(model, calib=x, max_drop=0.05, score=spread, device="cpu")
    assert loose.params_after <= found.params_after
    (chosen,) = [point for point in found.curve if point.chosen]
    assert chosen.drop < 0.05


def test_the_interval_of_a_drop_and_its_bound_agree() -> None:
    before, after = np.ones(200), np.r_[np.zeros(6), np.ones(194)]
    drop = paired_drop(before, after)
    assert drop.value < upper_bound(drop, before - after, 0.95) < drop.high + 0.02


def test_the_bound_is_of_the_output_that_may_have_lost_most_not_of_the_one_that_did() -> None:
    answers = np.eye(4)[np.arange(100) % 4] * 8
    flipped = answers.copy()
    flipped[0] = np.roll(flipped[0], 1)
    y = np.where(np.arange(100) % 2, 1.0, -1.0)[:, None]
    together = SideBySide(Task((Measured("c", 0, Classes(encoding="logits")), Measured("y", 1, Numbers()))), None)
    together.add(list(range(100)), [answers, y], [flipped, y * 1.03])
    found = together.quality(["c", "y"])
    assert (found.worst, found.drop.value) == ("y", pytest.approx(0.03, rel=0.01))
    assert found.drop_bound(0.95) == pytest.approx(stats.beta.ppf(0.95, 2, 99))
    assert found.drop_bound(0.95) > 0.04
