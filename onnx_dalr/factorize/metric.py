"""The output metric: factors weighed by what each output direction of a layer does to the network (methods.md §3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64, times
from onnx_dalr.factorize.linalg import Root, eigenvectors, fast_eigenvectors, gram, precision, tail
from onnx_dalr.factorize.shrinkage import oas, ridge_of
from onnx_dalr.factorize.spectrum import Spectrum
from onnx_dalr.factorize.statistics import Statistics

SMALLEST_METRIC_SHRINKAGE = 0.05
"""However many the probes: a direction in which none had a gradient is not free, samples to come may use it."""

_REACHED = 1e-6  # of the largest eigenvalue of WᵀW
_DAMPED = 1e-5  # of its mean eigenvalue: what single precision still tells from zero
_TILE = 512  # directions that are paired with those before them at a time


@dataclass(frozen=True, eq=False)
class _Oblique:
    """W' = A_k D_kᵀ projected, seen from the smaller side of q = min(m, n).

    Attributes:
        values: h, [q], largest first: the loss that each direction saves, G taken in units of t_G.
        basis: A, [m, q].
        dual: D, [q, q].
        projected: W, or None for the identity.
        pulled: What pairs with a moment times D: A where m ≤ n, WᵀA otherwise, [q, q].
        covariance: S = W C Wᵀ where m ≤ n, C otherwise, [q, q].
        power: tr W C Wᵀ.
        shrunk_power: The same of the shrunk covariance.
        saved: What each direction saves of it, [q].
        mean: W μ where m ≤ n, μ otherwise, [q].
    """

    values: Float64
    basis: NDArray[Any]
    dual: NDArray[Any]
    projected: NDArray[Any] | None
    pulled: NDArray[Any]
    covariance: NDArray[Any]
    power: float
    shrunk_power: float
    saved: Float64
    mean: Float64

    def left(self) -> tuple[Float64, Float64]:
        """(tr (W−W') C (W−W')ᵀ for every rank, exactly, [q + 1]; dᵢᵀ C dᵢ as seen by `dual`, [q]).

        The directions are not orthogonal in C, so that they do not simply add up: with B = Dᵀ projected it is
        tr W C Wᵀ − 2 Σ aᵢᵀ W C bᵢ + Σ (aᵢᵀaⱼ)(bᵢ C bⱼᵀ) over i, j ≤ k. Pairs below the diagonal alone are worked out.
        """
        seen = self.covariance @ self.dual
        own, across = np.empty(len(self.values)), np.empty(len(self.values))
        latent = np.empty(len(self.values))
        for start in range(0, len(own), _TILE):
            stop = min(start + _TILE, len(own))
            here = slice(start, stop)
            pairs = (self.basis[:, here].T @ self.basis[:, :stop]) * (self.dual[:, here].T @ seen[:, :stop])
            latent[here] = np.einsum("ij,ij->j", self.dual[:, here], seen[:, here])
            own[here] = 2 * np.einsum("ij,ij->j", self.pulled[:, here], seen[:, here]) - np.diag(pairs, start)
            across[here] = np.tril(pairs, start - 1).sum(axis=1, dtype=np.float64)
        return tail(self.power, own - 2 * across), latent


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
    errors, latent = found.left()
    gains = np.maximum(found.values, 0.0)
    return Spectrum(
        method="dalr",
        basis=found.basis,
        projected=found.projected,
        errors=errors,
        tails=tail(found.shrunk_power, found.saved),
        power=found.power + float(weight_mean @ weight_mean),
        latent_power=latent + (found.dual.T @ found.mean) ** 2,
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
    if not G.any():
        return 1.0
    if stats.m > stats.n:
        G = (_seen_through_large if precision(W, G) == np.float32 else _seen_through)(W, G)
    # tr G² is the sum of all squares where G is symmetric.
    trace, trace_of_square = float(np.trace(G)), float(np.einsum("ij,ji->", G, G, dtype=np.float64))
    return max(oas(stats.metric_count, len(G), trace, trace_of_square), SMALLEST_METRIC_SHRINKAGE)


def _seen_through(W: NDArray[Any], G: Float64) -> Float64:
    """Wᵀ G W in the coordinates of the directions that W reaches, in which WᵀW is the identity."""
    values, V = eigenvectors(gram(W))
    reached = values > _REACHED * values[0]
    white = V[:, reached] / np.sqrt(values[reached])
    return np.asarray(white.T @ G @ white)


def _seen_through_large(W: NDArray[Any], G: Float64) -> NDArray[Any]:
    """A matrix of the same traces, of it and of its square, in a tenth of the time: (WᵀW + εI)⁻¹ Wᵀ G W.

    What W hardly reaches is damped by ε in place of being left out.
    """
    WtW = gram(W)
    WtW /= float(np.trace(WtW)) / len(WtW)
    WtW[np.diag_indices_from(WtW)] += _DAMPED
    try:
        root = scipy.linalg.cho_factor(WtW.astype(np.float32), lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        return _seen_through(W, G)
    small = (G / (np.trace(G) / len(G))).astype(np.float32)  # of gradients, squares may be too small for float32
    return np.asarray(scipy.linalg.cho_solve(root, small, overwrite_b=True, check_finite=False))


def _on_outputs(W: NDArray[Any], stats: Statistics, a: float, s: float) -> _Oblique:
    """U = eig(Lᵀ H L), H = W C Wᵀ, A = L^-ᵀ U, D = L U with G = L Lᵀ, in the m outputs: any root of G gives that W'.

    Then H D = A Λ and Dᵀ H D = Λ: of what C weighs, direction i saves λᵢ ‖aᵢ‖², whatever others there are.
    """
    t, unit = stats.trace / stats.n, stats.metric_trace / stats.m  # G in units of t_G is shrunk toward the identity
    S = stats.output_covariance
    power, dtype = float(np.trace(S)), precision(W, S)
    S = S.astype(dtype, copy=False)
    G = stats.output_metric
    G *= (1 - s) / unit
    G[np.diag_indices_from(G)] += s
    root = Root.of(G.astype(dtype, copy=False))
    del G
    H = gram(W.T).astype(dtype, copy=False)
    H *= a * t
    shrunk_power = (1 - a) * power + float(np.trace(H, dtype=np.float64))
    H += dtype.type(1 - a) * S
    values, U = fast_eigenvectors(root.around(H))
    del H
    A, D = root.under(U), root.times(U)
    length = _unit_columns(A, D)
    return _Oblique(
        values=values,
        basis=A,
        dual=D,
        projected=W,
        pulled=A,
        covariance=S,
        power=power,
        shrunk_power=shrunk_power,
        saved=values * length**2,
        mean=times(W, stats.mean),
    )


def _on_inputs(W: NDArray[Any], stats: Statistics, a: float, s: float) -> _Oblique:
    """V = eig(Lᵀ WᵀG W L), A = W L V, D = L^-ᵀ V with C = L Lᵀ, in the n inputs: Wᵀ G W is all there is of G.

    Then W C D = A and Dᵀ C D = I: of what C weighs, direction i saves ‖aᵢ‖².
    """
    C, WtW, t = stats.input_covariance, gram(W), stats.trace / stats.n
    unit, dtype = stats.metric_trace / stats.m, precision(W, C)
    power, weight_power = float(np.sum(WtW * C)), float(np.trace(WtW))
    shrunk = (1 - a) * C
    shrunk[np.diag_indices_from(shrunk)] += a * t
    root = Root.of(shrunk.astype(dtype, copy=False))
    del shrunk
    G = stats.output_metric
    G *= (1 - s) / unit
    WtW *= s
    G += WtW
    del WtW
    values, V = fast_eigenvectors(root.around(G.astype(dtype, copy=False)))
    del G
    A, D = _product(W, root.times(V)), root.under(V)
    length = _unit_columns(A, D)
    return _Oblique(
        values=values,
        basis=A,
        dual=D,
        projected=None,
        pulled=_product(W.T, A),
        covariance=C.astype(dtype, copy=False),
        power=power,
        shrunk_power=(1 - a) * power + a * t * weight_power,
        saved=length**2,
        mean=stats.mean,
    )


def _product(W: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """W·right in the precision that the right side is worked with in."""
    return np.asarray(W @ right) if right.dtype == np.float32 else times(W, right)


def _unit_columns(A: NDArray[Any], D: NDArray[Any]) -> Float64:
    """The lengths of A's columns, which become one: A Dᵀ is kept, as in a projection (methods.md §7.3). Both change."""
    length = np.linalg.norm(A, axis=0)
    scale = np.where(length == 0, 1, length)
    A /= scale
    D *= scale
    return np.asarray(length, np.float64)
