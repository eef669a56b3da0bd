"""Each method against its textbook definition, written out in plain NumPy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.factorize import METHODS, Factors, Need, Ridge, Settings, Statistics
from onnx_dalr.factorize.dalr2017 import dalr_2017
from onnx_dalr.factorize.gram import sketch_matrix
from onnx_dalr.factorize.projection import dalr, moment_and_sketch
from tests.factorize.cases import Array, Case, cases, eigenvectors, make, often, ordinary, seldom, well_defined_ranks


def assert_is(factors: Factors, product: Array, shift: Array, case: Case) -> None:
    """The map of the factors is the one given, as far as float64 can tell."""
    size = np.linalg.norm(case.W) + 1e-300
    np.testing.assert_allclose(factors.A @ factors.B, product, rtol=0, atol=1e-6 * size)
    np.testing.assert_allclose(factors.shift, shift, rtol=0, atol=1e-6 * size * (1 + np.linalg.norm(case.mean)))


def textbook_svd(W: Array, k: int) -> Array:
    U, s, Vt = np.linalg.svd(W, full_matrices=False)
    return (U[:, :k] * s[:k]) @ Vt[:k]


def textbook_dalr_2017(case: Case, k: int, lam: float) -> Array:
    X = case.X.T  # [n, p], as in the paper
    Z = case.W @ X
    U = np.linalg.svd(Z, full_matrices=False)[0][:, :k]
    ridge = X @ X.T + lam * np.eye(len(X))
    return U @ np.linalg.solve(ridge, X @ Z.T @ U).T


def textbook_shrinkage(case: Case) -> float:
    """OAS by methods.md §2, with tr C² from the sketch where the input moment is not kept."""
    (m, n), p, C = case.W.shape, len(case.X), case.covariance
    square = np.sum((C @ sketch_matrix(n)) ** 2) / 64 if m <= n else np.sum(C**2)
    trace = np.trace(C)
    numerator = (1 - 2 / n) * square + trace**2
    denominator = (p + 1 - 2 / n) * (square - trace**2 / n)
    return 1.0 if denominator <= 0 else float(np.clip(numerator / denominator, 1e-3, 1.0))


def textbook_dalr_matrix(case: Case, a: float) -> Array:
    """H = (1−a)·S + a·t·W Wᵀ, [m, m]."""
    S = case.W @ case.covariance @ case.W.T
    return (1 - a) * S + a * np.trace(case.covariance) / len(case.covariance) * case.W @ case.W.T


@often
@given(cases())
def test_svd_is_the_truncated_svd_of_the_weight(case: Case) -> None:
    spectrum = case.spectrum("svd")
    for k in well_defined_ranks(np.linalg.svd(case.W, compute_uv=False) ** 2):
        assert_is(spectrum.factors(k), textbook_svd(case.W, k), np.zeros(len(case.W)), case)


@often
@given(cases())
def test_svd_bc_moves_the_lost_mean_into_the_bias(case: Case) -> None:
    spectrum = case.spectrum("svd-bc")
    for k in well_defined_ranks(np.linalg.svd(case.W, compute_uv=False) ** 2):
        product = textbook_svd(case.W, k)
        assert_is(spectrum.factors(k), product, (case.W - product) @ case.mean, case)


@often
@given(cases(rows=("plain", "low rank", "one sample", "constant", "offset")), st.sampled_from([1e-3, 1e-1]))
def test_dalr_2017_is_the_papers_closed_form(case: Case, ridge: float) -> None:
    spectrum = case.spectrum("dalr-2017", Ridge(ridge))
    lam = ridge * np.sum(case.X**2) / case.X.shape[1]
    assert spectrum.ridge == pytest.approx(lam)
    singular = np.linalg.svd(case.W @ case.X.T, compute_uv=False)
    for k in well_defined_ranks(singular**2):
        assert_is(spectrum.factors(k), textbook_dalr_2017(case, k, lam), np.zeros(len(case.W)), case)


@often
@given(cases(rows=("plain", "low rank", "one sample")), st.sampled_from([0.1, 1000.0]))
def test_dalr_2017_takes_an_absolute_ridge(case: Case, lam: float) -> None:
    spectrum = case.spectrum("dalr-2017", Ridge(lam, absolute=True))
    assert spectrum.ridge == lam
    for k in well_defined_ranks(np.linalg.svd(case.W @ case.X.T, compute_uv=False) ** 2):
        assert_is(spectrum.factors(k), textbook_dalr_2017(case, k, lam), np.zeros(len(case.W)), case)


def test_the_default_ridge_of_dalr_2017_is_a_thousandth_of_the_mean_power() -> None:
    case = make(5, 7, 20)
    assert case.spectrum("dalr-2017").ridge == pytest.approx(1e-3 * np.sum(case.X**2) / 7)


@often
@given(cases(rows=("plain", "low rank", "scaled columns", "offset")))
def test_dalr_takes_the_eigenvectors_of_the_shrunk_output_covariance(case: Case) -> None:
    spectrum = case.spectrum("dalr")
    if spectrum.method == "svd-bc":  # one row: nothing to learn
        return
    a = textbook_shrinkage(case)
    if case.W.shape[1] > 1:
        assert spectrum.shrinkage == pytest.approx(a, rel=1e-5)
    values, U = eigenvectors(textbook_dalr_matrix(case, a))
    for k in well_defined_ranks(values, case.power):
        P = U[:, :k] @ U[:, :k].T
        shift = (np.eye(len(P)) - P) @ case.W @ case.mean
        assert_is(spectrum.factors(k), P @ case.W, shift, case)


@often
@given(ordinary, st.sampled_from([0.0, 0.3, 1.0]))
def test_dalr_on_the_smaller_side_is_the_m_by_m_formula(case: Case, a: float) -> None:
    stats = case.statistics(moment_and_sketch(*case.W.shape))
    if stats.learned_nothing:
        return
    spectrum = dalr(case.W, stats, shrinkage=a)
    values, U = eigenvectors(textbook_dalr_matrix(case, a))
    for k in well_defined_ranks(values, case.power):
        if k <= case.full_rank:
            P = U[:, :k] @ U[:, :k].T
            assert_is(spectrum.factors(k), P @ case.W, case.W @ case.mean - P @ case.W @ case.mean, case)


@often
@given(cases(rows=("plain", "low rank", "offset", "scaled columns")))
def test_primal_and_dual_form_of_dalr_2017_agree(case: Case) -> None:
    rows, moment = case.statistics(Need.ROWS), case.statistics(Need.INPUT)
    dual, primal = dalr_2017(case.W, rows), dalr_2017(case.W, moment)
    assert (rows.rows is not None) == (len(case.X) < case.X.shape[1])
    np.testing.assert_allclose(dual.errors, primal.errors, rtol=0, atol=1e-9 * (1e-300 + case.power))
    for k in well_defined_ranks(np.linalg.svd(case.W @ case.X.T, compute_uv=False) ** 2):
        one, other = dual.factors(k), primal.factors(k)
        assert_is(one, other.A @ other.B, other.shift, case)


@often
@given(cases(), st.sampled_from(["dalr", "svd-bc", "svd"]))
def test_full_rank_reproduces_the_layer(case: Case, method: str) -> None:
    spectrum = case.spectrum(method)
    factors = spectrum.factors(spectrum.full_rank)
    assert_is(factors, case.W, np.zeros(len(case.W)), case)


@seldom
@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 999))
def test_dalr_2017_at_full_rank_tends_to_the_layer_as_the_ridge_goes_to_zero(m: int, n: int, seed: int) -> None:
    case = make(m, n, 3 * n, seed)
    distances = [
        np.linalg.norm(factors.A @ factors.B - case.W)
        for ridge in (1e-2, 1e-5, 1e-8)
        for factors in [case.spectrum("dalr-2017", Ridge(ridge)).factors(min(m, n))]
    ]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-4 * np.linalg.norm(case.W)


@often
@given(ordinary)
def test_dalr_fully_shrunk_is_svd_bc(case: Case) -> None:
    shrunk = dalr(case.W, case.statistics(moment_and_sketch(*case.W.shape)), shrinkage=1.0)
    plain = case.spectrum("svd-bc")
    for k in well_defined_ranks(np.linalg.svd(case.W, compute_uv=False) ** 2):
        factors = plain.factors(k)
        assert_is(shrunk.factors(k), factors.A @ factors.B, factors.shift, case)


@often
@given(cases())
def test_dalr_not_shrunk_has_the_smallest_calibration_error_of_all(case: Case) -> None:
    best = dalr(case.W, case.statistics(moment_and_sketch(*case.W.shape)), shrinkage=0.0)
    if best.method == "svd-bc":  # nothing to learn: the error is zero at every rank
        np.testing.assert_allclose(best.errors, 0, atol=1e-10 * (1e-300 + case.power))
    for method in METHODS:
        assert (best.errors <= case.spectrum(method).errors + 1e-10 * case.power).all()


@pytest.mark.parametrize("rows", ["one sample", "constant", "zero"])
@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_dalr_with_nothing_to_learn_is_svd_bc_and_says_so(rows: str, shape: tuple[int, int]) -> None:
    case = make(*shape, 12, rows=rows)
    spectrum, plain = case.spectrum("dalr"), case.spectrum("svd-bc")
    assert spectrum.method == "svd-bc"
    assert spectrum.shrinkage is None
    for k in range(5):
        one, other = spectrum.factors(k), plain.factors(k)
        assert_is(one, other.A @ other.B, other.shift, case)


def test_only_dalr_and_svd_bc_touch_the_bias() -> None:
    case = make(6, 8, 30)
    moved = {name for name in METHODS if case.spectrum(name).factors(3).shift.any()}
    assert moved == {name for name, method in METHODS.items() if method.compensates} == {"dalr", "svd-bc"}


def test_only_dalr_2017_takes_a_ridge() -> None:
    assert [name for name, method in METHODS.items() if method.takes_ridge] == ["dalr-2017"]


def test_the_default_method_comes_first() -> None:
    assert next(iter(METHODS)) == "dalr"


@pytest.mark.parametrize(
    ("method", "wide", "tall"),
    [
        ("dalr", Need.OUTPUT | Need.SKETCH, Need.INPUT),
        ("dalr-2017", Need.ROWS, Need.ROWS),
        ("svd-bc", Need.OUTPUT, Need.INPUT),
        ("svd", Need.OUTPUT, Need.INPUT),
    ],
)
def test_each_method_declares_the_moment_of_its_smaller_side(method: str, wide: Need, tall: Need) -> None:
    assert METHODS[method].needs(3, 8) == wide
    assert METHODS[method].needs(8, 3) == tall
    assert METHODS[method].needs(5, 5) == wide


@pytest.mark.parametrize("lam", [0.0, 1e-18, 1e-14, 1e-13, 1e-12])
@pytest.mark.parametrize("p", [6, 40])
def test_a_ridge_lost_in_rounding_is_the_pseudo_inverse_without_a_warning(lam: float, p: int) -> None:
    case = make(5, 12, p, rows="low rank")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        factors = case.spectrum("dalr-2017", Ridge(lam, absolute=True)).factors(5)
    expected = case.W @ case.X.T @ np.linalg.pinv(case.X.T, rcond=1e-10)
    np.testing.assert_allclose(factors.A @ factors.B, expected, atol=1e-5)
    assert not warned


def test_a_ridge_prints_as_it_is_typed() -> None:
    assert (str(Ridge()), str(Ridge(1000, absolute=True))) == ("0.001", "abs:1000")


@pytest.mark.parametrize("method", METHODS)
def test_one_pass_in_single_precision_comes_close(method: str) -> None:
    case = make(10, 14, 200, rows="offset")
    known = METHODS[method]
    stats = Statistics(10, 14, known.needs(10, 14))
    W, X = case.W.astype(np.float32), case.X.astype(np.float32)
    stats.update(X, W)
    single, double = known.spectrum(W, stats, Settings()).factors(6), case.spectrum(method).factors(6)
    y, y_double = (X @ (f.A @ f.B).T + f.shift for f in (single, double))
    assert np.linalg.norm(y - y_double) < 1e-4 * np.linalg.norm(case.X @ case.W.T)
