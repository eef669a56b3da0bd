"""What every method hands out: the error of every rank at once, and the factors at one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import LARGE, Float64, times

GAUGE_FLOOR = 1e-6

REMEMBERED = 1 << 27
"""Bytes of projections that are remembered of one layer."""


@dataclass(frozen=True, eq=False)
class Factors:
    """W ≈ A B at one rank.

    Attributes:
        A: [m, k] float64, or float32 of a large weight in it; the second of the two new weights.
        B: [k, n], the same; the first.
        shift: [m] float64, to be added to the bias; all zeros where the method leaves the bias alone.
    """

    A: NDArray[Any]
    B: NDArray[Any]
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
    _projections: list[NDArray[Any]] = field(init=False, default_factory=list, repr=False)

    @property
    def full_rank(self) -> int:
        """R = min(m, n): the layer itself."""
        return int(self.basis.shape[1])

    @property
    def _precision(self) -> np.dtype[Any]:
        """In which factors are made: where all there is is in float32, sums in it are as exact as what is stored."""
        given = [self.basis, *(one for one in (self.dual, self.projected) if one is not None)]
        light = all(one.dtype == np.float32 for one in given) and min(min(one.shape) for one in given) >= LARGE
        return np.dtype(np.float32 if light else np.float64)

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

    def put_away(self, put: Callable[[NDArray[Any]], NDArray[Any]]) -> Spectrum:
        """With basis and dual where they take no memory."""
        return replace(self, basis=put(self.basis), dual=None if self.dual is None else put(self.dual))

    def factors(self, rank: int) -> Factors:
        """A·diag(s^½) and diag(s^-½)·Dᵀ·projected: the balanced gauge of methods.md §7.3.

        Args:
            rank: k, 0 ≤ k ≤ r.

        Raises:
            ValueError: The rank is out of range.
        """
        if not 0 <= rank <= self.full_rank:
            raise ValueError(f"rank {rank} is not within 0..{self.full_rank}")
        dtype = self._precision
        A = self.basis[:, :rank].astype(dtype)
        D = A if self.dual is None else self.dual[:, :rank].astype(dtype)
        if self.projected is None:
            rows = D.T
        else:
            rows = self._known_rows(D) if dtype == np.float32 else times(self.projected.T, D).T
        gauge = np.sqrt(_latent_scale(self.latent_power[:rank])).astype(dtype)
        shift = np.zeros(len(A))
        if self.mean is not None and self.weight_mean is not None:
            shift = self.weight_mean - A @ (rows @ self.mean)
        return Factors(A=A * gauge, B=rows / gauge[:, None], shift=shift)

    def _known_rows(self, D: NDArray[Any]) -> NDArray[Any]:
        """D_kᵀ projected, [k, n], of a large weight: a search asks for one rank after the other.

        What was worked out is remembered as long as it is no more than `REMEMBERED`.
        """
        assert self.projected is not None
        known = self._projections[0] if self._projections else np.zeros((0, self.projected.shape[1]), D.dtype)
        rank = D.shape[1]
        if rank > len(known):
            known = np.concatenate([known, D[:, len(known) :].T @ self.projected])
            if known.nbytes <= REMEMBERED:
                self._projections[:] = [known]
        return known[:rank]


def _relative(error: float, power: float) -> float:
    if power <= 0:
        return 0.0
    return float(np.sqrt(max(error, 0.0) / power))


def _latent_scale(latent_power: Float64) -> Float64:
    """S = √E[l²], floored at 1e-6 of the largest; ones where the latent is always zero."""
    scale = np.sqrt(np.maximum(latent_power, 0.0))
    largest = scale.max(initial=0.0)
    return np.maximum(scale, GAUGE_FLOOR * largest) if largest > 0 else np.ones_like(scale)
