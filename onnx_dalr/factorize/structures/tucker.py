"""Three kernels: 1×1, the whole kernel with fewer channels on both sides, 1×1 (methods.md §6.1, §6.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.form import Rank
from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.kernels.fit import Fit, fitted, swept
from onnx_dalr.factorize.kernels.gauge import balance
from onnx_dalr.factorize.kernels.nested import Nested
from onnx_dalr.factorize.kernels.objective import SERVED
from onnx_dalr.factorize.kernels.plain import latents_of
from onnx_dalr.factorize.kernels.split import Split
from onnx_dalr.factorize.kernels.view import View
from onnx_dalr.factorize.linalg import eigenvectors, quadratic, tail
from onnx_dalr.factorize.methods import Method
from onnx_dalr.factorize.settings import Settings
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.statistics import Need, Statistics
from onnx_dalr.factorize.structures.base import Piece, Pieces, Slot
from onnx_dalr.factorize.structures.by_objective import ByObjective
from onnx_dalr.factorize.structures.common import Common

_SHARES = (1 / 32, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4)
Curve = dict[Rank, tuple[float, float]]
_APART = 3
"""Places among the shares that the two ranks may lie apart: what is thin on one side only, a pair does with less."""


@dataclass(frozen=True)
class Tucker:
    """B takes C channels to r1, M the kernel from there to r2, A those to the outputs."""

    name: str = "tucker"
    smallest: Rank = (1, 1)

    def applies(self, shape: Shape) -> bool:
        """To every kernel larger than 1×1."""
        return math.prod(shape.kernel) > 1

    def serves(self, method: Method) -> bool:
        """All methods but the paper's, which projects outputs."""
        return method.name in SERVED

    def ranks(self, shape: Shape, room: int) -> Sequence[Rank]:
        """A grid of some fifty pairs below break-even, in the multiples of 8 that kernels run best at."""
        taps = math.prod(shape.kernel)
        inner, outer = _steps(min(shape.channels, shape.m * taps)), _steps(min(shape.m, shape.n))
        near = (
            (inner[i], outer[j])
            for i in range(len(_SHARES))
            for j in range(max(0, i - _APART), min(len(_SHARES), i + _APART + 1))
        )
        fit = [(r1, r2) for r1, r2 in near if r2 <= r1 * taps and r1 <= r2 * taps]
        params = {rank: sum(slot.shape.params for slot in self.slots(shape, rank)) for rank in fit}
        return sorted((rank for rank, count in params.items() if count < room), key=lambda rank: (params[rank], rank))

    def slots(self, shape: Shape, rank: Rank) -> tuple[Slot, ...]:
        """Of B, M and A."""
        points = (1,) * len(shape.kernel)
        return (
            Slot("B", Shape(rank[0], shape.channels, points), ()),
            Slot("M", Shape(rank[1], rank[0] * math.prod(shape.kernel), shape.kernel)),
            Slot("A", Shape(shape.m, rank[1], points), ()),
        )

    def needs(self, shape: Shape, method: Method) -> Need:
        """The second moment of patches."""
        del shape, method
        return Need.INPUT

    def lighter_needs(self, shape: Shape, method: Method) -> Need | None:
        """Nothing less."""
        del shape, method
        return None

    def compose(self, pieces: Sequence[Piece]) -> NDArray[Any]:
        """The one kernel that the three come to."""
        B, M, A = (piece.values for piece in pieces)
        split = Split(B.shape[1], M.shape[2:])
        H = np.tensordot(A.reshape(len(A), -1), M.reshape(*M.shape[:2], -1), axes=(1, 0))
        return split.whole(B.reshape(len(B), -1), H)

    def decompose(
        self, W: NDArray[Any], shape: Shape, stats: Statistics, method: Method, settings: Settings
    ) -> TuckerByRank:
        """The closed form of `in`, and an eigendecomposition for every r1 of the grid."""
        return self.of(Common(W, shape, stats, method, settings))

    def of(self, common: Common) -> TuckerByRank:
        """The same, from what structures have in common."""
        view, found = common.nested(())
        shape = common.shape
        return on_grid(view, found, self.ranks(shape, shape.params))


