"""Two kernels, one after the other, that share the axes of one: `in`, `v` and `h` (methods.md §6.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.form import Rank
from onnx_dalr.factorize.gram import Float64
from onnx_dalr.factorize.kernels.fit import Fit, fitted, swept
from onnx_dalr.factorize.kernels.nested import Nested
from onnx_dalr.factorize.kernels.objective import SERVED
from onnx_dalr.factorize.kernels.plain import errors
from onnx_dalr.factorize.kernels.split import Split
from onnx_dalr.factorize.kernels.view import View
from onnx_dalr.factorize.methods import Method
from onnx_dalr.factorize.settings import Settings
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.statistics import Need, Statistics
from onnx_dalr.factorize.structures.base import Piece, Pieces, Slot
from onnx_dalr.factorize.structures.by_objective import ByObjective
from onnx_dalr.factorize.structures.common import Common


@dataclass(frozen=True)
class TwoKernels:
    """B, then A: B spans the channels and some axes of the kernel, A the others.

    Attributes:
        name: As plans and the command line write it.
        first: Axes that B spans: none in `in`, the first of two in `v`, the second in `h`.
    """

    name: str
    first: tuple[int, ...] = ()
    smallest: Rank = (1,)

    def applies(self, shape: Shape) -> bool:
        """To every kernel larger than 1×1; where B spans an axis, to those of two axes, neither of length 1."""
        if self.first:
            return len(shape.kernel) == 2 and min(shape.kernel) > 1
        return math.prod(shape.kernel) > 1

    def serves(self, method: Method) -> bool:
        """All methods but the paper's, which projects outputs."""
        return method.name in SERVED

    def ranks(self, shape: Shape, room: int) -> Sequence[Rank]:
        """1 … below break-even, and not beyond the rank at which nothing is left."""
        split = Split.of(shape, self.first)
        one = sum(slot.shape.params for slot in self.slots(shape, self.smallest))
        most = min(split.inputs, shape.m * split.offsets, max(0, (room - 1) // one))
        return [(rank,) for rank in range(1, most + 1)]

    def slots(self, shape: Shape, rank: Rank) -> tuple[Slot, ...]:
        """Of B and A."""
        split = Split.of(shape, self.first)
        return (
            Slot("B", Shape(rank[0], split.inputs, split.first_kernel), self.first),
            Slot("A", Shape(shape.m, rank[0] * split.offsets, split.second_kernel), split.second),
        )

    def needs(self, shape: Shape, method: Method) -> Need:
        """The second moment of patches."""
        del shape, method
        return Need.INPUT

    def lighter_needs(self, shape: Shape, method: Method) -> Need | None:
        """Of `in`: the moment of the channels, and that of the outputs to tell how large it all is."""
        del method
        return None if self.first or shape.m > shape.n else Need.CHANNELS | Need.SKETCH | Need.OUTPUT

    def compose(self, pieces: Sequence[Piece]) -> NDArray[Any]:
        """The one kernel that the two come to."""
        B, A = (piece.values for piece in pieces)
        split = Split(B.shape[1], tuple(map(max, B.shape[2:], A.shape[2:])), self.first)
        return split.whole(B.reshape(len(B), -1), A.reshape(*A.shape[:2], -1))

    def decompose(
        self, W: NDArray[Any], shape: Shape, stats: Statistics, method: Method, settings: Settings
    ) -> TwoKernelsByRank:
        """One eigendecomposition and one Cholesky for all ranks."""
        return self.of(Common(W, shape, stats, method, settings))

    def of(self, common: Common) -> TwoKernelsByRank:
        """The same, from what structures have in common."""
        view, found = common.nested(self.first)
        return by_rank(view, found)


@dataclass(frozen=True, eq=False)
class TwoKernelsByRank(ByObjective):
    """Two kernels at every rank.

    Attributes:
        tails: [R + 1]: the mean of ‖y − ŷ‖² to expect on unseen rows, before the sweep.
        effects: [R + 1]: the effect on the network's output, before the sweep; None without a metric.
        energies: [R + 1]: what is left of the kernel in the unit of its objective: of svd the squared singular values.
    """

    tails: Float64
    effects: Float64 | None
    energies: Float64

    def tail(self, rank: Rank) -> float:
        """Before the sweep, which lowers it a little."""
        return float(self.tails[rank[0]])

    @property
    def whole_effect(self) -> float:
        """The effect at rank 0."""
        return self.effect((0,))

    def effect(self, rank: Rank) -> float:
        """Before the sweep, which lowers it a little."""
        return math.nan if self.effects is None else float(self.effects[rank[0]])

    def energy_lost(self, rank: Rank) -> float:
        """Share of what there is in the unit of the objective: of svd that is LRDKT's rule, Σσ² of the weights."""
        return float(self.energies[rank[0]] / self.energies[0]) if self.energies[0] > 0 else 0.0

    def fit(self, rank: Rank, *, sweeps: bool = True) -> Fit:
        """Least squares, and a sweep where something is left."""
        (K,) = rank
        if not 1 <= K <= len(self.first):
            raise ValueError(f"rank {K} is not within 1..{len(self.first)}")
        view = View(self.objective, self.split)
        fit = fitted(view, self.first[:K].astype(np.float64))
        return swept(view, fit) if sweeps and len(self.first) > K else fit

    def pieces(self, rank: Rank, *, swept: bool = True) -> Pieces:
        """B, then A."""
        fit = self.fit(rank, sweeps=swept)
        A = self.objective.lift(fit.H)
        g = self.gauge(fit, A)
        B, A = fit.V * g[:, None], A / g[:, None]
        return Pieces(
            (
                Piece("B", B.reshape(len(B), self.split.channels, *self.split.first_kernel), self.split.first),
                Piece("A", A.reshape(*A.shape[:2], *self.split.second_kernel), self.split.second),
            ),
            self.shift(fit),
        )

    def compact(self) -> TwoKernelsByRank:
        """With the covariance and the first kernels in float32."""
        return replace(self, objective=self.objective.compact(), first=self.first.astype(np.float32))


def by_rank(view: View, found: Nested) -> TwoKernelsByRank:
    """What is left of W Σ Wᵀ at every rank, as it is and as the metric sees it; of svd, what it loses on the data."""
    objective = view.objective
    left = found.left()
    if not objective.shrinks:
        return TwoKernelsByRank(objective, view.split, found.first, errors(view, found), None, left)
    tails = objective.scale * left
    effects = None
    if not math.isnan(objective.unit):
        seen = tails if objective.root is None else objective.scale * found.left(objective.root)
        effects = objective.unit * seen
    return TwoKernelsByRank(objective, view.split, found.first, tails, effects, left)
