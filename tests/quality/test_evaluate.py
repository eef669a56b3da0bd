"""Two models on held-out batches, and what they differ in."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import onnx
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.quality.evaluate import OutputQuality, Quality, Recalled, Task, evaluate, measure_latency
from onnx_dalr.quality.intervals import Estimate
from onnx_dalr.quality.measures import Classes, Measure, Numbers, Values
from onnx_dalr.quality.score import Labels, Outputs, UserScore
from onnx_dalr.quality.side_by_side import SideBySide
from onnx_dalr.session.session import Session, open_session
from tests.quality.task_cases import CLASSIFY, EMBED, REGRESS, found, task

PROBABLE = task(Classes(encoding="probabilities"))


def session(body: str, inputs: str = "float[N, 4] x", outputs: str = "float[N, 4] y") -> Session:
    text = f'<ir_version: 8, opset_import: ["" : 17]> net ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    return open_session(model.SerializeToString(), "cpu")


SAME = session("y = Identity(x)")
DOUBLED = session("y = Add(x, x)")
REVERSED = session("y = Neg(x)")
FIRST_SHIFTED = session("c = Constant <value = float[4] {9, 0, 0, 0}> () y = Add(x, c)")


def rows(count: int, seed: int = 0, width: int = 4) -> Any:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def quality(
    new: Session, x: Any, asked: Task = CLASSIFY, labels: Any = None, *, original: Session = SAME, size: int = 7
) -> Quality:
    """Evaluates on the rows of x, `size` at a time."""
    feeds = [(list(range(i, min(i + size, len(x)))), {"x": x[i : i + size]}) for i in range(0, len(x), size)]
    return evaluate(original, new, feeds, asked, labels)


# What the model is for

PROBABILITIES = np.full((3, 4), 0.25, np.float32)
UNIT = np.eye(4, dtype=np.float32)[:3] * np.array([[-1], [1], [1]], np.float32)
NUMBERS = rows(3)


@pytest.mark.parametrize(
    ("outputs", "classes", "kinds", "labelled"),
    [
        ([PROBABILITIES], 0, ["classes"], 0),
        ([NUMBERS, PROBABILITIES], 0, ["numbers", "classes"], 1),
        ([NUMBERS], 4, ["classes"], 0),
        ([PROBABILITIES, rows(3, width=5)], 5, ["classes", "classes"], 1),
        ([PROBABILITIES, rows(3, width=5)], 3, ["classes", "numbers"], 0),
        ([NUMBERS], 3, ["numbers"], None),
        ([NUMBERS], 0, ["numbers"], None),
        ([UNIT], 0, ["embedding"], None),
        ([NUMBERS, UNIT], 0, ["numbers", "embedding"], None),
        ([UNIT[:, None]], 0, ["numbers"], None),
        ([np.ones((3, 1), np.float32)], 0, ["numbers"], None),
        ([np.ones((3, 1), np.float32)], 1, ["numbers"], None),
        ([np.ones((3, 1), np.float32)], 2, ["dense"], 0),  # yes or no
        ([np.array([1, 2, 3])], 3, ["values"], 0),
        ([np.array(["cat", "dog", "cat"], object)], 2, ["values"], 0),
        ([np.arange(12).reshape(3, 4)], 0, ["values"], None),
        ([np.array([1, 2, 3]), PROBABILITIES], 4, ["values", "classes"], 1),
        ([np.zeros((0, 4), np.float32)], 4, ["values"], None),
        (["text", NUMBERS], 4, ["classes"], 1),
    ],
)
def test_auto_reads_the_task_from_the_outputs(
    outputs: list[Any], classes: int, kinds: list[str], labelled: int | None
) -> None:
    asked = found("auto", *outputs, samples=3, classes=classes)
    assert ([one.measure.kind for one in asked.measured], asked.labelled) == (kinds, labelled)


def sure(count: int, seed: int = 0) -> Any:
    """Class scores as a trained classifier gives them."""
    return 8 * np.eye(4)[np.arange(count) % 4] + np.random.default_rng(seed).standard_normal((count, 4))


def test_scores_that_look_like_a_classifiers_are_classes_and_other_numbers_are_quantities() -> None:
    for scores, kind in ((sure(40), "classes"), (rows(40), "numbers"), (sure(40) + 50 * rows(40), "numbers")):
        assert found("auto", scores).main.measure.kind == kind
    assert found("auto", sure(4)).main.measure.kind == "numbers"  # too few to tell


def test_infinite_scores_of_masked_classes_are_never_the_answer() -> None:
    scores = -10 + sure(40)
    scores[:, 1] = -np.inf
    assert found("classify", scores).main.measure.common < 1  # type: ignore[attr-defined]


def test_probabilities_by_position_are_dense() -> None:
    maps = np.exp(rows(3 * 5).reshape(3, 5, 4))
    asked = found("auto", maps / maps.sum(axis=-1, keepdims=True))
    assert (asked.main.measure.kind, asked.kind, asked.labelled) == ("dense", "classify", None)


def test_the_task_is_named_after_the_first_output_that_counts() -> None:
    assert found("auto", NUMBERS, PROBABILITIES).kind == "regress"
    assert found("auto", PROBABILITIES, NUMBERS).kind == "classify"
    assert found("auto", NUMBERS, UNIT, declared=("z",)).kind == "embed"
    assert found("auto", np.arange(12).reshape(3, 4), UNIT).kind == "embed"


def test_what_the_user_says_goes_before_what_the_outputs_look_like() -> None:
    for name, kind in (("regress", "numbers"), ("embed", "embedding")):
        (one,) = found(name, PROBABILITIES, classes=4).measured  # type: ignore[arg-type]
        assert (one.measure.kind, one.why) == (kind, "as asked")
    (one,) = found("classify", NUMBERS).measured
    assert (one.measure.kind, one.why) == ("classes", "as asked")


@pytest.mark.parametrize("name", ["classify", "embed"])
def test_a_task_that_no_output_fits_is_refused(name: Any) -> None:
    with pytest.raises(InputError, match=f"--task {name}") as error:
        found(name, np.array([1, 2, 3]), classes=3)
    assert error.value.hint == "use --task regress"


# Outputs that count


def counting(asked: Task) -> list[str]:
    return [one.name for one in asked.measured if one.counts]


def test_all_outputs_that_answer_count() -> None:
    asked = found("auto", NUMBERS, PROBABILITIES, np.array([1, 2, 3]), np.arange(12).reshape(3, 4))
    assert counting(asked) == ["y", "z", "u"]


def test_where_outputs_are_declared_they_alone_count() -> None:
    asked = found("auto", NUMBERS, PROBABILITIES, np.arange(12).reshape(3, 4), declared=("u",))
    assert counting(asked) == ["u"]
    assert [one.why for one in asked.measured[:2]] == ["not among --output"] * 2
    assert asked.labelled is None


def test_where_nothing_answers_everything_counts() -> None:
    assert counting(found("auto", np.arange(12).reshape(3, 4))) == ["y"]


def test_a_declared_output_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(InputError, match="--output 'x' is no output of the model") as error:
        found("auto", NUMBERS, PROBABILITIES, declared=("y", "x"))
    assert error.value.hint == "its outputs: y, z"


def test_task_speaks_of_a_declared_output() -> None:
    asked = found("classify", NUMBERS, NUMBERS, declared=("z",))
    assert [one.measure.kind for one in asked.measured] == ["numbers", "classes"]


# The figures


@pytest.mark.parametrize("asked", [CLASSIFY, REGRESS, EMBED])
def test_a_model_does_not_differ_from_itself(asked: Task) -> None:
    found = quality(SAME, rows(20), asked)
    assert (found.n, found.error, found.finite, found.notes) == (20, Estimate(0, 0, 0, 20), True, ())
    assert found.outputs[0].max_abs == 0
    assert found.drop.value == pytest.approx(0, abs=1e-7)


def test_the_same_classes_are_full_agreement() -> None:
    found = quality(DOUBLED, rows(20))
    assert found.agreement is not None
    assert (found.agreement.value, found.agreement.n, found.score, found.drop.value) == (1.0, 20, "agreement", 0.0)
    assert found.agreement.low < 1


def test_agreement_is_the_share_of_rows_with_the_same_best_class() -> None:
    x = rows(40)
    found = quality(FIRST_SHIFTED, x)
    assert found.agreement is not None
    assert found.agreement.value == np.mean(x.argmax(axis=1) == 0)
    assert found.drop.value == pytest.approx(1 - found.agreement.value)


def test_the_error_is_relative_to_the_original_outputs() -> None:
    found = quality(DOUBLED, rows(20), REGRESS)
    assert found.error.value == pytest.approx(1)
    assert (found.score, found.drop, found.agreement, found.kl, found.cosine) == ("1 − error", found.error) + (
        None,
    ) * 3
    assert found.outputs[0].name == "y"
    assert found.outputs[0].max_abs == pytest.approx(np.abs(rows(20)).max())


@pytest.mark.parametrize("size", [1, 3, 20])
def test_batching_does_not_matter(size: int) -> None:
    labels = np.arange(20) % 4
    found, whole = quality(REVERSED, rows(20), labels=labels, size=size), quality(REVERSED, rows(20), labels=labels)
    assert found.error.value == pytest.approx(whole.error.value)
    assert (found.agreement, found.accuracy_before, found.drop) == (
        whole.agreement,
        whole.accuracy_before,
        whole.drop,
    )


def test_cosine_compares_directions() -> None:
    same, opposite = quality(DOUBLED, rows(20), EMBED), quality(REVERSED, rows(20), EMBED)
    assert same.cosine is not None
    assert opposite.cosine is not None
    assert same.cosine.value == pytest.approx(1)
    assert opposite.cosine.value == pytest.approx(-1)
    assert (same.score, opposite.drop.value) == ("cosine", pytest.approx(2))


def test_outputs_of_zeros_that_stay_zeros_have_not_turned() -> None:
    found = quality(SAME, np.zeros((20, 4), np.float32), EMBED)
    assert found.drop.value == 0


def test_divergence_is_kullback_and_leiblers() -> None:
    x = rows(20)
    p, q = (np.exp(v) / np.exp(v).sum(axis=1, keepdims=True) for v in (x.astype(float), 2 * x.astype(float)))
    truth = np.mean(np.sum(p * np.log(p / q), axis=1))
    softmax, sharper = session("y = Softmax(x)"), session("z = Add(x, x) y = Softmax(z)")
    logits, probabilities = quality(DOUBLED, x), quality(sharper, x, PROBABLE, original=softmax)
    assert logits.kl == pytest.approx(truth, rel=1e-5)
    assert probabilities.kl == pytest.approx(truth, rel=1e-4)


# Labels


def test_with_labels_the_score_is_accuracy() -> None:
    x = rows(40)
    labels = x.argmax(axis=1)
    found = quality(FIRST_SHIFTED, x, labels=labels)
    assert found.accuracy_before is not None
    assert found.accuracy_after is not None
    assert (found.score, found.accuracy_before.value) == ("accuracy", 1.0)
    assert found.accuracy_after.value == np.mean(labels == 0)
    assert found.drop.value == pytest.approx(1 - np.mean(labels == 0))


def test_labels_belong_to_sample_indices_not_to_their_order() -> None:
    x = rows(10)
    labels = np.full(100, -1)
    labels[90:] = x.argmax(axis=1)
    found = evaluate(SAME, SAME, [(list(range(90, 100)), {"x": x})], CLASSIFY, labels)
    assert found.accuracy_before is not None
    assert found.accuracy_before.value == 1


def test_labels_the_original_only_guesses_are_not_used_and_it_says_so() -> None:
    x = rows(40)
    found = quality(SAME, x, labels=(x.argmax(axis=1) + 1) % 4)
    assert (found.score, found.accuracy_before, found.accuracy_after) == ("agreement", None, None)
    assert "0.0 % of the labelled samples, about chance" in found.notes[0]


def test_a_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(InputError, match="label 4 is no class of the model, which has 4"):
        quality(SAME, rows(3), labels=np.array([0, 1, 4]))


def test_labels_of_samples_are_not_labels_of_their_tokens() -> None:
    tokens = session("y = Identity(x)", "float[N, L, 4] x", "float[N, L, 4] y")
    x = np.random.default_rng(0).standard_normal((6, 5, 4)).astype(np.float32)
    found = evaluate(tokens, tokens, [(list(range(6)), {"x": x})], CLASSIFY, np.zeros(6, np.int64))
    assert found.accuracy_before is None
    assert found.agreement == Estimate(1.0, pytest.approx(found.agreement.low), 1.0, 6)  # type: ignore[union-attr]


# A score of the user's own


def is_first(outputs: Outputs, labels: Labels | None) -> Any:
    """Right or wrong by sample."""
    assert labels is not None
    return outputs["y"].argmax(axis=1) == labels


def spread(outputs: Outputs, labels: Labels | None) -> float:
    """One number."""
    assert labels is None
    return float(outputs["y"].std())


def scored_by(function: Any, measure: Measure | None = None) -> Task:
    return task(measure or Classes(), score=UserScore(function.__name__, function))


def test_find_task_hands_the_users_score_on() -> None:
    score = UserScore("spread", spread)
    for name in ("auto", "classify", "regress", "embed"):
        asked = found(name, NUMBERS, score=score, complete=True)  # type: ignore[arg-type]
        assert (asked.score, asked.complete) == (score, True)
    assert found("auto", NUMBERS).score is None


@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_users_score_is_the_score(size: int) -> None:
    x = rows(40)
    labels = x.argmax(axis=1)
    found = quality(FIRST_SHIFTED, x, scored_by(is_first), labels, size=size)
    own = quality(FIRST_SHIFTED, x, CLASSIFY, labels, size=size)
    assert (found.score, own.score) == ("is_first", "accuracy")
    assert (found.score_before, found.score_after) == (own.accuracy_before, own.accuracy_after)
    assert found.drop == own.drop
    assert (found.agreement, found.kl, found.error, found.distortion) == (
        own.agreement,
        own.kl,
        own.error,
        own.distortion,
    )
    assert (own.score_before, own.score_after) == (None, None)


def test_a_score_in_a_unit_of_its_own_drops_in_that_unit() -> None:
    x = rows(40)
    found = quality(DOUBLED, x, scored_by(spread, Numbers()))
    assert found.drop.value == pytest.approx(-x.std(), rel=1e-5)
    assert found.drop.low < found.drop.value < found.drop.high


def test_labels_in_classes_of_the_scores_own_are_no_error() -> None:
    x = rows(40)
    found = quality(SAME, x, scored_by(is_first), np.arange(40))
    assert found.accuracy_before is None
    assert found.score_before is not None
    assert found.notes == ()


def test_labels_the_original_only_guesses_are_still_the_scores() -> None:
    x = rows(40)
    found = quality(SAME, x, scored_by(is_first), (x.argmax(axis=1) + 1) % 4)
    assert found.accuracy_before is None
    assert found.score_before is not None
    assert found.score_before.value == 0
    assert found.notes[0].endswith("labels do not fit this model, its accuracy is left out")


def test_a_model_that_gives_nan_is_not_scored() -> None:
    found = quality(session("y = Sqrt(x)"), rows(20), scored_by(spread, Numbers()))
    assert (found.finite, found.score_after, found.drop.value) == (False, None, float("inf"))
    assert found.score_before is not None


def test_measuring_one_layer_keeps_no_outputs() -> None:
    sums = SideBySide(scored_by(spread, Numbers()), None)
    sums.add([0, 1], [rows(2)], [2 * rows(2)])
    assert sums.kept is None
    assert sums.quality(["y"]).score == "1 − error"
    assert sums.distortion() == pytest.approx(1)


# Outputs of every kind


def test_outputs_are_compared_by_name() -> None:
    outputs, turned = "float[N, 4] y, float[N, 4] z", "float[N, 4] z, float[N, 4] y"
    one = session("y = Identity(x) z = Neg(x)", outputs=outputs)
    other = session("y = Identity(x) z = Neg(x)", outputs=turned)
    assert quality(other, rows(20), REGRESS, original=one).error.value == 0


def test_new_outputs_that_are_no_numbers_are_told() -> None:
    broken = session("z = Sqrt(x) y = Identity(z)")
    found = quality(broken, rows(20), REGRESS)
    assert found.finite is False
    assert np.isfinite(found.error.value)


def test_an_original_without_numbers_is_the_users_to_mend() -> None:
    with pytest.raises(InputError, match="the original model gives NaN or infinity") as error:
        quality(SAME, rows(20), REGRESS, original=session("y = Sqrt(x)"))
    assert "preprocessing" in error.value.hint


def test_the_error_is_that_of_the_worst_output() -> None:
    outputs = "float[N, 4] y, float[N, 4] z"
    both = session("y = Identity(x) z = Identity(x)", outputs=outputs)
    new = session("y = Identity(x) z = Add(x, x)", outputs=outputs)
    found = quality(new, rows(20), task(Numbers(), Numbers()), original=both)
    assert [(each.name, error_of(each)) for each in found.outputs] == [("y", 0.0), ("z", pytest.approx(1))]
    assert found.error.value == pytest.approx(1)
    assert (found.drop, found.worst) == (found.error, "z")


def test_the_drop_is_what_the_worst_output_loses_by_its_own_measure() -> None:
    outputs = "float[N, 4] y, float[N, 4] z"
    both = session("y = Identity(x) z = Identity(x)", outputs=outputs)
    new = session(
        "c = Constant <value = float[4] {9, 0, 0, 0}> () y = Add(x, c) h = Constant <value = float {1.1}> () "
        "z = Mul(x, h)",
        outputs=outputs,
    )
    x = rows(20)
    found = quality(new, x, task(Classes(), Numbers()), original=both)
    lost = [each.loss.value for each in found.outputs if each.loss is not None]
    assert lost == pytest.approx([1 - np.mean(x.argmax(axis=1) == 0), 0.1], rel=1e-4)
    assert (found.score, found.worst, found.drop.value) == ("agreement", "y", lost[0])
    assert found.lost[0].by_sample == tuple((x.argmax(axis=1) != 0).astype(float))
    assert [(each.kind, each.score) for each in found.outputs] == [("classes", "agreement"), ("numbers", "1 − error")]


def test_the_distortion_is_the_sum_of_the_outputs_that_count() -> None:
    outputs = "float[N, 4] y, float[N, 4] z, float[N, 4] u"
    same = session("y = Identity(x) z = Identity(x) u = Identity(x)", outputs=outputs)
    new = session("y = Add(x, x) z = Neg(x) u = Neg(x)", outputs=outputs)
    asked = found("auto", *[rows(20)] * 3, declared=("y", "z"))
    said = quality(new, rows(20), asked, original=same)
    assert said.distortion == pytest.approx(1 + 4)
    assert np.mean(said.distortions) == pytest.approx(said.distortion)


def test_an_output_that_does_not_count_and_is_lost_gets_a_note() -> None:
    outputs = "float[N, 4] y, float[N, 4] z"
    same = session("y = Identity(x) z = Identity(x)", outputs=outputs)
    new = session("y = Identity(x) z = Neg(x)", outputs=outputs)
    asked = found("auto", rows(20), rows(20), declared=("y",))
    said = quality(new, rows(20), asked, original=same)
    assert (said.drop.value, said.error.value, said.distortion) == (0, 0, 0)
    assert said.notes == ("output 'z' loses 200 points of 1 − error, which the drop does not show: not among --output",)
    assert quality(same, rows(20), asked, original=same).notes == ()


def test_an_output_that_the_users_score_does_not_look_at_gets_a_note_too() -> None:
    outputs = "float[N, 4] y, float[N, 4] z"
    same = session("y = Identity(x) z = Identity(x)", outputs=outputs)
    new = session("y = Identity(x) z = Neg(x)", outputs=outputs)
    asked = task(Numbers(), Numbers(), score=UserScore("spread", spread))
    said = quality(new, rows(20), asked, original=same)
    assert said.worst is None
    assert said.notes == (
        "output 'z' loses 200 points of 1 − error, which the drop does not show: the score does not look at it",
    )


def error_of(each: OutputQuality) -> float | None:
    return None if each.error is None else each.error.value


def test_integer_and_boolean_outputs_are_compared_too() -> None:
    outputs = "int64[N] best, bool[N, 4] sign, float[N, 4] y"
    body = "best = ArgMax <axis = 1, keepdims = 0> (s) zero = Constant <value = float {0}> () sign = Less(zero, s) "
    one, other = (session(f"s = {op}(x) {body} y = Identity(s)", outputs=outputs) for op in ("Identity", "Neg"))
    asked = task(Values(answers=True), Values(), Numbers(), names=("best", "sign", "y"))
    same = quality(one, rows(20), asked, original=one)
    assert [error_of(each) for each in same.outputs] == [None, None, 0]
    assert [each.value.value for each in same.outputs if each.value is not None] == [1, 1, 0]
    changed = quality(other, rows(20), asked, original=one)
    assert [each.name for each in changed.outputs] == ["best", "sign", "y"]
    assert [each.score for each in changed.outputs] == ["agreement", "equal values", "1 − error"]
    assert [each.value.value for each in changed.outputs if each.value is not None] == [0, 0, pytest.approx(2)]
    assert changed.outputs[1].max_abs == 1
    assert error_of(changed.outputs[2]) == changed.error.value == pytest.approx(2)  # class numbers do not enter it


def test_an_output_whose_first_axis_is_not_the_batch_counts_as_one() -> None:
    outputs = "float[4, N] y"
    plain = session("y = Transpose <perm = [1, 0]> (x)", outputs=outputs)
    doubled = session("z = Add(x, x) y = Transpose <perm = [1, 0]> (z)", outputs=outputs)
    found = quality(doubled, rows(21), REGRESS, original=plain)
    assert found.error.value == pytest.approx(1)
    assert (found.n, found.error.n) == (21, 3)


def test_a_scalar_output_counts_as_one_a_batch() -> None:
    outputs = "float y"
    total = session("y = ReduceSum <keepdims = 0> (x)", outputs=outputs)
    doubled = session("z = Add(x, x) y = ReduceSum <keepdims = 0> (z)", outputs=outputs)
    found = quality(doubled, rows(20), REGRESS, original=total)
    assert found.error.value == pytest.approx(1)


def test_text_is_the_same_or_not() -> None:
    outputs = "string[N, 4] y"
    text = session("y = Cast <to = 8> (x)", outputs=outputs)
    other = session(
        "c = Constant <value = float[4] {9, 0, 0, 0}> () z = Add(x, c) y = Cast <to = 8> (z)", outputs=outputs
    )
    assert quality(text, rows(3), task(Values()), original=text).drop.value == 0
    changed = quality(other, rows(3), task(Values()), original=text)
    assert (changed.score, changed.drop.value, changed.outputs[0].error) == ("equal values", 0.25, None)


def test_a_model_without_arrays_among_its_outputs_cannot_be_compared() -> None:
    nothing = session("y = SequenceEmpty <dtype = 1> ()", outputs="seq(float[N]) y")
    with pytest.raises(InputError, match="no numeric output"):
        quality(nothing, rows(3), REGRESS, original=nothing)


def test_each_batch_is_told() -> None:
    seen: list[int] = []
    x = rows(5)
    evaluate(SAME, SAME, [([0, 1, 2], {"x": x[:3]}), ([3, 4], {"x": x[3:]})], REGRESS, each=seen.append)
    assert seen == [3, 2]


def test_latency_is_the_median_of_at_least_three_runs_of_each() -> None:
    found = measure_latency(SAME, DOUBLED, {"x": rows(2)}, 2, seconds=0.0)
    assert found.runs == 3
    assert found.batch == 2
    assert found.before > 0
    assert found.after > 0


class Counting:
    """A session that counts its runs."""

    def __init__(self) -> None:
        self.raw, self.provider, self.outputs, self.runs = None, "none", ("y",), 0

    def run(self, batch: Any, outputs: Any = None) -> list[Any]:
        del outputs
        self.runs += 1
        return [2 * batch["x"]]


@pytest.mark.parametrize(("most", "runs"), [(1 << 20, 3), (100, 6)])
def test_the_original_is_run_once_for_all_candidates_where_memory_takes_what_it_says(most: int, runs: int) -> None:
    x = rows(9)
    feeds = [([i], {"x": x[i : i + 3]}) for i in (0, 3, 6)]
    session = Counting()
    recalled = Recalled(session, feeds, most)  # type: ignore[arg-type]
    for _ in range(2):
        for _, batch in recalled:
            np.testing.assert_array_equal(recalled.run(batch)[0], 2 * batch["x"])
    assert session.runs == runs


def test_the_session_of_the_original_goes_once_all_that_it_says_is_known() -> None:
    feeds = [([i], {"x": rows(3, seed=i)}) for i in range(2)]
    session = Counting()
    gone = weakref.ref(session)
    recalled = Recalled(session, feeds)  # type: ignore[arg-type]
    del session
    assert gone() is not None
    recalled.keeps_all()
    assert gone() is None
    for _, batch in recalled:
        np.testing.assert_array_equal(recalled.run(batch)[0], 2 * batch["x"])
