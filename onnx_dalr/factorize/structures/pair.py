"""Two thin matrices: W ≈ A B, k(m+n) numbers at rank k."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.form import PAIR, Rank
from onnx_dalr.factorize.methods import Method
from onnx_dalr.factorize.settings import Settings
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.spectrum import Factors, Spectrum
from onnx_dalr.factorize.statistics import Need, Statistics
from onnx_dalr.factorize.structures.base import Piece, Pieces, Slot


@dataclass(frozen=True)
class Pair:
    """B, [k, n], takes the data to k directions, and A, [m, k], from there to the outputs."""

    name: str = PAIR
    smallest: Rank = (1,)

    def applies(self, shape: Shape) -> bool:
        """To every matrix, which a 1×1 kernel is."""
        return set(shape.kernel) <= {1}

    def serves(self, method: Method) -> bool:
        """Every method: this is what they are made for."""
        del method
        return True

    def ranks(self, shape: Shape, room: int) -> Sequence[Rank]:
        """1 … below break-even: k(m+n) < room."""
        one = sum(slot.shape.params for slot in self.slots(shape, self.smallest))
        return [(rank,) for rank in range(1, max(0, (room - 1) // one) + 1)]

    def slots(self, shape: Shape, rank: Rank) -> tuple[Slot, ...]:
        """Of B and A."""
        return Slot("B", Shape(rank[0], shape.n)), Slot("A", Shape(shape.m, rank[0]))

    def needs(self, shape: Shape, method: Method) -> Need:
        """What the method's Spectrum reads."""
        return method.needs(shape.m, shape.n)

    def lighter_needs(self, shape: Shape, method: Method) -> Need | None:
        """Nothing less: what it reads is that of the smaller side already."""
        del shape, method
        return None

    def compose(self, pieces: Sequence[Piece]) -> NDArray[Any]:
        """A B."""
        B, A = (piece.values for piece in pieces)
        return np.asarray(A @ B)

    def decompose(
        self, W: NDArray[Any], shape: Shape, stats: Statistics, method: Method, settings: Settings
    ) -> PairSpectrum:
        """One eigendecomposition for all ranks: the method's Spectrum."""
        del shape
        return PairSpectrum(method.spectrum(W, stats, settings))


@dataclass(frozen=True, eq=False)
class PairSpectrum:
    """A Spectrum, asked by rank as every structure is."""

    spectrum: Spectrum

    @property
    def method(self) -> str:
        """Name of the method that made it."""
        return self.spectrum.method

    @property
    def power(self) -> float:
        """Mean of ‖y‖² over the fit rows."""
        return self.spectrum.power

    @property
    def ridge(self) -> float | None:
        """λ of the method's objective."""
        return self.spectrum.ridge

    @property
    def shrinkage(self) -> float | None:
        """Share of t·I in the covariance."""
        return self.spectrum.shrinkage

    @property
    def metric_shrinkage(self) -> float | None:
        """Share of t_G·I in the metric."""
        return self.spectrum.metric_shrinkage

    @property
    def has_effect(self) -> bool:
        """Whether there is an output metric."""
        return self.spectrum.metric_tails is not None

    @property
    def moves_bias(self) -> bool:
        """Whether the mean input is compensated, and is not zero."""
        return self.spectrum.mean is not None and bool(self.spectrum.mean.any())

    def error(self, rank: Rank) -> float:
        """e_k."""
        return float(self.spectrum.errors[rank[0]])

    def tail(self, rank: Rank) -> float:
        """The shrunk tail."""
        return float(self.spectrum.tails[rank[0]])

    @property
    def whole_effect(self) -> float:
        """The tail in the output metric at rank 0."""
        return self.effect((0,))

    def effect(self, rank: Rank) -> float:
        """The tail in the output metric."""
        return float("nan") if self.spectrum.metric_tails is None else float(self.spectrum.metric_tails[rank[0]])

    def energy_lost(self, rank: Rank) -> float:
        """e_k / e_0."""
        first = float(self.spectrum.errors[0])
        return self.error(rank) / first if first > 0 else 0.0

    def pieces(self, rank: Rank, *, swept: bool = True) -> Pieces:
        """B, then A."""
        del swept  # they are the best there are
        return pieces_of(self.spectrum.factors(rank[0]))

    def put_away(self, put: Callable[[NDArray[Any]], NDArray[Any]]) -> PairSpectrum:
        """With basis and dual where they take no memory."""
        return replace(self, spectrum=self.spectrum.put_away(put))

    def compact(self) -> PairSpectrum:
        """With basis and dual in float32."""
        return replace(self, spectrum=self.spectrum.compact())


def pieces_of(factors: Factors) -> Pieces:
    """The factors of a matrix, in the order in which data meet them."""
    return Pieces((Piece("B", factors.B), Piece("A", factors.A)), factors.shift)
