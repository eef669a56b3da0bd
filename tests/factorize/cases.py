"""Layers and rows of every awkward kind, and what the tests of this room say about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onnx_dalr.factorize import METHODS, Factors, Need, Ridge, Settings, Spectrum, Statistics

Array = NDArray[Any]

NAMES = sorted(METHODS)
WEIGHTS = ("plain", "plain", "low rank", "zero", "decaying")
ROWS = ("plain", "plain", "low rank", "one sample", "constant", "zero", "scaled columns", "offset")

often = settings(max_examples=100, deadline=None, derandomize=True)
seldom = settings(max_examples=25, deadline=None, derandomize=True)


@dataclass(frozen=True, eq=False)
class Case:
    """A layer y = W x, [m, n], and the rows X, [p, n], that entered it. Values are float64."""

    W: Array
    X: Array

    @property
    def mean(self) -> Array:
        return self.X.mean(axis=0)

    @property
    def covariance(self) -> Array:
        centred = self.X - self.mean
        return centred.T @ centred / len(self.X)

    @property
    def power(self) -> float:
        return float(np.mean(np.sum((self.X @ self.W.T) ** 2, axis=1)))

    @property
    def full_rank(self) -> int:
        return min(self.W.shape)

    def statistics(self, needs: Need) -> Statistics:
        found = Statistics(*self.W.shape, needs)
        found.update(self.X, self.W)
        return found

    def spectrum(self, method: str, ridge: Ridge | None = None) -> Spectrum:
        known = METHODS[method]
        return known.spectrum(self.W, self.statistics(known.needs(*self.W.shape)), Settings(ridge=ridge))

    def measured_error(self, factors: Factors) -> float:
        """Σ‖y−ŷ‖² / Σ‖y‖² over the rows, from the definition; 0 where there is no output at all."""
        y = self.X.astype(np.float64) @ self.W.T.astype(np.float64)
        y_new = self.X.astype(np.float64) @ (factors.A @ factors.B).T + factors.shift
        return float(np.sum((y - y_new) ** 2) / np.sum(y**2)) if np.any(y) else float(np.sum(y_new**2))


def make(m: int, n: int, p: int, seed: int = 0, weight: str = "plain", rows: str = "plain") -> Case:
    """A Case of the kinds named in WEIGHTS and ROWS."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((m, n))
    if weight == "zero":
        W[:] = 0
    elif weight == "low rank":
        r = max(1, min(m, n) // 2)
        W = rng.standard_normal((m, r)) @ rng.standard_normal((r, n))
    elif weight == "decaying":
        W *= 0.5 ** np.arange(n)
    X = rng.standard_normal((p, n)) @ np.diag(np.linspace(0.5, 2, n)) + rng.standard_normal(n)
    if rows == "low rank":
        r = max(1, min(n, p) // 2)
        X = rng.standard_normal((p, r)) @ rng.standard_normal((r, n))
    elif rows == "one sample":
        X = X[:1]
    elif rows == "constant":
        X[:] = X[0]
    elif rows == "zero":
        X[:] = 0
    elif rows == "scaled columns":
        X *= 10.0 ** rng.integers(-6, 7, n)
    elif rows == "offset":
        X += 1e4 * rng.standard_normal(n)
    return Case(W, X)


SIZES = st.integers(1, 24)
SEEDS = st.integers(0, 2**16)


def cases(weight: tuple[str, ...] = WEIGHTS, rows: tuple[str, ...] = ROWS) -> st.SearchStrategy[Case]:
    """Any shape up to 24 × 24 with up to 60 rows."""
    return st.builds(make, SIZES, SIZES, st.integers(1, 60), SEEDS, st.sampled_from(weight), st.sampled_from(rows))


ordinary = cases(weight=("plain", "low rank", "decaying"), rows=("plain", "low rank", "offset"))


def well_defined_ranks(values: Array, scale: float = 0.0) -> list[int]:
    """The ranks at which the leading eigenvectors of these eigenvalues, largest first, span a subspace of their own."""
    floor = 1e-6 * max(scale, float(values.max(initial=0.0)))
    gaps = values - np.append(values[1:], 0.0)
    return [k for k in range(1, len(values) + 1) if floor > 0 and gaps[k - 1] > floor]


def eigenvectors(H: Array) -> tuple[Array, Array]:
    """Eigenvalues and eigenvectors of a symmetric matrix, largest first."""
    values, vectors = np.linalg.eigh((H + H.T) / 2)
    return values[::-1], vectors[:, ::-1]
