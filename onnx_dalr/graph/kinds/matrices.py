"""What Gemm and MatMul have in common: rows times a constant matrix on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from numpy.typing import NDArray

from onnx_dalr.factorize.formats import Decoding
from onnx_dalr.factorize.shape import Shape
from onnx_dalr.graph.kinds.base import Kind, Lying, Use


class MatrixLayout(NamedTuple):
    """How a stored matrix becomes W.

    Attributes:
        is_W: It is W itself, [m, n]; else Wᵀ.
        scale: Factor on the product (a Gemm's alpha).
    """

    is_W: bool
    scale: float = 1.0


@dataclass(frozen=True)
class RightMatrix(Kind):
    """y = x Wᵀ, x of any rank with the features last."""

    def shape(self, dims: Sequence[int], use: Use) -> Shape:
        """Of the matrix."""
        rows, columns = dims
        return Shape(rows, columns) if _layout(use).is_W else Shape(columns, rows)

    def matrix(self, stored: NDArray[Any], use: Use) -> NDArray[Any]:
        """Transposed where the node reads Wᵀ, and scaled."""
        is_W, scale = _layout(use)
        W = stored if is_W else stored.T
        return W * W.dtype.type(scale) if scale != 1 else W

    def unmatrix(self, W: NDArray[Any], dims: Sequence[int], use: Use) -> NDArray[Any]:
        """Back again; what a scale of 0 hides is left as it is."""
        is_W, scale = _layout(use)
        stored = (W / scale) if scale else W
        return stored if is_W else stored.T

    def bias_row(self, m: int, dims: Sequence[int]) -> tuple[int, ...]:
        """[m]."""
        return (m,)

    def rows(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """The tensor as it is."""
        return tensor

    def answers(self, tensor: NDArray[Any], use: Use) -> NDArray[Any]:
        """The tensor as it is."""
        return tensor

    def lying(self, use: Use) -> Lying | None:
        """Last, both of them."""
        is_W, scale = _layout(use)
        return Lying(is_W=is_W, scale=scale)

    def row_count(self, entries: float, shape: Shape, use: Use) -> float:
        """All entries are features of some row."""
        return entries / shape.n

    def operand(self, array: NDArray[Any], dims: Sequence[int]) -> NDArray[Any]:
        """[in, out], as the right operand of a MatMul."""
        return array.T

    def laying_out(self, shape: Sequence[int], dims: Sequence[int]) -> tuple[Decoding, ...]:
        """A Transpose."""
        return (Decoding("Transpose", attributes={"perm": [1, 0]}),)


def _layout(use: Use) -> MatrixLayout:
    return cast("MatrixLayout", use.layout)
