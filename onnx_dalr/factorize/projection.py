"""The three methods that project W itself: `svd`, `svd-bc` and `dalr` (methods.md §1, §2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64, times
from onnx_dalr.factorize.linalg import Side, eigenvectors, fast_eigenvectors, precision, quadratic, smaller_side, tail
from onnx_dalr.factorize.metric import metric_share, two_sided
from onnx_dalr.factorize.shrinkage import oas, ridge_of
from onnx_dalr.factorize.spectrum import Spectrum
from onnx_dalr.factorize.statistics import Need, Statistics


def moment_on_smaller_side(m: int, n: int) -> Need:
    """The second moment that gives S = W C Wᵀ: of the outputs where m ≤ n, of the inputs otherwise."""
    return Need.OUTPUT if m <= n else Need.INPUT


def moment_and_sketch(m: int, n: int) -> Need:
    """The second moment that gives S = W C Wᵀ, and a sketch to read tr C² from where that is the outputs'."""
    return Need.OUTPUT | Need.SKETCH if m <= n else Need.INPUT


def svd(W: NDArray[Any], stats: Statistics) -> Spectrum:
    """Truncated SVD of W, bias unchanged (DALR §4.1). The statistics only tell its error.

    Args:
        W: [m, n].
        stats: With the moment of the smaller side.
    """
    side = smaller_side(W)
    _, U = eigenvectors(side.gram())
    return _project("svd", W, side, U, stats, compensate=False)


def svd_bc(W: NDArray[Any], stats: Statistics) -> Spectrum:
    """Truncated SVD of W with b' = b + (W−W')μ (DALR §4.1, eq. 4 with the 1/p it forgets).

    Args:
        W: [m, n].
        stats: With the moment of the smaller side.
    """
    side = smaller_side(W)
    _, U = eigenvectors(side.gram())
    return _project("svd-bc", W, side, U, stats, compensate=True)


def dalr(
    W: NDArray[Any],
    stats: Statistics,
    shrinkage: float | None = None,
    metric: float | Literal["auto"] | None = None,
) -> Spectrum:
    """Min ‖(W−W')(X−μ)‖²/p + λ‖W−W'‖² over rank k (methods.md §2): U = eig_k of H = (1−a)·S + a·t·W Wᵀ.

    H is W (C + λI) Wᵀ with λ = t·a/(1−a), scaled by 1−a so that it stays finite at a = 1, where the method is
    `svd-bc`. With one row or a constant input it is `svd-bc` too, and says so.

    With gradients in the statistics and a metric asked for, both sides are weighed (methods.md §3, `two_sided`).

    Args:
        W: [m, n].
        stats: With the moment of the smaller side and, where m ≤ n, the sketch.
        shrinkage: a in [0, 1] to use in place of OAS.
        metric: s in [0, 1], the share of t_G·I in the metric; "auto": by the number of probes; None: no metric.
    """
    if stats.learned_nothing:
        return _blind(W, stats)
    a = oas(stats.count, stats.n, stats.trace, stats.trace_of_square) if shrinkage is None else shrinkage
    s = metric_share(W, stats, metric)
    if s is None:
        return _one_sided(W, stats, a)
    if s < 1:
        return two_sided(W, stats, a, s)
    # t_G·I weighs all outputs alike: the factors are those without a metric, their tails in its unit all the same.
    plain = _one_sided(W, stats, a)
    return replace(plain, metric_tails=plain.tails * stats.metric_trace / stats.m, metric_shrinkage=1.0)


def _one_sided(W: NDArray[Any], stats: Statistics, a: float) -> Spectrum:
    t = stats.trace / stats.n
    side = smaller_side(W)
    S, WWt = _output_covariance(side, stats), side.gram()
    H = (1 - a) * S + a * t * WWt
    _, U = (fast_eigenvectors if precision(W, S) == np.float32 else eigenvectors)(H)
    spectrum = _project("dalr", W, side, U, stats, compensate=True)
    left_in_W = tail(float(np.trace(WWt)), quadratic(U, WWt, precision(W, WWt)))
    return replace(
        spectrum,
        tails=spectrum.errors * (1 - a) + a * t * left_in_W,
        ridge=ridge_of(a, t),
        shrinkage=a,
    )


def _blind(W: NDArray[Any], stats: Statistics) -> Spectrum:
    """svd-bc without a covariance: exact on what was seen, and its expected error is the share of W left out."""
    spectrum = svd_bc(W, stats)
    wide = W.astype(np.float64)
    left = tail(float(np.sum(wide**2)), np.sum((spectrum.basis.T @ wide) ** 2, axis=1))
    return replace(spectrum, tails=left * (spectrum.power / left[0] if left[0] > 0 else 0.0))


def _output_covariance(side: Side, stats: Statistics) -> Float64:
    """S seen from the core, [r, r]."""
    return stats.output_covariance if side.Q is None else side.sandwich(stats.input_covariance)


def _project(method: str, W: NDArray[Any], side: Side, U: Float64, stats: Statistics, *, compensate: bool) -> Spectrum:
    """The Spectrum of W' = U Uᵀ W; U, [r, r], in the core.

    e_k = tr S − Σ_{i≤k} uᵢᵀ S uᵢ with S centred where the bias takes the mean back, uncentred where it does not.
    """
    weight_mean = times(W, stats.mean)
    mean_in_core = side.lower(weight_mean)
    S = _output_covariance(side, stats)
    variance, offset = quadratic(U, S, precision(W, S)), (U.T @ mean_in_core) ** 2
    trace, mean_power = float(np.trace(S)), float(mean_in_core @ mean_in_core)
    errors = tail(trace, variance) if compensate else tail(trace + mean_power, variance + offset)
    return Spectrum(
        method=method,
        basis=side.lift(U),
        projected=W,
        errors=errors,
        tails=errors,
        power=trace + mean_power,
        latent_power=variance + offset,
        mean=stats.mean if compensate else None,
        weight_mean=weight_mean if compensate else None,
    )
