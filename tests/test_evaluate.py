"""Two models on held-out batches, and what they differ in."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.estimates import Estimate
from onnx_dalr.evaluate import Quality, Task, evaluate, find_task, measure_latency
from onnx_dalr.quality import Comparison
from onnx_dalr.runtime import Session, open_session
from onnx_dalr.score import Labels, Outputs, UserScore

CLASSIFY, REGRESS, EMBED = Task("classify", 0, ""), Task("regress", None, ""), Task("embed", 0, "")


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
    new: Session, x: Any, task: Task = CLASSIFY, labels: Any = None, *, original: Session = SAME, size: int = 7
) -> Quality:
    """Evaluates on the rows of x, `size` at a time."""
    feeds = [(list(range(i, min(i + size, len(x)))), {"x": x[i : i + size]}) for i in range(0, len(x), size)]
    return evaluate(original, new, feeds, task, labels)


# What the model is for

PROBABILITIES = np.full((3, 4), 0.25, np.float32)
UNIT = np.eye(4, dtype=np.float32)[:3] * np.array([[-1], [1], [1]], np.float32)
NUMBERS = rows(3)


@pytest.mark.parametrize(
    ("outputs", "classes", "kind", "output"),
    [
        ([PROBABILITIES], 0, "classify", 0),
        ([NUMBERS, PROBABILITIES], 0, "classify", 1),
        ([NUMBERS], 4, "classify", 0),
        ([PROBABILITIES, rows(3, width=5)], 5, "classify", 1),
        ([NUMBERS], 3, "regress", None),
        ([NUMBERS], 0, "regress", None),
        ([UNIT], 0, "embed", 0),
        ([NUMBERS, UNIT], 0, "embed", 1),
        ([UNIT[:, None]], 0, "regress", None),
        ([np.ones((3, 1), np.float32)], 0, "regress", None),
        ([np.ones((3, 1), np.float32)], 1, "regress", None),
        ([np.array([1, 2, 3])], 3, "regress", None),
        ([np.array([1, 2, 3]), PROBABILITIES], 0, "classify", 1),
        ([np.zeros((0, 4), np.float32)], 4, "regress", None),
        (["text", NUMBERS], 4, "classify", 1),
    ],
)
def test_auto_reads_the_task_from_the_outputs(outputs: list[Any], classes: int, kind: str, output: int | None) -> None:
    found = find_task("auto", outputs, classes)
    assert (found.kind, found.output) == (kind, output)


def test_what_the_user_says_goes_before_what_the_outputs_look_like() -> None:
    assert find_task("regress", [PROBABILITIES], 4) == Task("regress", None, "as asked")
    assert find_task("embed", [PROBABILITIES], 4) == Task("embed", 0, "as asked")
    assert find_task("classify", [NUMBERS], 0) == Task("classify", 0, "as asked")


@pytest.mark.parametrize("name", ["classify", "embed"])
def test_a_task_that_no_output_fits_is_refused(name: Any) -> None:
    with pytest.raises(InputError, match=f"--task {name}") as error:
        find_task(name, [np.array([1, 2, 3])], 3)
    assert error.value.hint == "use --task regress"


# The figures


@pytest.mark.parametrize("task", [CLASSIFY, REGRESS, EMBED])
def test_a_model_does_not_differ_from_itself(task: Task) -> None:
    found = quality(SAME, rows(20), task)
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
    logits, probabilities = quality(DOUBLED, x), quality(sharper, x, original=softmax)
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


def scored_by(function: Any, kind: Any = "classify", output: int | None = 0) -> Task:
    return Task(kind, output, "", UserScore(function.__name__, function))


def test_find_task_hands_the_users_score_on() -> None:
    score = UserScore("spread", spread)
    for name in ("auto", "classify", "regress", "embed"):
        found = find_task(name, [NUMBERS], 0, score, complete=True)  # type: ignore[arg-type]
        assert (found.score, found.complete) == (score, True)
    assert find_task("auto", [NUMBERS], 0).score is None


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
    found = quality(DOUBLED, x, scored_by(spread, "regress", None))
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
    assert found.notes[0].endswith("labels do not fit this model")


def test_a_model_that_gives_nan_is_not_scored() -> None:
    found = quality(session("y = Sqrt(x)"), rows(20), scored_by(spread, "regress", None))
    assert (found.finite, found.score_after, found.drop.value) == (False, None, float("inf"))
    assert found.score_before is not None


def test_measuring_one_layer_keeps_no_outputs() -> None:
    sums = Comparison(scored_by(spread, "regress", None), None)
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
    found = quality(session("y = Identity(x) z = Add(x, x)", outputs=outputs), rows(20), REGRESS, original=both)
    assert [(each.name, each.error) for each in found.outputs] == [("y", 0.0), ("z", pytest.approx(1))]
    assert found.error.value == pytest.approx(1)


def test_integer_and_boolean_outputs_are_compared_too() -> None:
    outputs = "int64[N] best, bool[N, 4] sign, float[N, 4] y"
    body = "best = ArgMax <axis = 1, keepdims = 0> (s) zero = Constant <value = float {0}> () sign = Less(zero, s) "
    one, other = (session(f"s = {op}(x) {body} y = Identity(s)", outputs=outputs) for op in ("Identity", "Neg"))
    same = quality(one, rows(20), REGRESS, original=one)
    assert [each.error for each in same.outputs] == [0, 0, 0]
    changed = quality(other, rows(20), REGRESS, original=one)
    assert [each.name for each in changed.outputs] == ["best", "sign", "y"]
    assert changed.outputs[1].max_abs == 1
    assert changed.outputs[2].error == pytest.approx(2)


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


def test_a_model_without_numbers_among_its_outputs_cannot_be_compared() -> None:
    outputs = "string[N, 4] y"
    text = session("y = Cast <to = 8> (x)", outputs=outputs)
    with pytest.raises(InputError, match="no numeric output"):
        quality(text, rows(3), REGRESS, original=text)


def test_each_batch_is_told() -> None:
    seen: list[int] = []
    x = rows(5)
    evaluate(SAME, SAME, [([0, 1, 2], {"x": x[:3]}), ([3, 4], {"x": x[3:]})], REGRESS, each=seen.append)
    assert seen == [3, 2]


def test_latency_is_the_median_of_at_least_three_runs_of_each() -> None:
    found = measure_latency(SAME, DOUBLED, {"x": rows(2)}, 2, budget=0.0)
    assert found.runs == 3
    assert found.batch == 2
    assert found.before > 0
    assert found.after > 0
