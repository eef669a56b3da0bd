"""Rules of operators that reduce axes, against central differences."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gradient.helpers import agrees, reasons, spread

POSITIVE = spread("positive", (2, 3, 4), 0.3, 2.0)
OPERATORS = ("ReduceMean", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMin")


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("attributes", ["axes = [1]", "axes = [0, 2], keepdims = 0", "keepdims = 0", "keepdims = 1"])
def test_reductions_with_axes_as_an_attribute(op: str, attributes: str) -> None:
    agrees(f"y = {op} <{attributes}> (x)", 11, x=(2, 3, 4))


@pytest.mark.parametrize("op", ["ReduceSum", *OPERATORS])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [[1], [-1, 0], []], ids=str)
def test_reductions_with_axes_as_an_input(op: str, keep: int, axes: list[int]) -> None:
    given = {"a": axes} if axes else {}
    agrees(f"y = {op} <keepdims = {keep}> (x{', a' if axes else ''})", 18, constants=given, x=(2, 3, 4))


@pytest.mark.parametrize(("op", "opset"), [("ReduceSum", 8), ("ReduceSum", 12), ("ReduceLogSum", 13)])
def test_sums_of_older_opsets(op: str, opset: int) -> None:
    agrees(
        f"y = {op} <axes = [1], keepdims = 0> (x)" if opset < 13 else f"y = {op} <axes = [1]> (x)", opset, x=POSITIVE
    )


@pytest.mark.parametrize("keep", [0, 1])
def test_axes_may_be_computed(keep: int) -> None:
    body = f"r = Shape(two)  y = ReduceMax <keepdims = {keep}> (x, r)"
    agrees(body, 18, constants={"two": [0, 0]}, x=(2, 3, 4))


def test_a_reduction_that_may_reduce_nothing_ends_the_path() -> None:
    ended = reasons("y = ReduceSum <noop_with_empty_axes = 1> (x)", 13, x=(2, 3))
    assert ended == ["ReduceSum: it may leave its input as it is"]


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 2)], ids=str)
@pytest.mark.parametrize("opset", [9, 13])
def test_global_pools(op: str, shape: Any, opset: int) -> None:
    agrees(f"y = {op}(x)", opset, x=shape)
