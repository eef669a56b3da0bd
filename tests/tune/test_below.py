"""A tolerance may be met by a smaller model once it is tuned; factors are made of all samples in the end."""

from __future__ import annotations

from typing import Any

import pytest

import onnx_dalr
from onnx_dalr.choose.trials import Trial
from onnx_dalr.quality.evaluate import Quality
from onnx_dalr.request.target import make_target
from onnx_dalr.tune.below import _passes
from onnx_dalr.tune.transfer import Explored
from onnx_dalr.tune.tuning import Tuning
from tests.tune.test_transfer import NET, rows


def made(**options: Any) -> onnx_dalr.Result:
    given: dict[str, Any] = {"task": "classify", "device": "cpu", "shrinkage": 1, "metric": False, "refit": "off"}
    return onnx_dalr.optimize(NET, calib=rows(1200), **(given | options))


def test_a_tuned_model_is_smaller_at_the_same_tolerance() -> None:
    plain, tuned = made(max_drop="6%", tune="off"), made(max_drop="6%", tune=150)
    assert tuned.params_after < plain.params_after
    assert tuned.tuning is not None
    assert tuned.tuning.kept
    assert tuned.tuning.bought is not None
    assert tuned.tuning.bought > tuned.bytes_after
    (chosen,) = [point for point in tuned.curve if point.chosen]
    assert chosen.allocation == "tuned"
    assert chosen.drop <= 0.06


def test_factors_are_made_of_all_samples_but_those_of_the_report() -> None:
    few = onnx_dalr.optimize(
        NET, calib=rows(300), eval=rows(100, seed=3), rank=["a=5", "b=5"], task="classify", tune="off", refit="off"
    )
    (said,) = [note for note in few.notes if note.startswith("once all was chosen")]
    assert "all 300 samples but those of the report, 90 more" in said


def quality(drop: float, expected: float, n: int, like: Quality) -> Quality:
    from dataclasses import replace

    def estimate(value: float) -> Any:
        return replace(like.drop, value=value, low=value - 0.02, high=value + 0.02, n=n)

    return replace(like, drop=estimate(drop), expected_drop=estimate(expected), n=n)


@pytest.mark.parametrize(
    ("asked", "drop", "expected", "passes"),
    [
        ({}, 0.015, 0.004, True),  # within a standard error, and little is expected
        ({}, 0.015, 0.012, False),
        ({}, 0.04, 0.004, False),
        ({"max_drop": "1%"}, 0.015, 0.004, False),
        ({"max_drop": "1%"}, 0.01, 0.004, True),
    ],
)
def test_a_stated_tolerance_is_counted_the_default_is_expected(
    asked: dict[str, Any], drop: float, expected: float, passes: bool
) -> None:
    like = made(rank=["a=5"], tune="off").quality
    assert like is not None
    found = Explored(Tuning(True, ""), {}, tuple(quality(drop, expected, 100, like) for _ in range(2)))
    assert _passes(Trial(drop, 0.1), found, make_target(**asked)) is passes
