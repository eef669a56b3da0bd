"""A weight refitted to what the layers before it make of its inputs once they are compressed (methods.md §5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from onnx_dalr.factorize.gram import Float64, add_gram, as_exact, product, symmetric
from onnx_dalr.factorize.linalg import roots
from onnx_dalr.factorize.statistics import Need, Statistics

ROWS_PER_INPUT = 5

LARGEST = 8192
"""Inputs of which an n×n moment is formed."""

_CONSTANT = 1e-12  # of the squared mean
_REACHED = 1e-6  # of the largest singular value of W


def least_rows(n: int) -> int:
    """Rows without which a layer of n inputs is left alone: what fits fewer does worse on others (methods.md §5)."""
    return ROWS_PER_INPUT * n


class Pull(NamedTuple):
    """How far a weight moves toward what fits best.

    Attributes:
        beta: β, the share of the way.
        ridge: λ/t, t the mean variance of an input.
    """

    beta: float
    ridge: float

    @property
    def shrinkage(self) -> float:
        """The share a of t·I with λ = t·a/(1−a): the same ridge goes into the factorization."""
        return self.ridge / (1 + self.ridge)


PULLS = (Pull(1.0, 0.1), Pull(0.5, 0.01), Pull(1.0, 0.01))
"""Those to choose from on held-out rows."""


class PairedSums:
    """Sums over the rows x that enter a layer y = W x, W m×n, in the original, and x̂, which enter it in its place.

    Attributes:
        m: Outputs of the layer.
        n: Inputs of the layer.
        count: Pairs of rows.
        wanted: Σ x, [n].
        total: Σ x̂, [n].
        input: Σ x̂ x̂ᵀ, [n, n], its upper block triangle.
        cross: Σ (W x) x̂ᵀ, [m, n], or, where m > n, Σ x x̂ᵀ, [n, n].
    """

    def __init__(self, m: int, n: int) -> None:
        self.m, self.n, self.count = m, n, 0
        self.wanted: Float64 = np.zeros(n)
        self.total: Float64 = np.zeros(n)
        self.input: Float64 = np.zeros((n, n))
        self.cross: Float64 = np.zeros((min(m, n), n))

    def update(self, x: NDArray[Any], met: NDArray[Any], weight: NDArray[Any]) -> None:
        """Adds rows x and what is met in their place, both [p, n]; W, [m, n], is read where m ≤ n.

        Products of one update are in float32 where the rows are, and little is lost once their mean is taken off: λ is
        a hundredth of the mean variance or more.
        """
        self.count += len(x)
        self.wanted += x.sum(axis=0, dtype=np.float64)
        total = met.sum(axis=0, dtype=np.float64)
        self.total += total
        seen = as_exact(met)  # in float32 it is off by a thousandth of that ridge
        add_gram(self.input, seen)
        made = product(x, weight.T, light=True) if self.m <= self.n else x
        self.cross += made.astype(seen.dtype, copy=False).T @ seen

    @property
    def varies(self) -> bool:
        """Whether there is something to fit: some rows, all finite, and not all of the x̂ alike."""
        if not self.count or not np.isfinite(self.cross).all():
            return False
        mean = self.total / self.count
        return bool(np.trace(self.input) / self.count - mean @ mean > _CONSTANT * (mean @ mean))

    def lost(self, W: NDArray[Any], other: NDArray[Any], shift: Float64, weights: Float64 | None) -> float:
        """Mean ‖K (W x − W' x̂ − shift)‖² over the pairs, less mean ‖K W x‖², which is the same for every W'.

        Args:
            W: [m, n].
            other: W', [m, n].
            shift: What is added to the bias, [m].
            weights: K, [q, m]; None for the identity.
        """
        if not self.count:
            return 0.0
        wide, made, moved = W.astype(np.float64), _weighed(weights, other.astype(np.float64)), _weighed(weights, shift)
        cross = _weighed(weights, self.cross if self.m <= self.n else wide @ self.cross)
        own = np.sum((made @ symmetric(self.input)) * made) - 2 * np.sum(made * cross)
        bias = 2 * moved @ (made @ self.total - _weighed(weights, wide @ self.wanted)) + self.count * (moved @ moved)
        return float(own + bias) / self.count

    @staticmethod
    def bytes_needed(m: int, n: int) -> int:
        """Bytes these sums hold."""
        return 8 * (n * n + min(m, n) * n + 2 * n)


@dataclass(frozen=True, eq=False)
class Refitted:
    """W̃, which makes of x̂ about what W makes of x.

    Attributes:
        weight: W̃, [m, n].
        shift: W μ − W̃ μ̂, [m]: b' is this, and what factors do to the mean, added to b.
        turn: M with W̃ = W M, [n, n], where m > n; else None.
        sums: What it is made of.
    """

    weight: Float64
    shift: Float64
    turn: Float64 | None
    sums: PairedSums

    def statistics(self, needs: Need, gradients: Statistics) -> Statistics:
        """Of the rows x̂ that enter W̃, as a factorization reads them.

        Args:
            needs: What it reads; the second moment of x̂ is there in any case, and takes the place of a sketch.
            gradients: Statistics of W that may keep a metric. Gradients are of the layer's output and stay what they
                are; where m > n, Wᵀ G W is kept, and becomes Mᵀ Wᵀ G W M.
        """
        sums, moment = self.sums, symmetric(self.sums.input)
        found = Statistics(sums.m, sums.n, Need.INPUT | needs & Need.OUTPUT)
        found.count, found.total, found.input = sums.count, sums.total, sums.input
        found.squares = np.diag(moment).copy()
        if Need.OUTPUT in needs:
            found.output, found.output_total = self.weight @ moment @ self.weight.T, self.weight @ sums.total
        if gradients.metric is not None and gradients.metric_probes:
            G, turn = gradients.metric, self.turn
            found.needs |= Need.METRIC
            found.metric = G if turn is None else turn.T @ symmetric(G) @ turn
            found.metric_rows, found.metric_probes = gradients.metric_rows, gradients.metric_probes
            found.metric_power, found.metric_spread = gradients.metric_power, gradients.metric_spread
        return found


def refitted(W: NDArray[Any], sums: PairedSums, pull: Pull, *, moves_bias: bool = True) -> Refitted:
    """W̃ = W + β (E[(y−ȳ)(x̂−μ̂)ᵀ] − W Ĉ)(Ĉ + λI)⁻¹, which for β = 1 is (E[(y−ȳ)(x̂−μ̂)ᵀ] + λW)(Ĉ + λI)⁻¹.

    Where m > n it is W M with M = I + β (E[(x−μ)(x̂−μ̂)ᵀ] − Ĉ)(Ĉ + λI)⁻¹, n×n. Without a bias to move, nothing is
    centred: the weight has to make up for the mean, too.

    Args:
        W: [m, n].
        sums: Of pairs of rows, of which not all x̂ are alike.
        pull: β and λ.
        moves_bias: Whether the shift can be added to a bias; else it is zero.
    """
    wide = W.astype(np.float64)
    mean, wanted = (total / sums.count * moves_bias for total in (sums.total, sums.wanted))
    C = symmetric(sums.input) / sums.count - np.outer(mean, mean)
    core, core_mean = (wide, wide @ wanted) if sums.m <= sums.n else (np.eye(sums.n), wanted)
    gap = sums.cross / sums.count - np.outer(core_mean, mean) - core @ C
    ridged = C + pull.ridge * np.trace(C) / sums.n * np.eye(sums.n)
    moved = core + pull.beta * scipy.linalg.solve(ridged, gap.T, assume_a="pos", check_finite=False).T
    weight = moved if sums.m <= sums.n else wide @ moved
    return Refitted(weight, wide @ wanted - weight @ mean, None if sums.m <= sums.n else moved, sums)


def _weighed(weights: Float64 | None, values: Float64) -> Float64:
    return values if weights is None else weights @ values


def error_weights(W: NDArray[Any], gradients: Statistics, share: float | None) -> Float64 | None:
    """K, [min(m, n), m], with ‖K e‖² = eᵀ G e for an error e of the layer's output; None where all count alike.

    Where m > n only Wᵀ G W is known, which is enough for the part of e that W reaches.

    Args:
        W: [m, n].
        gradients: Statistics of W that may keep a metric.
        share: s, the share of t_G·I in the metric (methods.md §3.5); None without a metric.
    """
    if share is None or share >= 1 or not gradients.metric_probes or gradients.metric_trace <= 0:
        return None
    unit = gradients.metric_trace / gradients.m
    if gradients.m <= gradients.n:
        root, _ = roots((1 - share) * gradients.output_metric / unit + share * np.eye(gradients.m))
        return root.T
    wide = W.astype(np.float64)
    root, _ = roots((1 - share) * gradients.output_metric / unit + share * (wide.T @ wide))
    return np.asarray(root.T @ np.linalg.pinv(wide, rcond=_REACHED))
