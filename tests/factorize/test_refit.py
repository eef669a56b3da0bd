"""A weight refitted to inputs that have changed (methods.md §5), against least squares written independently."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_dalr.factorize import METHODS, Need, Settings, Statistics
from onnx_dalr.factorize.refit import PULLS, PairedSums, Pull, error_weights, refitted

SHAPES = ((5, 9), (9, 5), (6, 6))


def rows(n: int, p: int = 400, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows x, and what is met in their place: they lost a third of their directions and gained some noise."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((p, n)) @ random.standard_normal((n, n)) + random.standard_normal(n)
    basis, _ = np.linalg.qr(random.standard_normal((n, n)))
    kept = basis[:, : n - n // 3]
    return x, x @ kept @ kept.T + 0.1 * random.standard_normal((p, n)) + 0.3


def summed(W: NDArray[np.float64], x: NDArray[np.float64], met: NDArray[np.float64]) -> PairedSums:
    sums = PairedSums(*W.shape)
    for start in range(0, len(x), 70):
        sums.update(x[start : start + 70], met[start : start + 70], W)
    return sums


def weight(m: int, n: int) -> NDArray[np.float64]:
    return np.random.default_rng(7).standard_normal((m, n))


def with_gradients(W: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[Statistics, NDArray[np.float64]]:
    """Statistics of W that keep a metric, and G, [m, m], by hand."""
    m, n = W.shape
    g = np.random.default_rng(3).standard_normal((50, m)) * np.linspace(0.2, 3, m)
    held = Statistics(m, n, METHODS["dalr"].needs(m, n) | Need.METRIC)
    held.update(x, W)
    held.update_metric(g, W, 50)
    return held, g.T @ g / 50


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_all_the_way_without_a_ridge_is_least_squares(m: int, n: int) -> None:
    W, (x, met) = weight(m, n), rows(n)
    found = refitted(W, summed(W, x, met), Pull(1.0, 0.0))
    bordered = np.column_stack([met, np.ones(len(met))])
    solution, *_ = np.linalg.lstsq(bordered, x @ W.T, rcond=None)
    np.testing.assert_allclose(found.weight, solution[:-1].T, atol=1e-6)
    np.testing.assert_allclose(found.shift, solution[-1], atol=1e-6)


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_without_a_bias_the_weight_makes_up_for_the_mean(m: int, n: int) -> None:
    W, (x, met) = weight(m, n), rows(n)
    found = refitted(W, summed(W, x, met), Pull(1.0, 0.0), moves_bias=False)
    solution, *_ = np.linalg.lstsq(met, x @ W.T, rcond=None)
    np.testing.assert_allclose(found.weight, solution.T, atol=1e-6)
    assert not found.shift.any()


@pytest.mark.parametrize(("m", "n"), SHAPES)
@pytest.mark.parametrize("pull", PULLS)
def test_what_it_moves_toward_and_how_far(m: int, n: int, pull: Pull) -> None:
    """W + β W D (Ĉ + λI)⁻¹ with D the covariance of x − x̂ and x̂: the two ways to write it are one."""
    W, (x, met) = weight(m, n), rows(n)
    a, b = x - x.mean(axis=0), met - met.mean(axis=0)
    C = b.T @ b / len(b)
    D = (a - b).T @ b / len(b)
    ridged = C + pull.ridge * np.trace(C) / n * np.eye(n)
    found = refitted(W, summed(W, x, met), pull)
    np.testing.assert_allclose(found.weight, W + pull.beta * W @ D @ np.linalg.inv(ridged), atol=1e-6)
    np.testing.assert_allclose(found.shift, W @ x.mean(axis=0) - found.weight @ met.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_the_same_inputs_leave_it_as_it_is(m: int, n: int) -> None:
    W, (x, _) = weight(m, n), rows(n)
    for pull in PULLS:
        found = refitted(W, summed(W, x, x), pull)
        np.testing.assert_allclose(found.weight, W, atol=1e-6)
        np.testing.assert_allclose(found.shift, 0, atol=1e-6)


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_its_statistics_are_those_of_what_it_meets(m: int, n: int) -> None:
    """As if W̃ had been captured on the rows x̂; gradients are of the layer's output and stay."""
    W, (x, met) = weight(m, n), rows(n)
    held, G = with_gradients(W, x)
    found = refitted(W, summed(W, x, met), PULLS[0])
    statistics = found.statistics(Need.OUTPUT, held)
    captured = Statistics(m, n, Need.INPUT | Need.OUTPUT)
    captured.update(met, found.weight)
    for name in ("mean", "input_covariance", "output_covariance", "trace", "trace_of_square"):
        np.testing.assert_allclose(getattr(statistics, name), getattr(captured, name), rtol=1e-5, atol=1e-5)
    assert statistics.count == len(met)
    expected = G if m <= n else found.weight.T @ G @ found.weight
    np.testing.assert_allclose(statistics.output_metric, expected, rtol=1e-5, atol=1e-5)
    assert statistics.metric_trace == pytest.approx(np.trace(G))
    assert statistics.metric_count == held.metric_count


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_its_factors_err_less_on_what_they_meet(m: int, n: int) -> None:
    W, (x, met) = weight(m, n), rows(n)
    held, _ = with_gradients(W, x)
    found = refitted(W, summed(W, x, met), PULLS[2])
    method, settings = METHODS["dalr"], Settings(shrinkage=PULLS[2].shrinkage, metric=0.2)
    before = method.spectrum(W, held, settings).factors(2)
    after = method.spectrum(found.weight, found.statistics(method.needs(m, n), held), settings).factors(2)

    def error(A: NDArray[np.float64], B: NDArray[np.float64], shift: NDArray[np.float64]) -> float:
        return float(np.sum((x @ W.T - met @ (A @ B).T - shift) ** 2))

    left = error(after.A, after.B, after.shift + found.shift)
    assert left < error(before.A, before.B, before.shift)
    off = x @ W.T - met @ (after.A @ after.B).T - after.shift - found.shift
    np.testing.assert_allclose(off.mean(axis=0), 0, atol=1e-6)  # the mean output is that of the original


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_errors_are_weighed_by_the_metric(m: int, n: int) -> None:
    W, (x, _) = weight(m, n), rows(n)
    held, G = with_gradients(W, x)
    K = error_weights(W, held, 0.1)
    assert K is not None
    e = np.random.default_rng(5).standard_normal((20, n)) @ W.T
    shrunk = 0.9 * G / (np.trace(G) / m) + 0.1 * np.eye(m)
    expected = np.einsum("pi,ij,pj->p", e, shrunk, e)
    np.testing.assert_allclose(np.sum((e @ K.T) ** 2, axis=1), expected, rtol=1e-5)


