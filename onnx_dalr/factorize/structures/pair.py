"""Two thin matrices: W ≈ A B, k(m+n) numbers at rank k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx_dalr.factorize.form import Rank
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.factorize.spectrum import Factors
from onnx_dalr.factorize.structures.base import Piece


@dataclass(frozen=True)
class Pair:
    """B, [k, n], takes the data to k directions, and A, [m, k], from there to the outputs."""

    name: str = "pair"

    def applies(self, shape: Shape) -> bool:
        """To every matrix, which a 1×1 kernel is."""
        return set(shape.kernel) <= {1}

    def ranks(self, shape: Shape, room: int) -> Sequence[Rank]:
        """1 … below break-even: k(m+n) < room."""
        largest = max(0, (room - 1) // params(self.shapes(shape, (1,))))
        return [(rank,) for rank in range(1, largest + 1)]

    def shapes(self, shape: Shape, rank: Rank) -> tuple[Shape, ...]:
        """Of B and A."""
        return Shape(rank[0], shape.n, shape.kernel), Shape(shape.m, rank[0], shape.kernel)

    def pieces(self, factors: Factors) -> tuple[Piece, ...]:
        """B, then A."""
        return Piece("B", factors.B), Piece("A", factors.A)


def params(shapes: Sequence[Shape]) -> int:
    """Of all pieces."""
    return sum(shape.params for shape in shapes)
