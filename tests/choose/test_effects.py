"""What each layer does to the output: by its metric where there is one, measured where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from onnx_dalr.choose.allocate import Curve, Forms
from onnx_dalr.choose.effects import MeasuredEffects, MetricEffects
from onnx_dalr.choose.space import SearchSpace
from onnx_dalr.choose.trials import BY_EFFECT
from tests.choose.allocate_cases import curve, pairs, steady
from tests.choose.search_cases import SPECTRA, THREE, Scored, decided, learned_of, posed, ranks_of

LARGEST = (23, 23, 14)


def in_menu(values: Curve, largest: int) -> Curve:
    """Of a curve by rank, what a menu with so many pairs has; nothing as it is."""
    return curve(*values[1 : largest + 1])


def space_with(*metrics: str) -> SearchSpace:
    """The three layers, those named with tails in a metric."""
    spectra = {
        name: replace(spectrum, metric_tails=0.5 * spectrum.tails + 1) if name in metrics else spectrum
        for name, spectrum in SPECTRA.items()
    }
    return posed(THREE, {"default": spectra}, params="50%")


class Measured:
    """Stands in for what measures; each curve is a constant, and it keeps what it was asked."""

    def __init__(self) -> None:
        self.wanted, self.forms = list[list[bool]](), list[Forms]()

    def made(self, wanted: Sequence[bool]) -> MeasuredEffects:
        self.wanted.append(list(wanted))
        return cast(MeasuredEffects, self)

    def measure(self, forms: Forms) -> None:
        self.forms.append(forms)

    def curves(self) -> list[Curve]:
        return [steady(100.0 + i, 100.0 + i, largest) for i, largest in enumerate(LARGEST)]


def test_metric_tails_and_measured_curves_stand_side_by_side() -> None:
    measured = Measured()
    effects = MetricEffects(space_with("fc0", "fc2"), measured.made)
    effects.near(pairs(5, 6, 7))
    assert measured.wanted == [[False, True, False]]
    assert measured.forms == [pairs(5, 6, 7)]
    first, second, third = effects.curves()
    np.testing.assert_array_equal(first, in_menu(0.5 * SPECTRA["fc0"].tails + 1, 23))
    np.testing.assert_array_equal(second, steady(101.0, 101.0, 23))
    np.testing.assert_array_equal(third, in_menu(0.5 * SPECTRA["fc2"].tails + 1, 14))


def test_where_all_layers_have_a_metric_nothing_is_measured() -> None:
    measured = Measured()
    effects = MetricEffects(space_with("fc0", "fc1", "fc2"), measured.made)
    effects.near(pairs(5, 6, 7))
    assert (measured.wanted, measured.forms, effects.measured) == ([], [], None)
    assert [len(curve) for curve in effects.curves()] == [largest + 1 for largest in LARGEST]


def test_where_none_has_all_are_measured() -> None:
    measured = Measured()
    effects = MetricEffects(space_with(), measured.made)
    assert measured.wanted == [[True, True, True]]
    assert [curve[0] for curve in effects.curves()] == [100.0, 101.0, 102.0]


def test_where_no_layer_has_a_metric_and_none_can_be_measured_all_are_compared_by_their_own_errors() -> None:
    space = space_with()
    effects = MetricEffects(space, None)
    effects.near(pairs(5, 6, 7))
    for found, tail in zip(effects.curves(), space.tails, strict=True):
        np.testing.assert_array_equal(found, tail)


def with_rates(*rates: float | None) -> SearchSpace:
    """The three layers, those with a rate having a metric: so much distortion for all of the layer's own output."""
    spectra = {
        name: replace(spectrum, metric_tails=None if rate is None else rate * spectrum.tails / spectrum.power)
        for (name, spectrum), rate in zip(SPECTRA.items(), rates, strict=True)
    }
    return posed(THREE, {"default": spectra}, params="50%")


@pytest.mark.parametrize(
    ("rates", "typical"),
    [((3e-5, None, None), 3e-5), ((None, 2e-6, 4e-6), 3e-6), ((2e-6, 4e-6, None), 3e-6), ((0.0, 5.0, None), 5.0)],
)
def test_what_cannot_be_measured_is_guessed_in_the_unit_of_the_layers_that_have_a_metric(
    rates: tuple[float | None, ...], typical: float
) -> None:
    space = with_rates(*rates)
    curves = MetricEffects(space, None).curves()
    for found, tail, rate in zip(curves, space.tails, rates, strict=True):
        np.testing.assert_allclose(found, (typical if rate is None else rate) * tail, rtol=1e-12)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e4])
def test_a_budget_is_spent_alike_whatever_unit_the_metric_is_in(unit: float) -> None:
    """A KL divergence of 1e-4 beside shares of a layer's output once left everything to the layers without a metric."""

    def spent(scale: float) -> list[int | None]:
        """What is best by the effects, which win."""
        space = with_rates(2 * scale, None, 4 * scale)
        lost = lambda plan: float(all(choice.reason != BY_EFFECT for choice in plan.choices))  # noqa: E731
        return ranks_of(decided(Scored(lambda ranks: 0.0, lost), MetricEffects(space, None), space))

    assert spent(unit) == spent(1.0)


def test_layers_without_any_effect_say_nothing_of_the_others() -> None:
    curves = MetricEffects(with_rates(0.0, None, 0.0), None).curves()
    assert not curves[0].any()
    np.testing.assert_array_equal(curves[1], with_rates(0.0, None, 0.0).tails[1])


def test_the_metric_is_that_of_the_chosen_factors() -> None:
    space = space_with("fc0", "fc1", "fc2")
    other = {"fc1": replace(SPECTRA["fc1"], metric_tails=7 * SPECTRA["fc1"].tails)}
    assert space.learned is not None
    space.learned.by_factors.update(learned_of({"cautious": other}).by_factors)
    curves = MetricEffects(space.with_factors("cautious"), None).curves()
    np.testing.assert_array_equal(curves[0], in_menu(0.5 * SPECTRA["fc0"].tails + 1, 23))
    np.testing.assert_array_equal(curves[1], in_menu(7 * SPECTRA["fc1"].tails, 23))
