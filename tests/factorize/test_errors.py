"""The error that is printed for every rank, from one eigendecomposition, is the one that is measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.factorize import METHODS, Ridge, Settings, Statistics
from tests.factorize.cases import NAMES, Case, cases, make, often, ordinary


@often
@given(cases(), st.sampled_from(NAMES))
def test_the_printed_calibration_error_is_the_measured_one(case: Case, method: str) -> None:
    spectrum = case.spectrum(method)
    for k in range(spectrum.full_rank + 1):
        assert spectrum.calibration_error(k) ** 2 == pytest.approx(case.measured_error(spectrum.factors(k)), abs=1e-9)


@often
@given(ordinary, st.floats(1e-9, 1e3))
def test_the_printed_error_of_dalr_2017_is_the_measured_one_at_any_ridge(case: Case, ridge: float) -> None:
    spectrum = case.spectrum("dalr-2017", Ridge(ridge))
    for k in range(spectrum.full_rank + 1):
        assert spectrum.calibration_error(k) ** 2 == pytest.approx(case.measured_error(spectrum.factors(k)), abs=1e-9)


@often
@given(cases(), st.sampled_from(NAMES))
def test_in_single_precision_it_is_right_to_single_precision(case: Case, method: str) -> None:
    single = Case(case.W.astype(np.float32), case.X.astype(np.float32))
    spectrum = single.spectrum(method)
    for k in range(spectrum.full_rank + 1):
        measured = single.measured_error(spectrum.factors(k))
        assert spectrum.calibration_error(k) ** 2 == pytest.approx(measured, abs=1e-5)


@often
@given(cases(), st.sampled_from(NAMES))
def test_errors_do_not_grow_with_the_rank(case: Case, method: str) -> None:
    spectrum = case.spectrum(method)
    rounding = 1e-12 * (spectrum.power + 1e-300)
    assert (np.diff(spectrum.errors) <= rounding).all()
    assert (np.diff(spectrum.tails) <= rounding).all()


@often
@given(cases(), st.sampled_from(NAMES))
def test_errors_and_power_are_finite_and_never_negative(case: Case, method: str) -> None:
    spectrum = case.spectrum(method)
    assert spectrum.power == pytest.approx(case.power, rel=1e-9)
    for values in (spectrum.errors, spectrum.tails, spectrum.latent_power):
        assert np.isfinite(values).all()
    assert spectrum.errors.min() >= 0
    assert spectrum.tails.min() >= 0
    assert len(spectrum.errors) == len(spectrum.tails) == spectrum.full_rank + 1 == case.full_rank + 1


@often
@given(ordinary)
def test_the_expected_error_of_dalr_is_the_shrunk_tail(case: Case) -> None:
    spectrum = case.spectrum("dalr")
    if spectrum.shrinkage is None:
        return
    a, t = spectrum.shrinkage, np.trace(case.covariance) / case.W.shape[1]
    for k in range(spectrum.full_rank + 1):
        factors = spectrum.factors(k)
        lost = np.sum((case.W - factors.A @ factors.B) ** 2)
        expected = (1 - a) * case.measured_error(factors) + a * t * lost / case.power
        assert spectrum.expected_error(k) ** 2 == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("method", ["svd", "svd-bc", "dalr-2017"])
def test_methods_that_shrink_nothing_expect_the_calibration_error(method: str) -> None:
    spectrum = make(6, 9, 40).spectrum(method)
    assert [spectrum.expected_error(k) for k in range(7)] == [spectrum.calibration_error(k) for k in range(7)]


@pytest.mark.parametrize("method", NAMES)
def test_a_layer_that_only_sees_zeros_has_no_error(method: str) -> None:
    spectrum = make(6, 9, 40, rows="zero").spectrum(method)
    assert [spectrum.calibration_error(k) for k in range(7)] == [0.0] * 7


def test_on_unseen_rows_of_a_few_samples_the_expected_error_is_nearer_than_the_calibration_error() -> None:
    rng = np.random.default_rng(1)
    mixing = rng.standard_normal((40, 40)) * 0.8 ** np.arange(40)
    W, fit, unseen = rng.standard_normal((30, 40)), rng.standard_normal((15, 40)), rng.standard_normal((4000, 40))
    stats = Statistics(30, 40, METHODS["dalr"].needs(30, 40))
    stats.update(fit @ mixing.T, W)
    spectrum = METHODS["dalr"].spectrum(W, stats, Settings())
    truth = np.sqrt(Case(W, unseen @ mixing.T).measured_error(spectrum.factors(12)))
    assert spectrum.calibration_error(12) < spectrum.expected_error(12)
    assert abs(spectrum.expected_error(12) - truth) < abs(spectrum.calibration_error(12) - truth)