@pytest.mark.parametrize(("m", "n"), SHAPES)
@pytest.mark.parametrize("weighed", [True, False])
def test_what_another_weight_loses_is_read_from_the_sums(m: int, n: int, weighed: bool) -> None:
    W, (x, met) = weight(m, n), rows(n)
    held, _ = with_gradients(W, x)
    K = error_weights(W, held, 0.1) if weighed else None
    sums = summed(W, x, met)
    random = np.random.default_rng(11)
    for _ in range(3):
        other, shift = W @ random.standard_normal((n, n)), random.standard_normal(m)
        e = x @ W.T - met @ other.T - shift
        seen = np.eye(m) if K is None else K
        expected = np.mean(np.sum((e @ seen.T) ** 2, axis=1)) - np.mean(np.sum((x @ W.T @ seen.T) ** 2, axis=1))
        assert sums.lost(W, other, shift, K) == pytest.approx(expected, rel=1e-5)
    assert PairedSums(m, n).lost(W, W, np.zeros(m), K) == 0


def test_without_a_metric_all_errors_count_alike() -> None:
    W, (x, _) = weight(5, 9), rows(9)
    held, _ = with_gradients(W, x)
    assert error_weights(W, held, None) is None
    assert error_weights(W, held, 1.0) is None
    held.forget_metric()
    assert error_weights(W, held, 0.1) is None


def test_there_has_to_be_something_to_fit() -> None:
    W, (x, met) = weight(5, 9), rows(9)
    assert summed(W, x, met).varies
    assert not PairedSums(5, 9).varies
    assert not summed(W, x, np.ones_like(met)).varies
    met[3, 4] = np.inf
    with np.errstate(invalid="ignore"):
        assert not summed(W, x, met).varies


def test_a_ridge_is_a_share_of_the_covariance() -> None:
    """λ = t·a/(1−a)."""
    for pull in PULLS:
        assert pull.shrinkage / (1 - pull.shrinkage) == pytest.approx(pull.ridge)


def test_bytes_are_those_of_the_arrays() -> None:
    for m, n in SHAPES:
        sums = PairedSums(m, n)
        held = sum(array.nbytes for array in (sums.wanted, sums.total, sums.input, sums.cross))
        assert held == PairedSums.bytes_needed(m, n)


@pytest.mark.parametrize(("m", "n"), SHAPES)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_rows_in_float32_say_what_they_say_in_float64(m: int, n: int, offset: float) -> None:
    """Also where they are nearly all mean, of which a sum of squares in float32 would leave nothing."""
    W, (x, met) = weight(m, n), rows(n)
    small = (x + offset).astype(np.float32), (met + offset).astype(np.float32)
    wide = (each.astype(np.float64) for each in small)
    one, other = summed(W, *small), summed(W, *wide)  # type: ignore[arg-type]
    for pull in PULLS:
        found, wanted = (refitted(W, sums, pull) for sums in (one, other))
        np.testing.assert_allclose(found.weight, wanted.weight, atol=1e-3 * np.abs(wanted.weight).max())
