"""The paper's own method: uncentred, ridge toward zero, bias unchanged (Masana et al. 2017, §4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64, symmetric
from onnx_dalr.factorize.linalg import Side, eigenvectors, quadratic, smaller_side, tail
from onnx_dalr.factorize.spectrum import Spectrum
from onnx_dalr.factorize.statistics import Need, Statistics

_SAFE = 1e-9  # of the trace: a smaller λ does not keep a singular moment positive definite in rounding


@dataclass(frozen=True)
class Ridge:
    """λ of `dalr-2017`: `value` · tr(X Xᵀ)/n, or `value` itself when absolute."""

    value: float = 1e-3
    absolute: bool = False

    def at(self, trace: float, n: int) -> float:
        """λ for inputs whose Σ‖x‖² is `trace`."""
        return self.value if self.absolute else self.value * trace / n

    def __str__(self) -> str:
        return f"abs:{self.value:g}" if self.absolute else f"{self.value:g}"


def rows_or_moment(m: int, n: int) -> Need:
    """The rows while there are fewer than n, the n×n moment from then on."""
    del m, n
    return Need.ROWS


def dalr_2017(W: NDArray[Any], stats: Statistics, ridge: Ridge | None = None) -> Spectrum:
    """Z = W X, U = its first k left singular vectors, A = U, B = Uᵀ Z Xᵀ (X Xᵀ + λI)⁻¹ (DALR §4.2).

    With p < n rows the n×n matrix is never formed: Z Xᵀ (X Xᵀ + λI)⁻¹ = Z (Xᵀ X + λI_p)⁻¹ Xᵀ.

    Args:
        W: [m, n].
        stats: With the rows or, from n rows on, the input moment.
        ridge: λ; 1e-3·tr(X Xᵀ)/n when left out.
    """
    wide = W.astype(np.float64)
    side = smaller_side(wide)
    lam = (ridge or Ridge()).at(float(stats.squares.sum()), stats.n)
    rows = stats.rows
    solve = _primal if rows is None else _dual
    # y = W x, ỹ = W K x: U is chosen by y and projects ỹ, so the error takes both moments and the cross moment.
    projected, S, cross, latent = solve(side, stats, lam)
    _, U = eigenvectors(S.copy())
    latent_power = quadratic(U, latent)
    # ‖y − Σ uᵢ lᵢ‖² = ‖y‖² − Σ (2 (uᵢᵀy) lᵢ − lᵢ²): additive over the directions, as U is orthonormal.
    errors = tail(float(np.trace(S)), 2 * quadratic(U, cross) - latent_power)
    return Spectrum(
        method="dalr-2017",
        basis=side.lift(U),
        projected=projected,
        errors=errors,
        tails=errors,
        power=float(np.trace(S)),
        latent_power=latent_power,
        ridge=lam,
    )


_Solved = tuple[Float64, Float64, Float64, Float64]


def _primal(side: Side, stats: Statistics, lam: float) -> _Solved:
    """From the n×n moment: W K with K = M (M + λI)⁻¹, then E[y yᵀ], E[y ỹᵀ], E[ỹ ỹᵀ] in the core, ỹ = W K x."""
    assert stats.input is not None
    M = symmetric(stats.input)
    K = _solve(M, lam, M)  # M and (M + λI)⁻¹ commute
    core, core_K = side.core, side.core @ K
    core_M = core @ M
    return (side.lift(core_K), *_moments(core_M @ core.T, core_M @ core_K.T, core_K @ M @ core_K.T, stats.count))


def _dual(side: Side, stats: Statistics, lam: float) -> _Solved:
    """From the p×n rows, through p×p systems only: W K with K = M (M + λI)⁻¹, and the three moments of `_primal`."""
    assert stats.rows is not None
    X = stats.rows.astype(np.float64)
    gram = X @ X.T
    Z = side.core @ X.T
    projected = side.lift(_solve(gram, lam, Z.T).T @ X)
    Z_tilde = side.lower(projected) @ X.T
    return (projected, *_moments(Z @ Z.T, Z @ Z_tilde.T, Z_tilde @ Z_tilde.T, stats.count))


def _moments(S: Float64, cross: Float64, latent: Float64, count: int) -> tuple[Float64, Float64, Float64]:
    return (S + S.T) / (2 * count), cross / count, latent / count


def _solve(moment: Float64, lam: float, right: Float64) -> Float64:
    """(moment + λI)⁻¹·right; the pseudo-inverse where λ is zero or lost in rounding."""
    if lam > _SAFE * float(np.trace(moment)):
        system = moment + lam * np.eye(len(moment))
        return np.asarray(scipy.linalg.solve(system, right, assume_a="pos", check_finite=False))
    values, V = scipy.linalg.eigh(moment, check_finite=False)
    seen = values > len(values) * np.finfo(np.float64).eps * values[-1]
    V = V[:, seen]
    return np.asarray((V / (values[seen] + lam)) @ (V.T @ right))
