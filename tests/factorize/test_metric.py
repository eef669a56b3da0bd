"""Factors weighed by the output metric, against the closed form of methods.md §3 in plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_dalr.factorize import METHODS, Factors, Need, Settings, Spectrum, Statistics
from onnx_dalr.factorize.metric import SMALLEST_METRIC_SHRINKAGE, metric_shrinkage
from onnx_dalr.factorize.projection import dalr, moment_and_sketch
from onnx_dalr.factorize.shrinkage import oas
from tests.factorize.cases import ROWS, SEEDS, SIZES, WEIGHTS, Array, Case, make, often, seldom

GRADIENTS = ("plain", "few", "one direction", "scaled outputs", "tiny")
SHARES = st.sampled_from([(0.3, 0.05), (1e-3, 0.2), (0.1, 0.9), (1.0, 0.3)])


@dataclass(frozen=True, eq=False)
class Weighed:
    """A Case and the gradient rows g, [probes, m], at its outputs, one row a probe."""

    case: Case
    g: Array

    @property
    def metric(self) -> Array:
        return self.g.T @ self.g / len(self.g)

    @property
    def statistics(self) -> Statistics:
        found = self.case.statistics(moment_and_sketch(*self.case.W.shape) | Need.METRIC)
        found.update_metric(self.g, self.case.W, len(self.g))
        return found

    def spectrum(self, a: float | None, s: float | Literal["auto"] | None) -> Spectrum:
        return dalr(self.case.W, self.statistics, a, s)

    def shrunk(self, a: float, s: float) -> tuple[Array, Array]:
        """G and C of the objective."""
        G, C = self.metric, self.case.covariance
        return towards_identity(G, s), towards_identity(C, a)


def towards_identity(moment: Array, share: float) -> Array:
    return (1 - share) * moment + share * np.trace(moment) / len(moment) * np.eye(len(moment))


def root(moment: Array) -> Array:
    values, V = np.linalg.eigh(moment)
    return (V * np.sqrt(np.maximum(values, 0))) @ V.T


def loss(W: Array, factors: Factors, G: Array, C: Array) -> float:
    left = W - factors.A @ factors.B
    return float(np.trace(G @ left @ C @ left.T))


def weighed(m: int, n: int, p: int, probes: int, seed: int, gradient: str, weight: str, rows: str) -> Weighed:
    rng = np.random.default_rng(seed + 1)
    g = rng.standard_normal((probes, m)) @ rng.standard_normal((m, m))
    if gradient == "few":
        g = g[:2]
    elif gradient == "one direction":
        g[:] = g[0]
    elif gradient == "scaled outputs":
        g *= 10.0 ** rng.integers(-4, 5, m)
    elif gradient == "tiny":
        g *= 1e-12
    return Weighed(make(m, n, p, seed, weight, rows), g)


def layers(
    weight: tuple[str, ...] = WEIGHTS, rows: tuple[str, ...] = ROWS, gradient: tuple[str, ...] = GRADIENTS
) -> st.SearchStrategy[Weighed]:
    return st.builds(
        weighed,
        SIZES,
        SIZES,
        st.integers(1, 60),
        st.integers(1, 60),
        SEEDS,
        st.sampled_from(gradient),
        st.sampled_from(weight),
        st.sampled_from(rows),
    )


varied = layers(rows=("plain", "low rank", "offset", "scaled columns"))


@often
@given(varied, SHARES)
def test_no_map_of_a_rank_loses_less_than_the_tail_of_the_weighed_singular_values(
    layer: Weighed, shares: tuple[float, float]
) -> None:
    if layer.statistics.learned_nothing:
        return
    W, (G, C), spectrum = layer.case.W, layer.shrunk(*shares), layer.spectrum(*shares)
    singular = np.linalg.svd(root(G) @ W @ root(C), compute_uv=False)
    for k in range(spectrum.full_rank + 1):
        # Eckart and Young: the smallest tr[G (W−W') C (W−W')ᵀ] of rank k, whatever the eigenvectors.
        best = float(np.sum(singular[k:] ** 2))
        assert loss(W, spectrum.factors(k), G, C) == pytest.approx(best, rel=1e-6, abs=1e-9 * np.sum(singular**2))


@pytest.mark.parametrize("shape", [(7, 11), (11, 7), (8, 8)])
def test_the_map_is_the_truncated_svd_of_the_weighed_weight(shape: tuple[int, int]) -> None:
    layer = weighed(*shape, 50, 40, 3, "plain", "plain", "plain")
    W, (G, C), spectrum = layer.case.W, layer.shrunk(0.1, 0.2), layer.spectrum(0.1, 0.2)
    U, singular, Vt = np.linalg.svd(root(G) @ W @ root(C), full_matrices=False)
    for k in range(spectrum.full_rank + 1):
        expected = np.linalg.inv(root(G)) @ (U[:, :k] * singular[:k]) @ Vt[:k] @ np.linalg.inv(root(C))
        factors = spectrum.factors(k)
        np.testing.assert_allclose(factors.A @ factors.B, expected, atol=1e-9)
        np.testing.assert_allclose(factors.shift, (W - expected) @ layer.case.mean, atol=1e-9)


@pytest.mark.parametrize("shape", [(7, 11), (11, 7)])
def test_a_step_away_from_the_factors_loses_more(shape: tuple[int, int]) -> None:
    layer = weighed(*shape, 50, 40, 5, "plain", "plain", "plain")
    G, C = layer.shrunk(0.1, 0.2)
    best = layer.spectrum(0.1, 0.2).factors(3)
    rng = np.random.default_rng(0)
    for step in (1e-3, 1e-2, 1e-1):
        for _ in range(20):
            A = best.A + step * rng.standard_normal(best.A.shape)
            B = best.B + step * rng.standard_normal(best.B.shape)
            assert loss(layer.case.W, Factors(A, B, best.shift), G, C) > loss(layer.case.W, best, G, C)


@often
@given(layers(), SHARES)
def test_the_metric_tail_is_the_weighed_loss(layer: Weighed, shares: tuple[float, float]) -> None:
    spectrum = layer.spectrum(*shares)
    if layer.statistics.learned_nothing:
        assert (spectrum.method, spectrum.metric_tails, spectrum.dual) == ("svd-bc", None, None)
        return
    G, C = layer.shrunk(*shares)
    assert spectrum.metric_tails is not None
    whole = float(np.trace(G @ layer.case.W @ C @ layer.case.W.T))
    measured = [loss(layer.case.W, spectrum.factors(k), G, C) for k in range(spectrum.full_rank + 1)]
    np.testing.assert_allclose(spectrum.metric_tails, measured, rtol=1e-5, atol=1e-8 * whole + 1e-300)
    assert (np.diff(spectrum.metric_tails) <= 0).all()
    assert spectrum.metric_tails[-1] == 0


@often
@given(layers(), SHARES)
def test_errors_and_tails_of_an_oblique_projection_are_exact(layer: Weighed, shares: tuple[float, float]) -> None:
    spectrum, case = layer.spectrum(*shares), layer.case
    if spectrum.shrinkage is None:
        return
    a, t = spectrum.shrinkage, np.trace(case.covariance) / case.W.shape[1]
    assert spectrum.power == pytest.approx(case.power, rel=1e-9)
    for k in range(spectrum.full_rank + 1):
        factors = spectrum.factors(k)
        measured = case.measured_error(factors)
        assert spectrum.calibration_error(k) ** 2 == pytest.approx(measured, abs=1e-8)
        expected = (1 - a) * measured * case.power + a * t * np.sum((case.W - factors.A @ factors.B) ** 2)
        assert spectrum.tails[k] == pytest.approx(expected, rel=1e-6, abs=1e-8 * spectrum.tails[0])


@often
@given(layers(), st.sampled_from([0.0, 0.05, 0.5, 1.0, "auto", None]))
def test_whatever_the_gradients_factors_are_finite_and_full_rank_is_the_layer(
    layer: Weighed, s: float | Literal["auto"] | None
) -> None:
    spectrum, W = layer.spectrum(None, s), layer.case.W
    for k in range(spectrum.full_rank + 1):
        factors = spectrum.factors(k)
        assert all(np.isfinite(array).all() for array in (factors.A, factors.B, factors.shift))
    np.testing.assert_allclose(factors.A @ factors.B, W, rtol=0, atol=1e-6 * np.linalg.norm(W))
    assert not spectrum.factors(0).A.size
    np.testing.assert_allclose(
        spectrum.factors(0).shift, W @ layer.case.mean, atol=1e-9 * (1 + np.abs(W @ layer.case.mean).max())
    )


@often
@given(layers(), SHARES)
def test_a_fully_shrunk_metric_is_no_metric(layer: Weighed, shares: tuple[float, float]) -> None:
    a, _ = shares
    shrunk, plain = layer.spectrum(a, 1.0), layer.spectrum(a, None)
    np.testing.assert_array_equal(shrunk.basis, plain.basis)
    np.testing.assert_array_equal(shrunk.errors, plain.errors)
    assert shrunk.dual is None
    assert plain.metric_tails is None
    if shrunk.metric_tails is not None:
        unit = np.trace(layer.metric) / len(layer.metric)
        np.testing.assert_allclose(shrunk.metric_tails, unit * plain.tails, rtol=1e-9)
        assert shrunk.metric_shrinkage == 1


@seldom
@given(varied)
def test_the_limit_of_full_shrinkage_is_no_metric(layer: Weighed) -> None:
    if layer.statistics.learned_nothing:
        return
    near, plain = layer.spectrum(0.1, 1 - 1e-9), layer.spectrum(0.1, None)
    for k in range(plain.full_rank + 1):
        assert near.tails[k] == pytest.approx(plain.tails[k], rel=1e-5, abs=1e-7 * plain.tails[0])


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_without_gradients_there_is_no_metric_whatever_is_asked_for(shape: tuple[int, int]) -> None:
    case = make(*shape, 40)
    empty = case.statistics(moment_and_sketch(*shape) | Need.METRIC)
    plain = case.spectrum("dalr")
    for metric in ("auto", 0.3, None):
        asked = METHODS["dalr"].spectrum(case.W, empty, Settings(metric=metric))
        np.testing.assert_array_equal(asked.basis, plain.basis)
        assert (asked.metric_tails, asked.metric_shrinkage, asked.dual) == (None, None, None)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
@pytest.mark.parametrize("metric", ["auto", 0.3])
def test_gradients_of_zero_say_that_nothing_is_lost(shape: tuple[int, int], metric: float | Literal["auto"]) -> None:
    layer = Weighed(make(*shape, 40), np.zeros((5, shape[0])))
    spectrum = layer.spectrum(None, metric)
    np.testing.assert_array_equal(spectrum.basis, layer.spectrum(None, None).basis)
    assert spectrum.metric_tails is not None
    assert not spectrum.metric_tails.any()


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_directions_that_do_not_matter_are_given_up_first(shape: tuple[int, int]) -> None:
    case = make(*shape, 200)
    g = np.random.default_rng(0).standard_normal((500, shape[0])) * np.where(np.arange(shape[0]) < 2, 1.0, 1e-3)
    plain, layer = dalr(case.W, Weighed(case, g).statistics, 1e-3), Weighed(case, g).spectrum(1e-3, 1e-3)
    factors = layer.factors(2)
    left = np.abs(case.W - factors.A @ factors.B)
    assert left[:2].max() < 0.05 * left[2:].max()
    assert layer.errors[2] > plain.errors[2]


def test_rank_and_power_of_the_metric_are_per_probe_not_per_row() -> None:
    layer = weighed(6, 9, 40, 60, 0, "plain", "plain", "plain")
    per_row = layer.spectrum(0.1, 0.2)
    stats = layer.case.statistics(moment_and_sketch(6, 9) | Need.METRIC)
    for start in range(0, 60, 20):  # 3 probes of 20 rows
        stats.update_metric(layer.g[start : start + 20], layer.case.W, 1)
    per_probe = dalr(layer.case.W, stats, 0.1, 0.2)
    assert per_row.metric_tails is not None
    np.testing.assert_allclose(per_probe.metric_tails, 20 * per_row.metric_tails)
    np.testing.assert_allclose(per_probe.errors, per_row.errors, atol=1e-10)


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_the_metric_shrinks_by_oas_of_what_of_it_reaches_the_layer(shape: tuple[int, int]) -> None:
    layer = weighed(*shape, 60, 30, 1, "plain", "plain", "plain")
    G = layer.metric
    if shape[0] > shape[1]:  # seen in an orthonormal basis of the range of W
        Q = np.linalg.qr(layer.case.W)[0]
        G = Q.T @ G @ Q
    power = np.sum(layer.g**2, axis=1)
    expected = oas(np.sum(power) ** 2 / np.sum(power**2), len(G), float(np.trace(G)), float(np.sum(G**2)))
    assert SMALLEST_METRIC_SHRINKAGE < expected < 1
    assert layer.spectrum(None, "auto").metric_shrinkage == pytest.approx(expected)


def test_more_probes_are_trusted_more_but_never_beyond_a_twentieth() -> None:
    shares = [
        weighed(12, 20, 60, probes, 1, "plain", "plain", "plain").spectrum(None, "auto").metric_shrinkage
        for probes in (1, 10, 100, 10000)
    ]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == SMALLEST_METRIC_SHRINKAGE


def test_gradients_of_a_few_samples_only_are_trusted_as_little_as_those_alone() -> None:
    layer = weighed(12, 20, 60, 400, 1, "plain", "plain", "plain")
    few = layer.g * np.where(np.arange(400) % 40 == 0, 1, 1e-3)[:, None]
    many, one_in_forty = layer.spectrum(None, "auto"), Weighed(layer.case, few).spectrum(None, "auto")
    alone = Weighed(layer.case, layer.g[::40]).spectrum(None, "auto")
    assert many.metric_shrinkage == SMALLEST_METRIC_SHRINKAGE
    assert one_in_forty.metric_shrinkage == pytest.approx(alone.metric_shrinkage, rel=1e-3)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20)])
def test_on_unseen_samples_a_metric_of_a_hundred_probes_beats_none(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    m, n = shape
    inputs = rng.standard_normal((n, n)) * 0.8 ** np.arange(n)
    outputs = rng.standard_normal((m, m)) * 0.85 ** np.arange(m)
    W = rng.standard_normal(shape)
    layer = Weighed(Case(W, rng.standard_normal((300, n)) @ inputs.T), rng.standard_normal((100, m)) @ outputs.T)
    G, C = outputs @ outputs.T, inputs @ inputs.T
    with_metric, without = layer.spectrum(None, "auto"), layer.spectrum(None, None)
    for k in (2, 4, 8):
        assert loss(W, with_metric.factors(k), G, C) < 0.8 * loss(W, without.factors(k), G, C)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_compact_keeps_the_oblique_map_to_single_precision(shape: tuple[int, int]) -> None:
    layer = weighed(*shape, 50, 40, 0, "plain", "plain", "plain")
    spectrum = layer.spectrum(None, "auto")
    compact = spectrum.compact()
    assert compact.dual is not None
    assert compact.basis.dtype == compact.dual.dtype == np.float32
    one, other = spectrum.factors(4), compact.factors(4)
    np.testing.assert_allclose(other.A @ other.B, one.A @ one.B, atol=1e-5)
    np.testing.assert_array_equal(compact.metric_tails, spectrum.metric_tails)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_the_gauge_of_oblique_factors_shares_each_latents_size_too(shape: tuple[int, int]) -> None:
    layer = weighed(*shape, 50, 40, 0, "tiny", "plain", "plain")
    factors = layer.spectrum(None, 0.1).factors(4)
    latent = layer.case.X @ factors.B.T
    np.testing.assert_allclose(np.sqrt(np.mean(latent**2, axis=0)), np.linalg.norm(factors.A, axis=0), rtol=1e-9)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_in_single_precision_the_metric_comes_close(
    shape: tuple[int, int], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of large layers all is worked out in it, in few products."""
    monkeypatch.setattr("onnx_dalr.factorize.linalg.LARGE", 6 if large else 1000)
    monkeypatch.setattr("onnx_dalr.factorize.statistics.MANY", 6 if large else 1000)
    layer = weighed(*shape, 50, 40, 0, "plain", "plain", "offset")
    W = layer.case.W.astype(np.float32)
    stats = Statistics(*shape, moment_and_sketch(*shape) | Need.METRIC)
    stats.update(layer.case.X.astype(np.float32), W)
    stats.update_metric(layer.g.astype(np.float32), W, len(layer.g))
    light, exact = dalr(W, stats, 0.1, 0.1), layer.spectrum(0.1, 0.1)
    assert light.dual is not None
    assert light.dual.dtype == (np.float32 if large else np.float64)
    assert exact.metric_tails is not None
    for one, other in (
        (light.metric_tails, exact.metric_tails),
        (light.tails, exact.tails),
        (light.errors, exact.errors),
        (light.latent_power, exact.latent_power),
    ):
        assert one is not None
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-5 * other[0])
    assert metric_shrinkage(W, stats) == pytest.approx(metric_shrinkage(layer.case.W, stats), rel=1e-2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rank", [1, 4])
def test_what_a_large_weight_does_not_reach_is_no_error(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_dalr.factorize.linalg.LARGE", 6)
    rng = np.random.default_rng(rank)
    W = (rng.standard_normal((9, rank)) @ rng.standard_normal((rank, 6))).astype(np.float32)
    stats = Statistics(9, 6, moment_and_sketch(9, 6) | Need.METRIC)
    stats.update(rng.standard_normal((50, 6)).astype(np.float32), W)
    stats.update_metric(rng.standard_normal((40, 9)).astype(np.float32), W, 40)
    assert SMALLEST_METRIC_SHRINKAGE <= metric_shrinkage(W, stats) <= 1
    assert np.isfinite(dalr(W, stats, 0.1, "auto").tails).all()


def test_only_dalr_takes_a_metric() -> None:
    assert [name for name, method in METHODS.items() if method.takes_metric] == ["dalr"]


def test_settings_reach_the_method() -> None:
    layer = weighed(6, 9, 50, 40, 0, "plain", "plain", "plain")
    found = METHODS["dalr"].spectrum(layer.case.W, layer.statistics, Settings(shrinkage=0.25, metric=0.5))
    assert (found.shrinkage, found.metric_shrinkage) == (0.25, 0.5)
    default = METHODS["dalr"].spectrum(layer.case.W, layer.statistics, Settings())
    assert default.metric_shrinkage == layer.spectrum(None, "auto").metric_shrinkage
