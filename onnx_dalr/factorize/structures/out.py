"""The whole kernel with fewer outputs, then a 1×1 one: the pair, of patches (methods.md §6.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_dalr.factorize.form import Rank
from onnx_dalr.factorize.gram import symmetric
from onnx_dalr.factorize.methods import Method
from onnx_dalr.factorize.settings import Settings
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.statistics import Need, Statistics
from onnx_dalr.factorize.structures.base import Piece, Pieces, Slot
from onnx_dalr.factorize.structures.pair import PairSpectrum


@dataclass(frozen=True)
class Out:
    """B, [k, channels, *kernel], takes patches to k directions, and A, [m, k, 1, …], from there to the outputs."""

    name: str = "out"
    smallest: Rank = (1,)

    def applies(self, shape: Shape) -> bool:
        """To every kernel larger than 1×1."""
        return math.prod(shape.kernel) > 1

    def serves(self, method: Method) -> bool:
        """Every method: to it the kernel is the matrix of its patches."""
        del method
        return True

    def ranks(self, shape: Shape, room: int) -> Sequence[Rank]:
        """1 … below break-even, k(m+n) < room, and at most min(m, n)."""
        one = sum(slot.shape.params for slot in self.slots(shape, self.smallest))
        return [(rank,) for rank in range(1, min(shape.m, shape.n, max(0, (room - 1) // one)) + 1)]

    def slots(self, shape: Shape, rank: Rank) -> tuple[Slot, ...]:
        """Of B and A."""
        points = (1,) * len(shape.kernel)
        return Slot("B", Shape(rank[0], shape.n, shape.kernel)), Slot("A", Shape(shape.m, rank[0], points), ())

    def needs(self, shape: Shape, method: Method) -> Need:
        """The second moment of patches, which the others read."""
        del shape, method
        return Need.INPUT

    def lighter_needs(self, shape: Shape, method: Method) -> Need | None:
        """What the pair reads, where that is the outputs."""
        lighter = method.needs(shape.m, shape.n)
        return None if lighter & (Need.INPUT | Need.ROWS) else lighter

    def compose(self, pieces: Sequence[Piece]) -> NDArray[Any]:
        """A B."""
        B, A = (piece.values.reshape(len(piece.values), -1) for piece in pieces)
        return np.asarray(A @ B)

    def decompose(
        self, W: NDArray[Any], shape: Shape, stats: Statistics, method: Method, settings: Settings
    ) -> OutSpectrum:
        """The method's Spectrum."""
        return OutSpectrum(method.spectrum(W, with_outputs(W, stats), settings), shape)


@dataclass(frozen=True, eq=False)
class OutSpectrum(PairSpectrum):
    """A Spectrum whose factors are kernels."""

    shape: Shape

    def pieces(self, rank: Rank, *, swept: bool = True) -> Pieces:
        """B, then A."""
        del swept  # they are the best there are
        made = self.spectrum.factors(rank[0])
        B = made.B.reshape(len(made.B), *self.shape.dims[1:])
        A = made.A.reshape(*made.A.shape, *([1] * len(self.shape.kernel)))
        return Pieces((Piece("B", B), Piece("A", A, ())), made.shift)


def with_outputs(W: NDArray[Any], stats: Statistics) -> Statistics:
    """Statistics with the sums of the outputs, W X and W X Xᵀ Wᵀ, where only those of the inputs are kept."""
    if stats.input is None or stats.output is not None or stats.m > stats.n:
        return stats
    found, wide = copy(stats), W.astype(np.float64)
    found.needs = stats.needs | Need.OUTPUT
    found.output_total = wide @ stats.total
    found.output = wide @ symmetric(stats.input) @ wide.T
    return found
