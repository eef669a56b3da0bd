"""Every kind of output: what a ruined model, an unchanged one and one a little off lose; and seeds that say as much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import special

from onnx_dalr.errors import InputError
from onnx_dalr.learn.seeds import Seeder
from onnx_dalr.quality.measures import Classes, Dense, Embedding, Numbers, Values, dense
from onnx_dalr.quality.measures.base import Figures, RowPairs
from onnx_dalr.quality.side_by_side import SideBySide
from onnx_dalr.quality.task import Measured, Task
from onnx_dalr.samples import digest
from tests.quality.cases import (
    BACKGROUND,
    Array,
    compared,
    logits,
    loss,
    mask_of,
    normals,
    nudged,
    sigmoid,
    softmax,
    task_of,
    units,
)

KELVIN = 290 + 5 * normals(200, 1)


def boxes_and_scores(samples: int = 16, anchors: int = 400, classes: int = 5, seed: int = 0) -> Array:
    """One tensor of a detector, [samples, 4 + classes, anchors]: boxes in pixels, and scores of which few are high."""
    random = np.random.default_rng(seed)
    y = np.zeros((samples, 4 + classes, anchors))
    y[:, :2] = random.uniform(0, 320, (2, anchors)) + 4 * random.standard_normal((samples, 2, anchors))
    y[:, 2:4] = np.exp(4 + 0.6 * random.standard_normal((samples, 2, anchors)))
    y[:, 4:] = special.expit(random.standard_normal((samples, classes, anchors)) - 8)
    for one in y:
        one[4 + random.integers(classes, size=3), random.choice(anchors, 3, replace=False)] = 0.9
    return y


@dataclass(frozen=True)
class Case:
    """An output and what it is taken for."""

    y: Array
    task: Task


def case(y: Array, **about: Any) -> Case:
    return Case(y, task_of(y, **about))


SIGMOID: dict[str, Any] = {"makers": ["Sigmoid"]}
MAPS = np.moveaxis(logits(8, 16, 16, 5, common=0.9), -1, 1)
CASES = {
    "class scores": case(logits(200, 10)),
    "class scores, unbalanced": case(logits(1000, 10, common=0.97), classes=10),
    "two classes, unbalanced": case(logits(1000, 2, common=0.97), classes=2),
    "probabilities": case(softmax(logits(200, 10))),
    "probabilities of a thousand classes": case(softmax(logits(100, 1000, size=10))),
    "logarithms of probabilities": case(special.log_softmax(logits(200, 10), axis=-1)),
    "a sigmoid": case(sigmoid(400, 1), **SIGMOID),
    "a sigmoid that hardly says yes": case(sigmoid(1000, 1, yes=0.02), **SIGMOID),
    "a sigmoid that never says yes": case(sigmoid(1000, 1, yes=0), **SIGMOID),
    "disparities": case(0.05 + 0.004 * normals(8, 1, 16, 16), **SIGMOID),
    "tags": case(sigmoid(100, 20, yes=0.1), **SIGMOID),
    "anchors that say yes or no": case(sigmoid(8, 100, 12, yes=0.01), **SIGMOID),
    "a mask of one in a hundred": case(sigmoid(8, 1, 32, 32, yes=0.01), **SIGMOID),
    "tokens": case(logits(32, 12, 9, common=BACKGROUND)),
    "tokens, as probabilities": case(softmax(logits(32, 12, 9, common=BACKGROUND))),
    "words of a vocabulary": case(logits(4, 12, 5000, size=14)),
    "segmentation": case(MAPS),
    "segmentation, as probabilities": case(softmax(MAPS, axis=1)),
    "faces": case(softmax(logits(16, 400, 2, common=0.99))),
    "embeddings": case(units(100, 64)),
    "embeddings of tokens": case(units(10, 12, 64)),
    "features": case(3 * normals(100, 64)),
    "gaze": case(normals(100, 2) * [20, 12]),
    "opinions": case(np.clip(3.5 + 0.5 * normals(100, 3), 1, 5)),
    "kelvin": case(KELVIN),
    "kelvin and hectopascal": case(np.concatenate([KELVIN, 1013 + 10 * normals(200, 1, seed=1)], axis=1)),
    "kelvin and a share": case(np.concatenate([KELVIN, 0.5 + 0.2 * normals(200, 1, seed=1)], axis=1)),
    "points of a face": case(np.linspace(60, 120, 10) + 3 * normals(100, 10)),
    "a map in kelvin": case(290 + 5 * normals(8, 1, 12, 12)),
    "a channel that is dead": case(np.concatenate([normals(100, 3), np.zeros((100, 2))], axis=1)),
    "boxes and scores": case(boxes_and_scores()),
    "a detector's map": case(np.moveaxis(boxes_and_scores(8), 1, -1).reshape(8, 20, 20, 9)),
    "sound": case(0.1 * normals(8, 5000)),
    "class numbers": case(np.arange(200) % 7),
    "class numbers, unbalanced": case((np.arange(1000) % 40 == 0).astype(np.int64)),
    "names of classes": case(np.array(["cat", "dog", "cow"] * 40, object)),
    "a map of class numbers": case(logits(8, 16, 16, 5, common=0.9).argmax(axis=-1), makers=["ArgMax"]),
    "a map of yes": case(normals(8, 16, 16) > 2),
}
EVERY = pytest.mark.parametrize("name", CASES)
FLOATS = pytest.mark.parametrize("name", [name for name, one in CASES.items() if one.y.dtype.kind == "f"])


def common(y: Array) -> Array:
    values, counts = np.unique(y, return_counts=True)
    return np.full(y.shape, values[counts.argmax()], dtype=y.dtype)


# What is lost


@EVERY
def test_an_unchanged_model_loses_nothing(name: str) -> None:
    one = CASES[name]
    found = compared(one.task, one.y, one.y.copy())
    assert (found.drop.value, found.distortion, found.finite, found.outputs[0].max_abs) == (0, 0, True, 0)


@EVERY
def test_a_model_that_mixes_up_its_samples_is_ruined(name: str) -> None:
    one = CASES[name]
    assert loss(one.task, one.y, np.roll(one.y, 1, axis=0)) > 0.1


@EVERY
def test_a_constant_does_not_look_good(name: str) -> None:
    one = CASES[name]
    constant = np.broadcast_to(one.y.mean(axis=0), one.y.shape) if one.y.dtype.kind == "f" else common(one.y)
    assert loss(one.task, one.y, constant) > 0.1


@FLOATS
def test_noise_of_the_same_size_is_ruin(name: str) -> None:
    one = CASES[name]
    noise = one.y.mean() + one.y.std() * normals(*one.y.shape, seed=9)
    assert loss(one.task, one.y, noise) > 0.1


@FLOATS
def test_zeros_are_ruin(name: str) -> None:
    one = CASES[name]
    zeros = np.zeros(one.y.shape)
    assert loss(one.task, one.y, zeros) > 0.1


@FLOATS
def test_what_is_a_little_off_loses_a_little(name: str) -> None:
    one = CASES[name]
    small, more = (loss(one.task, one.y, nudged(one.y, by)) for by in (0.001, 0.03))
    assert small <= 0.01
    assert small <= more <= 0.1


@FLOATS
def test_the_distortion_grows_with_the_square_of_what_is_off(name: str) -> None:
    one = CASES[name]
    change = moved(one.y, one.task)
    one_step, two = (compared(one.task, one.y, one.y + times * change).distortion for times in (1, 2))
    assert 0 < one_step < 1e-4
    assert two == pytest.approx(4 * one_step, rel=0.05)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_new_model_that_is_not_finite_is_said_to_be_so(broken: float) -> None:
    y = normals(20, 3)
    after = y.copy()
    after[3, 1] = broken
    assert not compared(task_of(y), y, after).finite


def test_an_original_of_nan_is_refused() -> None:
    y = normals(20, 3)
    broken = y.copy()
    broken[3, 1] = np.nan
    for wrong in (broken, np.full((20, 3), np.inf)):
        with pytest.raises(InputError, match="the original model gives NaN or infinity"):
            compared(task_of(y), wrong, y)


def test_where_the_original_is_infinite_on_purpose_both_say_the_same() -> None:
    y = logits(64, 5)
    y[:, 4] = -np.inf
    asked = task_of(y, classes=5)
    same, turned = compared(asked, y, y), compared(asked, y, np.roll(y, 1, axis=0))
    assert (same.finite, same.drop.value, same.error.value) == (True, 0, 0)
    assert turned.drop.value > 0.1
    finite = compared(asked, y[:, :4], np.roll(y, 1, axis=0)[:, :4])
    assert turned.error.value == pytest.approx(finite.error.value)  # infinity has no size


def test_empty_outputs_and_outputs_that_find_more_are_compared() -> None:
    y = 100 * normals(7, 6)
    asked = task_of(y, counts=[1])
    assert loss(asked, y, y[:4], samples=1) > 0.1
    assert loss(asked, y[:4], y, samples=1) > 0.1
    assert loss(asked, y, y[:0], samples=1) == pytest.approx(1)
    assert any("another shape" in note for note in compared(asked, y, y[:4], samples=1).notes)


# Classes


def test_of_one_answer_that_is_nearly_all_there_is_each_class_counts_alike() -> None:
    one = CASES["two classes, unbalanced"]
    always = np.where(np.arange(2) == 0, 5.0, -5.0) + np.zeros(one.y.shape)
    found = compared(one.task, one.y, always)
    assert (found.score, found.drop.value) == ("balanced agreement", 0.5)
    assert found.agreement is not None
    assert found.agreement.value > 0.9


def test_a_set_of_one_answer_says_that_a_constant_would_do() -> None:
    y = logits(200, 3)
    y[:, 1] += 30
    found = compared(task_of(y, classes=3), y, y)
    assert found.notes == (
        "the original answers class 1 on 100 % of these samples: a model that always says so would agree on as many",
    )


def test_labels_of_one_class_say_so_too() -> None:
    y = logits(200, 3, common=0.95)
    truth = y.argmax(axis=1)
    for said in (y, truth):
        found = compared(task_of(said, classes=3), said, said, labels=truth)
        assert found.score == "accuracy"
        assert len(found.notes) == 1
        assert found.notes[0].startswith("the label is class 0 on 9")


def test_what_has_no_label_is_no_class() -> None:
    y = logits(200, 3)
    truth = np.where(np.arange(200) < 190, -100, y.argmax(axis=1))
    assert compared(task_of(y, classes=3), y, y, labels=truth).notes == ()


def test_agreement_expected_loss_and_divergence_of_classes() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.1, 0.8]])
    q = np.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
    found = compared(Task((Measured("y", 0, Classes(encoding="probabilities")),)), p, q)
    assert found.agreement is not None
    assert found.expected_drop is not None
    assert found.agreement.value == pytest.approx(2 / 3)
    assert found.expected_drop.value == pytest.approx(0.1 / 3)
    assert found.kl == pytest.approx(np.mean(np.sum(p * np.log(p / q), axis=1)))
    assert found.lost[0].by_sample == (0, 1, 0)


# Yes or no, and answers by position


def detected(y: Array, by: Callable[[Array], None]) -> Array:
    changed = y.copy()
    by(changed)
    return changed


def test_a_model_that_says_no_everywhere_is_ruined() -> None:
    for name in ("a mask of one in a hundred", "anchors that say yes or no", "tags", "a sigmoid that hardly says yes"):
        one = CASES[name]
        assert loss(one.task, one.y, np.minimum(one.y, 0.4)) > 0.4
        assert loss(one.task, one.y, np.maximum(one.y, 0.6)) > 0.4


def test_a_model_that_calls_all_tokens_background_is_ruined() -> None:
    one = CASES["tokens"]
    other = np.where(np.arange(9) == 0, 5.0, -5.0) + np.zeros(one.y.shape)
    found = compared(one.task, one.y, other)
    assert found.drop.value > 0.8
    assert found.agreement is not None
    assert found.agreement.value == pytest.approx(BACKGROUND, abs=0.05)


def test_all_faces_lost_or_found_everywhere_is_ruin() -> None:
    one = CASES["faces"]
    none, every = np.array([0.99, 0.01]) + 0 * one.y, np.array([0.01, 0.99]) + 0 * one.y
    assert loss(one.task, one.y, none) > 0.4
    assert loss(one.task, one.y, every) > 0.4


@pytest.mark.parametrize("encoding", ["logits", "sigmoid"])
def test_a_rare_answer_that_turns_is_as_far_off_as_many_common_ones(encoding: Any) -> None:
    """One in ten: each of them weighs as much as nine of the others."""
    if encoding == "sigmoid":
        y = np.where(np.arange(100) < 10, 0.9, 0.1)[None, :, None]
        measure = Dense(axis=-1, encoding="sigmoid", shares=np.array([0.1, 0.9]))
    else:
        y = np.where(np.arange(2) == (np.arange(100) < 10)[:, None], 2.0, -2.0)[None]
        measure = Dense(encoding="logits", shares=np.array([0.9, 0.1]), followed=np.arange(2))
    asked = Task((Measured("y", 0, measure),))

    def distortion(turned: slice) -> float:
        after = y.copy()
        after[:, turned] = 1 - y[:, turned] if encoding == "sigmoid" else -y[:, turned]
        return compared(asked, y, after).distortion

    assert distortion(slice(0, 1)) == pytest.approx(9 * distortion(slice(10, 11)))
    assert distortion(slice(0, 10)) == pytest.approx(distortion(slice(10, 100)))


def test_large_maps_go_sample_by_sample_and_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("segmentation", "tags", "a mask of one in a hundred", "faces"):
        one = CASES[name]
        after = np.roll(one.y, 1, axis=0)
        whole = compared(one.task, one.y, after)
        with monkeypatch.context() as small:
            small.setattr(dense, "_AT_ONCE", 1)
            assert compared(one.task, one.y, after) == whole


def test_half_of_a_rare_class_lost_is_half_of_its_share() -> None:
    answers = np.zeros((4, 100), int)
    answers[:, :4] = 1
    y = np.where(np.arange(2) == answers[..., None], 0.99, 0.01)
    after = y.copy()
    after[:, :2] = after[:, :2, ::-1]
    found = compared(Task((Measured("y", 0, Dense(followed=np.arange(2), shares=np.array([0.96, 0.04]))),)), y, after)
    dice = (2 * 96 / (96 + 98) + 2 * 2 / (4 + 2)) / 2
    assert (found.score, found.outputs[0].value.value) == ("balanced agreement", pytest.approx(dice))  # type: ignore[union-attr]
    assert found.drop.value >= 1 - dice


def test_classes_of_a_vocabulary_that_are_not_followed_count_as_one() -> None:
    y = np.eye(400)[np.arange(400)][None] * 20.0
    measure = Dense(encoding="logits", shares=np.full(400, 1 / 400), followed=np.arange(256))
    asked = Task((Measured("y", 0, measure),))
    among_others, followed = y.copy(), y.copy()
    among_others[:, 300:] = np.roll(y[:, 300:], 1, axis=1)
    followed[:, :100] = np.roll(y[:, :100], 1, axis=1)
    assert loss(asked, y, y) == 0
    assert loss(asked, y, among_others) < 0.01
    assert loss(asked, y, followed) > 0.3


def test_one_answer_everywhere_is_judged_by_its_probabilities_and_said() -> None:
    y = softmax(logits(4, 50, 3) + np.array([0, 30, 0]))
    asked = task_of(y)
    assert compared(asked, y, y).notes == (
        "the original gives one and the same answer everywhere: agreement says little here",
    )
    assert loss(asked, y, np.full(y.shape, [0.2, 0.6, 0.2])) > 0.1


def test_labels_by_position_lie_beside_the_answers_whatever_is_padding() -> None:
    y = logits(6, 10, 4)
    truth = y.argmax(axis=-1)
    kept = ~mask_of([3, 0, 5, 1, 9, 2], 10)  # padding comes first
    truth[~kept] = 3 - truth[~kept]
    found = compared(task_of(y, labels=truth, kept=kept), y, np.roll(y, 1, axis=-1), labels=truth, kept=kept)
    assert found.accuracy_before is not None
    assert found.accuracy_after is not None
    assert (found.accuracy_before.value, found.accuracy_after.value) == (1, 0)


def test_labels_of_a_larger_map_are_not_cut_to_fit() -> None:
    y = logits(6, 10, 4)
    longer = np.concatenate([y.argmax(axis=-1), np.full((6, 5), -100)], axis=1)
    asked = task_of(y, name="logits")
    asked = Task(asked.measured, 0)
    assert compared(asked, y, y, labels=longer).accuracy_before is not None
    longer[0, 12] = 1
    found = compared(asked, y, y, labels=longer)
    assert found.accuracy_before is None
    assert found.notes == ("labels have another length than the answers: they are not used",)


# Quantities


def test_every_channel_is_relative_to_its_own_scale() -> None:
    one = CASES["kelvin and a share"]
    off = one.y.copy()
    off[:, 1] = one.y[::-1, 1]
    assert loss(one.task, one.y, off) > 0.4
    off = one.y.copy()
    off[:, 0] += 2.5 * normals(200, seed=5)
    assert loss(one.task, one.y, off) == pytest.approx(0.5, rel=0.2)  # half of what the temperature varies by


DETECTORS = {
    "all objects lost": lambda y: np.concatenate([y[:, :4], np.minimum(y[:, 4:], 0.01)], axis=1),
    "every other object lost": lambda y: np.concatenate(
        [y[:, :4], np.where(np.arange(400) % 2, np.minimum(y[:, 4:], 0.01), y[:, 4:])], axis=1
    ),
    "twice as many objects": lambda y: np.concatenate(
        [y[:, :4], np.maximum(y[:, 4:], np.roll(y[:, 4:], 7, axis=2))], axis=1
    ),
    "boxes ruined": lambda y: np.concatenate([np.roll(y[:, :4], 1, axis=2), y[:, 4:]], axis=1),
    "boxes of one size": lambda y: np.concatenate(
        [y[:, :2], 0 * y[:, 2:4] + y[:, 2:4].mean(), y[:, 4:]], axis=1
    ),
    "classes mixed up": lambda y: np.concatenate([y[:, :4], np.roll(y[:, 4:], 1, axis=1)], axis=1),
}  # fmt: skip


@pytest.mark.parametrize("how", DETECTORS)
def test_in_one_tensor_neither_boxes_hide_scores_nor_scores_boxes(how: str) -> None:
    y = boxes_and_scores()
    assert loss(task_of(y), y, DETECTORS[how](y)) > 0.3


def test_values_that_stand_out_are_looked_at_by_themselves() -> None:
    y = 0.1 * normals(40, 2000)
    peaks = np.random.default_rng(1).random(y.shape) < 0.002
    y = np.where(peaks, 3.0, y)
    off = np.where(peaks, 0.5 * y, y)
    found = compared(task_of(y), y, off)
    assert found.drop.value == pytest.approx(0.5, rel=0.05)
    assert found.notes == ("the error is that of the few values that stand out; that of all is smaller",)


def test_where_there_was_nothing_anything_is_infinitely_much() -> None:
    y = np.zeros((20, 3))
    assert loss(task_of(y), y, y + 1e-3) == np.inf


# Padding


@dataclass(frozen=True)
class Masked:
    """An output of samples of unequal length: real values, and what else stands in the padding."""

    y: Array
    kept: Array  # of the output's shape
    padding: Array
    task: Task


def masked(y: Array, lengths: list[int], axis: int = 1, outside: Any = 0.37, **about: Any) -> Masked:
    """The output has garbage in its padding; positions are on this axis, samples on the other of the first two."""
    padding = mask_of(lengths, y.shape[axis])
    laid = padding.T if axis == 0 else padding
    shape = [1] * y.ndim
    for at in {0, 1} if axis < 2 else {0, axis}:
        shape[at] = y.shape[at]
    kept = np.broadcast_to(laid.reshape(shape), y.shape)
    given = np.where(kept, y, np.asarray(outside).astype(y.dtype))
    return Masked(given, kept, padding, task_of(given, kept=padding, counts=[len(lengths)], **about))


LENGTHS = [12, 3, 7, 1, 9, 5]
STARTS = softmax(np.where(mask_of(LENGTHS, 12), logits(6, 12), -99))
MASKED = {
    "tokens": masked(logits(6, 12, 5, common=0.5), LENGTHS, name="logits"),
    "tokens, as probabilities": masked(softmax(logits(6, 12, 5, common=0.5)), LENGTHS),
    "tokens, length first": masked(softmax(logits(12, 6, 5, common=0.5)), LENGTHS, axis=0),
    "tokens, length last": masked(np.moveaxis(softmax(logits(6, 12, 5)), -1, 1), LENGTHS, axis=2),
    "yes or no by token": masked(sigmoid(6, 12), LENGTHS, makers=["Sigmoid"]),
    "tags by token": masked(sigmoid(6, 12, 3), LENGTHS, makers=["Sigmoid"]),
    "embeddings of tokens": masked(units(6, 12, 16), LENGTHS),
    "hidden states": masked(normals(6, 12, 16), LENGTHS),
    "hidden states, length first": masked(normals(12, 6, 16), LENGTHS, axis=0),
    "states of many scales": masked(normals(6, 12, 4) * [1, 1, 100, 100], LENGTHS),
    "numbers by token": masked(5 + normals(6, 12), LENGTHS),
    "kelvin by token": masked(290 + 5 * normals(6, 12), LENGTHS),
    "where an answer begins": masked(logits(6, 12), LENGTHS, name="start_logits"),
    "where it begins, as probabilities": masked(STARTS, LENGTHS, outside=0),
    "class numbers by token": masked(logits(6, 12, 5).argmax(axis=-1), LENGTHS, makers=["ArgMax"]),
}
MASKS = pytest.mark.parametrize("name", MASKED)
SEEDED = [name for name, one in MASKED.items() if one.y.dtype.kind == "f"]


def test_the_masked_outputs_are_what_they_are_called() -> None:
    kinds = {name: type(one.task.main.measure) for name, one in MASKED.items()}
    assert [name for name, kind in kinds.items() if kind is Classes] == [
        "where an answer begins",
        "where it begins, as probabilities",
    ]
    assert sum(kind is Dense for kind in kinds.values()) == 6
    assert sum(kind is Numbers for kind in kinds.values()) == 5
    assert kinds["embeddings of tokens"] is Embedding
    assert kinds["class numbers by token"] is Values


@MASKS
def test_what_stands_in_the_padding_changes_nothing(name: str) -> None:
    one, count = MASKED[name], len(LENGTHS)
    elsewhere = np.where(one.kept, one.y, np.asarray(0.9 if one.y.dtype.kind == "f" else 2, dtype=one.y.dtype))
    assert not np.array_equal(elsewhere, one.y)
    found = compared(one.task, one.y, elsewhere, kept=one.padding, samples=count)
    assert (found.drop.value, found.distortion, found.error.value, found.outputs[0].max_abs) == (0, 0, 0, 0)
    assert found.agreement is None or found.agreement.value == 1
    after = np.roll(one.y, 1, axis=-1)
    given, other = (
        compared(one.task, y, np.where(one.kept, after, y), kept=one.padding, samples=count) for y in (one.y, elsewhere)
    )
    assert given.drop.value > 0
    assert (given.drop, given.error) == (other.drop, other.error)
    assert given.distortions == pytest.approx(other.distortions)


@MASKS
def test_what_is_off_in_the_samples_counts_as_without_the_padding(name: str) -> None:
    one, count = MASKED[name], len(LENGTHS)
    ruined = np.where(one.kept, np.roll(one.y, 1, axis=-1), one.y)
    assert loss(one.task, one.y, ruined, kept=one.padding, samples=count) > 0.1


@pytest.mark.parametrize("name", SEEDED)
def test_padding_gets_no_seed(name: str) -> None:
    one = MASKED[name]
    seeds = Seeder(one.task).draw(one.y, 0, digests(len(LENGTHS)), 0, one.padding)
    assert not seeds[~one.kept].any()
    lone = one.task.main.measure  # of one position, or of one class, nothing can turn or be told apart
    real = seeds[one.kept]
    assert np.isfinite(seeds).all()
    assert np.count_nonzero(real) > (0.5 if isinstance(lone, Classes) else 0.9) * real.size


def test_a_sample_that_is_all_padding_has_not_changed() -> None:
    for name in ("tokens", "embeddings of tokens", "hidden states", "class numbers by token"):
        one = MASKED[name]
        none = np.zeros_like(one.padding)
        found = compared(one.task, one.y, np.roll(one.y, 1, axis=-1), kept=none)
        assert found.drop.value == 0
        assert found.distortion == 0


def test_the_error_of_positions_is_that_of_the_real_ones() -> None:
    y, padding = np.where(mask_of([6] * 8, 12), logits(8, 12), 9.0), mask_of([6] * 8, 12)
    asked = task_of(y, name="start_logits", kept=padding)
    after = np.roll(y, 1, axis=0)
    found = compared(asked, y, after, kept=padding)
    assert found.error.value == pytest.approx(np.linalg.norm((after - y)[padding]) / np.linalg.norm(y[padding]))


def test_an_embedding_as_wide_as_the_samples_are_long_is_not_masked() -> None:
    y, padding = units(4, 8), mask_of([8, 3, 5, 1], 8)
    found = compared(task_of(y, kept=padding), y, -y, kept=padding)
    assert found.drop.value == pytest.approx(2)


def test_as_many_classes_as_positions_are_not_masked_where_the_model_takes_any_length() -> None:
    y, padding = logits(64, 8), mask_of([1] * 64, 8)
    asked = task_of(y, kept=padding, dims=("N", 8), any_length=True)
    assert loss(asked, y, np.roll(y, 1, axis=-1), kept=padding) == 1
    seeds = Seeder(asked).draw(y, 0, digests(64), 0, padding)
    assert np.count_nonzero(seeds) == seeds.size


# Seeds: E[(vᵀδ)²] is the distortion to second order

PROBES = 600
CLOSE = 0.15  # of what is expected: about three times the sampling error of so many probes


def digests(count: int) -> list[str]:
    return [digest({"x": np.array([sample])}) for sample in range(count)]


def predicted(one: Task, y: Array, change: Array, samples: int, padding: Array | None = None) -> float:
    """Mean of (vᵀδ)² over probes and samples."""
    total, seeder = 0.0, Seeder(one)
    for probe in range(PROBES):
        each = seeder.draw(y, 0, digests(samples), probe, padding) * change
        by_sample = each.reshape(samples, -1).sum(axis=1) if y.ndim and len(y) == samples else np.array([each.sum()])
        total += float(np.sum(by_sample**2)) / samples
    return total / PROBES


def told(one: Task, y: Array, change: Array, samples: int, padding: Array | None = None) -> float:
    both = SideBySide(one, None)
    both.add(list(range(samples)), [y], [np.asarray(y + change)], padding)
    return both.distortion()


def moved(y: Array, one: Task, by: float = 1e-3) -> Array:
    """A small change that leaves probabilities what they are."""
    noise = by * normals(*y.shape, seed=3)
    measure = one.main.measure
    if isinstance(measure, Dense) and measure.encoding == "sigmoid":
        return np.asarray(y * (1 - y) * noise)
    if isinstance(measure, Classes | Dense) and measure.encoding == "probabilities":
        return np.asarray(special.softmax(np.log(y) + noise, axis=measure.axis) - y)
    if isinstance(measure, Numbers) and measure.axis is not None:
        return np.asarray(np.moveaxis(np.moveaxis(noise, measure.axis, -1) * measure.scales.scale, -1, measure.axis))
    return np.asarray(noise * (float(y.std()) or 1.0))


BALANCED = np.array([0.9, 0.05, 0.05])
SEEDS: dict[str, tuple[Array, dict[str, Any], int]] = {
    "class scores": (logits(5, 7), {"classes": 7}, 5),
    "class probabilities": (softmax(2 * normals(5, 7)), {}, 5),
    "class scores on axis 1 of four": (logits(5, 7)[:, :, None, None], {"classes": 7}, 5),
    "tokens": (logits(4, 6, 3, size=4, common=0.9), {"name": "logits"}, 4),
    "tokens, as probabilities": (softmax(logits(4, 6, 3, size=4, common=0.9)), {}, 4),
    "segmentation": (np.moveaxis(logits(3, 4, 4, 3, size=4, common=0.9), -1, 1), {"name": "logits"}, 3),
    "segmentation, as probabilities": (np.moveaxis(softmax(logits(3, 4, 4, 3, size=4, common=0.9)), -1, 1), {}, 3),
    "tokens, length first": (softmax(logits(6, 4, 3, size=4)), {}, 4),
    "anchors without an axis of samples": (softmax(logits(9, 3, size=4)), {}, 1),
    "a sigmoid": (sigmoid(12, 1, yes=0.2), SIGMOID, 12),
    "tags": (sigmoid(6, 5, yes=0.1), SIGMOID, 6),
    "yes or no on axis 1": (sigmoid(3, 2, 4, 4, yes=0.1), SIGMOID, 3),
    "embeddings": (units(5, 16), {}, 5),
    "embeddings that are not normalized": (normals(5, 6), {"task": "embed"}, 5),
    "embeddings of tokens": (units(3, 4, 16), {}, 3),
    "numbers": (normals(5, 7) + 1, {}, 5),
    "one number a batch": (np.array(3.0), {}, 4),
    "kelvin": (KELVIN[:12], {}, 12),
    "kelvin and a share": (CASES["kelvin and a share"].y[:12], {}, 12),
    "groups of channels": (normals(4, 6, 8) * np.array([1, 1, 1, 300, 300, 300])[:, None], {}, 4),
    "groups of channels, the last axis": (normals(4, 8, 6) * [1, 1, 1, 300, 300, 300], {}, 4),
    "a map of groups of channels": (normals(3, 4, 6, 6) * np.array([1, 1, 100, 100])[:, None, None], {}, 3),
    "numbers, length first": (normals(6, 4, 3), {}, 4),
}


@pytest.mark.parametrize("name", SEEDS)
def test_seeds_are_the_distortion_to_second_order(name: str) -> None:
    y, about, samples = SEEDS[name]
    asked = task_of(y, counts=[samples], **about)
    change = moved(y, asked)
    expected = told(asked, y, change, samples)
    assert expected > 0
    assert predicted(asked, y, change, samples) == pytest.approx(expected, rel=CLOSE)


def test_the_outputs_that_seeds_are_tested_on_are_of_every_kind() -> None:
    measures = {name: task_of(y, counts=[n], **about).main.measure for name, (y, about, n) in SEEDS.items()}
    encodings = {(one.encoding, one.weights.max() > 1.5) for one in measures.values() if isinstance(one, Dense)}
    assert {("sigmoid", True), ("probabilities", True), ("logits", True)} <= encodings
    fields = {one.scales.fields for one in measures.values() if isinstance(one, Numbers)}
    assert fields == {1, 2}
    assert {measures[name].axis for name in ("groups of channels", "kelvin")} == {1, None}
    assert {type(one) for one in measures.values()} == {Classes, Dense, Embedding, Numbers}


@pytest.mark.parametrize("name", SEEDED)
def test_seeds_are_the_distortion_of_what_is_no_padding(name: str) -> None:
    one, count = MASKED[name], len(LENGTHS)
    y = np.where(one.kept, one.y, 0.37)
    change = moved(y, one.task) if "probabilities" not in name else moved_probabilities(one)
    expected = told(one.task, y, change, count, one.padding)
    assert expected > 0
    assert predicted(one.task, y, change, count, one.padding) == pytest.approx(expected, rel=1.5 * CLOSE)


def moved_probabilities(one: Masked) -> Array:
    """A change of the real values, along the classes."""
    axis = one.task.main.measure.axis
    noise = 1e-3 * normals(*one.y.shape, seed=3)
    p = np.where(one.kept, one.y, 0)
    total = np.maximum(p.sum(axis=axis, keepdims=True), 1e-12)
    change = p * (noise - np.sum(p * noise, axis=axis, keepdims=True) / total)
    return np.asarray(np.where(one.kept, change, noise))


def test_seeds_do_not_depend_on_the_batch() -> None:
    for name in ("tokens", "groups of channels", "embeddings", "tags", "class scores"):
        y, about, samples = SEEDS[name]
        seeder, names = Seeder(task_of(y, counts=[samples], **about)), digests(samples)
        together = seeder.draw(y, 0, names, 1)
        alone = [seeder.draw(y[at : at + 1], 0, names[at : at + 1], 1)[0] for at in range(samples)]
        np.testing.assert_array_equal(together, alone)


# Outputs that are not what they were


@pytest.mark.parametrize("y", [softmax(logits(8, 6, 5)), normals(8, 6, 4) * [1, 1, 100, 100]])
def test_another_number_of_channels_than_at_first_is_refused(y: Array) -> None:
    asked, fewer = task_of(y), y[..., :3]
    with pytest.raises(InputError, match=f"has {y.shape[-1]} channels on some samples and 3 on others") as error:
        compared(asked, fewer, fewer)
    assert error.value.hint == "name the outputs that count with --output, or say --task regress"
    with pytest.raises(InputError, match="channels on some samples"):
        Seeder(asked).draw(fewer, 0, digests(8), 0)


def test_an_output_without_a_row_per_sample_has_none_where_a_batch_is_as_large_by_chance() -> None:
    """Of 5 classes for each of 7 positions, in batches of 4 and, in the end, of 7."""
    y = softmax(logits(7, 5))
    asked = task_of(y, y, counts=[4, 7])
    assert asked.main.whole
    found = SideBySide(asked, None)
    for count in (4, 7):
        found.add(list(range(count)), [y], [np.roll(y, 1, axis=0)])
        seeds = Seeder(asked).draw(y, 0, digests(count), 0)
        assert seeds.shape == y.shape
    assert len(found.distortions()) == 2


def yes_or_no(labels: Array, wrong: int, lost: int) -> Figures:
    """What labels say of one yes or no a sample: the original is wrong `wrong` times, the other `lost` times more."""
    truth = np.arange(len(labels)) % 2
    y = np.where(truth, 0.9, 0.1)
    y[:wrong] = 1 - y[:wrong]
    after = y.copy()
    after[wrong : wrong + lost] = 1 - after[wrong : wrong + lost]
    sums = Dense(axis=-1, encoding="sigmoid", shares=np.array([0.5, 0.5])).sums()
    for batch in (slice(0, 30), slice(30, None)):
        sums.add(RowPairs(y[batch, None, None], after[batch, None, None]), list(range(len(labels))[batch]))
    return sums.figures(labels)


def test_labels_of_yes_and_no_are_scored_and_those_unknown_are_left_out() -> None:
    truth = np.arange(100) % 2
    found = yes_or_no(truth, wrong=4, lost=6)
    assert found.before is not None
    assert found.after is not None
    assert (found.score, found.before.value, found.after.value) == ("accuracy", 0.96, 0.90)
    assert found.loss.value == pytest.approx(0.06)
    assert found.losses.sum() == 6
    without = yes_or_no(np.where(np.arange(100) < 10, -100, truth), wrong=4, lost=6)
    assert (without.loss.value, without.loss.n) == (0.0, 90)


@pytest.mark.parametrize(
    ("labels", "said"),
    [(1 - np.arange(100) % 2, "about chance"), (np.arange(100) % 3, "more than two classes")],
)
def test_labels_that_do_not_fit_a_yes_or_no_are_left_out_with_a_note(labels: Array, said: str) -> None:
    found = yes_or_no(labels, wrong=0, lost=10)
    assert (found.score, found.before) == ("balanced agreement", None)
    assert said in found.notes[0]
