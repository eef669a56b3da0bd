"""What every method hands out: the error of every rank at once, and the factors at one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.statistics import Float64

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
        method: Name of the method that made it (METHODS §1); "svd-bc" where `dalr` had nothing to learn from.
        basis: U, [m, r] float64 (float32 once `compact`) with orthonormal columns, best first.
        projected: The m×n matrix that is projected, W' = U_k U_kᵀ projected: W itself, or W K for dalr-2017.
        errors: e_k, [r + 1] float64: mean over the fit rows of ‖y − ŷ‖² at rank k, y = W x. Exact.
        tails: [r + 1] float64: the error to expect on unseen rows, Σ_{i>k} h_i; equal to `errors` where the
            method shrinks nothing.
        power: Mean of ‖y‖² over the fit rows.
        latent_power: E[l²] of the latent l = Uᵀ projected x, uncentred, [r] float64.
        mean: μ, [n], where the method compensates the bias; else None.
        weight_mean: W μ, [m], likewise.
        ridge: λ of the method's objective, or None; infinite at a = 1.
        shrinkage: a, the share of t·I that OAS put into the covariance, or None.
    """

    method: str
    basis: NDArray[Any]
    projected: NDArray[Any]
    errors: Float64
    tails: Float64
    power: float
    latent_power: Float64
    mean: Float64 | None = None
    weight_mean: Float64 | None = None
    ridge: float | None = None
    shrinkage: float | None = None

    @property
    def full_rank(self) -> int:
        """R = min(m, n): the layer itself."""
        return int(self.basis.shape[1])

    def calibration_error(self, rank: int) -> float:
        """√(Σ‖y−ŷ‖² / Σ‖y‖²) over the fit rows, y = W x: what compressing this layer alone does to its output."""
        return _relative(float(self.errors[rank]), self.power)

    def expected_error(self, rank: int) -> float:
        """The same ratio expected on unseen rows (the shrunk tail instead of e_k)."""
        return _relative(float(self.tails[rank]), self.power)

    def compact(self) -> Spectrum:
        """The same with the basis in float32: half the memory, and exact enough for weights of no more precision."""
        return replace(self, basis=self.basis.astype(np.float32))

    def factors(self, rank: int) -> Factors:
        """A = U·diag(s^½), B = diag(s^-½)·Uᵀ·projected: the balanced gauge of METHODS §7.

        Args:
            rank: k, 0 ≤ k ≤ r.

        Raises:
            ValueError: The rank is out of range.
        """
        if not 0 <= rank <= self.full_rank:
            raise ValueError(f"rank {rank} is not within 0..{self.full_rank}")
        U = self.basis[:, :rank].astype(np.float64)
        rows = U.T @ self.projected
        gauge = np.sqrt(_latent_scale(self.latent_power[:rank]))
        shift = np.zeros(len(U))
        if self.mean is not None and self.weight_mean is not None:
            shift = self.weight_mean - U @ (rows @ self.mean)
        return Factors(A=U * gauge, B=rows / gauge[:, None], shift=shift)


def _relative(error: float, power: float) -> float:
    if power <= 0:
        return 0.0
    return float(np.sqrt(max(error, 0.0) / power))


def _latent_scale(latent_power: Float64) -> Float64:
    """S = √E[l²], floored at 1e-6 of the largest; ones where the latent is always zero."""
    scale = np.sqrt(np.maximum(latent_power, 0.0))
    largest = scale.max(initial=0.0)
    return np.maximum(scale, GAUGE_FLOOR * largest) if largest > 0 else np.ones_like(scale)
