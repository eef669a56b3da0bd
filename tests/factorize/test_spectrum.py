"""Factors at one rank: the balanced gauge, and every awkward layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.factorize.spectrum import GAUGE_FLOOR
from tests.factorize.cases import NAMES, Case, cases, make, often


@often
@given(cases(), st.sampled_from(NAMES), st.integers(0, 24))
def test_factors_are_finite_and_of_the_shapes_promised(case: Case, method: str, rank: int) -> None:
    m, n = case.W.shape
    k = min(rank, m, n)
    factors = case.spectrum(method).factors(k)
    assert (factors.A.shape, factors.B.shape, factors.shift.shape) == ((m, k), (k, n), (m,))
    for array in (factors.A, factors.B, factors.shift):
        assert array.dtype == np.float64
        assert np.isfinite(array).all()


@often
@given(cases(), st.sampled_from(NAMES))
def test_the_basis_is_orthonormal(case: Case, method: str) -> None:
    U = case.spectrum(method).basis
    np.testing.assert_allclose(U.T @ U, np.eye(case.full_rank), atol=1e-12)


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_the_gauge_shares_each_latents_size_between_both_factors(method: str, shape: tuple[int, int]) -> None:
    case = make(*shape, 50)
    factors = case.spectrum(method).factors(4)
    lengths = np.linalg.norm(factors.A, axis=0)
    latent = case.X @ factors.B.T
    # A = U·√s has columns of length √s; with l the latent before the gauge, √E[l²] = s leaves √s after it.
    np.testing.assert_allclose(np.sqrt(np.mean(latent**2, axis=0)), lengths, rtol=1e-9)


def test_a_latent_that_hardly_moves_is_held_above_a_millionth_of_the_largest() -> None:
    W, X = np.eye(3), np.diag([1.0, 1e-3, 1e-9])
    factors = Case(W, X).spectrum("svd").factors(3)
    gauges = np.sort(np.linalg.norm(factors.A, axis=0) ** 2)[::-1]
    np.testing.assert_allclose(gauges / gauges[0], [1, 1e-3, GAUGE_FLOOR], rtol=1e-9)
    np.testing.assert_allclose(factors.A @ factors.B, W, atol=1e-12)


@pytest.mark.parametrize("method", ["dalr", "svd-bc"])
def test_rank_zero_leaves_the_mean_output(method: str) -> None:
    case = make(5, 7, 30)
    factors = case.spectrum(method).factors(0)
    assert not (factors.A @ factors.B).any()
    np.testing.assert_allclose(factors.shift, case.W @ case.mean)


@pytest.mark.parametrize("method", ["dalr-2017", "svd"])
def test_rank_zero_without_compensation_leaves_nothing(method: str) -> None:
    spectrum = make(5, 7, 30).spectrum(method)
    assert not spectrum.factors(0).shift.any()
    assert spectrum.calibration_error(0) == 1


@pytest.mark.parametrize("rank", [-1, 6])
def test_a_rank_out_of_range_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=r"not within 0\.\.5"):
        make(5, 7, 30).spectrum("dalr").factors(rank)


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("kind", [("zero", "plain"), ("plain", "zero"), ("zero", "zero")])
def test_a_layer_of_zeros_stays_one(method: str, kind: tuple[str, str]) -> None:
    case = make(6, 4, 20, weight=kind[0], rows=kind[1])
    spectrum = case.spectrum(method)
    for k in range(5):
        factors = spectrum.factors(k)
        np.testing.assert_allclose(case.X @ (factors.A @ factors.B).T + factors.shift, np.zeros((20, 6)))


@pytest.mark.parametrize("method", NAMES)
def test_smaller_ranks_are_cut_from_larger_ones(method: str) -> None:
    spectrum = make(6, 9, 50).spectrum(method)
    small, large = spectrum.factors(2), spectrum.factors(5)
    np.testing.assert_allclose(small.A, large.A[:, :2])
    np.testing.assert_allclose(small.B, large.B[:2])


@pytest.mark.parametrize("method", NAMES)
def test_compact_halves_the_basis_and_changes_the_map_by_single_precision(method: str) -> None:
    case = make(6, 9, 50)
    spectrum = case.spectrum(method)
    compact = spectrum.compact()
    assert 2 * compact.basis.nbytes == spectrum.basis.nbytes
    one, other = spectrum.factors(4), compact.factors(4)
    np.testing.assert_allclose(other.A @ other.B, one.A @ one.B, atol=1e-5)
    assert case.measured_error(other) == pytest.approx(case.measured_error(one), abs=1e-6)
    assert [compact.calibration_error(k) for k in range(7)] == [spectrum.calibration_error(k) for k in range(7)]


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_factors_of_large_layers_in_float32_are_the_same_in_whatever_order_ranks_are_asked_for(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = replace(make(*shape, 50).spectrum("dalr"), projected=make(*shape, 50).W.astype(np.float32))
    light = exact.compact()
    monkeypatch.setattr("onnx_dalr.factorize.spectrum.LARGE", 6)
    for rank in (3, 1, 5, 2, 6):
        one, other = exact.factors(rank), light.factors(rank)
        assert (other.A.dtype, other.B.dtype) == (np.float32, np.float32)
        np.testing.assert_allclose(other.A @ other.B, one.A @ one.B, atol=1e-5)
        np.testing.assert_allclose(other.shift, one.shift, atol=1e-5)
    assert len(light._projections[0]) == 6


def test_no_more_projections_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_dalr.factorize.spectrum.LARGE", 6)
    monkeypatch.setattr("onnx_dalr.factorize.spectrum.REMEMBERED", 3 * 9 * 4)
    case = make(6, 9, 50)
    light = replace(case.spectrum("dalr"), projected=case.W.astype(np.float32)).compact()
    for rank, held in ((2, 2), (3, 3), (5, 3), (1, 3)):
        assert light.factors(rank).B.shape == (rank, 9)
        assert len(light._projections[0]) == held
