"""The few dense operations the methods share: the smaller side of W, and eigenvectors, best first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64, add_gram, symmetric

_CHUNK = 4096
ROOT_FLOOR = 1e-9


@dataclass(frozen=True, eq=False)
class Side:
    """W = Q·core with orthonormal Q and a core of r = min(m, n) rows.

    Every subspace the methods look for lies in the range of W, so the eigenproblem of size m can be solved on the
    r×n core and lifted back: U = Q·U_core. Where m ≤ n the core is W and Q is left out.

    Attributes:
        Q: [m, r] float64, or None for the identity.
        core: [r, n]; W's own dtype where it is W.
    """

    Q: Float64 | None
    core: NDArray[Any]

    def lift(self, U: Float64) -> Float64:
        """Takes vectors of the core's range, [r, j], to the layer's outputs, [m, j]."""
        return U if self.Q is None else self.Q @ U

    def lower(self, y: Float64) -> Float64:
        """Takes vectors in the range of W, [m, …], to the core, [r, …]."""
        return y if self.Q is None else self.Q.T @ y

    def gram(self) -> Float64:
        """core·coreᵀ, [r, r] float64: W Wᵀ seen from the core."""
        return gram(self.core.T)

    def sandwich(self, moment: Float64) -> Float64:
        """core·moment·coreᵀ, [r, r], of a symmetric [n, n] moment."""
        wide = self.core.astype(np.float64)
        product = wide @ moment @ wide.T
        return (product + product.T) / 2


def smaller_side(W: NDArray[Any]) -> Side:
    """The side of W, [m, n], on which its eigenproblems are smallest."""
    m, n = W.shape
    if m <= n:
        return Side(None, W)
    Q, core = scipy.linalg.qr(W.astype(np.float64), mode="economic", check_finite=False)
    return Side(np.asarray(Q, np.float64), core)


def gram(rows: NDArray[Any]) -> Float64:
    """rowsᵀ·rows, [d, d] float64, of rows [p, d] of any precision."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), _CHUNK):
        add_gram(total, rows[start : start + _CHUNK].astype(np.float64))
    return symmetric(total)


def roots(moment: Float64) -> tuple[Float64, Float64]:
    """L with L·Lᵀ the moment, [d, d], and L^-ᵀ: by Cholesky, which is many times cheaper than what follows it.

    Where the moment is singular: its symmetric root, eigenvalues floored at 1e-9 of the largest.
    """
    try:
        L = scipy.linalg.cholesky(moment, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return _symmetric_roots(moment)
    diagonal = np.diag(L)
    if diagonal.min() ** 2 <= ROOT_FLOOR * diagonal.max() ** 2:
        return _symmetric_roots(moment)
    inverse = scipy.linalg.solve_triangular(L, np.eye(len(L)), lower=True, trans="T", check_finite=False)
    return L, np.asarray(inverse)


def _symmetric_roots(moment: Float64) -> tuple[Float64, Float64]:
    values, V = eigenvectors(moment)
    root = np.sqrt(np.maximum(values, ROOT_FLOOR * values[0]))
    return (V * root) @ V.T, (V / root) @ V.T


def eigenvectors(H: Float64) -> tuple[Float64, Float64]:
    """Eigenvalues, largest first, and eigenvectors as columns of a symmetric [r, r] matrix."""
    values, vectors = scipy.linalg.eigh(H, overwrite_a=True, check_finite=False)
    return values[::-1].copy(), np.ascontiguousarray(vectors[:, ::-1])


def quadratic(U: Float64, moment: Float64) -> Float64:
    """uᵢᵀ·moment·uᵢ for every column uᵢ, [j]."""
    return np.asarray(np.einsum("ij,ij->j", U, moment @ U))


def tail(total: float, removed: Float64) -> Float64:
    """Total − Σ_{i≤k} removed_i for k = 0 … r, never negative."""
    left = total - np.concatenate([[0.0], np.cumsum(removed)])
    return np.maximum(left, 0.0)
