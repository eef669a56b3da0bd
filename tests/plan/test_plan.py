"""What was decided, layer by layer."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from onnx_dalr.plan.choice import Choice
from onnx_dalr.plan.plan import Plan
from tests.forms import UNTOUCHED, pair

PLAN = Plan(
    "dalr",
    (Choice("a", pair(4), "as asked"), Choice("b", UNTOUCHED, "no --rank for it"), Choice("c", pair(2), "as asked")),
)


def test_the_compressed_layers_of_a_plan_are_those_with_a_rank() -> None:
    assert [choice.layer for choice in PLAN.compressed] == ["a", "c"]
    assert Plan("dalr", (Choice("b", UNTOUCHED, ""),)).compressed == ()


def test_a_plan_that_is_finished_says_what_it_is_for_and_nothing_else_changes() -> None:
    found = PLAN.finished("sha256:1", {"ridge": "0.1"}, "9.9")
    assert (found.model, found.settings, found.version) == ("sha256:1", {"ridge": "0.1"}, "9.9")
    assert (found.method, found.choices, found.factors) == (PLAN.method, PLAN.choices, "default")
    assert PLAN.model is None


def test_a_plan_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        PLAN.method = "svd"  # type: ignore[misc]
