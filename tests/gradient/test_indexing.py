"""Rules of operators that pick elements by index, against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.gradient.helpers import agrees, reasons


@pytest.mark.parametrize("opset", [9, 13, 16])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("index", [1, [0], [2, 0, 2], [[0, 1], [1, 1]]], ids=str)
def test_gather_adds_up_all_picks_of_an_element(index: Any, axis: int, opset: int) -> None:
    agrees(f"y = Gather <axis = {axis}> (x, i)", opset, constants={"i": index}, x=(3, 4, 5))


@pytest.mark.parametrize("opset", [11, 16])
def test_gather_counts_from_the_back(opset: int) -> None:
    agrees("y = Gather <axis = -1> (x, i)", opset, constants={"i": np.array([-1, 0, -1], np.int32)}, x=(3, 4))


def test_an_embedding_gets_the_sum_over_its_tokens() -> None:
    tokens = np.array([[0, 2, 2], [1, 2, 0]])
    agrees("y = Gather(table, tokens)", 17, wanted=["table"], table=(4, 3), tokens=tokens)


def test_gather_elements_adds_up() -> None:
    index = np.array([[0, 1, 0], [0, 0, 1]])
    agrees("y = GatherElements <axis = 1> (x, i)", 16, constants={"i": index}, x=(2, 3))


def test_gather_nd_adds_up() -> None:
    agrees("y = GatherND(x, i)", 16, constants={"i": [[0, 1], [1, 2], [0, 1]]}, x=(2, 3, 4))


@pytest.mark.parametrize(("op", "opset"), [("GatherElements", 13), ("GatherND", 13)])
def test_before_scatters_could_add_up_some_paths_end(op: str, opset: int) -> None:
    (ended,) = reasons(f"y = {op}(x, i)", opset, constants={"i": [[0, 0], [0, 0]]}, x=(2, 2))
    assert "16" in ended


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k_goes_back_to_where_it_was_found(largest: int) -> None:
    agrees(f"y, i = TopK <axis = 1, largest = {largest}> (x, k)", 13, constants={"k": [2]}, x=(3, 4))


@pytest.mark.parametrize("axis", [0, 1])
def test_scattered_elements_replace_those_below(axis: int) -> None:
    index = np.array([[0, 2], [1, 0]]) if axis else np.array([[0, 1], [1, 0]])
    body = f"y = ScatterElements <axis = {axis}> (x, i, u)"
    agrees(body, 16, constants={"i": index}, x=(2, 3), u=(2, 2))


def test_scattered_elements_may_be_added() -> None:
    body = 'y = ScatterElements <axis = 1, reduction = "add"> (x, i, u)'
    agrees(body, 16, constants={"i": [[0, 0], [1, 2]]}, x=(2, 3), u=(2, 2))


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_scattered_slices(reduction: str) -> None:
    body = f'y = ScatterND <reduction = "{reduction}"> (x, i, u)'
    agrees(body, 16, constants={"i": [[1], [0]]}, x=(3, 4), u=(2, 4))


def test_other_scatters_end_the_path() -> None:
    body = 'y = ScatterElements <reduction = "mul"> (x, i, u)'
    ended = reasons(body, 16, constants={"i": [[0, 0]]}, x=(2, 2), u=(1, 2))
    assert ended == ["ScatterElements: no rule for reduction mul"]
