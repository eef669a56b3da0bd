"""Orders in which class folders may have been numbered, and folders of two sets matched by their names."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_dalr.errors import InputError
from onnx_dalr.samples import class_orders, match_classes


def orders(*names: str, count: int | None = None) -> dict[str, list[int]]:
    return {order.name: order.labels.tolist() for order in class_orders(names, count)}


NATURAL = "natural order"


@pytest.mark.parametrize("names", [("ant", "bee", "cow"), ("n01440764", "n01443537"), ("00", "01"), ("only",), ()])
def test_most_names_have_one_order(names: tuple[str, ...]) -> None:
    assert orders(*names) == {NATURAL: list(range(len(names)))}


def test_text_order_is_that_of_torchvision() -> None:
    names = [str(i) for i in range(26)]
    found = orders(*names)
    assert list(found) == [NATURAL, "text order"]
    assert found["text order"] == [sorted(names).index(name) for name in names]


def test_upper_case_may_come_first_or_make_no_difference() -> None:
    assert orders("Cat", "ant", "bee") == {
        NATURAL: [0, 1, 2],
        "natural order, upper and lower case alike": [2, 0, 1],
    }


def test_numbers_in_names_may_be_the_labels() -> None:
    assert orders("0-cat", "1-ant", "2-bee") == {NATURAL: [0, 1, 2]}
    assert orders("bee_2", "cat_0", "dog_1")["the numbers in the names"] == [2, 0, 1]


def test_a_few_folders_of_a_model_with_more_classes_keep_their_numbers() -> None:
    found = orders("3", "7", "9", count=10)
    assert found["the numbers in the names"] == [3, 7, 9]
    assert found["the numbers in the names, from 1"] == [2, 6, 8]
    assert orders("3", "7", "9") == {NATURAL: [0, 1, 2]}
    assert orders("3", "7", "11", count=10).keys() == {NATURAL, "text order"}


@pytest.mark.parametrize("names", [("1", "01"), ("v1-a", "v1-b"), ("1", "two")])
def test_numbers_that_say_nothing_are_no_order(names: tuple[str, ...]) -> None:
    assert not any("numbers" in name for name in orders(*names, count=100))


def test_an_order_is_said_with_the_place_where_it_differs() -> None:
    said = [str(order) for order in class_orders([str(i) for i in range(11)])]
    assert said == ["natural order (0, 1, 2, 3, …)", "text order (0, 1, 10, 2, …)"]
    assert str(class_orders(["a", "b", "c", "d", "x2", "x10"])[1]) == "text order (…, c, d, x10, x2)"
    assert str(class_orders(["3", "7"], count=10)[1]) == "the numbers in the names (3 is class 3)"


def test_classes_of_another_set_are_found_by_name() -> None:
    labels = np.array([0, 0, 1, 2])
    assert match_classes(labels, ["a10", "a2", "b"], ["b", "a2", "c", "a10"]).tolist() == [3, 3, 1, 0]


def test_case_does_not_matter_where_one_name_is_meant() -> None:
    assert match_classes(np.array([0, 1]), ["Ant", "BEE"], ["ant", "bee", "cow"]).tolist() == [0, 1]
    with pytest.raises(InputError, match="'CAT', which --calib has not"):
        match_classes(np.array([0, 1]), ["CAT", "dog"], ["Cat", "cat", "dog"])


def test_a_folder_without_samples_is_not_looked_at() -> None:
    assert match_classes(np.array([1, 1]), ["new", "bee"], ["ant", "bee"]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("ant", "beee"), r"--eval has the class folder 'beee', which --calib has not \(did you mean 'bee'\?"),
        (("ant", "zebra"), r"'zebra', which --calib has not \(--calib has ant, bee, cow; an empty folder"),
        (("0", "1"), r"\(ant, bee, cow\) and --eval \(0, 1\) have no name in common.*--eval-labels"),
    ],
)
def test_classes_that_the_other_set_lacks_are_named(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        match_classes(np.arange(len(names)), names, ["ant", "bee", "cow"])
