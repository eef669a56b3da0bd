"""The few dense operations the methods share: the smaller side of W, and eigenvectors, best first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import LARGE, Float64, add_gram, is_ordinary, mirrored

_CHUNK = 4096
ROOT_FLOOR = 1e-9

_TINY, _HUGE = 1e-20, 1e20
"""Mean squares that float32 holds with room to spare."""


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
    """rowsᵀ·rows, [d, d] float64, of rows [p, d] of any precision.

    Of many columns in float32, if the rows are, a few thousand at a time: added up in float64 it is as exact as they.
    """
    width = rows.shape[1]
    as_they_are = rows.dtype == np.float32 and width >= LARGE
    total = np.zeros((width, width))
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        add_gram(total, some if as_they_are and is_ordinary(some) else some.astype(np.float64))
    return mirrored(total)


@dataclass(frozen=True, eq=False)
class Root:
    """L with L·Lᵀ a moment, [d, d], in what it is used for.

    By Cholesky, which is many times cheaper than what follows it, and with L a triangle: what it multiplies takes half
    the time. Where the moment is singular: its symmetric root, eigenvalues floored at 1e-9 of the largest.

    Attributes:
        L: [d, d].
        inverse: L^-ᵀ where L is no triangle.
    """

    L: NDArray[Any]
    inverse: NDArray[Any] | None

    @classmethod
    def of(cls, moment: NDArray[Any]) -> Root:
        """Of a symmetric [d, d] moment."""
        try:
            L = scipy.linalg.cholesky(moment, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return cls(*_symmetric_roots(moment))
        diagonal = np.diag(L)
        if diagonal.min() ** 2 <= ROOT_FLOOR * diagonal.max() ** 2:
            return cls(*_symmetric_roots(moment))
        return cls(L, None)

    def around(self, H: NDArray[Any]) -> NDArray[Any]:
        """Lᵀ H L of a symmetric H, [d, d], in the precision of L; it holds for its lower triangle alone."""
        if self.inverse is not None:
            return np.asarray(self.L.T @ H @ self.L)
        sygst: Any = scipy.linalg.lapack.ssygst if H.dtype == np.float32 else scipy.linalg.lapack.dsygst
        made, _ = sygst(H, self.L, itype=2, lower=1)
        return np.asarray(made)

    def times(self, U: NDArray[Any]) -> NDArray[Any]:
        """L U, [d, j]."""
        return np.asarray(self.L @ U)

    def under(self, U: NDArray[Any]) -> NDArray[Any]:
        """L^-ᵀ U, [d, j]."""
        if self.inverse is not None:
            return np.asarray(self.inverse @ U)
        return np.asarray(scipy.linalg.solve_triangular(self.L, U, lower=True, trans="T", check_finite=False))


def roots(moment: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """L with L·Lᵀ the moment, [d, d], and L^-ᵀ, as `Root`."""
    root = Root.of(moment)
    return root.L, root.under(np.eye(len(root.L), dtype=root.L.dtype))


def _symmetric_roots(moment: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    values, V = eigenvectors(moment)
    root = np.sqrt(np.maximum(values, ROOT_FLOOR * values[0]))
    return (V * root) @ V.T, (V / root) @ V.T


def eigenvectors(H: Float64) -> tuple[Float64, Float64]:
    """Eigenvalues, largest first, and eigenvectors as columns of a symmetric [r, r] matrix."""
    values, vectors = scipy.linalg.eigh(H, overwrite_a=True, check_finite=False)
    return values[::-1].copy(), np.ascontiguousarray(vectors[:, ::-1])


def precision(W: NDArray[Any], moment: Float64) -> np.dtype[Any]:
    """In which a moment of the outputs or inputs of W is worked with: float32 where both W is and they are many.

    Products in it are off by 1e-6 of the largest direction or so, which is less than samples say of any.
    """
    mean = float(np.trace(moment)) / max(len(moment), 1)
    light = W.dtype == np.float32 and len(moment) >= LARGE and _TINY < mean < _HUGE
    return np.dtype(np.float32 if light else np.float64)


def fast_eigenvectors(H: NDArray[Any]) -> tuple[Float64, NDArray[Any]]:
    """The same where they may be orthonormal to no more than float32: in it if H is or is large, in half the time.

    For who does not rely on it, as who weighs what is left by the directions as they are. What is smaller than 1e-7 of
    the largest eigenvalue is in no order then.
    """
    if len(H) < LARGE and H.dtype == np.float64:
        return eigenvectors(H)
    size = float(np.abs(np.diag(H)).max(initial=0.0)) or 1.0  # of gradients, squares may be too small for float32
    small = (H / size).astype(np.float32)
    values, vectors = scipy.linalg.eigh(small, overwrite_a=True, check_finite=False, driver="evd")
    return values[::-1].astype(np.float64) * size, np.ascontiguousarray(vectors[:, ::-1]).astype(H.dtype, copy=False)


def quadratic(U: NDArray[Any], moment: NDArray[Any], dtype: np.dtype[Any] | None = None) -> Float64:
    """uᵢᵀ·moment·uᵢ for every column uᵢ, [j], worked out in a precision of its own where one is given."""
    if dtype is not None:
        U, moment = U.astype(dtype, copy=False), moment.astype(dtype, copy=False)
    return np.asarray(np.einsum("ij,ij->j", U, moment @ U), np.float64)


def tail(total: float, removed: Float64) -> Float64:
    """Total − Σ_{i≤k} removed_i for k = 0 … r, never negative."""
    left = total - np.concatenate([[0.0], np.cumsum(removed)])
    return np.maximum(left, 0.0)
