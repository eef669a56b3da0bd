"""What each layer does to the output: by its metric where there is one, measured where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from onnx_dalr.allocate import Curve, Ranks
from onnx_dalr.effects import MetricEffects
from onnx_dalr.problem import Problem
from onnx_dalr.sensitivity import Sensitivity
from tests.search_cases import SPECTRA, THREE, posed

LARGEST = (23, 23, 14)


def problem_with(*metrics: str) -> Problem:
    """The three layers, those named with tails in a metric."""
    spectra = {
        name: replace(spectrum, metric_tails=0.5 * spectrum.tails + 1) if name in metrics else spectrum
        for name, spectrum in SPECTRA.items()
    }
    return posed(THREE, {"default": spectra}, params="50%")


class Measured:
    """Stands in for the sensitivity; each curve is a constant, and it keeps what it was asked."""

    def __init__(self) -> None:
        self.wanted, self.ranks = list[list[bool]](), list[Ranks]()

    def made(self, wanted: Sequence[bool]) -> Sensitivity:
        self.wanted.append(list(wanted))
        return cast(Sensitivity, self)

    def measure(self, ranks: Ranks) -> None:
        self.ranks.append(ranks)

    def curves(self) -> list[Curve]:
        return [np.full(largest + 1, 100.0 + i) for i, largest in enumerate(LARGEST)]


def test_metric_tails_and_measured_curves_stand_side_by_side() -> None:
    measured = Measured()
    effects = MetricEffects(problem_with("fc0", "fc2"), measured.made)
    effects.near([5, 6, 7])
    assert measured.wanted == [[False, True, False]]
    assert measured.ranks == [[5, 6, 7]]
    first, second, third = effects.curves()
    np.testing.assert_array_equal(first, 0.5 * SPECTRA["fc0"].tails[:24] + 1)
    np.testing.assert_array_equal(second, np.full(24, 101.0))
    np.testing.assert_array_equal(third, 0.5 * SPECTRA["fc2"].tails[:15] + 1)


def test_where_all_layers_have_a_metric_nothing_is_measured() -> None:
    measured = Measured()
    effects = MetricEffects(problem_with("fc0", "fc1", "fc2"), measured.made)
    effects.near([5, 6, 7])
    assert (measured.wanted, measured.ranks, effects.sensitivity) == ([], [], None)
    assert [len(curve) for curve in effects.curves()] == [largest + 1 for largest in LARGEST]


def test_where_none_has_all_are_measured() -> None:
    measured = Measured()
    effects = MetricEffects(problem_with(), measured.made)
    assert measured.wanted == [[True, True, True]]
    assert [curve[0] for curve in effects.curves()] == [100.0, 101.0, 102.0]


@pytest.mark.parametrize("metrics", [(), ("fc1",)])
def test_where_measuring_is_unaffordable_a_layers_own_error_stands_for_its_effect(metrics: tuple[str, ...]) -> None:
    problem = problem_with(*metrics)
    effects = MetricEffects(problem, None)
    effects.near([5, 6, 7])
    for layer, curve, tail in zip(THREE, effects.curves(), problem.tails, strict=True):
        spectrum = problem.spectrum(layer)
        assert spectrum is not None
        known = spectrum.metric_tails
        np.testing.assert_array_equal(curve, tail if known is None else known[: len(tail)])


def test_the_metric_is_that_of_the_chosen_factors() -> None:
    problem = problem_with("fc0", "fc1", "fc2")
    other = {"fc1": replace(SPECTRA["fc1"], metric_tails=7 * SPECTRA["fc1"].tails)}
    both = replace(problem, spectra={**problem.spectra, "cautious": other})
    curves = MetricEffects(both.with_factors("cautious"), None).curves()
    np.testing.assert_array_equal(curves[0], 0.5 * SPECTRA["fc0"].tails[:24] + 1)
    np.testing.assert_array_equal(curves[1], 7 * SPECTRA["fc1"].tails[:24])
