"""What outputs are taken for: by what they look like, what the graph says, and what the user says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

from onnx_dalr.errors import InputError
from onnx_dalr.graph.answers import OutputFacts
from onnx_dalr.quality.detect import find_task
from onnx_dalr.quality.measures import Classes, Dense, Numbers, Values
from onnx_dalr.quality.seen import Seen
from tests.quality.cases import (
    BACKGROUND,
    logits,
    mask_of,
    measure,
    normals,
    said,
    seen_of,
    sigmoid,
    softmax,
    taken,
    units,
)

LOGITS, PROBABILITIES = "classes, as logits", "classes, as probabilities"
DENSE_LOGITS, DENSE = "dense: classes by position, as logits", "dense: classes by position, as probabilities"
YES_OR_NO, DIRECTIONS = "dense: yes or no, as probabilities", "embedding: directions"


# One answer a sample


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("common", [None, BACKGROUND])
def test_scores_of_a_trained_classifier_are_classes(classes: int, common: float | None) -> None:
    assert said(logits(128, classes, common=common)) == LOGITS


def test_so_are_those_of_a_thousand_classes() -> None:
    assert said(logits(64, 1000, size=10)) == LOGITS


def test_scores_whose_rows_move_are_classes_where_the_answer_stands_alone() -> None:
    moving = 0.3 * normals(128, 1)  # training held no mean, of a loss that is no softmax's say
    assert said(0.5 * logits(128, 100, size=12) + moving) == LOGITS


@pytest.mark.parametrize("classes", [2, 10, 300])
def test_probabilities_are_classes_however_they_lie(classes: int) -> None:
    y = softmax(normals(50, classes))
    assert said(y) == said(y[:, :, None, None]) == said(y[:, None, None]) == PROBABILITIES


def test_logarithms_of_probabilities_are_classes_too() -> None:
    y = special.log_softmax(0.1 * normals(50, 10), axis=-1)  # so even that their look would not say it
    assert said(y) == LOGITS
    assert said(special.log_softmax(normals(5, 6, 10), axis=-1)) == DENSE_LOGITS


def test_what_is_called_logits_is_classes_whatever_it_holds() -> None:
    assert said(0.01 * normals(20, 5), name="output_logits") == LOGITS


def test_as_many_outputs_as_the_samples_have_classes_are_classes() -> None:
    assert said(0.01 * normals(20, 5), classes=5) == LOGITS
    assert said(0.01 * normals(20, 5), classes=4) == "numbers"


@pytest.mark.parametrize("deviation", [1.0, 5.0, 10.0, 30.0])
@pytest.mark.parametrize("width", [2, 3, 10, 64, 512])
def test_random_numbers_of_any_size_are_quantities(deviation: float, width: int) -> None:
    assert isinstance(measure(deviation * normals(128, width)), Numbers)


def centred(y: Any) -> Any:
    """Rows that hold their mean by what they are, as points about their centre do."""
    return y - y.mean(axis=-1, keepdims=True)


QUANTITIES = {
    "gaze in degrees": normals(128, 2) * [20, 12],
    "gaze in radians": normals(128, 2) * [0.3, 0.2],
    "yaw, pitch, roll": normals(128, 3) * [30, 15, 10],
    "landmarks in pixels": np.linspace(30, 200, 136) + 10 * normals(128, 1) + 6 * normals(128, 136, seed=1),
    "landmarks about the centre": np.linspace(-90, 90, 10) + 12 * normals(128, 10),
    "opinion scores": np.clip(3 + 0.5 * normals(128, 1) + 0.7 * normals(128, 3, seed=1), 1, 5),
    "a policy": np.tanh(2 * normals(128, 4)),
    "values of actions": 5 * normals(128, 1) + 2 * normals(128, 6, seed=1),
    "principal components": normals(128, 8) * np.linspace(8, 1, 8),
    "embeddings of length 100": 100 * units(128, 128),
    "small differences": centred(0.3 * normals(128, 10)),
    "points about their centre": centred(np.linspace(-30, 30, 10) + 6 * normals(128, 10)),
    "one value above the others": centred(17.0 * (np.arange(10) == 0) + 5 * normals(128, 10)),
    "peaks on a background": 5 * normals(128, 1) + 9 * np.eye(20)[np.arange(128) % 20] + 0.5 * normals(128, 20, seed=1),
    "heavy tails": 3 * np.random.default_rng(0).standard_t(3, (128, 128)),
    "gains": special.expit(normals(128, 40)),
    "a constant": np.tile(normals(1, 5), (128, 1)),
    "zeros": np.zeros((128, 5)),
}


@pytest.mark.parametrize("name", QUANTITIES)
def test_quantities_are_no_classes(name: str) -> None:
    assert isinstance(measure(QUANTITIES[name]), Numbers)


def test_what_is_squashed_or_normalized_in_the_end_is_no_class_scores() -> None:
    assert said(logits(128, 10)) == LOGITS
    assert said(logits(128, 10), makers=["LayerNormalization"]) == "numbers"
    assert said(10 * np.tanh(logits(128, 10)), makers=["Tanh"]) == "numbers"


def test_a_classifier_that_nearly_always_says_the_same_is_not_found_by_its_look() -> None:
    """It could be quantities of which one is the largest. The name, or class folders, tell them apart."""
    y = logits(500, 10, common=0.97)
    assert (said(y), said(y, classes=10)) == ("numbers", LOGITS)


def test_few_samples_say_nothing_of_class_scores() -> None:
    assert (said(logits(7, 10)), said(logits(64, 10))) == ("numbers", LOGITS)


def test_rows_of_unit_length_are_directions() -> None:
    assert said(units(20, 64)) == said(units(20, 7, 64)) == DIRECTIONS
    assert said(3 * units(20, 64)) == "numbers"


# Yes or no


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 20), (4, 1, 16, 16), (4, 30, 20)])
def test_decided_sigmoids_are_yes_or_no(shape: tuple[int, ...]) -> None:
    assert said(sigmoid(*shape), makers=["Sigmoid"]) == YES_OR_NO


def test_shares_that_no_sigmoid_made_are_quantities() -> None:
    assert said(sigmoid(50, 1)) == "numbers"


def test_sigmoids_that_do_not_decide_are_quantities_unless_there_are_two_classes() -> None:
    y = special.expit(0.5 * normals(50, 1))
    assert said(y, makers=["Sigmoid"]) == "numbers"
    assert said(y, makers=["Sigmoid"], classes=2) == YES_OR_NO


@pytest.mark.parametrize("mean", [0.05, 0.95])
def test_sigmoids_of_a_narrow_range_are_quantities(mean: float) -> None:
    y = mean + 0.005 * normals(8, 1, 16, 16)  # disparities
    assert isinstance(measure(y, makers=["Sigmoid"]), Numbers)
    assert said(np.abs(y - round(mean)) / 10, makers=["Sigmoid"]) == YES_OR_NO  # and no is no, however sure


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((4, 1, 16, 16), 1),
        ((2, 80, 12, 12), 1),  # more channels than pixels on a side
        ((2, 12, 12, 80), 3),
        ((2, 12, 12, 12), 1),
        ((2, 3, 16, 24), 1),
        ((2, 16, 24, 3), 3),
        ((2, 100, 5), 2),
        ((2, 5, 100), 1),
        ((9, 1), None),
    ],
)
def test_channels_of_a_map_are_found_by_its_shape(shape: tuple[int, ...], axis: int | None) -> None:
    assert measure(sigmoid(*shape), makers=["Sigmoid"]).axis == axis


# Many answers a sample


@pytest.mark.parametrize("made", [softmax, lambda y: y], ids=["probabilities", "logits"])
def test_tokens_are_dense_predictions(made: Any) -> None:
    tokens = logits(16, 12, 9, common=BACKGROUND)
    assert isinstance(found := measure(made(tokens)), Dense)
    assert found.axis == -1
    assert found.shares[0] == pytest.approx(BACKGROUND, abs=0.1)


def test_as_many_classes_as_positions_are_still_the_last_axis() -> None:
    assert measure(logits(16, 9, 9, common=BACKGROUND)).axis == -1


@pytest.mark.parametrize("name", ["y", "logits"])
@pytest.mark.parametrize("width", [5, 40])
def test_segmentation_is_dense_by_channel(name: str, width: int) -> None:
    maps = logits(4, 16, 16, width)
    first = measure(np.moveaxis(maps, -1, 1), name=name)
    assert (first.describes, first.axis) == (DENSE_LOGITS, 1)
    assert measure(maps, name=name).axis == -1
    assert measure(np.moveaxis(softmax(maps), -1, 1), name=name).axis == 1


def test_vocabularies_of_thousands_are_dense() -> None:
    assert said(logits(4, 12, 5000, size=14)) == DENSE_LOGITS


def test_labels_by_position_say_where_the_classes_are() -> None:
    y = 0.01 * normals(6, 4, 10)
    assert said(y) == "numbers"
    assert measure(y, labels=np.zeros((6, 10), int)).axis == 1
    assert measure(y, labels=np.zeros((6, 4), int)).axis == -1
    assert said(y, labels=np.zeros(6, int)) == "numbers"


@pytest.mark.parametrize("deviation", [1.0, 10.0, 30.0])
def test_hidden_states_and_feature_maps_are_quantities(deviation: float) -> None:
    assert isinstance(measure(deviation * normals(16, 12, 64)), Numbers)
    assert isinstance(measure(deviation * normals(8, 32, 12, 12)), Numbers)


def test_small_differences_by_position_are_quantities() -> None:
    assert isinstance(measure(centred(1.2 * normals(16, 12, 3))), Numbers)


def test_profiles_of_a_peak_on_a_background_are_quantities() -> None:
    peaks = 9 * np.eye(20)[np.arange(192) % 20] + 0.5 * normals(192, 20)
    assert isinstance(measure((5 * normals(192, 1, seed=1) + peaks).reshape(16, 12, 20)), Numbers)


def test_an_outlying_channel_of_hidden_states_is_no_class() -> None:
    states = 0.5 * normals(16, 12, 200)
    states[:, :, 77] += 12
    states[:3, 0, 77] = 0  # of a token that lacks it
    states -= states.mean(axis=-1, keepdims=True)
    assert isinstance(measure(states), Numbers)


# Layouts


def test_without_an_axis_of_samples_anchors_are_still_many_answers() -> None:
    """Of 97 % background, plain agreement would show nothing."""
    feeds = [softmax(logits(100, 4, common=0.97, seed=seed)) for seed in range(5)]
    assert (said(*feeds, counts=[1] * 5), said(*[y[None] for y in feeds])) == (DENSE, DENSE)


def test_one_row_of_a_complete_feed_is_one_answer() -> None:
    feeds = [softmax(normals(10, seed=seed)) for seed in range(9)]
    assert said(*feeds, counts=[1] * 9) == PROBABILITIES


def test_rows_of_all_samples_joined_in_one_axis_are_many_answers() -> None:
    assert said(softmax(logits(40, 4)), counts=[8]) == DENSE
    assert said(softmax(logits(40, 4)), counts=[40]) == PROBABILITIES


def test_length_first_is_dense_too() -> None:
    assert said(softmax(logits(12, 4, 9)), counts=[4]) == DENSE


@pytest.mark.parametrize("shape", ["N T", "N C T", "N T C", "N T H W"])
def test_sizes_may_differ_between_runs(shape: str) -> None:
    sizes = {"N": 4, "C": 5, "H": 3, "W": 3}
    runs = [normals(*(sizes.get(axis, length) for axis in shape.split())) for length in (12, 15)]
    assert isinstance(measure(*runs), Numbers)


def test_classes_by_position_may_be_of_many_lengths() -> None:
    found = measure(*[softmax(logits(4, length, 6)) for length in (12, 15)])
    assert (found.describes, found.axis) == (DENSE, -1)
    found = measure(*[np.moveaxis(softmax(logits(4, length, 6)), -1, 1) for length in (12, 15)])
    assert (found.describes, found.axis) == (DENSE, 1)


def test_positions_are_no_classes_where_their_number_varies() -> None:
    weights = [softmax(normals(4, 5, length)) for length in (12, 15)]
    assert (said(weights[0]), said(*weights)) == (DENSE, "numbers")


def test_positions_of_an_answer_may_be_of_many_lengths() -> None:
    assert said(logits(4, 12), logits(4, 15), name="start_logits") == LOGITS


def test_a_batch_in_which_nothing_is_found_says_nothing() -> None:
    boxes = [np.zeros((0, 6)), 100 + normals(7, 6), np.zeros((0, 6)), 100 + normals(3, 6)]
    assert isinstance(measure(*boxes, counts=[1] * 4), Numbers)
    nothing = taken(np.zeros((0, 6)), counts=[1])
    assert (nothing.measure.describes, nothing.why) == ("values: the same or not", "no values on these samples")


def test_one_number_for_a_whole_batch_is_a_quantity() -> None:
    assert said(np.array(3.0), np.array(2.0), counts=[4, 4]) == "numbers"


def test_scores_that_cannot_be_are_never_the_answer() -> None:
    y = logits(64, 5) - 20
    y[:, 4] = -np.inf
    found = measure(y, classes=5)
    assert isinstance(found, Classes)
    assert found.common < 0.5
    maps = np.tile(y[:, None], (1, 3, 1))
    shares = measure(maps, name="logits").shares  # type: ignore[attr-defined]
    assert shares[4] == 0


# Class numbers


@pytest.mark.parametrize(
    ("y", "makers", "answers"),
    [
        (np.arange(20) % 3, [], True),
        ((np.arange(20) % 3)[:, None], [], True),
        (np.arange(20) % 3 == 0, [], True),
        (np.array(["cat", "dog"] * 10, object), [], True),
        (np.arange(80).reshape(20, 4) % 3, ["ArgMax"], True),
        (np.arange(80).reshape(20, 4) % 3, [], False),  # ids of something
        (np.arange(80).reshape(20, 4), ["TopK"], True),
        (-np.arange(80).reshape(20, 4), ["ArgMax"], False),
        (np.arange(80).reshape(20, 4) % 3 == 0, [], True),
        (np.array([["cat", "dog"]] * 10, object), [], False),
    ],
)
def test_numbers_and_names_of_classes_are_answers(y: Any, makers: list[str], answers: bool) -> None:
    found = measure(y, makers=makers)
    assert isinstance(found, Values)
    assert found.answers == answers


def test_probabilities_by_name_are_classes() -> None:
    zipped = [[{"cat": 0.3, "dog": 0.7}, {"cat": 0.6, "dog": 0.4}]]
    assert said(*zipped) == PROBABILITIES


def two(first: Any, second: Any, **facts: Any) -> list[Seen]:
    return [seen_of(first, name="a"), Seen(OutputFacts("b", **facts), [second], [len(second)])]


def test_class_numbers_count_and_other_integers_do_not() -> None:
    chosen = find_task("auto", two(normals(20, 3), np.arange(20)))
    ids = find_task("auto", two(normals(20, 3), np.arange(80).reshape(20, 4)))
    assert [one.counts for one in chosen.measured] == [True, True]
    assert [one.counts for one in ids.measured] == [True, False]


def test_byproducts_do_not_count_unless_nothing_else_is_left_or_they_are_named() -> None:
    outputs = two(normals(20, 3), normals(20, 3, seed=1), byproduct="attention weights")
    found = find_task("auto", outputs)
    assert [(one.counts, one.why) for one in found.measured] == [(True, "quantities"), (False, "attention weights")]
    assert [one.counts for one in find_task("auto", outputs, declared=["b"]).measured] == [False, True]
    assert [one.counts for one in find_task("auto", outputs[1:]).measured] == [True]


def test_scores_behind_class_numbers_are_looked_at_and_have_the_gradients() -> None:
    outputs = [seen_of(np.arange(64) % 4, name="label"), seen_of(logits(64, 4), name="inside")]
    found = find_task("auto", outputs, hidden=1)
    assert (found.hidden, found.main.name) == (("inside",), "label")
    assert [one.name for one in found.seeded] == ["inside"]
    assert found.kind == "classify"


# Which output labels are of


def test_labels_are_of_the_first_output_that_says_classes() -> None:
    outputs = [seen_of(normals(64, 3), name="a"), seen_of(softmax(normals(64, 5)), name="b")]
    assert find_task("auto", outputs).labelled == 1
    assert find_task("auto", outputs[:1]).labelled is None


def test_labels_by_position_are_of_dense_predictions() -> None:
    outputs = [seen_of(softmax(normals(8, 5)), name="a"), seen_of(softmax(normals(8, 6, 5)), name="b")]
    assert find_task("auto", outputs, labels=np.zeros((8, 6), int)).labelled == 1
    assert find_task("auto", outputs, labels=np.zeros(8, int)).labelled == 0


def test_one_sigmoid_takes_labels_of_two_classes() -> None:
    outputs = [seen_of(sigmoid(50, 1), makers=["Sigmoid"])]
    assert find_task("auto", outputs, 2).labelled == 0
    assert find_task("auto", outputs, 3).labelled is None


# What the user says


def test_what_is_asked_for_goes_before_what_it_looks_like() -> None:
    y = softmax(normals(20, 5))
    assert said(y, task="regress") == "numbers"
    assert said(y, task="embed") == DIRECTIONS
    assert said(0.01 * normals(20, 5), task="classify") == LOGITS
    assert said(0.01 * normals(20, 3, 5), task="classify") == DENSE_LOGITS
    assert said(np.clip(normals(20, 1), 0, 1), task="classify") == YES_OR_NO


@pytest.mark.parametrize("task", ["classify", "embed"])
def test_a_task_that_no_output_fits_is_refused(task: Any) -> None:
    with pytest.raises(InputError, match=f"--task {task}: no output") as error:
        taken(np.arange(5), task=task)
    assert error.value.hint == "use --task regress"


def test_an_output_that_is_declared_has_to_be_there() -> None:
    with pytest.raises(InputError, match="--output 'z' is no output of the model") as error:
        find_task("auto", [seen_of(normals(5, 3))], declared=["z"])
    assert error.value.hint == "its outputs: y"


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(InputError, match="no numeric output to compare"):
        taken([{"a": 1.0}, {"b": 1.0}], counts=[2])


# Padding


def test_padding_says_nothing_of_what_an_output_is() -> None:
    kept = mask_of([12, 5, 8, 3], 12)
    tokens = np.where(kept[..., None], softmax(logits(4, 12, 6)), 0.9)
    assert (said(tokens), said(tokens, kept=kept)) == ("numbers", DENSE)
    names = np.where(kept, sigmoid(4, 12), 0.5)
    assert (said(names, makers=["Sigmoid"]), said(names, makers=["Sigmoid"], kept=kept)) == ("numbers", YES_OR_NO)


def test_padding_says_nothing_of_how_often_classes_are_answered() -> None:
    kept = mask_of([10, 10, 10, 10], 40)
    tokens = np.where(kept[..., None], softmax(logits(4, 40, 3)), [1.0, 0.0, 0.0])
    found = measure(tokens, kept=kept)
    assert isinstance(found, Dense)
    assert found.shares.max() < 0.6


def test_positions_that_are_padding_are_no_answers() -> None:
    kept = mask_of([6] * 8, 12)
    starts = np.where(kept, logits(8, 12), 50.0)
    found = measure(starts, name="start_logits", kept=kept)
    assert isinstance(found, Classes)
    assert found.common < 1


def test_an_axis_as_long_as_the_samples_by_chance_is_not_masked() -> None:
    kept = mask_of([8, 3, 5, 1], 8)
    declared = {"kept": kept, "dims": ("N", 8), "any_length": True}
    assert not taken(normals(4, 8), **declared).padded
    assert not taken(softmax(normals(4, 8)), **declared).padded
    assert taken(normals(4, 8), kept=kept, dims=("N", "T"), any_length=True).padded
    assert taken(normals(4, 8), kept=kept, dims=("N", 8)).padded  # the model is made for samples of 8
    assert taken(units(4, 8), **declared).measure.channels is not None  # and directions are never positions
