"""One line on what the original does, and a caution where that is implausible."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from scipy import special

from onnx_dalr.graph.storage.model import Model, load
from onnx_dalr.look.outlook import answers_of, outlook
from onnx_dalr.quality.detect import find_task
from tests.quality.cases import logits, mask_of, normals, seen_of, sigmoid, softmax, units

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'


def model(ends: str, body: str) -> Model:
    proto = onnx.parser.parse_model(f"{HEADER} net {ends} {{ {body} }}")
    onnx.checker.check_model(proto)
    return load(proto)


ANY = model("(float[N, 4] x) => (float[N, 4] y)", "y = Identity(x)")


def outlook_on(y: Any, labels: Any = None, *, task: Any = "auto", classes: int = 0, **about: Any) -> tuple[str, Any]:
    """What is said of a model that says this."""
    seen = [seen_of(y, **about)]
    found = find_task(task, seen, classes, labels=labels)
    return outlook(ANY, found, seen, [{"a": y, "b": y}], labels, "cpu")


def cautions(y: Any, labels: Any = None, **about: Any) -> list[str]:
    return outlook_on(y, labels, **about)[1]


def line(y: Any, labels: Any = None, **about: Any) -> str:
    return outlook_on(y, labels, **about)[0].partition("samples: ")[2]


# Classes


def test_of_classes_it_says_how_sure_and_how_many() -> None:
    y = np.tile(np.eye(4)[[0, 1, 1, 1]], (8, 1)) * 0.5 + 0.125
    assert line(y) == "mean confidence 0.62, 2 of 4 classes answered, the most common on 75 %"
    assert cautions(y) == []


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_a_trained_classifier_is_plausible(classes: int) -> None:
    assert cautions(logits(64, classes, size=10)) == []
    assert cautions(softmax(logits(64, classes, size=10))) == []


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_one_that_hardly_prefers_any_class_is_not(classes: int) -> None:
    (said,) = cautions(softmax(0.05 * normals(64, classes)))
    assert said.startswith("the original hardly prefers any class (mean confidence 0.")
    assert "check the preprocessing" in said


def test_one_that_always_says_the_same_is_not() -> None:
    (said,) = cautions(logits(64, 5) + np.array([0, 0, 30, 0, 0]), classes=5)
    assert said.startswith("the original answers class 2 on all 64 samples looked at: check the preprocessing")
    assert cautions(logits(7, 5) + np.array([0, 0, 30, 0, 0]), classes=5) == []  # too few to say


def test_one_that_is_saturated_is_not_whether_logits_or_probabilities() -> None:
    y = 100 * logits(64, 5)
    (said,) = cautions(y, name="logits")
    assert said.startswith("the original's outputs are saturated (up to ")
    (said,) = cautions(softmax(y))
    assert said.startswith("the original's outputs are saturated (down to 0): ")
    assert cautions(softmax(2 * logits(64, 5, size=12))) == []  # sure, as classifiers are


# Other outputs


def test_of_yes_and_no_it_says_how_often() -> None:
    assert line(np.array([[0.9], [0.1], [0.05], [0.1]] * 5), makers=["Sigmoid"]) == "25 % of its answers are yes"
    assert cautions(sigmoid(64, 1, yes=0.1), makers=["Sigmoid"]) == []
    for yes, word in ((0.0, "no"), (1.0, "yes")):
        (said,) = cautions(sigmoid(64, 1, yes=yes), makers=["Sigmoid"])
        assert said.startswith(f"the original says {word} everywhere on these samples")


def test_of_answers_by_position_it_says_how_many() -> None:
    y = softmax(logits(16, 12, 5))
    assert line(y).startswith("5 of 5 classes answered, the most common on ")
    assert cautions(y) == []
    (said,) = cautions(softmax(logits(16, 12, 5) + np.array([0, 0, 30, 0, 0])))
    assert said.startswith("the original gives one and the same answer everywhere")


def test_of_embeddings_it_says_how_alike_they_are() -> None:
    y = units(64, 32)
    assert line(y).startswith("mean cosine between samples ")
    assert abs(float(line(y).split()[-1])) < 0.05
    assert cautions(y) == []
    alike = normals(1, 32) + 0.05 * normals(64, 32, seed=1)
    (said,) = cautions(alike / np.linalg.norm(alike, axis=1, keepdims=True))
    assert said.startswith("the original gives nearly the same vector for all samples")


def test_of_quantities_it_says_their_range() -> None:
    y = np.linspace(-1, 3, 41)[:, None]
    assert line(y) == "values from -1 to 3, mean 1, standard deviation over samples 1.18"
    assert cautions(y) == []


def test_quantities_that_are_the_same_for_all_samples_are_implausible() -> None:
    y = np.linspace(1, 9, 400).reshape(1, 1, 20, 20)
    (said,) = cautions(np.tile(y, (20, 1, 1, 1)))
    assert said.startswith("the original gives the same values for all samples")
    (said,) = cautions(y + 0.1 * normals(20, 1, 20, 20))
    assert said == "output 'y' hardly differs between samples: a constant would have an error of 0.018"


def test_samples_of_complete_feeds_are_compared_as_a_whole() -> None:
    feeds = [np.linspace(1, 9, 12).reshape(6, 2) for _ in range(20)]
    seen = [seen_of(*feeds, counts=[1] * 20)]
    said, odd = outlook(ANY, find_task("auto", seen), seen, [{"a": feeds[0], "b": feeds[0]}], None, "cpu")
    assert said.startswith("the original on 20 samples: ")
    assert odd[0].startswith("the original gives the same values for all samples")


def test_of_class_numbers_it_says_how_many_there_are() -> None:
    assert line(np.arange(60) % 6) == "6 different answers, the most common on 17 %"
    assert cautions(np.arange(60) % 6) == []
    for same in (np.full(60, 3), np.array(["cat"] * 60, object)):
        (said,) = cautions(same)
        assert said.startswith("the original gives one and the same answer on all samples")


# Labels


def test_with_labels_it_says_how_often_the_original_is_right() -> None:
    y = logits(64, 5)
    truth = y.argmax(axis=1)
    truth[:16] = -100
    truth[16:28] = (truth[16:28] + 1) % 5
    assert line(y, truth).startswith("right on 75.0 % of the 48 labelled, mean confidence ")
    assert cautions(y, truth) == []


def test_an_original_that_is_mostly_wrong_is_worth_a_look() -> None:
    y = logits(64, 5)
    truth = y.argmax(axis=1)
    truth[::3] = (truth[::3] + 1) % 5
    truth[1::3] = (truth[1::3] + 2) % 5
    (said,) = cautions(y, truth)
    assert said.startswith("the original is right on only 32.8 % of the labelled samples: is that what it should be?")


@pytest.mark.parametrize(
    ("y", "about", "top", "width"),
    [
        (logits(64, 5), {}, logits(64, 5).argmax(axis=1), 5),
        (sigmoid(64, 1), {"makers": ["Sigmoid"]}, sigmoid(64, 1)[:, 0] > 0.5, 2),
        (np.arange(64) % 3, {}, np.arange(64) % 3, 0),
    ],
)
def test_answers_are_those_of_the_output_that_labels_are_of(y: Any, about: Any, top: Any, width: int) -> None:
    seen = [seen_of(y, **about)]
    found, classes = answers_of(find_task("auto", seen), seen)
    np.testing.assert_array_equal(found, top)
    assert classes == width


def test_quantities_and_answers_by_position_give_none() -> None:
    for y in (normals(64, 3), softmax(logits(8, 6, 3))):
        seen = [seen_of(y)]
        assert answers_of(find_task("auto", seen), seen) == (None, 0)


def test_padding_is_never_the_answer() -> None:
    kept = mask_of([6] * 16, 12)
    starts = np.where(kept, logits(16, 12), 50.0)
    seen = [seen_of(starts, name="start_logits", kept=kept)]
    top, _ = answers_of(find_task("auto", seen), seen)
    assert top is not None
    assert top.max() < 6


# What goes in

NEAREST = "c = Constant <value_floats = [0., 1., 2., 3., 4.]> () d = Sub(x, c) s = Mul(d, d) logits = Neg(s)"


def nearest(x: Any, labels: Any) -> tuple[str, list[str]]:
    """A model that says which of 0, 1, 2, 3, 4 a number is nearest to."""
    made = model("(float[N, 1] x) => (float[N, 5] logits)", NEAREST)
    y = -((x - np.arange(5)) ** 2)
    seen = [seen_of(y, name="logits")]
    return outlook(made, find_task("auto", seen, labels=labels), seen, [{"x": x}], labels, "cpu")


@pytest.mark.parametrize(
    ("by", "said"),
    [(255, "; with inputs 1/255 of these values, on 100.0 %"), (1 / 255, "; with inputs 255 times these values")],
)
def test_inputs_of_another_scale_are_tried_where_the_original_is_mostly_wrong(by: float, said: str) -> None:
    labels = np.arange(40) % 5
    right, wrong = ((times * labels[:, None]).astype(np.float32) for times in (1, by))
    assert nearest(right, labels)[1] == []
    assert any(said in caution for caution in nearest(wrong, labels)[1])


def test_where_no_scale_helps_none_is_proposed() -> None:
    labels = np.arange(40) % 5
    x = np.random.default_rng(0).permutation(labels)[:, None].astype(np.float32)
    (caution,) = nearest(x, labels)[1]
    assert "is that what it should be?" in caution


FIRST = f"""{HEADER} net (float[N, 1, 4, 4] x) => (float[N, 1, 2, 2] y)
    <float[1, 1, 3, 3] k = {{1, 0, 0, 0, 0, 0, 0, 0, 0}}, float[1] b = {{0.1}}>
    {{ [first] c = Conv(x, k, b) y = Tanh(c) }}"""


def test_the_first_layer_has_its_say() -> None:
    made = load(onnx.parser.parse_model(FIRST))
    x = np.random.default_rng(0).standard_normal((20, 1, 4, 4)).astype(np.float32)
    for times, told in ((1, False), (255, True)):
        seen = [seen_of(np.tanh(times * x[:, :, :2, :2] + 0.1))]
        _, odd = outlook(made, find_task("auto", seen), seen, [{"x": times * x}], None, "cpu")
        assert any("far too large for layer 'first'" in one for one in odd) == told


def test_what_cannot_be_seen_of_the_first_layer_is_passed_over() -> None:
    made = load(onnx.parser.parse_model(FIRST))
    seen = [seen_of(normals(20, 3))]
    wrong = {"x": np.zeros((2, 1, 1, 1), np.float32)}  # ONNX Runtime cannot run this
    assert outlook(made, find_task("auto", seen), seen, [wrong], None, "cpu")[1] == []


def test_saturated_sigmoids_are_plausible() -> None:
    assert cautions(special.expit(40 * normals(64, 1)), makers=["Sigmoid"]) == []
