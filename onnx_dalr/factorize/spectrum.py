"""What every method hands out: the error of every rank at once, and the factors at one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64, times

GAUGE_FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class Factors:
    """W ≈ A B at one rank.

    Attributes:
        A: [m, k] float64, the second of the two new weights.
        B: [k, n] float64, the first.
        shift: [m] float64, to be added to the bias; all zeros where the method leaves the bias alone.
    """

    A: Float64
    B: Float64
    shift: Float64


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The output error of one layer for every rank k = 0 … r, from one eigendecomposition.

    Attributes:
        method: Name of the method that made it (methods.md §1); "svd-bc" where `dalr` had nothing to learn from.
        basis: A, [m, r] float64 (float32 once `compact`), columns of length one, best first; orthonormal without a
            `dual`. A column that W cannot reach is zero.
        projected: [q, n]: W itself, or W K for dalr-2017; None for the identity, q = n.
        dual: D, [q, r] like the basis, or None for A itself: W' = A_k D_kᵀ projected. An oblique projection, made by
            an output metric; orthogonal without.
        errors: e_k, [r + 1] float64: mean over the fit rows of ‖y − ŷ‖² at rank k, y = W x. Exact.
        tails: [r + 1] float64: the error to expect on unseen rows, Σ_{i>k} h_i; equal to `errors` where the
            method shrinks nothing. With a dual neither needs to fall with every k.
        power: Mean of ‖y‖² over the fit rows.
        latent_power: E[l²] of the latent l = Dᵀ projected x, uncentred, [r] float64.
        mean: μ, [n], where the method compensates the bias; else None.
        weight_mean: W μ, [m], where the method compensates the bias; else None.
        ridge: λ of the method's objective, or None; infinite at a = 1.
        shrinkage: a, the share of t·I that OAS put into the covariance, or None.
        metric_tails: [r + 1] float64: the expected loss at the network's output per sample, in the unit of the seeds:
            tr[G (W−W') C (W−W')ᵀ] with both shrunk (methods.md §3.3); falls with k. None without a metric.
        metric_shrinkage: s, the share of t_G·I in the metric, or None; at 1 the metric had no say in the factors.
    """

    method: str
    basis: NDArray[Any]
    projected: NDArray[Any] | None
    errors: Float64
    tails: Float64
    power: float
    latent_power: Float64
    mean: Float64 | None = None
    weight_mean: Float64 | None = None
    ridge: float | None = None
    shrinkage: float | None = None
    dual: NDArray[Any] | None = None
    metric_tails: Float64 | None = None
    metric_shrinkage: float | None = None

    @property
    def full_rank(self) -> int:
        """R = min(m, n): the layer itself."""
        return int(self.basis.shape[1])

    def calibration_error(self, rank: int) -> float:
        """√(Σ‖y−ŷ‖² / Σ‖y‖²) over the fit rows, y = W x: what compressing this layer alone does to its output."""
        return _relative(float(self.errors[rank]), self.power)

    def expected_error(self, rank: int) -> float:
        """√(E‖y−ŷ‖² / E‖y‖²) to expect on unseen rows: the shrunk tail in place of e_k."""
        return _relative(float(self.tails[rank]), self.power)

    def compact(self) -> Spectrum:
        """With basis and dual in float32: half the memory, exact enough for weights of no more precision."""
        dual = None if self.dual is None else self.dual.astype(np.float32, copy=False)
        return replace(self, basis=self.basis.astype(np.float32, copy=False), dual=dual)

    def factors(self, rank: int) -> Factors:
        """A·diag(s^½) and diag(s^-½)·Dᵀ·projected: the balanced gauge of methods.md §7.3.

        Args:
            rank: k, 0 ≤ k ≤ r.

        Raises:
            ValueError: The rank is out of range.
        """
        if not 0 <= rank <= self.full_rank:
            raise ValueError(f"rank {rank} is not within 0..{self.full_rank}")
        A = self.basis[:, :rank].astype(np.float64)
        D = A if self.dual is None else self.dual[:, :rank].astype(np.float64)
        rows = D.T if self.projected is None else times(self.projected.T, D).T
        gauge = np.sqrt(_latent_scale(self.latent_power[:rank]))
        shift = np.zeros(len(A))
        if self.mean is not None and self.weight_mean is not None:
            shift = self.weight_mean - A @ (rows @ self.mean)
        return Factors(A=A * gauge, B=rows / gauge[:, None], shift=shift)


def _relative(error: float, power: float) -> float:
    if power <= 0:
        return 0.0
    return float(np.sqrt(max(error, 0.0) / power))


def _latent_scale(latent_power: Float64) -> Float64:
    """S = √E[l²], floored at 1e-6 of the largest; ones where the latent is always zero."""
    scale = np.sqrt(np.maximum(latent_power, 0.0))
    largest = scale.max(initial=0.0)
    return np.maximum(scale, GAUGE_FLOOR * largest) if largest > 0 else np.ones_like(scale)
