"""Kernels, the patches that enter them and the gradients behind them, and numpy's own word on what is lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize import METHODS, Need, Rank, Settings, Shape, Statistics
from onnx_dalr.factorize.structures import STRUCTURES, Decomposition, Pieces

Array = NDArray[Any]

NAMES = ("out", "in", "v", "h", "tucker")


@dataclass(frozen=True, eq=False)
class Kernel:
    """A layer of patches, y = W x: W [m, n], X [p, n], gradient rows g [q, m]."""

    shape: Shape
    W: Array
    X: Array
    g: Array

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in NAMES if STRUCTURES[name].applies(self.shape))

    @property
    def mean(self) -> Array:
        return np.asarray(self.X.mean(axis=0))

    @property
    def covariance(self) -> Array:
        centred = self.X - self.mean
        return np.asarray(centred.T @ centred / len(self.X))

    def statistics(self, needs: Need = Need.INPUT | Need.METRIC) -> Statistics:
        found = Statistics(self.shape.m, self.shape.n, needs, math.prod(self.shape.kernel))
        found.update(self.X, self.W)
        if Need.METRIC in needs:
            found.update_metric(self.g, self.W, len(self.g))
        return found

    def decomposed(self, name: str, method: str = "dalr", settings: Settings | None = None) -> Decomposition:
        known = METHODS[method]
        settings = settings or Settings()
        return STRUCTURES[name].decompose(self.W, self.shape, self.statistics(), known, settings)

    def composed(self, name: str, pieces: Pieces) -> Array:
        return np.asarray(STRUCTURES[name].compose(pieces.pieces))

    def measured(self, name: str, pieces: Pieces) -> float:
        """The mean of ‖y − ŷ‖² over the rows."""
        off = self.X @ (self.W - self.composed(name, pieces)).T - pieces.shift
        return float(np.mean(np.sum(off**2, axis=1)))

    def expected(self, left: Array, a: float, s: float | None) -> float:
        """Tr[G ΔW Σ ΔWᵀ], both shrunk, in the unit of the seeds; of the plain outputs without a metric."""
        C, m, n = self.covariance, self.shape.m, self.shape.n
        sigma = (1 - a) * C + a * np.trace(C) / n * np.eye(n)
        if s is None:
            return float(np.trace(left @ sigma @ left.T))
        G = self.g.T @ self.g / len(self.g)
        G = (1 - s) * G + s * np.trace(G) / m * np.eye(m)
        return float(np.trace(G @ left @ sigma @ left.T))

    def full(self, name: str) -> Rank:
        """The rank at which nothing is left."""
        m, n, C, taps = self.shape.m, self.shape.n, self.shape.channels, math.prod(self.shape.kernel)
        if name == "tucker":
            return min(C, m * taps), min(m, n)
        return STRUCTURES[name].ranks(self.shape, 10**9)[-1]

    def ranks(self, name: str) -> Sequence[Rank]:
        return STRUCTURES[name].ranks(self.shape, 10**9)


def kernel(m: int, channels: int, extent: tuple[int, ...], rows: int = 300, seed: int = 0) -> Kernel:
    """One whose inputs lie mostly in a few directions, of neighbours that go together, with a mean."""
    rng = np.random.default_rng(seed)
    n = channels * math.prod(extent)
    mixing = rng.standard_normal((n, n)) * np.geomspace(1, 0.05, n)[:, None]
    X = rng.standard_normal((rows, n)) @ mixing + rng.standard_normal(n)
    W = rng.standard_normal((m, n)) / math.sqrt(n)
    g = rng.standard_normal((rows, m)) @ (rng.standard_normal((m, m)) * np.geomspace(1, 0.1, m))
    return Kernel(Shape(m, n, extent), W, X, g)


SHAPES = (
    (12, 6, (3, 3)),
    (10, 4, (2, 3)),
    (6, 3, (4, 2)),
    (40, 3, (3, 3)),
    (4, 7, (3, 2)),
    (9, 5, (5,)),
    (7, 3, (2, 2, 3)),
)
"""Outputs, channels and extent: even ones, not square, more outputs than inputs, one axis and three."""