@dataclass(frozen=True, eq=False)
class TuckerByRank(ByObjective):
    """Three kernels at every pair of ranks.

    Attributes:
        known: The mean of ‖y − ŷ‖² to expect on unseen rows and the effect on the network's output, before the sweep:
            of a grid, and of nothing at all at (0, 0).
    """

    known: Mapping[Rank, tuple[float, float]]

    def tail(self, rank: Rank) -> float:
        """Before the sweep on the grid; elsewhere of the pieces themselves."""
        return self._expected(rank)[0]

    @property
    def whole_effect(self) -> float:
        """Of keeping nothing."""
        return self.known[0, 0][1]

    def effect(self, rank: Rank) -> float:
        """Before the sweep on the grid; elsewhere of the pieces themselves."""
        return self._expected(rank)[1]

    def energy_lost(self, rank: Rank) -> float:
        """Share of what is to be expected on unseen rows."""
        whole = self.known[0, 0][0]
        return self.tail(rank) / whole if whole > 0 else 0.0

    def fit(self, rank: Rank, *, sweeps: bool = True) -> Fit:
        """The best r2 directions of what the best second kernel makes, and a sweep where something is left."""
        r1, r2 = rank
        most = len(self.first), self.objective.r
        if not (1 <= r1 <= most[0] and 1 <= r2 <= most[1]):
            raise ValueError(f"ranks {r1}x{r2} are not within 1x1..{most[0]}x{most[1]}")
        view = View(self.objective, self.split)
        fit = narrowed(view, fitted(view, self.first[:r1].astype(np.float64)), r2)
        return swept(view, fit, lambda wide: narrowed(view, wide, r2)) if sweeps and rank != most else fit

    def pieces(self, rank: Rank, *, swept: bool = True) -> Pieces:
        """B, M, A."""
        fit = self.fit(rank, sweeps=swept)
        assert fit.directions is not None
        M = np.tensordot(fit.directions, self.objective.weigh(fit.H), axes=(0, 0))
        A = self.objective.lift(self.objective.unweigh(fit.directions))
        h = balance(np.sqrt(self._power(fit, M)), np.linalg.norm(A, axis=0))
        g = self.gauge(fit, M)
        B, M, A = fit.V * g[:, None], M / g[:, None] * h[:, None, None], A / h
        points = [1] * len(self.split.kernel)
        return Pieces(
            (
                Piece("B", B.reshape(*B.shape, *points), ()),
                Piece("M", M.reshape(*M.shape[:2], *self.split.kernel)),
                Piece("A", A.reshape(*A.shape, *points), ()),
            ),
            self.shift(fit),
        )

    def _power(self, fit: Fit, M: Float64) -> Float64:
        """Of what the second kernel makes of the latents of the first, [r2]."""
        rows = M.reshape(len(M), -1)
        if fit.latents is None:
            return np.asarray(np.sum(rows**2, axis=1))
        mean = (fit.V @ self.split.columns(self.objective.mean[None])[0]).ravel()
        variance = np.einsum("ij,ij->i", rows @ fit.latents, rows)
        return np.asarray(self.objective.t * np.maximum(variance, 0.0) + (rows @ mean) ** 2)

    def _expected(self, rank: Rank) -> tuple[float, float]:
        return self.known[rank] if rank in self.known else self.objective.expected(self.left(self.fit(rank)))

    def compact(self) -> TuckerByRank:
        """With the covariance and the first kernels in float32."""
        return replace(self, objective=self.objective.compact(), first=self.first.astype(np.float32))


def narrowed(view: View, fit: Fit, r2: int) -> Fit:
    """L^-ᵀ E Eᵀ Lᵀ H for H, E the first r2 eigenvectors of Lᵀ H Cz Hᵀ L."""
    H = view.objective.weigh(fit.H)
    flat = H.reshape(len(H), -1)
    _, E = eigenvectors(flat @ (flat.T if fit.latents is None else fit.latents @ flat.T))
    E = E[:, :r2]
    kept = np.tensordot(E, np.tensordot(E, H, axes=(0, 0)), axes=(1, 0))
    return Fit(fit.V, view.objective.unweigh(kept), fit.through, fit.latents, E)


def on_grid(view: View, found: Nested, ranks: Sequence[Rank]) -> TuckerByRank:
    """What is left at these ranks."""
    known = _errors(view, found, ranks) if not view.objective.shrinks else _expected(view, found, ranks)
    return TuckerByRank(view.objective, view.split, found.first, known)


def _expected(view: View, found: Nested, ranks: Sequence[Rank]) -> Curve:
    """What `in` leaves at r1, and of Y_KᵀY_K what lies outside of r2 directions.

    L^-ᵀ E Eᵀ Lᵀ projects along what the metric sees, so that without it the directions do not simply add up.
    """
    objective, B, scale = view.objective, view.split.offsets, view.objective.scale
    tails, effects = found.left(), found.left(objective.root)
    known: Curve = {(0, 0): (scale * float(tails[0]), objective.unit * scale * float(effects[0]))}
    for r1 in {rank[0] for rank in ranks}:
        N = found.gains[: r1 * B].T @ found.gains[: r1 * B]
        values, E = eigenvectors(objective.weigh(objective.weigh(N).T).copy())
        A, D = objective.unweigh(E), objective.root @ E if objective.root is not None else E
        seen = N @ D
        pairs = (A.T @ A) * (D.T @ seen)
        own = 2 * np.einsum("ij,ij->j", A, seen) - np.diag(pairs)
        outside = tail(float(np.trace(N)), own - 2 * np.tril(pairs, -1).sum(axis=1))
        beyond = np.append(np.cumsum(np.maximum(values, 0.0)[::-1])[::-1], 0.0)
        for rank in ranks:
            if rank[0] == r1:
                effect = objective.unit * scale * float(effects[r1] + beyond[rank[1]])
                known[rank] = scale * float(tails[r1] + outside[rank[1]]), effect
    return known


def _errors(view: View, found: Nested, ranks: Sequence[Rank]) -> Curve:
    """E‖y − E Eᵀ H z‖²: its terms add up over orthonormal directions."""
    B = view.split.offsets
    known = latents_of(view, found.first)
    left: Curve = {(0, 0): (known.power, math.nan)}
    for r1 in {rank[0] for rank in ranks}:
        H = found.gains[: r1 * B].T
        _, E = eigenvectors(H @ H.T)
        with_y = H @ known.outputs[: r1 * B]
        own = H @ known.pairs[: r1 * B, : r1 * B] @ H.T
        by_direction = tail(known.power, 2 * quadratic(E, with_y) - quadratic(E, own))
        left |= {rank: (float(by_direction[rank[1]]), math.nan) for rank in ranks if rank[0] == r1}
    return left


def _steps(size: int) -> tuple[int, ...]:
    """Shares of a size in whole multiples of what is worth having: of 8, less where the size is small."""
    step = max(one for one in (1, 2, 4, 8) if one == 1 or size >= 8 * one)
    return tuple(max(step, round(share * size / step) * step) if step <= size else size for share in _SHARES)
