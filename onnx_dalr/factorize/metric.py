"""The output metric: factors weighed by what each output direction of a layer does to the network (methods.md §3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64, times
from onnx_dalr.factorize.linalg import eigenvectors, fast_eigenvectors, gram, precision, quadratic, roots, tail
from onnx_dalr.factorize.shrinkage import oas, ridge_of
from onnx_dalr.factorize.spectrum import Spectrum
from onnx_dalr.factorize.statistics import Statistics

SMALLEST_METRIC_SHRINKAGE = 0.05
"""However many the probes: a direction in which none had a gradient is not free, samples to come may use it."""

_REACHED = 1e-6  # of the largest eigenvalue of WᵀW


@dataclass(frozen=True, eq=False)
class _Oblique:
    """W' = A_k D_kᵀ projected, seen from the smaller side of q = min(m, n).

    Attributes:
        values: h, [q], largest first: the loss that each direction saves, G taken in units of t_G.
        basis: A, [m, q].
        dual: D, [q, q].
        projected: W, or None for the identity.
        pulled: What pairs with a moment times D: A where m ≤ n, WᵀA otherwise, [q, q].
        gram: AᵀA, [q, q].
        covariance: S = W C Wᵀ where m ≤ n, C otherwise, [q, q].
        weights: W Wᵀ where m ≤ n, the identity otherwise, [q, q].
        power: tr W C Wᵀ.
        weight_power: ‖W‖².
        mean: W μ where m ≤ n, μ otherwise, [q].
    """

    values: Float64
    basis: NDArray[Any]
    dual: NDArray[Any]
    projected: NDArray[Any] | None
    pulled: NDArray[Any]
    gram: NDArray[Any]
    covariance: NDArray[Any]
    weights: NDArray[Any]
    power: float
    weight_power: float
    mean: Float64

    def left(self, moment: NDArray[Any], total: float) -> Float64:
        """The trace of (W−W') Σ (W−W')ᵀ for every rank, Σ = C or I, exactly, [q + 1].

        The directions are not orthogonal, so that they do not simply add up: with B = Dᵀ projected it is
        tr W Σ Wᵀ − 2 Σ aᵢᵀ W Σ bᵢ + Σ (aᵢᵀaⱼ)(bᵢ Σ bⱼᵀ) over i, j ≤ k.
        """
        seen = moment @ self.dual
        pairs = self.gram * (self.dual.T @ seen)
        own = 2 * np.einsum("ij,ij->j", self.pulled, seen).astype(np.float64) - np.diag(pairs)
        return tail(total, own - 2 * np.tril(pairs, -1).sum(axis=1, dtype=np.float64))


def two_sided(W: NDArray[Any], stats: Statistics, a: float, s: float) -> Spectrum:
    """Min tr[G (W−W') C (W−W')ᵀ] over rank k, with C = (1−a)·Ĉ + a·t·I and G = (1−s)·Ĝ + s·t_G·I (methods.md §3).

    Args:
        W: [m, n].
        stats: With the moment of the smaller side and gradients that are not all zero.
        a: Share of t·I, t = tr Ĉ/n.
        s: Share of t_G·I, t_G = tr Ĝ/m.
    """
    t, unit = stats.trace / stats.n, stats.metric_trace / stats.m
    found = (_on_outputs if stats.m <= stats.n else _on_inputs)(W, stats, a, s)
    weight_mean = times(W, stats.mean)
    errors = found.left(found.covariance, found.power)
    gains = np.maximum(found.values, 0.0)
    return Spectrum(
        method="dalr",
        basis=found.basis,
        projected=found.projected,
        errors=errors,
        tails=(1 - a) * errors + a * t * found.left(found.weights, found.weight_power),
        power=found.power + float(weight_mean @ weight_mean),
        latent_power=quadratic(found.dual, found.covariance) + (found.dual.T @ found.mean) ** 2,
        mean=stats.mean,
        weight_mean=weight_mean,
        ridge=ridge_of(a, t),
        shrinkage=a,
        dual=found.dual,
        metric_tails=unit * np.append(np.cumsum(gains[::-1])[::-1], 0.0),
        metric_shrinkage=s,
    )


def metric_share(W: NDArray[Any], stats: Statistics, asked: float | Literal["auto"] | None) -> float | None:
    """The share s that a setting comes to; None where there is no metric, 1 where it has no say in the factors.

    Args:
        W: [m, n].
        stats: Of the layer.
        asked: s in [0, 1], "auto" by the number of probes, or None for no metric.
    """
    if asked is None or stats.metric_probes == 0:
        return None
    if stats.metric_trace <= 0:
        return 1.0
    return metric_shrinkage(W, stats) if asked == "auto" else asked


def metric_shrinkage(W: NDArray[Any], stats: Statistics) -> float:
    """The share s by OAS from as many independent gradients as G is worth (`Statistics.metric_count`), in [0.05, 1].

    Where m > n, Wᵀ G W is taken to the coordinates in which its target WᵀW is the identity; directions that W
    hardly reaches are left out.
    """
    G = stats.output_metric
    if stats.m > stats.n:
        values, V = eigenvectors(gram(W))
        reached = values > _REACHED * values[0]
        white = V[:, reached] / np.sqrt(values[reached])
        G = white.T @ G @ white
    if not G.any():
        return 1.0
    return max(oas(stats.metric_count, len(G), float(np.trace(G)), float(np.sum(G**2))), SMALLEST_METRIC_SHRINKAGE)


def _on_outputs(W: NDArray[Any], stats: Statistics, a: float, s: float) -> _Oblique:
    """U = eig(Lᵀ W C Wᵀ L), A = L^-ᵀ U, D = L U with G = L Lᵀ, in the m outputs: any root of G gives the same W'."""
    S, WWt, t = stats.output_covariance, gram(W.T), stats.trace / stats.n
    unit = stats.metric_trace / stats.m  # G in units of t_G is shrunk toward the identity
    power, weight_power, dtype = float(np.trace(S)), float(np.trace(WWt)), precision(W, S)
    S, WWt = S.astype(dtype, copy=False), WWt.astype(dtype, copy=False)
    G = (1 - s) * stats.output_metric / unit
    G[np.diag_indices_from(G)] += s
    root, inverse = roots(G.astype(dtype, copy=False))
    del G
    values, U = fast_eigenvectors(root.T @ ((1 - a) * S + a * t * WWt) @ root)
    A, D = _unit_columns(inverse @ U, root @ U)
    return _Oblique(
        values=values,
        basis=A,
        dual=D,
        projected=W,
        pulled=A,
        gram=A.T @ A,
        covariance=S,
        weights=WWt,
        power=power,
        weight_power=weight_power,
        mean=times(W, stats.mean),
    )


