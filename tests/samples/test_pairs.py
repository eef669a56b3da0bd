"""What training loaders yield: (x, y), and dicts with more than the model takes."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.samples import InputSpec, open_samples

from .conftest import spec
from .test_readers import Reader, Tensor

X = spec(None, 3)
TEXT = [spec(None, None, name=name, dtype="int64") for name in ("input_ids", "attention_mask")]
ROWS = np.arange(21, dtype=np.float32).reshape(7, 3)
PAIRS = "the iterable gives pairs: the second of each is taken as labels"


@pytest.mark.parametrize("kind", [tuple, list])
def test_the_second_of_a_pair_is_labels(kind: type) -> None:
    batches = [kind((ROWS[:4], np.arange(4))), kind((Tensor(ROWS[4:]), [4, 5, 6]))]
    samples = open_samples(iter(batches), [X])
    assert samples.labels.tolist() == list(range(7))
    assert samples.labels.dtype == np.int64
    assert samples.labels_from == "the pairs of the iterable"
    assert list(samples.notes) == [PAIRS]
    np.testing.assert_array_equal(samples.read(5)["x"], ROWS[5:6])


@pytest.mark.parametrize("label", [int, np.int64, lambda y: np.array(y, np.uint8)])
def test_single_samples_have_single_labels(label: type) -> None:
    assert open_samples([(row, label(y)) for y, row in enumerate(ROWS)], [X]).labels.tolist() == list(range(7))
    assert open_samples([(row[None], label(y)) for y, row in enumerate(ROWS)], [X]).labels.tolist() == list(range(7))
    assert open_samples([(row.tolist(), label(1)) for row in ROWS[:2]], [X]).labels.tolist() == [1, 1]


def test_tokens_and_pixels_may_have_labels() -> None:
    batches = [(ROWS[:4], np.full((4, 3), 2)), (ROWS[4:], np.full((3, 3), -100))]
    assert open_samples(batches, [X]).labels.tolist() == [[2] * 3] * 4 + [[-100] * 3] * 3
    assert open_samples([(row, np.array([1, 2, 3])) for row in ROWS], [X]).labels.shape == (7, 3)


def test_complete_feeds_have_a_label_each() -> None:
    samples = open_samples([(row[None], np.array([y])) for y, row in enumerate(ROWS)], [spec(1, 3)])
    assert samples.complete
    assert samples.labels.tolist() == list(range(7))


def test_the_first_of_a_pair_may_be_a_dict() -> None:
    feed = {"input_ids": np.ones((2, 5), int), "attention_mask": np.ones((2, 5), int)}
    assert open_samples([(feed, [1, 0])], TEXT).labels.tolist() == [1, 0]
    assert open_samples(Reader([(feed, [1, 0])]), TEXT).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("item", "model"), [([[1, 2, 3], [4, 5, 6]], X), (([1, 2, 3], [4, 5, 6]), X), ((5, 6), spec(None, dtype="int64"))]
)
def test_two_rows_or_numbers_are_no_pair(item: object, model: InputSpec) -> None:
    samples = open_samples([item], [model])
    assert samples.labels is None
    assert len(samples) == 2


@pytest.mark.parametrize(
    ("items", "specs", "message"),
    [
        ([(ROWS, np.arange(6))], [X], r"item 0 of the iterable: labels of shape \[6\] for 7 samples"),
        ([(ROWS, 1)], [X], r"labels of shape \[\] for 7 samples"),
        ([(ROWS, np.arange(7) - 3)], [X], r"labels of the iterable: label -3 is negative"),
        ([(ROWS, np.arange(7)), ROWS], [X], r"item 1.*some items come with labels and some without"),
        ([ROWS, (ROWS, np.arange(7))], [X], r"item 1.*some items come with labels and some without"),
        ([(ROWS, ROWS.astype(int)), (ROWS, np.ones((7, 2), int))], [X], r"item 1.*differ in shape.*-100"),
        ([(ROWS, ROWS)], [X], r"item 0.*tuple of 2 arrays.*pairs of these and integer labels"),
        ([(ROWS, None)], [X], r"item 0.*tuple of 2 arrays"),
        ([(ROWS, np.arange(7))], TEXT, r"item 0.*tuple of 2 arrays"),
        ([(ROWS, np.arange(7), np.arange(7))], [X], r"tuple of 3 arrays"),
    ],
)
def test_pairs_that_do_not_fit_are_named(items: list[object], specs: list[InputSpec], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_samples(items, specs)


def test_labels_are_given_once() -> None:
    with pytest.raises(InputError, match="given twice: by --labels and by the pairs of the iterable"):
        open_samples([(ROWS, np.arange(7))], [X], labels=np.arange(7))


def tokens(**more: object) -> dict[str, object]:
    return {"input_ids": np.ones((2, 5), int), "attention_mask": np.ones((2, 5), int), **more}


@pytest.mark.parametrize("given", [tokens, lambda **more: [tokens(**more)], lambda **more: Reader([tokens(**more)])])
def test_keys_that_the_model_has_not_are_passed_over_and_said(given: object) -> None:
    samples = open_samples(given(token_type_ids=np.zeros((2, 5), int), labels=["no", "array"], n=object()), TEXT)
    assert sorted(samples.read(1)) == ["attention_mask", "input_ids"]
    assert list(samples.notes) == [
        "keys that are no input of the model are passed over: 'token_type_ids', 'labels', 'n'; labels are given as "
        "labels="
    ]


@pytest.mark.parametrize("given", [lambda arrays: arrays, lambda arrays: [arrays]])
@pytest.mark.parametrize(
    ("left", "more", "message"),
    [
        ("input_ids", "token_type_ids", r"nothing for the model's input 'attention_mask'.*holds input_ids, token_ty"),
        ("input_ids", "attention_maks", r"'attention_maks' is not an input.*did you mean 'attention_mask'\?"),
        (None, "labels", r"'labels' is not an input of the model"),
    ],
)
def test_a_missing_input_is_no_note(given: object, left: str | None, more: str, message: str) -> None:
    arrays = {name: np.ones((2, 5), int) for name in (left, more) if name}
    with pytest.raises(InputError, match=message):
        open_samples(given(arrays), TEXT)