def _on_inputs(W: NDArray[Any], stats: Statistics, a: float, s: float) -> _Oblique:
    """V = eig(Lᵀ WᵀG W L), A = W L V, D = L^-ᵀ V with C = L Lᵀ, in the n inputs: Wᵀ G W is all there is of G."""
    C, WtW, t = stats.input_covariance, gram(W), stats.trace / stats.n
    unit = stats.metric_trace / stats.m
    identity = np.eye(stats.n)
    root, inverse = roots((1 - a) * C + a * t * identity)
    values, V = fast_eigenvectors(root.T @ ((1 - s) * stats.output_metric / unit + s * WtW) @ root)
    A, D = _unit_columns(times(W, root @ V), inverse @ V)
    pulled = times(W.T, A)
    return _Oblique(
        values=values,
        basis=A,
        dual=D,
        projected=None,
        pulled=pulled,
        gram=A.T @ A,
        covariance=C,
        weights=identity,
        power=float(np.sum(WtW * C)),
        weight_power=float(np.trace(WtW)),
        mean=stats.mean,
    )


def _unit_columns(A: NDArray[Any], D: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """A and D with the product A Dᵀ kept and columns of A of length one, as in a projection (methods.md §7.3)."""
    length = np.linalg.norm(A, axis=0)
    length[length == 0] = 1.0
    return A / length, D * length
